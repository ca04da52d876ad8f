package demo_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/handstamp/handstamp/cmd/handstamp/demo"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/verifier"
)

func TestCheck(t *testing.T) {
	for name, row := range map[string]struct {
		issuer string
		listen []string
		ok     bool
	}{
		"ok/IPv4":                 {"http://127.0.0.1:8080", []string{"127.0.0.1:8080", "127.0.0.1:8081"}, true},
		"ok/IPv6":                 {"http://[::1]:8080", []string{"[::1]:8080"}, true},
		"ok/localhost":            {"http://localhost:8080", []string{"localhost:8080"}, true},
		"fail/issuer elsewhere":   {"https://login.example.com", []string{"127.0.0.1:8080"}, false},
		"fail/named alike":        {"https://localhost.example.com", []string{"127.0.0.1:8080"}, false},
		"fail/every interface":    {"http://127.0.0.1:8080", []string{":8080"}, false},
		"fail/0.0.0.0":            {"http://127.0.0.1:8080", []string{"127.0.0.1:8080", "0.0.0.0:8081"}, false},
		"fail/address of the net": {"http://127.0.0.1:8080", []string{"192.168.1.5:8080"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if err := demo.Check(row.issuer, row.listen...); (err == nil) != row.ok {
				t.Errorf("%v", err)
			}
		})
	}
}

// A second start finds the clients of the first, at another address.
func TestRegister(t *testing.T) {
	s := servicetest.Start(t, servicetest.SQLite(t))
	for _, origin := range []string{"http://127.0.0.1:8081", "http://127.0.0.1:9999"} {
		if err := demo.Register(t.Context(), s.Store, demo.Clients(origin), time.Now()); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"demo", "demo-phone"} {
			c, err := s.Store.Client(t.Context(), id)
			if err != nil || len(c.Origins) != 1 || c.Origins[0] != origin || c.UsesCookie() != (id == "demo") {
				t.Errorf("%s: %+v %v", id, c, err)
			}
		}
	}
}

func TestServeHTTP(t *testing.T) {
	s := servicetest.Start(t, servicetest.SQLite(t))
	tokens, err := verifier.New(t.Context(), s.Config.Issuer, verifier.WithAudience(s.Config.Issuer))
	if err != nil {
		t.Fatal(err)
	}
	defer tokens.Close()
	page, err := demo.New(s.Config.Issuer, tokens)
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		method, path string
		status       int
		text         string
	}{
		"ok/page":                {http.MethodGet, "/", http.StatusOK, `content="` + s.Config.Issuer + `"`},
		"ok/script":              {http.MethodGet, "/demo.js", http.StatusOK, "createClient"},
		"ok/client":              {http.MethodGet, "/handstamp.js", http.StatusOK, "oauth2/token"},
		"fail/another file":      {http.MethodGet, "/demo.go", http.StatusNotFound, ""},
		"fail/post":              {http.MethodPost, "/", http.StatusMethodNotAllowed, ""},
		"fail/API without token": {http.MethodGet, "/api/hello", http.StatusUnauthorized, "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			w := httptest.NewRecorder()
			page.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), row.method, row.path, http.NoBody))
			if w.Code != row.status || !strings.Contains(w.Body.String(), row.text) {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			if !strings.Contains(w.Header().Get("Content-Security-Policy"), "default-src 'none'") {
				t.Errorf("%v", w.Header())
			}
		})
	}
}
