package sessiontest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/user"
)

var (
	errBroken = errors.New("the link to the database broke")
	errKilled = errors.New("the replica is dead")
)

// fault is what happens to one call of the store.
type fault int

const (
	healthy    fault = iota
	failBefore       // the call is not made
	failAfter        // the call is made and its outcome lost
	killBefore       // the replica dies first
	killAfter        // the replica dies between the commit and the answer
	slowBefore       // the call waits before it is made
	slowAfter        // the outcome takes its time
	tooSlow          // the outcome comes when nobody waits any more
	manyFaults = int(iota)
)

func (f fault) String() string {
	return [...]string{"healthy", "fail before", "fail after", "kill before", "kill after", "slow before", "slow after",
		"too slow"}[f]
}

// link is what connects one replica to the database. It sees what belongs to sessions.
type link struct {
	store.Store
	kill func() // ends the process, where the replica is one

	mu     sync.Mutex
	gate   *gate
	next   fault
	after  int // calls until next
	dead   bool
	faults atomic.Int64
}

func newLink(s store.Store) *link { return &link{Store: s} }

// arm has a fault happen to the n-th call from now on, counted from zero.
func (l *link) arm(f fault, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next, l.after = f, n
}

// take is the fault of this call.
func (l *link) take() (fault, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		return healthy, errKilled
	}
	if l.next == healthy {
		return healthy, nil
	}
	if l.after > 0 {
		l.after--
		return healthy, nil
	}
	f := l.next
	l.next = healthy
	return f, nil
}

func (l *link) die() error {
	if l.kill != nil {
		l.kill()
	}
	l.faults.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = true
	return errKilled
}

// gate holds the first call of a method until it is let go.
type gate struct {
	method  string
	after   bool          // hold it when it has been made, before its outcome is known
	reached chan struct{} // closed when the call is held
	release chan struct{} // to be closed
}

// hold has the next call of a method wait, before or after it is made.
func (l *link) hold(method string, after bool) *gate {
	g := &gate{method: method, after: after, reached: make(chan struct{}), release: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gate = g
	return g
}

// gated returns the gate that a call of a method comes to, nil if there is none.
func (l *link) gated(method string) *gate {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.gate
	if g == nil || g.method != method {
		return nil
	}
	l.gate = nil
	return g
}

// pass waits at the gate.
func (g *gate) pass(after bool) {
	if g != nil && g.after == after {
		close(g.reached)
		<-g.release
	}
}

// alive reports whether the replica is.
func (l *link) alive() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.dead
}

// through carries a call over the link.
func through[T any](ctx context.Context, l *link, method string, call func() (T, error)) (result T, err error) {
	var zero T
	f, err := l.take()
	if err != nil {
		return zero, err
	}
	g := l.gated(method)
	g.pass(false)
	switch f {
	case failBefore:
		l.faults.Add(1)
		return zero, errBroken
	case killBefore:
		return zero, l.die()
	case slowBefore:
		if err := sleep(ctx, time.Second); err != nil {
			l.faults.Add(1)
			return zero, err
		}
	default:
	}
	result, err = call()
	g.pass(true)
	switch f {
	case failAfter:
		l.faults.Add(1)
		return zero, errBroken
	case killAfter:
		return zero, l.die()
	case slowAfter, tooSlow:
		d := time.Second
		if f == tooSlow {
			d = time.Minute
		}
		if err := sleep(ctx, d); err != nil {
			l.faults.Add(1)
			return zero, err
		}
	default:
	}
	return result, err
}

// Start implements session.Store.
func (l *link) Start(ctx context.Context, s session.Start) (session.Started, error) {
	return through(ctx, l, "Start", func() (session.Started, error) { return l.Store.Start(ctx, s) })
}

// Rotate implements session.Store.
func (l *link) Rotate(ctx context.Context, r []session.Rotation) ([]*session.Session, error) {
	return through(ctx, l, "Rotate", func() ([]*session.Session, error) { return l.Store.Rotate(ctx, r) })
}

// Repeat implements session.Store.
func (l *link) Repeat(ctx context.Context, r session.Rotation) (*session.Session, error) {
	return through(ctx, l, "Repeat", func() (*session.Session, error) { return l.Store.Repeat(ctx, r) })
}

// Session implements session.Store.
func (l *link) Session(ctx context.Context, id session.ID) (session.Session, error) {
	return through(ctx, l, "Session", func() (session.Session, error) { return l.Store.Session(ctx, id) })
}

// EndSession implements session.Store.
func (l *link) EndSession(ctx context.Context, id session.ID, e session.Ending) (bool, error) {
	return through(ctx, l, "EndSession", func() (bool, error) { return l.Store.EndSession(ctx, id, e) })
}

// EndDevice implements session.Store.
func (l *link) EndDevice(ctx context.Context, userID string, id session.ID, e session.Ending) ([]session.ID, error) {
	return through(ctx, l, "EndDevice", func() ([]session.ID, error) { return l.Store.EndDevice(ctx, userID, id, e) })
}

// EndSessions implements session.Store.
func (l *link) EndSessions(ctx context.Context, userID string, except session.ID, e session.Ending) ([]session.ID, error) {
	return through(ctx, l, "EndSessions", func() ([]session.ID, error) { return l.Store.EndSessions(ctx, userID, except, e) })
}

// SetPassword implements session.Store.
func (l *link) SetPassword(ctx context.Context, userID, old, replacement string, e session.Ending) ([]session.ID, error) {
	return through(ctx, l, "SetPassword", func() ([]session.ID,
		error) {
		return l.Store.SetPassword(ctx, userID, old, replacement, e)
	})
}

// DisableUser implements session.Store.
func (l *link) DisableUser(ctx context.Context, userID string, e session.Ending) ([]session.ID, error) {
	return through(ctx, l, "DisableUser", func() ([]session.ID, error) { return l.Store.DisableUser(ctx, userID, e) })
}

// DeleteUser implements session.Store.
func (l *link) DeleteUser(ctx context.Context, userID string, e session.Ending) ([]session.ID, error) {
	return through(ctx, l, "DeleteUser", func() ([]session.ID, error) { return l.Store.DeleteUser(ctx, userID, e) })
}

// SetRoles implements session.Store.
func (l *link) SetRoles(ctx context.Context, userID string, roles []string, e session.Ending) error {
	_, err := through(ctx, l, "SetRoles", func() (struct{}, error) { return struct{}{}, l.Store.SetRoles(ctx, userID, roles, e) })
	return err
}

// DisableClient implements oauth.ClientStore.
func (l *link) DisableClient(ctx context.Context, id string, at time.Time, entry blocklist.Entry, e audit.Event) error {
	_, err := through(ctx, l, "DisableClient",
		func() (struct{}, error) { return struct{}{}, l.Store.DisableClient(ctx, id, at, entry, e) })
	return err
}

// BeginLogin implements user.Store.
func (l *link) BeginLogin(ctx context.Context, t user.Try, limit user.Throttle) (user.Attempt, error) {
	return through(ctx, l, "BeginLogin", func() (user.Attempt, error) { return l.Store.BeginLogin(ctx, t, limit) })
}

// sleep waits until a time has passed or nobody waits any more.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
