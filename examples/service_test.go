package examples

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const password = "violet-otter-93"

// service is a running Handstamp with a database of its own.
type service struct {
	url     string
	program string   // the executable
	flags   []string // with which commands reach the same database
	client  *http.Client
	users   int
}

// build builds a program of this module. The Go tool remembers what it has built.
func build(t *testing.T, pkg string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), filepath.Base(pkg))
	if out, err := command(t, "", "go", "build", "-o", path, pkg).CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, out)
	}
	return path
}

// startService starts Handstamp on a free port with SQLite, and flags on top.
func startService(t *testing.T, flags ...string) *service {
	t.Helper()
	path, dir := build(t, "../cmd/handstamp"), t.TempDir()
	s := &service{
		client:  http.DefaultClient,
		program: path,
		flags:   []string{"--database-url", "sqlite:" + filepath.Join(dir, "handstamp.db"), "--keys-dir", filepath.Join(dir, "keys")},
	}
	args := append([]string{"serve", "--listen", "127.0.0.1:0", "--metrics-listen", ""}, append(s.flags, flags...)...)
	ready := start(t, command(t, dir, path, args...), " is ready at ")
	_, s.url, _ = strings.Cut(ready, " is ready at ")
	return s
}

// startTLS starts Handstamp with https and a certificate of its own, and returns the file with the certificate, which clients
// must trust.
func startTLS(t *testing.T, flags ...string) (s *service, authority string) {
	t.Helper()
	dir := t.TempDir()
	client := writePair(t, dir)
	authority = filepath.Join(dir, "cert.pem")
	address := "127.0.0.1:" + freePort(t)
	s = startService(t, append([]string{
		"--issuer", "https://" + address, "--listen", address, "--tls-cert", authority, "--tls-key", filepath.Join(dir, "key.pem"),
	}, flags...)...)
	s.client = client
	return s, authority
}

func freePort(t *testing.T) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return port
}

// run runs a command of the service against its database, and returns what it printed.
func (s *service) run(t *testing.T, args ...string) []byte {
	t.Helper()
	c := command(t, "", s.program, append(args, s.flags...)...)
	c.Stdin = strings.NewReader(password) // for those that want one
	out, err := c.Output()
	if err != nil {
		t.Fatalf("handstamp %s: %v\n%s", strings.Join(args, " "), err, stderrOf(err))
	}
	return out
}

// login signs a new user up and returns an access token.
func (s *service) login(t *testing.T) string {
	t.Helper()
	s.users++
	status, body := s.post(t, "/v1/signup", fmt.Sprintf(`{"email":"ann%d@example.com","password":%q}`, s.users, password), "")
	if status != http.StatusCreated {
		t.Fatalf("signup: %d %s", status, body)
	}
	return accessToken(t, body)
}

// accessToken returns the access token in a token response.
func accessToken(t *testing.T, body []byte) string {
	t.Helper()
	var tokens struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal(body, &tokens); err != nil || tokens.AccessToken == "" {
		t.Fatalf("no token response: %s", body)
	}
	return tokens.AccessToken
}

// logout ends the session of an access token.
func (s *service) logout(t *testing.T, token string) {
	t.Helper()
	if status, body := s.post(t, "/v1/logout", "", token); status != http.StatusNoContent {
		t.Fatalf("logout: %d %s", status, body)
	}
}

func (s *service) post(t *testing.T, path, body, token string) (int, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, answer
}

// command returns a command in dir that ends with the test, with an environment in which no setting of the service stands.
func command(t *testing.T, dir, path string, args ...string) *exec.Cmd {
	t.Helper()
	c := exec.CommandContext(t.Context(), path, args...)
	c.Dir = dir
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	c.WaitDelay = 10 * time.Second
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "HANDSTAMP_") {
			c.Env = append(c.Env, kv)
		}
	}
	return c
}

// start starts a program and waits until it prints a line that contains mark, which it returns.
func start(t *testing.T, c *exec.Cmd, mark string) string {
	t.Helper()
	var stderr tail
	c.Stderr = &stderr
	stdout, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	found := make(chan string, 1)
	ended := make(chan struct{})
	go func() { // ends when the program does
		defer close(ended)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			if strings.Contains(lines.Text(), mark) {
				select {
				case found <- lines.Text():
				default:
				}
			}
		}
		_ = c.Wait() // it is stopped by a signal
	}()
	t.Cleanup(func() {
		_ = c.Cancel() // it may have ended
		<-ended
		if t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(c.Path), stderr.String())
		}
	})
	select {
	case line := <-found:
		return line
	case <-ended:
		t.Fatalf("%s ended before it was ready\n%s", c, stderr.String())
	case <-time.After(60 * time.Second):
		t.Fatalf("%s is not ready after a minute", c)
	}
	return ""
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (b *tail) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text = append(b.text, p...)
	b.text = b.text[max(0, len(b.text)-8<<10):]
	return len(p), nil
}

func (b *tail) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(bytes.TrimSpace(b.text))
}

func stderrOf(err error) []byte {
	if exit, ok := err.(*exec.ExitError); ok { //nolint:errorlint // Output returns it bare
		return exit.Stderr
	}
	return nil
}

// within polls until condition holds, and returns how long that took. It fails the test after limit.
func within(t *testing.T, limit time.Duration, what string, condition func(context.Context) bool) time.Duration {
	t.Helper()
	begin := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !condition(ctx) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: not within %v", what, limit)
		}
	}
	return time.Since(begin)
}
