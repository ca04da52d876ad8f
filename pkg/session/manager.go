package session

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/clock"
	"github.com/handstamp/handstamp/pkg/mail"
	"github.com/handstamp/handstamp/pkg/user"
)

// Config says how long sessions and their access tokens live, and what is added for clocks that differ. One value
// serves all parts of the service. The zero value is not usable.
type Config struct {
	IdleLifetime time.Duration // a session that is not refreshed for so long is over
	Lifetime     time.Duration // after this it is over however often it was refreshed
	Grace        time.Duration // how long after a rotation the token before it is answered again
	Limit        int           // live sessions of one user

	AccessTokenLifetime time.Duration // the longest life of an access token
	ClockMargin         time.Duration // how far the clocks of verifiers and replicas may differ

	Clock *clock.Clock // nil for the machine's

	Mail *mail.Notices // that users get; nil for none

	// Refreshed, if not nil, hears of each refresh that the database has decided.
	Refreshed func(Outcome)
}

// Outcome is how a refresh went. The texts are stable.
type Outcome string

// The outcomes.
const (
	OutcomeRotated  Outcome = "rotated"
	OutcomeRepeated Outcome = "repeated"  // the same answer again: the first was lost, or two tabs refreshed at once
	OutcomeLateCopy Outcome = "late_copy" // refused, and nothing changed
	OutcomeReuse    Outcome = "reuse"     // two parties had the token, and the session has ended
	OutcomeEnded    Outcome = "ended"     // refused: the session was over, or is another client's
)

// Outcomes are all of them.
func Outcomes() []Outcome {
	return []Outcome{OutcomeRotated, OutcomeRepeated, OutcomeLateCopy, OutcomeReuse, OutcomeEnded}
}

// outcomeOf is that of a refresh which ended with an error or none. It is empty if nothing was decided.
func outcomeOf(repeated bool, err error) Outcome {
	switch {
	case err == nil && repeated:
		return OutcomeRepeated
	case err == nil:
		return OutcomeRotated
	case errors.Is(err, ErrLate):
		return OutcomeLateCopy
	case errors.Is(err, ErrReuse):
		return OutcomeReuse
	case errors.Is(err, ErrEnded), errors.Is(err, ErrWrongClient):
		return OutcomeEnded
	}
	return ""
}

// Outlived is how long after its mint an access token has expired on every clock. What blocks it must live as long.
func (c Config) Outlived() time.Duration { return c.AccessTokenLifetime + c.ClockMargin }

// Manager begins and refreshes sessions, and ends them as its Ender does.
type Manager struct {
	*Ender

	store Store
	codec *Codec
	batch batcher
	watch *watch
}

// NewManager returns a manager over a store, with refresh tokens keyed from the master key.
func NewManager(store Store, master Deriver, config Config) *Manager {
	m := &Manager{
		Ender: NewEnder(store, config),
		store: store,
		codec: NewCodec(master),
		watch: newWatch(config.Clock.Started()),
	}
	m.batch.rotate = func(ctx context.Context, rotations []Rotation) ([]*Session, error) {
		rows, err := store.Rotate(ctx, rotations)
		m.heard(ctx, err)
		return rows, err
	}
	return m
}

// Now is the time by which sessions are judged.
func (m *Manager) Now() time.Time { return m.config.Clock.Now() }

// Watch notes until ctx ends when this process stands still, as one does that is stopped or moved to another machine: a
// request that it reads afterwards may have come before. Without it no stall is noticed.
func (m *Manager) Watch(ctx context.Context) { m.watch.keep(ctx, m.config.Clock.Now) }

// heard notes whether storage answered. A caller who leaves says nothing about that: otherwise anybody could make a grace
// period longer by hanging up.
func (m *Manager) heard(ctx context.Context, err error) {
	switch {
	case err == nil, errors.Is(err, ErrNotFound):
		m.watch.answered(m.config.Clock.Now())
	case !errors.Is(ctx.Err(), context.Canceled):
		m.watch.failed()
	}
}

// Issued is a session together with the refresh token of its newest generation. The access token to mint for it
// carries IATFloor as its iat.
type Issued struct {
	Session
	RefreshToken string
	Repeated     bool // the refresh token was given out before
}

