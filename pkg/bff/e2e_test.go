package bff_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/bff"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/session"
)

// kinds runs a test with sealed cookies and with a store.
func kinds(t *testing.T, test func(t *testing.T, store func() bff.Store)) {
	t.Helper()
	t.Run("sealed", func(t *testing.T) { t.Parallel(); test(t, func() bff.Store { return nil }) })
	t.Run("stored", func(t *testing.T) {
		t.Parallel()
		shared := bff.NewMemory()
		test(t, func() bff.Store { return shared })
	})
}

var testKey = []byte("0123456789abcdef0123456789ABCDEF")

// world is a real service with a registered application, of which any number of replicas run behind one address.
type world struct {
	*servicetest.Service
	url    string // of the application
	log    *servicetest.Log
	now    atomic.Pointer[app] // the replica behind the address
	secret string
}

// app is one replica of the application.
type app struct {
	*bff.BFF
	http.Handler
	calls atomic.Int64
}

func newWorld(t *testing.T, change ...func(*service.Config)) *world {
	t.Helper()
	w := &world{
		Service: servicetest.Start(t, servicetest.SQLite(t), change...),
		secret:  "secret-of-app-0123456789abcdef0123456789",
		log:     &servicetest.Log{},
	}
	front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.now.Load().ServeHTTP(rw, r) }))
	t.Cleanup(front.Close)
	w.url = strings.Replace(front.URL, "127.0.0.1", "localhost", 1) // another host than the issuer's, which has cookies of its own
	c := oauth.Client{
		ID:                     "app",
		Type:                   oauth.Confidential,
		SecretHash:             oauth.HashSecret(w.secret),
		RedirectURIs:           []string{w.url + "/auth/callback"},
		PostLogoutRedirectURIs: []string{w.url + "/"},
		BackchannelLogoutURI:   front.URL + "/auth/backchannel-logout",
		Grants:                 []string{oauth.GrantAuthorizationCode, oauth.GrantRefreshToken},
		Scopes:                 []string{"openid", "profile", "email", "orders:read"},
		CreatedAt:              time.Now(),
		UpdatedAt:              time.Now(),
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	if err := w.Store.CreateClient(t.Context(), c, audit.Event{
		At:       time.Now(),
		Kind:     audit.KindClientCreated,
		Actor:    audit.ActorCLI,
		ClientID: c.ID,
	}); err != nil {
		t.Fatal(err)
	}
	if err := w.Clients.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w
}

// start starts a replica of the application and puts it behind the address.
func (w *world) start(t *testing.T, store bff.Store, change ...func(*bff.Config)) *app {
	t.Helper()
	config := bff.Config{
		URL:          w.url,
		ClientID:     "app",
		ClientSecret: w.secret,
		Keys:         [][]byte{testKey},
		Store:        store,
		Scope:        []string{"openid", "profile", "email", "orders:read"},
		Log:          slog.New(slog.NewTextHandler(w.log, nil)),
	}
	for _, f := range change {
		f(&config)
	}
	b, err := bff.New(t.Context(), w.URL, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	a := &app{BFF: b}
	api := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		http.SetCookie(rw, &http.Cookie{Name: "session", Value: "planted"})
		http.SetCookie(rw, &http.Cookie{Name: "own", Value: "kept"})
		body, _ := io.ReadAll(r.Body)
		_ = json.NewEncoder(rw).Encode(map[string]any{"path": r.URL.Path, "header": r.Header, "body": string(body)})
	}))
	t.Cleanup(api.Close)
	target, _ := url.Parse(api.URL)
	page := func(text string) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			a.calls.Add(1)
			s, ok := bff.SessionFrom(r.Context())
			if !ok {
				fmt.Fprintf(rw, "%s: nobody", text)
				return
			}
			body, _ := io.ReadAll(r.Body)
			fmt.Fprintf(rw, "%s: %s %v csrf=%s body=%s", text, s.Claims.Subject, s.Claims.Roles, s.CSRFToken(), body)
		})
	}
	mux := http.NewServeMux()
	mux.Handle("/auth/", b.Handler())
	mux.Handle("/", page("open"))
	mux.Handle("/private", b.RequireUser(page("private")))
	mux.Handle("/admin", b.RequireRole("admin")(page("admin")))
	mux.Handle("/orders", b.RequireScope("orders:write")(page("orders")))
	mux.Handle("/recent", b.RequireRecent(time.Hour)(page("recent")))
	mux.Handle("/api/", http.StripPrefix("/api", b.Proxy(target)))
	a.Handler = b.Middleware(mux)
	w.now.Store(a)
	return a
}

