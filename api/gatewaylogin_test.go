package api_test

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/store/storetest"
)

// atGateway is a person's browser before a gateway, which asks the service about each request. Its cookies are those of the
// application's host, which the issuer never sees.
type atGateway struct {
	t       *testing.T
	s       *servicetest.Service
	issuer  *browser // the same browser at the issuer's host
	query   string
	origin  string
	cookies map[string]string
}

const gatewayOrigin = "https://app.x.test"

// gatewayClient registers a client for a gateway, at an origin of its own if none is given.
func gatewayClient(t *testing.T, s *servicetest.Service, id string, origins ...string) oauth.Client {
	t.Helper()
	c := oauth.Client{
		ID:           id,
		RedirectURIs: []string{},
		Origins:      append([]string{gatewayOrigin}, origins...),
		Grants:       []string{oauth.GrantAuthorizationCode},
		Audiences:    []string{"https://api.x.test"},
	}
	c = registerClient(t, s, c)
	if err := s.Clients.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

func newAtGateway(t *testing.T, s *servicetest.Service, clientID string) *atGateway {
	t.Helper()
	return &atGateway{
		t: t, s: s, issuer: newBrowser(t, s), query: "client_id=" + clientID, origin: gatewayOrigin, cookies: map[string]string{},
	}
}

// navigation is what a browser says of a page that a person opens.
func navigation() http.Header {
	return header("Accept", "text/html,*/*;q=0.8", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Site", "none")
}

// ask is a request at the gateway, which says of it what it was asked for.
func (g *atGateway) ask(method, uri string, h http.Header) servicetest.Response {
	g.t.Helper()
	u, err := url.Parse(g.origin)
	if err != nil {
		g.t.Fatal(err)
	}
	all := header("X-Forwarded-Method", method, "X-Forwarded-Proto", u.Scheme, "X-Forwarded-Host", u.Host, "X-Forwarded-Uri", uri,
		"X-Forwarded-For", "203.0.113.9")
	maps.Copy(all, h)
	var cookies []string
	for _, name := range slices.Sorted(maps.Keys(g.cookies)) {
		cookies = append(cookies, name+"="+g.cookies[name])
	}
	if len(cookies) > 0 {
		all.Set("Cookie", strings.Join(cookies, "; "))
	}
	r := g.s.Do(g.t, http.MethodGet, "/v1/forward-auth?"+g.query, all, nil)
	if len(r.Header.Values("Set-Cookie")) > 1 {
		g.t.Errorf("%s: several cookies, of which nginx passes on one: %v", uri, r.Header.Values("Set-Cookie"))
	}
	for _, line := range r.Header.Values("Set-Cookie") {
		cookie, err := http.ParseSetCookie(line)
		if err != nil {
			g.t.Fatal(err)
		}
		g.cookies[cookie.Name] = cookie.Value
	}
	return r
}

func (g *atGateway) open(uri string) servicetest.Response {
	g.t.Helper()
	return g.ask(http.MethodGet, uri, navigation())
}

func (g *atGateway) fetch(uri string) servicetest.Response {
	g.t.Helper()
	return g.ask(http.MethodGet, uri, header("Sec-Fetch-Mode", "cors", "Sec-Fetch-Site", "same-origin", "Accept", "*/*"))
}

// start opens a page without a login, and returns the address of the login page.
func (g *atGateway) start(uri string) string {
	g.t.Helper()
	r := g.open(uri)
	to := r.Header.Get("Location")
	if r.Status != http.StatusFound || !strings.HasPrefix(to, g.s.Config.Issuer+"/oauth2/authorize?") {
		g.t.Fatalf("%s: %d to %s\n%s", uri, r.Status, to, r.Body)
	}
	return to
}

// logInAt logs a person in at the issuer, whom the login page leads back to the gateway.
func (g *atGateway) logInAt(address, email string) (callback string) {
	g.t.Helper()
	p := g.issuer.open(address)
	if p.location == nil {
		p = g.issuer.logIn(p, email)
	}
	if p.location == nil || p.location.Scheme+"://"+p.location.Host != g.origin || p.location.Path != oauth.GatewayCallback {
		g.t.Fatalf("the login leads to %d %v\n%s", p.status, p.location, p.body)
	}
	return p.location.RequestURI()
}

// logIn takes a person through the whole flow, and returns where it ends.
func (g *atGateway) logIn(uri, email string) string {
	g.t.Helper()
	r := g.open(g.logInAt(g.start(uri), email))
	if r.Status != http.StatusFound {
		g.t.Fatalf("callback: %d %s", r.Status, r.Body)
	}
	return r.Header.Get("Location")
}

// cookie is the name of the session's cookie.
func (g *atGateway) cookie() string {
	g.t.Helper()
	for name := range g.cookies {
		if strings.Contains(name, "hs_gw_") {
			return name
		}
	}
	g.t.Fatal("no session")
	return ""
}

func gateways(t *testing.T, test func(t *testing.T, w *world, g *atGateway, p person)) {
	t.Helper()
	each(t, func(t *testing.T, w *world) {
		client := gatewayClient(t, w.Service, "gateway-"+strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name())))
		test(t, w, newAtGateway(t, w.Service, client.ID), signUp(t, w.Service))
	})
}

