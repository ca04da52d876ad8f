package blocklist_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/store/sqlite"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// table is a real table with a place to step in.
type table struct {
	blocklist.Store
	mu   sync.Mutex
	err  error  // of every reading, unless nil
	then func() // runs once, after the next reading and before its caller learns of it
}

func (s *table) BlocklistChanges(ctx context.Context, cursor string) (blocklist.Changes, error) {
	s.mu.Lock()
	err, then := s.err, s.then
	s.then = nil
	s.mu.Unlock()
	if err != nil {
		return blocklist.Changes{}, err
	}
	changes, err := s.Store.BlocklistChanges(ctx, cursor)
	if then != nil {
		then()
	}
	return changes, err
}

func (s *table) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// standing is a table whose cursor stands still, as it does while a transaction stays open somewhere.
type standing struct {
	blocklist.Store
	mu     sync.Mutex
	cursor string
}

func (s *standing) BlocklistChanges(ctx context.Context, cursor string) (blocklist.Changes, error) {
	changes, err := s.Store.BlocklistChanges(ctx, cursor)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cursor == "" {
		s.cursor = changes.Cursor
	}
	changes.Cursor = s.cursor
	return changes, err
}

func open(t *testing.T) *table {
	t.Helper()
	db, err := sqlite.Open(t.Context(), sqlite.Prefix+filepath.Join(t.TempDir(), "handstamp.db"))
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	must(t, db.Migrate(t.Context()))
	return &table{Store: db}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func synced(t *testing.T, s blocklist.Store) *blocklist.List {
	t.Helper()
	l := blocklist.NewList(s, time.Now, slog.New(slog.DiscardHandler))
	must(t, l.Sync(t.Context()))
	return l
}

// block adds an entry that stays for a while and returns its key.
func block(t *testing.T, s blocklist.Store, name string) verifier.BlockKey {
	t.Helper()
	entry := blocklist.NewEntry(verifier.BlockJTI, name, time.Now().Add(17*time.Minute).Truncate(time.Second))
	must(t, s.Block(t.Context(), entry, audit.Event{At: time.Now(), Kind: audit.KindTokenRevoked, Actor: audit.ActorCLI}))
	return entry.Key
}

// follower gathers what Since tells.
type follower struct {
	cursor string
	known  map[verifier.BlockKey]bool
	told   int
}

func begin(l *blocklist.List) *follower {
	f := &follower{known: map[verifier.BlockKey]bool{}}
	f.take(l.Snapshot())
	return f
}

func (f *follower) take(changes ...blocklist.Change) {
	for _, c := range changes {
		for e := range c.Entries.All() {
			f.known[e.Key] = true
			f.told++
		}
		f.cursor = c.Cursor
	}
}

func (f *follower) catchUp(t *testing.T, l *blocklist.List) <-chan struct{} {
	t.Helper()
	changes, next, err := l.Since(t.Context(), f.cursor)
	must(t, err)
	f.take(changes...)
	return next
}

func TestSince(t *testing.T) {
	t.Run("ok/from memory", func(t *testing.T) {
		s := open(t)
		l := synced(t, s)
		f := begin(l)
		next := f.catchUp(t, l)
		a := block(t, s, "a")
		must(t, l.Sync(t.Context()))
		<-next
		b := block(t, s, "b")
		must(t, l.Sync(t.Context()))
		s.fail(errors.New("nobody asks the database"))
		f.catchUp(t, l)
		if !f.known[a] || !f.known[b] || f.told != 2 {
			t.Errorf("told %d entries: a %t, b %t", f.told, f.known[a], f.known[b])
		}
	})
	t.Run("ok/of another replica", func(t *testing.T) {
		s := open(t)
		block(t, s, "old")
		mine, other := synced(t, s), synced(t, s)
		a := block(t, s, "a")
		must(t, other.Sync(t.Context()))
		f := begin(other)
		b := block(t, s, "b")
		f.catchUp(t, mine) // which has read neither
		must(t, mine.Sync(t.Context()))
		f.catchUp(t, mine)
		if !f.known[a] || !f.known[b] {
			t.Errorf("told of a: %t, of b: %t", f.known[a], f.known[b])
		}
	})
	t.Run("ok/of another replica, while this one reads", func(t *testing.T) {
		s := open(t)
		mine, other := synced(t, s), synced(t, s)
		block(t, s, "a")
		must(t, other.Sync(t.Context()))
		f := begin(other)
		must(t, mine.Sync(t.Context()))
		block(t, s, "b")
		must(t, mine.Sync(t.Context()))
		mine = synced(t, s) // restarted: it remembers no cursor of the follower's
		block(t, s, "c")
		must(t, mine.Sync(t.Context()))
		var late verifier.BlockKey
		s.then = func() { // the table is read for the follower, then this replica comes to know more
			late = block(t, s, "late")
			must(t, mine.Sync(t.Context()))
		}
		next := f.catchUp(t, mine)
		<-next
		f.catchUp(t, mine)
		if !f.known[late] {
			t.Error("an entry was skipped")
		}
	})
	t.Run("ok/the table's cursor stands still", func(t *testing.T) {
		s := open(t)
		still := &standing{Store: s}
		mine, other := synced(t, still), synced(t, still)
		f, g := begin(mine), begin(other)
		var keys []verifier.BlockKey
		for i := range 3 {
			keys = append(keys, block(t, s, fmt.Sprint(i)))
			must(t, mine.Sync(t.Context()))
			f.catchUp(t, mine)
			if !f.known[keys[i]] {
				t.Errorf("entry %d was skipped", i)
			}
		}
		must(t, other.Sync(t.Context()))
		g.catchUp(t, mine) // a cursor of the other copy, at which more has been told here
		for i, key := range keys {
			if !g.known[key] {
				t.Errorf("entry %d was skipped by a follower that came from another replica", i)
			}
		}
	})
	t.Run("ok/older than what is remembered", func(t *testing.T) {
		s := open(t)
		l := synced(t, s)
		f := begin(l)
		for i := range 4200 { // more than are remembered
			block(t, s, fmt.Sprint(i))
			must(t, l.Sync(t.Context()))
		}
		middle := begin(l)
		last := block(t, s, "last")
		must(t, l.Sync(t.Context()))
		f.catchUp(t, l)
		middle.catchUp(t, l)
		if len(f.known) != 4201 || !middle.known[last] {
			t.Errorf("%d entries, the last one: %t", len(f.known), middle.known[last])
		}
	})
	for name, cursor := range map[string]string{
		"no cursor":         "",
		"nonsense":          "nonsense",
		"another history's": begin(synced(t, open(t))).cursor,
	} {
		t.Run("fail/"+name, func(t *testing.T) {
			if _, _, err := synced(t, open(t)).Since(t.Context(), cursor); !errors.Is(err, blocklist.ErrCursorGone) {
				t.Errorf("Since: %v, want ErrCursorGone", err)
			}
		})
	}
	t.Run("fail/the database does not answer", func(t *testing.T) {
		s := open(t)
		other := begin(synced(t, s))
		block(t, s, "a")
		l := synced(t, s)
		s.fail(errors.New("down"))
		if _, _, err := l.Since(t.Context(), other.cursor); err == nil || errors.Is(err, blocklist.ErrCursorGone) {
			t.Errorf("Since: %v, want a storage failure", err)
		}
	})
}

// A copy that was not loaded, or has not heard for longer than the bound, is not relied on.
func TestREV06_Fresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t)
		key := block(t, s, "a")
		l := blocklist.NewList(s, time.Now, slog.New(slog.DiscardHandler))
		down := errors.New("down")
		s.fail(down)
		if err := l.Fresh(t.Context()); !errors.Is(err, down) || !l.HeardAt().IsZero() {
			t.Errorf("before the first reading: %v, heard at %v", err, l.HeardAt())
		}
		s.fail(nil)
		must(t, l.Fresh(t.Context()))
		if !l.Set().Blocked([]verifier.BlockKey{key}, time.Now().Unix()) {
			t.Error("fresh without what was there")
		}
		s.fail(down)
		time.Sleep(blocklist.StalenessBound)
		must(t, l.Fresh(t.Context()))
		time.Sleep(time.Nanosecond)
		if err := l.Fresh(t.Context()); !errors.Is(err, down) {
			t.Errorf("beyond the bound: %v", err)
		}
		s.fail(nil)
		must(t, l.Fresh(t.Context()))
	})
}