// endAll ends all sessions of a user, as an operator does.
func (w *world) endAll(t *testing.T, subject string) {
	t.Helper()
	by := session.By{Actor: audit.ActorCLI}
	if _, err := w.Sessions.EndAll(t.Context(), subject, session.ID{}, session.ReasonRevoked, by); err != nil {
		t.Fatal(err)
	}
}

// browser is a person's browser without script.
type browser struct {
	t      *testing.T
	w      *world
	client *http.Client
}

type answer struct {
	status int
	header http.Header
	body   string
	at     *url.URL
}

func newBrowser(t *testing.T, w *world) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{t, w, &http.Client{Jar: jar, Transport: &http.Transport{DisableKeepAlives: true}}}
}

// staying returns the same browser, which follows no redirect.
func (b *browser) staying() *browser {
	c := *b.client
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &browser{b.t, b.w, &c}
}

func (b *browser) send(method, address string, body io.Reader, header ...string) answer {
	b.t.Helper()
	if strings.HasPrefix(address, "/") {
		address = b.w.url + address
	}
	r, err := http.NewRequestWithContext(b.t.Context(), method, address, body)
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Accept", "text/html")
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	response, err := b.client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, string(text), response.Request.URL}
}

func (b *browser) get(address string, header ...string) answer {
	b.t.Helper()
	return b.send(http.MethodGet, address, nil, header...)
}

// post sends a form as a page of the same origin does.
func (b *browser) post(address string, values url.Values, header ...string) answer {
	b.t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		b.t.Fatal(err)
	}
	origin := b.w.url
	if u.Host != "" {
		origin = u.Scheme + "://" + u.Host
	}
	return b.send(http.MethodPost, address, strings.NewReader(values.Encode()), append([]string{"Origin", origin, "Sec-Fetch-Site",
		"same-origin", "Content-Type", "application/x-www-form-urlencoded"}, header...)...)
}

var (
	loginForm = regexp.MustCompile(`(?s)<form[^>]*id="login"[^>]*>(.*?)</form>`)
	actionOf  = regexp.MustCompile(`action="([^"]*)"`)
	hidden    = regexp.MustCompile(`<input[^>]*type="hidden"[^>]*name="([^"]*)"[^>]*value="([^"]*)"`)
	csrfOf    = regexp.MustCompile(`csrf=([A-Za-z0-9_-]+)`)
)

// fill fills in the login page of the issuer.
func (b *browser) fill(p answer, email string) answer {
	b.t.Helper()
	m := loginForm.FindStringSubmatch(p.body)
	if m == nil {
		b.t.Fatalf("no login page: %d %s\n%s", p.status, p.at, p.body)
	}
	values := url.Values{"email": {email}, "password": {servicetest.Password}}
	for _, h := range hidden.FindAllStringSubmatch(m[1], -1) {
		values.Set(html.UnescapeString(h[1]), html.UnescapeString(h[2]))
	}
	action, err := p.at.Parse(html.UnescapeString(actionOf.FindStringSubmatch(m[0])[1]))
	if err != nil {
		b.t.Fatal(err)
	}
	return b.post(action.String(), values)
}

// logIn opens a page that wants a login, and logs in.
func (b *browser) logIn(email string) answer {
	b.t.Helper()
	p := b.get("/private?page=1")
	if strings.HasPrefix(p.at.String(), b.w.URL) {
		p = b.fill(p, email)
	}
	if p.status != http.StatusOK || p.at.RequestURI() != "/private?page=1" || !strings.HasPrefix(p.body, "private: usr_") {
		b.t.Fatalf("no login: %d %s\n%s\n%s", p.status, p.at, p.body, b.w.log)
	}
	return p
}

func (a answer) csrf() string { return csrfOf.FindStringSubmatch(a.body)[1] }

// cookies are what the browser sends to the application, by name.
func (b *browser) cookies() map[string]string {
	u, _ := url.Parse(b.w.url)
	found := map[string]string{}
	for _, c := range b.client.Jar.Cookies(u) {
		found[c.Name] = c.Value
	}
	return found
}

