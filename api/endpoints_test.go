package api_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// basicOf is an Authorization header with an ID and a secret as they are given, not form-encoded.
func basicOf(id, secret string) http.Header {
	return header("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(id+":"+secret)))
}

// Every way in which a client can fail to say who it is, at every endpoint that asks.
func TestAS07_ClientAuthentication(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := signUp(t, w.Service)
		n := people.Add(1)
		odd, gone := fmt.Sprintf("odd-%d", n), fmt.Sprintf("gone-%d", n)
		const oddSecret = "a:b+c%d e&f=é/0123456789012345678901"
		for id, secret := range map[string]string{odd: oddSecret, gone: secretOf("gone")} {
			addClient(t, w.Service, oauth.Client{
				ID:         id,
				Type:       oauth.Confidential,
				SecretHash: oauth.HashSecret(secret),
				Grants:     []string{oauth.GrantClientCredentials},
			})
		}
		now := time.Now()
		if err := w.Store.DisableClient(t.Context(), gone, now, blocklist.NewEntry(verifier.BlockClient, gone, now.Add(time.Hour)),
			audit.Event{
				At:       now,
				Kind:     audit.KindClientDisabled,
				Actor:    audit.ActorCLI,
				ClientID: gone,
			}); err != nil {
			t.Fatal(err)
		}
		if err := w.Clients.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		endpoints := map[string][]string{
			"/oauth2/token":      {"grant_type", "client_credentials"},
			"/oauth2/introspect": {"token", p.AccessToken},
			"/oauth2/revoke":     {"token", "x"},
			"/oauth2/par": {"response_type", "code", "redirect_uri", appRedirect, "code_challenge", challenge(),
				"code_challenge_method", "S256"},
		}
		secret := secretOf("backend")
		for path, parameters := range endpoints {
			alike := ""
			for name, c := range map[string]struct {
				header http.Header
				form   []string
				status int // 0: authenticated, whatever comes after
				code   string
			}{
				"ok/basic":                 {basicOf("backend", secret), nil, 0, ""},
				"ok/post":                  {nil, []string{"client_id", "backend", "client_secret", secret}, 0, ""},
				"ok/encoded":               {basicOf(odd, url.QueryEscape(oddSecret)), nil, 0, ""},
				"ok/post of an odd secret": {nil, []string{"client_id", odd, "client_secret", oddSecret}, 0, ""},
				"ok/scheme in lower case": {header("Authorization",
					strings.Replace(basicOf("backend", secret).Get("Authorization"), "Basic", "basic", 1)), nil, 0, ""},
				"alike/unknown":      {basicOf("nobody", secret), nil, 401, "invalid_client"},
				"alike/wrong secret": {basicOf("backend", secretOf("other")), nil, 401, "invalid_client"},
				"alike/empty secret": {basicOf("backend", ""), nil, 401, "invalid_client"},
				"alike/disabled":     {basicOf(gone, secretOf("gone")), nil, 401, "invalid_client"},
				"alike/no secret":    {nil, []string{"client_id", "backend"}, 401, "invalid_client"},
				"alike/wrong secret in form": {nil, []string{"client_id", "backend", "client_secret", secretOf("other")}, 401,
					"invalid_client"},
				"alike/secret's hash": {nil, []string{"client_id", "backend", "client_secret", oauth.HashSecret(secret)}, 401,
					"invalid_client"},
				"alike/public with a secret": {nil, []string{"client_id", "web", "client_secret", secret}, 401, "invalid_client"},
				"alike/public by basic":      {basicOf("web", secret), nil, 401, "invalid_client"},
				"alike/not encoded":          {basicOf(odd, "a:b+c d e&f=é/0123456789012345678901"), nil, 401, "invalid_client"},
				"fail/encoded wrongly":       {basicOf(odd, oddSecret), nil, 401, "invalid_client"},
				"fail/secret in upper case":  {basicOf("backend", strings.ToUpper(secret)), nil, 401, "invalid_client"},
				"fail/two ways": {basicOf("backend", secret), []string{"client_id", "backend", "client_secret", secret}, 400,
					"invalid_request"},
				"fail/two IDs": {basicOf("backend", secret), []string{"client_id", "web"}, 400, "invalid_request"},
				"fail/ID twice": {nil, []string{"client_id", "backend", "client_id", "backend", "client_secret", secret},
					400, "invalid_request"},
				"fail/secret twice": {nil, []string{"client_id", "backend", "client_secret", "x", "client_secret", secret}, 400,
					"invalid_request"},
				"fail/two headers": {http.Header{"Authorization": {basicOf("backend", secret).Get("Authorization"),
					basicOf("backend", secret).Get("Authorization")}}, nil, 400, "invalid_request"},
				"fail/secret without ID": {nil, []string{"client_secret", secret}, 401, "invalid_client"},
				"fail/Bearer":            {bearer(p.AccessToken), nil, 401, "invalid_client"},
				"fail/Digest":            {header("Authorization", "Digest username=backend"), nil, 401, "invalid_client"},
				"fail/not base64":        {header("Authorization", "Basic backend:"+secret), nil, 401, "invalid_client"},
				"fail/no colon": {header("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("backend"))),
					nil, 401, "invalid_client"},
				"fail/NUL":                    {basicOf("backend%00", secret), nil, 401, "invalid_client"},
				"fail/client of another case": {basicOf("Backend", secret), nil, 401, "invalid_client"},
				"fail/AS-08 assertion": {nil,
					[]string{"client_id", "backend", "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
						"client_assertion", "eyJhbGciOiJub25lIn0.e30."}, 401, "invalid_client"},
				"fail/AS-08 and a secret": {basicOf("backend", secret), []string{"client_assertion", p.AccessToken}, 401, "invalid_client"},
			} {
				r := w.FormWith(t, path, c.header, append(slices.Clone(parameters), c.form...)...)
				if c.status == 0 {
					if r.Code() == "invalid_client" || r.Status >= 500 {
						t.Errorf("%s %s: %d %s", path, name, r.Status, r.Body)
					}
					continue
				}
				want(t, path+" "+name, r, c.status, c.code)
				if challenge := r.Header.Get("Www-Authenticate"); (c.status == http.StatusUnauthorized) != strings.HasPrefix(challenge,
					"Basic ") {
					t.Errorf("%s %s: challenge %q", path, name, challenge)
				}
				if strings.HasPrefix(name, "alike/") {
					if alike == "" {
						alike = r.Body
					}
					if r.Body != alike {
						t.Errorf("%s %s is told apart: %s, not %s", path, name, r.Body, alike)
					}
				}
			}
			q := url.Values{"client_id": {"backend"}, "client_secret": {secret}}
			want(t, path+" secret in the query", w.Form(t, path+"?"+q.Encode(),
				append([]string{"client_id", "backend"}, parameters...)...), http.StatusUnauthorized, "invalid_client")
		}
		var metadata struct {
			Token      []string `json:"token_endpoint_auth_methods_supported"`
			Introspect []string `json:"introspection_endpoint_auth_methods_supported"`
		}
		w.Get(t, "/.well-known/oauth-authorization-server", "").JSON(t, &metadata)
		if fmt.Sprint(metadata.Token, metadata.Introspect) !=
			"[none client_secret_basic client_secret_post] [client_secret_basic client_secret_post]" {
			t.Errorf("what is announced: %+v", metadata)
		}
	})
}

