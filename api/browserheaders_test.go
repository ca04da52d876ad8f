package api_test

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// public are the routes whose answers every page may read, and every cache may keep for some time.
func public() []string {
	return []string{
		"/.well-known/jwks.json", "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration", "/openapi.yaml",
		"/v1/blocklist", "/v1/blocklist/stream",
		"/v1/status-lists", "/v1/status-lists/:client/:number", "/.well-known/ssf-configuration",
	}
}

// unshared reports whether no page of another origin has anything to do with a route: hosted pages, and what only
// servers ask for.
func unshared(path string) bool {
	switch path {
	case "/oauth2/token", "/oauth2/revoke", "/oauth2/userinfo":
		return false
	case "/healthz", "/readyz", "/v1/forward-auth", "/", "/favicon.ico", "/.well-known/change-password":
		return true
	}
	return strings.HasPrefix(path, "/oauth2/") || strings.HasPrefix(path, "/assets/") || strings.HasPrefix(path, "/v1/ssf/")
}

func TestCK06_CORS(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := signUp(t, w.Service)
		const good = "https://app.example.com" // of the client "spa"
		for _, route := range w.API.Answered() {
			if route.Method == "echo_route_not_found" || route.Method == http.MethodOptions {
				continue
			}
			path := filled(route.Path, "ses_aaaaaaaaaaaaaaaaaaaaaaaaaa")
			for origin, registered := range map[string]bool{
				"":                                     false,
				good:                                   true,
				"http://localhost:3000":                true,
				"null":                                 false,
				"https://evil.example":                 false,
				"https://evil-app.example.com":         false,
				"https://app.example.com.evil.example": false,
				"https://appxexample.com":              false,
				"https://APP.example.com":              false,
				"HTTPS://app.example.com":              false,
				"http://app.example.com":               false,
				"https://app.example.com:443":          false,
				"https://app.example.com:8443":         false,
				"https://app.example.com/":             false,
				"https://sub.app.example.com":          false,
				"http://localhost":                     false,
				"http://localhost:3001":                false,
				"https://localhost:3000":               false,
				"*":                                    false,
				"https://app.example.com https://evil.example": false,
				"https://app.example.com\t":                    true,
			} {
				h := bearer(p.AccessToken)
				if strings.HasSuffix(route.Path, "/me") && route.Method == http.MethodDelete || route.Path == "/v1/logout" ||
					route.Path == "/v1/sessions" && route.Method == http.MethodDelete {
					h = http.Header{} // the session is used on
				}
				if origin != "" {
					h.Set("Origin", origin)
				}
				r := w.Do(t, route.Method, path, h, nil)
				allowed := ""
				switch {
				case slices.Contains(public(), route.Path):
					allowed = "*"
				case !unshared(route.Path) && registered:
					allowed = strings.TrimSpace(origin)
				}
				if got := r.Header.Get("Access-Control-Allow-Origin"); got != allowed {
					t.Errorf("%s %s from %q: allowed to %q, want %q", route.Method, route.Path, origin, got, allowed)
				}
				with := r.Header.Get("Access-Control-Allow-Credentials") // see TestCK06_Credentials
				if ofAll := slices.Contains([]string{"/oauth2/token", "/oauth2/revoke", "/v1/logout", "/v1/session",
					"/v1/sessions/fork"}, route.Path); (with != "") != (ofAll && registered) {
					t.Errorf("%s %s from %q: credentials %q", route.Method, route.Path, origin, with)
				}
				if shared := !unshared(route.Path) && !slices.Contains(public(), route.Path); shared &&
					!slices.Contains(r.Header.Values("Vary"), "Origin") {
					t.Errorf("%s %s from %q: Vary %v", route.Method, route.Path, origin, r.Header.Values("Vary"))
				}
			}
		}
	})
}