var gatewayCookieLine = regexp.MustCompile(`^__Host-hs_gwl?_[a-z0-9]{10}(_[A-Z0-9]{8})?=[A-Za-z0-9_-]+; Path=/; Max-Age=(\d+); ` +
	`HttpOnly; Secure; SameSite=Lax$`)

// A browser without a login is sent to the login page, comes back to where it was, and has a session like any other.
func TestGatewayLogin(t *testing.T) {
	gateways(t, func(t *testing.T, w *world, g *atGateway, p person) {
		first := g.open("/reports?year=2026&name=%C3%A9#")
		if !gatewayCookieLine.MatchString(first.Header.Get("Set-Cookie")) || first.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("set at the start: %q, %v", first.Header.Get("Set-Cookie"), first.Header)
		}
		back := g.open(g.logInAt(first.Header.Get("Location"), p.email))
		if to := back.Header.Get("Location"); to != gatewayOrigin+"/reports?year=2026&name=%C3%A9%23" {
			t.Errorf("came back to %s", to)
		}
		line := back.Header.Get("Set-Cookie")
		set := gatewayCookieLine.FindStringSubmatch(line)
		if set == nil {
			t.Fatalf("set at the end: %q", line)
		}
		if age, err := strconv.Atoi(set[2]); err != nil || time.Duration(age)*time.Second > w.Config.RefreshLifetime ||
			time.Duration(age)*time.Second < w.Config.RefreshLifetime-time.Minute {
			t.Errorf("the session's end is in %s, the cookie's in %d s", w.Config.RefreshLifetime, age)
		}
		for name, r := range map[string]servicetest.Response{"a page": g.open("/reports"), "a call": g.fetch("/api")} {
			if r.Status != http.StatusOK || r.Header.Get("X-Auth-Subject") != p.id ||
				r.Header.Get("X-Auth-Client-Id") != strings.TrimPrefix(g.query, "client_id=") ||
				!strings.HasPrefix(r.Header.Get("X-Auth-Session-Id"), "ses_") || r.Header.Values("X-Auth-Roles") == nil ||
				!strings.Contains(r.Header.Get("X-Auth-Scope"), "orders:read") {
				t.Errorf("%s: %d %v", name, r.Status, r.Header)
			}
		}
		session := g.fetch("/").Header.Get("X-Auth-Session-Id")
		devices := w.Get(t, "/v1/sessions", p.AccessToken)
		if !strings.Contains(devices.Body, session) {
			t.Errorf("my devices: %s", devices.Body)
		}
		// The other replica has never seen it.
		there := *g
		there.s = w.other
		if r := there.fetch("/"); r.Status != http.StatusOK || r.Header.Get("X-Auth-Session-Id") != session {
			t.Errorf("at the other replica: %d %s", r.Status, r.Body)
		}
		// A reload of the callback, and the other tab of the same browser.
		callback := g.logInAt(g.second(), p.email)
		for range 2 {
			if r := g.open(callback); r.Status != http.StatusFound || r.Header.Get("Location") != gatewayOrigin+"/second" {
				t.Errorf("callback with a session: %d %v", r.Status, r.Header)
			}
		}
		if r := g.fetch("/"); r.Header.Get("X-Auth-Session-Id") != session {
			t.Errorf("the session after it: %d %v", r.Status, r.Header)
		}
	})
}

// second begins another login, as a tab does that was opened before the first tab had a session.
func (g *atGateway) second() string {
	g.t.Helper()
	name := g.cookie()
	kept := g.cookies[name]
	delete(g.cookies, name)
	defer func() { g.cookies[name] = kept }()
	return g.start("/second")
}

