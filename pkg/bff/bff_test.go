package bff

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/handstamp/handstamp/pkg/verifier"
)

// eachKind runs a test in a bubble, with sealed cookies and with a store.
func eachKind(t *testing.T, test func(t *testing.T, kind func(*Config))) {
	t.Helper()
	t.Run("sealed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { test(t, func(*Config) {}) })
	})
	t.Run("stored", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			store := NewMemory()
			test(t, func(c *Config) { c.Store = store })
		})
	})
}

func TestConfig(t *testing.T) {
	f := newFakeIssuer(t)
	for name, change := range map[string]func(*Config){
		"fail/no URL":            func(c *Config) { c.URL = "" },
		"fail/URL with path":     func(c *Config) { c.URL = "https://app.example/" },
		"fail/http":              func(c *Config) { c.URL = "http://app.example" },
		"fail/no client":         func(c *Config) { c.ClientID = "" },
		"fail/no keys":           func(c *Config) { c.Keys = nil },
		"fail/short key":         func(c *Config) { c.Keys = [][]byte{testKey[1:]} },
		"fail/key of zeros":      func(c *Config) { c.Keys = [][]byte{make([]byte, KeySize)} },
		"fail/prefix":            func(c *Config) { c.Prefix = "/auth/" },
		"fail/foreign prefix":    func(c *Config) { c.Prefix = "//evil" },
		"fail/cookie name":       func(c *Config) { c.CookieName = "a;b" },
		"fail/idle":              func(c *Config) { c.IdleLifetime = 2 * DefaultLifetime },
		"fail/limit without one": func(c *Config) { c.MaxSessions = 3 },
		"fail/logout path":       func(c *Config) { c.LogoutPath = "https://evil.example" },
		"ok/loopback":            func(c *Config) { c.URL = "http://app.localhost:3000" },
		"ok/plain":               func(*Config) {},
	} {
		t.Run(name, func(t *testing.T) {
			config := Config{URL: testURL, ClientID: "app", Keys: [][]byte{testKey}, HTTPClient: &http.Client{Transport: f},
				Verifier: []verifier.Option{verifier.WithoutFeed()}}
			change(&config)
			b, err := New(t.Context(), testIssuer, config)
			if err == nil {
				b.Close()
			}
			if strings.HasPrefix(name, "ok/") != (err == nil) {
				t.Error(err)
			}
		})
	}
}

// CK-01: what every cookie has, at setting and at clearing.
func TestCK01_CookieAttributes(t *testing.T) {
	for address, c := range map[string]struct{ prefix, secure string }{
		testURL:                 {"__Host-", "; Secure"},
		"http://localhost:3000": {"", ""},
	} {
		f := newFakeIssuer(t)
		b := f.open(t, func(c *Config) { c.URL = address })
		v := application(t, b)
		var lines []string
		v.handler = recording(v.handler, &lines)
		v.logIn(f)
		r := httptest.NewRequest(http.MethodPost, address+"/auth/logout", nil)
		r.Header.Set(CSRFHeader, tokenOf(t, b, v))
		v.send(r)
		want := []string{
			c.prefix + "session-login-*; Path=/; Max-Age=600; HttpOnly%; SameSite=Lax",
			c.prefix + "session-login-*; Path=/; Max-Age=0; HttpOnly%; SameSite=Lax",
			c.prefix + "session; Path=/; Max-Age=2592000; HttpOnly%; SameSite=Lax",
			c.prefix + "session; Path=/; Max-Age=0; HttpOnly%; SameSite=Lax",
		}
		for i := range want {
			want[i] = strings.Replace(want[i], "%", c.secure, 1)
		}
		if !slices.Equal(lines, want) {
			t.Errorf("cookies\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
		}
	}
}

// recording keeps the Set-Cookie lines without their values.
func recording(next http.Handler, lines *[]string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r)
		for _, line := range w.Header()["Set-Cookie"] {
			nameValue, attributes, _ := strings.Cut(line, ";")
			name, _, _ := strings.Cut(nameValue, "=")
			if at := strings.Index(name, "-login-"); at >= 0 {
				name = name[:at] + "-login-*"
			}
			*lines = append(*lines, name+";"+attributes)
		}
	})
}

// tokenOf is a CSRF token of the session that a browser has.
func tokenOf(t testing.TB, b *BFF, v *visitor) string {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, testURL, nil)
	for name, value := range v.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	s, err := b.read(r)
	if err != nil {
		t.Fatal(err)
	}
	return (&Session{state: s, bff: b}).CSRFToken()
}

func TestAuthorizationRequest(t *testing.T) {
	f := newFakeIssuer(t)
	v := application(t, f.open(t))
	one := v.authorize("/auth/login?prompt=login&max_age=60&login_hint=ann&scope=admin&redirect_uri=https://evil.example&state=x")
	two := v.authorize("/auth/login")
	for name, want := range map[string]string{
		"response_type": "code", "client_id": "app", "redirect_uri": testURL + "/auth/callback", "scope": "openid", "prompt": "login",
		"max_age": "60", "login_hint": "ann", "code_challenge_method": "S256",
	} {
		if one.Get(name) != want {
			t.Errorf("%s=%q, want %q", name, one.Get(name), want)
		}
	}
	for _, name := range []string{"state", "nonce", "code_challenge"} {
		if len(one.Get(name)) < 26 || one.Get(name) == two.Get(name) {
			t.Errorf("%s=%q, then %q", name, one.Get(name), two.Get(name))
		}
	}
}

