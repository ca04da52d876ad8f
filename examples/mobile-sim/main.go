//go:build unix

// Command mobile-sim plays a mobile app with an extension: two processes on one key chain, whose network loses, repeats and
// delays what they send, and which are killed in the middle of anything. It counts what happened and shows that the session
// lives.
//
//	go run ./examples/mobile-sim -issuer http://127.0.0.1:8080
//
// It signs a new user up. All that makes a session last stands in app.go: the key is written down before the request is sent, the
// request is repeated with the same key until it is answered, and nobody is logged out but by the server's word.
package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "mobile-sim:", err)
		os.Exit(1)
	}
}

// settings are what the flags say.
type settings struct {
	issuer    string
	refreshes int
	kills     int
	faults    faults
	keyChain  string // set for the processes that the program starts: it is one of the app's then
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	var s settings
	flags := flag.NewFlagSet("mobile-sim", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&s.issuer, "issuer", "http://127.0.0.1:8080", "the service")
	flags.IntVar(&s.refreshes, "refreshes", 10_000, "refreshes that the server answers with a new token before the play ends")
	flags.IntVar(&s.kills, "kills", 100, "how often a process is killed on the way")
	flags.Float64Var(&s.faults.lostRequests, "lost-requests", 0.2, "share of the requests that never arrive")
	flags.Float64Var(&s.faults.lostAnswers, "lost-answers", 0.2, "share of the answers that never arrive")
	flags.Float64Var(&s.faults.twice, "twice", 0.1, "share of the requests that arrive twice at once")
	flags.Float64Var(&s.faults.late, "late", 0.1, "share of the requests of which a copy arrives one or two refreshes later")
	flags.DurationVar(&s.faults.latency, "latency", 4*time.Millisecond, "how long a request is under way")
	flags.Uint64Var(&s.faults.seed, "seed", 1, "of the network's faults")
	flags.StringVar(&s.keyChain, "key-chain", "", "play one process of the app with this key chain (mobile-sim starts them itself)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	s.issuer = strings.TrimSuffix(s.issuer, "/")
	if s.keyChain != "" {
		return (&app{issuer: s.issuer, keyChain: keyChain(s.keyChain)}).run(untilClosed(ctx, stdin))
	}
	return s.play(ctx, stdout, stderr)
}

// untilClosed ends when the program that started this one closes its standard input, or is gone.
func untilClosed(ctx context.Context, stdin io.Reader) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, stdin)
	}()
	return ctx
}

// play is the whole program: it logs in, lets the processes refresh over the network, and looks at the session afterwards.
func (s settings) play(ctx context.Context, stdout, stderr io.Writer) error {
	first, err := signUp(ctx, s.issuer)
	if err != nil {
		return fmt.Errorf("sign up at %s: %w", s.issuer, err)
	}
	session, err := onlySession(ctx, s.issuer, first.AccessToken)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "mobile-sim-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // in the temporary directory
	chain := keyChain(filepath.Join(dir, "key-chain.json"))
	if err := chain.change(func(e *entry) { e.RefreshToken = first.RefreshToken }); err != nil {
		return err
	}

	net, err := startNetwork(s.issuer, s.faults)
	if err != nil {
		return err
	}
	defer net.close()
	began := time.Now()
	phone := phone{settings: s, network: net, keyChain: chain, progress: stderr}
	if err := phone.run(ctx); err != nil {
		return err
	}
	took := time.Since(began)

	// Once more, by the straight way: the session lives, and it is the one that the login has started.
	access, err := (&app{issuer: s.issuer, keyChain: chain}).refresh(ctx)
	if err != nil {
		return fmt.Errorf("the session is lost: %w", err)
	}
	if now, err := onlySession(ctx, s.issuer, access); err != nil || now != session {
		return fmt.Errorf("the login has started session %s, and now there is %s: %w", session, now, err)
	}
	phone.report(stdout, took)
	fmt.Fprintf(stdout, "\nThe session lives: %s is still the only one of the user.\n", session)
	return nil
}

// tokens is a token response (RFC 6749, section 5.1).
type tokens struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
}

func signUp(ctx context.Context, issuer string) (t tokens, err error) {
	body, err := json.Marshal(map[string]string{
		"email": "mobile-" + strings.ToLower(rand.Text()) + "@example.com", "password": rand.Text(),
	})
	if err != nil {
		return tokens{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, issuer+"/v1/signup", strings.NewReader(string(body)))
	if err != nil {
		return tokens{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	return t, fetch(req, http.StatusCreated, &t)
}

// onlySession is the ID of the user's session, of which there must be one.
func onlySession(ctx context.Context, issuer, accessToken string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, issuer+"/v1/sessions", http.NoBody)
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+accessToken)
	var list struct {
		Sessions []struct {
			ID string `json:"id"`
		} `json:"sessions"`
	}
	if err := fetch(req, http.StatusOK, &list); err != nil {
		return "", fmt.Errorf("list the sessions: %w", err)
	}
	if len(list.Sessions) != 1 {
		return "", fmt.Errorf("the user has %d sessions, want one", len(list.Sessions))
	}
	return list.Sessions[0].ID, nil
}

// fetch sends a request that must be answered with want, and decodes the answer.
func fetch(req *http.Request, want int, into any) error {
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != want {
		return fmt.Errorf("%s: %s", resp.Status, body)
	}
	return json.Unmarshal(body, into)
}

// newKey is an Idempotency-Key.
func newKey() string {
	b := make([]byte, 16)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}
