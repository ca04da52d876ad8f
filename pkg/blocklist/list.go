package blocklist

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/handstamp/handstamp/pkg/verifier"
)

const (
	// pollEvery is the safety net under the database's wake-up: with it alone a revocation still reaches every replica
	// within the second that is promised.
	pollEvery = 400 * time.Millisecond
	// StalenessBound is how long a replica trusts its copy without having heard from the database.
	StalenessBound = time.Second
	// syncTimeout bounds one reading of the table.
	syncTimeout = 5 * time.Second
	// A replica remembers so many changes, and so many bytes of them, for followers, so that they cost the database nothing.
	recentChanges = 4096
	recentBytes   = 8 << 20
)

// Change is what one reading of the table added to the list.
type Change struct {
	Entries verifier.Entries
	Cursor  string // stands after Entries
}

// List is a replica's copy of the blocklist.
type List struct {
	store   Store
	now     func() time.Time
	log     *slog.Logger
	set     *verifier.BlockSet
	started time.Time
	name    string // of this copy, in the cursors that it gives to followers

	syncing sync.Mutex // one reading at a time
	poll    string     // the cursor of the last reading; guarded by syncing

	mu      sync.Mutex
	clock   clock
	heardAt time.Time // when the last successful reading began; zero before the first
	cursor  string    // that followers get: it moves only when entries came
	moved   uint64    // how often it did
	oldest  string    // the cursor before recent[0]
	recent  []Change
	bytes   int           // of the entries in recent
	changed chan struct{} // closed at the next change
	reading *reading      // that callers of Fresh wait for

	readings sync.WaitGroup // for Close
}

// NewList returns a list that has heard nothing yet, by a clock. Call Sync before relying on it, then Follow.
func NewList(store Store, now func() time.Time, log *slog.Logger) *List {
	started := now()
	return &List{
		now:     now,
		store:   store,
		log:     log,
		set:     verifier.NewBlockSet(),
		name:    rand.Text()[:8],
		started: started,
		clock:   newClock(started.Round(0)),
		changed: make(chan struct{}),
	}
}

// Sync reads what has changed in the table. An error is a storage failure.
func (l *List) Sync(ctx context.Context) error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()

	changes, err := l.store.BlocklistChanges(ctx, l.poll)
	if errors.Is(err, ErrCursorGone) {
		// The database came back in another state. What this copy knows beyond it stays blocked here; followers read anew.
		l.log.WarnContext(ctx, "blocklist history changed, reading all of it again")
		changes, err = l.store.BlocklistChanges(ctx, "")
	}
	if err != nil {
		return fmt.Errorf("read blocklist: %w", err)
	}
	l.poll = changes.Cursor

	var added verifier.Entries
	for _, e := range changes.Entries {
		entry := e.wire()
		if notBefore, ok := l.set.Lookup(entry.Key); ok && notBefore >= int64(entry.NotBefore) {
			continue
		}
		l.set.Add(entry)
		added = added.Append(entry)
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	l.heardAt = began
	if changes.Snapshot {
		l.move(changes.Cursor)
		l.recent, l.bytes, l.oldest = nil, 0, l.cursor
		l.signal()
	} else if len(added) > 0 {
		l.move(changes.Cursor)
		l.remember(Change{Entries: added, Cursor: l.cursor})
		l.signal()
	}
	return nil
}

// cursorMark stands between the table's cursor and the mark of the copy that gives it to followers.
const cursorMark = "."

// move sets the cursor that followers get. The table's cursor alone says from where to read the table, not what a
// follower was told: while a transaction stays open somewhere, one reading after the other ends at the same cursor,
// each with more than the one before. So each change here has a cursor of its own, and one that another copy gave is
// looked up in the table.
func (l *List) move(cursor string) {
	l.moved++
	l.cursor = cursor + cursorMark + l.name + strconv.FormatUint(l.moved, 10)
}

// remember keeps a change, and forgets the oldest ones beyond the bounds. The newest stays, however large: everybody is
// about to ask for it.
func (l *List) remember(change Change) {
	l.recent, l.bytes = append(l.recent, change), l.bytes+len(change.Entries)
	gone := 0
	for ; len(l.recent)-gone > recentChanges || l.bytes > recentBytes && len(l.recent)-gone > 1; gone++ {
		l.oldest, l.bytes = l.recent[gone].Cursor, l.bytes-len(l.recent[gone].Entries)
	}
	if gone > 0 {
		l.recent = append([]Change(nil), l.recent[gone:]...) // readers may hold the old array
	}
}

func (l *List) signal() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// Follow keeps the list current until ctx ends: at each wake-up of the database and at least every 400 ms. Each time it calls
// also, because a wake-up may have other causes.
func (l *List) Follow(ctx context.Context, also func(context.Context)) {
	woken := make(chan struct{}, 1)
	var waiting sync.WaitGroup
	defer waiting.Wait()
	waiting.Go(func() { l.wait(ctx, woken) })

	timer := time.NewTimer(pollEvery)
	defer timer.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-woken:
		case <-timer.C:
		}
		timer.Reset(pollEvery)
		err := l.Sync(ctx)
		if err != nil && ctx.Err() == nil && !failing {
			l.log.WarnContext(ctx, "blocklist cannot be read", "error", err)
		} else if err == nil && failing {
			l.log.InfoContext(ctx, "blocklist can be read again")
		}
		failing = err != nil
		l.set.Purge(l.Over(l.now()))
		also(ctx)
	}
}

