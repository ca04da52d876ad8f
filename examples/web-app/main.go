// Command web-app is an application that renders its pages on the server and logs its users in with Handstamp. It shows package
// bff: a session in SQLite, a form with a CSRF token, a page for a role, a page that wants a fresh login, and "my devices".
//
//	examples/web-app/run
//
// starts Handstamp and the application on this machine. Against a service that runs already, with a client that is registered:
//
//	WEB_APP_CLIENT_SECRET=... go run ./examples/web-app -issuer https://login.example.com -url https://app.example.com
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
	err := run(ctx, os.Args[1:], os.Getenv("WEB_APP_CLIENT_SECRET"), os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "web-app:", err)
		os.Exit(1)
	}
}

// run serves until ctx is done, then finishes the requests under way.
func run(ctx context.Context, args []string, secret string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("web-app", flag.ContinueOnError)
	issuer := flags.String("issuer", "http://127.0.0.1:8080", "the service that logs users in")
	clientID := flags.String("client-id", "web-app", "ID of this application there; its secret is in WEB_APP_CLIENT_SECRET")
	listen := flags.String("listen", "127.0.0.1:3000", "address to listen on")
	address := flags.String("url", "", "origin of this application as browsers see it (default: http://LISTEN)")
	data := flags.String("data", "web-app-data", "directory for the database and the key")
	if err := flags.Parse(args); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	if *address == "" {
		*address = "http://" + listener.Addr().String()
	}
	if err := os.MkdirAll(*data, 0o700); err != nil {
		return err
	}
	key, err := readKey(filepath.Join(*data, "session.key"))
	if err != nil {
		return err
	}
	const pragmas = "?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)"
	db, err := sql.Open("sqlite", "file:"+filepath.Join(*data, "web-app.db")+pragmas)
	if err != nil {
		return err
	}
	defer db.Close()
	sessions := sqlstore.New(db)
	if err := sessions.CreateTables(ctx); err != nil {
		return err
	}

	b, err := bff.New(ctx, *issuer, bff.Config{
		URL:          *address,
		ClientID:     *clientID,
		ClientSecret: secret,
		Keys:         [][]byte{key},
		Store:        sessions,
		CookieName:   "web_app",
		Scope:        []string{"openid", "profile", "email"},
		MaxSessions:  10,
		Log:          slog.New(slog.NewTextHandler(stderr, nil)),
	})
	if err != nil {
		return err
	}
	defer b.Close()
	app := &application{bff: b, db: db, issuer: *issuer}
	if err := app.createTables(ctx); err != nil {
		return err
	}

	server := &http.Server{
		Handler:           app.routes(),
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    32 << 10,
	}
	fmt.Fprintf(stdout, "web-app is ready at %s\n", *address)
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		stopped <- server.Shutdown(grace)
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
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