// A clock that is set forward deletes nothing that could be needed once it is set back.
func TestREV05_DropUnderClockChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t)
		l := synced(t, s)
		key := block(t, s, "a") // over in 17 minutes
		must(t, l.Drop(t.Context(), time.Now().Add(24*time.Hour)))
		if !begin(synced(t, s)).known[key] {
			t.Error("dropped for a clock that was set forward")
		}
		time.Sleep(17 * time.Minute)
		must(t, l.Drop(t.Context(), time.Now()))
		if !begin(synced(t, s)).known[key] {
			t.Error("dropped in its last second")
		}
		time.Sleep(time.Second)
		must(t, l.Drop(t.Context(), time.Now()))
		if begin(synced(t, s)).known[key] {
			t.Error("still there when it is over")
		}
	})
}

// However many wait for a fresh list, the table is read once; and who comes later is told of a failure that is over.
func TestFreshAsksOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t)
		asked := &slow{Store: s, hold: make(chan struct{})}
		l := blocklist.NewList(asked, time.Now, slog.New(slog.DiscardHandler))
		wait := func(ctx context.Context, n int) chan error {
			outcomes := make(chan error, n)
			for range n {
				go func() { outcomes <- l.Fresh(ctx) }()
			}
			synctest.Wait()
			return outcomes
		}
		gone, leave := context.WithCancel(t.Context())
		first := wait(gone, 1)
		all := wait(t.Context(), 100)
		leave() // whoever asked first does not take the others along
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("who has left: %v", err)
		}
		close(asked.hold)
		for range cap(all) {
			must(t, <-all)
		}
		if n := asked.n.Load(); n != 1 {
			t.Errorf("100 who waited made %d queries", n)
		}

		down := errors.New("down")
		s.fail(down)
		asked.hold = make(chan struct{})
		time.Sleep(2 * blocklist.StalenessBound)
		all = wait(t.Context(), 100)
		close(asked.hold)
		for range cap(all) {
			if err := <-all; !errors.Is(err, down) {
				t.Errorf("%v, want the failure", err)
			}
		}
		if n := asked.n.Load(); n != 2 {
			t.Errorf("100 who waited made %d queries", n-1)
		}
		s.fail(nil)
		must(t, l.Fresh(t.Context()))
	})
}

// slow is a table whose readings are held up, and counted.
type slow struct {
	blocklist.Store
	hold chan struct{}
	n    atomic.Int64
}

func (s *slow) BlocklistChanges(ctx context.Context, cursor string) (blocklist.Changes, error) {
	s.n.Add(1)
	<-s.hold
	return s.Store.BlocklistChanges(ctx, cursor)
}
