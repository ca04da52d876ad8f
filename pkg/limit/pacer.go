package limit

import (
	"context"
	"sync"
	"time"
)

// refusalEvery is how quickly refusals follow each other at most. One costs about as much as a refresh.
const refusalEvery = 2 * time.Millisecond

// Pacer holds refusals back, so that they leave one after the other. A caller that comes back as soon as it is refused, whatever
// Retry-After says, makes a request of no use each time; it makes none while it waits for its answer. Few refusals leave at
// once, and the more there are, the longer each waits. It is safe for concurrent use. Nil holds nothing.
type Pacer struct {
	longest time.Duration
	most    int

	mu   sync.Mutex
	held int
	next time.Time // when the next one leaves
}

// NewPacer returns a pacer that holds each refusal for so long at most, and so many at once: one beyond them leaves at once.
func NewPacer(longest time.Duration, most int) *Pacer { return &Pacer{longest: longest, most: most} }

// Hold waits for the turn of a refusal, or until ctx ends.
func (p *Pacer) Hold(ctx context.Context) {
	wait := p.enter()
	if wait <= 0 {
		return
	}
	defer p.leave()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// enter counts a refusal as held, unless it need not wait.
func (p *Pacer) enter() time.Duration {
	if p == nil || p.longest <= 0 {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
	}
	if p.held >= p.most {
		return 0
	}
	p.next = p.next.Add(refusalEvery)
	wait := p.next.Sub(now)
	if wait > p.longest {
		wait, p.next = p.longest, now.Add(p.longest)
	}
	p.held++
	return wait
}

func (p *Pacer) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held--
}
