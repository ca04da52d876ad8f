package api_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/token"
)

// accountRoutes are those of the account API.
func accountRoutes() map[string]string {
	return map[string]string{
		"GET /v1/me": "", "PATCH /v1/me": `{"name":"Eve"}`, "DELETE /v1/me": "", "GET /v1/sessions": "", "DELETE /v1/sessions": "",
		"POST /v1/password/change": `{"current_password":"` + servicetest.Password + `","new_password":"amber-heron-47"}`,
		"GET /v1/identities":       "", "POST /v1/identities/nowhere": `{"return_to":"x"}`, "DELETE /v1/identities/nowhere": "",
		"GET /v1/identities/nowhere/token": "", "GET /v1/factors": "", "POST /v1/factors/totp": "{}",
		"POST /v1/factors/totp/nowhere/confirm": `{"code":"123456"}`, "POST /v1/factors/recovery-codes": "{}",
		"PATCH /v1/factors/nowhere": `{"name":"x"}`, "DELETE /v1/factors/nowhere": "",
	}
}

// An access token of another scope, or one that a resource server has seen, opens nothing of the account.
func TestAccountScopeAndAudience(t *testing.T) {
	const resource = "https://orders.example"
	alone(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db)
		registerClient(t, s, oauth.Client{ID: "app"})
		registerClient(t, s, oauth.Client{ID: "shop", Audiences: []string{resource}})
		registerClient(t, s, oauth.Client{ID: "both", Audiences: []string{resource, s.Config.Issuer}})
		registerClient(t, s, oauth.Client{ID: "none", NoAccount: true})
		p := signUp(t, s)
		if p.Scope != oauth.ScopeAccount {
			t.Errorf("the scope of a sign-up without one is %q", p.Scope)
		}
		all := func(what, raw string, status int, code, challenge string) {
			t.Helper()
			for route, body := range accountRoutes() {
				method, path, _ := strings.Cut(route, " ")
				h := bearer(raw)
				if body != "" {
					h.Set("Content-Type", "application/json")
				}
				r := s.Do(t, method, path, h, strings.NewReader(body))
				want(t, what+": "+route, r, status, code)
				if !strings.Contains(r.Header.Get("Www-Authenticate"), challenge) {
					t.Errorf("%s: %s: challenge %q", what, route, r.Header.Get("Www-Authenticate"))
				}
			}
		}
		all("openid alone", codeFlow(t, s, p.email, "app", "openid profile email").AccessToken, 403, "insufficient_scope",
			`scope="account"`)
		all("a resource server's", codeFlow(t, s, p.email, "shop", "openid account").AccessToken, 401, "invalid_token", "invalid_token")
		all("of two audiences", codeFlow(t, s, p.email, "both", "openid account").AccessToken, 401, "invalid_token", "invalid_token")
		plain := codeFlow(t, s, p.email, "none", "")
		if strings.Contains(plain.Scope, oauth.ScopeAccount) {
			t.Errorf("a client without the account was granted %q", plain.Scope)
		}
		all("a client without the account", plain.AccessToken, 403, "insufficient_scope", `scope="account"`)
		if got := newBrowser(t, s).open(authorizeURL(s, map[string]string{"client_id": "none",
			"scope": oauth.ScopeAccount})).refused(t); got != "invalid_scope" {
			t.Errorf("a client without the account asks for it: %q", got)
		}
		// A token that was given before the client lost the account.
		minted, err := s.Minter.Mint(t.Context(), token.Access{
			Subject: p.id, Audience: []string{s.Config.Issuer}, ClientID: "none", Scope: oauth.ScopeAccount,
			SessionID: sid(t, p.AccessToken), AuthTime: time.Now(), Lifetime: time.Minute,
		})
		if err != nil {
			t.Fatal(err)
		}
		all("a client that has lost the account", minted.Raw, 403, "insufficient_scope", "")

		// A client of a resource server gets a token for the account by asking for it, and only that one opens it.
		shop := codeFlow(t, s, p.email, "shop", "openid account")
		forAccount := s.Form(t, "/oauth2/token", "grant_type", "refresh_token", "client_id", "shop", "refresh_token", shop.RefreshToken,
			"resource", s.Config.Issuer).Tokens(t)
		if claims := servicetest.Claims(t, forAccount.AccessToken); claims["aud"] != s.Config.Issuer {
			t.Errorf("aud %v", claims["aud"])
		}
		want(t, "for the account", s.Get(t, "/v1/me", forAccount.AccessToken), http.StatusOK, "")
		back := s.Form(t, "/oauth2/token", "grant_type", "refresh_token", "client_id", "shop", "refresh_token",
			forAccount.RefreshToken).Tokens(t)
		if claims := servicetest.Claims(t, back.AccessToken); claims["aud"] != resource {
			t.Errorf("the grant has become for %v", claims["aud"])
		}
		narrow := codeFlow(t, s, p.email, "shop", "openid")
		want(t, "without the scope", s.Form(t, "/oauth2/token", "grant_type", "refresh_token", "client_id", "shop", "refresh_token",
			narrow.RefreshToken, "resource", s.Config.Issuer), http.StatusBadRequest, "invalid_target")
		want(t, "the user after all that", s.Get(t, "/v1/me", p.AccessToken), http.StatusOK, "")
	})
	client := oauth.Client{ID: "a", Type: oauth.Public, Scopes: []string{oauth.ScopeAccount}, ThirdParty: true}
	if client.Validate() == nil {
		t.Error("a third-party client may be registered for the account")
	}
}