// What comes to the callback without a login of this browser, from another issuer, or with other tokens, is no login: OA-01 and
// CK-03 (login CSRF).
func TestCallback(t *testing.T) {
	for name, c := range map[string]struct {
		path    string
		changes []string // of the callback
		claims  map[string]any
		access  map[string]any
		fail    int // of the token endpoint
		status  int
	}{
		"ok":                          {status: http.StatusSeeOther},
		"ok/no at_hash":               {claims: map[string]any{"at_hash": nil}, status: http.StatusSeeOther},
		"ok/audience in a list":       {claims: map[string]any{"aud": []string{"app"}}, status: http.StatusSeeOther},
		"fail/no state":               {changes: []string{"state", ""}, status: http.StatusBadRequest},
		"fail/another state":          {changes: []string{"state", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}, status: http.StatusBadRequest},
		"fail/no iss":                 {changes: []string{"iss", ""}, status: http.StatusBadRequest},
		"fail/another issuer":         {changes: []string{"iss", "https://evil.example"}, status: http.StatusBadRequest},
		"fail/issuer with slash":      {changes: []string{"iss", testIssuer + "/"}, status: http.StatusBadRequest},
		"fail/no code":                {changes: []string{"code", ""}, status: http.StatusBadRequest},
		"fail/cancelled":              {changes: []string{"error", "access_denied", "code", ""}, status: http.StatusBadRequest},
		"fail/code and error":         {changes: []string{"error", "access_denied"}, status: http.StatusBadRequest},
		"fail/code refused":           {fail: http.StatusBadRequest, status: http.StatusBadRequest},
		"fail/issuer has a fault":     {fail: http.StatusServiceUnavailable, status: http.StatusServiceUnavailable},
		"fail/issuer is gone":         {fail: -1, status: http.StatusServiceUnavailable},
		"fail/another nonce":          {claims: map[string]any{"nonce": "x"}, status: http.StatusBadGateway},
		"fail/no nonce":               {claims: map[string]any{"nonce": nil}, status: http.StatusBadGateway},
		"fail/another audience":       {claims: map[string]any{"aud": "other"}, status: http.StatusBadGateway},
		"fail/two audiences":          {claims: map[string]any{"aud": []string{"app", "other"}}, status: http.StatusBadGateway},
		"fail/another azp":            {claims: map[string]any{"azp": "other"}, status: http.StatusBadGateway},
		"fail/expired":                {claims: map[string]any{"exp": time.Now().Unix() - 60}, status: http.StatusBadGateway},
		"fail/from the future":        {claims: map[string]any{"iat": time.Now().Unix() + 600}, status: http.StatusBadGateway},
		"fail/another at_hash":        {claims: map[string]any{"at_hash": "x"}, status: http.StatusBadGateway},
		"fail/another issuer's token": {claims: map[string]any{"iss": "https://evil.example"}, status: http.StatusBadGateway},
		"fail/no subject":             {claims: map[string]any{"sub": nil}, status: http.StatusBadGateway},
		"fail/subject of two":         {claims: map[string]any{"sub": "usr_2"}, status: http.StatusBadGateway},
		"fail/session of two":         {claims: map[string]any{"sid": "ses_2"}, status: http.StatusBadGateway},
		"fail/another client's token": {access: map[string]any{"client_id": "other"}, status: http.StatusBadGateway},
		"fail/access token as ID":     {claims: map[string]any{"token_use": "access"}, status: http.StatusBadGateway},
		"fail/claim of another type":  {claims: map[string]any{"nonce": 1}, status: http.StatusBadGateway},
		"fail/authenticated long ago": {
			path:   "/auth/login?max_age=60",
			claims: map[string]any{"auth_time": time.Now().Unix() - 3600},
			status: http.StatusBadGateway,
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeIssuer(t)
			v := application(t, f.open(t))
			path := c.path
			if path == "" {
				path = "/auth/login"
			}
			asked := v.authorize(path)
			f.claims, f.access, f.fail["/token"] = c.claims, c.access, c.fail
			response := v.arrive(f, asked, c.changes...)
			if response.StatusCode != c.status || (v.at() == http.StatusOK) != strings.HasPrefix(name, "ok") {
				t.Errorf("%d, then %d", response.StatusCode, v.at())
			}
			if response.Header.Get("Cache-Control") != "no-store" || response.Header.Get("Referrer-Policy") != "no-referrer" {
				t.Errorf("headers %v", response.Header)
			}
		})
	}
}

func TestCallbackTwiceAndElsewhere(t *testing.T) {
	f := newFakeIssuer(t)
	b := f.open(t)
	eve, victim := application(t, b), application(t, b)
	asked := eve.authorize("/auth/login")
	if r := victim.arrive(f, asked); r.StatusCode != http.StatusBadRequest || victim.at() == http.StatusOK || len(f.forms) != 0 {
		t.Errorf("login CSRF: %d, %d codes redeemed", r.StatusCode, len(f.forms))
	}
	for name, value := range eve.cookies { // the planted cookie of another login is not for this state
		victim.cookies[name[:len(name)-1]+"x"] = value
	}
	if r := victim.arrive(f, asked); r.StatusCode != http.StatusBadRequest {
		t.Errorf("renamed cookie: %d", r.StatusCode)
	}
	if r := eve.arrive(f, asked, "code", "a&code=b"); r.StatusCode != http.StatusSeeOther {
		t.Errorf("the right browser: %d", r.StatusCode)
	}
	redeemed := len(f.forms)
	if r := eve.arrive(f, asked); r.StatusCode != http.StatusSeeOther || r.Header.Get("Location") != "/" ||
		len(f.forms) != redeemed {
		t.Errorf("again: %d %s", r.StatusCode, r.Header.Get("Location"))
	}
	asked = eve.authorize("/auth/login")
	r := eve.get("/auth/callback?code=a&code=b&iss=" + url.QueryEscape(testIssuer) + "&state=" + asked.Get("state"))
	if len(f.forms) != redeemed {
		t.Errorf("two codes: %d", r.StatusCode)
	}
}

func TestLoginExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeIssuer(t)
		v := application(t, f.open(t))
		asked := v.authorize("/auth/login")
		time.Sleep(flowLifetime + time.Second)
		if r := v.arrive(f, asked); r.StatusCode != http.StatusBadRequest {
			t.Errorf("status %d", r.StatusCode)
		}
	})
}

