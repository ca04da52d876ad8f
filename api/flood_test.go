package api_test

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/password"
	"github.com/handstamp/handstamp/pkg/store/sqlite"
)

// from makes a browser come from an address, and call itself something.
func (b *browser) from(ip, userAgent string) *browser {
	b.client.Transport = addressed{ip, userAgent}
	return b
}

type addressed struct{ ip, userAgent string }

func (a addressed) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("X-Forwarded-For", a.ip)
	r.Header.Set("User-Agent", a.userAgent)
	return http.DefaultTransport.RoundTrip(r)
}

func loginBody(email, password string) string {
	return fmt.Sprintf(`{"email":%q,"password":%q}`, email, password)
}

// Somebody guesses at an account without a pause, each time from another address. Its owner gets in all the same, at an address
// that nobody has seen before, with a browser or an application that has logged in before.
func TestPW07_KnownDevices(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db, func(c *service.Config) {
			c.LoginAttempts, c.LoginAttemptEvery, c.LoginIPFailures = 3, time.Hour, 0
			c.TrustedProxies = []string{"127.0.0.1"}
		})
		registerClient(t, s, oauth.Client{ID: "app"})
		email, guesses := newEmail(), 0
		want(t, "sign-up", postJSON(t, s, "/v1/signup", header("X-Forwarded-For", "192.0.2.1"), loginBody(email, servicetest.Password)),
			http.StatusCreated, "")
		guess := func() {
			t.Helper()
			for {
				guesses++
				if postJSON(t, s, "/v1/login", header("X-Forwarded-For", fmt.Sprintf("203.0.113.%d", guesses)),
					loginBody(email, "not the password")).Status == http.StatusTooManyRequests {
					return
				}
			}
		}
		// The first time in each, before anybody guesses.
		known := newBrowser(t, s).from("192.0.2.2", "a browser")
		known.logIn(known.open(authorizeURL(s, nil)), email).code(t)
		app := postJSON(t, s, "/v1/login", header("X-Forwarded-For", "192.0.2.3"), loginBody(email, servicetest.Password))
		cookie, _, _ := strings.Cut(app.Header.Get("Set-Cookie"), ";")
		login := func(ip, cookie, email, password string) servicetest.Response {
			t.Helper()
			return postJSON(t, s, "/v1/login", header("X-Forwarded-For", ip, "Cookie", cookie), loginBody(email, password))
		}
		for i := range 3 * s.Config.LoginAttempts { // however often
			guess()
			at := fmt.Sprintf("198.51.100.%d", i)
			known.from(at, "a browser")
			known.logIn(known.open(authorizeURL(s, map[string]string{"prompt": "login"})), email).code(t)
			want(t, "the application at a new address", login("198.51.100.1"+at[len(at)-1:], cookie, email, servicetest.Password),
				http.StatusOK, "")
		}
		guess()
		stranger := newBrowser(t, s).from("198.51.100.99", "a browser")
		refused := stranger.logIn(stranger.open(authorizeURL(s, nil)), email)
		if refused.status != http.StatusTooManyRequests {
			t.Errorf("a browser that nobody knows: %d", refused.status)
		}
		// Guesses from a device are limited, too, and no other's are.
		var last servicetest.Response
		for range s.Config.LoginAttempts + 1 {
			last = login("198.51.100.200", cookie, email, "not the password")
		}
		want(t, "guesses from the application", last, http.StatusTooManyRequests, "too_many_attempts")
		want(t, "a device of one user for another", login("198.51.100.200", cookie, newEmail(), "not the password"),
			http.StatusUnauthorized, "")
		known.from("198.51.100.201", "a browser")
		known.logIn(known.open(authorizeURL(s, map[string]string{"prompt": "login"})), email).code(t)

		// Who has been locked out by a new password has no attempts of their own at it.
		changed := s.Do(t, http.MethodPost, "/v1/password/change",
			bearer(app.Tokens(t).AccessToken, "Content-Type", "application/json", "X-Forwarded-For", "192.0.2.3"),
			strings.NewReader(fmt.Sprintf(`{"current_password":%q,"new_password":"another otter 93"}`, servicetest.Password)))
		want(t, "change", changed, http.StatusOK, "")
		guess()
		refused = known.from("198.51.100.202", "a browser").submit(known.open(authorizeURL(s, map[string]string{"prompt": "login"})),
			"login", map[string]string{"email": email, "password": "another otter 93"})
		if refused.status != http.StatusTooManyRequests {
			t.Errorf("a device that knew the password of before: %d", refused.status)
		}
	})
}

