package api_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/oauth"
)

// The requirements of the OpenID Foundation's conformance plans "config", "basic", "RP-initiated logout" and
// "back-channel logout", one subtest for each of their modules, under its name. Handstamp demands PKCE from every
// client, so every request here has it; everything else is as the plans ask it. The section beside a module is the one
// that it checks: Core is OpenID Connect Core 1.0, Discovery is OpenID Connect Discovery 1.0.

// conformance is a service with a user who is known to the tests, and the plans' client: confidential, with everything they use.
type conformance struct {
	*servicetest.Service
	t        *testing.T
	provider *oidc.Provider
	email    string
}

const afterLogout = appOrigin + "/bye?keep=this"

func newConformance(t *testing.T, change ...func(*oauth.Client)) conformance {
	t.Helper()
	// one user logs in for every module
	s := servicetest.Start(t, servicetest.SQLite(t), func(c *service.Config) { c.LoginAttempts = 1000 })
	client := oauth.Client{
		ID:                     "app",
		Type:                   oauth.Confidential,
		SecretHash:             oauth.HashSecret(secretOf("app")),
		RedirectURIs:           []string{appRedirect, appOrigin + "/second"},
		PostLogoutRedirectURIs: []string{afterLogout},
	}
	for _, f := range change {
		f(&client)
	}
	registerClient(t, s, client)
	other := client
	other.ID, other.SecretHash = "other", oauth.HashSecret(secretOf("other"))
	registerClient(t, s, other)
	provider, err := oidc.NewProvider(t.Context(), s.URL)
	if err != nil {
		t.Fatal(err)
	}
	c := conformance{Service: s, t: t, provider: provider, email: "ann@example.com"}
	s.SignUp(t, c.email)
	return c
}

// redeem is the token request, authenticated with HTTP Basic.
func (c conformance) redeem(t *testing.T, code string) servicetest.Response {
	t.Helper()
	return c.FormWith(t, "/oauth2/token", basic("app"), "grant_type", "authorization_code", "code", code, "redirect_uri",
		appRedirect, "code_verifier", verifierText)
}

// login goes through a request in a new browser to the tokens.
func (c conformance) login(t *testing.T, change map[string]string) (*browser, servicetest.Tokens, map[string]any) {
	t.Helper()
	b := newBrowser(t, c.Service)
	p := b.open(authorizeURL(c.Service, change))
	tokens := c.redeem(t, b.logIn(p, c.email).code(t)).Tokens(t)
	return b, tokens, c.idToken(t, tokens)
}

// idToken validates an ID token as Core, section 3.1.3.7, has a client do, with a library that is not ours.
func (c conformance) idToken(t *testing.T, tokens servicetest.Tokens) map[string]any {
	t.Helper()
	token, err := c.provider.Verifier(&oidc.Config{ClientID: "app", SupportedSigningAlgs: []string{"RS256"}}).Verify(t.Context(),
		tokens.IDToken)
	if err != nil {
		t.Fatalf("ID token: %v", err)
	}
	var claims map[string]any
	if err := token.Claims(&claims); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(tokens.AccessToken)) // Core, section 3.1.3.6
	if claims["at_hash"] != base64.RawURLEncoding.EncodeToString(sum[:16]) {
		t.Errorf("at_hash %v", claims["at_hash"])
	}
	return claims
}

func (c conformance) userinfo(t *testing.T, accessToken string) map[string]any {
	t.Helper()
	r := c.Get(t, "/oauth2/userinfo", accessToken)
	if r.Status != http.StatusOK || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		t.Fatalf("userinfo: %d %s", r.Status, r.Body)
	}
	var claims map[string]any
	r.JSON(t, &claims)
	return claims
}

// refused is the error that the client was told.
func (p page) refused(t *testing.T) string {
	t.Helper()
	if p.location == nil {
		t.Fatalf("the client was told nothing: %d\n%s", p.status, p.body)
	}
	return p.location.Query().Get("error")
}