// Fixation: what was in the browser before a login is of no use after it.
func TestFixation(t *testing.T) {
	eachKind(t, func(t *testing.T, kind func(*Config)) {
		f := newFakeIssuer(t)
		b := f.open(t, kind)
		eve, ann := application(t, b), application(t, b)
		f.access, f.claims = map[string]any{"sub": "usr_eve", "sid": "ses_eve"}, map[string]any{"sub": "usr_eve", "sid": "ses_eve"}
		eve.logIn(f)
		f.access, f.claims = nil, nil
		maps.Copy(ann.cookies, eve.cookies)
		ann.logIn(f)
		if ann.cookies["__Host-session"] == eve.cookies["__Host-session"] {
			t.Error("the cookie is the planted one")
		}
		if eve.at() == http.StatusOK || !slices.Contains(f.revoked, "refresh-1") {
			t.Error("the planted session is alive")
		}
		body, _ := io.ReadAll(ann.get("/page").Body)
		if !strings.HasPrefix(string(body), "usr_1 ") {
			t.Errorf("logged in as %s", body)
		}
		// A number of the attacker's choice is no session either.
		ann.cookies = map[string]string{"__Host-session": encode(bytes.Repeat([]byte{7}, idSize))}
		planted := ann.cookies["__Host-session"]
		ann.logIn(f)
		if ann.cookies["__Host-session"] == planted {
			t.Error("the number was taken over")
		}
	})
}

// A fault of the issuer ends no session: while the access token lives the session goes on, then it waits.
func TestFailedRefresh(t *testing.T) {
	for name, status := range map[string]int{
		"503": 503, "500": 500, "no answer": -1, "404 of a proxy": 404, "429": 429, "401": 401,
	} {
		t.Run(name, func(t *testing.T) {
			eachKind(t, func(t *testing.T, kind func(*Config)) {
				f := newFakeIssuer(t)
				v := application(t, f.open(t, kind))
				v.logIn(f)
				f.set(func() { f.fail["/token"] = status })
				time.Sleep(14*time.Minute + 30*time.Second) // about to expire
				if got := v.at(); got != http.StatusOK {
					t.Errorf("before the expiry: %d", got)
				}
				time.Sleep(time.Hour)
				r := v.get("/page")
				if r.StatusCode != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" || len(r.Header["Set-Cookie"]) != 0 {
					t.Errorf("after it: %d %v", r.StatusCode, r.Header)
				}
				tries := len(f.forms)
				for range 10 {
					v.at()
				}
				if len(f.forms) > tries+1 {
					t.Errorf("%d attempts for ten requests", len(f.forms)-tries)
				}
				f.set(func() { f.fail["/token"] = 0 })
				time.Sleep(2 * time.Second)
				if got := v.at(); got != http.StatusOK {
					t.Errorf("when the issuer is back: %d", got)
				}
				keys := map[string]bool{}
				for i, form := range f.forms[1:] {
					if form.Get("refresh_token") != "refresh-1" {
						t.Errorf("refresh of %q", form.Get("refresh_token"))
					}
					keys[f.headers[i+1].Get("Idempotency-Key")] = true
				}
				if len(keys) != 1 || keys[""] {
					t.Errorf("keys %v", keys)
				}
			})
		})
	}
}

// Only invalid_grant ends a session. The cookie is left: it may be that a newer one is in the browser by now.
func TestInvalidGrant(t *testing.T) {
	eachKind(t, func(t *testing.T, kind func(*Config)) {
		f := newFakeIssuer(t)
		b := f.open(t, kind)
		v := application(t, b)
		v.logIn(f)
		f.block("ses_1")
		f.set(func() { f.fail["/token"] = http.StatusBadRequest })
		r := v.get("/page")
		if r.StatusCode != http.StatusSeeOther || len(r.Header["Set-Cookie"]) != 0 {
			t.Errorf("%d %v", r.StatusCode, r.Header["Set-Cookie"])
		}
		asked := len(f.forms)
		for range 5 {
			v.at()
		}
		if len(f.forms) != asked {
			t.Errorf("asked %d times more", len(f.forms)-asked)
		}
		if list, err := b.Sessions(t.Context(), "usr_1"); b.config.Store != nil && (err != nil || len(list) != 0) {
			t.Errorf("%v %v", list, err)
		}
	})
}

// Another process has refreshed, and the issuer refuses what this one has: the store is asked before the session is given up.
func TestInvalidGrantAfterAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, store := newFakeIssuer(t), NewMemory()
		kind := func(c *Config) { c.Store = store }
		one, two := f.open(t, kind), f.open(t, kind)
		v := application(t, one)
		v.logIn(f)
		hold := make(chan struct{})
		time.Sleep(15 * time.Minute)
		f.set(func() { f.hold = hold })
		status := make(chan int)
		go func() { status <- v.at() }() // reads the store, and is held up on its way to the issuer
		synctest.Wait()
		list, _ := store.List(t.Context(), "usr_1")
		s, err := two.load(t.Context(), list[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		f.set(func() { f.hold = nil })
		if _, err := two.renew(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		f.set(func() { f.fail["/token"] = http.StatusBadRequest })
		close(hold)
		if got := <-status; got != http.StatusOK {
			t.Errorf("status %d", got)
		}
	})
}

// Requests at once refresh once, in one process and with the answers of a store in two.
func TestRefreshOnce(t *testing.T) {
	eachKind(t, func(t *testing.T, kind func(*Config)) {
		f := newFakeIssuer(t)
		b := f.open(t, kind)
		v := application(t, b)
		v.logIn(f)
		time.Sleep(20 * time.Minute)
		hold := make(chan struct{})
		f.set(func() { f.hold = hold })
		var work sync.WaitGroup
		for range 20 {
			work.Go(func() {
				other := &visitor{t, v.handler, map[string]string{"__Host-session": v.cookies["__Host-session"]}}
				if got := other.at(); got != http.StatusOK {
					t.Errorf("status %d", got)
				}
			})
		}
		gone, cancel := context.WithCancel(t.Context())
		work.Go(func() { // it began or joined the refresh, and leaves
			r := httptest.NewRequest(http.MethodGet, testURL+"/page", nil).WithContext(gone)
			r.AddCookie(&http.Cookie{Name: "__Host-session", Value: v.cookies["__Host-session"]})
			v.handler.ServeHTTP(httptest.NewRecorder(), r)
		})
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(hold)
		work.Wait()
		late := &visitor{t, v.handler, map[string]string{"__Host-session": v.cookies["__Host-session"]}}
		if got := late.at(); got != http.StatusOK {
			t.Errorf("a late one: %d", got)
		}
		if len(f.forms) != 2 {
			t.Errorf("%d token requests, want a login and a refresh", len(f.forms))
		}
	})
}