func (m *Manager) issued(s Session) Issued {
	return Issued{Session: s, RefreshToken: m.codec.Format(Presented{ID: s.ID, Generation: s.Generation, Nonce: s.Nonce})}
}

// Login says what a session is started with.
type Login struct {
	User          user.User // as read when the credential was checked
	CheckPassword bool      // the credential was User.PasswordHash: start only if it still is
	Refund        user.Refund
	Provider      string // the credential was the identity that Provider and Subject name: start only if it is still linked
	Subject       string
	ClientID      string
	Scope         string
	Audience      []string
	AMR           []string
	ACR           string
	AuthTime      time.Time // zero: now
	Origin        audit.Origin
	NewDevice     bool           // the user is told of the login by mail
	Factor        user.FactorUse // was shown besides: start only if it can be used up
}

// Start begins a session and returns its first refresh token. ErrUserDisabled, ErrUserChanged, ErrClientDisabled,
// user.ErrFactorNeeded, user.ErrFactorUsed; any other error is a storage failure.
func (m *Manager) Start(ctx context.Context, l Login) (Issued, error) {
	return m.StartWith(ctx, l, m.store.Start)
}

// StartWith is Start by another store method, which does what Start does and something that belongs to it in the same
// transaction. The sentinels of that method come back as they are.
func (m *Manager) StartWith(ctx context.Context, l Login, method func(context.Context, Start) (Started, error)) (Issued, error) {
	now := m.config.Clock.Now()
	s := Session{
		ID: NewID(now), UserID: l.User.ID, ClientID: l.ClientID, Generation: 1,
		RotatedAt: now, IdleExpiresAt: now.Add(min(m.config.IdleLifetime, m.config.Lifetime)), ExpiresAt: now.Add(m.config.Lifetime),
		Scope: l.Scope, Audience: l.Audience, AMR: l.AMR, ACR: l.ACR, AuthTime: l.AuthTime,
		IATFloor: now.Unix(), UserAgent: l.Origin.UserAgent, IP: l.Origin.IP, CreatedAt: now,
	}
	if s.AuthTime.IsZero() {
		s.AuthTime = now
	}
	rand.Read(s.Nonce[:])
	start := Start{
		Session: s, Provider: l.Provider, Subject: l.Subject, Limit: m.config.Limit, BlockUntil: m.blockUntil(now),
		ShowsFactors: s.showsFactors(), Factor: l.Factor,
		Event: audit.LoggedIn(now, s.UserID, s.ID.String(), s.ClientID, l.Origin),
	}
	if l.NewDevice {
		start.Mail = m.config.Mail.NewDevice(now, l.Origin)
	}
	if l.CheckPassword {
		start.PasswordHash, start.Refund = l.User.PasswordHash, l.Refund
	}
	facts, err := method(ctx, start)
	if err != nil {
		return Issued{}, fmt.Errorf("start session: %w", err)
	}
	err = mayIssue(userState{Known: facts.UserFound, Disabled: facts.UserDisabled, HasFactors: facts.HasFactors}, s,
		ClientState{Known: facts.ClientFound, Disabled: facts.ClientDisabled}, s.Scope, now)
	if err != nil {
		return Issued{}, err
	}
	if !facts.Created && !l.Factor.IsZero() && !facts.FactorUsed {
		return Issued{}, user.ErrFactorUsed
	}
	if !facts.Created { // all of the above holds, so it was the password or the identity
		return Issued{}, ErrUserChanged
	}
	s.Roles, s.StatusNumber = facts.Roles, facts.StatusNumber
	return m.issued(s), nil
}

// Refresh is a refresh token as presented by an authenticated client.
type Refresh struct {
	Raw            string
	ClientID       string
	IdempotencyKey string
	Scope          string // asked for; empty for all that was granted
	Origin         audit.Origin
	// Arrived tells how long ago the request came in, as far as the transport knows. It may be nil.
	Arrived func() time.Duration
}

// heldUpAfter is how long a request is on its way from the socket that nothing holds up.
const heldUpAfter = 100 * time.Millisecond

