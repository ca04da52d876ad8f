package upstreamtest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

// install installs the locked version, unless it is there. The tests of several packages ask for it at once, each in a
// process of its own.
func install(ctx context.Context, dir string) error {
	lock, err := os.Open(filepath.Join(dir, "package-lock.json"))
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	mark := filepath.Join(dir, "node_modules", ".installed")
	if _, err := os.Stat(mark); err == nil {
		return nil
	}
	npm := exec.CommandContext(ctx, "npm", "ci", "--no-audit", "--no-fund")
	npm.Dir = dir
	if out, err := npm.CombinedOutput(); err != nil {
		return fmt.Errorf("npm ci: %w\n%s", err, out)
	}
	return os.WriteFile(mark, nil, 0o600)
}

// StartOIDCProvider runs npm's oidc-provider until the test ends, and returns its issuer. It installs the locked
// version if it is missing.
func StartOIDCProvider(t testing.TB, redirectURI string) string {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	dir := filepath.Join(filepath.Dir(here), "testdata", "oidc-provider")
	if err := install(t.Context(), dir); err != nil {
		t.Fatalf("this test needs Node.js 20 or later, npm and a registry to install %s from: %v", dir, err)
	}
	config, err := json.Marshal(map[string]string{"clientId": ClientID, "clientSecret": ClientSecret, "redirectUri": redirectURI})
	if err != nil {
		t.Fatal(err)
	}
	//nolint:gosec // ends with its standard input; the arguments are the test's own
	cmd := exec.Command("node", "server.mjs", string(config))
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("this test needs Node.js 20 or later: %v", err)
	}
	t.Cleanup(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("oidc-provider: %v\n%s", err, stderr.String())
		}
	})
	out := bufio.NewReader(stdout)
	line, err := out.ReadBytes('\n')
	var ready struct{ Issuer string }
	if err != nil || json.Unmarshal(line, &ready) != nil || ready.Issuer == "" {
		t.Fatalf("oidc-provider did not start: %q, %v", line, err)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }() // ends with the process
	return ready.Issuer
}