// A client's own token is the client's: of no user, for no longer, and for no more than the client is registered for.
func TestAS09_ClientCredentials(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		id := fmt.Sprintf("both-%d", people.Add(1))
		addClient(t, w.Service, oauth.Client{
			ID:           id,
			Type:         oauth.Confidential,
			SecretHash:   oauth.HashSecret(secretOf(id)),
			Grants:       []string{oauth.GrantClientCredentials, oauth.GrantRefreshToken, oauth.GrantAuthorizationCode},
			RedirectURIs: []string{appRedirect}, Scopes: []string{"openid", "email", "offline_access", "reports:read"},
		})
		ask := func(pairs ...string) servicetest.Response {
			return w.FormWith(t, "/oauth2/token", basic(id), append([]string{"grant_type", "client_credentials"}, pairs...)...)
		}
		for name, c := range map[string]struct {
			form  []string
			scope string // granted; empty: refused with code
			code  string
		}{
			"ok/nothing asked":          {nil, "reports:read", ""},
			"ok/its own":                {[]string{"scope", "reports:read"}, "reports:read", ""},
			"fail/openid":               {[]string{"scope", "openid reports:read"}, "", "invalid_scope"},
			"fail/email":                {[]string{"scope", "email"}, "", "invalid_scope"},
			"fail/offline access":       {[]string{"scope", "offline_access"}, "", "invalid_scope"},
			"fail/another's scope":      {[]string{"scope", "orders:read"}, "", "invalid_scope"},
			"fail/more than registered": {[]string{"scope", "reports:read reports:write"}, "", "invalid_scope"},
			"fail/another audience":     {[]string{"resource", "https://stranger.example"}, "", "invalid_target"},
		} {
			r := ask(c.form...)
			if c.scope == "" {
				want(t, name, r, http.StatusBadRequest, c.code)
				continue
			}
			var body map[string]any
			r.JSON(t, &body)
			if body["refresh_token"] != nil || body["id_token"] != nil || body["scope"] != c.scope {
				t.Errorf("%s: %s", name, r.Body)
			}
			claims := servicetest.Claims(t, r.Tokens(t).AccessToken)
			if claims["sub"] != id || claims["client_id"] != id || claims["sid"] != nil || claims["auth_time"] != nil ||
				claims["amr"] != nil || len(claims["roles"].([]any)) != 0 || claims["scope"] != c.scope {
				t.Errorf("%s: %v", name, claims)
			}
		}
		for name, change := range map[string][]string{
			"sub":      {"sub", "usr_x"},
			"username": {"username", "usr_x"},
			"subject":  {"subject", "usr_x"},
			"roles":    {"roles", "admin"},
		} {
			if claims := servicetest.Claims(t, ask(change...).Tokens(t).AccessToken); claims["sub"] != id ||
				len(claims["roles"].([]any)) != 0 {
				t.Errorf("%s was listened to: %v", name, claims)
			}
		}
		for _, public := range []string{"web", "default", "spa"} {
			if r := w.Form(t, "/oauth2/token", "grant_type", "client_credentials", "client_id", public); r.Status < 400 ||
				r.Code() != "unauthorized_client" {
				t.Errorf("public client %s: %d %s", public, r.Status, r.Body)
			}
		}
	})
}

