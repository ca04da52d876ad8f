package user

import (
	"context"
	"errors"
	"time"

	"github.com/handstamp/handstamp/pkg/password"
)

// Counter counts something for each client address, of which an address may use up a few at once and then one now and then.
type Counter interface {
	// Wait is how long an address has to wait until one is left; zero if one is.
	Wait(ip string) time.Duration
	// Take uses one up. If none is left, it uses up nothing and returns how long to wait.
	Take(ip string) time.Duration
	// Return gives one back that was taken.
	Return(ip string)
}

// Gate stands before the password hasher: it refuses what cannot be served before anything is done for it, and lets no address
// have more than its part. Each replica has its own. The zero value lets everything pass that the hasher has room for.
type Gate struct {
	// Failures are wrong passwords. Only they are used up, so that many users behind one address are not held up.
	Failures Counter
	// Signups are users who were made, or for whom a hash was.
	Signups Counter
	// Refusals are answers that the hasher is busy. An address that comes back for them without a pause is refused for a while
	// even if there is room, and others get it.
	Refusals Counter
	// InFlight bounds what an address has under way.
	InFlight interface {
		Enter(ip string) bool
		Leave(ip string)
	}
	// Pacer holds a refusal back, so that a caller who does not wait for Retry-After cannot ask without a pause.
	Pacer interface{ Hold(ctx context.Context) }
	// Failed hears of each wrong password.
	Failed func()
}

// with runs do at a place of the hasher, and holds back what is refused: here, or by do.
func (g *Gate) with(ctx context.Context, h *password.Hasher, share password.Share, ip string, counter Counter,
	do func(p *password.Place) error) error {
	err := g.enter(ctx, h, share, ip, counter, do)
	_, busy := errors.AsType[*password.BusyError](err)
	if busy && g.Refusals != nil {
		g.Refusals.Take(ip)
	}
	if (busy || errors.Is(err, ErrTooManyAttempts)) && g.Pacer != nil {
		g.Pacer.Hold(ctx)
	}
	return err
}

func (g *Gate) enter(ctx context.Context, h *password.Hasher, share password.Share, ip string, counter Counter,
	do func(p *password.Place) error) error {
	for _, c := range []Counter{counter, g.Refusals} {
		if c == nil {
			continue
		}
		if wait := c.Wait(ip); wait > 0 {
			return &AttemptError{RetryAfter: wait}
		}
	}
	if g.InFlight != nil {
		if !g.InFlight.Enter(ip) {
			return &password.BusyError{RetryAfter: time.Second}
		}
		defer g.InFlight.Leave(ip)
	}
	place, err := h.Enter(ctx, share)
	if err != nil {
		return err
	}
	defer place.Leave()
	if counter == nil {
		return do(place)
	}
	// Of those who come at once, no more pass than are left: one is taken before it is known whether it counts.
	if wait := counter.Take(ip); wait > 0 {
		return &AttemptError{RetryAfter: wait}
	}
	return do(place)
}
