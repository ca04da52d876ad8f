package api_test

import (
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/store/storetest"
	"github.com/handstamp/handstamp/pkg/token"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// confidential is a client with a secret.
func confidential(c oauth.Client) oauth.Client {
	c.Type, c.SecretHash = oauth.Confidential, oauth.HashSecret(secretOf(c.ID))
	return c
}

// withoutPKCE is what many libraries send.
func withoutPKCE(clientID string) map[string]string {
	return map[string]string{"client_id": clientID, "code_challenge": "", "code_challenge_method": ""}
}

func TestPKCEOptional(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db)
		registerClient(t, s, confidential(oauth.Client{ID: "free", PKCEOptional: true}))
		registerClient(t, s, confidential(oauth.Client{ID: "bound"}))
		s.SignUp(t, "ann@example.com")
		code := func(change map[string]string) string {
			b := newBrowser(t, s)
			return b.logIn(b.open(authorizeURL(s, change)), "ann@example.com").code(t)
		}
		exchange := func(clientID, code, verifier string) servicetest.Response {
			pairs := []string{"grant_type", "authorization_code", "code", code, "redirect_uri", appRedirect}
			if verifier != "" {
				pairs = append(pairs, "code_verifier", verifier)
			}
			return s.FormWith(t, "/oauth2/token", basic(clientID), pairs...)
		}

		free := code(withoutPKCE("free"))
		want(t, "fail/verifier for a code without challenge", exchange("free", free, verifierText), http.StatusBadRequest,
			"invalid_grant") // RFC 9700, section 4.8.2
		want(t, "ok/the same code without verifier", exchange("free", free, ""), http.StatusOK, "")
		bound := code(map[string]string{"client_id": "free"})
		want(t, "fail/no verifier for a challenge", exchange("free", bound, ""), http.StatusBadRequest, "invalid_grant")
		want(t, "ok/a challenge and its verifier", exchange("free", bound, verifierText), http.StatusOK, "")

		for name, change := range map[string]map[string]string{
			"plain":          {"client_id": "free", "code_challenge": challenge(), "code_challenge_method": "plain"},
			"no method":      {"client_id": "free", "code_challenge_method": ""},
			"no challenge":   {"client_id": "free", "code_challenge": ""},
			"not registered": withoutPKCE("bound"),
		} {
			if got := newBrowser(t, s).open(authorizeURL(s, change)).refused(t); got != "invalid_request" {
				t.Errorf("fail/%s: %q", name, got)
			}
		}
	})
	if err := (oauth.Client{ID: "public", Type: oauth.Public, PKCEOptional: true}).Validate(); err == nil {
		t.Error("a public client may leave PKCE out")
	}
}

func TestIDTokenProperties(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db)
		provider, err := oidc.NewProvider(t.Context(), s.URL)
		if err != nil {
			t.Fatal(err)
		}
		p := signUp(t, s)
		if err := s.Sessions.SetRoles(t.Context(), p.id, []string{"editor"}, byOperator()); err != nil {
			t.Fatal(err)
		}
		for name, row := range map[string]struct {
			client    oauth.Client
			algorithm string
			email     bool
		}{
			"unchosen":       {oauth.Client{}, "RS256", true},
			"third party":    {oauth.Client{ThirdParty: true}, "RS256", false},
			"chosen":         {oauth.Client{IDTokenAlgorithm: "ES256", IDTokenClaims: new(false)}, "ES256", false},
			"third with":     {oauth.Client{ThirdParty: true, IDTokenClaims: new(true)}, "RS256", true},
			"access RS256":   {oauth.Client{Algorithm: "RS256", IDTokenAlgorithm: "ES256"}, "ES256", true},
			"of before":      {oauth.Client{IDTokenAlgorithm: oauth.AlgorithmOfAccessTokens}, "ES256", true},
			"of before, RSA": {oauth.Client{IDTokenAlgorithm: oauth.AlgorithmOfAccessTokens, Algorithm: "RS256"}, "RS256", true},
			"groups":         {oauth.Client{GroupsClaim: "https://k8s.example/groups"}, "RS256", true},
		} {
			row.client.ID = strings.ReplaceAll(name, " ", "-")
			registerClient(t, s, row.client)
			tokens := codeFlow(t, s, p.email, row.client.ID, "openid email")
			config := &oidc.Config{ClientID: row.client.ID, SupportedSigningAlgs: []string{row.algorithm}}
			if _, err := provider.Verifier(config).Verify(t.Context(), tokens.IDToken); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			claims := servicetest.Claims(t, tokens.IDToken)
			if got := claims["email"] == p.email && claims["email_verified"] == false; got != row.email || claims["name"] != nil {
				t.Errorf("%s: claims %v", name, claims)
			}
			if _, personal := servicetest.Claims(t, tokens.AccessToken)["email"]; personal {
				t.Errorf("%s: the access token has personal data", name)
			}
			groups, _ := claims["https://k8s.example/groups"].([]any)
			if (name == "groups") != (len(groups) == 1 && groups[0] == "editor") {
				t.Errorf("%s: groups %v", name, groups)
			}
			algorithm := "ES256"
			if row.client.Algorithm != "" {
				algorithm = row.client.Algorithm
			}
			if h := jwtHeader(t, tokens.AccessToken); h["alg"] != algorithm {
				t.Errorf("%s: access token %v", name, h)
			}
		}
	})
	for _, name := range []string{"sub", "client_id", "jti", "token_use", "scope", "SUB", "email", "name", "sid", "a b", "é",
		strings.Repeat("g", 129)} {
		if err := (oauth.Client{ID: "a", Type: oauth.Public, GroupsClaim: name}).Validate(); err == nil {
			t.Errorf("groups may stand in %q", name)
		}
	}
	for _, name := range []string{"groups", "roles", "cognito:groups", "https://example.com/claims/roles"} {
		if err := (oauth.Client{ID: "a", Type: oauth.Public, GroupsClaim: name}).Validate(); err != nil {
			t.Error(err)
		}
	}
}