// An answer about a token says nothing unless it is alive, is the asker's business, and the asker has proven who it is.
func TestAS10_Introspection(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := signUp(t, w.Service)
		revoked, ended, disabled := signUp(t, w.Service), signUp(t, w.Service), signUp(t, w.Service)
		want(t, "revoke", w.Form(t, "/oauth2/revoke", "client_id", "default", "token", revoked.AccessToken), http.StatusOK, "")
		want(t, "log out", w.Do(t, http.MethodPost, "/v1/logout", bearer(ended.AccessToken), nil), http.StatusNoContent, "")
		if err := w.Sessions.DisableUser(t.Context(), disabled.id, byOperator()); err != nil {
			t.Fatal(err)
		}
		next := w.Refresh(t, p.RefreshToken).Tokens(t)
		// it would hear of the token within a second; of sessions and users it asks the database
		if err := w.other.Blocklist.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		for name, c := range map[string]struct {
			client, token, hint string
			active              bool
		}{
			"ok/access token":             {"backend", next.AccessToken, "", true},
			"ok/hint is wrong":            {"backend", next.AccessToken, "refresh_token", true},
			"ok/hint is unknown":          {"backend", next.AccessToken, "rubbish", true},
			"ok/refresh token":            {"backend", next.RefreshToken, "", true},
			"ok/refresh token, hint":      {"backend", next.RefreshToken, "access_token", true},
			"fail/another's access token": {"stranger", next.AccessToken, "", false},
			"fail/another's refresh":      {"stranger", next.RefreshToken, "", false},
			"fail/used refresh token":     {"backend", p.RefreshToken, "", false},
			"fail/revoked":                {"backend", revoked.AccessToken, "", false},
			"fail/ended":                  {"backend", ended.AccessToken, "", false},
			"fail/ended, refresh token":   {"backend", ended.RefreshToken, "", false},
			"fail/disabled user":          {"backend", disabled.AccessToken, "", false},
			"fail/disabled, refresh":      {"backend", disabled.RefreshToken, "", false},
			"fail/malformed":              {"backend", "x", "", false},
			"fail/almost":                 {"backend", next.AccessToken[:len(next.AccessToken)-1], "", false},
			"fail/almost a refresh token": {"backend", next.RefreshToken[:len(next.RefreshToken)-1], "", false},
			"fail/NUL":                    {"backend", "a\u2028b", "", false},
		} {
			for _, s := range []*servicetest.Service{w.Service, w.other} {
				r := s.FormWith(t, "/oauth2/introspect", basic(c.client), "token", c.token, "token_type_hint", c.hint)
				if c.active {
					var body map[string]any
					if r.JSON(t, &body); body["active"] != true || body["sub"] != p.id {
						t.Errorf("%s: %d %s", name, r.Status, r.Body)
					}
				} else if r.Status != http.StatusOK || r.Body != inactive {
					t.Errorf("%s: %d %s", name, r.Status, r.Body)
				}
			}
		}
		for name, h := range map[string]http.Header{
			"nobody":          nil,
			"the user":        bearer(next.AccessToken),
			"a public client": basicOf("default", ""),
			"a wrong secret":  basicOf("backend", "x"),
		} {
			r := w.FormWith(t, "/oauth2/introspect", h, "token", next.AccessToken)
			if want(t, name, r, http.StatusUnauthorized, "invalid_client"); strings.Contains(r.Body, "active") {
				t.Errorf("%s: %s", name, r.Body)
			}
		}
		want(t, "no token", w.FormWith(t, "/oauth2/introspect", basic("backend")), http.StatusBadRequest, "invalid_request")
		want(t, "two tokens", w.FormWith(t, "/oauth2/introspect", basic("backend"), "token", "a", "token", next.AccessToken),
			http.StatusBadRequest, "invalid_request")
		want(t, "token in the query", w.FormWith(t, "/oauth2/introspect?token="+next.AccessToken, basic("backend")),
			http.StatusBadRequest, "invalid_request")
	})
}

