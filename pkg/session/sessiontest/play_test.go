package sessiontest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/user"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// What a replica's answer comes down to. Any other error is a fault of the service: the answer that must not be.
var (
	errRefused     = errors.New("invalid_grant")
	errUnavailable = errors.New("unavailable")
)

// tokens is what a client gets.
type tokens struct {
	refresh string
	iat     int64
	roles   string
}

// replica is one instance of the service.
type replica interface {
	begin(ctx context.Context, clientID string) (tokens, error)
	refresh(ctx context.Context, clientID, token, key string) (tokens, error)
	fork(ctx context.Context, clientID, token, key string) (tokens, error)
	logout(ctx context.Context, token string) error
	logoutAll(ctx context.Context) error
	setRoles(ctx context.Context, roles string) error
	stop() // as if it had been killed
}

// stage is where a history is played.
type stage struct {
	ctx     context.Context
	rules   [sessions]Rules
	pauses  []time.Duration
	exact   bool // times are; otherwise they are as good as tolerance
	open    func(u user.User) (replica, *link, error)
	db      *database
	now     func() time.Duration
	advance func(h *history, d time.Duration) error
	reopen  func() error // the database, between two rounds; nil where it is not
	crash   func() error // the database, in the middle of a round; nil where it is not
}

const tolerance = 12 * time.Second

// clients of the two sessions; the one of the second has a grace period of its own.
var clients = [sessions]string{"default", "other"}

// history is a script while it happens.
type history struct {
	*stage
	script   script
	user     user.User
	roles    string // as acknowledged or, if the outcome is unknown, perhaps
	replicas []replica
	links    []*link
	sessions [sessions]*life
	retired  []*life
	place    atomic.Int64 // among all beginnings and ends of calls
	cursor   string       // of the blocklist at the start
	entries  map[verifier.BlockKey]int64
	started  time.Time
	serial   int
	tooSlow  bool
	crashed  bool // the database has: every replica has seen it fail
	shaken   bool // the database has crashed in the last round: connections may still turn out to be dead
}

// life is what is known of one session from outside.
type life struct {
	id          session.ID
	clientID    string
	rules       Rules
	states      []State // in which it may be; one after each look
	past        []State // at each look
	begun       time.Duration
	owner       *party
	thief       *party
	shared      bool // somebody else than the owner has used a token of it
	overFrom    int  // the round after which it was over for good; -1 while it is not
	ended       bool // by somebody who may, or perhaps
	texts       map[int]string
	minted      []tokens
	turns       turns
	children    []tokens // of forks, as they were given out
	rewound     bool     // the row has been, and its idle end with it
	description []string
}

// party holds one copy of the tokens of a session.
type party struct {
	name  string
	token string
	keyed bool
	keys  map[string]string        // Idempotency-Key for each token, written down before it is sent
	tried map[string]time.Duration // when the service first heard of each token
	since time.Duration            // the earliest time at which the token may have been made
	held  []request                // in the network
}

// request is one refresh on its way.
type request struct {
	token, key string
}

// turns counts what two parties got since they were last close to each other.
type turns struct {
	last  *party
	at    time.Duration
	count map[*party]int
}

// violation is a promise that was broken.
func violation(format string, args ...any) error { return fmt.Errorf(format, args...) }

// play plays a script to its end, or to the first broken promise.
func (st *stage) play(s script) (fault error) {
	h := &history{stage: st, script: s, started: time.Now(), entries: make(map[verifier.BlockKey]int64)}
	defer func() {
		for _, r := range h.replicas {
			r.stop()
		}
		if fault != nil {
			fault = fmt.Errorf("%w\n%s%s", fault, s, h.describe())
		}
	}()
	if err := h.begin(); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	for i, r := range s.Rounds {
		if err := h.round(i, r); err != nil {
			return fmt.Errorf("round %d: %w", i, err)
		}
		if h.tooSlow {
			return nil // the clock on the wall has spoilt the times
		}
	}
	return h.finish()
}