func TestConformanceConfig(t *testing.T) {
	t.Parallel()
	c := newConformance(t)
	// oidcc-discovery-endpoint-verification: Discovery, sections 3 and 4.
	r := c.Get(t, "/.well-known/openid-configuration", "")
	if r.Status != http.StatusOK || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		t.Fatalf("%d %v", r.Status, r.Header)
	}
	var m map[string]any
	r.JSON(t, &m)
	if m["issuer"] != c.Config.Issuer {
		t.Errorf("issuer %v is not the one that the document was asked of", m["issuer"])
	}
	for _, name := range []string{"authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri",
		"end_session_endpoint"} {
		if at, _ := m[name].(string); !strings.HasPrefix(at, c.Config.Issuer+"/") {
			t.Errorf("%s %q", name, at)
		}
	}
	for name, wanted := range map[string][]string{
		"response_types_supported": {"code"}, "subject_types_supported": {"public"}, "scopes_supported": {"openid", "profile", "email"},
		// Discovery, section 3, demands RS256 of everybody.
		"id_token_signing_alg_values_supported": {"ES256", "RS256"}, "grant_types_supported": {"authorization_code", "refresh_token"},
		"token_endpoint_auth_methods_supported": {"client_secret_basic", "client_secret_post"},
		"code_challenge_methods_supported":      {"S256"},
		"claims_supported": {"sub", "iss", "aud", "exp", "iat", "auth_time", "nonce", "email", "email_verified",
			"name"},
	} {
		var got []string
		values, _ := m[name].([]any)
		for _, v := range values {
			text, _ := v.(string)
			got = append(got, text)
		}
		for _, w := range wanted {
			if !slices.Contains(got, w) {
				t.Errorf("%s %v lacks %s", name, got, w)
			}
		}
		if slices.Contains(got, "none") && name != "token_endpoint_auth_methods_supported" {
			t.Errorf("%s offers none", name)
		}
	}
	if m["claims_parameter_supported"] != false || m["request_parameter_supported"] != false ||
		m["request_uri_parameter_supported"] != false {
		t.Error("what is not supported must be said so: request_uri counts as supported where nothing stands")
	}
	var keys struct {
		Keys []map[string]any
	}
	c.Get(t, "/.well-known/jwks.json", "").JSON(t, &keys)
	ids := map[any]bool{}
	for _, k := range keys.Keys { // RFC 7517, section 4; Core, section 10.1
		if ids[k["kid"]] || k["kid"] == "" || k["use"] != "sig" || k["d"] != nil || k["p"] != nil || k["k"] != nil {
			t.Errorf("key %v", k)
		}
		ids[k["kid"]] = true
	}
	if len(ids) == 0 {
		t.Error("no keys")
	}
}