// Two processes refresh one session at once: the issuer gets one Idempotency-Key, and both go on with what was stored first.
func TestRefreshInTwoProcesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, store := newFakeIssuer(t), NewMemory()
		kind := func(c *Config) { c.Store = store }
		one, two := f.open(t, kind), f.open(t, kind)
		v := application(t, one)
		v.logIn(f)
		other := application(t, two)
		other.cookies = maps.Clone(v.cookies)
		time.Sleep(20 * time.Minute)
		hold := make(chan struct{})
		f.set(func() { f.hold = hold })
		var work sync.WaitGroup
		for _, v := range []*visitor{v, other} {
			work.Go(func() {
				if got := v.at(); got != http.StatusOK {
					t.Errorf("status %d", got)
				}
			})
		}
		synctest.Wait()
		close(hold)
		work.Wait()
		if len(f.forms) != 3 || f.headers[1].Get("Idempotency-Key") != f.headers[2].Get("Idempotency-Key") {
			t.Errorf("%d token requests, keys %q and %q", len(f.forms), f.headers[1], f.headers[2])
		}
		list, err := store.List(t.Context(), "usr_1")
		if err != nil || len(list) != 1 || list[0].Version != 2 {
			t.Errorf("%+v %v", list, err)
		}
	})
}

func TestRolesChangeAtOnce(t *testing.T) {
	eachKind(t, func(t *testing.T, kind func(*Config)) {
		f := newFakeIssuer(t)
		v := application(t, f.open(t, kind))
		v.logIn(f)
		f.block("ses_1")
		time.Sleep(time.Second)
		f.access = map[string]any{"roles": []string{"admin"}}
		body, _ := io.ReadAll(v.get("/page").Body)
		if string(body) != "usr_1 [admin]" {
			t.Errorf("page %q", body)
		}
	})
}

func TestLifetimes(t *testing.T) {
	eachKind(t, func(t *testing.T, kind func(*Config)) {
		f := newFakeIssuer(t)
		v := application(t, f.open(t, kind, func(c *Config) { c.Lifetime, c.IdleLifetime = 10*time.Hour, 2*time.Hour }))
		v.logIn(f)
		for range 9 {
			time.Sleep(time.Hour)
			if got := v.at(); got != http.StatusOK {
				t.Fatalf("in use: %d", got)
			}
		}
		time.Sleep(time.Hour)
		if got := v.at(); got != http.StatusSeeOther {
			t.Errorf("after its lifetime: %d", got)
		}
		v.logIn(f)
		time.Sleep(2*time.Hour + time.Second)
		if got := v.at(); got != http.StatusSeeOther {
			t.Errorf("not used: %d", got)
		}
	})
}

// CK-05: a cookie that is changed, cut, foreign or of another purpose is no session, and no error.
func TestCK05_MalformedCookies(t *testing.T) {
	eachKind(t, func(t *testing.T, kind func(*Config)) {
		f := newFakeIssuer(t)
		b := f.open(t, kind)
		v := application(t, b)
		v.logIn(f)
		good := v.cookies["__Host-session"]
		if v.at() != http.StatusOK {
			t.Fatal("the right one is refused")
		}
		foreign := newFakeIssuer(t)
		other := application(t, foreign.open(t, func(c *Config) { c.Keys = [][]byte{bytes.Repeat([]byte("k2"), 16)} }))
		other.logIn(foreign)
		renamed := application(t, f.open(t, func(c *Config) { c.CookieName = "other" }))
		renamed.logIn(f)
		flow := application(t, b)
		flow.authorize("/auth/login")
		var login string
		for _, value := range flow.cookies {
			login = value
		}
		bad := map[string]string{
			"empty": "", "foreign": other.cookies["__Host-session"], "of another name": renamed.cookies["__Host-other"],
			"of a login": login, "text": "hello", "padded": good + "=", "count": "2." + good, "many": "9999999." + good,
			"none": "0." + good, "one": "1." + good, "minus": "-1." + good, "dots": "2..", "long": strings.Repeat("A", 100_000),
			"control": good + "\x01", "quoted": `"` + good + `"x`,
		}
		for i := range len(good) {
			if i%7 == 0 || i > len(good)-3 || i < 60 {
				changed := []byte(good)
				changed[i] ^= 1
				if changed[i] == '.' || changed[i] == '=' || string(changed) == good {
					continue
				}
				bad[fmt.Sprintf("changed at %d", i)] = string(changed)
			}
			if i%50 == 0 {
				bad[fmt.Sprintf("cut at %d", i)] = good[:i]
			}
		}
		for name, value := range bad {
			v.cookies = map[string]string{"__Host-session": value}
			if r := v.get("/page"); r.StatusCode != http.StatusSeeOther || len(r.Header["Set-Cookie"]) != 0 {
				t.Errorf("%s: %d %v", name, r.StatusCode, r.Header["Set-Cookie"])
			}
			if r := v.get("/auth/me", "Accept", "application/json"); r.StatusCode != http.StatusUnauthorized {
				t.Errorf("%s: me %d", name, r.StatusCode)
			}
		}
		r := httptest.NewRequest(http.MethodGet, testURL+"/page", nil)
		r.Header.Set("Cookie", "__Host-session="+good+"; __Host-session="+good)
		r.Header.Set("Accept", "text/html")
		v.cookies = nil
		if got := v.send(r).StatusCode; got != http.StatusSeeOther {
			t.Errorf("two cookies of the name: %d", got)
		}
	})
}