// All that is signed for a client follows its algorithm.
func TestLogoutTokensHaveTheClientsAlgorithm(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		received := make(chan string, 10)
		receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			form, err := url.ParseQuery(string(body))
			if err != nil {
				t.Error(err)
			}
			received <- form.Get("logout_token")
		}))
		defer receiver.Close()
		s := servicetest.Start(t, db)
		p := signUp(t, s)
		for id, algorithm := range map[string]string{"old": "RS256", "new": "ES256"} {
			registerClient(t, s, oauth.Client{ID: id, IDTokenAlgorithm: algorithm, BackchannelLogoutURI: receiver.URL})
			tokens := codeFlow(t, s, p.email, id, "openid")
			want(t, "logout", s.Do(t, http.MethodPost, "/v1/logout", bearer(tokens.AccessToken), nil), http.StatusNoContent, "")
			select {
			case raw := <-received:
				if h := jwtHeader(t, raw); h["alg"] != algorithm || h["typ"] != "logout+jwt" {
					t.Errorf("%s: header %v, want %s", id, h, algorithm)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("no logout token")
			}
		}
	})
}

// With the type JWT an access token works everywhere, and an ID token, which has the same type, nowhere in its place.
func TestJWT13_AccessTokensOfTypeJWT(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db)
		registerClient(t, s, oauth.Client{ID: "spring", AccessTokenType: verifier.TypeJWT, GroupsClaim: "roles"})
		addClient(t, s, confidential(oauth.Client{
			ID: "backend", Grants: []string{oauth.GrantClientCredentials}, AccessTokenType: verifier.TypeJWT,
			Audiences: []string{s.Config.Issuer},
		}))
		p := signUp(t, s)
		tokens := codeFlow(t, s, p.email, "spring", "openid email")
		access := servicetest.Claims(t, tokens.AccessToken)
		if h := jwtHeader(t, tokens.AccessToken); h["typ"] != "JWT" || access["token_use"] != "access" {
			t.Fatalf("access token %v %v", h, access)
		}
		idToken := servicetest.Claims(t, tokens.IDToken)
		if idToken["token_use"] != nil || idToken["client_id"] != nil || idToken["jti"] != nil {
			t.Fatalf("ID token %v", idToken)
		}
		// An ID token with everything that an access token has but for the mark.
		delete(access, "token_use")
		full, err := s.Minter.Sign(t.Context(), token.TypeID, "", access)
		if err != nil {
			t.Fatal(err)
		}
		own := serviceToken(t, s, "backend")
		if h := jwtHeader(t, own); h["typ"] != "JWT" {
			t.Errorf("a client's own token: %v", h)
		}
		for name, raw := range map[string]string{"ID token": tokens.IDToken, "full ID token": full} {
			for _, row := range bearerRoutes() {
				r := s.Do(t, row.Method, filled(row.Path, sid(t, tokens.AccessToken)), bearer(raw), nil)
				if r.Status != http.StatusUnauthorized {
					t.Errorf("%s %s accepts: %s: %d %s", row.Method, row.Path, name, r.Status, r.Body)
				}
			}
			if r := introspect(t, s, "backend", raw); r.Body != inactive {
				t.Errorf("introspection of: %s: %s", name, r.Body)
			}
			want(t, "revocation of: "+name, s.Form(t, "/oauth2/revoke", "client_id", "spring", "token", raw), http.StatusOK, "")
		}
		want(t, "userinfo", s.Get(t, "/oauth2/userinfo", tokens.AccessToken), http.StatusOK, "")
		if r := introspect(t, s, "backend", tokens.AccessToken); !strings.Contains(r.Body, `"active":true`) {
			t.Errorf("introspection: %s", r.Body)
		}
		// The other way round: an access token is no hint of whom to log out.
		for _, raw := range []string{tokens.AccessToken, own} {
			s.Get(t, "/oauth2/logout?id_token_hint="+raw, "")
		}
		want(t, "the session after an access token as hint", s.Get(t, "/oauth2/userinfo", tokens.AccessToken), http.StatusOK, "")
		want(t, "revocation", s.Form(t, "/oauth2/revoke", "client_id", "spring", "token", tokens.AccessToken), http.StatusOK, "")
		servicetest.Eventually(t, "the access token is refused",
			func() bool { return s.Get(t, "/oauth2/userinfo", tokens.AccessToken).Status == http.StatusUnauthorized })
	})
	client := oauth.Client{ID: "a", Type: oauth.Public, AccessTokenType: verifier.TypeJWT, Audiences: []string{"a"}}
	if err := client.Validate(); err == nil {
		t.Error("an access token of the type JWT may have the client as audience")
	}
}

