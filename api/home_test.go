package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
)

// TestHome comes to the service by itself: its address, a bookmark of the login page, and where programs that keep
// passwords lead.
func TestHome(t *testing.T) {
	plain := servicetest.Start(t, servicetest.SQLite(t))
	shop := servicetest.Start(t, servicetest.SQLite(t), func(c *service.Config) { c.HomeURL = "https://shop.example/login" })
	both := servicetest.Start(t, servicetest.SQLite(t), func(c *service.Config) {
		c.HomeURL, c.ChangePasswordURL = "https://shop.example/login", "https://shop.example/password"
	})
	for name, test := range map[string]struct {
		s        *servicetest.Service
		password string
	}{"nowhere": {plain, "/"}, "home": {shop, "https://shop.example/login"}, "both": {both, "https://shop.example/password"}} {
		t.Run(name, func(t *testing.T) {
			page := test.s.Get(t, "/", "")
			if page.Status != http.StatusOK || !strings.Contains(page.Body, test.s.URL) ||
				!strings.Contains(page.Body, "openid-configuration") {
				t.Errorf("%d %s", page.Status, page.Body)
			}
			if leads := strings.Contains(page.Body, `href="https://shop.example/login"`); leads != (test.s != plain) {
				t.Errorf("the page leads on: %t", leads)
			}
			for _, path := range []string{"/oauth2/login", "/oauth2/signup"} {
				if r := test.s.Get(t, path, ""); r.Status != http.StatusSeeOther || r.Header.Get("Location") != "/" {
					t.Errorf("%s: %d %s", path, r.Status, r.Header.Get("Location"))
				}
			}
			if r := test.s.Get(t, "/oauth2/login?request=nonsense", ""); r.Status != http.StatusBadRequest {
				t.Errorf("a state that is none: %d", r.Status)
			}
			if r := test.s.Get(t, "/.well-known/change-password", ""); r.Header.Get("Location") != test.password {
				t.Errorf("change password: %d %s", r.Status, r.Header.Get("Location"))
			}
			icon := test.s.Get(t, "/favicon.ico", "")
			if r := test.s.Get(t, icon.Header.Get("Location"), ""); r.Status != http.StatusOK ||
				!strings.HasPrefix(r.Header.Get("Content-Type"), "image/") {
				t.Errorf("icon: %d %s", r.Status, r.Header.Get("Content-Type"))
			}
		})
	}
}