// A session above 4,096 bytes stands in several cookies, which must all be there.
func TestLongSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeIssuer(t)
		v := application(t, f.open(t))
		f.claims = map[string]any{"groups": strings.Repeat("g", 5000)}
		v.logIn(f)
		whole := v.cookies
		if len(whole) != 3 || v.at() != http.StatusOK {
			t.Fatalf("%d cookies, %d", len(whole), v.at())
		}
		for name, value := range whole {
			if len(name)+len(value)+len("=; Path=/; Max-Age=2592000; HttpOnly; Secure; SameSite=Lax") > 4096 {
				t.Errorf("cookie %s has %d bytes", name, len(value))
			}
			without := map[string]string{}
			for n, other := range whole {
				if n != name {
					without[n] = other
				}
			}
			v.cookies = without
			if got := v.at(); got != http.StatusSeeOther {
				t.Errorf("without %s: %d", name, got)
			}
		}
		v.cookies = map[string]string{
			"__Host-session": whole["__Host-session"], "__Host-session-1": whole["__Host-session-2"],
			"__Host-session-2": whole["__Host-session-1"],
		}
		if got := v.at(); got != http.StatusSeeOther {
			t.Errorf("in another order: %d", got)
		}
		v.cookies = whole
		f.set(func() { f.claims = nil })
		time.Sleep(20 * time.Minute)
		if got := v.at(); got != http.StatusOK || len(v.cookies) != 1 {
			t.Errorf("shorter now: %d, cookies %d", got, len(v.cookies))
		}
		f.set(func() {
			f.claims = map[string]any{"groups": strings.Repeat("g", 5500)}
			f.access = map[string]any{"x": strings.Repeat("x", 5500)}
		})
		time.Sleep(20 * time.Minute)
		if got := v.at(); got != http.StatusOK || len(v.cookies) < 4 {
			t.Errorf("longer: %d, cookies %d", got, len(v.cookies))
		}
		r := httptest.NewRequest(http.MethodPost, testURL+"/auth/logout", nil)
		r.Header.Set(CSRFHeader, tokenOf(t, f.open(t), v))
		if v.send(r); len(v.cookies) != 0 {
			t.Errorf("after the logout: %d cookies", len(v.cookies))
		}
	})
}

// Sessions outlive a restart and a change of keys, whose old one is taken out when all have been refreshed.
func TestChangeOfKeys(t *testing.T) {
	eachKind(t, func(t *testing.T, kind func(*Config)) {
		f := newFakeIssuer(t)
		second := []byte("another key of thirty-two bytes!")
		keys := func(keys ...[]byte) *BFF { return f.open(t, kind, func(c *Config) { c.Keys = keys }) }
		v := application(t, keys(testKey))
		v.logIn(f)
		at := func(b *BFF) int { v.handler = application(t, b).handler; return v.at() }
		if got := at(keys(testKey)); got != http.StatusOK {
			t.Errorf("restart: %d", got)
		}
		if got := at(keys(second, testKey)); got != http.StatusOK {
			t.Errorf("new key: %d", got)
		}
		if got := at(keys(second)); got != http.StatusSeeOther {
			t.Errorf("old key taken out too early: %d", got)
		}
		time.Sleep(time.Hour)
		if got := at(keys(second, testKey)); got != http.StatusOK {
			t.Errorf("new key, refreshed: %d", got)
		}
		if got := at(keys(second)); got != http.StatusOK {
			t.Errorf("old key taken out: %d", got)
		}
	})
}

// CK-02: what another origin's page can send is refused, and what ours sends without the token, for every unsafe method.
func TestCK02_CSRF(t *testing.T) {
	eachKind(t, func(t *testing.T, kind func(*Config)) {
		f := newFakeIssuer(t)
		b := f.open(t, kind)
		mux := http.NewServeMux()
		mux.Handle("/auth/", b.Handler())
		mux.Handle("/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, "did %s %d", r.Method, len(body))
		}))
		v := &visitor{t, b.Middleware(mux), map[string]string{}}
		v.logIn(f)
		eve := &visitor{t, v.handler, map[string]string{}}
		eve.logIn(f)
		session, token, foreign := v.cookies, tokenOf(t, b, v), tokenOf(t, b, eve)
		form := func(tokens ...string) string {
			return url.Values{"a": {"b"}, CSRFField: tokens}.Encode()
		}
		multi := func(token string) string {
			return "--x\r\nContent-Disposition: form-data; name=\"" + CSRFField + "\"\r\n\r\n" + token +
				"\r\n--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n" + strings.Repeat("z", 3<<20) +
				"\r\n--x--\r\n"
		}
		const urlencoded, multipart = "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"
		for name, c := range map[string]struct {
			header []string
			body   string
		}{
			"ok/field":                 {[]string{"Content-Type", urlencoded, "Origin", testURL}, form(token)},
			"ok/header":                {[]string{CSRFHeader, token, "Origin", testURL, "Content-Type", "application/json"}, `{"a":1}`},
			"ok/file":                  {[]string{"Content-Type", multipart, "Sec-Fetch-Site", "same-origin"}, multi(token)},
			"fail/cross-site":          {[]string{CSRFHeader, token, "Sec-Fetch-Site", "cross-site"}, ""},
			"fail/same site":           {[]string{CSRFHeader, token, "Sec-Fetch-Site", "same-site"}, ""},
			"fail/null origin":         {[]string{CSRFHeader, token, "Origin", "null"}, ""},
			"fail/another origin":      {[]string{CSRFHeader, token, "Origin", "https://evil.example"}, ""},
			"fail/subdomain":           {[]string{CSRFHeader, token, "Origin", "https://x.app.example"}, ""},
			"fail/suffix":              {[]string{CSRFHeader, token, "Origin", "https://app.example.evil.example"}, ""},
			"fail/no token":            {[]string{"Content-Type", urlencoded, "Origin", testURL, "Sec-Fetch-Site", "same-origin"}, form()},
			"fail/nothing":             {nil, ""},
			"fail/text":                {[]string{"Content-Type", "text/plain", "Origin", testURL}, CSRFField + "=" + token},
			"fail/json body":           {[]string{"Content-Type", "application/json"}, `{"csrf_token":"` + token + `"}`},
			"fail/another session":     {[]string{CSRFHeader, foreign, "Origin", testURL}, ""},
			"fail/another in the form": {[]string{"Content-Type", urlencoded, "Origin", testURL}, form(foreign)},
			"fail/two":                 {[]string{"Content-Type", urlencoded, "Origin", testURL}, form(foreign, token)},
			"fail/two, ours first":     {[]string{"Content-Type", urlencoded, "Origin", testURL}, form(token, foreign)},
			"fail/cut":                 {[]string{CSRFHeader, token[:len(token)-1], "Origin", testURL}, ""},
			"fail/empty header":        {[]string{CSRFHeader, "", "Content-Type", urlencoded}, form(token)},
			"fail/zeros":               {[]string{CSRFHeader, encode(make([]byte, 64))}, ""},
			"fail/no boundary":         {[]string{"Content-Type", "multipart/form-data"}, multi(token)},
			"fail/not a form":          {[]string{"Content-Type", ";"}, form(token)},
			"fail/file without":        {[]string{"Content-Type", multipart}, multi("")},
			"fail/form too long":       {[]string{"Content-Type", urlencoded}, form(token) + "&z=" + strings.Repeat("z", maxForm)},
		} {
			for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, "BREW"} {
				r := httptest.NewRequest(method, testURL+"/change", strings.NewReader(c.body))
				for i := 0; i+1 < len(c.header); i += 2 {
					r.Header.Set(c.header[i], c.header[i+1])
				}
				response := v.send(r)
				body, _ := io.ReadAll(response.Body)
				if ok := string(body) == fmt.Sprintf("did %s %d", method, len(c.body)); ok != strings.HasPrefix(name, "ok/") ||
					!ok && response.StatusCode != http.StatusForbidden {
					t.Errorf("%s %s: %d %s", name, method, response.StatusCode, body)
				}
			}
			if strings.HasPrefix(name, "ok/") {
				continue
			}
			for where, handler := range map[string]http.Handler{"inside": v.handler, "alone": b.Handler()} { // logout CSRF: CK-03
				v.cookies = maps.Clone(session)
				r := httptest.NewRequest(http.MethodPost, testURL+"/auth/logout", strings.NewReader(c.body))
				for i := 0; i+1 < len(c.header); i += 2 {
					r.Header.Set(c.header[i], c.header[i+1])
				}
				before := v.handler
				v.handler = handler
				response := v.send(r)
				v.handler = before
				if response.StatusCode != http.StatusForbidden || len(v.cookies) != len(session) {
					t.Errorf("logout %s %s: %d", where, name, response.StatusCode)
				}
			}
		}
		if v.get("/auth/me").StatusCode != http.StatusOK {
			t.Error("logged out")
		}
		// A WebSocket is opened by GET, with cookies, and no browser asks first.
		for origin, want := range map[string]int{testURL: http.StatusOK, "https://x.app.example": http.StatusForbidden} {
			r := v.get("/socket", "Upgrade", "websocket", "Connection", "Upgrade", "Origin", origin)
			if r.StatusCode != want {
				t.Errorf("WebSocket from %s: %d", origin, r.StatusCode)
			}
		}
	})
}

