package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// settings are the flags of a load run.
type settings struct {
	mix             []share
	clients         int
	duration        time.Duration
	warmup          time.Duration
	count           int64
	rate            float64
	pipeline        int
	timeout         time.Duration
	pause           time.Duration
	sessions        int
	sessionsPerUser int
	seedFile        string
	users           int
	usersFile       string
	clientID        string
	idempotent      bool
	cookie          bool
	path            string
	checkPath       string
	output          string
	ca              string
	owned           bool
	threads         int
	progress        bool
}

func (s settings) weight(name string) int {
	for _, sh := range s.mix {
		if sh.name == name {
			return sh.weight
		}
	}
	return 0
}

// validate returns all faults together.
func (s settings) validate() error {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	pipelined := s.pipeline > 1
	fault(s.clients < 1, "--clients must be at least 1")
	fault(s.duration < 0 || s.warmup < 0 || s.count < 0 || s.rate < 0, "--duration, --warmup, --count and --rate can't be negative")
	fault(s.duration == 0 && s.count == 0, "without --duration and --count the run would never end")
	fault(s.timeout <= 0, "--timeout must be positive")
	fault(s.pause < 0, "--pause can't be negative")
	fault(s.sessionsPerUser < 1, "--sessions-per-user must be at least 1")
	fault(s.users < 1, "--users must be at least 1")
	fault(s.pipeline < 1, "--pipeline must be at least 1")
	fault(pipelined && s.rate > 0, "--pipeline and --rate exclude each other: in a pipeline a request waits for its predecessors")
	fault(s.output != "text" && s.output != "json", "--output must be text or json")
	for flag, path := range map[string]string{"--path": s.path, "--check-path": s.checkPath} {
		fault(!isEscapedPath(path), "%s must begin with one / and be escaped", flag)
	}
	for _, sh := range s.mix {
		fault(pipelined && sh.name != opForged && sh.name != opGet, "%s can't be pipelined", sh.name)
	}
	return errors.Join(faults...)
}

// isEscapedPath tells whether path can be sent as it is.
func isEscapedPath(path string) bool {
	outside := func(r rune) bool { return r <= ' ' || r >= 0x7f }
	return strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "//") && !strings.ContainsFunc(path, outside)
}

// parseMix reads "refresh=90,login=2".
func parseMix(text string) ([]share, error) {
	var mix []share
	for part := range strings.SplitSeq(text, ",") {
		name, number, ok := strings.Cut(strings.TrimSpace(part), "=")
		weight, err := strconv.Atoi(number)
		if !ok || err != nil || weight < 1 || weight > 1_000_000 {
			return nil, fmt.Errorf("--mix %q: want KIND=SHARE,... with whole shares of at least 1", text)
		}
		known := false
		for _, n := range operationNames() {
			known = known || n == name
		}
		if !known {
			return nil, fmt.Errorf("--mix: unknown kind %q; there are %s", name, strings.Join(operationNames(), ", "))
		}
		for _, sh := range mix {
			if sh.name == name {
				return nil, fmt.Errorf("--mix names %s twice", name)
			}
		}
		mix = append(mix, share{name, weight})
	}
	return mix, nil
}

const rootHelp = `Stampede loads a Handstamp service and reports how fast it answered, with every answer checked.

How big a machine do I need? Three steps.

  1. Count. A user with the app open refreshes once per access-token lifetime: 1,000,000 users online at once with
     tokens of 15 minutes make 1,000,000 / 900 s = about 1,100 refreshes per second, and logins are rare beside them.

  2. Find the limit. Start the service as you will run it and let as many clients as you like go as fast as they can:

       stampede refresh http://127.0.0.1:8080 --clients 64 --duration 30s

     "per second" is the most that this machine does. Plan for half of it.

  3. See how it feels at the load you expect, logins and noise included. With --rate, requests come when they come,
     whether or not the service keeps up, and latencies count from the moment at which a request should have been sent:

       stampede mix http://127.0.0.1:8080 --mix refresh=90,check=5,login=1,forged=4 --rate 1200 --duration 1m

     If p99 is what you want your users to have and nothing was shed or failed, the machine is big enough.

On the same machine as the service, the client's own CPU (reported) is missing to the service; from another machine, say
--i-own-this-target. Put tens of thousands of sessions in a file once and use them again and again:

       stampede seed http://127.0.0.1:8080 --sessions 10000 --out sessions.txt
       stampede refresh http://127.0.0.1:8080 --seed-file sessions.txt --clients 64

The file holds live refresh tokens: after each run it has the latest ones. Treat it as a password.

Exit status: 0 all answers were right; 1 could not run; 2 some answers were wrong (they are listed by kind). Requests that
the service sheds under overload, with 429 or 503 and Retry-After, are counted apart and are not wrong.`

