package password

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"time"
)

// Share is what an evaluation is for. Each share has a queue of its own and gets its part of the turns, so that a crowd in one
// of them keeps nobody out of another: anybody may sign up, and those who have an account must still get in.
type Share int

// The shares.
const (
	ForLogin  Share = iota // a password that somebody logs in with
	ForSignup              // the first password of somebody who signs up
	ForChange              // everything else: a password that its user changes, or that an operator sets

	shares = 3
)

// part is how many turns of four a share gets while all of them wait.
func (s Share) part() int {
	if s == ForLogin {
		return 2
	}
	return 1
}

// queue lets a bounded number of callers in and lets others wait, in order within their share.
type queue struct {
	capacity [shares]int

	mu      sync.Mutex
	free    int // places that nobody has
	waiting [shares][]chan struct{}
	credit  [shares]int
}

// newQueue returns a queue for so many places, in which so many logins may wait, and half as many of each other share.
func newQueue(places, waiting int) *queue {
	q := &queue{free: places, capacity: [shares]int{ForLogin: waiting}}
	for _, s := range []Share{ForSignup, ForChange} {
		q.capacity[s] = (waiting + 1) / 2
	}
	return q
}

// enter takes a place if one is free, or a place in the queue, whose channel is closed when the caller has moved up. Neither if
// the queue is full.
func (q *queue) enter(share Share) (moved chan struct{}, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.free > 0 { // then nobody waits
		q.free--
		return nil, true
	}
	if len(q.waiting[share]) >= q.capacity[share] {
		return nil, false
	}
	moved = make(chan struct{})
	q.waiting[share] = append(q.waiting[share], moved)
	return moved, true
}

// leave gives a place to who is next: the share that is owed most among those that wait.
func (q *queue) leave() {
	q.mu.Lock()
	defer q.mu.Unlock()
	next, total := Share(-1), 0
	for s := range Share(shares) {
		if len(q.waiting[s]) == 0 {
			q.credit[s] = 0 // nothing is saved up while nobody waits
			continue
		}
		q.credit[s] += s.part()
		total += s.part()
		if next < 0 || q.credit[s] > q.credit[next] {
			next = s
		}
	}
	if next < 0 {
		q.free++
		return
	}
	q.credit[next] -= total
	close(q.waiting[next][0])
	q.waiting[next] = q.waiting[next][1:]
}

// giveUp leaves the queue. It is false if the caller has moved up meanwhile: then the place is the caller's.
func (q *queue) giveUp(share Share, moved chan struct{}) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.waiting[share], moved)
	if i < 0 {
		return false
	}
	q.waiting[share] = slices.Delete(q.waiting[share], i, i+1)
	return true
}

// Place is a caller's place at a Hasher: its turn is certain to come, soon. It is for one goroutine.
type Place struct {
	hasher *Hasher
	late   <-chan time.Time // when the caller gives up; nil: never
}

// Enter waits until the caller is among the next, and returns its place, which Leave gives back. What must not be done in vain,
// such as counting an attempt in the database, is done between Enter and Verify: who cannot be served is refused before.
// A *BusyError, or the cause of ctx if it ended while waiting.
func (h *Hasher) Enter(ctx context.Context, share Share) (*Place, error) {
	late := time.NewTimer(h.maxWait)
	defer late.Stop()
	return h.enter(ctx, share, late.C)
}

func (h *Hasher) enter(ctx context.Context, share Share, late <-chan time.Time) (*Place, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	moved, ok := h.queue.enter(share)
	if !ok {
		return nil, h.busy()
	}
	if moved == nil {
		return &Place{hasher: h}, nil
	}
	h.waiting.Add(1)
	defer h.waiting.Add(-1)
	var err error
	select {
	case <-moved:
	case <-late:
		if h.queue.giveUp(share, moved) {
			err = h.busy()
		}
	case <-ctx.Done():
		if err = context.Cause(ctx); !h.queue.giveUp(share, moved) {
			h.queue.leave()
		}
	}
	if err != nil {
		return nil, err
	}
	return &Place{hasher: h}, nil
}

// Leave gives the place to the next.
func (p *Place) Leave() { p.hasher.queue.leave() }

// Hash is [Hasher.Hash] at the caller's place.
func (p *Place) Hash(ctx context.Context, plain string) (string, error) {
	return p.hasher.hash(ctx, p, plain)
}

// Verify is [Hasher.Verify] at the caller's place.
func (p *Place) Verify(ctx context.Context, stored, plain string) (bool, error) {
	return p.hasher.verify(ctx, p, stored, plain)
}

// inTurn runs evaluate when its turn comes. It is not run if an error is returned.
func (p *Place) inTurn(ctx context.Context, evaluate func()) error {
	h := p.hasher
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case h.turns <- struct{}{}:
	default:
		if err := p.wait(ctx); err != nil {
			return err
		}
	}
	defer func() { <-h.turns }()
	h.evaluations.Add(1)
	start := time.Now()
	runtime.Gosched() // requests that wait for this Go processor go first: for them it is gone until the evaluation ends
	evaluate()
	h.lastCost.Store(int64(time.Since(start)))
	return nil
}

func (p *Place) wait(ctx context.Context) error {
	h := p.hasher
	h.waiting.Add(1)
	defer h.waiting.Add(-1)
	select {
	case h.turns <- struct{}{}:
		return nil
	case <-p.late:
		return h.busy()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