func TestCSRFTokenLooksDifferent(t *testing.T) {
	s := &Session{state: &state{csrf: strings.Repeat("c", csrfSize)}}
	if one, two := s.CSRFToken(), s.CSRFToken(); one == two || !s.state.validCSRF(one) || !s.state.validCSRF(two) {
		t.Error(one, two)
	}
	if input := string(s.CSRFInput()); !strings.Contains(input, `name="csrf_token"`) || strings.Count(input, `"`) != 6 {
		t.Error(input)
	}
}

// RequireRecent sends browsers to authenticate again, and tells script what to ask for (RFC 9470).
func TestRequireRecent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeIssuer(t)
		v := application(t, f.open(t))
		v.logIn(f)
		if got := v.get("/recent").StatusCode; got != http.StatusOK {
			t.Fatal(got)
		}
		past := time.Now().Unix()
		f.access = map[string]any{"auth_time": past}
		time.Sleep(20 * time.Minute)
		r := v.get("/recent?x=1")
		to, err := r.Location()
		if err != nil || to.Path != "/auth/login" || to.Query().Get("return_to") != "/recent?x=1" ||
			to.Query().Get("max_age") != "300" || to.Query().Get("prompt") != "login" {
			t.Errorf("%d %v", r.StatusCode, to)
		}
		r = v.get("/recent", "Accept", "application/json", "Sec-Fetch-Mode", "cors")
		if challenge := r.Header.Get("WWW-Authenticate"); r.StatusCode != http.StatusUnauthorized ||
			!strings.Contains(challenge, `error="insufficient_user_authentication"`) || !strings.Contains(challenge, `max_age="300"`) {
			t.Errorf("%d %s", r.StatusCode, challenge)
		}
		post := httptest.NewRequest(http.MethodPost, testURL+"/recent", strings.NewReader(url.Values{
			CSRFField: {tokenOf(t, f.open(t), v)},
		}.Encode()))
		post.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		post.Header.Set("Accept", "text/html")
		post.Header.Set("Referer", testURL+"/form?y=2")
		if to, err := v.send(post).Location(); err != nil || to.Query().Get("return_to") != "/form?y=2" {
			t.Errorf("after a form: %v %v", to, err)
		}
	})
}

