package api_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/oauth"
)

// A page with its refresh token in a cookie, in Chromium: subdomains of one site over TLS, and another site.
func TestRefreshCookieInChromium(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		var behind http.Handler // the service, once it is there: it has to know the port
		front := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if host, _, err := net.SplitHostPort(r.Host); err == nil && host == "id.x.test" {
				behind.ServeHTTP(w, r)
				return
			}
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = w.Write([]byte(`<!doctype html><title>Page</title><link rel="icon" href="data:,"><p>A page`))
		}))
		front.EnableHTTP2 = true
		front.StartTLS()
		t.Cleanup(front.Close)
		_, port, err := net.SplitHostPort(front.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		at := func(host string) string { return "https://" + host + ":" + port }
		s := servicetest.Start(t, db, func(c *service.Config) {
			c.Issuer, c.Audience, c.LoginAttempts = at("id.x.test"), []string{at("id.x.test")}, 1000
		})
		target, err := url.Parse(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		behind = httputil.NewSingleHostReverseProxy(target)
		registerClient(t, s, oauth.Client{
			ID:               "pages",
			Origins:          []string{at("app.x.test"), at("app.y.test")},
			RefreshTransport: oauth.TransportCookie,
		})
		if err := s.Clients.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		email := newEmail()
		s.SignUp(t, email)
		for check, fault := range node(t, "refreshcookie.mjs", map[string]any{
			"chromium":  chromium(t),
			"issuer":    s.Config.Issuer,
			"app":       at("app.x.test") + "/",
			"elsewhere": at("app.y.test") + "/",
			"planting":  at("evil.x.test") + "/",
			"client":    "pages",
			"email":     email,
			"password":  servicetest.Password,
		}) {
			if fault != "" {
				t.Errorf("%s: %v", check, fault)
			}
		}
	})
}