// Whatever ends a session ends it at the gateway, on each replica; an API call is told so, and a person is asked to log in.
func TestGatewayLoginEnds(t *testing.T) {
	type ending struct {
		do      func(t *testing.T, w *world, g *atGateway, p person)
		another bool // the browser stays logged in at the issuer
	}
	for name, end := range map[string]ending{
		"logout at the issuer": {do: func(t *testing.T, w *world, g *atGateway, _ person) {
			t.Helper()
			g.issuer.submit(g.issuer.open(w.URL+"/oauth2/logout?"+g.query), "logout", nil)
		}},
		"end this session": {another: true, do: func(t *testing.T, w *world, g *atGateway, p person) {
			t.Helper()
			sid := g.fetch("/").Header.Get("X-Auth-Session-Id")
			want(t, "end", w.JSON(t, http.MethodDelete, "/v1/sessions/"+sid, p.AccessToken, nil), http.StatusNoContent, "")
		}},
		"log out everywhere": {do: func(t *testing.T, w *world, _ *atGateway, p person) {
			t.Helper()
			want(t, "end", w.JSON(t, http.MethodDelete, "/v1/sessions", p.AccessToken, nil), http.StatusNoContent, "")
		}},
		"user disabled": {do: func(t *testing.T, w *world, _ *atGateway, p person) {
			t.Helper()
			if err := w.Sessions.DisableUser(t.Context(), p.id, byOperator()); err != nil {
				t.Fatal(err)
			}
		}},
		"user deleted": {do: func(t *testing.T, w *world, _ *atGateway, p person) {
			t.Helper()
			if err := w.Sessions.DeleteUser(t.Context(), p.id, byOperator()); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			gateways(t, func(t *testing.T, w *world, g *atGateway, p person) {
				g.logIn("/", p.email)
				there := *g
				there.s = w.other
				want(t, "before, there", there.fetch("/"), http.StatusOK, "")
				want(t, "before", g.fetch("/"), http.StatusOK, "")
				end.do(t, w, g, p)
				for which, one := range map[string]*atGateway{"here": g, "there": &there} {
					servicetest.Eventually(t, "the login ends "+which, func() bool { return one.fetch("/").Status == http.StatusUnauthorized })
				}
				if r := g.fetch("/"); r.Header.Get("WWW-Authenticate") != "Bearer" || r.Header.Get("Location") != "" {
					t.Errorf("an API call: %d %v", r.Status, r.Header)
				}
				if p := g.issuer.open(g.start("/")); (p.location != nil) != end.another {
					t.Errorf("the issuer: %d %v", p.status, p.location)
				}
			})
		})
	}
}

// The roles are those of now, and the demands of the route hold for a login as for an access token.
func TestGatewayLoginDemands(t *testing.T) {
	gateways(t, func(t *testing.T, w *world, g *atGateway, p person) {
		g.logIn("/", p.email)
		plain := g.query
		ask := func(more string) servicetest.Response {
			g.query = plain + more
			return g.fetch("/")
		}
		want(t, "audience", ask("&audience=https://api.x.test"), http.StatusOK, "")
		want(t, "another audience", ask("&audience=https://other.x.test"), http.StatusForbidden, "insufficient_scope")
		want(t, "scope", ask("&scope=orders:read"), http.StatusOK, "")
		want(t, "another scope", ask("&scope=orders:write"), http.StatusForbidden, "insufficient_scope")
		want(t, "role", ask("&role=editor"), http.StatusForbidden, "insufficient_scope")
		setRoles(t, w.Service, p, "editor", "author")
		servicetest.Eventually(t, "the roles arrive", func() bool { return ask("&role=editor").Status == http.StatusOK })
		if roles := ask("").Header.Get("X-Auth-Roles"); roles != "author editor" && roles != "editor author" {
			t.Errorf("roles %q", roles)
		}
		setRoles(t, w.Service, p)
		servicetest.Eventually(t, "the roles go", func() bool { return ask("&role=editor").Status == http.StatusForbidden })
		want(t, "unknown client", w.Do(t, http.MethodGet, "/v1/forward-auth?client_id=nobody", nil, nil), http.StatusBadRequest,
			"invalid_request")
		want(t, "redirect status", ask("&redirect_status=200"), http.StatusBadRequest, "invalid_request")
	})
}