// OpenID Connect Back-Channel Logout 1.0, section 2.6, check by check.
func TestLogoutToken(t *testing.T) {
	event := map[string]any{logoutEvent: map[string]any{}}
	for name, c := range map[string]struct {
		typ     string
		changes map[string]any
	}{
		"ok":                           {},
		"ok/without sid":               {changes: map[string]any{"sid": nil}},
		"ok/without sub":               {changes: map[string]any{"sub": nil}},
		"ok/audience in a list":        {changes: map[string]any{"aud": []string{"other", "app"}}},
		"ok/other events":              {changes: map[string]any{"events": map[string]any{logoutEvent: map[string]any{}, "x": 1}}},
		"fail/type of ID tokens":       {typ: "JWT"},
		"fail/type of access tokens":   {typ: "at+jwt"},
		"fail/another issuer":          {changes: map[string]any{"iss": "https://evil.example"}},
		"fail/another audience":        {changes: map[string]any{"aud": "other"}},
		"fail/no audience":             {changes: map[string]any{"aud": nil}},
		"fail/no iat":                  {changes: map[string]any{"iat": nil}},
		"fail/from the future":         {changes: map[string]any{"iat": time.Now().Unix() + 3600}},
		"fail/old":                     {changes: map[string]any{"iat": time.Now().Unix() - 3600}},
		"fail/no exp":                  {changes: map[string]any{"exp": nil}},
		"fail/expired":                 {changes: map[string]any{"exp": time.Now().Unix() - 60}},
		"fail/lives long":              {changes: map[string]any{"exp": time.Now().Unix() + 86400}},
		"fail/neither sub nor sid":     {changes: map[string]any{"sub": nil, "sid": nil}},
		"fail/no events":               {changes: map[string]any{"events": nil}},
		"fail/another event":           {changes: map[string]any{"events": map[string]any{"x": map[string]any{}}}},
		"fail/events in a list":        {changes: map[string]any{"events": []string{logoutEvent}}},
		"fail/event that is no object": {changes: map[string]any{"events": map[string]any{logoutEvent: "x"}}},
		"fail/nonce":                   {changes: map[string]any{"nonce": "n"}},
		"fail/empty nonce":             {changes: map[string]any{"nonce": ""}},
		"fail/no jti":                  {changes: map[string]any{"jti": nil}},
		"fail/sid of another type":     {changes: map[string]any{"sid": 1}},
	} {
		t.Run(name, func(t *testing.T) {
			for kind, store := range map[string]Store{"sealed": nil, "stored": NewMemory()} {
				f := newFakeIssuer(t)
				b := f.open(t, func(c *Config) { c.Store = store })
				v := application(t, b)
				v.logIn(f)
				now := time.Now().Unix()
				typ := c.typ
				if typ == "" {
					typ = typeLogout
				}
				raw := f.sign(typ, changed(map[string]any{
					"iss": testIssuer, "aud": "app", "iat": now, "exp": now + 120, "jti": "jti_1", "events": event, "sub": "usr_1",
					"sid": "ses_1",
				}, c.changes))
				send := func(body string) int {
					r := httptest.NewRequest(http.MethodPost, testURL+"/auth/backchannel-logout", strings.NewReader(body))
					r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
					w := httptest.NewRecorder()
					v.handler.ServeHTTP(w, r)
					if w.Header().Get("Cache-Control") != "no-store" {
						t.Errorf("headers %v", w.Header())
					}
					return w.Code
				}
				form := url.Values{"logout_token": {raw}}
				status := send(form.Encode())
				ok := strings.HasPrefix(name, "ok")
				if ok != (status == http.StatusOK) || !ok && status != http.StatusBadRequest {
					t.Errorf("%s: %d", kind, status)
				}
				ended := ok && (store != nil || name != "ok/without sid") // which a sealed cookie hears from the feed
				if (v.at() == http.StatusOK) == ended {
					t.Errorf("%s: the session ended: %v", kind, !ended)
				}
				for what, body := range map[string]string{
					"again": form.Encode(), "nothing": "", "twice": form.Encode() + "&" + form.Encode(), "text": "logout_token=x",
					"changed": "logout_token=" + raw[:len(raw)-2] + "AA", "too long": "logout_token=" + strings.Repeat("x", 1<<20),
				} {
					if status := send(body); status != http.StatusBadRequest {
						t.Errorf("%s %s: %d", kind, what, status)
					}
				}
				r := httptest.NewRequest(http.MethodPost, testURL+"/auth/backchannel-logout?"+form.Encode(), nil)
				w := httptest.NewRecorder()
				if v.handler.ServeHTTP(w, r); w.Code != http.StatusBadRequest {
					t.Errorf("%s in the query: %d", kind, w.Code)
				}
			}
		})
	}
}

func TestSessionsOfAUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, store := newFakeIssuer(t), NewMemory()
		b := f.open(t, func(c *Config) { c.Store, c.MaxSessions = store, 3 })
		var visitors []*visitor
		for i := range 4 {
			sid := fmt.Sprintf("ses_%d", i)
			f.access, f.claims = map[string]any{"sid": sid}, map[string]any{"sid": sid}
			v := application(t, b)
			v.logIn(f)
			visitors = append(visitors, v)
			time.Sleep(time.Second)
		}
		alive := func(want ...bool) {
			t.Helper()
			for i, v := range visitors {
				if (v.at() == http.StatusOK) != want[i] {
					t.Errorf("visitor %d: %v", i, !want[i])
				}
			}
		}
		alive(false, true, true, true) // the limit
		list, err := b.Sessions(t.Context(), "usr_1")
		if err != nil || len(list) != 3 || list[0].SessionID != "ses_3" || list[0].CreatedAt.Before(list[1].CreatedAt) {
			t.Fatalf("%+v %v", list, err)
		}
		for _, c := range []struct{ subject, handle string }{
			{"usr_2", list[2].Handle}, {"usr_1", ""}, {"usr_1", "x"}, {"usr_1", strings.Repeat("A", 43)},
		} {
			if err := b.End(t.Context(), c.subject, c.handle); !errors.Is(err, ErrNotFound) {
				t.Errorf("%v: %v", c, err)
			}
		}
		alive(false, true, true, true)
		if err := b.End(t.Context(), "usr_1", list[2].Handle); err != nil {
			t.Fatal(err)
		}
		alive(false, false, true, true)
		if err := b.EndAll(t.Context(), "usr_1", list[0].Handle); err != nil {
			t.Fatal(err)
		}
		alive(false, false, false, true)
		if err := b.EndAll(t.Context(), "usr_1", ""); err != nil {
			t.Fatal(err)
		}
		alive(false, false, false, false)
		slices.Sort(f.revoked)
		if want := []string{"refresh-1", "refresh-2", "refresh-3", "refresh-4"}; !slices.Equal(f.revoked, want) {
			t.Errorf("revoked %v", f.revoked)
		}
		if _, err := f.open(t).Sessions(t.Context(), "usr_1"); !errors.Is(err, ErrSealed) {
			t.Errorf("sealed: %v", err)
		}
	})
}

