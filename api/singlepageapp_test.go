package api_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
)

// runProgram starts a program in a process group of its own, which ends with the test, and waits until an address answers.
func runProgram(t *testing.T, cmd *exec.Cmd, ready string) {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) // it may have ended
		<-ended
		log.Close()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, ready, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if response, err := http.DefaultClient.Do(r); err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-tick.C:
			continue
		case <-ended:
		case <-ctx.Done():
		}
		text, _ := os.ReadFile(log.Name())
		t.Fatalf("%s is not ready\n%s", cmd, text)
	}
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

// The example in React, started by its one command.
func TestSPAReact(t *testing.T) {
	t.Parallel()
	if err := buildJSClient(); err != nil {
		t.Fatal(err)
	}
	app, issuer := freePort(t), freePort(t)
	cmd := exec.CommandContext(t.Context(), "../examples/spa-react/run")
	cmd.Env = append(os.Environ(), "PORT="+app, "SERVICE_PORT="+issuer)
	runProgram(t, cmd, "http://127.0.0.1:"+app+"/main.js")
	node(t, "spa-react.mjs", map[string]string{
		"chromium": chromium(t),
		"app":      "http://localhost:" + app,
		"issuer":   "http://localhost:" + issuer,
		"password": servicetest.Password,
	})
}

// guide returns the code blocks of a kind in a page of docs.
func guide(t *testing.T, page, kind string) string {
	t.Helper()
	text, err := os.ReadFile("../docs/" + page)
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	for _, block := range strings.Split(strings.ReplaceAll(string(text), "\n   ", "\n"), "```"+kind+"\n")[1:] {
		block, _, _ = strings.Cut(block, "```")
		code.WriteString(block)
	}
	if code.Len() == 0 {
		t.Fatalf("%s has no block %q", page, kind)
	}
	return code.String()
}

// TestSinglePageAppGuide does what docs/single-page-app.md says, with the ports that are free.
func TestSinglePageAppGuide(t *testing.T) {
	t.Parallel()
	if err := buildJSClient(); err != nil {
		t.Fatal(err)
	}
	const page = "single-page-app.md"
	dir, issuer := t.TempDir(), freePort(t)
	mux := http.NewServeMux()
	app := httptest.NewServer(mux)
	t.Cleanup(app.Close)
	_, appPort, _ := net.SplitHostPort(strings.TrimPrefix(app.URL, "http://"))
	ports := strings.NewReplacer("localhost:8080", "localhost:"+issuer, "localhost:5173", "localhost:"+appPort)
	mux.HandleFunc("/client.js", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, filepath.Join(jsclientDir, "dist/index.js"))
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		call := "window.call = async () => {\n" + guide(t, page, "js") + "\nreturn me; };\ntry {"
		html := strings.Replace(guide(t, page, "html"), "try {", call, 1)
		_, _ = io.WriteString(w, ports.Replace(html))
	})

	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "handstamp"),
		"../cmd/handstamp").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	run := func(script string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), "bash", "-euc", ports.Replace(script))
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "HANDSTAMP_LISTEN=127.0.0.1:"+issuer,
			"HANDSTAMP_METRICS_LISTEN=")
		return cmd
	}
	runProgram(t, run(guide(t, page, "sh")), "http://127.0.0.1:"+issuer+"/readyz")
	if out, err := run(guide(t, page, "sh register")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	node(t, "singlepageapp.mjs", map[string]string{
		"chromium": chromium(t),
		"app":      "http://localhost:" + appPort,
		"password": servicetest.Password,
	})
}