// Nobody registers a client by HTTP.
func TestAS15_NoDynamicRegistration(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		body := `{"redirect_uris":["javascript:alert(1)"],"jwks_uri":"http://127.0.0.1/","token_endpoint_auth_method":"none"}`
		for _, path := range []string{"/register", "/oauth2/register", "/connect/register", "/v1/clients", "/admin/v1/clients",
			"/reg"} {
			r := w.Do(t, http.MethodPost, path, header("Content-Type", "application/json"), strings.NewReader(body))
			if r.Status != http.StatusNotFound {
				t.Errorf("%s: %d %s", path, r.Status, r.Body)
			}
		}
		if r := w.Get(t, "/.well-known/openid-configuration", ""); strings.Contains(r.Body, "registration_endpoint") ||
			strings.Contains(r.Body, "device_authorization") {
			t.Error(r.Body)
		}
	})
}

// The issuer is what the operator has written, whatever a request says of where it was sent.
func TestAS16_IssuerOfTheConfiguration(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		plain := w.Get(t, "/.well-known/oauth-authorization-server", "")
		var document map[string]any
		plain.JSON(t, &document)
		if document["issuer"] != w.Config.Issuer {
			t.Fatalf("issuer %v, want %s", document["issuer"], w.Config.Issuer)
		}
		for name, v := range document {
			if text, ok := v.(string); ok && !strings.HasPrefix(text, w.Config.Issuer) {
				t.Errorf("%s is %s", name, text)
			}
		}
		authorize := strings.TrimPrefix(authorizeURL(w.Service, map[string]string{"client_id": "web"}), w.URL)
		none := strings.TrimPrefix(authorizeURL(w.Service, map[string]string{"client_id": "web", "prompt": "none"}), w.URL)
		for name, h := range map[string]http.Header{
			"Host": header("Host", "evil.example"),
			"X-Forwarded-Host": header("X-Forwarded-Host", "evil.example", "X-Forwarded-Proto", "https", "X-Forwarded-Prefix",
				"/evil.example", "X-Forwarded-Port", "444"),
			"Forwarded":      header("Forwarded", "host=evil.example;proto=https"),
			"X-Original-URL": header("X-Original-URL", "//evil.example", "X-Rewrite-URL", "//evil.example", "X-Host", "evil.example"),
		} {
			for _, path := range []string{"/.well-known/oauth-authorization-server", "/.well-known/openid-configuration",
				"/v1/blocklist", authorize, none, "/oauth2/logout"} {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.URL+path, http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				r.Header = h.Clone()
				if host := h.Get("Host"); host != "" {
					r.Host = host
				}
				got := newBrowser(t, w.Service).do(r)
				if strings.Contains(got.body, "evil.example") || strings.Contains(fmt.Sprint(got.header, got.location), "evil.example") {
					t.Errorf("%s of %s is believed: %v %v\n%s", name, path, got.header, got.location, got.body)
				}
				if path == plainPath && got.body != plain.Body ||
					path == none && (got.location == nil || got.location.Query().Get("iss") != w.Config.Issuer) {
					t.Errorf("%s changes %s: %v\n%s", name, path, got.location, got.body)
				}
			}
		}
		if other := w.Get(t, "/.well-known/openid-configuration", ""); other.Body != plain.Body {
			t.Error("the two documents differ")
		}
		for _, path := range []string{"/.well-known/oauth-authorization-server/tenant", "/tenant/.well-known/openid-configuration",
			"/.well-known/webfinger?resource=acct:a@example.com"} {
			want(t, path, w.Get(t, path, ""), http.StatusNotFound, "not_found")
		}
	})
}

