package sqlite

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"sync"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// Block implements [blocklist.Store].
func (db *DB) Block(ctx context.Context, entry blocklist.Entry, e audit.Event) error {
	return db.announce(ctx, "block", func(c *conn) error {
		if err := block(c, e.At, entry); err != nil {
			return err
		}
		return record(c, e)
	})
}

// block writes entries under one new sequence number. There is one writer at a time, so numbers become visible in order.
func block(c *conn, at time.Time, entries ...blocklist.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	sequence, err := advanceFeed(c, at)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, err := c.exec(`
			INSERT INTO blocklist (key, not_before, drop_after, sequence) VALUES (?, ?, ?, ?)
			ON CONFLICT (key) DO UPDATE SET
				not_before = max(not_before, excluded.not_before),
				drop_after = max(drop_after, excluded.drop_after),
				sequence   = excluded.sequence`,
			e.Key[:], seconds(e.NotBefore), seconds(e.DropAfter), sequence); err != nil {
			return err
		}
	}
	return nil
}

// seconds rounds up: a block that lasts longer than it must is harmless.
func seconds(t time.Time) int64 {
	if t.Nanosecond() > 0 {
		return t.Unix() + 1
	}
	return t.Unix()
}

// blockSessions writes an entry against every access token of the sessions.
func blockSessions(c *conn, ids []session.ID, at, until time.Time) error {
	entries := make([]blocklist.Entry, len(ids))
	for i, id := range ids {
		entries[i] = blocklist.NewEntry(verifier.BlockSID, id.String(), until)
	}
	return block(c, at, entries...)
}

// advanceFeed takes the next sequence number. Every change that [DB.Wait] reports calls it.
func advanceFeed(c *conn, at time.Time) (head int64, err error) {
	_, err = c.one(`UPDATE feed SET head = max(head + 1, ?) RETURNING head`, func(r *row) { r.scan(&head) }, at.UnixMicro())
	return head, err
}

// A cursor is the feed's ID and a sequence number.
const (
	feedIDSize = 16
	cursorSize = feedIDSize + 8
)

// place reads where the feed stands, and the sequence number in a cursor, -1 for none. It is read before the changes
// are: what is written between the two is told now and once more next time. blocklist.ErrCursorGone.
func place(c *conn, cursor string) (now string, after int64, err error) {
	var at [cursorSize]byte
	var head int64
	if _, err := c.one(`SELECT id, head FROM feed`, func(r *row) { r.scan(at[:feedIDSize], &head) }); err != nil {
		return "", 0, err
	}
	binary.BigEndian.PutUint64(at[feedIDSize:], uint64(head)) //nolint:gosec // not negative
	after = -1
	if cursor != "" {
		then, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
		if err != nil || len(then) != cursorSize || string(then[:feedIDSize]) != string(at[:feedIDSize]) {
			return "", 0, blocklist.ErrCursorGone
		}
		after = int64(binary.BigEndian.Uint64(then[feedIDSize:])) //nolint:gosec // compared next
		if after < 0 || after > head {
			return "", 0, blocklist.ErrCursorGone // the database was restored to an older state
		}
	}
	return base64.RawURLEncoding.EncodeToString(at[:]), after, nil
}

// BlocklistChanges implements [blocklist.Store].
func (db *DB) BlocklistChanges(ctx context.Context, cursor string) (changes blocklist.Changes, err error) {
	err = db.read(ctx, "read blocklist", func(c *conn) error {
		now, after, err := place(c, cursor)
		if err != nil {
			return err
		}
		changes = blocklist.Changes{Cursor: now, Snapshot: cursor == ""}
		return c.query(`SELECT key, not_before, drop_after FROM blocklist WHERE sequence > ?`, func(r *row) error {
			var e blocklist.Entry
			var notBefore, dropAfter int64
			r.scan(e.Key[:], &notBefore, &dropAfter)
			e.NotBefore, e.DropAfter = time.Unix(notBefore, 0).UTC(), time.Unix(dropAfter, 0).UTC()
			changes.Entries = append(changes.Entries, e)
			return nil
		}, after)
	})
	if err != nil {
		return blocklist.Changes{}, err
	}
	return changes, nil
}

// DropBlocklist implements [blocklist.Store].
func (db *DB) DropBlocklist(ctx context.Context, at time.Time, limit int) (dropped int, err error) {
	err = db.write(ctx, "drop blocklist entries", func(c *conn) error {
		n, err := c.exec(`
			DELETE FROM blocklist WHERE key IN (SELECT key FROM blocklist WHERE drop_after < ? ORDER BY drop_after LIMIT ?)`, at.Unix(),
			limit)
		dropped = int(n)
		return err
	})
	return dropped, err
}

// pollInterval is how often Wait looks for what other processes wrote.
const pollInterval = 250 * time.Millisecond

// wake tells waiters in this process of what this process wrote.
type wake struct {
	mu      sync.Mutex
	changed chan struct{} // closed at the next change
	closed  bool
	head    int64 // feed.head when Wait last returned
}

func (w *wake) next() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changed
}

func (w *wake) all() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		close(w.changed)
		w.changed = make(chan struct{})
	}
}

func (w *wake) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.closed = true
		close(w.changed)
	}
}

func (w *wake) seen() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.head
}

func (w *wake) tell(head int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.head = head
}

// announce is write for what Wait is about.
func (db *DB) announce(ctx context.Context, doing string, do func(c *conn) error) error {
	err := db.write(ctx, doing, do)
	if err == nil {
		db.wake.all()
	}
	return err
}

// Wait implements [blocklist.Store]. SQLite cannot notify, so it looks at data_version, which costs a read of shared memory,
// and asks further only when somebody has written. What was written since Wait last returned makes it return at once.
func (db *DB) Wait(ctx context.Context) error {
	known, version := db.wake.seen(), int64(-1)
	for {
		changed := db.wake.next()
		head := known
		err := db.watcher.use(ctx, func(c *conn) error {
			old := version
			if _, err := c.one(`PRAGMA data_version`, func(r *row) { r.scan(&version) }); err != nil || version == old {
				return err
			}
			_, err := c.one(`SELECT head FROM feed`, func(r *row) { r.scan(&head) })
			return err
		})
		if err != nil {
			return wrap("wait for changes", err)
		}
		if head != known {
			db.wake.tell(head)
			return nil
		}
		timer := time.NewTimer(pollInterval)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}