func TestFragmentResponseMode(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := signUp(t, w.Service)
		b := newBrowser(t, w.Service)
		change := map[string]string{"client_id": "web", "response_mode": "fragment"}
		answer := b.logIn(b.open(authorizeURL(w.Service, change)), p.email)
		if answer.location == nil || answer.location.RawQuery != "" {
			t.Fatalf("answer %d %v", answer.status, answer.location)
		}
		got, err := url.ParseQuery(answer.location.Fragment)
		if err != nil || got.Get("state") != "some state" || got.Get("iss") != w.Config.Issuer {
			t.Fatalf("fragment %v, %v", got, err)
		}
		redeem(t, w.Service, got.Get("code"), "client_id", "web").Tokens(t)
		change["prompt"] = "none"
		refused := newBrowser(t, w.Service).open(authorizeURL(w.Service, change)).location
		if refused == nil || !strings.Contains(refused.Fragment, "error=login_required") || refused.RawQuery != "" {
			t.Errorf("refusal %v", refused)
		}
	})
}

// A refresh returns an ID token of the same login (OpenID Connect Core, section 12.2), and is one call of the store still.
func TestIDTokenWithEachRefresh(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		var counted *storetest.Failing
		db.Wrap = func(s store.Store) store.Store {
			counted = storetest.Fail(s, 0, storetest.Before)
			return counted
		}
		s := servicetest.Start(t, db)
		registerClient(t, s, oauth.Client{ID: "app", GroupsClaim: "groups"})
		registerClient(t, s, oauth.Client{ID: "silent", IDTokenClaims: new(false)})
		p := signUp(t, s)
		want(t, "PATCH", s.JSON(t, http.MethodPatch, "/v1/me", p.AccessToken, map[string]string{
			"name": "Ann Example", "given_name": "Ann", "locale": "de-AT",
		}), http.StatusOK, "")
		refresh := func(clientID, refreshToken, scope string) servicetest.Tokens {
			counted.Arm(0, storetest.Before, "Rotate", "Repeat", "Session", "Client", "UserByID", "UserByEmail", "Start", "Code")
			defer counted.Arm(0, storetest.Before)
			next := s.Form(t, "/oauth2/token", "grant_type", "refresh_token", "client_id", clientID, "refresh_token", refreshToken,
				"scope", scope).Tokens(t)
			if calls := counted.Calls(); calls != 1 && scope == "" {
				t.Errorf("a refresh of %s made %d calls", clientID, calls)
			}
			return next
		}

		if err := s.Sessions.SetRoles(t.Context(), p.id, []string{"editor"}, byOperator()); err != nil {
			t.Fatal(err)
		}
		first := codeFlow(t, s, p.email, "app", "openid profile email")
		old := servicetest.Claims(t, first.IDToken)
		next := refresh("app", first.RefreshToken, "")
		claims, access := servicetest.Claims(t, next.IDToken), servicetest.Claims(t, next.AccessToken)
		for _, name := range []string{"iss", "sub", "aud", "auth_time", "sid", "acr"} { // section 12.2
			if claims[name] != old[name] || claims[name] == nil {
				t.Errorf("%s was %v and is %v", name, old[name], claims[name])
			}
		}
		sum := sha256.Sum256([]byte(next.AccessToken))
		if claims["nonce"] != nil || claims["iat"] != access["iat"] ||
			claims["at_hash"] != base64.RawURLEncoding.EncodeToString(sum[:16]) {
			t.Errorf("ID token %v for %v", claims, access)
		}
		if claims["email"] != p.email || claims["email_verified"] != false || claims["name"] != "Ann Example" ||
			claims["given_name"] != "Ann" || claims["locale"] != "de-AT" || claims["preferred_username"] != p.email ||
			claims["updated_at"] == nil {
			t.Errorf("the person is %v", claims)
		}
		if groups, _ := claims["groups"].([]any); len(groups) != 1 || groups[0] != "editor" {
			t.Errorf("groups %v", claims["groups"])
		}
		repeated := refresh("app", next.RefreshToken, "openid") // narrowed: openid alone tells of nobody
		if claims := servicetest.Claims(t, repeated.IDToken); claims["sub"] != p.id || claims["email"] != nil || claims["name"] != nil {
			t.Errorf("narrowed: %v", claims)
		}
		if got := refresh("app", repeated.RefreshToken, "profile"); got.IDToken != "" {
			t.Error("an ID token without openid")
		}

		silent := codeFlow(t, s, p.email, "silent", "openid profile email")
		if claims := servicetest.Claims(t, refresh("silent", silent.RefreshToken, "").IDToken); claims["sub"] != p.id ||
			claims["email"] != nil || claims["name"] != nil || claims["updated_at"] != nil {
			t.Errorf("a client without claims in ID tokens: %v", claims)
		}
		plain := codeFlow(t, s, p.email, "app", "orders:read")
		if plain.IDToken != "" || refresh("app", plain.RefreshToken, "").IDToken != "" {
			t.Error("an ID token without openid")
		}
		if refresh(oauth.DefaultClientID, s.LogIn(t, p.email).RefreshToken, "").IDToken != "" {
			t.Error("an ID token for a login without openid")
		}
	})
}