// A login that succeeds gives its attempt back, on the page as elsewhere.
func TestHostedLoginsCostNothing(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db, func(c *service.Config) { c.LoginAttempts, c.LoginAttemptEvery = 3, time.Hour })
		registerClient(t, s, oauth.Client{ID: "app"})
		p := signUp(t, s)
		if _, err := s.Sessions.EndAll(t.Context(), p.id, [16]byte{}, "revoked", byOperator()); err != nil {
			t.Fatal(err) // so that no address is known
		}
		for range 12 {
			b := newBrowser(t, s)
			b.logIn(b.open(authorizeURL(s, nil)), p.email).code(t)
		}
		for range 12 {
			want(t, "login", tryLogin(t, s, p.email, servicetest.Password), http.StatusOK, "")
		}
	})
}

// A session is where the person was who logged in, not where the back end is that redeems the code.
func TestSessionOriginIsThePersons(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db, func(c *service.Config) { c.TrustedProxies = []string{"127.0.0.1"} })
		registerClient(t, s, oauth.Client{ID: "app"})
		p := signUp(t, s)
		b := newBrowser(t, s).from("203.0.113.50", "the person's browser")
		code := b.logIn(b.open(authorizeURL(s, nil)), p.email).code(t)
		tokens := s.FormWith(t, "/oauth2/token", header("X-Forwarded-For", "198.51.100.1", "User-Agent", "a back end"),
			"grant_type", "authorization_code", "client_id", "app", "code", code, "redirect_uri", appRedirect,
			"code_verifier", verifierText).Tokens(t)
		_ = tokens
		var list struct {
			Sessions []struct {
				ClientID  string `json:"client_id"`
				IP        string
				UserAgent string `json:"user_agent"`
			}
		}
		s.Get(t, "/v1/sessions", p.AccessToken).JSON(t, &list)
		for _, one := range list.Sessions {
			if one.ClientID == "app" && (one.IP != "203.0.113.50" || one.UserAgent != "the person's browser") {
				t.Errorf("the session is at %s, %q", one.IP, one.UserAgent)
			}
		}
		if len(list.Sessions) != 2 {
			t.Errorf("%d sessions", len(list.Sessions))
		}
		// So the address is one that the user is known at, and the back end's is not.
		for ip, status := range map[string]int{"203.0.113.50": http.StatusUnauthorized, "198.51.100.1": http.StatusTooManyRequests} {
			var last servicetest.Response
			for range s.Config.LoginAttempts + 1 {
				postJSON(t, s, "/v1/login", header("X-Forwarded-For", "192.0.2.200"), loginBody(p.email, "not the password"))
			}
			last = postJSON(t, s, "/v1/login", header("X-Forwarded-For", ip), loginBody(p.email, "not the password"))
			want(t, ip, last, status, "")
		}
	})
}

// A flood leaves the attempts of its victims alone, and lets those in who come from elsewhere.
func TestPW12_BusyCostsNothing(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db, func(c *service.Config) {
			c.PasswordConcurrency, c.PasswordQueue, c.LoginAttempts, c.LoginAttemptEvery = 1, 4, 3, time.Hour
			c.LoginIPFailures, c.LoginIPFailureEvery = 3, time.Hour
			c.TrustedProxies = []string{"127.0.0.1"}
		})
		p := signUp(t, s)
		release := occupyHasher(t, s)
		var flood sync.WaitGroup
		for i := range 60 {
			flood.Go(func() {
				r, err := s.Try(context.Background(), http.MethodPost, "/v1/login",
					header("Content-Type", "application/json", "X-Forwarded-For", fmt.Sprintf("203.0.113.%d", i%2)),
					strings.NewReader(loginBody(p.email, servicetest.Password)))
				if err != nil || r.Status != http.StatusServiceUnavailable || r.Code() != "busy" || r.Header.Get("Retry-After") == "" {
					t.Errorf("%v, %d %s", err, r.Status, r.Body)
				}
			})
		}
		flood.Wait()
		release()
		for _, ip := range []string{"203.0.113.0", "198.51.100.1"} {
			want(t, ip, postJSON(t, s, "/v1/login", header("X-Forwarded-For", ip), loginBody(p.email, servicetest.Password)),
				http.StatusOK, "")
		}
	})
}

