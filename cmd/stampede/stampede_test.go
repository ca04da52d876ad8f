package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// stampede runs the program and returns its exit status and outputs.
func stampede(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

// measure runs a load command for count requests and returns its report.
func measure(t *testing.T, wantCode int, args ...string) report {
	t.Helper()
	code, out, errs := stampede(t, append(args, "--output", "json", "--warmup", "0s", "--duration", "0s")...)
	if code != wantCode {
		t.Fatalf("exit status %d, want %d\n%s%s", code, wantCode, out, errs)
	}
	var rep report
	if err := json.Unmarshal([]byte(out), &rep); err != nil {
		t.Fatalf("report: %v\n%s", err, out)
	}
	return rep
}

func TestLoad(t *testing.T) {
	for _, tc := range []struct {
		name string
		args []string
		want map[string]int64
	}{
		{"ok/refresh", []string{"refresh", "--count", "500", "--sessions", "50"}, map[string]int64{opRefresh: 500}},
		{"ok/refresh without idempotency key", []string{"refresh", "--count", "50", "--idempotency-key=false"},
			map[string]int64{opRefresh: 50}},
		{"ok/login", []string{"login", "--count", "50", "--users", "3"}, map[string]int64{opLogin: 50}},
		{"ok/badlogin", []string{"badlogin", "--count", "50", "--users", "3"}, map[string]int64{opBadLogin: 50}},
		{"ok/check", []string{"check", "--count", "100", "--sessions", "20"}, map[string]int64{opCheck: 100}},
		{"ok/forged", []string{"forged", "--count", "100"}, map[string]int64{opForged: 100}},
		{"ok/forged in a pipeline", []string{"forged", "--count", "200", "--pipeline", "16"}, map[string]int64{opForged: 200}},
		{"ok/get in chunks", []string{"get", "--path", "/.well-known/jwks.json", "--count", "100", "--pipeline", "4"},
			map[string]int64{opGet: 100}},
		{"ok/open loop", []string{"refresh", "--count", "100", "--rate", "5000"}, map[string]int64{opRefresh: 100}},
		{
			"ok/mix has exact shares", []string{"mix", "--mix", "refresh=80,check=10,login=2,forged=8", "--count", "500", "--clients",
				"1"},
			map[string]int64{opRefresh: 400, opCheck: 50, opLogin: 10, opForged: 40},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newContractServer(t, httptest.NewServer)
			rep := measure(t, exitOK, append(tc.args, s.URL)...)
			for name, want := range tc.want {
				if got := rep.Operations[name]; got.Answered != want || got.failed() != 0 || got.Latency.P50 <= 0 || got.PerSecond <= 0 {
					t.Errorf("%s: %+v, want %d answered", name, got, want)
				}
			}
			if len(rep.Operations) != len(tc.want) {
				t.Errorf("operations %v", rep.Operations)
			}
		})
	}
}