// nginx passes on 401 only. It finds the same in it.
func TestGatewayLoginWithoutRedirects(t *testing.T) {
	gateways(t, func(t *testing.T, _ *world, g *atGateway, p person) {
		g.query += "&redirect_status=401"
		r := g.open("/a")
		if r.Status != http.StatusUnauthorized || r.Header.Get("Location") == "" {
			t.Fatalf("start: %d %v", r.Status, r.Header)
		}
		r = g.open(g.logInAt(r.Header.Get("Location"), p.email))
		if r.Status != http.StatusUnauthorized || r.Header.Get("Location") != gatewayOrigin+"/a" {
			t.Fatalf("callback: %d %v", r.Status, r.Header)
		}
		want(t, "afterwards", g.open("/a"), http.StatusOK, "")
	})
}

// Only a person who waits for a page is sent to the login page.
func TestGatewayLoginForPeopleOnly(t *testing.T) {
	gateways(t, func(t *testing.T, _ *world, g *atGateway, _ person) {
		for name, r := range map[string]servicetest.Response{
			"a call":               g.fetch("/"),
			"curl":                 g.ask(http.MethodGet, "/", header("Accept", "*/*")),
			"a form":               g.ask(http.MethodPost, "/", navigation()),
			"HEAD":                 g.ask(http.MethodHead, "/", navigation()),
			"a picture":            g.ask(http.MethodGet, "/", header("Sec-Fetch-Mode", "no-cors", "Accept", "text/html")),
			"an unknown method":    g.ask("", "/", navigation()),
			"a WebSocket":          g.ask(http.MethodGet, "/", header("Sec-Fetch-Mode", "websocket", "Sec-WebSocket-Key", "x")),
			"Basic, of the caller": g.ask(http.MethodGet, "/", header("Authorization", "Basic eDp5", "Accept", "*/*")),
		} {
			if r.Status != http.StatusUnauthorized || r.Header.Get("WWW-Authenticate") != "Bearer" || r.Header.Get("Location") != "" ||
				r.Header.Get("Set-Cookie") != "" {
				t.Errorf("%s: %d %v", name, r.Status, r.Header)
			}
		}
		if r := g.ask(http.MethodGet, "/", header("Accept", "text/html,*/*")); r.Status != http.StatusFound {
			t.Errorf("an old browser: %d", r.Status)
		}
	})
}

// A page of somebody else makes a browser send its cookies along. What changes something must come from the application's own.
func TestCK02_GatewayLogin(t *testing.T) {
	gateways(t, func(t *testing.T, _ *world, g *atGateway, p person) {
		g.logIn("/", p.email)
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, "PURGE", "", "get"} {
			for name, h := range map[string]http.Header{
				"cross-site":      header("Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"),
				"subdomain":       header("Origin", "https://other.x.test", "Sec-Fetch-Site", "same-site"),
				"the issuer":      header("Origin", g.s.Config.Issuer, "Sec-Fetch-Site", "same-site"),
				"old, subdomain":  header("Origin", "https://other.x.test"),
				"another scheme":  header("Origin", "http://app.x.test"),
				"another port":    header("Origin", gatewayOrigin+":444"),
				"prefix":          header("Origin", gatewayOrigin+".evil.example"),
				"no origin":       header("Origin", "null", "Sec-Fetch-Site", "same-origin"),
				"says nothing":    header(),
				"a contradiction": header("Origin", "https://evil.example", "Sec-Fetch-Site", "same-origin"),
				"two of them":     header("Origin", gatewayOrigin, "Sec-Fetch-Site", "same-origin", "Sec-Fetch-Site", "cross-site"),
				"typed":           header("Sec-Fetch-Site", "none"),
			} {
				want(t, method+" "+name, g.ask(method, "/", h), http.StatusForbidden, "cross_site")
			}
			for name, h := range map[string]http.Header{
				"own page":      header("Origin", gatewayOrigin, "Sec-Fetch-Site", "same-origin"),
				"old, own page": header("Origin", gatewayOrigin),
				"no Origin":     header("Sec-Fetch-Site", "same-origin"),
			} {
				want(t, method+" "+name, g.ask(method, "/", h), http.StatusOK, "")
			}
		}
		socket := func(origin string) http.Header {
			return header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==", "Origin", origin)
		}
		want(t, "WebSocket of a subdomain", g.ask(http.MethodGet, "/", socket("https://other.x.test")), http.StatusForbidden,
			"cross_site")
		want(t, "own WebSocket", g.ask(http.MethodGet, "/", socket(gatewayOrigin)), http.StatusOK, "")
		link := header("Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate")
		want(t, "a link from elsewhere", g.ask(http.MethodGet, "/", link), http.StatusOK, "")
	})
}