func TestConformanceBasic(t *testing.T) {
	t.Parallel()
	c := newConformance(t)
	module := func(name string, test func(t *testing.T)) { t.Helper(); t.Run("oidcc-"+name, test) }

	module("server", func(t *testing.T) { // Core, sections 2 and 3.1
		b, tokens, claims := c.login(t, nil)
		now := float64(time.Now().Unix())
		iat, _ := claims["iat"].(float64)
		exp, _ := claims["exp"].(float64)
		if claims["iss"] != c.Config.Issuer || claims["aud"] != "app" || claims["sub"] == "" || claims["nonce"] != "some nonce" ||
			iat > now+5 || iat < now-60 || exp <= now {
			t.Errorf("ID token %v", claims)
		}
		if !strings.EqualFold(tokens.TokenType, "Bearer") || tokens.ExpiresIn <= 0 {
			t.Errorf("token response %+v", tokens)
		}
		_ = b
	})
	module("response-type-missing", func(t *testing.T) { // RFC 6749, section 4.1.2.1
		if got := newBrowser(t, c.Service).open(authorizeURL(c.Service,
			map[string]string{"response_type": ""})).refused(t); got != "invalid_request" {
			t.Error(got)
		}
	})
	module("idtoken-signature", func(t *testing.T) { // Core, section 3.1.3.7, number 6: a signature, of a published key
		_, tokens, _ := c.login(t, nil)
		parts := strings.Split(tokens.IDToken, ".")
		header, err := base64.RawURLEncoding.DecodeString(parts[0])
		if err != nil {
			t.Fatal(err)
		}
		var h map[string]string
		if json.Unmarshal(header, &h) != nil || h["alg"] != "RS256" || h["kid"] == "" {
			t.Errorf("header %s", header)
		}
	})
	module("idtoken-es256", func(t *testing.T) { // Registration, section 2: id_token_signed_response_alg
		s := c.Service
		registerClient(t, s, oauth.Client{ID: "es256", IDTokenAlgorithm: "ES256"})
		b := newBrowser(t, s)
		code := b.logIn(b.open(authorizeURL(s, map[string]string{"client_id": "es256"})), c.email).code(t)
		tokens := redeem(t, s, code, "client_id", "es256").Tokens(t)
		if _, err := c.provider.Verifier(&oidc.Config{ClientID: "es256",
			SupportedSigningAlgs: []string{"ES256"}}).Verify(t.Context(), tokens.IDToken); err != nil {
			t.Error(err)
		}
	})
	module("userinfo-get", func(t *testing.T) { // Core, section 5.3
		_, tokens, claims := c.login(t, nil)
		if got := c.userinfo(t, tokens.AccessToken); got["sub"] != claims["sub"] {
			t.Errorf("userinfo %v", got)
		}
	})
	module("userinfo-post-header", func(t *testing.T) { // Core, section 5.3.1
		_, tokens, claims := c.login(t, nil)
		var got map[string]any
		r := c.FormWith(t, "/oauth2/userinfo", bearer(tokens.AccessToken))
		if r.JSON(t, &got); r.Status != http.StatusOK || got["sub"] != claims["sub"] {
			t.Errorf("%d %s", r.Status, r.Body)
		}
	})
	// RFC 6750, section 2.2: optional, and not done: the answer is the one to a request without a token
	module("userinfo-post-body", func(t *testing.T) {
		_, tokens, _ := c.login(t, nil)
		if r := c.Form(t, "/oauth2/userinfo", "access_token", tokens.AccessToken); r.Status != http.StatusUnauthorized ||
			!strings.HasPrefix(r.Header.Get("WWW-Authenticate"), "Bearer") {
			t.Errorf("%d %s", r.Status, r.Body)
		}
	})
	module("ensure-request-without-nonce-succeeds-for-code-flow", func(t *testing.T) { // Core, section 3.1.2.1
		if _, _, claims := c.login(t, map[string]string{"nonce": ""}); claims["nonce"] != nil {
			t.Errorf("a nonce out of nothing: %v", claims)
		}
	})
	for scope, wanted := range map[string][]string{ // Core, section 5.4
		"profile":       {"name", "updated_at"},
		"email":         {"email", "email_verified"},
		"profile email": {"name", "updated_at", "email", "email_verified", "preferred_username"},
	} {
		name := "scope-" + scope
		if strings.Contains(scope, " ") {
			name = "scope-all"
		}
		module(name, func(t *testing.T) {
			b := newBrowser(t, c.Service)
			address := strings.ReplaceAll(name, "-", "") + "@example.com"
			p := b.open(authorizeURL(c.Service, map[string]string{"scope": "openid " + scope, "prompt": "create"}))
			code := b.submit(p, "signup", map[string]string{
				"email":    address,
				"password": servicetest.Password,
				"name":     "Somebody",
			}).code(t)
			got := c.userinfo(t, c.redeem(t, code).Tokens(t).AccessToken)
			if names := slices.Sorted(maps.Keys(got)); !slices.Equal(names,
				slices.Sorted(slices.Values(append([]string{"sub"}, wanted...)))) {
				t.Errorf("claims %v, want sub and %v", names, wanted)
			}
		})
	}
	module("ensure-other-scope-order-succeeds", func(t *testing.T) { // Core, section 3.1.2.1
		_, tokens, _ := c.login(t, map[string]string{"scope": "email openid"})
		if got := c.userinfo(t, tokens.AccessToken); got["email"] != c.email {
			t.Errorf("userinfo %v", got)
		}
	})
	for _, display := range []string{"page", "popup"} { // Core, section 3.1.2.1
		module("display-"+display, func(t *testing.T) { c.login(t, map[string]string{"display": display}) })
	}
	module("prompt-login", func(t *testing.T) { // Core, section 3.1.2.1
		b, _, first := c.login(t, nil)
		p := b.open(authorizeURL(c.Service, map[string]string{"prompt": "login"}))
		if !p.has("login") {
			t.Fatal("the user was not asked to log in")
		}
		second := c.idToken(t, c.redeem(t, b.logIn(p, c.email).code(t)).Tokens(t))
		if first["sub"] != second["sub"] || second["auth_time"].(float64) < first["auth_time"].(float64) {
			t.Errorf("first %v, second %v", first, second)
		}
	})
	module("prompt-none-not-logged-in", func(t *testing.T) { // Core, sections 3.1.2.1 and 3.1.2.6
		p := newBrowser(t, c.Service).open(authorizeURL(c.Service, map[string]string{"prompt": "none"}))
		if got := p.refused(t); got != "login_required" || p.location.Query().Get("state") != "some state" ||
			p.location.Query().Get("iss") != c.Config.Issuer {
			t.Errorf("%v", p.location)
		}
	})
	module("prompt-none-logged-in", func(t *testing.T) { // Core, section 3.1.2.1
		b, _, first := c.login(t, nil)
		second := c.idToken(t, c.redeem(t, b.open(authorizeURL(c.Service, map[string]string{"prompt": "none"})).code(t)).Tokens(t))
		if first["sub"] != second["sub"] || first["auth_time"] != second["auth_time"] {
			t.Errorf("first %v, second %v", first, second)
		}
	})
	module("max-age-1", func(t *testing.T) { // Core, sections 3.1.2.1 and 2
		b, _, first := c.login(t, nil)
		servicetest.Eventually(t, "the login is older than a second", func() bool {
			p := b.open(authorizeURL(c.Service, map[string]string{"prompt": "none", "max_age": "1"}))
			return p.location != nil && p.location.Query().Get("error") == "login_required"
		})
		p := b.open(authorizeURL(c.Service, map[string]string{"max_age": "1"}))
		second := c.idToken(t, c.redeem(t, b.logIn(p, c.email).code(t)).Tokens(t))
		if second["auth_time"].(float64) <= first["auth_time"].(float64) {
			t.Errorf("auth_time %v, then %v", first["auth_time"], second["auth_time"])
		}
	})
	module("max-age-10000", func(t *testing.T) { // Core, section 3.1.2.1
		b, _, first := c.login(t, nil)
		second := c.idToken(t, c.redeem(t, b.open(authorizeURL(c.Service, map[string]string{"max_age": "10000"})).code(t)).Tokens(t))
		if first["auth_time"] != second["auth_time"] {
			t.Errorf("auth_time %v, then %v", first["auth_time"], second["auth_time"])
		}
	})
	module("id-token-hint", func(t *testing.T) { // Core, section 3.1.2.1
		b, tokens, first := c.login(t, nil)
		second := c.idToken(t, c.redeem(t, b.open(authorizeURL(c.Service,
			map[string]string{"prompt": "none", "id_token_hint": tokens.IDToken})).code(t)).Tokens(t))
		if first["sub"] != second["sub"] {
			t.Errorf("first %v, second %v", first, second)
		}
		c.SignUp(t, "eve@example.com")
		eve := newBrowser(t, c.Service)
		c.redeem(t, eve.submit(eve.open(authorizeURL(c.Service, nil)), "login", map[string]string{
			"email":    "eve@example.com",
			"password": servicetest.Password,
		}).code(t))
		if got := eve.open(authorizeURL(c.Service,
			map[string]string{"prompt": "none", "id_token_hint": tokens.IDToken})).refused(t); got != "login_required" {
			t.Errorf("somebody else is logged in: %s", got)
		}
		p := eve.open(authorizeURL(c.Service, map[string]string{"id_token_hint": tokens.IDToken}))
		if got := eve.logIn(p, "eve@example.com").refused(t); got != "login_required" {
			t.Errorf("somebody else has logged in: %s", got)
		}
	})
	module("login-hint", func(t *testing.T) { // Core, section 3.1.2.1
		if p := newBrowser(t, c.Service).open(authorizeURL(c.Service,
			map[string]string{"login_hint": "somebody@example.com"})); !strings.Contains(p.body, `value="somebody@example.com"`) {
			t.Error("the login page does not know the hint")
		}
	})
	module("ui-locales", func(t *testing.T) { // Core, section 3.1.2.1
		if p := newBrowser(t, c.Service).open(authorizeURL(c.Service,
			map[string]string{"ui_locales": "xx de en"})); !strings.Contains(p.body, `<html lang="de"`) {
			t.Error("the login page is not in German")
		}
		c.login(t, map[string]string{"ui_locales": "se"})
	})
	// Core, section 5.2
	module("claims-locales", func(t *testing.T) { c.login(t, map[string]string{"claims_locales": "se"}) })
	// Core, section 3.1.2.1
	module("ensure-request-with-acr-values-succeeds", func(t *testing.T) { c.login(t, map[string]string{"acr_values": "1 2"}) })
	// RFC 6749, section 3.1
	module("ensure-request-with-unknown-parameter-succeeds", func(t *testing.T) { c.login(t, map[string]string{"extra": "foobar"}) })
	module("claims-essential", func(t *testing.T) {
		c.login(t, map[string]string{"claims": `{"userinfo":{"name":{"essential":true}}}`})
	}) // Core, section 5.5: ignored where it is not supported
	module("ensure-request-with-valid-pkce-succeeds",
		func(t *testing.T) { c.login(t, map[string]string{"code_challenge": challenge()}) }) // RFC 7636, section 4
	module("ensure-post-request-succeeds", func(t *testing.T) { // Core, section 3.1.2.1
		b := newBrowser(t, c.Service)
		u, err := url.Parse(authorizeURL(c.Service, nil))
		if err != nil {
			t.Fatal(err)
		}
		p := b.post("/oauth2/authorize", u.Query(), map[string]string{"Origin": appOrigin, "Sec-Fetch-Site": "cross-site"})
		c.idToken(t, c.redeem(t, b.logIn(p, c.email).code(t)).Tokens(t))
	})
	module("ensure-registered-redirect-uri", func(t *testing.T) { // Core, section 3.1.2.1; RFC 6749, section 3.1.2.4
		if p := newBrowser(t, c.Service).open(authorizeURL(c.Service,
			map[string]string{"redirect_uri": "https://elsewhere.example/"})); p.location != nil || p.status != http.StatusBadRequest {
			t.Errorf("%d %v", p.status, p.location)
		}
	})
	module("redirect-uri-missing", func(t *testing.T) { // Core, section 3.1.2.1, with several registered
		if p := newBrowser(t, c.Service).open(authorizeURL(c.Service, map[string]string{"redirect_uri": ""})); p.location != nil ||
			p.status != http.StatusBadRequest {
			t.Errorf("%d %v", p.status, p.location)
		}
	})
	// Core, section 6.1 and 3.1.2.6
	module("unsigned-request-object-supported-correctly-or-rejected-as-unsupported", func(t *testing.T) {
		if got := newBrowser(t, c.Service).open(authorizeURL(c.Service,
			map[string]string{"request": "eyJhbGciOiJub25lIn0.e30."})).refused(t); got != "request_not_supported" {
			t.Error(got)
		}
	})
	// Core, section 6.1: the one inside the object must not be used
	module("ensure-request-object-with-redirect-uri", func(t *testing.T) {
		object := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." +
			base64.RawURLEncoding.EncodeToString([]byte(`{"redirect_uri":"https://evil.example/"}`)) + "."
		p := newBrowser(t, c.Service).open(authorizeURL(c.Service, map[string]string{"request": object}))
		if got := p.refused(t); got != "request_not_supported" || !strings.HasPrefix(p.location.String(), appRedirect+"?") {
			t.Errorf("%v", p.location)
		}
	})
	module("codereuse", func(t *testing.T) { // RFC 6749, section 4.1.2
		b := newBrowser(t, c.Service)
		code := b.logIn(b.open(authorizeURL(c.Service, nil)), c.email).code(t)
		tokens := c.redeem(t, code).Tokens(t)
		want(t, "again", c.redeem(t, code), http.StatusBadRequest, "invalid_grant")
		// codereuse-30seconds: and what the code gave is worth nothing any more.
		servicetest.Eventually(t, "the access token is refused",
			func() bool { return c.Get(t, "/oauth2/userinfo", tokens.AccessToken).Status == http.StatusUnauthorized })
	})
	module("server-client-secret-post", func(t *testing.T) { // Core, section 9
		b := newBrowser(t, c.Service)
		code := b.logIn(b.open(authorizeURL(c.Service, nil)), c.email).code(t)
		redeem(t, c.Service, code, "client_secret", secretOf("app")).Tokens(t)
	})
	module("refresh-token", func(t *testing.T) { // Core, section 12
		_, tokens, first := c.login(t, map[string]string{"scope": "openid offline_access"})
		if tokens.RefreshToken == "" {
			t.Fatal("no refresh token")
		}
		next := c.FormWith(t, "/oauth2/token", basic("app"), "grant_type", "refresh_token", "refresh_token",
			tokens.RefreshToken).Tokens(t)
		// an ID token is not demanded; one that is given must be the same user's, from the same login (section 12.2)
		if next.IDToken != "" {
			if second := c.idToken(t, next); second["sub"] != first["sub"] || second["iss"] != first["iss"] ||
				second["aud"] != first["aud"] || second["auth_time"] != first["auth_time"] {
				t.Errorf("ID token %v after %v", second, first)
			}
		}
		if got := c.userinfo(t, next.AccessToken); got["sub"] != first["sub"] {
			t.Errorf("userinfo %v", got)
		}
		want(t, "another client", c.FormWith(t, "/oauth2/token", basic("other"), "grant_type", "refresh_token", "refresh_token",
			next.RefreshToken), http.StatusBadRequest, "invalid_grant")
	})
}