// A service that asks for a token of its own has no account.
func TestAccountIsNoClients(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		tokens := w.FormWith(t, "/oauth2/token", basic("backend"), "grant_type", "client_credentials").Tokens(t)
		if tokens.Scope != "reports:read" {
			t.Errorf("scope %q", tokens.Scope)
		}
		want(t, "by name", w.FormWith(t, "/oauth2/token", basic("backend"), "grant_type", "client_credentials", "scope",
			oauth.ScopeAccount), http.StatusBadRequest, "invalid_scope")
	})
}

func TestRecentLogin(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := signUp(t, w.Service)
		claims := servicetest.Claims(t, p.AccessToken)
		aged := func(age time.Duration) string {
			minted, err := w.Minter.Mint(t.Context(), token.Access{
				Subject: p.id, Audience: w.Config.Audience, ClientID: oauth.DefaultClientID, Scope: oauth.ScopeAccount,
				SessionID: claims["sid"].(string), AuthTime: time.Now().Add(-age), Lifetime: time.Minute,
			})
			if err != nil {
				t.Fatal(err)
			}
			return minted.Raw
		}
		old, fresh := aged(11*time.Minute), aged(9*time.Minute)
		for _, route := range []string{"POST /v1/identities/nowhere", "DELETE /v1/identities/nowhere", "DELETE /v1/me",
			"POST /v1/factors/totp", "POST /v1/factors/totp/x/confirm", "POST /v1/factors/recovery-codes", "PATCH /v1/factors/x",
			"DELETE /v1/factors/x"} {
			method, path, _ := strings.Cut(route, " ")
			r := w.JSON(t, method, path, old, nil)
			want(t, route+" after eleven minutes", r, http.StatusForbidden, "insufficient_user_authentication")
			if got := r.Header.Get("Www-Authenticate"); !strings.HasPrefix(got, `Bearer error="insufficient_user_authentication"`) ||
				!strings.HasSuffix(got, `max_age="600"`) {
				t.Errorf("%s: challenge %q", route, got)
			}
		}
		want(t, "what changes nothing", w.Get(t, "/v1/me", old), http.StatusOK, "")
		want(t, "removal after nine minutes", w.Do(t, http.MethodDelete, "/v1/identities/nowhere", bearer(fresh), nil),
			http.StatusNotFound, "")
		want(t, "deletion after nine minutes", w.Do(t, http.MethodDelete, "/v1/me", bearer(fresh), nil), http.StatusNoContent, "")
	})
}

func TestOriginsOfOwnClients(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db, func(c *service.Config) { c.LoginIPFailures = 0 })
		registerClient(t, s, oauth.Client{ID: "own", Origins: []string{"https://own.example"}})
		registerClient(t, s, oauth.Client{ID: "third", ThirdParty: true, Origins: []string{"https://third.example"}})
		if err := s.Clients.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		for path, shared := range map[string]bool{
			"/v1/login": false, "/v1/signup": false, "/v1/me": false, "/v1/sessions": false, "/v1/identities": false,
			"/v1/login/nowhere/id-token": false, "/oauth2/token": true, "/oauth2/userinfo": true, "/oauth2/revoke": true,
		} {
			for origin, own := range map[string]bool{"https://own.example": true, "https://third.example": false} {
				r := s.Do(t, http.MethodOptions, path, header("Origin", origin, "Access-Control-Request-Method", "POST"), nil)
				if got := r.Header.Get("Access-Control-Allow-Origin") == origin; got != (own || shared) {
					t.Errorf("%s from %s: allowed %v", path, origin, got)
				}
			}
		}
	})
}

// A confidential client without audiences of its own is no resource server.
func TestIntrospectionOfOthersTokens(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db)
		registerClient(t, s, confidential(oauth.Client{ID: "plain"}))
		registerClient(t, s, confidential(oauth.Client{ID: "server", Audiences: []string{s.Config.Issuer}}))
		p := signUp(t, s)
		for _, raw := range []string{p.AccessToken, p.RefreshToken} {
			if r := introspect(t, s, "plain", raw); r.Body != inactive {
				t.Errorf("a client without audiences learns %s", r.Body)
			}
			if r := introspect(t, s, "server", raw); !strings.Contains(r.Body, `"active":true`) {
				t.Errorf("the resource server learns %s", r.Body)
			}
		}
		b := newBrowser(t, s)
		code := b.logIn(b.open(authorizeURL(s, map[string]string{"client_id": "plain"})), p.email).code(t)
		own := s.FormWith(t, "/oauth2/token", basic("plain"), "grant_type", "authorization_code", "code", code, "redirect_uri",
			appRedirect, "code_verifier", verifierText).Tokens(t)
		if r := introspect(t, s, "plain", own.AccessToken); !strings.Contains(r.Body, `"active":true`) {
			t.Errorf("of its own token a client learns %s", r.Body)
		}
	})
}