func TestLoadFinds(t *testing.T) {
	for _, tc := range []struct {
		name   string
		args   []string
		before func(w http.ResponseWriter, r *http.Request) bool
		op     string
		kind   string
	}{
		{"fail/token unchanged", []string{"refresh"}, func(w http.ResponseWriter, r *http.Request) bool {
			writeContractJSON(w, 200, map[string]any{"access_token": "a", "refresh_token": r.PostFormValue("refresh_token")})
			return true
		}, opRefresh, "refresh token did not change"},
		{"fail/no access token", []string{"refresh"}, func(w http.ResponseWriter, _ *http.Request) bool {
			writeContractJSON(w, 200, map[string]any{"refresh_token": "x"})
			return true
		}, opRefresh, "no access_token in the answer"},
		{"fail/no refresh token", []string{"refresh"}, func(w http.ResponseWriter, _ *http.Request) bool {
			writeContractJSON(w, 200, map[string]any{"access_token": "x", "inner": map[string]any{"refresh_token": "y"}})
			return true
		}, opRefresh, "no refresh_token in the answer"},
		{"fail/server error", []string{"refresh"}, func(w http.ResponseWriter, _ *http.Request) bool {
			writeContractJSON(w, 500, map[string]any{"error": "server_error"})
			return true
		}, opRefresh, "status 500 server_error"},
		{"fail/503 without Retry-After", []string{"refresh"}, func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(503)
			return true
		}, opRefresh, "status 503"},
		{"fail/forged token accepted", []string{"forged"}, func(w http.ResponseWriter, _ *http.Request) bool {
			writeContractJSON(w, 200, map[string]any{"access_token": "a", "refresh_token": "b"})
			return true
		}, opForged, "forged token accepted"},
		{"fail/forged token is a server error", []string{"forged"}, func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(500)
			return true
		}, opForged, "status 500"},
		{"fail/redirect is not followed", []string{"get"}, func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
			return true
		}, opGet, "status 302"},
		{"fail/connection cut", []string{"get"}, func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) },
			opGet, "connection closed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newContractServer(t, httptest.NewServer)
			s.before = func(w http.ResponseWriter, r *http.Request) bool {
				return (r.URL.Path == "/oauth2/token" || r.URL.Path == "/") && tc.before(w, r)
			}
			rep := measure(t, exitFailed, append(tc.args, s.URL, "--count", "4", "--clients", "2")...)
			if got := rep.Operations[tc.op]; got.Answered != 0 || got.Failures[tc.kind] != 4 || len(got.Failures) != 1 {
				t.Errorf("%+v, want 4 times %q", got, tc.kind)
			}
		})
	}

	t.Run("fail/wrong password accepted", func(t *testing.T) {
		s := newContractServer(t, httptest.NewServer)
		s.before = func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/v1/login" {
				writeContractJSON(w, 200, map[string]any{})
				return true
			}
			return false
		}
		rep := measure(t, exitFailed, "badlogin", s.URL, "--count", "4")
		if rep.Operations[opBadLogin].Failures["wrong password accepted"] != 4 {
			t.Errorf("%+v", rep.Operations)
		}
	})
	t.Run("fail/session lost ends its chain", func(t *testing.T) {
		s := newContractServer(t, httptest.NewServer)
		s.before = func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/oauth2/token" {
				writeContractJSON(w, 400, map[string]any{"error": "invalid_grant"})
				return true
			}
			return false
		}
		rep := measure(t, exitFailed, "refresh", s.URL, "--count", "1000", "--sessions", "6", "--clients", "2")
		if rep.Lost != 6 || rep.Operations[opRefresh].Failures[failSessionLost] != 6 {
			t.Errorf("%+v", rep)
		}
	})
	t.Run("ok/shed requests are no failures", func(t *testing.T) {
		s := newContractServer(t, httptest.NewServer)
		s.before = func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/oauth2/token" {
				w.Header().Set("Retry-After", "1")
				w.WriteHeader(503)
				return true
			}
			return false
		}
		rep := measure(t, exitOK, "refresh", s.URL, "--count", "20")
		if got := rep.Operations[opRefresh]; got.Shed["status 503"] != 20 || got.Answered != 0 {
			t.Errorf("%+v", got)
		}
	})
}

// A client whose answer was lost shows the old token again with the same Idempotency-Key, as the contract asks of it.
func TestLostAnswerIsRepeated(t *testing.T) {
	s := newContractServer(t, httptest.NewServer)
	var n atomic.Int64
	s.loseAnswer = func() bool { return n.Add(1)%10 == 0 }
	rep := measure(t, exitFailed, "refresh", s.URL, "--count", "300", "--clients", "4", "--sessions", "8")
	got := rep.Operations[opRefresh]
	seen := s.seen()
	if rep.Lost != 0 || got.Failures["connection closed"] == 0 || len(got.Failures) != 1 || seen.refused != 0 || seen.repeated == 0 {
		t.Errorf("lost %d, refused %d, repeated %d: %+v", rep.Lost, seen.refused, seen.repeated, got)
	}
}

// A connection that was opened before the clock started has not rested: what happens to its first request counts.
func TestFirstAnswerLost(t *testing.T) {
	s := newContractServer(t, httptest.NewServer)
	s.loseAnswer = func() bool { return len(s.previous) == 1 && s.repeated == 0 }
	rep := measure(t, exitFailed, "refresh", s.URL, "--count", "1", "--clients", "1")
	if got := rep.Operations[opRefresh]; got.Failures["connection closed"] != 1 || s.seen().repeated != 0 {
		t.Errorf("%+v", got)
	}
}

func TestSeedFile(t *testing.T) {
	s := newContractServer(t, httptest.NewServer)
	file := filepath.Join(t.TempDir(), "sessions.txt")
	if code, _, errs := stampede(t, "seed", s.URL, "--sessions", "100", "--sessions-per-user", "7", "--out", file); code != exitOK {
		t.Fatal(errs)
	}
	if users := s.seen().users; users != 15 {
		t.Errorf("%d users for 100 sessions of 7", users)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("seed file: %v, %v", info, err)
	}
	// Twice, so that the second run depends on what the first wrote back. The last answers of the first run get lost, also those to
	// repeats, so that sessions stay pending however the clients take turns.
	s.locked(func() { s.loseAnswer = func() bool { return len(s.previous) > 240 } })
	measure(t, exitFailed, "refresh", s.URL, "--seed-file", file, "--count", "250")
	s.locked(func() { s.loseAnswer = nil })
	b, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(b), " ") {
		t.Errorf("no pending Idempotency-Key was kept: %v", err)
	}
	repeated := s.seen().repeated
	// One client shows every token twice; several may share the requests unevenly.
	rep := measure(t, exitOK, "refresh", s.URL, "--seed-file", file, "--count", "200", "--clients", "1")
	seen := s.seen()
	if rep.Sessions != 100 || rep.Lost != 0 || seen.refused != 0 || seen.repeated == repeated {
		t.Errorf("refused %d, repeated %d, %d of them before: %+v", seen.refused, seen.repeated, repeated, rep)
	}
	chains, err := readChains(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range chains {
		var current bool
		s.locked(func() { _, current = s.current[c.token] })
		if !current {
			t.Errorf("%s is not the latest token of its session", c.token)
		}
	}
}