// heldUp is how long before at the request may have come in, if it was held up.
func (m *Manager) heldUp(r Refresh, at time.Time) time.Duration {
	d := m.watch.heldUp(at)
	if r.Arrived != nil {
		d = max(d, r.Arrived()-m.config.Clock.Now().Sub(at))
	}
	if d < heldUpAfter {
		return 0
	}
	return d
}

// Refresh gives what the rule in [Decide] says. On the honest path it costs one statement, for a token that this
// service never made none.
// ErrMalformed, ErrWrongClient, ErrEnded, ErrClientDisabled, ErrScope, ErrLate change nothing; ErrReuse has ended the session;
// any other error is a storage failure or ErrBusy, after which the same token may be presented again.
func (m *Manager) Refresh(ctx context.Context, r Refresh) (Issued, error) {
	p, err := m.codec.Parse(r.Raw)
	if err != nil {
		return Issued{}, err
	}
	issued, err := m.refresh(ctx, p, r)
	if o := outcomeOf(issued.Repeated, err); o != "" && m.config.Refreshed != nil {
		m.config.Refreshed(o)
	}
	return issued, err
}

func (m *Manager) refresh(ctx context.Context, p Presented, r Refresh) (Issued, error) {
	now := m.config.Clock.Now()
	step := Rotation{
		ID: p.ID, Nonce: p.Nonce, ClientID: r.ClientID, From: p.Generation, To: p.Generation + 1,
		RequestHash: HashRequest(r.IdempotencyKey), At: now, IdleExpiresAt: now.Add(m.config.IdleLifetime),
	}
	if ctx.Err() != nil {
		return Issued{}, fmt.Errorf("refresh: %w", context.Cause(ctx)) // nobody asks any more
	}
	if step.To == 0 || r.Scope != "" { // a narrowed scope is checked before anything moves
		return m.refreshSlowly(ctx, p, r, step)
	}
	row, err := m.batch.do(ctx, step)
	if err != nil {
		return Issued{}, fmt.Errorf("rotate: %w", err)
	}
	if row == nil {
		return m.refreshSlowly(ctx, p, r, step)
	}
	return m.answer(ctx, *row, p, r, step)
}

// refreshAttempts bounds how often a refresh looks again when the row changed between reading and writing.
const refreshAttempts = 8

// refreshSlowly reads the row, decides, and carries the decision out against the row as read. If the row has
// moved meanwhile it looks again. What it reads it judges, also if the caller leaves meanwhile: a thief who hangs up in time
// must not go unseen. Only an honest step needs somebody who waits for it.
func (m *Manager) refreshSlowly(ctx context.Context, p Presented, r Refresh, step Rotation) (Issued, error) {
	staying, cancel := context.WithTimeout(context.WithoutCancel(ctx), batchTimeout)
	defer cancel()
	heldUp := m.heldUp(r, step.At)
	for range refreshAttempts {
		s, verdict, err := m.judge(staying, p, r, step.At, heldUp)
		if verdict == Revoke {
			return Issued{}, m.revokeForReuse(ctx, s, r.Origin, step.At)
		}
		if err != nil {
			return Issued{}, err
		}
		var row *Session
		step.From = s.Generation
		if verdict == Repeat {
			row, err = m.store.Repeat(ctx, step)
		} else if step.To == 0 {
			return Issued{}, ErrEnded // 2^32 rotations
		} else {
			row, err = m.batch.do(ctx, step)
		}
		if err != nil {
			return Issued{}, fmt.Errorf("%s: %w", verdict, err)
		}
		if row != nil {
			issued, err := m.answer(ctx, *row, p, r, step)
			issued.Repeated = verdict == Repeat
			return issued, err
		}
	}
	return Issued{}, fmt.Errorf("session changed %d times while it was refreshed", refreshAttempts)
}

// maxAhead is how far a change of roles puts the iat of the next token ahead of the clock. Rows that are further ahead are of
// an earlier version, and are not waited for.
const maxAhead = 2 * time.Second

