package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/handstamp/handstamp/pkg/store/postgres/pgtest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"handstamp": main})
}

// TestScripts runs the commands as typed. Those in testdata/database are run on each kind of database, which is migrated before.
func TestScripts(t *testing.T) {
	for _, file := range scripts(t, "script") {
		t.Run(name(file), func(t *testing.T) { runCommands(t, file) })
	}
	for _, file := range scripts(t, "database") {
		t.Run(name(file)+"/sqlite", func(t *testing.T) {
			url := "sqlite:" + t.TempDir() + "/handstamp.db"
			migrated(t, url)
			runCommands(t, file, "HANDSTAMP_DATABASE_URL="+url)
		})
		t.Run(name(file)+"/postgres", func(t *testing.T) {
			url := pgtest.URL(t)
			migrated(t, url)
			runCommands(t, file, "HANDSTAMP_DATABASE_URL="+url)
		})
	}
	t.Run("migrate", func(t *testing.T) { runCommands(t, "testdata/migrate.txtar", "POSTGRES="+pgtest.URL(t)) })
}

func migrated(t *testing.T, url string) {
	t.Helper()
	if code := run(t.Context(), []string{"migrate", "up"}, []string{"HANDSTAMP_DATABASE_URL=" + url}, nil, io.Discard,
		t.Output()); code != 0 {
		t.Fatalf("migrate up: %d", code)
	}
}

func scripts(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/" + dir + "/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts in %s: %v", dir, err)
	}
	return files
}

func name(file string) string { return strings.TrimSuffix(filepath.Base(file), ".txtar") }

func runCommands(t *testing.T, file string, env ...string) {
	t.Helper()
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Files: []string{file}, RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			// Cheap hashes, and no fixed port.
			e.Vars = append(e.Vars, "HANDSTAMP_PASSWORD_MEMORY=64", "HANDSTAMP_PASSWORD_TIME=1", "HANDSTAMP_METRICS_LISTEN=127.0.0.1:0")
			e.Vars = append(e.Vars, env...)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits,
			"nextsecond": func(*testscript.TestScript, bool, []string) {
				now := time.Now()
				<-time.After(now.Truncate(time.Second).Add(time.Second).Sub(now))
			},
			"mode":     mode,
			"freeport": func(ts *testscript.TestScript, _ bool, args []string) { ts.Setenv(args[0], freePort(t)) },
			"serving":  serving, "http": request, "get": get, "eventually": eventually,
		},
	})
}

// exits runs a command that ends with an exit code: exits CODE PROGRAM ARGUMENT...
func exits(ts *testscript.TestScript, _ bool, args []string) {
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		failed, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		code = failed.ExitCode()
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

// mode checks a file's permissions: mode OCTAL FILE...
func mode(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.ParseUint(args[0], 8, 32)
	ts.Check(err)
	for _, file := range args[1:] {
		info, err := os.Stat(ts.MkAbs(file))
		ts.Check(err)
		if info.Mode().Perm() != fs.FileMode(want) {
			ts.Fatalf("%s has mode %04o, want %04o", file, info.Mode().Perm(), want)
		}
	}
}

// within tries until a condition holds.
func within(ts *testscript.TestScript, what string, condition func() bool) {
	deadline := time.Now().Add(30 * time.Second)
	for tick := time.NewTicker(10 * time.Millisecond); !condition(); <-tick.C {
		if time.Now().After(deadline) {
			ts.Fatalf("%s: not within 30 seconds", what)
		}
	}
}

// serving waits until a service is ready: serving HOST:PORT
func serving(ts *testscript.TestScript, _ bool, args []string) {
	within(ts, "ready", func() bool {
		response, err := http.Get("http://" + args[0] + "/readyz") //nolint:noctx // ends with the test
		if err != nil {
			return false
		}
		_ = response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
}

// request sends a request and keeps the body of its answer: http STATUS METHOD URL FILE [BODY [TOKEN]]. A body that is
// no JSON is a form. With a "?" before the status, it is repeated until the status comes.
func request(ts *testscript.TestScript, _ bool, args []string) {
	status, repeat := strings.CutPrefix(args[0], "?")
	send := func() (got string, text []byte) {
		body := ""
		if len(args) > 4 {
			body = args[4]
		}
		r, err := http.NewRequest(args[1], args[2], strings.NewReader(body)) //nolint:noctx // ends with the test
		ts.Check(err)
		if strings.HasPrefix(body, "{") {
			r.Header.Set("Content-Type", "application/json")
		} else if body != "" {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		if len(args) > 5 {
			r.Header.Set("Authorization", "Bearer "+args[5])
		}
		response, err := http.DefaultClient.Do(r)
		ts.Check(err)
		defer response.Body.Close()
		text, err = io.ReadAll(response.Body)
		ts.Check(err)
		return strconv.Itoa(response.StatusCode), text
	}
	got, text := send()
	if repeat {
		within(ts, "status "+status, func() bool { got, text = send(); return got == status })
	}
	if got != status {
		ts.Fatalf("status %s, want %s: %s", got, status, text)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[3]), text, 0o600))
}

// get takes a member of a JSON document into a variable: get VARIABLE MEMBER [FILE]. Of a list, the first is meant; the
// file is stdout if none is named.
func get(ts *testscript.TestScript, _ bool, args []string) {
	file := "stdout"
	if len(args) > 2 {
		file = args[2]
	}
	var value any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(file)), &value))
	if list, ok := value.([]any); ok && len(list) > 0 {
		value = list[0]
	}
	object, _ := value.(map[string]any)
	if object[args[1]] == nil {
		ts.Fatalf("no %s in %s", args[1], ts.ReadFile(file))
	}
	ts.Setenv(args[0], fmt.Sprint(object[args[1]]))
}