// occupyHasher takes every place at the hasher of a replica until it is released.
func occupyHasher(t testing.TB, s *servicetest.Service) (release func()) {
	t.Helper()
	var places []*password.Place
	for range 2 * s.Config.PasswordConcurrency {
		p, err := s.Hasher.Enter(t.Context(), password.ForLogin)
		if err != nil {
			t.Fatal(err)
		}
		places = append(places, p)
	}
	return func() {
		for _, p := range places {
			p.Leave()
		}
	}
}

// Sign-ups have a queue of their own, and each address a number of them.
func TestSignupsDoNotOwnTheHasher(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db, func(c *service.Config) {
			c.SignupIPLimit, c.SignupIPEvery, c.TrustedProxies = 3, time.Hour, []string{"127.0.0.1"}
		})
		up := func(ip string) servicetest.Response {
			return postJSON(t, s, "/v1/signup", header("X-Forwarded-For", ip), loginBody(newEmail(), servicetest.Password))
		}
		for range 3 {
			want(t, "sign-up", up("203.0.113.1"), http.StatusCreated, "")
		}
		refused := up("203.0.113.1")
		want(t, "one too many", refused, http.StatusTooManyRequests, "too_many_attempts")
		if refused.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		want(t, "from another address", up("203.0.113.2"), http.StatusCreated, "")
		registerClient(t, s, oauth.Client{ID: "app"})
		b := newBrowser(t, s).from("203.0.113.1", "a browser")
		page := b.open(authorizeURL(s, map[string]string{"prompt": "create"}))
		shown := b.submit(page, "signup", map[string]string{"email": newEmail(), "name": "", "password": servicetest.Password})
		if shown.status != http.StatusTooManyRequests || shown.header.Get("Retry-After") == "" {
			t.Errorf("on the page: %d", shown.status)
		}
	})
}

// The blocklist is public. Callers who read slowly, or who want many streams, cost nobody else anything.
func TestFeedIsBounded(t *testing.T) { // alone, because it measures the memory of the process
	db := servicetest.SQLite(t)
	s := servicetest.Start(t, db, func(c *service.Config) {
		c.TrustedProxies = []string{"127.0.0.1"}
		c.FeedReaders, c.FeedReadersPerAddress, c.FeedStreams, c.FeedStreamsPerAddress = 300, 10, 5, 3
	})
	p := signUp(t, s)
	fillBlocklist(t, db, 200_000)
	servicetest.Eventually(t, "the list is read", func() bool { return s.Blocklist.Set().Len() >= 200_000 })
	runtime.GC()
	before := memory()

	// 300 callers who do not read, ten from each address.
	slow := func(ip string) *net.TCPConn {
		t.Helper()
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		tcp := conn.(*net.TCPConn)
		if err := tcp.SetReadBuffer(4 << 10); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(conn, "GET /v1/blocklist HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: %s\r\n\r\n", ip); err != nil {
			t.Fatal(err)
		}
		return tcp
	}
	status := func(conn *net.TCPConn) string {
		t.Helper()
		line := make([]byte, len("HTTP/1.1 200"))
		if _, err := io.ReadFull(conn, line); err != nil {
			t.Fatal(err)
		}
		return string(line[len("HTTP/1.1 "):])
	}
	for i := range 300 {
		if got := status(slow(fmt.Sprintf("203.0.113.%d", i/10))); got != "200" {
			t.Fatalf("caller %d: %s", i, got)
		}
	}
	if got := status(slow("203.0.113.0")); got != "503" {
		t.Errorf("one more from an address: %s", got)
	}
	if grown := int64(memory()) - int64(before); grown > 64<<20 {
		t.Errorf("300 callers who do not read take %d MiB", grown>>20)
	}
	want(t, "me", s.Get(t, "/v1/me", p.AccessToken), http.StatusOK, "")
	refused := s.Get(t, "/v1/blocklist", "")
	want(t, "one more in all", refused, http.StatusServiceUnavailable, "busy")
	if refused.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}

	stream := func(ip string) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/v1/blocklist/stream", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Forwarded-For", ip)
		r.Header.Set("Last-Event-ID", s.Blocklist.Cursor())
		response, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = response.Body.Close() })
		return response.StatusCode
	}
	for i, wanted := range []int{200, 200, 200, 503} {
		if got := stream("203.0.113.1"); got != wanted {
			t.Errorf("stream %d of an address: %d, want %d", i+1, got, wanted)
		}
	}
	for i, wanted := range []int{200, 200, 503} {
		if got := stream(fmt.Sprintf("198.51.100.%d", i)); got != wanted {
			t.Errorf("stream %d of others: %d, want %d", i+1, got, wanted)
		}
	}
}