func (h *history) describe() string {
	var b strings.Builder
	for _, l := range slices.Concat(h.retired, h.sessions[:]) {
		if l != nil {
			fmt.Fprintf(&b, "session of %s:\n  %s\n", l.clientID, strings.Join(l.description, "\n  "))
		}
	}
	return b.String()
}

func (h *history) begin() error {
	at := time.Now()
	h.roles = "r0"
	h.user = user.User{ID: user.NewID(at), PasswordHash: "none", Roles: []string{h.roles}, CreatedAt: at, UpdatedAt: at}
	h.user.Email = h.user.ID + "@example.test"
	if err := h.db.CreateUser(h.ctx, h.user, audit.Event{
		At:     at,
		Kind:   audit.KindUserCreated,
		Actor:  audit.ActorCLI,
		UserID: h.user.ID,
	}); err != nil {
		return err
	}
	changes, err := h.db.BlocklistChanges(h.ctx, h.db.cursor)
	if err != nil {
		return err
	}
	h.cursor = changes.Cursor
	for range h.script.Replicas {
		h.replicas, h.links = append(h.replicas, nil), append(h.links, nil)
		if err := h.replace(len(h.replicas) - 1); err != nil {
			return err
		}
	}
	for i := range h.sessions {
		if err := h.login(i); err != nil {
			return err
		}
	}
	return h.look(-1)
}

// login begins a session.
func (h *history) login(i int) error {
	now := h.now()
	t, err := h.replicas[0].begin(h.ctx, clients[i])
	if err != nil {
		return err
	}
	p, err := h.db.codec.Parse(t.refresh)
	if err != nil {
		return err
	}
	owner := newParty("owner", h.script.Keyed[i])
	owner.token, owner.since = t.refresh, now
	h.sessions[i] = &life{
		id: p.ID, clientID: clients[i], rules: h.rules[i], begun: now, owner: owner, overFrom: -1,
		states: []State{h.rules[i].Begin(clients[i], t.roles, now)}, texts: map[int]string{1: t.refresh}, minted: []tokens{t},
		turns: turns{count: make(map[*party]int)},
	}
	return nil
}

// relogin has owners whose session is over for some time log in again.
func (h *history) relogin(n int) error {
	const mourning = 2 // rounds in which everybody may still try
	again := false
	for i, l := range h.sessions {
		if l.overFrom >= 0 && l.overFrom+mourning < n {
			h.retired = append(h.retired, l)
			if err := h.login(i); err != nil {
				return fmt.Errorf("log in again: %w", err)
			}
			again = true
		}
	}
	if !again {
		return nil
	}
	return h.look(n)
}

func newParty(name string, keyed bool) *party {
	return &party{name: name, keyed: keyed, keys: make(map[string]string), tried: make(map[string]time.Duration)}
}

// replace puts a new replica in the place of one that is gone.
func (h *history) replace(i int) (err error) {
	if h.replicas[i] != nil {
		h.replicas[i].stop()
	}
	h.replicas[i], h.links[i], err = h.open(h.user)
	return err
}

// effort is a move under way.
type effort struct {
	life    *life // nil: it is about the user, and so about both
	party   *party
	request request
	replica int
	lose    bool
	name    string
	do      func(r replica) (tokens, error)
	step    func(l *life, at time.Duration) func(s State) []Outcome

	began, returned int
	faulty          bool
	killed          bool
	further         bool // the party got a token that it did not have
	forks           bool // for a child, whose tokens the party does not keep
	got             tokens
	err             error
}