// eventually waits until a file has a line that matches: eventually FILE PATTERN
func eventually(ts *testscript.TestScript, _ bool, args []string) {
	pattern := regexp.MustCompile("(?m)" + args[1])
	within(ts, args[1], func() bool {
		text, err := os.ReadFile(ts.MkAbs(args[0]))
		return err == nil && pattern.Match(text)
	})
}

// TestScriptsAreComplete demands that every command and every flag of its own stands in a script.
func TestScriptsAreComplete(t *testing.T) {
	var typed []string
	for _, dir := range []string{"testdata/*.txtar", "testdata/*/*.txtar"} {
		files, err := filepath.Glob(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(text)) {
				if strings.Contains(line, "handstamp ") && !strings.HasPrefix(line, "#") {
					typed = append(typed, strings.TrimSpace(line))
				}
			}
		}
	}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			walk(sub)
		}
		if c.HasSubCommands() || !c.Runnable() {
			return
		}
		lines := slices.DeleteFunc(slices.Clone(typed),
			func(line string) bool { return !strings.Contains(line+" ", c.CommandPath()+" ") })
		if !slices.ContainsFunc(lines, func(line string) bool { return !strings.Contains(line, "--help") }) {
			t.Errorf("no script runs %s", c.CommandPath())
		}
		c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" && !slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, "--"+f.Name) }) {
				t.Errorf("no script runs %s --%s", c.CommandPath(), f.Name)
			}
		})
	}
	walk((&program{}).rootCommand())
}

// TestSettingsPrecedence tries each setting in the file, in the environment and as a flag: the flag wins over the
// environment, that over the file.
func TestSettingsPrecedence(t *testing.T) {
	values := map[string][3]string{
		"issuer":           {"http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3"},
		"listen":           {"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"},
		"refresh_lifetime": {"11d", "12d", "13d"}, "refresh_idle_lifetime": {"1d", "2d", "3d"}, "key_rotation": {"11d", "12d", "13d"},
		"audit_retention":    {"11d", "12d", "13d"},
		"signing_algorithm":  {"EdDSA", "RS256", "ES256"},
		"email_verification": {"off", "optional", "off"},
		"log_level":          {"debug", "warn", "error"},
		"log_format":         {"json", "text", "json"},
		"trusted_proxies":    {"10.0.0.0/8", "10.1.0.0/16", "10.2.0.1,10.3.0.0/16"}, "audience": {"a", "b", "c,d"},
		"migrate": {"true", "false", "true"}, "signup": {"false", "true", "false"}, "status_list": {"true", "false", "true"},
		"signals_private_network": {"true", "false", "true"},
		"home_url":                {"https://a.example", "https://b.example", "https://c.example"},
		"change_password_url":     {"https://a.example", "https://b.example", "https://c.example"},
		"refusal_hold":            {"1s", "2s", "3s"},
		"smtp_url":                {"smtp://one", "smtp://two", "smtps://three"},
		"mail_from":               {"one@example.com", "two@example.com", "Three <three@example.com>"},
		"mail_reply_to":           {"one@example.com", "two@example.com", "Three <three@example.com>"},
	}
	c := defaultConfig()
	for _, s := range settings(&c) {
		t.Run(s.name, func(t *testing.T) {
			v, ok := values[s.name]
			if !ok {
				v = map[string][3]string{
					"text":     {"one", "two", "three"},
					"number":   {"11", "12", "13"},
					"duration": {"1m0s", "2m0s", "3m0s"},
				}[s.value.kind]
			}
			dir := t.TempDir()
			file := filepath.Join(dir, "handstamp.yaml")
			env := []string{"HANDSTAMP_CONFIG=" + file}
			if strings.HasPrefix(s.name, "tls_") && s.name != "tls_redirect_listen" { // both or none
				env = append(env, "HANDSTAMP_TLS_CERT=c", "HANDSTAMP_TLS_KEY=k")
			}
			if s.name == "smtp_url" {
				env = append(env, "HANDSTAMP_MAIL_FROM=a@example.com")
			}
			if s.secret && !ok {
				v = [3]string{"sqlite:one", "sqlite:two", "sqlite:three"}
			}
			check := func(source, want string, args ...string) {
				t.Helper()
				var stdout, stderr strings.Builder
				if code := run(t.Context(), append([]string{"config", "print", "--output", "json"}, args...), env, nil, &stdout,
					&stderr); code != 0 {
					t.Fatalf("%s: %d %s", source, code, stderr.String())
				}
				var got map[string]any
				if err := json.Unmarshal([]byte(stdout.String()), &got); err != nil {
					t.Fatal(err)
				}
				if s.name == "master_key" {
					want = "[redacted]"
				} else if err := s.value.set(want); err == nil {
					want = s.value.show()
				}
				if got[s.name] != want {
					t.Errorf("%s: %q, want %q", source, got[s.name], want)
				}
			}
			if err := os.WriteFile(file, fmt.Appendf(nil, "%s: %q\n", s.name, v[0]), 0o600); err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(s.name, "tls_cert") && !strings.HasPrefix(s.name, "tls_key") {
				check("file", v[0])
			}
			env = append(env, s.env()+"="+v[1])
			check("environment", v[1])
			check("flag", v[2], "--"+s.flag()+"="+v[2])
		})
	}
}