// fillBlocklist adds entries to an SQLite database beside the service.
func fillBlocklist(t testing.TB, db servicetest.Database, n int) {
	t.Helper()
	beside, err := sql.Open("sqlite", "file:"+strings.TrimPrefix(db.URL, sqlite.Prefix)+
		"?_pragma=busy_timeout(10000)&_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	defer beside.Close()
	_, err = beside.ExecContext(t.Context(), `BEGIN IMMEDIATE;
		UPDATE feed SET head = head + 1;
		WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
		INSERT INTO blocklist (key, not_before, drop_after, sequence) SELECT randomblob(16), ?2, ?2, (SELECT head FROM feed) FROM n;
		COMMIT`, n, time.Now().Add(time.Hour).Unix())
	if err != nil {
		t.Fatal(err)
	}
}

// Anybody may push requests for a public client. What is kept of them is what means something, for as long as they can be used,
// and no more from one address than it can have use for.
func TestPushedRequestsAreBounded(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db, func(c *service.Config) { c.TrustedProxies = []string{"127.0.0.1"} })
		registerClient(t, s, oauth.Client{ID: "app"})
		registerClient(t, s, oauth.Client{ID: "server", Type: oauth.Confidential, SecretHash: oauth.HashSecret(secretOf("server"))})
		push := func(ip, client string, more ...string) servicetest.Response {
			pairs := append([]string{
				"client_id", client, "response_type", "code", "redirect_uri", appRedirect, "code_challenge", challenge(),
				"code_challenge_method", "S256", "scope", "openid", "state", "a state",
			}, more...)
			if client == "server" {
				pairs = append(pairs, "client_secret", secretOf("server"))
			}
			return s.FormWith(t, "/oauth2/par", header("X-Forwarded-For", ip), pairs...)
		}
		var pushed struct {
			URI string `json:"request_uri"`
		}
		r := push("203.0.113.1", "app", "junk", strings.Repeat("x", 2000), "more junk", strings.Repeat("y", 2000))
		want(t, "push", r, http.StatusCreated, "")
		r.JSON(t, &pushed)
		kept, err := s.Store.VisitPushedRequest(t.Context(), sha256.Sum256([]byte(pushed.URI)), time.Now(), time.Now())
		if err != nil || strings.Contains(kept.Parameters, "junk") || !strings.Contains(kept.Parameters, "state=a+state") {
			t.Errorf("kept: %v, %s", err, kept.Parameters)
		}
		var resources []string
		for range 500 {
			resources = append(resources, "resource", s.Config.Issuer)
		}
		want(t, "a long one", push("203.0.113.1", "app", resources...), http.StatusBadRequest, "invalid_request")

		for range 5000 { // of which more are allowed, the longer they take
			if r = push("203.0.113.1", "app"); r.Status != http.StatusCreated {
				break
			}
		}
		want(t, "one too many", r, http.StatusServiceUnavailable, "temporarily_unavailable")
		if r.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		want(t, "from another address", push("203.0.113.2", "app"), http.StatusCreated, "")
		for range 320 { // a back end has one address for all its users
			want(t, "from a client with a secret", push("203.0.113.1", "server"), http.StatusCreated, "")
		}
	})
}

