// Command resource-server is an API that accepts Handstamp's access tokens. It checks them offline and hears of
// revocations as they happen.
//
//	go run ./examples/resource-server -issuer http://127.0.0.1:8080 -audience http://127.0.0.1:8080 -listen 127.0.0.1:9090
//
// GET /hello wants a valid token, GET /reports one with the scope reports:read. GET /readyz tells whether tokens can be checked.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/handstamp/handstamp/pkg/verifier"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "resource-server:", err)
		os.Exit(1)
	}
}

// run serves until ctx is done, then finishes the requests under way.
func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("resource-server", flag.ContinueOnError)
	issuer := flags.String("issuer", "http://127.0.0.1:8080", "issuer of the access tokens")
	audience := flags.String("audience", "", "name of this API, as in the aud of its tokens (default: the issuer)")
	listen := flags.String("listen", "127.0.0.1:9090", "address to listen on")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *audience == "" {
		*audience = *issuer
	}

	v, err := verifier.New(ctx, *issuer, verifier.WithAudience(*audience), verifier.WithCache(10_000))
	if err != nil {
		return err
	}
	defer v.Close()

	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           routes(v),
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	fmt.Fprintf(stdout, "listening on http://%s\n", listener.Addr())

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

func routes(v *verifier.Verifier) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /hello", v.Middleware(http.HandlerFunc(hello)))
	mux.Handle("GET /reports", v.Middleware(verifier.RequireScope("reports:read")(http.HandlerFunc(reports))))
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !v.Ready() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	return mux
}

func hello(w http.ResponseWriter, r *http.Request) {
	claims, _ := verifier.ClaimsFrom(r.Context())
	writeJSON(w, map[string]any{"subject": claims.Subject, "client": claims.ClientID})
}

func reports(w http.ResponseWriter, r *http.Request) {
	claims, _ := verifier.ClaimsFrom(r.Context())
	writeJSON(w, map[string]any{"reader": claims.Subject, "reports": []string{}})
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}
