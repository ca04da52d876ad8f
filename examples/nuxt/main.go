// Command nuxt is a Nuxt application with an API in Go, whose users log in with Handstamp, at a provider where they like. The
// browser has an HttpOnly cookie and no token: package bff keeps the session, and this program stands in front of Nuxt's server.
//
//	go run ./examples/nuxt
//
// installs the npm packages, builds Nuxt, and starts everything on this machine, with a service and a provider to play with.
// Against a service that runs already, with a client that is registered:
//
//	CLIENT_SECRET=... go run ./examples/nuxt -issuer https://login.example.com -url https://app.example.com -data nuxt-data
package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	_ "modernc.org/sqlite"

	"github.com/handstamp/handstamp/pkg/bff"
	"github.com/handstamp/handstamp/pkg/bff/sqlstore"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Getenv("CLIENT_SECRET"), os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp), ctx.Err() != nil:
	case err != nil:
		fmt.Fprintln(os.Stderr, "nuxt:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	issuer   string
	service  string
	clientID string
	listen   string
	url      string
	provider string
	nuxt     string
	app      string
	data     string
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("nuxt", flag.ContinueOnError)
	flags.StringVar(&o.issuer, "issuer", "", "the service that logs users in (default: one is started, with a provider)")
	flags.StringVar(&o.service, "service", "127.0.0.1:8080", "address of the service that is started")
	flags.StringVar(&o.clientID, "client-id", "nuxt", "ID of this application at the service; its secret is in CLIENT_SECRET")
	flags.StringVar(&o.listen, "listen", "127.0.0.1:3000", "address to listen on")
	flags.StringVar(&o.url, "url", "", "origin of this application as browsers see it (default: http://LISTEN)")
	flags.StringVar(&o.provider, "provider", "", "provider of the service with a button of its own: ID=NAME")
	flags.StringVar(&o.nuxt, "nuxt", "", "origin of a Nuxt server that runs already, such as that of npm run dev")
	flags.StringVar(&o.app, "app", "examples/nuxt", "directory of the Nuxt application")
	flags.StringVar(&o.data, "data", "", "directory for the database and the key (default: one that is removed at the end)")
	return o, flags.Parse(args)
}

// run serves until ctx is done, then finishes the requests under way.
func run(ctx context.Context, args []string, secret string, stdout, stderr io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	if o.data == "" {
		if o.data, err = os.MkdirTemp("", "nuxt"); err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(o.data) }() //nolint:gosec // made here; left over at worst
	} else if err := os.MkdirAll(o.data, 0o700); err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.listen)
	if err != nil {
		return err
	}
	defer listener.Close()
	if o.url == "" {
		o.url = "http://" + listener.Addr().String()
	}

	// The programs that this one starts end after it has answered its last request.
	programs := newPrograms(ctx, stderr)
	defer programs.stop()
	if o.issuer == "" {
		p, err := startPlayground(ctx, programs, o, stdout)
		if err != nil {
			return err
		}
		defer p.close()
		o.issuer, o.provider, secret = p.issuer, p.provider, p.secret
	}
	pages, err := startNuxt(ctx, programs, o, "http://"+listener.Addr().String(), stdout)
	if err != nil {
		return err
	}
	b, err := newBFF(ctx, o, secret, stderr)
	if err != nil {
		return err
	}
	defer b.close()

	server := &http.Server{
		Handler:           newAPI(b.BFF).routes(pages, o),
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    32 << 10,
	}
	fmt.Fprintf(stdout, "nuxt is ready at %s\n", o.url)
	return serve(ctx, programs, server, listener)
}

// serve serves until ctx is done or a program has ended too early.
func serve(ctx context.Context, programs *programs, server *http.Server, listener net.Listener) error {
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }() // ends with Shutdown
	var reason error
	select {
	case err := <-failed:
		return err
	case reason = <-programs.ended:
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return errors.Join(reason, server.Shutdown(grace))
}

// sessions is the BFF and its database.
type sessions struct {
	*bff.BFF
	db *sql.DB
}

// newBFF keeps sessions in SQLite: the cookie is a random number that does not change while the session lives, so that Nuxt's
// server may show the cookie of the visitor to the API.
func newBFF(ctx context.Context, o options, secret string, stderr io.Writer) (*sessions, error) {
	key, err := readKey(filepath.Join(o.data, "session.key"))
	if err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(o.data, "nuxt.db")+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)")
	if err != nil {
		return nil, err
	}
	store := sqlstore.New(db)
	if err := store.CreateTables(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	b, err := bff.New(ctx, o.issuer, bff.Config{
		URL:          o.url,
		ClientID:     o.clientID,
		ClientSecret: secret,
		Keys:         [][]byte{key},
		Store:        store,
		CookieName:   "nuxt_session",
		Scope:        []string{"openid", "profile", "email"},
		MaxSessions:  10,
		Log:          slog.New(slog.NewTextHandler(stderr, nil)),
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &sessions{b, db}, nil
}

func (s *sessions) close() {
	s.Close()
	s.db.Close()
}

// readKey reads the key that seals sessions, and makes it at the first start. Replicas share one.
func readKey(path string) ([]byte, error) {
	key, err := os.ReadFile(path)
	if !errors.Is(err, os.ErrNotExist) {
		return key, err
	}
	key = make([]byte, bff.KeySize)
	_, _ = rand.Read(key) // never fails, see crypto/rand
	return key, os.WriteFile(path, key, 0o600)
}
