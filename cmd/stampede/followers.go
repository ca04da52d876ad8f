package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
)

// An entry of the feed on the wire: a key, then two times that don't matter here.
const (
	entryBytes = 24
	keyBytes   = 16
)

// entryKey is the first bytes of SHA-256(kind || 0x00 || value).
type entryKey [keyBytes]byte

func sessionKey(sid string) entryKey {
	sum := sha256.Sum256([]byte("sid\x00" + sid))
	return entryKey(sum[:keyBytes])
}

// revocation is one ended session and when each follower heard of it.
type revocation struct {
	key     entryKey
	heard   []atomic.Int64 // nanoseconds since the run's start, by follower; 0: not yet
	missing atomic.Int64
	all     chan struct{} // closed when nobody is missing
}

// audience is the followers of one run and what they wait for.
type audience struct {
	target  *target
	start   time.Time
	current atomic.Pointer[revocation]

	mu       sync.Mutex
	failures map[string]int64
}

func (a *audience) fail(kind string) {
	a.mu.Lock()
	a.failures[kind]++
	a.mu.Unlock()
}

// follower reads one stream of GET /v1/blocklist/stream.
type follower struct {
	index int
	nc    net.Conn
	lines *bufio.Scanner
}

// maxEvent bounds one line of a stream. A burst of revocations fits many times over.
const maxEvent = 1 << 20

