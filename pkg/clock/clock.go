// Package clock tells the time of the database, which is the one clock of all replicas.
//
// Replicas compare times that others have written: when a token was rotated, when an entry may be dropped. Their own clocks
// differ, so each measures how far it is from the database's and corrects what it reads.
package clock

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// MaxOffset is the largest difference that a replica corrects. A machine that is further off is set wrong, and what does not
// pass through here (certificates, the tokens of providers) would fail on it.
const MaxOffset = 10 * time.Minute

// Clock tells the time. A nil Clock, and the zero one, tell the machine's. It is safe for concurrent use.
type Clock struct {
	machine func() time.Time // nil for time.Now
	started time.Time        // by the machine
	offset  atomic.Int64     // the database's time minus the machine's, in nanoseconds
}

// New returns a clock over a machine's: time.Now, or a test's.
func New(machine func() time.Time) *Clock { return &Clock{machine: machine, started: machine()} }

// Started is when the clock was made, which a program does at its start. It is now for a nil Clock and the zero one.
func (c *Clock) Started() time.Time {
	if c == nil || c.started.IsZero() {
		return c.Now()
	}
	return c.started.Add(c.Offset())
}

// Now returns the time of the database, as far as it was measured.
func (c *Clock) Now() time.Time {
	if c == nil {
		return time.Now()
	}
	return c.read().Add(c.Offset())
}

func (c *Clock) read() time.Time {
	if c.machine == nil {
		return time.Now()
	}
	return c.machine()
}

// Offset is how far the database's clock is ahead of the machine's, as measured last.
func (c *Clock) Offset() time.Duration {
	if c == nil {
		return 0
	}
	return time.Duration(c.offset.Load())
}

// samples is how often the time is asked for in one measurement: an answer that was quick says more.
const samples = 3

// Measure asks the database for its time, and corrects the clock if it is off by more than the measurement may be. It returns
// how much that is at most: half the time that the quickest answer took.
func (c *Clock) Measure(ctx context.Context, ask func(context.Context) (time.Time, error)) (precision time.Duration, err error) {
	var offset time.Duration
	for i := range samples {
		sent := c.read()
		told, err := ask(ctx)
		if err != nil {
			return 0, fmt.Errorf("ask the database for its time: %w", err)
		}
		half := c.read().Sub(sent) / 2
		if i == 0 || half < precision {
			precision, offset = half, told.Sub(sent.Add(half))
		}
	}
	if (offset - c.Offset()).Abs() > precision {
		c.offset.Store(int64(offset))
	}
	return precision, nil
}