func TestProfileAttributes(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := signUp(t, w.Service)
		attributes := map[string]string{
			"given_name": "Ann", "family_name": "Example", "preferred_username": "ann", "picture": "https://cdn.example/ann.png",
			"website": "https://ann.example", "locale": "pt-BR", "zoneinfo": "America/Sao_Paulo",
		}
		want(t, "PATCH", w.JSON(t, http.MethodPatch, "/v1/me", p.AccessToken, attributes), http.StatusOK, "")
		tokens := codeFlow(t, w.Service, p.email, "web", "openid profile")
		var me, info map[string]any
		w.Get(t, "/v1/me", p.AccessToken).JSON(t, &me)
		w.Get(t, "/oauth2/userinfo", tokens.AccessToken).JSON(t, &info)
		for name, value := range attributes {
			for where, claims := range map[string]map[string]any{"me": me, "userinfo": info, "ID token": servicetest.Claims(t,
				tokens.IDToken)} {
				if claims[name] != value {
					t.Errorf("%s in %s: %v", name, where, claims[name])
				}
			}
			if servicetest.Claims(t, tokens.AccessToken)[name] != nil {
				t.Errorf("%s in the access token", name)
			}
		}
		emailOnly := codeFlow(t, w.Service, p.email, "web", "openid email")
		if got := servicetest.Claims(t, emailOnly.IDToken); got["given_name"] != nil || got["preferred_username"] != nil {
			t.Errorf("without the scope profile: %v", got)
		}

		// What is left out stays; an empty text removes.
		want(t, "removal", w.JSON(t, http.MethodPatch, "/v1/me", p.AccessToken, map[string]any{"picture": "", "locale": nil}),
			http.StatusOK, "")
		var left map[string]any
		w.Get(t, "/v1/me", p.AccessToken).JSON(t, &left)
		if left["picture"] != nil || left["locale"] != "pt-BR" || left["website"] != "https://ann.example" {
			t.Errorf("left: %v", left)
		}
		for name, value := range map[string]string{"picture": "javascript:alert(1)", "locale": "?", "zoneinfo": "Nowhere",
			"website": "ftp://x", "given_name": "a\x07b"} {
			r := w.JSON(t, http.MethodPatch, "/v1/me", p.AccessToken, map[string]string{name: value})
			var problem struct{ Code, Field string }
			r.JSON(t, &problem)
			if r.Status != http.StatusBadRequest || problem.Field != name {
				t.Errorf("%s %q: %d %s", name, value, r.Status, r.Body)
			}
		}
	})
}

// Every login has an acr, and the metadata name it.
func TestEveryLoginHasACR(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		var m struct {
			Values []string `json:"acr_values_supported"`
		}
		w.Get(t, "/.well-known/openid-configuration", "").JSON(t, &m)
		p := signUp(t, w.Service)
		tokens := codeFlow(t, w.Service, p.email, "web", "openid")
		for name, raw := range map[string]string{
			"sign-up": p.AccessToken, "login": w.LogIn(t, p.email).AccessToken, "page": tokens.AccessToken, "ID token": tokens.IDToken,
			"refresh": w.Refresh(t, p.RefreshToken).Tokens(t).AccessToken,
		} {
			if acr, _ := servicetest.Claims(t, raw)["acr"].(string); !slices.Contains(m.Values, acr) {
				t.Errorf("%s: acr %q is none of %q", name, acr, m.Values)
			}
		}
	})
}
