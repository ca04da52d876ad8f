package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// maxBatch is the most rotations that share a statement, and so how much one of them waits for others.
const maxBatch = 128

// maxQueue is how many rotations wait for a statement at most. A database that answers takes so many in a fraction of a
// second; one that does not answer must not collect work that nobody waits for any more.
const maxQueue = 32 * maxBatch

// batchTimeout bounds a statement that several requests share; none of them may cancel it for the others.
const batchTimeout = 5 * time.Second

// batcher carries rotations that arrive together in one statement and one commit. A lone request runs at once;
// what arrives while a statement is under way waits for it and goes together in the next one. There is no timer and no
// goroutine: the first of those who wait carries the next batch. A rotation whose caller has gone is not carried.
type batcher struct {
	rotate func(context.Context, []Rotation) ([]*Session, error)

	mu    sync.Mutex
	busy  bool
	queue []*rotation
}

type rotation struct {
	Rotation
	caller context.Context //nolint:containedctx // whether the caller still waits is looked up when the batch is made
	row    *Session
	err    error
	wake   chan bool // true: carry the next batch; false: row and err are set
}

// do runs a rotation in a batch. ErrBusy if too many wait already. The error of the context says that the caller left:
// nothing has moved if the rotation was still waiting, and nobody knows if it was under way.
func (b *batcher) do(ctx context.Context, r Rotation) (*Session, error) {
	own := &rotation{Rotation: r, caller: ctx}
	lead, err := b.enter(own)
	if err != nil {
		return nil, err
	}
	if !lead {
		select {
		case lead = <-own.wake:
		case <-ctx.Done():
			if lead = b.leave(own); !lead {
				return nil, ctx.Err()
			}
		}
	}
	if lead {
		b.carry(context.WithoutCancel(ctx))
	}
	return own.row, own.err
}

// enter puts a rotation into the queue, and reports whether its caller carries the next batch.
func (b *batcher) enter(own *rotation) (lead bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.queue) >= maxQueue {
		return false, ErrBusy
	}
	lead = !b.busy
	if b.busy {
		own.wake = make(chan bool, 1)
	}
	b.busy = true
	b.queue = append(b.queue, own)
	return lead, nil
}

// leave takes a rotation whose caller has gone out of the queue. Its caller may have been given the lead meanwhile, which it
// must not drop: then leave reports so.
func (b *batcher) leave(own *rotation) (lead bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case lead = <-own.wake:
		return lead
	default:
	}
	if i := slices.Index(b.queue, own); i >= 0 {
		b.queue = slices.Delete(b.queue, i, i+1)
	}
	return false
}

// carry runs one batch of those whose callers still wait, and passes the turn on.
func (b *batcher) carry(ctx context.Context) {
	var batch []*rotation
	defer func() { b.passOn(batch) }() // also when the store panics: those who wait must not wait for ever
	if batch = b.take(); len(batch) > 0 {
		b.run(ctx, batch)
	}
}

// take takes the next batch out of the queue. Callers who have gone learn that nothing has moved.
func (b *batcher) take() (batch []*rotation) {
	b.mu.Lock()
	defer b.mu.Unlock()
	taken := 0
	for _, r := range b.queue {
		if len(batch) == maxBatch {
			break
		}
		taken++
		if r.err = r.caller.Err(); r.err == nil {
			batch = append(batch, r)
		} else if r.wake != nil {
			r.wake <- false
		}
	}
	b.queue = b.queue[taken:]
	return batch
}

// passOn gives the lead to the first of those who wait, and their answers to those whose batch is done.
func (b *batcher) passOn(batch []*rotation) {
	b.mu.Lock()
	if len(b.queue) > 0 {
		b.queue[0].wake <- true
	} else {
		b.busy = false
		b.queue = nil
	}
	b.mu.Unlock()
	for _, r := range batch {
		if r.wake != nil {
			r.wake <- false
		}
	}
}

// errPanicked stands in for the answer of a store that panicked.
var errPanicked = errors.New("store panicked; nobody knows what it did")

func (b *batcher) run(ctx context.Context, batch []*rotation) {
	ctx, cancel := context.WithTimeout(ctx, batchTimeout)
	defer cancel()
	rotations := make([]Rotation, len(batch))
	for i, r := range batch {
		rotations[i], r.err = r.Rotation, errPanicked
	}
	rows, err := b.rotate(ctx, rotations)
	if err == nil && len(rows) != len(batch) {
		err = fmt.Errorf("store answered %d of %d rotations", len(rows), len(batch))
	}
	for i, r := range batch {
		if r.err = err; err == nil {
			r.row = rows[i]
		}
	}
}
