package feed

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// growing is a table that has so many entries more at each reading as next says.
type growing struct {
	blocklist.Store
	n, next int
}

func (g *growing) BlocklistChanges(context.Context, string) (blocklist.Changes, error) {
	var entries []blocklist.Entry
	for range g.next {
		g.n++
		var key verifier.BlockKey
		binary.BigEndian.PutUint64(key[:], uint64(g.n))
		entries = append(entries, blocklist.Entry{Key: key, NotBefore: time.Now(), DropAfter: time.Now().Add(time.Hour)})
	}
	g.next = 0
	return blocklist.Changes{Entries: entries, Cursor: fmt.Sprint("c", g.n)}, nil
}

// room is a room over a table of so many entries, and how to add one more.
func room(t *testing.T, entries int) (r *Room, more func()) {
	t.Helper()
	table := &growing{next: entries}
	r = &Room{Door: door.New(door.Config{Issuer: "https://issuer.example"})}
	r.Blocklist = blocklist.NewList(table, time.Now, slog.New(slog.DiscardHandler))
	more = func() {
		t.Helper()
		if err := r.Blocklist.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		table.next = 1
	}
	more()
	return r, more
}

func TestSnapshotIsMadeOnce(t *testing.T) {
	for name, entries := range map[string]int{"ok/small": 100, "ok/large": largeSnapshot} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, _ := room(t, entries)
				s := &r.snapshots
				first := s.take(r.Blocklist)
				plain, _, err := first.body(t.Context(), r, false, false)
				if err != nil {
					t.Fatal(err)
				}
				squeezed, compressed, err := first.body(t.Context(), r, false, true)
				if err != nil || !compressed || len(squeezed) >= len(plain) {
					t.Errorf("%v, %t, %d of %d bytes", err, compressed, len(squeezed), len(plain))
				}
				for range 10 {
					again := s.take(r.Blocklist)
					if body, _, _ := again.body(t.Context(), r, false, false); &body[0] != &plain[0] {
						t.Error("encoded once more")
					}
					if body, _, _ := again.body(t.Context(), r, false, true); &body[0] != &squeezed[0] {
						t.Error("compressed once more")
					}
				}
				time.Sleep(snapshotAge)
				if s.take(r.Blocklist) == first {
					t.Error("as_of grows old")
				}
			})
		})
	}
}

// A small list is always given as it is. A large one is made anew once a second at most, and not at all while slow readers hold
// many of before.
func TestSnapshotOfAChangedList(t *testing.T) {
	t.Run("ok/small", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, more := room(t, 100)
			for i := range 20 {
				if n := r.snapshots.take(r.Blocklist).change; n.Entries.Len() != 100+i || n.Cursor != r.Blocklist.Cursor() {
					t.Fatalf("%d entries at %s", n.Entries.Len(), n.Cursor)
				}
				more()
			}
		})
	})
	t.Run("ok/large", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, more := room(t, largeSnapshot)
			s := &r.snapshots
			documents := map[*snapshot]bool{}
			var held []*snapshot
			take := func() *snapshot {
				n := s.take(r.Blocklist)
				documents[n], held = true, append(held, n)
				return n
			}
			take()
			more()
			if take(); len(documents) != 1 {
				t.Error("made anew within the second")
			}
			for range 4 * maxSnapshots {
				time.Sleep(snapshotAge)
				more()
				take()
			}
			if len(documents) != maxSnapshots+1 {
				t.Errorf("%d documents are in the hands of slow readers, want %d", len(documents), maxSnapshots+1)
			}
			for _, n := range held {
				s.giveBack(n)
			}
			if n := take(); n.change.Cursor != r.Blocklist.Cursor() {
				t.Error("an old document, and nobody reads the others any more")
			}
			if s.held != 0 {
				t.Errorf("%d are counted as held", s.held)
			}
		})
	})
}
