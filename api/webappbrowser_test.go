package api_test

import (
	"bufio"
	"context"
	"flag"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
)

// A person uses the example of a web application in Chromium, started as its README line says. go test -artifacts takes pictures.
func TestWebAppInChromium(t *testing.T) {
	t.Parallel()
	dir, service, listen := t.TempDir(), unusedAddress(t), unusedAddress(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := exec.CommandContext(ctx, "../examples/web-app/run")
	cmd.Env = append(os.Environ(), "WEB_APP_DIR="+dir, "WEB_APP_SERVICE="+service, "WEB_APP_LISTEN="+listen,
		"HANDSTAMP_PASSWORD_MEMORY=64", "HANDSTAMP_PASSWORD_TIME=1")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	log := &servicetest.Log{}
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if strings.Contains(lines.Text(), "web-app is ready at ") {
				close(ready)
			}
		}
		_ = cmd.Wait() // it is stopped by a signal
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		if t.Failed() {
			service, _ := os.ReadFile(filepath.Join(dir, "handstamp.log"))
			t.Logf("%s\n%s", log, service)
		}
	})
	select {
	case <-ready:
	case <-ended:
		t.Fatal("it ended before it was ready")
	case <-time.After(3 * time.Minute):
		t.Fatal("it is not ready after three minutes")
	}
	shots := ""
	if keep := flag.Lookup("test.artifacts"); keep != nil && keep.Value.String() == "true" {
		shots = t.ArtifactDir()
	}
	for check, fault := range node(t, "webapp.mjs", map[string]any{
		"chromium": chromium(t),
		"shots":    shots,
		"app":      "http://" + listen,
		"issuer":   "http://" + service,
		"email":    "ann@example.com",
		"password": servicetest.Password,
		"roles":    []string{filepath.Join(dir, "handstamp"), "user", "roles", "set", "--email", "ann@example.com", "admin"},
	}, "HANDSTAMP_DATABASE_URL=sqlite:"+filepath.Join(dir, "handstamp.db"), "HANDSTAMP_KEYS_DIR="+filepath.Join(dir, "keys")) {
		if fault != "" {
			t.Errorf("%s: %v", check, fault)
		}
	}
}

// unusedAddress is an address on loopback that nobody listens on.
func unusedAddress(t *testing.T) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