// answer passes the one decision with the facts that the writing statement read. No token is dated ahead of the clock, for
// verifiers would refuse it: after a change of roles, which the next token must be younger than, that moment is waited for,
// and the row is read again, since it may have changed meanwhile.
func (m *Manager) answer(ctx context.Context, s Session, p Presented, r Refresh, step Rotation) (Issued, error) {
	if err := mayRefresh(s, r.Scope, step.At); err != nil {
		return Issued{}, err
	}
	ahead := time.Unix(s.IATFloor, 0).Sub(m.config.Clock.Now())
	if ahead <= 0 || ahead > maxAhead {
		return m.issued(s), nil
	}
	select {
	case <-ctx.Done():
		return Issued{}, ctx.Err()
	case <-time.After(ahead):
	}
	again := step // as of the same time: a session that was alive then is not refused for the wait
	again.From = s.Generation
	row, err := m.store.Repeat(ctx, again)
	m.heard(ctx, err)
	switch {
	case err != nil:
		return Issued{}, fmt.Errorf("read the row again: %w", err)
	case row == nil: // the session has ended or moved on
		return m.refreshSlowly(ctx, p, r, step)
	}
	return m.answer(ctx, *row, p, r, step)
}

func (m *Manager) grace(s Session) time.Duration {
	if s.ClientGrace != nil {
		return *s.ClientGrace
	}
	return m.config.Grace
}

// Find returns the session that a refresh token belongs to, for logout, revocation and introspection; current says whether
// it could still be used to refresh: it is the newest generation of a live session.
// ErrMalformed and ErrEnded say that the token is not alive; any other error is a storage failure.
func (m *Manager) Find(ctx context.Context, raw string) (s Session, current bool, err error) {
	p, err := m.codec.Parse(raw)
	if err != nil {
		return Session{}, false, err
	}
	s, err = m.store.Session(ctx, p.ID)
	if errors.Is(err, ErrNotFound) || (err == nil && s.Nonce != p.Nonce) {
		return Session{}, false, ErrEnded
	}
	if err != nil {
		return Session{}, false, fmt.Errorf("read session: %w", err)
	}
	alive := s.Alive(m.config.Clock.Now()) && !s.ClientDisabled
	return s, alive && p.Generation == s.Generation, nil
}

// Look says what a refresh with the same token would get at this moment, and changes nothing: the session goes on if
// the verdict is Advance or Repeat. A token for which a refresh would end the session ends nothing here. ErrMalformed,
// ErrWrongClient, ErrEnded, ErrClientDisabled, ErrLate and ErrReuse say why it would not go on; any other error is a
// storage failure.
func (m *Manager) Look(ctx context.Context, r Refresh) (Session, error) {
	p, err := m.codec.Parse(r.Raw)
	if err != nil {
		return Session{}, err
	}
	at := m.config.Clock.Now()
	s, _, err := m.judge(ctx, p, r, at, m.heldUp(r, at))
	return s, err
}

// judge reads the session of a token, and decides what the token gets.
func (m *Manager) judge(ctx context.Context, p Presented, r Refresh, at time.Time, heldUp time.Duration) (Session, Verdict,
	error) {
	s, err := m.store.Session(ctx, p.ID)
	m.heard(ctx, err)
	if errors.Is(err, ErrNotFound) {
		return Session{}, Refuse, ErrEnded
	}
	if err != nil {
		return Session{}, Refuse, fmt.Errorf("read session: %w", err)
	}
	verdict, err := Decide(s, Presentation{
		Presented:   p,
		ClientID:    r.ClientID,
		RequestHash: HashRequest(r.IdempotencyKey),
		At:          at,
		HeldUp:      heldUp,
		Unanswered:  m.watch.unanswered(s.RotatedAt, at),
	}, m.grace(s))
	if err == nil {
		err = mayRefresh(s, r.Scope, at)
	}
	return s, verdict, err
}

// IDOf returns the session that a refresh token belongs to, without a look at the database. ErrMalformed.
func (m *Manager) IDOf(raw string) (ID, error) {
	p, err := m.codec.Parse(raw)
	return p.ID, err
}

// Session reads one session. ErrNotFound.
func (m *Manager) Session(ctx context.Context, id ID) (Session, error) {
	return m.store.Session(ctx, id)
}

// List returns the user's live sessions, newest first.
func (m *Manager) List(ctx context.Context, userID string) ([]Session, error) {
	return m.store.Sessions(ctx, userID, m.config.Clock.Now())
}