// round has the moves happen at once, and then asks whether all of it can be explained.
func (h *history) round(n int, r round) error {
	if r.Restart && h.reopen != nil {
		if err := h.reopen(); err != nil {
			return fmt.Errorf("open the database again: %w", err)
		}
		for i := range h.replicas {
			if err := h.replace(i); err != nil {
				return err
			}
		}
	}
	if err := h.relogin(n); err != nil {
		return err
	}
	if err := h.rewind(r); err != nil {
		return err
	}
	efforts := h.plan(r)
	crash := r.Restart && h.crash != nil
	shaken := crash || h.shaken
	h.shaken = crash
	h.crashed = h.crashed || crash
	if r.Fault != healthy {
		h.links[r.Replica%len(h.links)].arm(r.Fault, r.Call)
	}
	at := h.now()
	var wg sync.WaitGroup
	for _, e := range efforts {
		wg.Go(func() {
			l := h.links[e.replica]
			before := l.faults.Load()
			e.began = int(h.place.Add(1))
			e.got, e.err = e.do(h.replicas[e.replica])
			e.returned = int(h.place.Add(1))
			e.killed = !l.alive()
			e.faulty = e.killed || l.faults.Load() != before || shaken
		})
	}
	if crash {
		if err := h.crash(); err != nil {
			return fmt.Errorf("crash the database: %w", err)
		}
	}
	wg.Wait()
	for _, l := range h.links {
		l.arm(healthy, 0)
	}
	slices.SortFunc(efforts, func(a, b *effort) int { return a.returned - b.returned })
	for _, e := range efforts {
		err := h.hear(n, at, e)
		if err == nil && e.party != nil && !e.forks {
			near := e.life.rules.Grace
			for i := range h.links {
				near = max(near, e.life.rules.Grace+h.unanswered(i))
			}
			err = e.life.turns.note(e.party, at, near, e.further)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
	}
	for i, l := range h.sessions {
		if err := h.explain(l, at, efforts); err != nil {
			return fmt.Errorf("session %d: %w", i, err)
		}
	}
	for i, l := range h.links {
		if !l.alive() {
			if err := h.replace(i); err != nil {
				return err
			}
		}
	}
	if crash {
		if err := h.recovered(); err != nil {
			return err
		}
	}
	if err := h.look(n); err != nil {
		return err
	}
	if err := h.advance(h, h.pauses[r.Pause%len(h.pauses)]); err != nil {
		return err
	}
	h.tooSlow = !h.exact && time.Since(h.started) > tolerance
	return nil
}

// recovered waits until the database answers on every connection that is kept to it.
func (h *history) recovered() (err error) {
	h.db.raw.SetMaxIdleConns(0) // closes them
	h.db.raw.SetMaxIdleConns(rawConnections)
	const atOnce = 16 // more than a store keeps
	for range 100 {
		answers := make(chan error, atOnce)
		for range atOnce {
			go func() {
				_, err := h.db.Session(h.ctx, session.ID{}) // refreshes have connections of their own
				if errors.Is(err, session.ErrNotFound) {
					err = nil
				}
				answers <- errors.Join(err, h.db.Ping(h.ctx))
			}()
		}
		err = nil
		for range atOnce {
			err = errors.Join(err, <-answers)
		}
		if err == nil {
			return nil
		}
		if err := sleep(h.ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	return err
}

// plan turns moves into efforts. Each party acts once in a round.
func (h *history) plan(r round) (efforts []*effort) {
	acted := make(map[*party]bool)
	replicas := len(h.replicas)
	for _, m := range r.Moves {
		l := h.sessions[m.Session]
		switch m.Do {
		case refresh:
			if !acted[l.owner] {
				acted[l.owner] = true
				efforts = append(efforts, h.refreshes(l, l.owner, m)...)
			}
		case steal, stealMore:
			l.thief = newParty("thief", m.Keyed)
			l.thief.token = l.owner.token
			if key, ok := l.owner.keys[l.owner.token]; ok && m.Do == stealMore {
				l.thief.keys[l.thief.token] = key
			}
			l.turns = turns{count: make(map[*party]int)}
		case abuse:
			if l.thief != nil && !acted[l.thief] {
				acted[l.thief], l.shared = true, true
				efforts = append(efforts, h.refreshes(l, l.thief, m)...)
			}
		case dig:
			if generations := len(l.texts); generations > 0 {
				somebody := newParty("finder", m.Keyed)
				for g, text := range l.texts {
					if g%generations == m.Old%generations {
						somebody.token = text
					}
				}
				if somebody.token != "" {
					if key, ok := l.owner.keys[somebody.token]; ok && m.Keyed {
						somebody.keys[somebody.token] = key
					}
					l.shared = true
					m.Hold = false
					efforts = append(efforts, h.refreshes(l, somebody, m)...)
				}
			}
		case stray:
			efforts = append(efforts, h.sending(l, nil, request{token: l.owner.token}, clients[1-m.Session], m.Replica%replicas, true,
				"stray"))
		case fork:
			p := l.owner
			if l.thief != nil && m.Keyed {
				p, l.shared = l.thief, true
			}
			e := h.sending(l, p, request{p.token, p.keys[p.token]}, l.clientID, m.Replica%replicas, m.Lose, p.name+" forks")
			efforts = append(efforts, h.forking(e))
		case leave:
			if len(l.children) == 0 {
				continue
			}
			l.ended = true
			token := l.children[m.Old%len(l.children)].refresh
			efforts = append(efforts, &effort{
				life: l, replica: m.Replica % replicas, name: "a child logs out",
				do: func(r replica) (tokens, error) { return tokens{}, r.logout(h.ctx, token) },
				step: func(l *life, at time.Duration) func(s State) []Outcome {
					return func(s State) []Outcome {
						outcomes := []Outcome{{s.Ended("logout", at), Answer{OK: true}}}
						if !h.certain(l) { // the child may be over by itself
							outcomes = append(outcomes, Outcome{s, Answer{OK: true}})
						}
						return outcomes
					}
				},
			})
		case logout:
			l.ended = true
			token := l.owner.token
			efforts = append(efforts, &effort{
				life: l, replica: m.Replica % replicas, name: "log out",
				do:   func(r replica) (tokens, error) { return tokens{}, r.logout(h.ctx, token) },
				step: ending("logout"),
			})
		case logoutAll:
			for _, l := range h.sessions {
				l.ended = true
			}
			efforts = append(efforts, &effort{
				replica: m.Replica % replicas, name: "log out everywhere",
				do:   func(r replica) (tokens, error) { return tokens{}, r.logoutAll(h.ctx) },
				step: ending("logout_all"),
			})
		case roles:
			h.serial++
			name := fmt.Sprintf("r%d", h.serial)
			efforts = append(efforts, &effort{
				replica: m.Replica % replicas, name: "change roles to " + name,
				do: func(r replica) (tokens, error) { return tokens{}, r.setRoles(h.ctx, name) },
				step: func(_ *life, at time.Duration) func(s State) []Outcome {
					return func(s State) []Outcome { return []Outcome{{s.WithRoles(name, at), Answer{OK: true}}} }
				},
			})
		case rewind: // has happened
		}
	}
	return efforts
}

// forking turns a refresh into a fork.
func (h *history) forking(e *effort) *effort {
	q, clientID, generation := e.request, e.life.clientID, h.generation(e.request.token)
	e.forks = true
	e.do = func(r replica) (tokens, error) { return r.fork(h.ctx, clientID, q.token, q.key) }
	e.step = func(l *life, at time.Duration) func(s State) []Outcome {
		return func(s State) []Outcome {
			p := Presented{At: at, Generation: generation, Client: clientID, Key: q.key}
			state, answer := l.rules.Fork(s, p)
			outcomes := []Outcome{{state, answer}}
			if answer.OK { // the child's row is read once it is there, and what is next may have ended it, or its roles may have changed
				outcomes = append(outcomes, Outcome{state, Answer{}})
			}
			early := p
			early.HeldUp = 1
			if p.Unanswered = h.unanswered(e.replica); p.Unanswered > 0 {
				state, answer := l.rules.Fork(s, p)
				outcomes = append(outcomes, Outcome{state, answer})
			}
			if !h.exact && s.Made == at {
				state, answer := l.rules.Fork(s, early)
				outcomes = append(outcomes, Outcome{state, answer})
			}
			return outcomes
		}
	}
	return e
}

// certain reports whether every child that somebody knows of lives for as long as its parent: none has made way for
// another, and none has been left to its own idle end.
func (h *history) certain(l *life) bool {
	return h.exact && len(l.children) == 1 && l.states[0].IdleEnd == l.rules.Begin(l.clientID, "", l.begun).IdleEnd &&
		h.links[0].faults.Load() == 0
}

func ending(why string) func(l *life, at time.Duration) func(s State) []Outcome {
	return func(_ *life, at time.Duration) func(s State) []Outcome {
		return func(s State) []Outcome { return []Outcome{{s.Ended(why, at), Answer{OK: true}}} }
	}
}

// refreshes is a party that presents its newest token: at once from several tabs or twice because of the network. What
// the network held back comes first: while it may still arrive, an honest client that sends no key does not use the next token.
func (h *history) refreshes(l *life, p *party, m move) (efforts []*effort) {
	key, ok := p.keys[p.token]
	if !ok && p.keyed {
		h.serial++
		key = fmt.Sprintf("%s-%d", p.name, h.serial)
		p.keys[p.token] = key
	}
	requests := p.held
	if len(p.held) == 0 || p.held[0].token == p.token || p.keyed {
		for range m.Copies {
			requests = append(requests, request{p.token, key})
		}
	}
	p.held = nil
	if m.Hold && len(requests) > 1 {
		p.held, requests = requests[:1], requests[1:]
	}
	for i, q := range requests {
		e := h.sending(l, p, q, l.clientID, (m.Replica+i)%len(h.replicas), m.Lose, p.name)
		efforts = append(efforts, e)
	}
	return efforts
}

func (h *history) sending(l *life, p *party, q request, clientID string, replicaIndex int, lose bool, name string) *effort {
	generation := h.generation(q.token)
	return &effort{
		life: l, party: p, request: q, replica: replicaIndex, lose: lose,
		name: fmt.Sprintf("%s presents %d (key %q) on %d", name, generation, q.key, replicaIndex),
		do:   func(r replica) (tokens, error) { return r.refresh(h.ctx, clientID, q.token, q.key) },
		step: func(l *life, at time.Duration) func(s State) []Outcome {
			return func(s State) []Outcome {
				p := Presented{At: at, Generation: generation, Client: clientID, Key: q.key}
				state, answer := l.rules.Refresh(s, p)
				outcomes := []Outcome{{state, answer}}
				// A refresh waits for a second that a change of roles does not block, and the session may end meanwhile. Where rows
				// are aged, the change may have been a moment ago.
				if answer.OK && (answer.IAT > seconds(at) || !h.exact) {
					outcomes = append(outcomes, Outcome{state, Answer{}})
				}
				if !h.exact && s.Made == at { // what happens at once does not arrive at once: this may have been a moment before
					early := p
					early.HeldUp = 1
					state, answer := l.rules.Refresh(s, early)
					outcomes = append(outcomes, Outcome{state, answer})
				}
				if p.Unanswered = h.unanswered(replicaIndex); p.Unanswered > 0 { // the replica may know of so much, or of less
					state, answer := l.rules.Refresh(s, p)
					outcomes = append(outcomes, Outcome{state, answer})
				}
				return outcomes
			}
		},
	}
}

// unanswered is how much of a grace period a replica may leave out, because it has seen the database fail.
func (h *history) unanswered(replica int) time.Duration {
	if h.links[replica].faults.Load() == 0 && !h.crashed {
		return 0
	}
	return 5 * time.Minute
}

func (h *history) generation(token string) int {
	p, err := h.db.codec.Parse(token)
	if err != nil {
		panic(err) // only tokens that the service has given out are presented
	}
	return int(p.Generation)
}

// hear takes note of an answer, and holds it to what may be said of any answer without the model.
func (h *history) hear(n int, at time.Duration, e *effort) error {
	said := "unknown"
	defer func() {
		for _, l := range h.sessions {
			if e.life == l || e.life == nil {
				l.description = append(l.description, fmt.Sprintf("%2d at %v: %s: %s", n, at-l.begun, e.name, said))
			}
		}
	}()
	if e.killed {
		e.err = errUnavailable // a dead replica says nothing
	}
	if e.forks {
		return h.hearFork(e, at, &said)
	}
	if e.party != nil {
		if _, ok := e.party.tried[e.request.token]; !ok {
			e.party.tried[e.request.token] = at
		}
	}
	switch {
	case e.err == nil && e.request.token == "":
		said = "done"
		return nil
	case e.err == nil:
		said = fmt.Sprintf("%d, iat %d, roles %s", h.generation(e.got.refresh), e.got.iat, e.got.roles)
		return h.hearTokens(n, at, e)
	case errors.Is(e.err, errRefused):
		said = "refused"
		if e.party != nil && e.party == e.life.owner {
			excused := h.excused(e, at)
			if !excused && e.request.token == e.party.token { // of a late copy nobody hears, and it must have ended nothing
				return violation("an honest client was logged out")
			}
			e.life.ended = e.life.ended || excused
		}
		return nil
	case errors.Is(e.err, errUnavailable):
		said = "unavailable"
		if !e.faulty {
			return violation("unavailable without a fault: %w", e.err)
		}
		if e.party != nil && e.party == e.life.owner && h.excused(e, at) {
			e.life.ended = true // perhaps: a refusal would have been in order, and may be what did not come through
		}
		return nil
	}
	said = e.err.Error()
	return violation("an answer that must not be: %w", e.err)
}

// hearFork takes note of the answer to a fork.
func (h *history) hearFork(e *effort, at time.Duration, said *string) error {
	l := e.life
	switch {
	case errors.Is(e.err, errUnavailable):
		*said = "unavailable"
		if !e.faulty {
			return violation("unavailable without a fault: %w", e.err)
		}
	case errors.Is(e.err, errRefused):
		*said = "refused"
		excused := h.excused(e, at)
		if e.party == l.owner && !excused {
			return violation("an honest client was not let fork")
		}
	case e.err != nil:
		return violation("an answer that must not be: %w", e.err)
	default:
		p, err := h.db.codec.Parse(e.got.refresh)
		if err != nil || p.ID == l.id || p.Generation != 1 {
			return violation("no child: %+v, %v", p, err)
		}
		*said = "child " + p.ID.String()
		l.children = append(l.children, e.got)
		return nil
	}
	l.ended = l.ended || h.excused(e, at) // perhaps
	return nil
}

func (h *history) hearTokens(n int, at time.Duration, e *effort) error {
	l := e.life
	p, err := h.db.codec.Parse(e.got.refresh)
	if err != nil {
		return violation("the answer holds no refresh token: %w", err)
	}
	if p.ID != l.id {
		return violation("the answer holds the token of another session")
	}
	generation := int(p.Generation)
	if text, ok := l.texts[generation]; ok && text != e.got.refresh {
		return violation("two different tokens of generation %d", generation)
	}
	l.texts[generation] = e.got.refresh
	if l.overFrom >= 0 && l.overFrom < n {
		return violation("a token for a session that is over since round %d", l.overFrom)
	}
	l.minted = append(l.minted, e.got)
	if e.party == nil {
		return violation("a token for a stranger")
	}
	if e.further = !e.lose && generation > h.generation(e.party.token); e.further {
		e.party.since = e.party.tried[e.request.token]
		e.party.token = e.got.refresh
	}
	return nil
}

// note holds two parties to being found: of two that are further apart than the grace period, not both get through
// twice. What brought a party nothing new does not count, but shows when it was there.
func (t *turns) note(p *party, at, grace time.Duration, further bool) error {
	near := t.last != nil && t.last != p && at <= t.at+grace
	t.last, t.at = p, at
	if near {
		clear(t.count)
		return nil
	}
	if further {
		t.count[p]++
	}
	found := 0
	for _, n := range t.count {
		if n >= 2 {
			found++
		}
	}
	if found > 1 {
		return violation("two parties share a session and nobody has noticed")
	}
	return nil
}

// excused reports whether the owner may be told that the session is over.
func (h *history) excused(e *effort, at time.Duration) bool {
	l, p := e.life, e.party
	first := p.tried[e.request.token]
	return l.shared || l.ended || at >= l.begun+l.rules.Lifetime-h.slack() || at >= p.since+l.rules.Idle-h.slack() ||
		(!p.keyed && at > first+l.rules.Grace-h.slack())
}

func (h *history) slack() time.Duration {
	if h.exact {
		return 0
	}
	return tolerance
}

// explain asks the model.
func (h *history) explain(l *life, at time.Duration, efforts []*effort) error {
	var calls []Call
	for _, e := range efforts {
		if e.life != l && e.life != nil {
			continue
		}
		c := Call{Name: e.name, Began: e.began, Returned: e.returned, Step: e.step(l, at), Unknown: errors.Is(e.err, errUnavailable)}
		if e.err == nil {
			c.Answer = Answer{OK: true}
			if e.got.refresh != "" {
				c.Answer = Answer{OK: true, Generation: h.generation(e.got.refresh), IAT: e.got.iat, Roles: e.got.roles}
			}
		}
		calls = append(calls, c)
	}
	after := Explain(l.states, calls, func(got, want Answer) bool {
		if !h.exact {
			want.IAT = got.IAT
		}
		return got == want
	})
	if len(after) == 0 {
		return violation("no order of the calls explains the answers, from %+v", l.states)
	}
	l.states = after
	return nil
}

// look compares the rows with what they may be.
func (h *history) look(n int) error {
	changes, err := h.db.BlocklistChanges(h.ctx, h.cursor)
	if err != nil {
		return err
	}
	h.cursor = changes.Cursor
	for _, e := range changes.Entries {
		h.entries[e.Key] = max(h.entries[e.Key], e.NotBefore.Unix())
	}
	for i, l := range h.sessions {
		row, err := h.db.Session(h.ctx, l.id)
		if err != nil {
			return err
		}
		states := slices.DeleteFunc(slices.Clone(l.states), func(s State) bool { return h.differs(l, row, s) != "" })
		if len(states) == 0 {
			return violation("session %d: the row is not as any order of the calls leaves it: %s", i, h.differs(l, row, l.states[0]))
		}
		l.states = states[:1]
		if err := h.lookAtChildren(l, row); err != nil {
			return fmt.Errorf("session %d: %w", i, err)
		}
		l.past = append(l.past, states[0])
		if l.overFrom < 0 && l.states[0].over(h.now()+h.slack()) {
			l.overFrom = n
		}
	}
	return nil
}

// lookAtChildren holds the children of a session to its ends.
func (h *history) lookAtChildren(l *life, parent session.Session) error {
	for _, given := range l.children {
		p, err := h.db.codec.Parse(given.refresh)
		if err != nil {
			return err
		}
		child, err := h.db.Session(h.ctx, p.ID)
		if err != nil {
			return err
		}
		over := !parent.RevokedAt.IsZero()
		_, blocked := h.entries[verifier.KeyOf(verifier.BlockSID, p.ID.String())]
		switch {
		case child.Parent != l.id:
			return violation("a child of %v", child.Parent)
		case over && child.RevokedAt.IsZero() && child.Alive(parent.RevokedAt):
			return violation("a child outlives its parent")
		case !over && !child.RevokedAt.IsZero() && child.RevokeReason != session.ReasonLimit && parent.Alive(child.RevokedAt):
			return violation("a child has ended alone: %s", child.RevokeReason)
		case !child.RevokedAt.IsZero() && !blocked:
			return violation("the access tokens of a child that has ended are not blocked")
		case h.exact && !l.rewound && (!child.ExpiresAt.Equal(parent.ExpiresAt) || child.IdleExpiresAt.After(parent.IdleExpiresAt)):
			return violation("a child until %v, %v; its parent until %v, %v", child.ExpiresAt, child.IdleExpiresAt, parent.ExpiresAt,
				parent.IdleExpiresAt)
		}
	}
	return nil
}

// differs says in what a row differs from a state, empty if in nothing.
func (h *history) differs(l *life, row session.Session, s State) string {
	var all []string
	compare := func(what string, got, want any, same bool) {
		if !same {
			all = append(all, fmt.Sprintf("%s is %v, want %v", what, got, want))
		}
	}
	instant := func(what string, got time.Time, want time.Duration) {
		// Without exact times the rows are aged, and so are to be measured from now.
		d := time.Duration(got.UnixMicro())*time.Microsecond - want
		if !h.exact {
			d = time.Until(got) - (want - h.now())
		}
		compare(what, got, want, d.Abs() <= h.slack())
	}
	compare("generation", row.Generation, s.Generation, int(row.Generation) == s.Generation)
	compare("request hash", row.LastRequestHash, s.Key, row.LastRequestHash == session.HashRequest(s.Key))
	requests := make([]byte, 0, session.EarlierRequestsSize)
	for _, key := range s.Earlier {
		hash := session.HashRequest(key)
		requests = append(requests, hash[:]...)
	}
	remembered := append(slices.Clip(row.EarlierRequests),
		make([]byte, len(requests)-len(row.EarlierRequests))...)
	compare("earlier requests", row.EarlierRequests, s.Earlier, bytes.Equal(remembered, requests))
	instant("rotated_at", row.RotatedAt, s.Made)
	instant("idle_expires_at", row.IdleExpiresAt, s.IdleEnd)
	instant("expires_at", row.ExpiresAt, s.End)
	compare("reason", row.RevokeReason, s.Over, string(row.RevokeReason) == s.Over)
	compare("revoked_at", row.RevokedAt, s.Over, row.RevokedAt.IsZero() == (s.Over == ""))
	compare("roles", row.Roles, s.Roles, len(row.Roles) == 1 && row.Roles[0] == s.Roles)

	entry := h.entries[verifier.KeyOf(verifier.BlockSID, l.id.String())]
	if s.Blocked == everything {
		last := row.RevokedAt.Add(accessTokenLifetime).Unix()
		compare("entry", entry, "everything", entry >= last && row.IATFloor <= entry)
	} else if h.exact {
		compare("iat floor", row.IATFloor, s.Floor, row.IATFloor == s.Floor)
		compare("entry", entry, s.Blocked, entry == s.Blocked)
	}
	return strings.Join(all, "; ")
}

// rewind puts a session's row back to what it was at an earlier look, as a database does that was restored or that lost
// its newest commits.
func (h *history) rewind(r round) error {
	for _, m := range r.Moves {
		l := h.sessions[m.Session]
		if m.Do != rewind || l.overFrom >= 0 {
			continue
		}
		now := l.states[0]
		was := l.past[len(l.past)-1-m.Old%min(len(l.past), 4)]
		// Roles, floor and entry stay: they are of another row.
		now.Generation, now.Made, now.Key, now.Earlier, now.IdleEnd = was.Generation, was.Made, was.Key, was.Earlier, was.IdleEnd
		if err := h.db.rewind(h, l, now); err != nil {
			return err
		}
		l.states, l.rewound = []State{now}, true
		l.owner.since = min(l.owner.since, now.Made)
		l.owner.held = nil // of what was lost nobody can know a late copy
		l.turns = turns{count: make(map[*party]int)}
		l.description = append(l.description, fmt.Sprintf("   at %v: rewound to %d", h.now()-l.begun, now.Generation))
	}
	return nil
}

// finish asks what must be true of all access tokens and events in the end.
func (h *history) finish() error {
	events, err := h.db.Events(h.ctx, h.user.ID, audit.Cursor{}, 1000)
	if err != nil {
		return err
	}
	for i, l := range slices.Concat(h.retired, h.sessions[:]) {
		s := l.states[0]
		entry := h.entries[verifier.KeyOf(verifier.BlockSID, l.id.String())]
		for _, t := range l.minted {
			blocked := t.iat <= entry
			if want := s.Over != "" || t.roles != s.Roles; blocked != want && (s.Over != "" || !s.over(h.now())) {
				return violation("session %d: an access token with iat %d and roles %s is blocked: %v (entry %d, roles %s, over %q)",
					i, t.iat, t.roles, blocked, entry, s.Roles, s.Over)
			}
		}
		reuses := 0
		for _, e := range events {
			if e.Kind == audit.KindRefreshTokenReuse && e.SessionID == l.id.String() {
				reuses++
			}
		}
		if want := map[bool]int{true: 1}[s.Over == "reuse"]; reuses != want {
			return violation("session %d: %d events of reuse, want %d", i, reuses, want)
		}
	}
	return nil
}
