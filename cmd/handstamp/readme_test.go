package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestREADME runs the README's commands as printed: its first one, the walk with what it says comes out, and the
// settings. Only the ports are replaced by free ones, and the directory in which the service keeps its data.
func TestREADME(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme := string(text)
	const first = "go run ./cmd/handstamp serve"
	if !strings.Contains(readme, "```sh\n"+first+"\n```") || !strings.Contains(readme, "```sh\nmake test\n```") {
		t.Fatal("the README does not begin with its two commands")
	}
	if lines := strings.Count(readme, "\n"); lines > 150 {
		t.Errorf("the README has %d lines: it is a front door of at most 150, and the rest is for docs", lines)
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	service, api := freePort(t), freePort(t)
	ports := strings.NewReplacer("127.0.0.1:8080", service, "127.0.0.1:9090", api)
	bin := filepath.Join(dir, "bin")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin+"/handstamp",
		root+"/cmd/handstamp").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	env := append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "HANDSTAMP_LISTEN="+service,
		"HANDSTAMP_DATABASE_URL=sqlite:"+dir+"/data/handstamp.db", "HANDSTAMP_KEYS_DIR="+dir+"/keys",
		"HANDSTAMP_METRICS_LISTEN="+freePort(t))

	var log bytes.Buffer
	serve := exec.CommandContext(t.Context(), "bash", "-c", "exec "+first)
	serve.Dir, serve.Env, serve.Stdout, serve.Stderr = root, env, &log, &log
	start(t, serve)
	waitFor(t, service, &log)

	t.Run("walk", func(t *testing.T) {
		script, wanted := walk(readme, "sh walk")
		out := runScript(t, root, env, ports.Replace(script))
		for _, w := range wanted {
			i := w.pattern.FindStringIndex(out)
			if i == nil {
				t.Fatalf("after %q the README promises %q, which is missing from:\n%s", w.after, w.pattern, out)
			}
			out = out[i[1]:]
		}
	})
	t.Run("github", func(t *testing.T) {
		config, commands := blocks(t, "providers.md", "yaml github"), blocks(t, "providers.md", "sh github")
		if err := os.WriteFile(filepath.Join(dir, "github.secret"), []byte("THE-SECRET"), 0o600); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, "handstamp.yaml")
		config = strings.ReplaceAll(config, "keys/github.secret", filepath.Join(dir, "github.secret"))
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		runScript(t, root, append(env, "HANDSTAMP_CONFIG="+file), "handstamp config check\n"+commands)
	})
	t.Run("run", func(t *testing.T) {
		script, _ := walk(readme, "sh run")
		runScript(t, root, env, script)
	})
}

type expectation struct {
	after   string
	pattern *regexp.Regexp
}

// walk joins the README's blocks of a kind into one script, and collects what they say comes out; "…" stands for anything.
func walk(readme, kind string) (script string, wanted []expectation) {
	var b strings.Builder
	for i, block := range strings.Split(readme, "```"+kind+"\n") {
		if i == 0 {
			continue
		}
		code, _, _ := strings.Cut(block, "```")
		last := ""
		for line := range strings.Lines(code) {
			line = strings.TrimSuffix(line, "\n")
			if text, ok := strings.CutPrefix(line, "#=> "); ok {
				pattern := "(?s)" + strings.ReplaceAll(regexp.QuoteMeta(text), "…", ".*?")
				wanted = append(wanted, expectation{last, regexp.MustCompile(pattern)})
				continue
			}
			last = line
			b.WriteString(line + "\n")
		}
	}
	return b.String(), wanted
}

// runScript runs a script in a copy of its surroundings and returns what it printed. Files it writes go to a temporary directory.
func runScript(t *testing.T, root string, env []string, script string) string {
	t.Helper()
	work := t.TempDir()
	script = strings.NewReplacer("> tokens.json", "> "+work+"/tokens.json", "' tokens.json", "' "+work+"/tokens.json",
		"> second.json", "> "+work+"/second.json", "' second.json", "' "+work+"/second.json",
		"> third.json", "> "+work+"/third.json", "' third.json", "' "+work+"/third.json").Replace(script)
	cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir, cmd.Env = root, env
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	start(t, cmd)
	// What the script left running in the background ends with the test.
	if err := cmd.Wait(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		t.Fatalf("%v\n%s", err, out.String())
	}
	return out.String()
}

// start starts a command in a process group of its own, which ends with the test.
func start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second // of what the command left running in the background
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// waitFor waits until something listens on an address.
func waitFor(t *testing.T, addr string, log fmt.Stringer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err == nil {
			_ = c.Close()
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("nothing listens on %s:\n%s", addr, log)
		case <-tick.C:
		}
	}
}