func newRootCommand(stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use: "stampede", Short: "Load a Handstamp service and measure it", Long: rootHelp,
		SilenceUsage: true, SilenceErrors: true,
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(
		newLoadCommand(opRefresh, "Rotate refresh tokens: each client owns sessions and refreshes them in turn",
			`  stampede refresh http://127.0.0.1:8080 --clients 64 --duration 30s
  stampede refresh http://127.0.0.1:8080 --clients 64 --rate 2000 --output json
  stampede refresh https://auth.example.com --i-own-this-target --seed-file sessions.txt --clients 256`),
		newLoadCommand(opLogin, "Log in with correct passwords",
			`  stampede login http://127.0.0.1:8080 --clients 4
  stampede login http://127.0.0.1:8080 --clients 64 --rate 500    # more than the hasher can: what is shed, and how fast?
  stampede login http://127.0.0.1:8080 --clients 2000 --pause 50ms    # a flood of clients that ignore Retry-After

The service allows each user few attempts and sheds the rest with 429. To measure the password hasher and nothing else, use
many --users, or start the service with --login-attempts 1000 --login-attempt-interval 1s.`),
		newLoadCommand(opBadLogin, "Log in with wrong passwords, which must cost and answer the same for all",
			`  stampede badlogin http://127.0.0.1:8080 --clients 16`),
		newLoadCommand(opCheck, "Show access tokens to GET /v1/me or another path",
			`  stampede check http://127.0.0.1:8080 --clients 64`),
		newLoadCommand(opForged, "Flood the service with forged refresh tokens, which it must refuse",
			`  stampede forged http://127.0.0.1:8080 --clients 8 --pipeline 16
  stampede refresh http://127.0.0.1:8080 --rate 1000 &  stampede forged http://127.0.0.1:8080    # do honest clients notice?`),
		newLoadCommand(opGet, "Get one path, which must answer 200",
			`  stampede get http://127.0.0.1:8080 --path /.well-known/jwks.json`),
		newLoadCommand("mix", "Mix kinds of requests by shares",
			`  stampede mix http://127.0.0.1:8080 --mix refresh=90,login=2,forged=8 --clients 64
  stampede mix http://127.0.0.1:8080 --mix refresh=80,check=20 --rate 5000 --duration 5m`),
		newSeedCommand(),
		newFollowersCommand(),
	)
	return root
}