func TestCK06_Preflight(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		methods := map[string][]string{}
		for _, r := range w.API.Answered() {
			if r.Method != http.MethodHead && r.Method != http.MethodOptions && r.Method != "echo_route_not_found" {
				methods[r.Path] = append(methods[r.Path], r.Method)
			}
		}
		for path, allowed := range methods {
			for _, origin := range []string{"https://app.example.com", "https://evil.example", "null"} {
				r := w.Do(t, http.MethodOptions, filled(path, "x"),
					header("Origin", origin, "Access-Control-Request-Method", allowed[0], "Access-Control-Request-Headers",
						"authorization,content-type,idempotency-key,x-evil"), nil)
				ok := slices.Contains(public(), path) || !unshared(path) && origin == "https://app.example.com"
				if r.Status != http.StatusNoContent || (r.Header.Get("Access-Control-Allow-Origin") != "") != ok ||
					(r.Header.Get("Access-Control-Allow-Methods") != "") != ok {
					t.Errorf("%s from %s: %d %v", path, origin, r.Status, r.Header)
				}
				if !ok {
					continue
				}
				got := strings.Split(r.Header.Get("Access-Control-Allow-Methods"), ", ")
				slices.Sort(got)
				slices.Sort(allowed)
				if !slices.Equal(got, allowed) {
					t.Errorf("%s: methods %v, want %v", path, got, allowed)
				}
				if h := strings.ToLower(r.Header.Get("Access-Control-Allow-Headers")); strings.Contains(h, "x-evil") ||
					strings.Contains(h, "*") || !strings.Contains(h, "authorization") || !strings.Contains(h, "idempotency-key") {
					t.Errorf("%s: headers %s", path, h)
				}
			}
		}
	})
}

// The origins of a client are allowed for as long as the client is.
func TestCK06_DisabledClient(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		id := fmt.Sprintf("short-lived-%d", people.Add(1))
		origin := "https://" + id + ".example.com"
		addClient(t, w.Service, oauth.Client{
			ID:      id,
			Type:    oauth.Public,
			Grants:  []string{oauth.GrantRefreshToken},
			Origins: []string{origin},
		})
		allowed := func() bool {
			return w.Do(t, http.MethodPost, "/v1/login", header("Origin", origin), nil).Header.Get("Access-Control-Allow-Origin") != ""
		}
		servicetest.Eventually(t, "the origin is allowed", allowed)
		now := time.Now()
		if err := w.Store.DisableClient(t.Context(), id, now, blocklist.NewEntry(verifier.BlockClient, id, now.Add(time.Hour)),
			audit.Event{
				At:    now,
				Kind:  audit.KindClientDisabled,
				Actor: audit.ActorCLI,
			}); err != nil {
			t.Fatal(err)
		}
		servicetest.Eventually(t, "the origin is allowed no more", func() bool { return !allowed() })
	})
}

// headersOf are the header fields of an answer, without those that differ every time.
func headersOf(r servicetest.Response) string {
	h := r.Header.Clone()
	for _, name := range []string{"Date", "X-Request-Id", "Content-Length", "Etag", "Set-Cookie", "Location"} {
		h.Del(name)
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(h)) {
		out = append(out, name+": "+strings.Join(h[name], ", "))
	}
	return strings.Join(out, "\n")
}

