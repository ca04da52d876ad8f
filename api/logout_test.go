package api_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/oauth"
)

// Whatever is wrong with a logout, the person is asked or logged out, and the browser is sent nowhere that no client has
// registered.
func TestLogoutAsksRatherThanFails(t *testing.T) {
	const bye, elsewhere = appOrigin + "/bye", "https://elsewhere.example/bye"
	alone(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db)
		registerClient(t, s, oauth.Client{ID: "app", Name: "Shop", PostLogoutRedirectURIs: []string{bye}})
		registerClient(t, s, oauth.Client{ID: "other", PostLogoutRedirectURIs: []string{elsewhere}})
		s.SignUp(t, "ann@example.com")
		logIn := func() (*browser, servicetest.Tokens) {
			b := newBrowser(t, s)
			return b, redeem(t, s, b.logIn(b.open(authorizeURL(s, nil)), "ann@example.com").code(t)).Tokens(t)
		}
		loggedOut := func(b *browser) bool {
			return b.open(authorizeURL(s, map[string]string{"prompt": "none"})).location.Query().Get("error") == "login_required"
		}
		_, tokens := logIn()
		for name, row := range map[string]struct {
			values   url.Values
			returnTo string // after a yes
			detail   string
		}{
			"ok/address of a client that is logged in here": {url.Values{"post_logout_redirect_uri": {bye}, "state": {"x"}},
				bye + "?state=x", ""},
			"fail/address of a client that is not": {url.Values{"post_logout_redirect_uri": {elsewhere}}, "", "not registered"},
			"fail/address of nobody": {url.Values{"post_logout_redirect_uri": {"https://evil.example/"}}, "",
				"not registered"},
			"fail/address that is almost one": {url.Values{"post_logout_redirect_uri": {bye + "/"}}, "", "not registered"},
			"fail/unusable hint": {url.Values{"id_token_hint": {"x.y.z"}, "client_id": {"app"}, "post_logout_redirect_uri": {bye}}, "",
				"id_token_hint"},
			"fail/hint of another client": {url.Values{"id_token_hint": {tokens.IDToken}, "client_id": {"other"},
				"post_logout_redirect_uri": {elsewhere}}, "", "client_id"},
			"fail/unknown client":           {url.Values{"client_id": {"nobody"}, "post_logout_redirect_uri": {bye}}, "", "not known"},
			"fail/another client's address": {url.Values{"client_id": {"other"}, "post_logout_redirect_uri": {bye}}, "", "not registered"},
			"fail/twice":                    {url.Values{"post_logout_redirect_uri": {bye, bye}}, "", "more than once"},
		} {
			t.Run(name, func(t *testing.T) {
				b, _ := logIn()
				p := b.open(s.URL + "/oauth2/logout?" + row.values.Encode())
				if p.location != nil || p.status != http.StatusOK || !p.has("logout") || loggedOut(b) {
					t.Fatalf("not asked: %d %v\n%s", p.status, p.location, p.body)
				}
				if row.detail == "" && p.has("error-detail") || !strings.Contains(p.body, row.detail) {
					t.Errorf("no detail %q:\n%s", row.detail, p.body)
				}
				p = b.submit(p, "logout", nil)
				if to := ""; row.returnTo != to && (p.location == nil || p.location.String() != row.returnTo) ||
					row.returnTo == "" && p.location != nil {
					t.Errorf("%d, sent to %v", p.status, p.location)
				}
				if !loggedOut(b) {
					t.Error("still logged in")
				}
			})
		}
		t.Run("fail/hint with an address of nobody", func(t *testing.T) {
			b, tokens := logIn()
			p := b.open(s.URL + "/oauth2/logout?" + url.Values{
				"id_token_hint":            {tokens.IDToken},
				"post_logout_redirect_uri": {elsewhere},
			}.Encode())
			if p.location != nil || !p.has("error-detail") || !loggedOut(b) {
				t.Errorf("%d %v\n%s", p.status, p.location, p.body)
			}
		})
		t.Run("ok/nobody is logged in", func(t *testing.T) {
			p := newBrowser(t, s).open(s.URL + "/oauth2/logout?" + url.Values{"post_logout_redirect_uri": {bye}}.Encode())
			if p.location != nil || p.has("logout") {
				t.Errorf("%d %v\n%s", p.status, p.location, p.body)
			}
		})
	})
}

// The login page has a way to say no.
func TestLoginCanBeCancelled(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		b := newBrowser(t, w.Service)
		p := b.open(authorizeURL(w.Service, map[string]string{"client_id": "web"}))
		if !p.has("login-cancel") {
			t.Fatalf("no button:\n%s", p.body)
		}
		p = b.submit(p, "login", map[string]string{"decision": "cancel"})
		if p.location == nil {
			t.Fatalf("%d\n%s", p.status, p.body)
		}
		if got := p.location.Query(); got.Get("error") != "access_denied" || got.Get("state") != "some state" || got.Get("code") != "" {
			t.Errorf("answer %v", got)
		}
	})
}