const plainPath = "/.well-known/oauth-authorization-server"

// Whoever takes back what a client was allowed takes all that came of it.
func TestAS20_RevokedConsent(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p, other := signUp(t, w.Service), signUp(t, w.Service)
		tokens, others := codeFlow(t, w.Service, p.email, "third", "openid"), codeFlow(t, w.Service, other.email, "third", "openid")
		refresh := func(token string) servicetest.Response {
			return w.Form(t, "/oauth2/token", "grant_type", "refresh_token", "client_id", "third", "refresh_token", token)
		}
		tokens = refresh(tokens.RefreshToken).Tokens(t)
		want(t, "userinfo before", w.Get(t, "/oauth2/userinfo", tokens.AccessToken), http.StatusOK, "")
		if err := w.OAuth.RevokeConsent(t.Context(), p.id, "third", byOperator()); err != nil {
			t.Fatal(err)
		}
		want(t, "refresh", refresh(tokens.RefreshToken), http.StatusBadRequest, "invalid_grant")
		for name, token := range map[string]string{"access token": tokens.AccessToken, "refresh token": tokens.RefreshToken} {
			if r := introspect(t, w.Service, "backend", token); r.Body != inactive {
				t.Errorf("introspection of the %s: %s", name, r.Body)
			}
		}
		for _, s := range []*servicetest.Service{w.Service, w.other} {
			servicetest.Eventually(t, "userinfo is refused",
				func() bool { return s.Get(t, "/oauth2/userinfo", tokens.AccessToken).Status == http.StatusUnauthorized })
		}
		b := newBrowser(t, w.Service)
		if asked := b.logIn(b.open(authorizeURL(w.Service, map[string]string{"client_id": "third"})), p.email); !asked.has("consent") {
			t.Errorf("not asked again: %d %v", asked.status, asked.location)
		}
		want(t, "the user's own session", w.Refresh(t, p.RefreshToken), http.StatusOK, "")
		want(t, "somebody else's", refresh(others.RefreshToken), http.StatusOK, "")
	})
}