// Golden: what each class of answers says to browsers and caches, with and without https.
func TestCK08_Headers(t *testing.T) {
	const hsts = "Strict-Transport-Security: max-age=31536000; includeSubDomains"
	for _, issuer := range []string{"", "https://login.example.com"} {
		t.Run(issuer, func(t *testing.T) {
			t.Parallel()
			s := servicetest.Start(t, servicetest.SQLite(t), func(c *service.Config) {
				if issuer != "" {
					c.Issuer = issuer
				}
			})
			registerClient(t, s, oauth.Client{ID: "app", Origins: []string{"https://app.example.com"}})
			if err := s.Clients.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			p := signUp(t, s)
			authorize := strings.TrimPrefix(authorizeURL(s, nil), s.URL)
			login := s.Get(t, authorize, "")
			asset := func(kind string) servicetest.Response {
				address := regexp.MustCompile(`/assets/[^"]+\.` + kind).FindString(login.Body)
				if address == "" {
					t.Fatalf("the page has no %s:\n%s", kind, login.Body)
				}
				return s.Get(t, address, "")
			}
			pageHeaders := func(script, formTargets string) string {
				return `Cache-Control: no-store
Content-Language: en
Content-Security-Policy: default-src 'none'; style-src 'self'; img-src 'self'; ` + script + `form-action 'self'` + formTargets +
					`; frame-ancestors 'none'; base-uri 'none'
Content-Type: text/html; charset=utf-8
Cross-Origin-Opener-Policy: same-origin
Cross-Origin-Resource-Policy: same-origin
Referrer-Policy: no-referrer
X-Content-Type-Options: nosniff
X-Frame-Options: DENY`
			}
			for name, c := range map[string]struct {
				r    servicetest.Response
				want string
			}{
				"tokens": {s.JSON(t, http.MethodPost, "/v1/login", "",
					map[string]string{"email": p.email, "password": servicetest.Password}),
					"Cache-Control: no-store\nContent-Type: application/json\nVary: Origin\nX-Content-Type-Options: nosniff"},
				"user": {s.Get(t, "/v1/me", p.AccessToken),
					"Cache-Control: no-store\nContent-Type: application/json\nVary: Origin\nX-Content-Type-Options: nosniff"},
				"nothing": {s.Do(t, http.MethodPost, "/v1/logout", bearer(s.LogIn(t, p.email).AccessToken), nil),
					"Cache-Control: no-store\nVary: Origin\nX-Content-Type-Options: nosniff"},
				"problem": {s.Get(t, "/v1/me", "e30.e30.e30"),
					"Cache-Control: no-store\nContent-Type: application/problem+json\nVary: Origin\nWww-Authenticate: Bearer " +
						"error=\"invalid_token\", error_description=\"the access token is not valid\"\nX-Content-Type-Options: nosniff"},
				"OAuth error": {s.Form(t, "/oauth2/token", "grant_type", "refresh_token", "client_id", "default", "refresh_token", "x"),
					"Cache-Control: no-store\nContent-Type: application/json\nVary: Origin\nX-Content-Type-Options: nosniff"},
				"nowhere": {s.Get(t, "/nowhere", ""),
					"Cache-Control: no-store\nContent-Type: application/problem+json\nX-Content-Type-Options: nosniff"},
				"health": {s.Get(t, "/healthz", ""),
					"Cache-Control: no-store\nContent-Type: application/json\nX-Content-Type-Options: nosniff"},
				"JWKS": {s.Get(t, "/.well-known/jwks.json", ""),
					"Access-Control-Allow-Origin: *\nAccess-Control-Expose-Headers: ETag, X-Request-Id\nCache-Control: public, " +
						"max-age=300\nContent-Type: application/jwk-set+json\nX-Content-Type-Options: nosniff"},
				"metadata": {s.Get(t, "/.well-known/openid-configuration", ""),
					"Access-Control-Allow-Origin: *\nAccess-Control-Expose-Headers: ETag, X-Request-Id\nCache-Control: public, " +
						"max-age=300\nContent-Type: application/json\nX-Content-Type-Options: nosniff"},
				"login": {login, pageHeaders(scriptSource(login.Body), " https://app.example https://app.example.com")},
				"error": {s.Get(t, "/oauth2/authorize", ""), pageHeaders("", "")},
				"style": {asset("css"), "Cache-Control: public, max-age=31536000, immutable\nContent-Security-Policy: default-src 'none'; " +
					"style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox\nContent-Type: text/css; " +
					"charset=utf-8\nCross-Origin-Resource-Policy: same-origin\nX-Content-Type-Options: nosniff"},
				// An image opened by itself is a document.
				"image": {asset("svg"), "Cache-Control: public, max-age=31536000, immutable\nContent-Security-Policy: default-src 'none'; " +
					"style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox\nContent-Type: image/svg+xml\nCross-Origin-Resource-Policy: " +
					"same-origin\nX-Content-Type-Options: nosniff"},
				"redirection": {s.Get(t, authorize+"&prompt=none", ""), `Cache-Control: no-store
Content-Security-Policy: default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; ` +
					`frame-ancestors 'none'; base-uri 'none'
Cross-Origin-Opener-Policy: same-origin
Cross-Origin-Resource-Policy: same-origin
Referrer-Policy: no-referrer
X-Content-Type-Options: nosniff
X-Frame-Options: DENY`},
			} {
				golden := c.want
				if issuer != "" {
					lines := append(strings.Split(golden, "\n"), hsts)
					slices.Sort(lines)
					golden = strings.Join(lines, "\n")
				}
				if got := headersOf(c.r); got != golden {
					t.Errorf("%s (%d):\n%s\nwant\n%s", name, c.r.Status, got, golden)
				}
			}
		})
	}
}

