package api_test

import (
	"context"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// proxy stands between a service and its PostgreSQL server, and can do what networks do.
type proxy struct {
	listener net.Listener
	target   string

	mu      sync.Mutex
	cut     bool
	pairs   map[*pair]bool
	serving sync.WaitGroup
}

// pair is one connection through the proxy.
type pair struct{ client, server net.Conn }

// newProxy returns a proxy, and the URL of the database through it.
func newProxy(t testing.TB, databaseURL string) (*proxy, string) {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, target: u.Host, pairs: map[*pair]bool{}}
	u.Host = l.Addr().String()
	p.serving.Go(p.serve)
	t.Cleanup(func() {
		_ = l.Close()
		p.Cut()
		p.serving.Wait()
	})
	return p, u.String()
}

func (p *proxy) serve() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		cut := p.cut
		p.mu.Unlock()
		server, err := net.Dial("tcp", p.target) //nolint:noctx // on loopback
		if cut || err != nil {
			_ = client.Close()
			if err == nil {
				_ = server.Close()
			}
			continue
		}
		one := &pair{client: client, server: server}
		p.mu.Lock()
		p.pairs[one] = true
		p.mu.Unlock()
		p.serving.Go(func() { p.carry(one, client, server) })
		p.serving.Go(func() { p.carry(one, server, client) })
	}
}

func (p *proxy) carry(one *pair, from, to net.Conn) {
	defer func() {
		_ = one.client.Close()
		_ = one.server.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.pairs, one)
	}()
	_, _ = io.Copy(to, from)
}

// Cut ends every connection and takes no new ones.
func (p *proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	for one := range p.pairs {
		_ = one.client.Close()
		_ = one.server.Close()
	}
}

// Restore takes connections again.
func (p *proxy) Restore() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = false
}