// Each login that is begun at a provider leaves a row. One address may not begin them without end.
func TestProviderAttemptsAreBounded(t *testing.T) {
	t.Parallel()
	h := openHouse(t, servicetest.SQLite(t), func(c *service.Config) { c.TrustedProxies = []string{"127.0.0.1"} })
	begin := func(ip string) servicetest.Response {
		return h.Do(t, http.MethodGet, strings.TrimPrefix(authorizeURL(h.Service, map[string]string{"provider": "liar"}), h.URL),
			header("X-Forwarded-For", ip), nil)
	}
	var last servicetest.Response
	for range 5000 {
		if last = begin("203.0.113.1"); last.Status != http.StatusSeeOther {
			break
		}
	}
	if last.Status != http.StatusTooManyRequests || last.Header.Get("Retry-After") == "" {
		t.Errorf("the last one: %d", last.Status)
	}
	if r := begin("203.0.113.2"); r.Status != http.StatusSeeOther {
		t.Errorf("from another address: %d", r.Status)
	}
}

// Receivers of events that take connections and never answer delay none of the others.
func TestSignalsPassDeadReceivers(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db, withPrivateReceivers)
		hung := make(chan struct{})
		dead := newEndpoint(t, func(int, http.ResponseWriter) { <-hung })
		t.Cleanup(func() { close(hung) })
		alive := newEndpoint(t, accept)
		for _, e := range []*endpoint{dead, dead, dead, alive} {
			addReceiver(t, s).created(object{
				"events_requested": []string{caep},
				"delivery":         object{"method": "urn:ietf:rfc:8935", "endpoint_url": e.URL + "/events"},
			})
		}
		for n := range 3 {
			p := signUp(t, s)
			began := time.Now()
			logOut(t, s, p)
			servicetest.Eventually(t, "the event arrives", func() bool { return len(alive.received()) == n+1 })
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("an event arrived after %s", took)
			}
		}
	})
}

// A page that is loaded anew, and each tab, has a session of its own, and none ends for another. The person sees one line for
// them, and ends them with it.
func TestTabsAreOneDevice(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := signUp(t, w.Service)
		b := newBrowser(t, w.Service)
		var tabs []servicetest.Tokens
		tab := func(page page) {
			t.Helper()
			tabs = append(tabs, redeem(t, w.Service, page.code(t), "client_id", "web").Tokens(t))
		}
		tab(b.logIn(b.open(authorizeURL(w.Service, map[string]string{"client_id": "web"})), p.email))
		for range 9 {
			tab(b.open(authorizeURL(w.Service, map[string]string{"client_id": "web", "prompt": "none"})))
		}
		lines := func() (mine []string) {
			t.Helper()
			var list struct {
				Sessions []struct {
					ID       string
					ClientID string `json:"client_id"`
				}
			}
			w.Get(t, "/v1/sessions", p.AccessToken).JSON(t, &list)
			if len(list.Sessions) != 2 && len(list.Sessions) != 1 {
				t.Errorf("%d lines", len(list.Sessions))
			}
			for _, one := range list.Sessions {
				if one.ClientID == "web" {
					mine = append(mine, one.ID)
				}
			}
			return mine
		}
		if got := lines(); len(got) != 1 {
			t.Fatalf("%d lines for ten tabs", len(got))
		}
		refresh := func(tokens servicetest.Tokens) servicetest.Response {
			return w.Form(t, "/oauth2/token", "grant_type", "refresh_token", "refresh_token", tokens.RefreshToken, "client_id", "web")
		}
		for i := range tabs {
			r := refresh(tabs[i])
			want(t, "a tab that slept", r, http.StatusOK, "")
			tabs[i] = r.Tokens(t)
		}
		one := lines()[0]
		want(t, "end", w.JSON(t, http.MethodDelete, "/v1/sessions/"+one, p.AccessToken, nil), http.StatusNoContent, "")
		for _, tokens := range tabs {
			want(t, "a tab of the device that was ended", refresh(tokens), http.StatusBadRequest, "invalid_grant")
		}
		if got := lines(); len(got) != 0 {
			t.Errorf("%d lines are left", len(got))
		}
	})
}