// What is secret or personal is kept by no cache: every route says so of every answer, but for the public documents.
func TestCFG02_Caches(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		cacheable := map[string]string{
			"/.well-known/jwks.json":                  "public, max-age=",
			"/.well-known/oauth-authorization-server": "public, max-age=",
			"/.well-known/openid-configuration":       "public, max-age=",
			"/openapi.yaml":                           "public, max-age=",
			"/v1/blocklist":                           "no-cache",
			"/.well-known/ssf-configuration":          "public, max-age=",
		}
		for _, route := range w.API.Answered() {
			if route.Method == http.MethodOptions || route.Method == "echo_route_not_found" {
				continue
			}
			p := signUp(t, w.Service)
			for _, credential := range []string{"", p.AccessToken, "e30.e30.e30"} {
				r := ask(t, w.Service, route, p, credential)
				wanted, ok := cacheable[route.Path]
				if !ok || r.Status >= 400 {
					wanted = "no-store"
				}
				if got := r.Header.Get("Cache-Control"); !strings.HasPrefix(got, wanted) {
					t.Errorf("%s %s: %d with Cache-Control %q, want %q", route.Method, route.Path, r.Status, got, wanted)
				}
			}
		}
		// Those that the table above has not succeeded with.
		p := signUp(t, w.Service)
		for name, r := range map[string]servicetest.Response{
			"refresh":       w.Refresh(t, p.RefreshToken),
			"client's own":  w.FormWith(t, "/oauth2/token", basic("backend"), "grant_type", "client_credentials"),
			"introspection": introspect(t, w.Service, "backend", p.AccessToken),
			"revocation":    w.Form(t, "/oauth2/revoke", "token", "x"),
			"login": w.JSON(t, http.MethodPost, "/v1/login", "",
				map[string]string{"email": p.email, "password": servicetest.Password}),
			"sign-up": w.JSON(t, http.MethodPost, "/v1/signup", "",
				map[string]string{"email": newEmail(), "password": servicetest.Password}),
			"userinfo": w.Get(t, "/oauth2/userinfo", sessionAt(t, w.Service, p, "web", "openid")),
			"pushed": w.Form(t, "/oauth2/par", "client_id", "web", "redirect_uri", appRedirect, "response_type", "code",
				"code_challenge", challenge(), "code_challenge_method", "S256"),
		} {
			if r.Status >= 300 || r.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s: %d with Cache-Control %q", name, r.Status, r.Header.Get("Cache-Control"))
			}
		}
		if pages := newBrowser(t, w.Service).open(authorizeURL(w.Service,
			map[string]string{"client_id": "web"})); pages.header.Get("Cache-Control") != "no-store" {
			t.Errorf("page: %q", pages.header.Get("Cache-Control"))
		}
	})
}

// scriptSource is the directive that allows the one script of a page.
func scriptSource(page string) string {
	_, script, _ := strings.Cut(page, "<script>")
	script, _, _ = strings.Cut(script, "</script>")
	sum := sha256.Sum256([]byte(script))
	return "script-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; "
}