// CK-07: an access token and a login at once are refused; an access token alone is accepted as ever.
func TestCK07_GatewayLogin(t *testing.T) {
	gateways(t, func(t *testing.T, _ *world, g *atGateway, p person) {
		token := bearer(p.AccessToken)
		want(t, "access token alone", g.ask(http.MethodPost, "/", token), http.StatusOK, "")
		want(t, "wrong one alone", g.ask(http.MethodGet, "/", bearer("x.y.z", "Accept", "text/html")), http.StatusUnauthorized,
			"invalid_token")
		g.logIn("/", p.email)
		want(t, "both", g.ask(http.MethodGet, "/", token), http.StatusBadRequest, "invalid_request")
		want(t, "both, the token wrong", g.ask(http.MethodGet, "/", bearer("x.y.z")), http.StatusBadRequest, "invalid_request")
		g.query = ""
		want(t, "where no logins are taken", g.ask(http.MethodGet, "/", token), http.StatusOK, "")
		want(t, "a login there", g.fetch("/"), http.StatusUnauthorized, "unauthorized")
	})
}

// What a stranger says about the address sends nobody anywhere, and a login counts only where it was made.
func TestGatewayLoginKeepsToItsOrigin(t *testing.T) {
	gateways(t, func(t *testing.T, w *world, g *atGateway, p person) {
		for name, h := range map[string]http.Header{
			"another host":       header("X-Forwarded-Host", "evil.example"),
			"host and ours":      header("X-Forwarded-Host", "evil.example, app.x.test"),
			"two hosts":          header("X-Forwarded-Host", "app.x.test", "X-Forwarded-Host", "evil.example"),
			"userinfo":           header("X-Forwarded-Host", "app.x.test@evil.example"),
			"a path in the host": header("X-Forwarded-Host", "evil.example/app.x.test"),
			"backslash":          header("X-Forwarded-Host", `evil.example\app.x.test`),
			"suffix":             header("X-Forwarded-Host", "app.x.test.evil.example"),
			"port":               header("X-Forwarded-Host", "app.x.test:8443"),
			"http":               header("X-Forwarded-Proto", "http"),
			"javascript":         header("X-Forwarded-Proto", "javascript"),
			"no host":            header("X-Forwarded-Host", ""),
			"no slash":           header("X-Forwarded-Uri", ".evil.example/"),
			"userinfo in path":   header("X-Forwarded-Uri", "@evil.example/"),
			"no path":            header("X-Forwarded-Uri", ""),
			"original URL":       header("X-Forwarded-Uri", "", "X-Original-URL", "https://evil.example/"),
		} {
			all := navigation()
			maps.Copy(all, h)
			if r := g.ask(http.MethodGet, "/", all); r.Status != http.StatusUnauthorized || r.Header.Get("Location") != "" {
				t.Errorf("%s: %d to %s", name, r.Status, r.Header.Get("Location"))
			}
		}
		for uri, to := range map[string]string{
			"//evil.example/":                        "//evil.example/",
			`/\evil.example`:                         `/%5Cevil.example`,
			"/a b\t\"<>":                             "/a%20b%09%22%3C%3E",
			"/p?" + strings.Repeat("long", 400):      "/p",
			"/" + strings.Repeat("long", 400) + "?x": "/",
			"/\xc3\xa9":                              "/%C3%A9",
		} {
			fresh := newAtGateway(t, w.Service, strings.TrimPrefix(g.query, "client_id="))
			if got := fresh.logIn(uri, p.email); got != gatewayOrigin+to {
				t.Errorf("%q leads to %s", uri, got)
			}
		}
		// X-Original-URL is for gateways that say it that way.
		r := w.Do(t, http.MethodGet, "/v1/forward-auth?"+g.query,
			header("Accept", "text/html", "X-Original-Method", "GET", "X-Original-Url", gatewayOrigin+"/x"), nil)
		if r.Status != http.StatusFound {
			t.Errorf("X-Original-URL: %d %s", r.Status, r.Body)
		}
	})
}

