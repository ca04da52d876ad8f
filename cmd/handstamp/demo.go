package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"

	"github.com/handstamp/handstamp/cmd/handstamp/demo"
	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// playground is the demo beside a running service.
type playground struct {
	origin string
	tokens *verifier.Verifier
	server *http.Server
	ended  chan struct{}
}

// startDemo registers the clients of the demo, and serves its page. The caller closes it.
func startDemo(ctx context.Context, c Config, running *service.Service, log *slog.Logger) (*playground, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.demoListen)
	if err != nil {
		return nil, fmt.Errorf("listen for the demo: %w; choose another address with --demo-listen", err)
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		return nil, err
	}
	origin, err := demo.Origin(c.Issuer, port)
	if err == nil {
		err = demo.Register(ctx, running.Store, demo.Clients(origin), c.Clock.Now())
	}
	if err == nil {
		err = running.Clients.Sync(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("demo: %w", closing(listener, err))
	}
	tokens, err := verifier.New(ctx, c.Issuer, verifier.WithAudience(c.Issuer))
	if err != nil {
		return nil, fmt.Errorf("demo: %w", closing(listener, err))
	}
	page, err := demo.New(c.Issuer, tokens)
	if err != nil {
		tokens.Close()
		return nil, closing(listener, err)
	}
	p := &playground{
		origin: origin,
		tokens: tokens,
		server: newServer(page, log),
		ended:  make(chan struct{}),
	}
	go func() { // ends with close
		defer close(p.ended)
		_ = p.server.Serve(listener)
	}()
	return p, nil
}

func closing(l net.Listener, err error) error {
	_ = l.Close()
	return err
}

func (p *playground) close() {
	if p == nil {
		return
	}
	_ = p.server.Close()
	<-p.ended
	p.tokens.Close()
}