// newLoadCommand makes the command for one kind of operation, or for "mix".
func newLoadCommand(name, short, examples string) *cobra.Command {
	var set settings
	mixText := name + "=1"
	cmd := &cobra.Command{
		Use: name + " URL", Short: short, Example: examples, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			mix, err := parseMix(mixText)
			if err != nil {
				return err
			}
			set.mix = mix
			return load(cmd.Context(), set, args[0], cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	if name == "mix" {
		cmd.Flags().StringVar(&mixText, "mix", "refresh=90,login=2,forged=8", "shares of "+strings.Join(operationNames(), ", "))
	}
	f := cmd.Flags()
	f.IntVarP(&set.clients, "clients", "c", 8, "connections, each with one request under way")
	f.DurationVarP(&set.duration, "duration", "d", 10*time.Second, "how long to measure (0: until --count)")
	f.DurationVar(&set.warmup, "warmup", 2*time.Second, "how long to run before measuring")
	f.Int64VarP(&set.count, "count", "n", 0, "stop after so many measured requests (0: after --duration)")
	f.Float64VarP(&set.rate, "rate", "r", 0,
		"requests per second over all clients, sent on schedule (0: each client as fast as it is answered)")
	f.DurationVar(&set.timeout, "timeout", 10*time.Second, "give up on an answer after this long, at most twice as long")
	f.DurationVar(&set.pause, "pause", 0, "come back so long after a refusal, whatever Retry-After says (0: at once)")
	f.StringVar(&set.output, "output", "text", "text or json")
	f.IntVar(&set.threads, "threads", 1, "processors that this client may use (0: all)")
	set.pipeline, set.path, set.checkPath, set.users, set.sessionsPerUser = 1, "/", "/", 1, 1
	set.idempotent, set.clientID = true, defaultClientID
	if name == "mix" || name == opRefresh || name == opCheck {
		sessionFlags(cmd, &set, 64)
		f.StringVar(&set.seedFile, "seed-file", "", "use the refresh tokens in this file, one a line, and write the latest back")
		f.BoolVar(&set.cookie, "cookie", false,
			"present refresh tokens in the cookie of a page of the client, which has to have that transport")
		f.BoolVar(&set.idempotent, "idempotency-key", true, "send an Idempotency-Key with each refresh, as good clients do")
	}
	if name == "mix" || name == opLogin || name == opBadLogin {
		f.IntVar(&set.users, "users", 100, "users to sign up for logins; the service lets each try login_attempts times at once")
	}
	if name != opForged && name != opGet {
		f.StringVar(&set.usersFile, "users-file", "", "use the users in this file, \"EMAIL PASSWORD\" a line, instead of signing up")
		f.StringVar(&set.clientID, "client-id", defaultClientID, "public client to log in and refresh as")
	} else {
		f.IntVar(&set.pipeline, "pipeline", 1, "requests that each client sends at once")
	}
	if name == "mix" || name == opCheck {
		f.StringVar(&set.checkPath, "check-path", "/v1/me", "path to show access tokens to")
	}
	if name == "mix" || name == opGet {
		f.StringVar(&set.path, "path", "/", "path to get")
	}
	targetFlags(cmd, &set)
	return cmd
}

func sessionFlags(cmd *cobra.Command, set *settings, sessions int) {
	cmd.Flags().IntVar(&set.sessions, "sessions", sessions, "sessions to start; each costs the service a password hash")
	cmd.Flags().IntVar(&set.sessionsPerUser, "sessions-per-user", 10,
		"sessions of one user; keep within the service's login_attempts and session_limit")
}

func targetFlags(cmd *cobra.Command, set *settings) {
	cmd.Flags().StringVar(&set.ca, "ca", "", "PEM file of certificate authorities to trust besides the system's")
	cmd.Flags().BoolVar(&set.owned, "i-own-this-target", false, "load a target that is not on this machine")
}

// load carries out a load command.
func load(ctx context.Context, set settings, url string, stdout, stderr io.Writer) error {
	if err := set.validate(); err != nil {
		return err
	}
	if set.threads > 0 {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(set.threads))
	}
	t, err := openTarget(ctx, url, set.ca, set.owned)
	if err != nil {
		return err
	}
	prog := newProgress(stderr)
	set.progress = prog != nil
	set.sessions = max(set.sessions, set.clients)
	w, err := newWorkload(ctx, set, t, noter(prog, stderr))
	if err != nil {
		return err
	}
	rep, err := w.run(ctx, prog)
	if saveErr := w.saveChains(); err != nil || saveErr != nil {
		return errors.Join(err, saveErr)
	}
	if set.output == "json" {
		err = writeJSON(stdout, rep)
	} else {
		err = rep.writeText(stdout)
	}
	if err == nil && rep.failed() > 0 {
		err = errFailures
	}
	return err
}

// noter tells a person at a terminal what the program is preparing.
func noter(p *progress, stderr io.Writer) func(string, ...any) {
	return func(format string, args ...any) {
		if p != nil {
			_, _ = fmt.Fprintf(stderr, format+"\n", args...)
		}
	}
}

func newSeedCommand() *cobra.Command {
	set := settings{clientID: defaultClientID}
	var out string
	cmd := &cobra.Command{
		Use: "seed URL --out FILE", Short: "Start sessions and write their refresh tokens to a file", Args: cobra.ExactArgs(1),
		Example: `  stampede seed http://127.0.0.1:8080 --sessions 10000 --out sessions.txt    # about 80 s on two cores`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if set.sessions < 1 || set.sessionsPerUser < 1 {
				return errors.New("--sessions and --sessions-per-user must be at least 1")
			}
			t, err := openTarget(cmd.Context(), args[0], set.ca, set.owned)
			if err != nil {
				return err
			}
			chains, err := startSessions(cmd.Context(), set, t)
			if err != nil {
				return err
			}
			return writeChains(out, chains)
		},
	}
	sessionFlags(cmd, &set, 1000)
	f := cmd.Flags()
	f.StringVar(&out, "out", "", "file for the refresh tokens, made with mode 0600")
	f.StringVar(&set.usersFile, "users-file", "", "use the users in this file, \"EMAIL PASSWORD\" a line, instead of signing up")
	f.StringVar(&set.clientID, "client-id", defaultClientID, "public client to log in as")
	f.DurationVar(&set.timeout, "timeout", 30*time.Second, "give up on an answer after this long")
	targetFlags(cmd, &set)
	_ = cmd.MarkFlagRequired("out") // the flag exists
	return cmd
}