func TestInterruptedRunReportsAndSaves(t *testing.T) {
	s := newContractServer(t, httptest.NewServer)
	file := filepath.Join(t.TempDir(), "sessions.txt")
	if code, _, errs := stampede(t, "seed", s.URL, "--sessions", "8", "--out", file); code != exitOK {
		t.Fatal(errs)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var n atomic.Int64
	s.mu.Lock()
	s.before = func(http.ResponseWriter, *http.Request) bool {
		if n.Add(1) == 100 {
			cancel()
		}
		return false
	}
	s.mu.Unlock()
	var out, errs bytes.Buffer
	if code := run(ctx, []string{"refresh", s.URL, "--seed-file", file, "--duration", "1h", "--warmup", "0s"}, &out,
		&errs); code != exitOK {
		t.Fatalf("exit status %d\n%s%s", code, out.String(), errs.String())
	}
	rep := measure(t, exitOK, "refresh", s.URL, "--seed-file", file, "--count", "20")
	if seen := s.seen(); rep.Lost != 0 || seen.refused != 0 || seen.repeated != 0 {
		t.Errorf("the interrupt lost tokens: refused %d, repeated %d", seen.refused, seen.repeated)
	}
}

func TestTLS(t *testing.T) {
	s := newContractServer(t, func(h http.Handler) *httptest.Server {
		s := httptest.NewUnstartedServer(h)
		s.Config.ErrorLog = log.New(io.Discard, "", 0) // a refused certificate is what we want
		s.StartTLS()
		return s
	})
	if code, _, errs := stampede(t, "refresh", s.URL); code != exitError || !strings.Contains(errs, "certificate") {
		t.Errorf("unknown authority: %d, %s", code, errs)
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	rep := measure(t, exitOK, "refresh", s.URL, "--ca", ca, "--count", "100")
	if rep.Operations[opRefresh].Answered != 100 {
		t.Errorf("%+v", rep)
	}
}

func TestRefuses(t *testing.T) {
	for _, tc := range []struct {
		name string
		args []string
		want []string
	}{
		{"fail/foreign target", []string{"refresh", "http://192.0.2.1"}, []string{"--i-own-this-target"}},
		{"fail/foreign target of seed", []string{"seed", "http://192.0.2.1", "--out", "x"}, []string{"--i-own-this-target"}},
		{"fail/foreign target of followers", []string{"followers", "http://[2001:db8::1]:80"}, []string{"--i-own-this-target"}},
		{"fail/not http", []string{"refresh", "ftp://127.0.0.1"}, []string{"want http or https"}},
		{"fail/credentials in the URL", []string{"refresh", "http://a:b@127.0.0.1"}, []string{"want http or https"}},
		{"fail/prefix that names a host", []string{"refresh", "http://127.0.0.1//example.com"}, []string{"want http or https"}},
		{"fail/no target", []string{"refresh"}, []string{"arg"}},
		{"fail/all faults at once", []string{"refresh", "http://127.0.0.1", "--clients", "0", "--timeout", "0s", "--output", "xml"},
			[]string{"--clients", "--timeout", "--output"}},
		{"fail/endless", []string{"refresh", "http://127.0.0.1", "--duration", "0s"}, []string{"--count"}},
		{"fail/pipelined open loop", []string{"forged", "http://127.0.0.1", "--pipeline", "2", "--rate", "2"}, []string{"--pipeline"}},
		{"fail/path with a line break", []string{"get", "http://127.0.0.1", "--path", "/\r\nX: y"}, []string{"--path must begin"}},
		{"fail/path that names a host", []string{"get", "http://127.0.0.1", "--path", "//example.com/"}, []string{"--path must begin"}},
		{"fail/path not escaped", []string{"check", "http://127.0.0.1", "--check-path", "/ä"}, []string{"--check-path must begin"}},
		{"fail/unknown kind", []string{"mix", "http://127.0.0.1", "--mix", "refresh=1,coffee=1"}, []string{"coffee"}},
		{"fail/kind twice", []string{"mix", "http://127.0.0.1", "--mix", "refresh=1,refresh=1"}, []string{"twice"}},
		{"fail/no share", []string{"mix", "http://127.0.0.1", "--mix", "refresh"}, []string{"KIND=SHARE"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			code, _, errs := stampede(t, tc.args...)
			if code != exitError {
				t.Errorf("exit status %d", code)
			}
			for _, want := range tc.want {
				if !strings.Contains(errs, want) {
					t.Errorf("%q does not name %q", errs, want)
				}
			}
		})
	}
	t.Run("fail/sign-up without tokens", func(t *testing.T) {
		s := newContractServer(t, httptest.NewServer)
		s.before = func(w http.ResponseWriter, _ *http.Request) bool {
			writeContractJSON(w, 202, map[string]any{})
			return true
		}
		if code, _, errs := stampede(t, "refresh", s.URL); code != exitError || !strings.Contains(errs, "--users-file") {
			t.Errorf("%d %s", code, errs)
		}
	})
	t.Run("fail/fewer sessions in the file than clients", func(t *testing.T) {
		s := newContractServer(t, httptest.NewServer)
		file := filepath.Join(t.TempDir(), "sessions.txt")
		if err := os.WriteFile(file, []byte("hsr_a\n\nhsr_b\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if code, _, errs := stampede(t, "refresh", s.URL, "--seed-file", file, "--clients", "3"); code != exitError ||
			!strings.Contains(errs, "too few") {
			t.Errorf("%d %s", code, errs)
		}
	})
}

func TestUsersFile(t *testing.T) {
	s := newContractServer(t, httptest.NewServer)
	s.users["a@example.com"], s.users["b@example.com"] = "correct horse battery", "staple with blanks"
	file := filepath.Join(t.TempDir(), "users.txt")
	if err := os.WriteFile(file, []byte("a@example.com correct horse battery\nb@example.com staple with blanks\n"),
		0o600); err != nil {
		t.Fatal(err)
	}
	measure(t, exitOK, "mix", s.URL, "--mix", "login=1,refresh=1", "--users-file", file, "--count", "20", "--sessions", "10")
	if users := s.seen().users; users != 2 {
		t.Errorf("signed up although there was a file: %d users", users)
	}
}

func TestFollowers(t *testing.T) {
	followers := func(t *testing.T, wantCode int, args ...string) followersReport {
		t.Helper()
		code, out, errs := stampede(t, append([]string{"followers", "--output", "json", "--pause", "0s"}, args...)...)
		if code != wantCode {
			t.Fatalf("exit status %d\n%s%s", code, out, errs)
		}
		var rep followersReport
		if err := json.Unmarshal([]byte(out), &rep); err != nil {
			t.Fatal(err)
		}
		return rep
	}
	t.Run("ok/everybody hears of every revocation", func(t *testing.T) {
		s := newContractServer(t, httptest.NewServer)
		rep := followers(t, exitOK, s.URL, "--n", "30", "--revocations", "10")
		if rep.Heard != 300 || rep.Latency.Max > 5000 || rep.Last.Max != rep.Latency.Max {
			t.Errorf("%+v", rep)
		}
	})
	t.Run("fail/a stream that is closed", func(t *testing.T) {
		s := newContractServer(t, httptest.NewServer)
		var n atomic.Int64
		s.before = func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/v1/blocklist/stream" && n.Add(1) == 1 {
				w.Header().Set("Content-Type", "text/event-stream")
				_, _ = w.Write([]byte("retry: 1000\n\n"))
				return true
			}
			return false
		}
		rep := followers(t, exitFailed, s.URL, "--n", "3", "--revocations", "1", "--patience", "50ms")
		if rep.Heard != 2 || rep.Failures["stream closed by the server"] != 1 ||
			rep.Failures["a revocation did not reach every follower"] != 1 {
			t.Errorf("%+v", rep)
		}
	})
	t.Run("fail/entries of other sessions", func(t *testing.T) {
		s := newContractServer(t, httptest.NewServer)
		s.suffix = "x"
		rep := followers(t, exitFailed, s.URL, "--n", "3", "--revocations", "1", "--patience", "50ms")
		if rep.Heard != 0 || rep.Failures["a revocation did not reach every follower"] != 1 {
			t.Errorf("%+v", rep)
		}
	})
	t.Run("fail/no streams", func(t *testing.T) {
		s := newContractServer(t, httptest.NewServer)
		s.before = func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/v1/blocklist/stream" {
				w.WriteHeader(503)
				return true
			}
			return false
		}
		if code, _, errs := stampede(t, "followers", s.URL, "--n", "2"); code != exitError || !strings.Contains(errs, "status 503") {
			t.Errorf("%d %s", code, errs)
		}
	})
}

func TestHelpHasExamples(t *testing.T) {
	_, out, _ := stampede(t, "--help")
	for _, want := range []string{"How big a machine", "stampede mix http://127.0.0.1:8080", "--i-own-this-target", "Exit status"} {
		if !strings.Contains(out, want) {
			t.Errorf("help lacks %q", want)
		}
	}
}