// A gateway that nobody has named is a stranger: it is told nothing about a login, and sends nobody anywhere.
func TestGatewayLoginAtUntrustedGateway(t *testing.T) {
	t.Parallel()
	db := servicetest.SQLite(t)
	trusted := servicetest.Start(t, db, func(c *service.Config) { c.TrustedProxies = []string{"127.0.0.1"} })
	s := servicetest.Start(t, db, sameIssuer(trusted), func(c *service.Config) { c.TrustedProxies = []string{"10.0.0.0/8"} })
	gatewayClient(t, trusted, "gateway")
	p := signUp(t, trusted)
	g := newAtGateway(t, trusted, "gateway")
	g.logIn("/", p.email)
	stranger := *g
	stranger.s = s
	servicetest.Eventually(t, "the replica knows the client", func() bool { return s.Clients.Knows("gateway") })
	for name, r := range map[string]servicetest.Response{
		"a login":      stranger.fetch("/"),
		"a person":     newAtGatewayLike(stranger).open("/"),
		"a page":       stranger.open("/"),
		"its callback": stranger.open(oauth.GatewayCallback + "?code=x&state=y"),
	} {
		if r.Status != http.StatusUnauthorized || r.Header.Get("Location") != "" || r.Header.Get("Set-Cookie") != "" {
			t.Errorf("%s: %d %v", name, r.Status, r.Header)
		}
	}
	if !strings.Contains(s.Log.String(), "none of the trusted proxies") {
		t.Error("the log does not tell the operator why")
	}
}

// newAtGatewayLike is another browser before the same gateway.
func newAtGatewayLike(g atGateway) *atGateway {
	g.cookies = map[string]string{}
	return &g
}

// Of a login's answer a stranger can make nothing, and a stranger's answer logs nobody in.
func TestGatewayLoginAnswers(t *testing.T) {
	gateways(t, func(t *testing.T, w *world, g *atGateway, p person) {
		other := gatewayClient(t, w.Service, strings.TrimPrefix(g.query, "client_id=")+"-other", "https://b.x.test")
		eve := newAtGatewayLike(*g)
		eve.issuer = newBrowser(t, w.Service)
		mallory := signUp(t, w.Service)
		stolen := g.logInAt(g.start("/mine"), p.email)
		refused := func(what string, r servicetest.Response) {
			t.Helper()
			want(t, what, r, http.StatusForbidden, "login_refused")
			if r.Header.Get("Set-Cookie") != "" || r.Header.Get("Location") != "" {
				t.Errorf("%s: %v", what, r.Header)
			}
		}
		refused("in another browser", eve.open(stolen))
		eve.start("/") // with a binding of its own
		refused("in a browser that logs in itself", eve.open(stolen))

		// elsewhere is the same browser before another gateway, as if the binding of the login were there, too.
		elsewhere := func(origin string) *atGateway {
			moved := newAtGatewayLike(*g)
			moved.query, moved.origin = "client_id="+other.ID, origin
			moved.start("/")
			for name := range moved.cookies {
				moved.cookies[name] = slices.Collect(maps.Values(g.cookies))[0]
			}
			return moved
		}
		refused("at another client", elsewhere(gatewayOrigin).open(stolen))
		refused("at another client and origin", elsewhere("https://b.x.test").open(stolen))

		_, query, _ := strings.Cut(stolen, "?")
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		with := func(name string, v ...string) string {
			changed := maps.Clone(values)
			changed[name] = v
			return oauth.GatewayCallback + "?" + changed.Encode()
		}
		state := values.Get("state")
		for name, uri := range map[string]string{
			"no state":     with("state"),
			"two states":   with("state", state, state),
			"cut state":    with("state", state[:len(state)-4]),
			"other state":  with("state", "hsg_AAAA"),
			"no query":     oauth.GatewayCallback,
			"broken query": oauth.GatewayCallback + "?%zz",
			"an error":     oauth.GatewayCallback + "?error=access_denied&state=" + state,
			"no code":      with("code"),
			"two codes":    with("code", values.Get("code"), values.Get("code")),
		} {
			refused(name, g.open(uri))
		}
		// None of this has used the code up.
		if r := g.open(stolen); r.Status != http.StatusFound || r.Header.Get("Location") != gatewayOrigin+"/mine" {
			t.Fatalf("at last: %d %v %s", r.Status, r.Header, r.Body)
		}
		want(t, "afterwards", g.fetch("/"), http.StatusOK, "")

		// Shown again without the session that it gave: that ends, and the person logs in again, once.
		again := newAtGatewayLike(*g)
		for name, value := range g.cookies {
			if name != g.cookie() {
				again.cookies[name] = value
			}
		}
		r := again.open(stolen)
		if r.Status != http.StatusFound || !strings.HasPrefix(r.Header.Get("Location"), w.Config.Issuer+"/oauth2/authorize?") {
			t.Fatalf("replay: %d %v %s", r.Status, r.Header, r.Body)
		}
		servicetest.Eventually(t, "the session of a code that was shown twice ends", func() bool {
			return g.fetch("/").Status == http.StatusUnauthorized
		})
		next := again.logInAt(r.Header.Get("Location"), p.email)
		fresh := *again
		fresh.cookies = maps.Clone(again.cookies)
		if r := again.open(next); r.Header.Get("Location") != gatewayOrigin+"/mine" {
			t.Errorf("after the replay: %d %v", r.Status, r.Header)
		}
		refused("no endless chain of logins", fresh.open(next))

		// Login CSRF: what the attacker's login was answered with, in the browser of somebody else.
		planted := eve.logInAt(eve.start("/"), mallory.email)
		victim := newAtGatewayLike(*g)
		victim.start("/")
		refused("login CSRF", victim.open(planted))
		want(t, "the victim", victim.fetch("/"), http.StatusUnauthorized, "unauthorized")
	})
}

