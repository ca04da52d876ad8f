package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/handstamp/handstamp/pkg/store/postgres/pgtest"
)

// fetch gets an address; status 0 stands for no answer.
func fetch(ctx context.Context, t *testing.T, url string) (status int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err.Error()
	}
	return response.StatusCode, string(text)
}

// until waits for a condition.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for tick := time.NewTicker(20 * time.Millisecond); !condition(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 30 seconds", what)
		}
	}
}

// TestServeWaitsForPostgreSQL starts the service before its database: it says that it is alive and not ready, and goes to
// work by itself.
func TestServeWaitsForPostgreSQL(t *testing.T) {
	cluster := pgtest.NewCluster(t)
	cluster.Crash()
	r := serveForTest(t, "--database-url", cluster.URL(), "--migrate")
	until(t, "it says that it waits", func() bool { return strings.Contains(r.out.String(), "waiting for the database") })
	for path, want := range map[string]struct {
		status int
		body   string
	}{
		"/healthz":               {http.StatusOK, `"status":"ok"`},
		"/readyz":                {http.StatusServiceUnavailable, "the service waits for it"},
		"/v1/me":                 {http.StatusServiceUnavailable, `"code":"unavailable"`},
		"/oauth2/token":          {http.StatusServiceUnavailable, `"error":"temporarily_unavailable"`},
		"/.well-known/jwks.json": {http.StatusServiceUnavailable, `"code":"unavailable"`},
	} {
		status, body := fetch(t.Context(), t, "http://"+r.addr+path)
		if status != want.status || !strings.Contains(body, want.body) || !json.Valid([]byte(body)) {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if strings.Contains(r.out.String(), "is ready at") {
		t.Error("it says that it is ready")
	}
	cluster.Restart()
	until(t, "it is ready", func() bool {
		status, _ := fetch(t.Context(), t, "http://"+r.addr+"/readyz")
		return status == http.StatusOK
	})
	if code := r.end(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, r.out)
	}

	t.Run("and can be stopped meanwhile", func(t *testing.T) {
		cluster.Crash()
		r := serveForTest(t, "--database-url", cluster.URL(), "--migrate")
		until(t, "it says that it waits", func() bool { return strings.Contains(r.out.String(), "waiting for the database") })
		if code := r.end(); code != 0 {
			t.Errorf("exit code %d:\n%s", code, r.out)
		}
	})
}

// launch starts the program as a process of its own, which TestMain has put into the path.
func launch(t *testing.T, stderr *os.File, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "handstamp", args...)
	cmd.Dir, cmd.Stderr = t.TempDir(), stderr
	start(t, cmd)
	return cmd
}

// TestServeOutlivesItsReader closes the pipe that the log goes to. The next line must not end the service.
func TestServeOutlivesItsReader(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	addr := freePort(t)
	cmd := launch(t, writer, "serve", "--listen", addr, "--metrics-listen", "")
	_ = writer.Close()
	url := "http://" + addr + "/healthz"
	until(t, "it serves", func() bool { status, _ := fetch(t.Context(), t, url); return status == http.StatusOK })
	_ = reader.Close()
	for range 3 {
		if status, body := fetch(t.Context(), t, url); status != http.StatusOK {
			t.Fatalf("%d %s", status, body)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// TestReload sends SIGHUP: what can be changed changes, and a fault changes nothing.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "handstamp.yaml")
	settings := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	settings("brand_name: Alpha\nlog_level: warn\n")
	r := serveForTest(t, "--config", file)
	page := func() string { _, body := fetch(t.Context(), t, "http://"+r.addr+"/oauth2/authorize"); return body }
	logged := func(text string) func() bool { return func() bool { return strings.Contains(r.out.String(), text) } }
	until(t, "it is ready", logged("is ready at"))
	hup := func() {
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.Contains(page(), "Alpha") {
		t.Fatalf("no name on the page: %s", page())
	}
	settings("brand_name: Beta\nsignup: false\nsession_limit: 7\nlog_level: info\n")
	hup()
	until(t, "the name changes", func() bool { return strings.Contains(page(), "Beta") })
	until(t, "it says what has to wait", logged(`"waiting_for_a_restart":["session_limit"]`))
	if status, err := post(t.Context(), http.DefaultClient, "http://"+r.addr+"/v1/signup",
		`{"email":"ann@example.com","password":"violet-otter-93"}`); err != nil || status != http.StatusForbidden {
		t.Errorf("sign-up: %d, %v", status, err)
	}
	settings("brand_name: Gamma\nbrand_logo: missing.svg\n")
	hup()
	until(t, "it says that the settings have a fault", logged("those from before stay in force"))
	if got := page(); strings.Contains(got, "Gamma") || !strings.Contains(got, "Beta") {
		t.Error("half of the settings changed")
	}
}
