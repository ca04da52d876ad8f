package session

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// maxBatch is the most rotations that share a statement, and so how much one of them waits for others.
const maxBatch = 128

// batchTimeout bounds a statement that several requests share; none of them may cancel it for the others.
const batchTimeout = 5 * time.Second

// batcher carries rotations that arrive together in one statement and one commit. A lone request runs at once;
// what arrives while a statement is under way waits for it and goes together in the next one. There is no timer and no
// goroutine: the first of those who wait carries the next batch.
type batcher struct {
	rotate func(context.Context, []Rotation) ([]*Session, error)

	mu    sync.Mutex
	busy  bool
	queue []*rotation
}

type rotation struct {
	Rotation
	row  *Session
	err  error
	wake chan bool // true: carry the next batch; false: row and err are set
}

func (b *batcher) do(ctx context.Context, r Rotation) (*Session, error) {
	own := &rotation{Rotation: r}
	b.mu.Lock()
	if b.busy {
		own.wake = make(chan bool, 1)
		b.queue = append(b.queue, own)
		b.mu.Unlock()
		if lead := <-own.wake; !lead {
			return own.row, own.err
		}
	} else {
		b.busy = true
		b.queue = append(b.queue, own)
		b.mu.Unlock()
	}
	b.carry(context.WithoutCancel(ctx))
	return own.row, own.err
}

// carry runs one batch, which the caller's rotation is the first of, and passes the turn on.
func (b *batcher) carry(ctx context.Context) {
	b.mu.Lock()
	n := min(len(b.queue), maxBatch)
	batch := b.queue[:n:n]
	b.queue = b.queue[n:]
	b.mu.Unlock()

	defer b.passOn(batch) // also when the store panics: those who wait must not wait for ever
	b.run(ctx, batch)
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
	for _, r := range batch[1:] {
		r.wake <- false
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
