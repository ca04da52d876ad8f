package main

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/store/postgres/pgtest"
)

// blocks joins the code blocks of a kind in a page of the guide. Those in lists are indented.
func blocks(t *testing.T, page, kind string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/" + page)
	if err != nil {
		t.Fatal(err)
	}
	script, _ := walk(strings.ReplaceAll(string(text), "\n   ", "\n"), kind)
	if script == "" {
		t.Fatalf("%s has no block %q", page, kind)
	}
	return script
}

// TestBackupPage does what docs/backup.md says, on both databases: what was signed up before the backup is there after the
// restore, and what could have been revoked meanwhile has ended.
func TestBackupPage(t *testing.T) {
	for name, url := range map[string]func(t *testing.T) string{
		"sqlite":   func(*testing.T) string { return "sqlite:data/handstamp.db" },
		"postgres": func(t *testing.T) string { t.Helper(); return pgtest.URL(t) },
	} {
		t.Run(name, func(t *testing.T) {
			dir, addr := t.TempDir(), freePort(t)
			env := append(os.Environ(), "HANDSTAMP_LISTEN="+addr, "HANDSTAMP_DATABASE_URL="+url(t), "HANDSTAMP_MIGRATE=true",
				"HANDSTAMP_METRICS_LISTEN=", "HANDSTAMP_PASSWORD_MEMORY=64", "HANDSTAMP_PASSWORD_TIME=1",
				"PATH="+pgtest.Programs(t)+":"+os.Getenv("PATH"))
			if err := os.Mkdir(filepath.Join(dir, "backups"), 0o700); err != nil {
				t.Fatal(err)
			}
			sh := func(script string, more ...string) {
				t.Helper()
				cmd := exec.CommandContext(t.Context(), "bash", "-euc", script)
				cmd.Dir, cmd.Env = dir, append(env, more...)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s\n%s", err, script, out)
				}
			}
			serve := func() (stop func()) {
				t.Helper()
				cmd := exec.CommandContext(t.Context(), "handstamp", "serve")
				out := &lockedBuffer{}
				cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, env, out, out
				start(t, cmd)
				until(t, "it is ready", func() bool {
					status, _ := fetch(t.Context(), t, "http://"+addr+"/readyz")
					return status == http.StatusOK
				})
				return func() {
					t.Helper()
					if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
						t.Fatal(err)
					}
					if err := cmd.Wait(); err != nil {
						t.Fatalf("%v\n%s", err, out)
					}
				}
			}
			logIn := func() (status int) {
				t.Helper()
				status, err := post(t.Context(), http.DefaultClient, "http://"+addr+"/v1/login",
					`{"email":"ann@example.com","password":"violet-otter-93"}`)
				if err != nil {
					t.Fatal(err)
				}
				return status
			}

			stop := serve()
			if status, err := post(t.Context(), http.DefaultClient, "http://"+addr+"/v1/signup",
				`{"email":"ann@example.com","password":"violet-otter-93"}`); err != nil || status != http.StatusCreated {
				t.Fatal(status, err)
			}
			sh(blocks(t, "backup.md", "sh "+name))
			stop()
			if name == "sqlite" {
				sh(blocks(t, "backup.md", "sh sqlite restore"))
			} else {
				fresh := pgtest.URL(t)
				sh(blocks(t, "backup.md", "sh postgres restore"), "HANDSTAMP_DATABASE_URL="+fresh)
				env = append(env, "HANDSTAMP_DATABASE_URL="+fresh)
			}
			sh("handstamp config check --connect")
			stop = serve()
			if status := logIn(); status != http.StatusOK {
				t.Errorf("login: %d", status)
			}
			sh("test $(handstamp session list ann@example.com | grep -c ^ses_) = 2")
			sh(blocks(t, "backup.md", "sh sqlite after"))
			sh("! handstamp session list ann@example.com | grep ^ses_")
			stop()
		})
	}
}