// open connects and reads the head of the answer, so that the stream is known to run.
func (f *follower) open(ctx context.Context, t *target, cursor string) error {
	nc, err := t.dial(ctx)
	if err != nil {
		return fmt.Errorf("open stream: %w", err)
	}
	f.nc = nc
	request := t.request("GET", "/v1/blocklist/stream?after="+url.QueryEscape(cursor))
	request.Header.Set("Accept", "text/event-stream")
	if err := request.Write(nc); err != nil {
		return fmt.Errorf("open stream: %w", err)
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(nc, 2048), nil) //nolint:bodyclose // the connection is closed instead
	if err != nil {
		return fmt.Errorf("open stream: %w", err)
	}
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		return fmt.Errorf("open stream: status %d, %q", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	f.lines = bufio.NewScanner(resp.Body)
	f.lines.Buffer(make([]byte, 0, 2048), maxEvent)
	return nil
}

// follow reads events until the connection ends, which close makes it do.
func (f *follower) follow(a *audience, over <-chan struct{}) {
	entries, reset := false, false
	for f.lines.Scan() {
		line := f.lines.Bytes()
		if name, ok := bytes.CutPrefix(line, []byte("event:")); ok {
			name = bytes.TrimSpace(name)
			entries, reset = string(name) == "entries", string(name) == "reset"
			if reset {
				a.fail("stream reset: the cursor was not usable")
			}
		}
		if data, ok := bytes.CutPrefix(line, []byte("data:")); ok && entries {
			f.hear(a, data)
		}
	}
	select {
	case <-over:
	default:
		a.fail("stream closed by the server")
	}
}

// hear notes the time if the event carries the entry that the audience waits for. The clock is read before anything is decoded.
func (f *follower) hear(a *audience, data []byte) {
	now := time.Since(a.start)
	r := a.current.Load()
	if r == nil {
		return
	}
	var event struct {
		Entries []byte `json:"entries"`
	}
	if json.Unmarshal(data, &event) != nil || len(event.Entries)%entryBytes != 0 {
		a.fail("malformed entries")
		return
	}
	for entry := range slices.Chunk(event.Entries, entryBytes) {
		if entryKey(entry[:keyBytes]) != r.key {
			continue
		}
		// At-least-once: a repeat changes nothing.
		if r.heard[f.index].CompareAndSwap(0, int64(now)) && r.missing.Add(-1) == 0 {
			close(r.all)
		}
	}
}

// followersReport is what `stampede followers` prints.
type followersReport struct {
	Target      string           `json:"target"`
	StartedAt   time.Time        `json:"started_at"`
	Followers   int              `json:"followers"`
	Revocations int              `json:"revocations"`
	Heard       int64            `json:"heard"`      // of followers × revocations
	Latency     latencies        `json:"latency_ms"` // from the answer to the logout until the follower had the event
	Last        latencies        `json:"last_ms"`    // of each revocation, the follower that heard last
	Failures    map[string]int64 `json:"failures"`
}

func (r *followersReport) writeText(out io.Writer) error {
	_, err := fmt.Fprintf(out, "%s: %d followers, %d revocations, %d of %d heard\nfrom the answered logout to the event, ms: p50 "+
		"%.2f  p99 %.2f  max %.2f\nuntil the last follower had it, ms: p50 %.2f  max %.2f\n",
		r.Target, r.Followers, r.Revocations, r.Heard, r.Followers*r.Revocations, r.Latency.P50, r.Latency.P99, r.Latency.Max,
		r.Last.P50, r.Last.Max)
	for kind, n := range r.Failures {
		_, _ = fmt.Fprintf(out, "failed: %s: %d\n", kind, n)
	}
	return err
}

// followersSettings are the flags of `stampede followers`.
type followersSettings struct {
	settings
	n           int
	revocations int
	pause       time.Duration
	patience    time.Duration
}

func newFollowersCommand() *cobra.Command {
	set := followersSettings{settings: settings{clientID: defaultClientID, idempotent: true, sessionsPerUser: 1, users: 1}}
	cmd := &cobra.Command{
		Use: "followers URL", Short: "Measure how fast a revocation reaches many followers of the blocklist", Args: cobra.ExactArgs(1),
		Long: `Opens many streams of GET /v1/blocklist/stream, ends sessions one after another by POST /v1/logout, and measures for
each follower the time from the answer to the logout until the event with the session's entry was read.`,
		Example: `  stampede followers http://127.0.0.1:8080 --n 1000 --revocations 50`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if set.n < 1 || set.revocations < 1 || set.pause < 0 || set.patience <= 0 || set.timeout <= 0 {
				return errors.New("--n, --revocations, --patience and --timeout must be positive")
			}
			if set.output != "text" && set.output != "json" {
				return errors.New("--output must be text or json")
			}
			t, err := openTarget(cmd.Context(), args[0], set.ca, set.owned)
			if err != nil {
				return err
			}
			rep, err := measureFollowers(cmd.Context(), set, t)
			if err != nil {
				return err
			}
			if set.output == "json" {
				err = writeJSON(cmd.OutOrStdout(), rep)
			} else {
				err = rep.writeText(cmd.OutOrStdout())
			}
			if err == nil && len(rep.Failures) > 0 {
				err = errFailures
			}
			return err
		},
	}
	f := cmd.Flags()
	f.IntVar(&set.n, "n", 1000, "followers; mind the limit of open files")
	f.IntVar(&set.revocations, "revocations", 20, "sessions to end, one after another")
	f.DurationVar(&set.pause, "pause", 100*time.Millisecond, "rest between two revocations")
	f.DurationVar(&set.patience, "patience", 10*time.Second, "how long to wait for the last follower")
	f.DurationVar(&set.timeout, "timeout", 10*time.Second, "give up on an answer after this long")
	f.StringVar(&set.output, "output", "text", "text or json")
	f.StringVar(&set.usersFile, "users-file", "", "use the users in this file, \"EMAIL PASSWORD\" a line, instead of signing up")
	f.StringVar(&set.clientID, "client-id", defaultClientID, "public client to log in as")
	targetFlags(cmd, &set.settings)
	return cmd
}

