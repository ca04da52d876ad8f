package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/handstamp/handstamp/api/door"
)

// crowded is a server with room for few connections. A request for /stream goes on until the test ends.
type crowded struct {
	*testing.T
	at string
	in chan struct{} // one for each stream that has begun
	*connections
}

func newCrowded(t *testing.T, files int, proxies ...string) *crowded {
	t.Helper()
	trusted, err := door.ParseTrustedProxies(proxies)
	must(t, err)
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	var current atomic.Pointer[door.TrustedProxies]
	current.Store(&trusted)
	c := &crowded{T: t, at: l.Addr().String(), in: make(chan struct{}, 1000), connections: newConnections(l, files, &current)}
	done := make(chan struct{})
	s := &http.Server{ReadHeaderTimeout: time.Minute, ConnState: c.state, Handler: http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/stream" {
				c.in <- struct{}{}
				<-done
			}
			_, _ = io.WriteString(w, "well")
		})}
	served := make(chan struct{})
	go func() {
		_ = s.Serve(c.connections)
		close(served)
	}()
	t.Cleanup(func() {
		close(done)
		_ = s.Close()
		<-served
	})
	return c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// dial connects from an address of this machine.
func (c *crowded) dial(from string) net.Conn {
	c.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 10 * time.Second}
	conn, err := d.DialContext(c.Context(), "tcp", c.at)
	must(c.T, err)
	c.Cleanup(func() { _ = conn.Close() })
	return conn
}

// asks reports whether a request on a connection is answered.
func (c *crowded) asks(conn net.Conn, path string) bool {
	c.Helper()
	must(c.T, conn.SetDeadline(time.Now().Add(10*time.Second)))
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path); err != nil {
		return false
	}
	if path == "/stream" {
		gone := make(chan struct{})
		go func() {
			_, _ = conn.Read(make([]byte, 1))
			close(gone)
		}()
		select {
		case <-c.in:
			return true
		case <-gone:
			return false
		}
	}
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, r.Body)
	_ = r.Body.Close()
	return err == nil && r.StatusCode == http.StatusOK
}

func TestCallers(t *testing.T) {
	for files, want := range map[int]int{20_000: 19_872, 1024: 896, 256: 168, 64: 14, 0: 14} {
		if most, reserve := callers(files); most != want || reserve < 1 {
			t.Errorf("%d files: %d connections and %d", files, most, reserve)
		}
	}
	c := Config{}
	c.fitIntoFiles(1024)
	if c.FeedStreams != 448 || c.FeedStreamsPerAddress != 112 {
		t.Errorf("streams in 1024 files: %d, %d", c.FeedStreams, c.FeedStreamsPerAddress)
	}
	c = Config{}
	c.FeedStreams, c.FeedStreamsPerAddress = 7, 5
	c.fitIntoFiles(1024)
	if c.FeedStreams != 7 || c.FeedStreamsPerAddress != 5 {
		t.Errorf("streams that were set: %d, %d", c.FeedStreams, c.FeedStreamsPerAddress)
	}
}

// A few files, and a caller that wants them all: everybody else is served.
func TestConnectionsFitIntoFiles(t *testing.T) {
	const files, most, each = 200, 119, 59
	t.Run("ok/connections that rest make way", func(t *testing.T) {
		c := newCrowded(t, files)
		for i := range 3 * most {
			if !c.asks(c.dial("127.0.0.1"), "/") {
				t.Fatalf("connection %d was not served", i)
			}
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if n := len(c.open); n > each {
			t.Errorf("%d connections are open, more than %d", n, each)
		}
	})
	t.Run("ok/connections that say nothing make way", func(t *testing.T) {
		c := newCrowded(t, files)
		for range 3 * most {
			c.dial("127.0.0.1")
		}
		if !c.asks(c.dial("127.0.0.1"), "/healthz") {
			t.Error("not served")
		}
	})
	t.Run("fail/one address has half of them", func(t *testing.T) {
		c := newCrowded(t, files)
		for i := range each {
			if !c.asks(c.dial("127.0.0.1"), "/stream") {
				t.Fatalf("stream %d was not served", i)
			}
		}
		if c.asks(c.dial("127.0.0.1"), "/stream") {
			t.Error("one address has more than half")
		}
		if !c.asks(c.dial("127.0.0.2"), "/healthz") {
			t.Error("another address is not served")
		}
	})
	t.Run("ok/a trusted proxy may have all", func(t *testing.T) {
		c := newCrowded(t, files, "127.0.0.1")
		for i := range most {
			if !c.asks(c.dial("127.0.0.1"), "/stream") {
				t.Fatalf("stream %d was not served", i)
			}
		}
		if c.asks(c.dial("127.0.0.1"), "/stream") {
			t.Error("more than there are")
		}
		// There are a few more for who has next to none.
		for i := range modestAddress {
			if !c.asks(c.dial("127.0.0.2"), "/stream") {
				t.Errorf("connection %d of an address that has next to none", i)
			}
		}
		if c.asks(c.dial("127.0.0.2"), "/stream") {
			t.Error("which is not next to none any more")
		}
	})
	t.Run("ok/what is closed is counted no more", func(t *testing.T) {
		c := newCrowded(t, files)
		for range 5 * most {
			conn := c.dial("127.0.0.1")
			if !c.asks(conn, "/") {
				t.Fatal("not served")
			}
			_ = conn.Close()
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		for n := 1; n > 0; {
			c.mu.Lock()
			n = len(c.open) + len(c.count) + len(c.under) + c.resting.Len()
			c.mu.Unlock()
			if ctx.Err() != nil {
				t.Fatalf("%d are left", n)
			}
		}
	})
}