// TestConformanceRPInitiatedLogout cites OpenID Connect RP-Initiated Logout 1.0.
func TestConformanceRPInitiatedLogout(t *testing.T) {
	t.Parallel()
	c := newConformance(t)
	logout := func(b *browser, values url.Values) page { return b.open(c.URL + "/oauth2/logout?" + values.Encode()) }
	// ended checks that the user is logged out in the browser, or is not.
	ended := func(t *testing.T, b *browser, wanted bool) {
		t.Helper()
		if got := b.open(authorizeURL(c.Service,
			map[string]string{"prompt": "none"})).location.Query().Get("error") == "login_required"; got != wanted {
			t.Errorf("logged out: %t", got)
		}
	}
	module := func(name string, test func(t *testing.T, b *browser, idToken string)) {
		t.Helper()
		t.Run("oidcc-rp-initiated-logout"+name, func(t *testing.T) {
			b, tokens, _ := c.login(t, nil)
			test(t, b, tokens.IDToken)
		})
	}
	// asked: without proof of who asks, the user is asked, and after the answer the browser stays here or goes to a
	// registered address only.
	asked := func(t *testing.T, b *browser, p page, to string) {
		t.Helper()
		if p.location != nil || !p.has("logout") {
			t.Fatalf("the user was not asked: %d %v", p.status, p.location)
		}
		ended(t, b, false)
		p = b.submit(p, "logout", nil)
		if to == "" && p.location != nil || to != "" && (p.location == nil || p.location.String() != to) {
			t.Errorf("sent to %v, want %q", p.location, to)
		}
		ended(t, b, true)
	}

	module("-discovery-endpoint-verification", func(t *testing.T, _ *browser, _ string) { // section 2.1
		var m struct {
			EndSessionEndpoint string `json:"end_session_endpoint"`
		}
		if err := c.provider.Claims(&m); err != nil || m.EndSessionEndpoint != c.Config.Issuer+"/oauth2/logout" {
			t.Errorf("%q %v", m.EndSessionEndpoint, err)
		}
	})
	module("", func(t *testing.T, b *browser, idToken string) { // sections 2 and 3
		p := logout(b, url.Values{"id_token_hint": {idToken}, "post_logout_redirect_uri": {afterLogout}, "state": {"a state"}})
		if p.location == nil || p.location.Query().Get("state") != "a state" || p.location.Query().Get("keep") != "this" ||
			!strings.HasPrefix(p.location.String(), appOrigin+"/bye?") {
			t.Errorf("%d %v", p.status, p.location)
		}
		ended(t, b, true)
	})
	module("-post", func(t *testing.T, b *browser, idToken string) { // section 2: by form post as well
		p := b.post("/oauth2/logout", url.Values{
			"id_token_hint":            {idToken},
			"post_logout_redirect_uri": {afterLogout},
		}, map[string]string{"Origin": appOrigin, "Sec-Fetch-Site": "cross-site"})
		if p.location == nil || p.location.String() != afterLogout {
			t.Errorf("%d %v", p.status, p.location)
		}
		ended(t, b, true)
	})
	module("-bad-post-logout-redirect-uri", func(t *testing.T, b *browser, idToken string) { // section 3: compared exactly
		if p := logout(b, url.Values{
			"id_token_hint":            {idToken},
			"post_logout_redirect_uri": {"https://evil.example/"},
			"state":                    {"s"},
		}); p.location != nil || p.status != http.StatusBadRequest {
			t.Errorf("%d %v", p.status, p.location)
		}
		ended(t, b, true)
	})
	module("-query-added-to-post-logout-redirect-uri", func(t *testing.T, b *browser, idToken string) { // section 3
		if p := logout(b, url.Values{
			"id_token_hint":            {idToken},
			"post_logout_redirect_uri": {afterLogout + "&foo=bar"},
		}); p.location != nil || p.status != http.StatusBadRequest {
			t.Errorf("%d %v", p.status, p.location)
		}
	})
	module("-modified-id-token-hint", func(t *testing.T, b *browser, idToken string) { // section 4: validated, and no proof
		parts := strings.Split(idToken, ".")
		parts[2] = strings.Repeat("A", len(parts[2]))
		asked(t, b, logout(b, url.Values{"id_token_hint": {strings.Join(parts, ".")}}), "")
	})
	module("-bad-id-token-hint", func(t *testing.T, b *browser, _ string) { // section 4
		asked(t, b, logout(b, url.Values{"id_token_hint": {"not a token"}, "state": {"s"}}), "")
	})
	// section 2: an address needs a client that it is registered for
	module("-no-id-token-hint", func(t *testing.T, b *browser, _ string) {
		asked(t, b, logout(b, url.Values{"client_id": {"app"}, "post_logout_redirect_uri": {afterLogout}}), afterLogout)
	})
	module("-no-params", func(t *testing.T, b *browser, _ string) { asked(t, b, logout(b, nil), "") }) // section 2
	module("-no-post-logout-redirect-uri", func(t *testing.T, b *browser, idToken string) {            // section 2
		if p := logout(b, url.Values{"id_token_hint": {idToken}, "state": {"s"}}); p.location != nil || p.status != http.StatusOK {
			t.Errorf("%d %v", p.status, p.location)
		}
		ended(t, b, true)
	})
	module("-no-state", func(t *testing.T, b *browser, idToken string) { // section 3
		if p := logout(b, url.Values{
			"id_token_hint":            {idToken},
			"post_logout_redirect_uri": {afterLogout},
		}); p.location == nil || p.location.Query().Has("state") {
			t.Errorf("%d %v", p.status, p.location)
		}
		ended(t, b, true)
	})
	// section 2
	module("-only-state", func(t *testing.T, b *browser, _ string) { asked(t, b, logout(b, url.Values{"state": {"s"}}), "") })
	module("-client-id-of-another", func(t *testing.T, b *browser, idToken string) { // section 2: must match
		asked(t, b, logout(b, url.Values{
			"id_token_hint":            {idToken},
			"client_id":                {"other"},
			"post_logout_redirect_uri": {afterLogout},
		}), "")
	})
	module("-unknown-client", func(t *testing.T, b *browser, _ string) {
		if p := logout(b, url.Values{"client_id": {"nobody"}}); p.location != nil || p.status >= http.StatusInternalServerError {
			t.Errorf("%d %v", p.status, p.location)
		}
	})
}

