package upstream

import (
	"context"
	"sync"
	"time"
)

const (
	retryPause = 30 * time.Second // between attempts to renew a value of which we have a copy
	staleLimit = 24 * time.Hour   // a copy that could not be renewed for so long is forgotten
)

// cached holds a document that is fetched when it is first needed and again when it is old. At most one fetch is in
// flight, done by a caller while those who need its outcome wait. While the source fails the last good copy serves on.
type cached[T any] struct {
	fetch func(ctx context.Context, previous T) (T, error)
	slot  chan struct{} // holds a token while somebody fetches

	mu      sync.Mutex // guards what follows, and is never held during a fetch
	value   T
	fetched time.Time // of value; zero if there is none
	tried   time.Time
	failure error // of the last try
}

func newCached[T any](fetch func(ctx context.Context, previous T) (T, error)) *cached[T] {
	return &cached[T]{fetch: fetch, slot: make(chan struct{}, 1)}
}

// load returns the document, fetched no longer than maxAge ago if the source permits.
func (c *cached[T]) load(ctx context.Context, maxAge time.Duration) (T, error) {
	arrived := time.Now()
	if value, err, settled := c.settled(arrived, maxAge); settled {
		return value, err
	}
	select {
	case c.slot <- struct{}{}:
		defer func() { <-c.slot }()
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
	if value, err, settled := c.settled(arrived, maxAge); settled {
		return value, err
	}
	value, err := c.fetch(ctx, c.previous())
	if err != nil && ctx.Err() != nil {
		return value, err // this caller gave up, which says nothing of the source: the next one tries for itself
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tried, c.failure = time.Now(), err
	if err == nil {
		c.value, c.fetched = value, c.tried
	}
	if c.fetched.IsZero() {
		return value, err
	}
	return c.value, nil
}

// settled returns the answer that can be given without a fetch, if there is one.
func (c *cached[T]) settled(arrived time.Time, maxAge time.Duration) (T, error, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.fetched.IsZero() && time.Since(c.fetched) > staleLimit {
		var none T
		c.value, c.fetched = none, time.Time{}
	}
	have := !c.fetched.IsZero()
	switch {
	case have && time.Since(c.fetched) < maxAge:
		return c.value, nil, true
	case have && c.failure != nil && time.Since(c.tried) < retryPause:
		return c.value, nil, true
	case !have && c.failure != nil && c.tried.After(arrived):
		// It failed while this caller waited: a crowd must not try one after another.
		return c.value, c.failure, true
	}
	return c.value, nil, false
}

func (c *cached[T]) previous() T {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.value
}
