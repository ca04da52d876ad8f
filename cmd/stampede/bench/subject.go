package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// subject is a running service with sessions to work on.
type subject struct {
	name    string
	url     string
	keys    string // directory of its secrets
	seeds   string // file of refresh tokens
	process *process
}

// activeSessions is how many sessions the clients share: enough that none is hot, few enough to be started in seconds.
const activeSessions = 1024

// startSubject starts `handstamp serve` on a free port with the directories of that name; an empty databaseURL is
// SQLite there, an empty keys is its own. env are further settings.
func (b *bench) startSubject(ctx context.Context, name, databaseURL, keys string, env ...string) (*subject, error) {
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(b.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if keys == "" {
		keys = filepath.Join(dir, "keys")
	}
	if databaseURL == "" {
		databaseURL = "sqlite:" + filepath.Join(dir, "data", "handstamp.db")
	}
	s := &subject{name: name, url: "http://" + addr, keys: keys, seeds: filepath.Join(dir, "sessions.txt")}
	s.process, err = start(dir, name, b.program("handstamp"), append([]string{
		"HANDSTAMP_LISTEN=" + addr, "HANDSTAMP_ISSUER=" + s.url, "HANDSTAMP_DATABASE_URL=" + databaseURL, "HANDSTAMP_KEYS_DIR=" + keys,
		// several services run at once
		"HANDSTAMP_METRICS_LISTEN=",
		// the hasher is measured, not its gate
		"HANDSTAMP_LOGIN_ATTEMPTS=1000", "HANDSTAMP_LOGIN_ATTEMPT_INTERVAL=1s", "HANDSTAMP_LOGIN_IP_FAILURES=0",
		"HANDSTAMP_SIGNUP_IP_LIMIT=0",
	}, append(b.settings, env...)...), "serve", "--migrate")
	if err != nil {
		return nil, err
	}
	if err := s.process.awaitTCP(ctx, addr); err != nil {
		s.process.stop()
		return nil, err
	}
	return s, nil
}

// subjects starts the two services that the steps share, with sessions, when the first step asks for them. Later steps
// get the same services or the same error.
func (b *bench) subjects(ctx context.Context) error {
	if b.postgres == nil && b.subjectsErr == nil {
		b.subjectsErr = b.startSubjects(ctx)
	}
	return b.subjectsErr
}

func (b *bench) startSubjects(ctx context.Context) error {
	if err := b.database.prepareReference(ctx); err != nil {
		return err
	}
	var err error
	if b.postgres, err = b.seededSubject(ctx, "postgres", b.database.url(b.database.address())); err != nil {
		return err
	}
	if b.sqlite, err = b.seededSubject(ctx, "sqlite", ""); err != nil {
		return err
	}
	if err := b.database.fillSessions(ctx); err != nil {
		return err
	}
	return b.database.settle(ctx)
}

// seededSubject starts a service and its sessions. They are started with the cheapest password hash, since a minute of
// hashing would measure nothing; then the service starts again as it is.
func (b *bench) seededSubject(ctx context.Context, name, databaseURL string) (*subject, error) {
	b.note("starting %d sessions on %s", activeSessions, name)
	s, err := b.startSubject(ctx, name, databaseURL, "", "HANDSTAMP_PASSWORD_MEMORY=8", "HANDSTAMP_PASSWORD_TIME=1")
	if err != nil {
		return nil, err
	}
	_, err = output(ctx, b.dir, b.program("stampede"), "seed", s.url, "--sessions", strconv.Itoa(activeSessions), "--out", s.seeds)
	s.process.stop()
	if err != nil {
		return nil, err
	}
	return b.startSubject(ctx, name, databaseURL, "")
}

func (b *bench) stopSubjects() {
	for _, s := range []*subject{b.postgres, b.sqlite} {
		if s != nil {
			s.process.stop()
		}
	}
}

// loadReport is the part of the load client's JSON that is used here.
type loadReport struct {
	Seconds    float64 `json:"seconds"`
	Operations map[string]struct {
		Answered  float64 `json:"answered"`
		PerSecond float64 `json:"per_second"`
		Latency   struct {
			P50 float64 `json:"p50"`
			P99 float64 `json:"p99"`
		} `json:"latency_ms"`
		Shed     map[string]int64 `json:"shed"`
		Failures map[string]int64 `json:"failures"`
	} `json:"operations"`
	ClientCPU float64 `json:"client_cpu_us_per_request"`
}

// stampede runs the load client without a warm-up of its own. Failures are errors: a figure of wrong answers is no figure.
func (b *bench) stampede(ctx context.Context, mode, url string, args ...string) (*loadReport, error) {
	out, err := output(ctx, b.dir, b.program("stampede"),
		append([]string{mode, url, "--output", "json", "--warmup", "0s"}, args...)...)
	if err != nil {
		return nil, errors.Join(err, errors.New(failuresIn(out)))
	}
	var r loadReport
	if err := json.Unmarshal(out, &r); err != nil {
		return nil, fmt.Errorf("report of stampede: %w", err)
	}
	return &r, nil
}

func failuresIn(out []byte) string {
	var r loadReport
	if json.Unmarshal(out, &r) != nil {
		return ""
	}
	var kinds []string
	for op, res := range r.Operations {
		for kind, n := range res.Failures {
			kinds = append(kinds, fmt.Sprintf("%s: %s: %d", op, kind, n))
		}
	}
	return strings.Join(kinds, "; ")
}

// flags are those for a measurement of the usual length.
func (b *bench) flags(clients int, more ...string) []string {
	return append([]string{"--clients", strconv.Itoa(clients), "--duration", b.duration.String()}, more...)
}

// refreshes runs refresh chains on s.
func (b *bench) refreshes(ctx context.Context, s *subject, clients int, more ...string) (*loadReport, error) {
	return b.stampede(ctx, "refresh", s.url, append(b.flags(clients, "--seed-file", s.seeds), more...)...)
}

// beside runs disturb while measure runs, which begins a second later and must end before disturb does.
func (b *bench) beside(ctx context.Context, disturb func(ctx context.Context, length string) (*loadReport, error),
	measure func() error) (*loadReport, error) {
	type outcome struct {
		report *loadReport
		err    error
	}
	done := make(chan outcome, 1)
	go func() {
		r, err := disturb(ctx, (b.duration + 3*time.Second).String())
		done <- outcome{r, err}
	}()
	select {
	case o := <-done:
		return nil, errors.Join(errors.New("the disturbance ended at once"), o.err)
	case <-time.After(1500 * time.Millisecond): // users are signed up first
	}
	err := measure()
	o := <-done
	return o.report, errors.Join(err, o.err)
}

// firstToken signs up a user and returns when the answer is there.
func firstToken(ctx context.Context, url string) error {
	body, err := json.Marshal(map[string]string{"email": "first@stampede.invalid", "password": "correct horse battery staple"})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/signup", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return fmt.Errorf("sign up: status %d: %w", resp.StatusCode, err)
	}
	if resp.StatusCode != http.StatusCreated || answer.AccessToken == "" {
		return fmt.Errorf("sign up: status %d without a token", resp.StatusCode)
	}
	return nil
}