// TestConformanceBackChannelLogout cites OpenID Connect Back-Channel Logout 1.0.
func TestConformanceBackChannelLogout(t *testing.T) {
	t.Parallel()
	servicetest.Each(t, func(t *testing.T, db servicetest.Database) {
		type delivery struct {
			form   url.Values
			header http.Header
		}
		received := make(chan delivery, 16)
		status := make(chan int, 16) // of the next answers; 200 if none is given
		receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := r.ParseForm(); err != nil {
				t.Error(err)
			}
			received <- delivery{r.PostForm, r.Header}
			select {
			case s := <-status:
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(s)
			default:
			}
		}))
		defer receiver.Close()
		s := servicetest.Start(t, db)
		registerClient(t, s, oauth.Client{
			ID:                     "app",
			BackchannelLogoutURI:   receiver.URL + "/logout",
			PostLogoutRedirectURIs: []string{afterLogout},
		})
		registerClient(t, s, oauth.Client{ID: "silent", RedirectURIs: []string{appRedirect}})
		s.SignUp(t, "ann@example.com")
		provider, err := oidc.NewProvider(t.Context(), s.URL)
		if err != nil {
			t.Fatal(err)
		}
		login := func() (*browser, servicetest.Tokens, map[string]any) {
			b := newBrowser(t, s)
			tokens := redeem(t, s, b.logIn(b.open(authorizeURL(s, nil)), "ann@example.com").code(t)).Tokens(t)
			return b, tokens, servicetest.Claims(t, tokens.IDToken)
		}
		next := func(t *testing.T) (map[string]any, delivery) {
			t.Helper()
			select {
			case d := <-received:
				if d.header.Get("Content-Type") != "application/x-www-form-urlencoded" || len(d.form) != 1 {
					t.Errorf("request %v %v", d.form, d.header)
				}
				raw := d.form.Get("logout_token")
				// Section 2.6: validated as an ID token is.
				// By the algorithm of ID tokens, whatever signs access tokens.
				token, err := provider.Verifier(&oidc.Config{ClientID: "app", SupportedSigningAlgs: []string{"RS256"}}).Verify(t.Context(),
					raw)
				if err != nil {
					t.Fatalf("logout token: %v", err)
				}
				var claims map[string]any
				if err := token.Claims(&claims); err != nil {
					t.Fatal(err)
				}
				return claims, d
			case <-time.After(20 * time.Second):
				t.Fatal("no logout token")
				return nil, delivery{}
			}
		}

		t.Run("oidcc-backchannel-rp-initiated-logout-discovery-endpoint-verification", func(t *testing.T) { // section 2.1
			var m struct {
				Supported bool `json:"backchannel_logout_supported"`
				Session   bool `json:"backchannel_logout_session_supported"`
			}
			if err := provider.Claims(&m); err != nil || !m.Supported || !m.Session {
				t.Errorf("%+v %v", m, err)
			}
		})
		t.Run("oidcc-backchannel-rp-initiated-logout", func(t *testing.T) { // sections 2.4 and 2.5
			b, tokens, id := login()
			b.open(s.URL + "/oauth2/logout?" + url.Values{
				"id_token_hint":            {tokens.IDToken},
				"post_logout_redirect_uri": {afterLogout},
			}.Encode())
			claims, d := next(t)
			if claims["iss"] != s.Config.Issuer || claims["aud"] != "app" || claims["sub"] != id["sub"] || claims["sid"] != id["sid"] ||
				claims["jti"] == "" || claims["nonce"] != nil {
				t.Errorf("claims %v", claims)
			}
			events, _ := claims["events"].(map[string]any)
			if event, ok := events["http://schemas.openid.net/event/backchannel-logout"].(map[string]any); !ok || len(event) != 0 ||
				len(events) != 1 {
				t.Errorf("events %v", claims["events"])
			}
			iat, _ := claims["iat"].(float64)
			exp, _ := claims["exp"].(float64)
			if now := float64(time.Now().Unix()); iat > now || exp <= now || exp-iat > 120 {
				t.Errorf("iat %v, exp %v", iat, exp)
			}
			header, err := base64.RawURLEncoding.DecodeString(strings.Split(d.form.Get("logout_token"), ".")[0])
			if err != nil || !strings.Contains(string(header), `"typ":"logout+jwt"`) || strings.Contains(string(header), `"alg":"none"`) {
				t.Errorf("header %s", header)
			}
			if r := s.Get(t, "/oauth2/userinfo", d.form.Get("logout_token")); r.Status != http.StatusUnauthorized {
				t.Errorf("a logout token passes for an access token: %d", r.Status)
			}
		})
		t.Run("ok/revocation of the refresh token", func(t *testing.T) { // section 2.7: whatever ends the session
			_, tokens, id := login()
			s.Form(t, "/oauth2/revoke", "client_id", "app", "token", tokens.RefreshToken)
			if claims, _ := next(t); claims["sid"] != id["sid"] {
				t.Errorf("claims %v", claims)
			}
		})
		t.Run("AS-14 a receiver that fails is asked again, one that redirects is not followed", func(t *testing.T) { // section 2.8
			status <- http.StatusServiceUnavailable
			status <- http.StatusFound
			_, tokens, id := login()
			s.Form(t, "/oauth2/revoke", "client_id", "app", "token", tokens.RefreshToken)
			seen := map[any]bool{}
			for range 3 {
				claims, _ := next(t)
				if claims["sid"] != id["sid"] || seen[claims["jti"]] {
					t.Errorf("claims %v", claims)
				}
				seen[claims["jti"]] = true
			}
		})
		if len(received) != 0 {
			t.Errorf("%d more deliveries", len(received))
		}
	})
}
