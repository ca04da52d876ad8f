package postgres

import (
	"context"
	"errors"
	"sync"

	"github.com/jackc/pgx/v5"
)

// Replicas tell each other about changes of blocklist, clients and signing keys on this channel. A notification is sent when the
// transaction commits, and says no more than that something has changed.
const (
	channel = "handstamp"
	notify  = `pg_notify('` + channel + `', '')`
)

var errClosed = errors.New("the database is closed")

// wake is one connection that listens on behalf of all callers of Wait.
type wake struct {
	mu      sync.Mutex
	changed chan struct{} // closed and replaced when count or err changes
	count   uint64        // changes heard of
	told    uint64        // the count that a caller of Wait was last told of
	err     error         // why listening ended
	running bool
	closed  bool
	cancel  context.CancelFunc
	done    sync.WaitGroup
}

func newWake() wake { return wake{changed: make(chan struct{})} }

// Wait implements blocklist.Store. The first call connects; so does the next one after the connection was lost, which
// is the one that returns an error. As changes may have been missed without a connection, making one counts as a
// change. What happens between two calls makes the second return at once.
func (db *DB) Wait(ctx context.Context) error {
	w := &db.wake
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return failed("wait for changes", errClosed)
	}
	if !w.running {
		db.listen()
	}
	for start := w.told; w.count == start; {
		if w.err != nil {
			return failed("wait for changes", w.err)
		}
		changed := w.changed
		w.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		w.mu.Lock()
		if err := ctx.Err(); err != nil {
			return failed("wait for changes", err)
		}
	}
	w.told = w.count
	return nil
}

// listen starts the listener; w.mu is held.
func (db *DB) listen() {
	w := &db.wake
	ctx, cancel := context.WithCancel(context.Background())
	w.running, w.err, w.cancel = true, nil, cancel
	w.done.Go(func() {
		defer cancel()
		err := db.hear(ctx, func() { w.update(func() { w.count++ }) })
		w.update(func() { w.running, w.err = false, err })
	})
}

// hear calls heard after each notification until the connection is lost or ctx ends.
func (db *DB) hear(ctx context.Context, heard func()) error {
	c, err := pgx.ConnectConfig(ctx, db.config.Copy())
	if err != nil {
		return err
	}
	defer func() {
		// The server sees the end of the connection anyway.
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWord)
		defer cancel()
		_ = c.Close(closing)
	}()
	if _, err := c.Exec(ctx, "LISTEN "+channel); err != nil {
		return err
	}
	for {
		heard()
		if _, err := c.WaitForNotification(ctx); err != nil {
			return err
		}
	}
}

// update changes the state and wakes who waits for it.
func (w *wake) update(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
	close(w.changed)
	w.changed = make(chan struct{})
}

// stop ends the listener and waits for it.
func (w *wake) stop() {
	w.mu.Lock()
	w.closed = true
	if w.cancel != nil {
		w.cancel()
	}
	w.mu.Unlock()
	w.done.Wait()
}