// TestDocsRegister runs the commands of the pages that register clients.
func TestDocsRegister(t *testing.T) {
	for page, kind := range map[string]string{"which-way.md": "sh ways", "mobile.md": "sh mobile"} {
		t.Run(page, func(t *testing.T) {
			dir := t.TempDir()
			cmd := exec.CommandContext(t.Context(), "bash", "-euc", "handstamp migrate up\n"+blocks(t, page, kind))
			cmd.Dir = dir
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// TestMobilePage sends the refresh of docs/mobile.md twice, as an app does that lost the answer.
func TestMobilePage(t *testing.T) {
	s := servicetest.Start(t, servicetest.SQLite(t))
	first := s.SignUp(t, "ann@example.com")
	script := strings.ReplaceAll(blocks(t, "mobile.md", "sh mobile-refresh"), "http://127.0.0.1:8080", s.URL)
	refresh := func() string {
		cmd := exec.CommandContext(t.Context(), "bash", "-euc", script)
		cmd.Env = append(os.Environ(), "key=written-down-before", "refresh="+first.RefreshToken)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		var answer struct {
			RefreshToken string `json:"refresh_token"`
		}
		if err := json.Unmarshal(out, &answer); err != nil || answer.RefreshToken == "" {
			t.Fatalf("%v\n%s", err, out)
		}
		return answer.RefreshToken
	}
	if a, b := refresh(), refresh(); a != b {
		t.Errorf("the repeat brought %s after %s", b, a)
	}
}

// TestDocsLinks finds links of the guide to files that are not there.
func TestDocsLinks(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, "../../README.md", "../../examples/README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\]\(([^):#]+)(?:#[^)]*)?\)`).FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
	}
}

// TestDocsNameRealCommands finds commands and settings in the guide that do not exist.
func TestDocsNameRealCommands(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatal("no pages", err)
	}
	root := (&program{}).rootCommand()
	c := defaultConfig()
	known := map[string]bool{"HANDSTAMP_CONFIG": true}
	for _, s := range settings(&c) {
		known[s.env()], known[s.env()+"_FILE"] = true, s.secret
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		commands := regexp.MustCompile("[`\n ]handstamp ([a-z][a-z-]*(?: [a-z][a-z-]*)?)")
		for _, m := range commands.FindAllStringSubmatch(string(text), -1) {
			if found, _, err := root.Find(strings.Fields(m[1])); err != nil || found == root {
				t.Errorf("%s: there is no command handstamp %s", page, m[1])
			}
		}
		for _, name := range regexp.MustCompile(`HANDSTAMP_[A-Z_]+[A-Z]`).FindAllString(string(text), -1) {
			if !known[name] {
				t.Errorf("%s: there is no setting %s", page, name)
			}
		}
	}
}

// TestServerRenderedPage registers the application of docs/server-rendered.md as it says, builds and runs its code, and is sent
// to log in by it.
func TestServerRenderedPage(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir, service, listen := t.TempDir(), freePort(t), freePort(t)
	source := filepath.Join(dir, "main.go")
	if err := os.WriteFile(source, []byte(blocks(t, "server-rendered.md", "go")), 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "app"), source)
	build.Dir = root // of the module whose packages the code imports
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	env := append(os.Environ(), "HANDSTAMP_LISTEN="+service, "HANDSTAMP_METRICS_LISTEN=")
	background := func(name string, more ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, more...)
		out := &lockedBuffer{}
		cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, out
		cmd.Env = append(env, "ISSUER=http://"+service, "URL=http://"+listen, "LISTEN="+listen, "CLIENT_SECRET=x")
		start(t, cmd)
	}
	background("handstamp", "serve")
	until(t, "the service is ready", func() bool {
		status, _ := fetch(t.Context(), t, "http://"+service+"/readyz")
		return status == http.StatusOK
	})
	register := exec.CommandContext(t.Context(), "bash", "-euc", blocks(t, "server-rendered.md", "sh"))
	register.Dir, register.Env = dir, env
	if out, err := register.CombinedOutput(); err != nil || !strings.Contains(string(out), "secret") {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.WriteFile(filepath.Join(dir, "session.key"), []byte("0123456789abcdef0123456789ABCDEF"), 0o600); err != nil {
		t.Fatal(err)
	}
	background(filepath.Join(dir, "app"))
	until(t, "the application shows its page", func() bool {
		status, body := fetch(t.Context(), t, "http://"+listen+"/")
		return status == http.StatusOK && strings.Contains(body, `id="login"`)
	})
	if status, _ := fetch(t.Context(), t, "http://"+listen+"/orders"); status != http.StatusUnauthorized {
		t.Errorf("orders without a session: %d", status)
	}
}