// copied returns a browser with the same cookies of the application.
func (b *browser) copied() *browser {
	other := newBrowser(b.t, b.w)
	u, _ := url.Parse(b.w.url)
	other.client.Jar.SetCookies(u, b.client.Jar.Cookies(u))
	return other
}

func (b *browser) loggedIn() bool {
	b.t.Helper()
	return b.staying().get("/private").status == http.StatusOK
}

func TestLogin(t *testing.T) {
	kinds(t, func(t *testing.T, store func() bff.Store) {
		w := newWorld(t)
		w.start(t, store())
		w.SignUp(t, "ann@example.com")
		b := newBrowser(t, w)
		if p := b.get("/"); p.body != "open: nobody" {
			t.Fatal(p.body)
		}
		p := b.logIn("ann@example.com")
		if p.header.Get("Cache-Control") != "no-store" {
			t.Errorf("headers %v", p.header)
		}
		for name := range b.cookies() {
			if strings.Contains(name, "-login-") {
				t.Errorf("cookie %s is left", name)
			}
		}
		me := b.get("/auth/me", "Accept", "application/json")
		var answer struct {
			Sub, Email, Scope string
			CSRF              string `json:"csrf_token"`
			Roles             []string
		}
		if err := json.Unmarshal([]byte(me.body), &answer); err != nil || answer.Email != "ann@example.com" || answer.CSRF == "" ||
			!strings.Contains(p.body, answer.Sub) {
			t.Errorf("me: %d %s", me.status, me.body)
		}
		for path, status := range map[string]int{"/admin": http.StatusForbidden, "/orders": http.StatusForbidden} {
			if p := b.get(path); p.status != status || p.at.Path != path {
				t.Errorf("%s: %d at %s", path, p.status, p.at)
			}
		}
		if p := newBrowser(t, w).get("/auth/me", "Accept", "application/json"); p.status != http.StatusUnauthorized ||
			!strings.HasPrefix(p.header.Get("WWW-Authenticate"), "Bearer") {
			t.Errorf("me of nobody: %d %v", p.status, p.header)
		}
		if p := newBrowser(t, w).get("/private", "Sec-Fetch-Mode", "cors"); p.status != http.StatusUnauthorized {
			t.Errorf("script without session: %d", p.status)
		}
	})
}

// Each tab has a login of its own, whichever ends first.
func TestLoginInSeveralTabs(t *testing.T) {
	w := newWorld(t)
	w.start(t, nil)
	w.SignUp(t, "ann@example.com")
	b := newBrowser(t, w)
	one, two := b.get("/private?tab=1"), b.get("/private?tab=2")
	if p := b.fill(one, "ann@example.com"); p.at.RequestURI() != "/private?tab=1" || p.status != http.StatusOK {
		t.Errorf("first tab: %d %s", p.status, p.at)
	}
	if p := b.fill(two, "ann@example.com"); p.at.RequestURI() != "/private?tab=2" || p.status != http.StatusOK {
		t.Errorf("second tab: %d %s", p.status, p.at)
	}
	for range 20 {
		b.staying().get("/auth/login")
	}
	if n := len(b.cookies()); n > 10 {
		t.Errorf("%d cookies", n)
	}
}

func TestReturnTo(t *testing.T) {
	w := newWorld(t)
	w.start(t, nil)
	w.SignUp(t, "ann@example.com")
	for name, c := range map[string]struct{ to, want string }{
		"ok/path":              {"/x?y=%2F&z=1#f", "/x?y=%2F&z=1"},
		"fail/host":            {"//evil.example/", "/"},
		"fail/scheme":          {"https://evil.example/", "/"},
		"fail/script":          {"javascript:alert(1)", "/"},
		"fail/backslash":       {`/\evil.example`, "/"},
		"fail/tab":             {"/\t/evil.example", "/"},
		"fail/line":            {"/\n/evil.example", "/"},
		"fail/encoded slashes": {"/%2fevil.example/", "/"},
		"fail/login":           {"/auth/login", "/"},
		"fail/relative":        {"evil.example", "/"},
		"fail/too long":        {"/" + strings.Repeat("x", 5000), "/"},
		"fail/user":            {"/@evil.example\x7f", "/"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBrowser(t, w)
			p := b.fill(b.get("/auth/login?return_to="+url.QueryEscape(c.to)), "ann@example.com")
			if p.at.Host != strings.TrimPrefix(w.url, "http://") || p.at.RequestURI() != c.want || p.status != http.StatusOK {
				t.Errorf("came to %s", p.at)
			}
		})
	}
}

