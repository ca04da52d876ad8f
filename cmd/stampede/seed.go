package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	defaultClientID = "default"
	// emailDomain is reserved (RFC 2606, section 2): no mail of a test run ever reaches anybody.
	emailDomain = "stampede.invalid"
)

// errNoSignup: the server doesn't hand out tokens at sign-up.
var errNoSignup = errors.New("sign-up answered without tokens: either let e-mail addresses be unverified while you measure, " +
	"or create users beforehand and pass --users-file")

// newAccounts makes n accounts that nobody else has.
func newAccounts(n int) []account {
	run := strings.ToLower(rand.Text()[:10])
	accounts := make([]account, n)
	for i := range accounts {
		accounts[i] = account{email: fmt.Sprintf("run-%s-%d@%s", run, i, emailDomain), password: rand.Text()}
	}
	return accounts
}

// loginAccounts returns the accounts that log in: those of the file, else new ones.
func loginAccounts(ctx context.Context, set settings, t *target, note func(string, ...any)) ([]account, error) {
	if set.usersFile != "" {
		return readAccounts(set.usersFile)
	}
	note("signing up %d users", set.users)
	accounts := newAccounts(set.users)
	err := each(ctx, set, t, len(accounts), func(c *conn, i int) error {
		_, err := signup(ctx, c, accounts[i])
		return err
	})
	return accounts, err
}

// readAccounts reads lines of an e-mail address, white space and a password.
func readAccounts(path string) ([]account, error) {
	var accounts []account
	err := eachLine(path, func(n int, line string) error {
		email, password, ok := strings.Cut(line, " ")
		if !ok || password == "" {
			return fmt.Errorf("%s:%d: want an e-mail address, a space and a password", path, n)
		}
		accounts = append(accounts, account{email, password})
		return nil
	})
	if err == nil && len(accounts) == 0 {
		err = fmt.Errorf("%s is empty", path)
	}
	return accounts, err
}

// openChains returns the sessions of the seed file, else starts new ones.
func openChains(ctx context.Context, set settings, t *target, note func(string, ...any)) ([]*chain, error) {
	if set.seedFile != "" {
		return readChains(set.seedFile)
	}
	note("starting %d sessions", set.sessions)
	return startSessions(ctx, set, t)
}

// startSessions starts set.sessions sessions. A user has at most set.sessionsPerUser of them because the server ends a
// user's oldest session when there are too many. Each costs the server one password hash; hence --seed-file.
func startSessions(ctx context.Context, set settings, t *target) ([]*chain, error) {
	perUser := set.sessionsPerUser
	var accounts []account
	if set.usersFile != "" {
		var err error
		if accounts, err = readAccounts(set.usersFile); err != nil {
			return nil, err
		}
		if len(accounts)*perUser < set.sessions {
			return nil, fmt.Errorf("%d users with %d sessions each are too few for %d sessions", len(accounts), perUser, set.sessions)
		}
	} else {
		accounts = newAccounts((set.sessions + perUser - 1) / perUser)
	}
	chains := make([]*chain, set.sessions)
	err := each(ctx, set, t, len(accounts), func(c *conn, user int) error {
		i := user
		if set.usersFile == "" {
			token, err := signup(ctx, c, accounts[user])
			if err != nil {
				return err
			}
			if set.clientID == defaultClientID { // sign-up starts a session at the default client
				chains[i] = &chain{token: token}
				i += len(accounts)
			}
		}
		for ; i < len(chains); i += len(accounts) {
			token, err := logIn(ctx, c, set.clientID, accounts[user])
			if err != nil {
				return err
			}
			chains[i] = &chain{token: token}
		}
		return nil
	})
	return chains, err
}

// seedingClients is how many connections sign up and log in at once: enough to keep the password hasher busy, too few
// to overrun it.
const seedingClients = 4

// each calls do(conn, i) for every i below n, on a few connections at once, and returns the first error.
func each(ctx context.Context, set settings, t *target, n int, do func(c *conn, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(seedingClients, n) {
		wg.Go(func() {
			c := newConn(t, set.timeout)
			defer c.drop()
			for i := int(next.Add(1)) - 1; i < n && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				if err := do(c, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// signup creates a user and returns the refresh token of their first session.
func signup(ctx context.Context, c *conn, a account) (string, error) {
	resp, err := patiently(ctx, c, c.target.jsonRequest("/v1/signup", map[string]string{"email": a.email, "password": a.password}))
	if err != nil {
		return "", fmt.Errorf("sign up: %w", err)
	}
	token := resp.answer().RefreshToken
	switch {
	case resp.status == 202 || resp.status == 201 && token == "":
		return "", errNoSignup
	case resp.status != 201:
		return "", fmt.Errorf("sign up: %s", statusKind(&resp))
	}
	return token, nil
}

// logIn starts a session and returns its refresh token.
func logIn(ctx context.Context, c *conn, clientID string, a account) (string, error) {
	resp, err := patiently(ctx, c, c.target.jsonRequest("/v1/login", loginBody(a, clientID)))
	if err != nil {
		return "", fmt.Errorf("log in: %w", err)
	}
	token := resp.answer().RefreshToken
	if resp.status != 200 || token == "" {
		return "", fmt.Errorf("log in: %s", statusKind(&resp))
	}
	return token, nil
}

// patiently repeats a request that the server sheds, for a minute. Retry-After has whole seconds, which would be a long
// rest for a queue that empties in milliseconds.
func patiently(ctx context.Context, c *conn, request []byte) (response, error) {
	for tries := 0; ; tries++ {
		resp, err := c.roundTrip(ctx, request, time.Now())
		if err != nil || !isShed(&resp) || tries == 240 {
			return resp, err
		}
		select {
		case <-ctx.Done():
			return resp, context.Cause(ctx)
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// readChains reads refresh tokens, one a line. A second word is the Idempotency-Key of a refresh that was never answered.
func readChains(path string) ([]*chain, error) {
	var chains []*chain
	err := eachLine(path, func(n int, line string) error {
		words := strings.Fields(line)
		if len(words) > 2 {
			return fmt.Errorf("%s:%d: want a refresh token", path, n)
		}
		c := &chain{token: words[0]}
		if len(words) == 2 {
			c.key, c.pending = words[1], true
		}
		chains = append(chains, c)
		return nil
	})
	return chains, err
}

// saveChains writes the latest tokens of the sessions that are alive back to the seed file, if there is one.
func (w *workload) saveChains() error {
	if w.settings.seedFile == "" {
		return nil
	}
	return writeChains(w.settings.seedFile, w.chains)
}

// writeChains replaces the file at once, so that an interrupted run can't leave half of the tokens. Only the owner may read it.
func writeChains(path string, chains []*chain) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".stampede-*") // mode 0600
	if err != nil {
		return fmt.Errorf("save sessions: %w", err)
	}
	b := bufio.NewWriter(f)
	for _, c := range chains {
		if c.dead {
			continue
		}
		_, _ = b.WriteString(c.token) // a failure stays in b until Flush
		if c.pending && c.key != "" {
			_ = b.WriteByte(' ')
			_, _ = b.WriteString(c.key)
		}
		_ = b.WriteByte('\n')
	}
	err = errors.Join(b.Flush(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("save sessions: %w", err), os.Remove(f.Name()))
	}
	return nil
}

// eachLine calls do for each line of a file that isn't blank.
func eachLine(path string, do func(n int, line string) error) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if err := do(n, line); err != nil {
			return err
		}
	}
	return nil
}