// measureFollowers opens the streams, revokes, and gathers the times.
func measureFollowers(ctx context.Context, set followersSettings, t *target) (*followersReport, error) {
	accounts, err := loginAccounts(ctx, set.settings, t, func(string, ...any) {})
	if err != nil {
		return nil, err
	}
	c := newConn(t, set.timeout)
	defer c.drop()
	cursor, err := snapshotCursor(ctx, c)
	if err != nil {
		return nil, err
	}
	a := &audience{target: t, start: time.Now(), failures: map[string]int64{}}
	dismiss, err := a.gather(ctx, set.n, cursor)
	if err != nil {
		return nil, err
	}
	defer dismiss()

	rep := &followersReport{Target: t.url, StartedAt: a.start.UTC(), Followers: set.n}
	each, last := newHistogram(), newHistogram()
	for range set.revocations {
		if ctx.Err() != nil {
			break
		}
		r := &revocation{heard: make([]atomic.Int64, set.n), all: make(chan struct{})}
		r.missing.Store(int64(set.n))
		answered, err := a.revoke(ctx, c, set.clientID, accounts[0], r)
		if err != nil {
			return nil, err
		}
		select {
		case <-r.all:
		case <-ctx.Done():
			a.fail("interrupted")
		case <-time.After(set.patience):
			a.fail("a revocation did not reach every follower")
		}
		rep.Revocations++
		slowest := int64(0)
		for i := range r.heard {
			if at := r.heard[i].Load(); at > 0 {
				// An event that overtakes the answer took no time.
				took := min(max(0, at-int64(answered)), longestLatency)
				slowest = max(slowest, took)
				_ = each.RecordValue(took) // in range by construction
			}
		}
		_ = last.RecordValue(slowest)
		select {
		case <-ctx.Done():
		case <-time.After(set.pause):
		}
	}
	rep.Heard, rep.Latency, rep.Last = each.TotalCount(), summarize(each), summarize(last)
	a.mu.Lock()
	rep.Failures = a.failures
	a.mu.Unlock()
	return rep, nil
}

// gather opens n streams and lets them follow until the returned function is called, which waits for them.
func (a *audience) gather(ctx context.Context, n int, cursor string) (func(), error) {
	var wg sync.WaitGroup
	over := make(chan struct{})
	followers := make([]*follower, 0, n)
	stop := func() {
		close(over)
		for _, f := range followers {
			_ = f.nc.Close() // it was only read
		}
		wg.Wait()
	}
	for i := range n {
		f := &follower{index: i}
		err := f.open(ctx, a.target, cursor)
		if f.nc != nil {
			followers = append(followers, f)
		}
		if err != nil {
			stop()
			return nil, fmt.Errorf("follower %d of %d: %w", i+1, n, err)
		}
		wg.Go(func() { f.follow(a, over) })
	}
	return stop, nil
}

// revoke starts a session, ends it, and returns when the end was answered.
func (a *audience) revoke(ctx context.Context, c *conn, clientID string, acc account, r *revocation) (time.Duration, error) {
	resp, err := patiently(ctx, c, a.target.jsonRequest("/v1/login", loginBody(acc, clientID)))
	if err != nil {
		return 0, fmt.Errorf("log in: %w", err)
	}
	access := resp.answer().AccessToken
	if resp.status != 200 || access == "" {
		return 0, fmt.Errorf("log in: %s", statusKind(&resp))
	}
	sid, err := sessionOf(access)
	if err != nil {
		return 0, err
	}
	r.key = sessionKey(sid)
	a.current.Store(r)
	logout := a.target.request("POST", "/v1/logout")
	logout.Header.Set("Authorization", "Bearer "+access)
	resp, err = c.roundTrip(ctx, appendRequest(nil, logout), time.Now())
	answered := time.Since(a.start)
	if err != nil {
		return 0, fmt.Errorf("log out: %w", err)
	}
	if resp.status != 200 && resp.status != 204 {
		return 0, fmt.Errorf("log out: %s", statusKind(&resp))
	}
	return answered, nil
}

// snapshotCursor returns the cursor of GET /v1/blocklist.
func snapshotCursor(ctx context.Context, c *conn) (string, error) {
	resp, err := c.roundTrip(ctx, appendRequest(nil, c.target.request("GET", "/v1/blocklist")), time.Now())
	if err != nil {
		return "", fmt.Errorf("get the blocklist: %w", err)
	}
	cursor := resp.answer().Cursor
	if resp.status != 200 || cursor == "" {
		return "", fmt.Errorf("get the blocklist: %s", statusKind(&resp))
	}
	return cursor, nil
}

// sessionOf reads the sid claim of an access token that this client has just been given, so there is nothing to verify.
func sessionOf(access string) (string, error) {
	parts := strings.Split(access, ".")
	if len(parts) != 3 {
		return "", errors.New("access token is not a JWS")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", fmt.Errorf("decode access token: %w", err)
	}
	var claims struct {
		SID string `json:"sid"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil || claims.SID == "" {
		return "", errors.New("access token without sid")
	}
	return claims.SID, nil
}