// A request for the callback of a gateway is one that the gateway has made, to the letter.
func TestAS01_GatewayCallback(t *testing.T) {
	gateways(t, func(t *testing.T, w *world, g *atGateway, _ person) {
		made, err := url.Parse(g.start("/"))
		if err != nil {
			t.Fatal(err)
		}
		other := gatewayClient(t, w.Service, strings.TrimPrefix(g.query, "client_id=")+"-other", "https://b.x.test")
		b := newBrowser(t, w.Service)
		for name, changes := range map[string]map[string]string{
			"challenge of the attacker": {"code_challenge": challenge()},
			"no state":                  {"state": ""},
			"state of the attacker":     {"state": "hsg_AAAA"},
			"another client":            {"client_id": other.ID},
			"another origin":            {"redirect_uri": "https://b.x.test" + oauth.GatewayCallback},
			"another client's origin":   {"redirect_uri": "https://b.x.test" + oauth.GatewayCallback, "client_id": other.ID},
			"no origin of anybody":      {"redirect_uri": "https://evil.example" + oauth.GatewayCallback},
			"another path":              {"redirect_uri": gatewayOrigin + "/callback"},
			"a longer path":             {"redirect_uri": gatewayOrigin + "/x" + oauth.GatewayCallback},
			"a query":                   {"redirect_uri": gatewayOrigin + oauth.GatewayCallback + "?x"},
			"left out":                  {"redirect_uri": ""},
		} {
			query := made.Query()
			for name, v := range changes {
				query.Set(name, v)
			}
			p := b.open(w.URL + "/oauth2/authorize?" + query.Encode())
			if p.status != http.StatusBadRequest || p.location != nil || p.has("login") {
				t.Errorf("%s: %d %v", name, p.status, p.location)
			}
		}
		if p := b.open(made.String()); !p.has("login") {
			t.Errorf("the request itself: %d\n%s", p.status, p.body)
		}
	})
}

