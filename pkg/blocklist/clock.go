package blocklist

import "time"

const (
	// clockTolerance is a step of the wall clock that is nothing but keeping it right. Entries outlive their tokens by more.
	clockTolerance = time.Minute
	// believeAfter is how long a greater step forward must last before anything is deleted for it.
	believeAfter = time.Hour
)

// clock says which entries are over. Deleting cannot be undone, so a wall clock that was set forward is not believed
// before it has stayed there: if it is set back, the entries are there for the tokens that live again. A clock that was
// set back is believed at once, for then entries only stay longer than they must.
type clock struct {
	base  time.Time     // the wall clock as believed, at elapsed zero
	ahead time.Duration // since when the wall clock is ahead of what is believed; negative if it is not
}

func newClock(wall time.Time) clock { return clock{base: wall, ahead: -1} }

// believed returns the time that may be gone by. The monotonic clock has moved on by elapsed since the start.
func (c *clock) believed(wall time.Time, elapsed time.Duration) time.Time {
	steady := c.base.Add(elapsed)
	if wall.After(steady.Add(clockTolerance)) {
		if c.ahead < 0 {
			c.ahead = elapsed
		}
		if elapsed-c.ahead < believeAfter {
			return steady
		}
	}
	c.base, c.ahead = wall.Add(-elapsed), -1
	return wall
}
