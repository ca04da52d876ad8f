package main

import (
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

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
	c.use(ours)
	return c
}

func TestExchange(t *testing.T) {
	const (
		chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
		hello   = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
	)
	long := strings.Repeat("0123456789", 2000)
	for _, tc := range []struct {
		name  string
		parts []string
		want  string
		kind  string
	}{
		{"ok/in one piece", []string{hello}, "hello", ""},
		{"ok/in small pieces", strings.SplitAfter(hello, ""), "hello", ""},
		{"ok/longer than the buffer", []string{"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n", long}, long, ""},
		{"ok/chunks", []string{chunked, "5;x=y\r\nhel", "lo\r", "\n1\r\n!\r\n0\r\n\r\n"}, "hello!", ""},
		{"ok/until the connection ends", []string{"HTTP/1.1 200 OK\r\n\r\nhel", "lo"}, "hello", ""},
		{"fail/no HTTP", []string{"220 mail.example.com ESMTP\r\n\r\n"}, "", "malformed response"},
		{"fail/two lengths", []string{"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"}, "", "malformed response"},
		{"fail/bad chunk size", []string{chunked, "zz\r\n"}, "", "malformed response"},
		{"fail/more than asked for", []string{hello + "hello"}, "", "bytes that nobody asked for"},
		{"fail/cut in the head", []string{"HTTP/1.1 200 OK\r\nContent-Len"}, "", "connection closed"},
		{"fail/cut in the body", []string{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel"}, "", "connection closed"},
		{"fail/endless head", []string{"HTTP/1.1 200 OK\r\nX: ", strings.Repeat("y", maxResponse)}, "", "response too large"},
		{"fail/endless body", []string{"HTTP/1.1 200 OK\r\n\r\n", strings.Repeat("y", maxResponse)}, "", "response too large"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := scripted(t, tc.parts...)
			resp, err := c.exchange(t.Context(), []byte("x"), time.Now())
			kind := ""
			if err != nil {
				kind = errorKind(err)
			}
			if kind != tc.kind || string(resp.body) != tc.want || (err != nil && c.nc != nil) {
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
			c.use(ours)
			begin := time.Now()
			_, err := c.exchange(t.Context(), []byte("x"), begin)
			if waited := time.Since(begin); errorKind(err) != "timeout" || waited < 3*time.Second || waited > 6*time.Second ||
				c.nc != nil {
				t.Errorf("%v after %v", err, waited)
			}
		})
	})
}

// The bound is on each response, not on all that a connection reads.
func TestBoundIsPerResponse(t *testing.T) {
	half := "HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + strings.Repeat("y", 3_000_000)
	c := scripted(t, half, half)
	if err := c.send(t.Context(), []byte("xx"), time.Now()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if resp, err := c.receive(); err != nil || len(resp.body) != 3_000_000 {
			t.Fatalf("%d bytes, %v", len(resp.body), err)
		}
	}
}

func TestAnswer(t *testing.T) {
	for _, tc := range []struct{ name, body, want string }{
		{"ok/among others", `{"expires_in":900,"b":{"refresh_token":"no"},"refresh_token":"x"}`, "x"},
		{"ok/after one of another type", `{"error":{"code":1},"refresh_token":"x"}`, "x"},
		{"fail/nested only", `{"b":{"refresh_token":"x"}}`, ""},
		{"fail/not a string", `{"refresh_token":1}`, ""},
		{"fail/array", `["refresh_token","x"]`, ""},
		{"fail/cut", `{"refresh_token":"x"`, ""},
		{"fail/empty", ``, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := (&response{body: []byte(tc.body)}).answer().RefreshToken; got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}
