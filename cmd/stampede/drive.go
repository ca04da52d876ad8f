package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// share is one kind of operation in a mix.
type share struct {
	name   string
	weight int
}

// client is one connection and the goroutine that uses it.
type client struct {
	conn     *conn
	sleeper  sleeper
	turns    []turn
	total    int // of the weights
	pipeline int
	pause    time.Duration // after a refusal
	buf      []byte
	sent     []*turn // requests under way when pipelining
}

// turn is a kind of operation as one client has it.
type turn struct {
	op       operation
	recorder *recorder
	weight   int
	credit   int
}

// pick chooses the next operation by smooth weighted round robin: exact shares, evenly spread, no randomness.
func (c *client) pick() *turn {
	if len(c.turns) == 1 {
		return &c.turns[0]
	}
	best := &c.turns[0]
	for i := range c.turns {
		t := &c.turns[i]
		t.credit += t.weight
		if t.credit > best.credit {
			best = t
		}
	}
	best.credit -= c.total
	return best
}

// skip makes n picks, so that the clients of a run don't all ask for the same at once.
func (c *client) skip(n int) {
	for range n % max(1, c.total) {
		c.pick()
	}
}

// run sends requests until the schedule ends. Of those that are due in the warm-up, only failures are recorded.
func (c *client) run(ctx context.Context, s *schedule) {
	for {
		due, ok := s.next(c.sleeper)
		if !ok {
			return
		}
		if c.pipeline > 1 {
			ok = c.batch(ctx, s, due)
		} else {
			ok = c.one(ctx, s, due)
		}
		if !ok {
			return
		}
	}
}

// one sends one request. It returns false if the client has nothing left to send.
func (c *client) one(ctx context.Context, s *schedule, due time.Time) bool {
	t := c.pick()
	var ok bool
	if c.buf, ok = t.op.request(c.buf[:0]); !ok {
		return c.exhausted(t)
	}
	resp, err := c.conn.roundTrip(ctx, c.buf, due)
	now := time.Now()
	c.settle(t, s, due, now, &resp, err)
	return true
}

// exhausted takes t out of the mix and returns whether anything is left in it.
func (c *client) exhausted(t *turn) bool {
	c.total -= t.weight
	t.weight, t.credit = 0, -1
	return c.total > 0
}

// settle records how a request ended and waits a little after a lost connection, lest a dead server be dialled in a busy loop.
func (c *client) settle(t *turn, s *schedule, due, now time.Time, resp *response, err error) {
	if err != nil {
		t.recorder.failed(errorKind(err), now)
		c.sleeper.sleepUntil(now.Add(slice / 2))
		return
	}
	kind := ""
	if !isShed(resp) {
		kind = t.op.verify(resp)
	}
	switch {
	case kind != "": // also in the warm-up: wrong is wrong at any time
		t.recorder.failed(kind, now)
	case due.Before(s.begin):
	case isShed(resp):
		t.recorder.refused(statusKind(resp), now)
	default:
		t.recorder.answered(now.Sub(due), now)
	}
	if kind == "" && isShed(resp) && c.pause > 0 {
		time.Sleep(c.pause)
	}
}

// batch sends as many requests as the pipeline is deep in one write and then reads their answers (RFC 9112, section 9.3.2). Only
// operations whose requests don't depend on answers may be pipelined.
func (c *client) batch(ctx context.Context, s *schedule, due time.Time) bool {
	c.buf, c.sent = c.buf[:0], c.sent[:0]
	for len(c.sent) < c.pipeline {
		if len(c.sent) > 0 {
			if _, more := s.next(c.sleeper); !more {
				break
			}
		}
		t := c.pick()
		c.buf, _ = t.op.request(c.buf)
		c.sent = append(c.sent, t)
	}
	err := c.conn.send(ctx, c.buf, due)
	for _, t := range c.sent {
		var resp response
		if err == nil {
			resp, err = c.conn.receive()
		}
		c.settle(t, s, due, time.Now(), &resp, err)
	}
	return true
}

// workload is a run that is ready to start: every session is there, every connection can be opened.
type workload struct {
	settings  settings
	target    *target
	clients   []*client
	chains    []*chain
	recorders map[string]*recorder
}

