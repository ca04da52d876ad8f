// Package servicetest runs the real service inside a test: on SQLite and on PostgreSQL, one replica or several, over real
// connections on loopback.
package servicetest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/pkg/clock"
	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/store/postgres/pgtest"
)

// Database is an empty database that replicas can share.
type Database struct {
	Name string
	URL  string

	// Wrap, if set, puts itself between the service and its store.
	Wrap func(store.Store) store.Store
}

// Each runs a test on an empty database of each kind.
func Each(t *testing.T, test func(t *testing.T, db Database)) {
	t.Helper()
	for name, open := range map[string]func(testing.TB) Database{"sqlite": SQLite, "postgres": Postgres} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

// SQLite returns an empty SQLite database.
func SQLite(t testing.TB) Database {
	t.Helper()
	return Database{Name: "sqlite", URL: "sqlite:" + filepath.Join(t.TempDir(), "handstamp.db")}
}

// Postgres returns an empty PostgreSQL database. Without a server the test fails: make test starts one.
func Postgres(t testing.TB) Database {
	t.Helper()
	return Database{Name: "postgres", URL: pgtest.URL(t)}
}

// Master is the master key of every service under test.
var Master = base64.StdEncoding.EncodeToString([]byte("a master key that only tests use")) //nolint:gochecknoglobals // constant

// Service is one running replica.
type Service struct {
	*service.Service
	Config service.Config
	URL    string
	Log    *Log
	// Metrics has the figures of the replica.
	Metrics *prometheus.Registry

	http *http.Server
	stop func()
}

// Start runs a replica until the test ends. The password hash is a cheap one; change may set whatever else a test needs.
func Start(t testing.TB, db Database, change ...func(*service.Config)) *Service {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := service.DefaultConfig()
	c.DatabaseURL, c.Migrate, c.MasterKey = seal.Secret(db.URL), true, seal.Secret(Master)
	c.Argon2Memory, c.Argon2Time = 64, 1
	c.RefusalHold, c.SignupIPLimit, c.BusyIPLimit = 0, 0, 0 // all tests come from one address, and do not wait
	c.Clock = OldClock()
	c.MailDir = t.TempDir()
	c.Listen = listener.Addr().String()
	c.Issuer = "http://" + c.Listen
	for _, f := range change {
		f(&c)
	}
	if len(c.Audience) == 0 {
		c.Audience = []string{c.Issuer}
	}
	s := &Service{Config: c, URL: "http://" + listener.Addr().String(), Log: &Log{}, Metrics: prometheus.NewRegistry()}
	log := slog.New(slog.NewJSONHandler(s.Log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	opened, err := service.OpenCurrentStore(context.Background(), c, log)
	if err != nil {
		t.Fatal(err)
	}
	if db.Wrap != nil {
		opened = db.Wrap(opened)
	}
	if s.Service, err = service.New(context.Background(), c, opened, log, s.Metrics); err != nil {
		t.Fatal(err)
	}
	s.http = &http.Server{
		Handler:           s.API,
		ReadHeaderTimeout: 5 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ConnContext:       door.WithConnection,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	s.http.RegisterOnShutdown(s.API.Stop)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = s.http.Serve(listener)
	}()
	s.stop = sync.OnceFunc(func() {
		_ = s.http.Close()
		<-served
		if err := s.Close(); err != nil {
			t.Errorf("close service: %v", err)
		}
	})
	t.Cleanup(s.stop)
	return s
}

// Stop ends the replica before the test does.
func (s *Service) Stop() { s.stop() }

// Log collects what the service logs.
type Log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String returns everything logged so far.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Response is an answer that was read to its end.
type Response struct {
	Status int
	Header http.Header
	Body   string
}

// JSON decodes the body, or fails the test.
func (r Response) JSON(t testing.TB, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.Body), into); err != nil {
		t.Fatalf("answer %d is not JSON: %v\n%s", r.Status, err, r.Body)
	}
}

// Code is the code of a problem document, or the error of an OAuth error; empty for neither.
func (r Response) Code() string {
	var body struct{ Code, Error string }
	_ = json.Unmarshal([]byte(r.Body), &body)
	return body.Code + body.Error
}

// Do sends a request.
func (s *Service) Do(t testing.TB, method, path string, header http.Header, body io.Reader) Response {
	t.Helper()
	r, err := s.Try(t.Context(), method, path, header, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Try is Do for goroutines of a test: it returns the error.
func (s *Service) Try(ctx context.Context, method, path string, header http.Header, body io.Reader) (Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, s.URL+path, body)
	if err != nil {
		return Response{}, err
	}
	maps.Copy(request.Header, header)
	response, err := client().Do(request)
	if err != nil {
		return Response{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return Response{Status: response.StatusCode, Header: response.Header, Body: string(text)}, err
}

// client keeps no connection, so that a replica may be stopped at any time, and follows no redirect.
func client() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// JSON sends a JSON document, with an access token unless it is empty.
func (s *Service) JSON(t testing.TB, method, path, accessToken string, body any) Response {
	t.Helper()
	header := http.Header{}
	if accessToken != "" {
		header.Set("Authorization", "Bearer "+accessToken)
	}
	var reader io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		header.Set("Content-Type", "application/json")
		reader = bytes.NewReader(text)
	}
	return s.Do(t, method, path, header, reader)
}

// Get sends a GET with an access token unless it is empty.
func (s *Service) Get(t testing.TB, path, accessToken string) Response {
	t.Helper()
	return s.JSON(t, http.MethodGet, path, accessToken, nil)
}

// Form posts a form given as names and values in turn.
func (s *Service) Form(t testing.TB, path string, pairs ...string) Response {
	t.Helper()
	return s.FormWith(t, path, nil, pairs...)
}

// FormWith posts a form with further header fields.
func (s *Service) FormWith(t testing.TB, path string, header http.Header, pairs ...string) Response {
	t.Helper()
	r, err := s.TryForm(t.Context(), path, header, pairs...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TryForm is FormWith for goroutines of a test.
func (s *Service) TryForm(ctx context.Context, path string, header http.Header, pairs ...string) (Response, error) {
	form := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		form.Add(pairs[i], pairs[i+1])
	}
	h := header.Clone()
	if h == nil {
		h = http.Header{}
	}
	h.Set("Content-Type", "application/x-www-form-urlencoded")
	return s.Try(ctx, http.MethodPost, path, h, strings.NewReader(form.Encode()))
}

// Tokens is a token response.
type Tokens struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int64  `json:"expires_in"`
	RefreshToken string `json:"refresh_token"`
	IDToken      string `json:"id_token"`
	Scope        string `json:"scope"`
}

// Tokens returns the tokens of an answer, or fails the test if it is none.
func (r Response) Tokens(t testing.TB) Tokens {
	t.Helper()
	if r.Status != http.StatusOK && r.Status != http.StatusCreated {
		t.Fatalf("no tokens: %d %s", r.Status, r.Body)
	}
	var tokens Tokens
	r.JSON(t, &tokens)
	return tokens
}

// Password is a password that the policy accepts.
const Password = "violet-otter-93"

// SignUp creates a user and returns the tokens of the first session.
func (s *Service) SignUp(t testing.TB, email string) Tokens {
	t.Helper()
	return s.JSON(t, http.MethodPost, "/v1/signup", "", map[string]string{"email": email, "password": Password}).Tokens(t)
}

// LogIn starts another session of a user.
func (s *Service) LogIn(t testing.TB, email string) Tokens {
	t.Helper()
	return s.JSON(t, http.MethodPost, "/v1/login", "", map[string]string{"email": email, "password": Password}).Tokens(t)
}

// Refresh presents a refresh token of the built-in client.
func (s *Service) Refresh(t testing.TB, refreshToken string) Response {
	t.Helper()
	return s.Form(t, "/oauth2/token", "grant_type", "refresh_token", "refresh_token", refreshToken, "client_id", "default")
}

// Claims returns the claims of an access token, unverified.
func Claims(t testing.TB, accessToken string) map[string]any {
	t.Helper()
	parts := strings.Split(accessToken, ".")
	if len(parts) != 3 {
		t.Fatalf("not a JWT: %q", accessToken)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

// OldClock is the clock of a process that has run for an hour: it was there when what a test makes older than it is was made.
func OldClock() *clock.Clock {
	var asked bool
	return clock.New(func() time.Time {
		if !asked {
			asked = true
			return time.Now().Add(-time.Hour)
		}
		return time.Now()
	})
}

// Eventually waits until a condition holds. It fails after half a minute: what the service promises within a second comes
// later on a machine that is busy, and how soon it comes is measured, not tested.
func Eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-deadline.C:
			t.Fatalf("%s: not within half a minute", what)
		case <-tick.C:
		}
	}
}
