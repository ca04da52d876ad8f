package main

import (
	"encoding/json"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"
)

func TestParseHead(t *testing.T) {
	for _, tc := range []struct {
		name, in string
		want     head
	}{
		{"ok/plain", "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n", head{status: 200, length: 12}},
		{"ok/no reason", "HTTP/1.1 400\r\ncontent-length:0\r\n\r\n", head{status: 400}},
		{"ok/retry after", "HTTP/1.1 503 X\r\nRETRY-AFTER: 1\r\nContent-Length: 2\r\n\r\n",
			head{status: 503, length: 2, retryAfter: true}},
		{"ok/close", "HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 2\r\n\r\n", head{status: 200, length: 2, close: true}},
		{"ok/chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", head{status: 200, length: -1, chunked: true}},
		{"ok/no length", "HTTP/1.1 204 No Content\r\nX: y\r\n\r\n", head{status: 204, length: -1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got, err := parseHead([]byte(tc.in)); err != nil || got != tc.want {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
	for name, in := range map[string]string{
		"fail/older version":        "HTTP/1.0 200 OK\r\n\r\n",
		"fail/no status":            "HTTP/1.1 \r\n\r\n",
		"fail/long status":          "HTTP/1.1 2000\r\n\r\n",
		"fail/letters for a status": "HTTP/1.1 2x0 OK\r\n\r\n",
		"fail/interim answer":       "HTTP/1.1 100 Continue\r\n\r\n",
		"fail/negative length":      "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"fail/two lengths":          "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
		"fail/huge length":          "HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n",
		"fail/unknown coding":       "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
		"fail/no colon":             "HTTP/1.1 200 OK\r\nContent-Length\r\n\r\n",
		"fail/folded line":          "HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n",
		"fail/cut short":            "HTTP/1.1 200 OK\r\nX: y\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := parseHead([]byte(in)); !errors.Is(err, errMalformed) {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

// scripted returns a connection whose other side reads one request and then sends each of parts in a write of its own.
func scripted(t *testing.T, parts ...string) *conn {
	ours, theirs := net.Pipe()
	t.Cleanup(func() { _, _ = ours.Close(), theirs.Close() })
	go func() {
		_, _ = theirs.Read(make([]byte, 4096))
		for _, p := range parts {
			_, _ = theirs.Write([]byte(p))
		}
		_ = theirs.Close()
	}()
	c := newConn(nil, time.Minute)
	c.nc = ours
	return c
}

func TestReceive(t *testing.T) {
	long := strings.Repeat("0123456789", 2000)
	for _, tc := range []struct {
		name  string
		parts []string
		body  string
		err   error
	}{
		{"ok/in one piece", []string{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"}, "hello", nil},
		{"ok/in small pieces", strings.SplitAfter("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", ""), "hello", nil},
		{"ok/longer than the buffer", []string{"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n", long}, long, nil},
		{"ok/chunks", []string{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhel", "lo\r", "\n1\r\n!\r\n0\r\n\r\n"},
			"hello!", nil},
		{"ok/chunk longer than the buffer", []string{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4E20\r\n", long,
			"\r\n0\r\n\r\n"}, long, nil},
		{"fail/bad chunk size", []string{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"}, "", errMalformed},
		{"fail/chunk without end", []string{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc"}, "", errMalformed},
		{"fail/length and chunks", []string{"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"}, "",
			errMalformed},
		{"fail/no length", []string{"HTTP/1.1 200 OK\r\n\r\nhello"}, "", errNoLength},
		{"fail/more than asked for", []string{"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nhello"}, "", errUnsolicited},
		{"fail/endless head", []string{"HTTP/1.1 200 OK\r\nX: ", strings.Repeat("y", maxResponse+firstBuffer)}, "", errTooLarge},
	} {
		t.Run(tc.name, func(t *testing.T) {
			resp, err := scripted(t, tc.parts...).exchange(t.Context(), []byte("x"), time.Now())
			if !errors.Is(err, tc.err) || string(resp.body) != tc.body {
				t.Errorf("%.100q, %v", resp.body, err)
			}
		})
	}
	t.Run("fail/no answer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ours, theirs := net.Pipe()
			defer theirs.Close()
			go func() { _, _ = theirs.Read(make([]byte, 10)) }()
			c := newConn(nil, 3*time.Second)
			c.nc = ours
			begin := time.Now()
			_, err := c.exchange(t.Context(), []byte("x"), begin)
			if waited := time.Since(begin); errorKind(err) != "timeout" || waited < 3*time.Second || waited > 6*time.Second ||
				c.nc != nil {
				t.Errorf("%v after %v", err, waited)
			}
		})
	})
}

func TestMember(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"ok/first", `{"a":"x"}`, "x"},
		{"ok/after others", ` { "b" : {"a":"no","c":[1,"}"]} , "n":-1.5e3,"t":true , "a" : "x" }`, "x"},
		{"ok/escaped", `{"b":"\\\"","a":"\u0078\/"}`, "x/"},
		{"ok/backslash at the end of another", `{"b":"\\","a":"x"}`, "x"},
		{"fail/nested only", `{"b":{"a":"x"}}`, ""},
		{"fail/not a string", `{"a":1}`, ""},
		{"fail/array", `["a","x"]`, ""},
		{"fail/empty", ``, ""},
		{"fail/cut", `{"a":"x`, ""},
		{"fail/cut after an escape", `{"a":"x\"`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := string(member([]byte(tc.in), "a")); got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

// FuzzMember holds the scanner against encoding/json wherever that accepts the document.
func FuzzMember(f *testing.F) {
	for _, s := range []string{`{"a":"x"}`, ` {"b":{"a":[]},"a":"\\\""}`, `{"a":1}`, `[1]`, `{"b":"\\","a":""}`, `{`, `{"":"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got := member(b, "a")
		var whole map[string]json.RawMessage
		if !utf8.Valid(b) || json.Unmarshal(b, &whole) != nil || strings.Contains(string(b), `\u`) ||
			strings.Count(string(b), `"a"`) > 1 {
			return // no crash is all that is asked for
		}
		var want string
		if json.Unmarshal(whole["a"], &want) != nil {
			want = ""
		}
		if string(got) != want {
			t.Errorf("member of %q is %q, want %q", b, got, want)
		}
	})
}

// FuzzReceive looks for crashes and hangs in the response reader.
func FuzzReceive(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		resp, err := scripted(t, string(b)).exchange(t.Context(), []byte("x"), time.Now())
		if err == nil && (resp.status < 200 || resp.status > 999) {
			t.Errorf("status %d", resp.status)
		}
	})
}