// A cookie that is none of this client's at this origin is no login, and never a fault.
func TestGatewayLoginCookies(t *testing.T) {
	gateways(t, func(t *testing.T, w *world, g *atGateway, p person) {
		g.logIn("/", p.email)
		name := g.cookie()
		value := g.cookies[name]
		raw, err := base64.RawURLEncoding.DecodeString(value)
		if err != nil {
			t.Fatal(err)
		}
		var binding string
		for other, v := range g.cookies {
			if other != name {
				binding = v
			}
		}
		login := g.issuer.cookies()["handstamp_login"].Value
		cookies := map[string]string{
			"empty": "", "garbage": "x", "cut": value[:len(value)-5], "longer": value + "AAAA", "its half": value[:len(value)/2],
			"the issuer's": login, "a binding": binding, "access token": p.AccessToken, "refresh token": p.RefreshToken,
			"not base64": value + "=", "spaces": value[:8] + " " + value[8:], "large": strings.Repeat("A", 4000), "unicode": "\xc3\xa9",
		}
		for i := range raw {
			changed := slices.Clone(raw)
			changed[i] ^= 1
			cookies[fmt.Sprintf("byte %d", i)] = base64.RawURLEncoding.EncodeToString(changed)
		}
		const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
		if last := strings.IndexByte(letters, value[len(value)-1]); len(value)%4 != 0 { // bits that mean nothing
			cookies["last letter"] = value[:len(value)-1] + letters[last^1:last^1+1]
		}
		for what, forged := range cookies {
			g.cookies[name] = forged
			want(t, what, g.fetch("/"), http.StatusUnauthorized, "unauthorized")
			if r := g.open("/"); r.Status != http.StatusFound || !strings.Contains(r.Header.Get("Location"), "/oauth2/authorize?") {
				t.Errorf("%s: a person gets %d %s", what, r.Status, r.Body)
			}
		}
		g.cookies[name] = value
		want(t, "itself", g.fetch("/"), http.StatusOK, "")
		twice := header("X-Forwarded-Method", "GET", "X-Forwarded-Proto", "https", "X-Forwarded-Host", "app.x.test",
			"X-Forwarded-Uri", "/", "Cookie", name+"="+value+"; "+name+"="+value)
		want(t, "twice", w.Do(t, http.MethodGet, "/v1/forward-auth?"+g.query, twice, nil), http.StatusUnauthorized, "unauthorized")

		// At another client, under that one's name.
		other := gatewayClient(t, w.Service, strings.TrimPrefix(g.query, "client_id=")+"-other", "https://b.x.test")
		there := newAtGateway(t, w.Service, other.ID)
		there.logIn("/", p.email)
		there.cookies[there.cookie()] = value
		want(t, "at another client", there.fetch("/"), http.StatusUnauthorized, "unauthorized")

		// At another origin of the same client, which has sessions of its own.
		there = newAtGateway(t, w.Service, other.ID)
		there.logIn("/", p.email)
		there.origin = "https://b.x.test"
		want(t, "at another origin", there.fetch("/"), http.StatusUnauthorized, "unauthorized")

		// Without https the cookie has another name, and counts for nothing.
		there.origin = "http://app.x.test"
		want(t, "without https", there.fetch("/"), http.StatusUnauthorized, "unauthorized")
	})
}

// A login that is fresh costs no query. Once an access token would have expired, one session is asked about once, also if many
// requests come at once; and when the storage fails, nobody is logged out.
func TestGatewayLoginCosts(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		var counted *storetest.Failing
		db.Wrap = func(s store.Store) store.Store { counted = storetest.Fail(s, 0, storetest.Before); return counted }
		s := servicetest.Start(t, db, func(c *service.Config) {
			c.TrustedProxies = []string{"127.0.0.1"}
		})
		gatewayClient(t, s, "gateway")
		p := signUp(t, s)
		g := newAtGateway(t, s, "gateway")
		g.logIn("/", p.email)
		asked := []string{"Session", "Sessions", "Rotate", "Repeat", "UserByID", "Client", "BrowserSession", "Code"}
		counted.Arm(0, storetest.Before, asked...)
		for range 20 {
			want(t, "fresh", g.fetch("/"), http.StatusOK, "")
		}
		if n := counted.Calls(); n != 0 {
			t.Errorf("20 requests made %d statements", n)
		}
		setRoles(t, s, p, "editor") // the session has to be asked about
		servicetest.Eventually(t, "the roles arrive", func() bool { return g.fetch("/").Header.Get("X-Auth-Roles") == "editor" })
		for _, when := range []storetest.When{storetest.Before, storetest.After} {
			for n := 1; ; n++ {
				setRoles(t, s, p, fmt.Sprintf("role-%d-%s", n, when))
				if err := s.Blocklist.Sync(t.Context()); err != nil {
					t.Fatal(err)
				}
				counted.Arm(n, when, "Session", "Rotate", "Repeat")
				r := g.fetch("/")
				if counted.Failed() == "" {
					want(t, "nothing failed", r, http.StatusOK, "")
					break
				}
				want(t, fmt.Sprintf("%s %s", when, counted.Failed()), r, http.StatusServiceUnavailable, "unavailable")
				want(t, "again", g.fetch("/"), http.StatusOK, "")
			}
		}
	})
}
