package pages

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCK08_HeadersOfPages(t *testing.T) {
	common := func(csp, coop string) http.Header {
		return http.Header{
			"Cache-Control":                {"no-store"},
			"Content-Language":             {"en"},
			"Content-Security-Policy":      {csp},
			"Content-Type":                 {"text/html; charset=utf-8"},
			"Cross-Origin-Opener-Policy":   {coop},
			"Cross-Origin-Resource-Policy": {"same-origin"},
			"Referrer-Policy":              {"no-referrer"},
			"X-Content-Type-Options":       {"nosniff"},
			"X-Frame-Options":              {"DENY"},
		}
	}
	const (
		head = "default-src 'none'; style-src 'self'; img-src 'self'; "
		tail = "; frame-ancestors 'none'; base-uri 'none'"
	)
	reveal := scriptSource(revealScript)
	tests := map[string]struct {
		page string
		want http.Header
	}{
		"ok/form":           {"login", common(head+reveal+"form-action 'self' https://photos.example"+tail, "same-origin")},
		"ok/popup":          {"login/popup", common(head+reveal+"form-action 'self'"+tail, "unsafe-none")},
		"ok/without a form": {"loggedout", common(head+"form-action 'self'"+tail, "same-origin")},
		"ok/error":          {"error", common(head+"form-action 'self'"+tail, "same-origin")},
		"ok/mail link":      {"reset", common(head+reveal+"form-action 'self' https://photos.example"+tail, "same-origin")},
		"ok/form_post": {"formpost", common(head+
			"script-src 'sha256-I0w5GJyvKG50uS0fYgaxosduPLWT8qcIQJeVhEFfa7c='"+tail, "same-origin")},
		"ok/consent's click": {"consent", common(head+"form-action 'self' https://photos.example"+tail, "same-origin")},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := render(t, newRenderer(t, Branding{}), "en", everyPage()[tt.page]).Header()
			got.Del("Content-Length")
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestScriptsMatchTheirHashes(t *testing.T) {
	for name, page := range everyPage() {
		w := render(t, newRenderer(t, Branding{}), "en", page)
		scripts := elements(parse(t, w.Body.String()), "script")
		csp := w.Header().Get("Content-Security-Policy")
		if len(scripts) != strings.Count(csp, "script-src") || len(scripts) > 1 {
			t.Fatalf("%s: %d scripts, policy %q", name, len(scripts), csp)
		}
		if len(scripts) == 0 {
			continue
		}
		sum := sha256.Sum256([]byte(scripts[0].FirstChild.Data))
		if !strings.Contains(csp, "script-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'") {
			t.Errorf("%s: %q does not allow the page's script", name, csp)
		}
	}
}

func TestFormSource(t *testing.T) {
	tests := map[string]struct{ in, want string }{
		"ok/https":             {"https://photos.example/cb?x=1#f", "https://photos.example"},
		"ok/port":              {"https://photos.example:8443/cb", "https://photos.example:8443"},
		"ok/loopback":          {"http://127.0.0.1:51004/cb", "http://127.0.0.1:51004"},
		"ok/IPv6 loopback":     {"http://[::1]:51004/cb", "http:"},
		"ok/upper case":        {"HTTPS://Photos.Example/cb", "https://photos.example"},
		"ok/user and password": {"https://user:pass@photos.example/", "https://photos.example"},
		"ok/private use":       {"com.example.app:/cb", "com.example.app:"},
		"ok/private use, host": {"com.example.app://cb", "com.example.app:"},
		"fail/empty":           {"", ""},
		"fail/relative":        {"/cb", ""},
		"fail/no host":         {"https:///cb", ""},
		"fail/javascript":      {"javascript:alert(1)", ""},
		"fail/data":            {"data:text/html,x", ""},
		"fail/new directive":   {"https://a.example;script-src", ""},
		"fail/new policy":      {"https://a.example,default-src", ""},
		"fail/second source":   {"https://a.example *", ""},
		"fail/wildcard":        {"https://*.example/", ""},
		"fail/line break":      {"https://a.example\r\nX: y", ""},
		"fail/not ASCII":       {"https://ä.example/", ""},
		"fail/percent":         {"https://%3b.example/", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := formSource(tt.in); got != tt.want {
				t.Errorf("formSource(%q) = %q, want %q", tt.in, got, tt.want)
			}
		})
	}
}

// Whatever a redirect URI is, it opens the policy for one source at most.
func FuzzFormSource(f *testing.F) {
	for _, seed := range []string{"https://a.example/", "http://[::1]:80", "com.example.app:/cb", "https://a;b",
		"x:'unsafe-inline'"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		if s := formSource(raw); strings.ContainsAny(s, " ;,'*\t\r\n\"") || strings.Contains(s, "javascript") ||
			strings.ToLower(s) != s {
			t.Errorf("formSource(%q) = %q", raw, s)
		}
		csp := Policy{FormTargets: []string{raw}}.contentSecurity()
		if strings.Count(csp, ";") != 5 {
			t.Errorf("%q gives the policy %q", raw, csp)
		}
	})
}

func TestPolicyNamesEachSourceOnce(t *testing.T) {
	got := Policy{FormTargets: []string{"https://a.example/1", "https://a.example/2", "app:/cb", "nonsense"}}.contentSecurity()
	if want := "form-action 'self' https://a.example app:;"; !strings.Contains(got, want) {
		t.Errorf("%q lacks %q", got, want)
	}
}