// run drives the load and returns the report. A cancelled ctx ends the load early; what was measured until then is reported.
func (w *workload) run(ctx context.Context, progress *progress) (*report, error) {
	if err := w.connect(ctx); err != nil {
		return nil, err
	}
	defer w.close()
	set := w.settings
	now := time.Now()
	s := &schedule{start: now, begin: now.Add(set.warmup), rate: set.rate, limit: set.count}
	if set.duration > 0 {
		s.end = s.begin.Add(set.duration)
	}
	stop := context.AfterFunc(ctx, s.halt)
	defer stop()

	// The requests under way when the user interrupts are still answered: a token that is lost on purpose is not a measurement.
	quiet := context.WithoutCancel(ctx)
	var clients, watchers sync.WaitGroup
	done := make(chan struct{})
	var cpuBefore time.Duration
	watchers.Go(func() {
		select {
		case <-time.After(set.warmup):
		case <-done:
		}
		cpuBefore = cpuTime()
	})
	watchers.Go(func() { progress.watch(done, s, w) })
	for _, c := range w.clients {
		clients.Go(func() { c.run(quiet, s) })
	}
	clients.Wait()
	close(done)
	watchers.Wait()
	return w.report(s, cpuTime()-cpuBefore), nil
}

// connect opens every connection before the clock starts.
func (w *workload) connect(ctx context.Context) error {
	for _, c := range w.clients {
		var err error
		c.sleeper = plainSleeper{}
		if w.settings.rate > 0 { // only then is anybody woken at a certain time
			if c.sleeper, err = newSleeper(); err != nil {
				return err
			}
		}
		if err := c.conn.connect(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (w *workload) close() {
	for _, c := range w.clients {
		c.conn.drop()
		_ = c.sleeper.close() // a timer has nothing to lose
	}
}

// newWorkload prepares the operations of set.mix: it signs up users, starts sessions and reads tokens as far as the mix
// needs them.
func newWorkload(ctx context.Context, set settings, t *target, note func(string, ...any)) (*workload, error) {
	w := &workload{settings: set, target: t, recorders: map[string]*recorder{}}
	needs := func(name string) bool { return set.weight(name) > 0 }
	var accounts []account
	var err error
	if needs(opLogin) || needs(opBadLogin) {
		if accounts, err = loginAccounts(ctx, set, t, note); err != nil {
			return nil, err
		}
	}
	if needs(opRefresh) || needs(opCheck) {
		if w.chains, err = openChains(ctx, set, t, note); err != nil {
			return nil, err
		}
		if len(w.chains) < set.clients {
			return nil, fmt.Errorf("%d sessions are too few for %d clients: a session has one owner", len(w.chains), set.clients)
		}
	}
	if needs(opCheck) {
		if err := w.fetchAccessTokens(ctx); err != nil {
			return nil, errors.Join(err, w.saveChains())
		}
	}
	for i := range set.clients {
		w.clients = append(w.clients, w.newClient(i, accounts))
	}
	return w, nil
}

func (w *workload) newClient(i int, accounts []account) *client {
	set, t := w.settings, w.target
	c := &client{conn: newConn(t, set.timeout), pipeline: set.pipeline, pause: set.pause}
	var own []*chain
	for j := i; j < len(w.chains); j += set.clients {
		own = append(own, w.chains[j])
	}
	for _, s := range set.mix {
		var op operation
		switch s.name {
		case opRefresh:
			op = newRefresher(t, set, set.weight(opCheck) > 0, own)
		case opLogin, opBadLogin:
			op = newLogin(t, set.clientID, rotated(accounts, i), s.name == opBadLogin)
		case opCheck:
			op = newCheck(t, set.checkPath, own)
		case opForged:
			op = newForger(t)
		case opGet:
			op = newFetch(t, set.path)
		}
		rec := w.recorders[s.name]
		if rec == nil {
			rec = newRecorder(set.progress)
			w.recorders[s.name] = rec
		}
		c.turns = append(c.turns, turn{op: op, recorder: rec, weight: s.weight})
		c.total += s.weight
	}
	c.skip(i)
	return c
}

// rotated returns s beginning with its element i, so that each client starts with another account.
func rotated(s []account, i int) []account {
	if len(s) == 0 {
		return nil
	}
	i %= len(s)
	return append(append([]account(nil), s[i:]...), s[:i]...)
}

// fetchAccessTokens refreshes every session once.
func (w *workload) fetchAccessTokens(ctx context.Context) error {
	r := newRefresher(w.target, w.settings, true, w.chains)
	c := newConn(w.target, w.settings.timeout)
	defer c.drop()
	var buf []byte
	for _, ch := range w.chains {
		buf = r.requestFor(ch, buf[:0])
		resp, err := c.roundTrip(ctx, buf, time.Now())
		if err != nil {
			return fmt.Errorf("refresh a session for its access token: %w", err)
		}
		if kind := r.verify(&resp); kind != "" {
			return fmt.Errorf("refresh a session for its access token: %s", kind)
		}
	}
	return nil
}