func TestLogout(t *testing.T) {
	kinds(t, func(t *testing.T, store func() bff.Store) {
		w := newWorld(t)
		w.start(t, store())
		w.SignUp(t, "ann@example.com")
		b := newBrowser(t, w)
		p := b.logIn("ann@example.com")
		thief := b.copied()
		if !thief.loggedIn() {
			t.Fatal("the copy does not work")
		}
		if p := b.post("/auth/logout", nil); p.status != http.StatusForbidden || !b.loggedIn() {
			t.Fatalf("without token: %d", p.status)
		}
		if p := b.get("/auth/logout"); p.status != http.StatusMethodNotAllowed || !b.loggedIn() {
			t.Fatalf("by GET: %d", p.status)
		}
		end := b.post("/auth/logout", url.Values{"csrf_token": {p.csrf()}})
		if end.body != "open: nobody" || end.at.String() != w.url+"/" {
			t.Fatalf("logout: %d at %s\n%s", end.status, end.at, end.body)
		}
		if len(b.cookies()) != 0 {
			t.Errorf("cookies are left: %v", b.cookies())
		}
		if thief.loggedIn() {
			t.Error("the cookie is a session after the logout")
		}
		if p := b.get("/private"); !strings.HasPrefix(p.at.String(), w.URL) || !loginForm.MatchString(p.body) {
			t.Errorf("the issuer did not log out: %s", p.at)
		}
		// Another process, which was not there, does not believe the copy either.
		w.start(t, store())
		servicetest.Eventually(t, "the copy is refused elsewhere", func() bool { return !thief.loggedIn() })
	})
}

// What ends at the issuer ends here: without back-channel, by the feed alone, and in each process.
func TestEndAtTheIssuer(t *testing.T) {
	kinds(t, func(t *testing.T, store func() bff.Store) {
		w := newWorld(t)
		a := w.start(t, store())
		tokens := w.SignUp(t, "ann@example.com")
		b := newBrowser(t, w)
		b.logIn("ann@example.com")
		subject, _ := servicetest.Claims(t, tokens.AccessToken)["sub"].(string)
		w.endAll(t, subject)
		servicetest.Eventually(t, "the session ends", func() bool { return !b.loggedIn() })
		calls := a.calls.Load()
		if b.loggedIn() || a.calls.Load() != calls {
			t.Error("it came back")
		}
	})
}

func TestRolesChange(t *testing.T) {
	kinds(t, func(t *testing.T, store func() bff.Store) {
		w := newWorld(t)
		w.start(t, store())
		tokens := w.SignUp(t, "ann@example.com")
		subject, _ := servicetest.Claims(t, tokens.AccessToken)["sub"].(string)
		b := newBrowser(t, w)
		b.logIn("ann@example.com")
		if p := b.get("/admin"); p.status != http.StatusForbidden {
			t.Fatal(p.status)
		}
		for _, roles := range [][]string{{"admin"}, {"editor"}} {
			if err := w.Sessions.SetRoles(t.Context(), subject, roles, session.By{Actor: audit.ActorCLI}); err != nil {
				t.Fatal(err)
			}
			want := http.StatusForbidden
			if roles[0] == "admin" {
				want = http.StatusOK
			}
			begin := time.Now()
			servicetest.Eventually(t, "the roles are known", func() bool {
				p := b.get("/admin")
				if !strings.HasPrefix(p.at.String(), w.url) {
					t.Fatalf("logged out: %s", p.at)
				}
				return p.status == want
			})
			t.Logf("roles %v after %v", roles, time.Since(begin))
		}
	})
}