// Neither the cookie nor the records alone are enough to be somebody.
func TestStoredSessionIsHashedAndSealed(t *testing.T) {
	f, store := newFakeIssuer(t), NewMemory()
	v := application(t, f.open(t, func(c *Config) { c.Store = store }))
	v.logIn(f)
	list, _ := store.List(t.Context(), "usr_1")
	number := v.cookies["__Host-session"]
	r := list[0]
	if len(number) != 43 || encode(r.ID[:]) == number || bytes.Contains(r.Data, []byte("refresh-1")) ||
		bytes.Contains(r.Data, []byte("eyJ")) {
		t.Errorf("record %+v", r)
	}
	v.cookies["__Host-session"] = encode(r.ID[:])
	if got := v.at(); got == http.StatusOK {
		t.Error("the ID in the store is enough")
	}
	// A record that was moved to another user's place does not open.
	moved := r
	moved.ID = ID{1}
	if _, err := f.open(t).opened(moved); err == nil {
		t.Error("it opens under another ID")
	}
	moved = r
	moved.Subject = "usr_2"
	if _, err := f.open(t).opened(moved); err == nil {
		t.Error("it opens for another user")
	}
}

// failingStore fails while it is told to.
type failingStore struct {
	*Memory
	failing bool
}

func (s *failingStore) Load(ctx context.Context, id ID) (Record, error) {
	if s.failing {
		return Record{}, errors.New("no connection")
	}
	return s.Memory.Load(ctx, id)
}

func (s *failingStore) Swap(ctx context.Context, r Record) error {
	if s.failing {
		return errors.New("no connection")
	}
	return s.Memory.Swap(ctx, r)
}

func TestStoreFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, store := newFakeIssuer(t), &failingStore{Memory: NewMemory()}
		kind := func(c *Config) { c.Store = store }
		v := application(t, f.open(t, kind))
		v.logIn(f)
		store.failing = true
		fresh := application(t, f.open(t, kind))
		fresh.cookies = v.cookies
		if got := fresh.at(); got != http.StatusServiceUnavailable {
			t.Errorf("without the store: %d", got)
		}
		if got := v.at(); got != http.StatusOK {
			t.Errorf("known from before: %d", got)
		}
		time.Sleep(20 * time.Minute)
		if got := v.at(); got != http.StatusServiceUnavailable {
			t.Errorf("refresh without the store: %d", got)
		}
		store.failing = false
		time.Sleep(2 * time.Second)
		if got := v.at(); got != http.StatusOK {
			t.Errorf("the store is back: %d", got)
		}
	})
}

func TestIssuerComesLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeIssuer(t)
		f.fail["/.well-known/oauth-authorization-server"] = -1
		v := application(t, f.open(t))
		if got := v.get("/auth/login").StatusCode; got != http.StatusServiceUnavailable {
			t.Errorf("status %d", got)
		}
		f.set(func() { clear(f.fail) })
		v.logIn(f)
	})
}

func TestTransport(t *testing.T) {
	f := newFakeIssuer(t)
	b := f.open(t)
	var got []string
	transport := b.Transport(roundTrip(func(r *http.Request) (*http.Response, error) {
		got = append(got, r.Header.Get("Authorization"))
		return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
	}), "https://api.example")
	s := &Session{state: &state{access: "token"}}
	with := context.WithValue(t.Context(), visitKey{}, &visit{bff: b, session: s})
	for _, c := range []struct {
		ctx     context.Context
		address string
		own     string
		want    string
	}{
		{with, "https://api.example/x", "", "Bearer token"},
		{with, "https://api.example/x", "Basic own", "Basic own"},
		{with, "https://api.example.evil.example/x", "", ""},
		{with, "http://api.example/x", "", ""},
		{with, "https://api.example:444/x", "", ""},
		{t.Context(), "https://api.example/x", "", ""},
	} {
		r, _ := http.NewRequestWithContext(c.ctx, http.MethodGet, c.address, nil)
		if c.own != "" {
			r.Header.Set("Authorization", c.own)
		}
		response, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if got[len(got)-1] != c.want || r.Header.Get("Authorization") != c.own {
			t.Errorf("%s: sent %q", c.address, got[len(got)-1])
		}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func FuzzState(f *testing.F) {
	f.Add((&state{csrf: strings.Repeat("c", csrfSize), access: "a", refresh: "r"}).encode())
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := decodeState(text)
		if err == nil && !bytes.Equal(s.encode(), text) {
			t.Errorf("%x has two spellings", text)
		}
	})
}

func FuzzCookies(f *testing.F) {
	f.Add("2.AAAA", "BBBB")
	f.Fuzz(func(t *testing.T, first, second string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Cookie", "session="+first+"; session-1="+second)
		c := newCookies("session", false)
		text, ok := c.read(r)
		if !ok {
			return
		}
		w := httptest.NewRecorder()
		if err := c.write(w, r, text, 1); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzOwnPath(f *testing.F) {
	for _, s := range []string{"/", "/a?b=c#d", "//evil", `/\evil`, "/%2f/evil", "/./../evil"} {
		f.Add(s)
	}
	base, _ := url.Parse(testURL + "/auth/callback")
	f.Fuzz(func(t *testing.T, s string) {
		if !ownPath(s) {
			return
		}
		u, err := base.Parse(s)
		if err != nil || u.Scheme != "https" || u.Host != "app.example" || u.User != nil {
			t.Errorf("%q leads to %v", s, u)
		}
	})
}

func TestSealer(t *testing.T) {
	s, err := newSealer([][]byte{testKey})
	if err != nil {
		t.Fatal(err)
	}
	text := s.seal(forSession, "name", []byte("plain"))
	if plain, err := s.open(forSession, "name", text); err != nil || string(plain) != "plain" {
		t.Fatal(plain, err)
	}
	for i := range text {
		changed := bytes.Clone(text)
		changed[i] ^= 1
		if _, err := s.open(forSession, "name", changed); !errors.Is(err, errOpen) {
			t.Errorf("changed at %d: %v", i, err)
		}
		if _, err := s.open(forSession, "name", text[:i]); !errors.Is(err, errOpen) {
			t.Errorf("cut at %d: %v", i, err)
		}
	}
	if _, err := s.open(forFlow, "name", text); !errors.Is(err, errOpen) {
		t.Error("for another purpose")
	}
	if _, err := s.open(forSession, "other", text); !errors.Is(err, errOpen) {
		t.Error("under another name")
	}
	if bytes.Equal(s.seal(forSession, "name", []byte("plain")), text) {
		t.Error("the same text twice")
	}
}
