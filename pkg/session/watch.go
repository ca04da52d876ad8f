package session

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxUnanswered bounds what is left out of a grace period.
	maxUnanswered = 5 * time.Minute
	// watchEvery is how often the watch looks at the time, and stallAfter how late it must be to say that the process stood
	// still: it was stopped, or its machine was. Shorter stalls are known to the transport ([Refresh.Arrived]).
	watchEvery, stallAfter = 50 * time.Millisecond, 2 * time.Second
	// catchUp is how long after a stall requests are read that came during it, or were sent again after a machine's.
	catchUp = 2 * time.Second
	// maxGaps is how many gaps are remembered. Older ones are joined with the next.
	maxGaps = 16
)

// watch knows when this replica could not answer: before it started, while its storage failed, and while its process stood
// still. A client whose answer was lost then could not ask again, so the time does not count against it.
type watch struct {
	beat atomic.Pointer[time.Time] // when keep looked last; nil while nobody keeps the watch

	mu      sync.Mutex
	gaps    []gap     // the newest last
	stalled gap       // the newest that was a stall of the process
	heard   time.Time // when storage answered last
	failing bool      // it has failed since
}

type gap struct{ from, to time.Time }

// newWatch returns a watch that begins at a time. What was before is not known, and so counts as a gap.
func newWatch(started time.Time) *watch {
	return &watch{gaps: []gap{{to: started}}, heard: started}
}

// answered notes that storage has answered.
func (w *watch) answered(at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failing {
		w.failing = false
		w.add(gap{w.heard, at})
	}
	if at.After(w.heard) {
		w.heard = at
	}
}

// failed notes that storage has failed. The gap began when it answered last.
func (w *watch) failed() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failing = true
}

func (w *watch) add(g gap) {
	if !g.to.After(g.from) {
		return
	}
	w.gaps = append(w.gaps, g)
	if len(w.gaps) > maxGaps {
		w.gaps = append([]gap{{w.gaps[0].from, w.gaps[1].to}}, w.gaps[2:]...)
	}
}

// unanswered is how much of the time between two instants nobody could be answered, at most maxUnanswered.
func (w *watch) unanswered(from, to time.Time) (sum time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	gaps := slices.Clone(w.gaps)
	if w.failing {
		gaps = append(gaps, gap{w.heard, to})
	}
	slices.SortFunc(gaps, func(a, b gap) int { return a.from.Compare(b.from) })
	for _, g := range gaps { // what two of them share counts once
		begin, end := from, to
		if g.from.After(begin) {
			begin = g.from
		}
		if g.to.Before(end) {
			end = g.to
		}
		if end.After(begin) {
			sum += end.Sub(begin)
			from = end
		}
	}
	return min(sum, maxUnanswered)
}

// keep looks at the time until ctx ends, and notes when the process stood still.
func (w *watch) keep(ctx context.Context, now func() time.Time) {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	defer w.beat.Store(nil)
	for {
		w.look(now())
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (w *watch) look(at time.Time) {
	before := w.beat.Swap(&at)
	if before == nil || passed(*before, at) < stallAfter {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stalled = gap{*before, at}
	w.add(w.stalled)
}

// heldUp is how long before an instant a request may have come that is read at that instant: what is read at the end of a
// stall may have come at its beginning.
func (w *watch) heldUp(at time.Time) time.Duration {
	if before := w.beat.Load(); before != nil && passed(*before, at) >= stallAfter {
		return passed(*before, at) // the stall is just over, and keep has not looked yet
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.stalled.to.IsZero() && passed(w.stalled.to, at) < catchUp {
		return passed(w.stalled.from, at)
	}
	return 0
}

// passed is the time between two instants by the wall or by the monotonic clock, which stands still while a machine is suspended.
func passed(from, to time.Time) time.Duration {
	return max(to.Sub(from), to.Round(0).Sub(from.Round(0)))
}