// A user who authenticates again has another session, and the one before is over (session fixation).
func TestStepUp(t *testing.T) {
	kinds(t, func(t *testing.T, store func() bff.Store) {
		w := newWorld(t)
		w.start(t, store())
		w.SignUp(t, "ann@example.com")
		b := newBrowser(t, w)
		b.logIn("ann@example.com")
		before, old := b.copied(), b.cookies()["session"]
		if p := b.get("/recent"); p.status != http.StatusOK {
			t.Fatalf("just logged in: %d at %s", p.status, p.at)
		}
		p := b.get("/auth/login?max_age=0&prompt=login&return_to=/recent")
		if !strings.HasPrefix(p.at.String(), w.URL) {
			t.Fatalf("not asked again: %s", p.at)
		}
		if p = b.fill(p, "ann@example.com"); p.status != http.StatusOK || p.at.RequestURI() != "/recent" {
			t.Fatalf("%d at %s", p.status, p.at)
		}
		if b.cookies()["session"] == old {
			t.Error("the cookie is the same")
		}
		servicetest.Eventually(t, "the session before has ended", func() bool { return !before.loggedIn() })
		if !b.loggedIn() {
			t.Error("the new one has ended")
		}
	})
}

func TestBackchannelLogout(t *testing.T) {
	kinds(t, func(t *testing.T, store func() bff.Store) {
		w := newWorld(t)
		w.start(t, store())
		tokens := w.SignUp(t, "ann@example.com")
		b := newBrowser(t, w)
		b.logIn("ann@example.com")
		subject, _ := servicetest.Claims(t, tokens.AccessToken)["sub"].(string)
		var got atomic.Pointer[string]
		a := w.now.Load()
		w.now.Store(&app{BFF: a.BFF, Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/auth/backchannel-logout" {
				a.ServeHTTP(rw, r)
				return
			}
			body, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(body))
			recorder := httptest.NewRecorder()
			a.ServeHTTP(recorder, r)
			got.Store(new(fmt.Sprintf("%d %s", recorder.Code, body)))
			rw.WriteHeader(recorder.Code)
		})})
		w.endAll(t, subject)
		servicetest.Eventually(t, "a logout token comes", func() bool { return got.Load() != nil })
		status, body, _ := strings.Cut(*got.Load(), " ")
		if status != "200" || b.loggedIn() {
			t.Fatalf("logout token: %s\n%s", *got.Load(), w.log)
		}
		values, err := url.ParseQuery(body)
		if err != nil {
			t.Fatal(err)
		}
		if p := newBrowser(t, w).send(http.MethodPost, "/auth/backchannel-logout", strings.NewReader(values.Encode()), "Content-Type",
			"application/x-www-form-urlencoded"); p.status != http.StatusBadRequest {
			t.Errorf("the same token again: %d", p.status)
		}
	})
}

func TestProxy(t *testing.T) {
	kinds(t, func(t *testing.T, store func() bff.Store) {
		w := newWorld(t)
		w.start(t, store())
		w.SignUp(t, "ann@example.com")
		b := newBrowser(t, w)
		if p := b.get("/api/orders"); p.status != http.StatusUnauthorized || p.at.Path != "/api/orders" {
			t.Errorf("without session: %d at %s", p.status, p.at)
		}
		token := b.logIn("ann@example.com").csrf()
		u, _ := url.Parse(w.url)
		b.client.Jar.SetCookies(u, []*http.Cookie{{Name: "theme", Value: "dark"}, {Name: "session-login-aa", Value: "x"}})
		p := b.send(http.MethodPost, "/api/orders?x=1", strings.NewReader(`{"n":1}`), "Authorization", "Bearer stranger",
			"X-CSRF-Token", token, "Origin", w.url, "Content-Type", "application/json")
		var got struct {
			Path, Body string
			Header     http.Header
		}
		if err := json.Unmarshal([]byte(p.body), &got); err != nil {
			t.Fatalf("%d %s", p.status, p.body)
		}
		authorization := got.Header["Authorization"]
		if got.Path != "/orders" || got.Body != `{"n":1}` || len(authorization) != 1 ||
			strings.Count(authorization[0], ".") != 2 || got.Header.Get("Cookie") != "theme=dark" || got.Header.Get("X-Csrf-Token") != "" {
			t.Errorf("the API got %+v", got)
		}
		if lines := p.header["Set-Cookie"]; len(lines) != 1 || !strings.HasPrefix(lines[0], "own=") {
			t.Errorf("the API set %v", lines)
		}
	})
}