// As many parameters, and as long ones, as a body has room for: the database gets none that it cannot take.
func TestDB03_ManyParameters(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := signUp(t, w.Service)
		fill := func(one string) string { return strings.Repeat(one, (60<<10)/len(one)) }
		form := header("Content-Type", "application/x-www-form-urlencoded")
		list, err := json.Marshal(slices.Repeat([]string{"x"}, 10_000))
		if err != nil {
			t.Fatal(err)
		}
		for name, c := range map[string]struct {
			method, path string
			header       http.Header
			body         string
		}{
			"resources": {http.MethodPost, "/oauth2/token", form,
				"grant_type=refresh_token&client_id=default&refresh_token=" + p.RefreshToken + fill("&resource=a")},
			"scopes": {http.MethodPost, "/oauth2/token", form,
				"grant_type=refresh_token&client_id=default&refresh_token=" + p.RefreshToken + "&scope=" + fill("a+")},
			"parameters": {http.MethodPost, "/oauth2/token", form, "grant_type=refresh_token" + fill("&a")},
			"client":     {http.MethodPost, "/oauth2/token", form, "grant_type=refresh_token&refresh_token=x&client_id=" + fill("a")},
			"token":      {http.MethodPost, "/oauth2/revoke", form, "token=" + fill("a")},
			"code":       {http.MethodPost, "/oauth2/token", form, "grant_type=authorization_code&client_id=web&code=" + fill("a")},
			"pushed": {http.MethodPost, "/oauth2/par", form,
				"client_id=web&response_type=code&redirect_uri=" + url.QueryEscape(appRedirect) + "&code_challenge=" + challenge() +
					"&code_challenge_method=S256&state=" + fill("a")},
			"e-mail": {http.MethodPost, "/v1/login", header("Content-Type", "application/json"),
				`{"email":"` + fill("a") + `@example.com","password":"x"}`},
			"sign-up": {http.MethodPost, "/v1/signup", header("Content-Type", "application/json"),
				`{"email":"a@` + fill("a.") + `com","password":"` + servicetest.Password + `"}`},
			"name": {http.MethodPatch, "/v1/me", bearer(p.AccessToken, "Content-Type", "application/json"),
				`{"name":"` + fill("a") + `"}`},
			"array": {http.MethodPatch, "/v1/me", bearer(p.AccessToken, "Content-Type", "application/json"),
				`{"name":` + string(list) + `}`},
			"cursor":   {http.MethodGet, "/v1/blocklist?after=" + strings.Repeat("9", 8000), nil, ""},
			"session":  {http.MethodDelete, "/v1/sessions/" + strings.Repeat("a", 8000), bearer(p.AccessToken), ""},
			"provider": {http.MethodDelete, "/v1/identities/" + strings.Repeat("a", 8000), bearer(p.AccessToken), ""},
			"authorization": {http.MethodGet, "/oauth2/authorize?client_id=web&state=" + strings.Repeat("a",
				8000) + "&scope=" + strings.Repeat("a+", 2000), nil, ""},
			"page": {http.MethodPost, "/oauth2/login", form, "request=" + fill("a")},
		} {
			r := w.Do(t, c.method, c.path, c.header, strings.NewReader(c.body))
			if r.Status >= 500 || r.Status < 400 && name != "token" && name != "authorization" {
				t.Errorf("%s: %d %.200s", name, r.Status, r.Body)
			}
		}
		for n, status := range map[int]int{10_000: 400, 20_000: 413, 65_536: 413, 1_000_000: 413} {
			want(t, fmt.Sprint(n, " parameters"),
				w.Do(t, http.MethodPost, "/oauth2/token", form, strings.NewReader("grant_type=refresh_token"+strings.Repeat("&a=b", n))),
				status, "invalid_request")
		}
		w.Refresh(t, p.RefreshToken).Tokens(t)
	})
}