// wait turns the wake-ups of the database into sends on woken.
func (l *List) wait(ctx context.Context, woken chan<- struct{}) {
	for ctx.Err() == nil {
		if err := l.store.Wait(ctx); err != nil {
			select { // without wake-ups the polling goes on; try to hear them again at its pace
			case <-ctx.Done():
			case <-time.After(pollEvery):
			}
		}
		select {
		case woken <- struct{}{}:
		default:
		}
	}
}

// Set is the list's entries, for checking tokens.
func (l *List) Set() *verifier.BlockSet { return l.set }

// Fresh makes sure that the list is no older than the staleness bound, and reads the table if necessary: once for all who wait
// meanwhile. An error means that it is unknown whether a token is blocked.
func (l *List) Fresh(ctx context.Context) error {
	for came := time.Now(); time.Since(l.HeardAt()) > StalenessBound; {
		r := l.join(ctx)
		select {
		case <-r.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		if r.err != nil || !r.began.Before(came) {
			return r.err
		}
	}
	return nil
}

// reading is one reading of the table that many wait for.
type reading struct {
	began time.Time
	done  chan struct{}
	err   error // once done
}

// join returns the reading that is under way, or begins one. It does not end with the caller who began it.
func (l *List) join(ctx context.Context) *reading {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reading == nil {
		r := &reading{began: time.Now(), done: make(chan struct{})}
		l.reading = r
		ctx := context.WithoutCancel(ctx)
		l.readings.Go(func() { // ends after syncTimeout at the latest
			r.err = l.Sync(ctx)
			l.mu.Lock()
			l.reading = nil
			l.mu.Unlock()
			close(r.done)
		})
	}
	return l.reading
}

// Close waits for a reading that is under way. Nobody asks for another meanwhile.
func (l *List) Close() { l.readings.Wait() }

// Cursor is where the list stands.
func (l *List) Cursor() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cursor
}

// Changed returns a channel that is closed when the list changes.
func (l *List) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

// HeardAt is when the list was last known to be complete; zero before the first reading.
func (l *List) HeardAt() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.heardAt
}

// Snapshot returns all entries and the cursor that stands after them.
func (l *List) Snapshot() Change {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Change{Entries: l.set.Entries(), Cursor: l.cursor}
}

// Since returns the changes after a cursor, oldest first, and a channel that is closed at the next one.
// A cursor that this replica did not give itself is looked up in the database. ErrCursorGone.
func (l *List) Since(ctx context.Context, cursor string) ([]Change, <-chan struct{}, error) {
	changes, current, next, ok := l.remembered(cursor)
	if ok {
		return changes, next, nil
	}
	inTable, _, _ := strings.Cut(cursor, cursorMark)
	if inTable == "" {
		return nil, nil, ErrCursorGone
	}
	read, err := l.store.BlocklistChanges(ctx, inTable)
	if err != nil {
		return nil, nil, fmt.Errorf("read blocklist: %w", err)
	}
	var entries verifier.Entries
	for _, e := range read.Entries {
		entries = entries.Append(e.wire())
	}
	// The table was read after this replica had come to current, so the follower can go on from there. Where the replica has come to
	// meanwhile would not do: it may have read what was added after the table was read here. Telling an entry twice is harmless.
	return []Change{{Entries: entries, Cursor: current}}, next, nil
}

// remembered returns the changes after a cursor if this replica has them, its own cursor, and a channel that is closed
// at the next change.
func (l *List) remembered(cursor string) (changes []Change, current string, next <-chan struct{}, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if cursor == l.cursor {
		return nil, l.cursor, l.changed, true
	}
	for i, change := range slices.Backward(l.recent) {
		if change.Cursor == cursor {
			return slices.Clip(l.recent[i+1:]), l.cursor, l.changed, true
		}
	}
	if cursor == l.oldest {
		return slices.Clip(l.recent), l.cursor, l.changed, true
	}
	return nil, l.cursor, l.changed, false
}

// Over returns the time before which entries may be forgotten: at, unless the wall clock was set forward lately.
func (l *List) Over(at time.Time) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if believed := l.clock.believed(now.Round(0), now.Sub(l.started)); believed.Before(at) {
		return believed
	}
	return at
}

// Drop removes entries that were over at a time from the table, in small batches until none is left.
func (l *List) Drop(ctx context.Context, at time.Time) error {
	const batch = 1000
	at = l.Over(at)
	for {
		n, err := l.store.DropBlocklist(ctx, at, batch)
		if err != nil {
			return fmt.Errorf("drop expired blocklist entries: %w", err)
		}
		if n < batch {
			return nil
		}
	}
}

func (e Entry) wire() verifier.Entry {
	return verifier.Entry{Key: e.Key, NotBefore: seconds(e.NotBefore), DropAfter: seconds(e.DropAfter)}
}

// seconds fits a time into the wire form, which ends in 2106.
func seconds(t time.Time) uint32 {
	return uint32(max(0, min(t.Unix(), 1<<32-1)))
}
