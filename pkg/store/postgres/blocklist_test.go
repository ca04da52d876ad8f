package postgres

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/store/postgres/pgtest"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// writer is a transaction that has written an entry and is still open.
type writer struct {
	tx  pgx.Tx
	key verifier.BlockKey
}

func begin(t *testing.T, url, name string) writer {
	t.Helper()
	tx, err := connect(t, url).Begin(t.Context())
	must(t, err)
	w := writer{tx: tx, key: verifier.KeyOf(verifier.BlockJTI, name)}
	_, err = tx.Exec(t.Context(), insertEntries+` VALUES ($1, 1, 2) `+largerEntry, w.key[:])
	must(t, err)
	return w
}

// TestFeedInEveryCommitOrder has three transactions write, in this order, and commit in each possible order, while a reader reads
// after every step. The reader learns of each entry by the first reading after its commit, and not again.
func TestFeedInEveryCommitOrder(t *testing.T) {
	db, url := open(t)
	must(t, db.Block(t.Context(), blocklist.NewEntry(verifier.BlockJTI, "before", noon()), event()))
	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			known := map[verifier.BlockKey]bool{}
			var cursor string
			read := func() blocklist.Changes {
				t.Helper()
				changes, err := db.BlocklistChanges(t.Context(), cursor)
				must(t, err)
				for _, e := range changes.Entries {
					if known[e.Key] {
						t.Errorf("entry %x is told again", e.Key)
					}
					known[e.Key] = true
				}
				cursor = changes.Cursor
				return changes
			}
			if !read().Snapshot || !known[verifier.KeyOf(verifier.BlockJTI, "before")] {
				t.Fatal("the first reading is not everything")
			}
			var writers []writer
			for i := range 3 {
				writers = append(writers, begin(t, url, fmt.Sprint(order, i)))
				if changes := read(); changes.Snapshot || len(changes.Entries) != 0 {
					t.Errorf("read %d entries that nobody has committed", len(changes.Entries))
				}
			}
			for _, i := range order {
				must(t, writers[i].tx.Commit(t.Context()))
				read()
				for j, w := range writers {
					committed := false
					for _, done := range order {
						committed = committed || done == j
						if done == i {
							break
						}
					}
					if known[w.key] != committed {
						t.Errorf("after %d: entry %d is known: %t", i, j, known[w.key])
					}
				}
			}
		})
	}
}

func TestFeedTellsOfChangedEntries(t *testing.T) {
	db, _ := open(t)
	entry := blocklist.NewEntry(verifier.BlockJTI, "x", noon())
	must(t, db.Block(t.Context(), entry, event()))
	first, err := db.BlocklistChanges(t.Context(), "")
	must(t, err)
	entry.DropAfter = noon().Add(time.Hour)
	must(t, db.Block(t.Context(), entry, event()))
	second, err := db.BlocklistChanges(t.Context(), first.Cursor)
	must(t, err)
	if len(second.Entries) != 1 || second.Entries[0] != entry {
		t.Errorf("changes: %+v, want the changed entry", second.Entries)
	}
}

func TestCursor(t *testing.T) {
	db, _ := open(t)
	changes, err := db.BlocklistChanges(t.Context(), "")
	must(t, err)
	c, ok := parseCursor(changes.Cursor)
	if !ok || c.String() != changes.Cursor {
		t.Fatalf("cursor %q is read as %+v", changes.Cursor, c)
	}
	other := func(change func(*cursor)) string {
		c := c
		change(&c)
		return c.String()
	}
	for name, text := range map[string]string{
		"another history": other(func(c *cursor) { c.history[7]++ }),
		"from the future": other(func(c *cursor) { c.snapshot.xmax += 1000 }),
		"another version": "AA" + changes.Cursor[2:],
		"too large":       other(func(c *cursor) { c.snapshot.xmin, c.snapshot.xmax = 1<<63, 1<<63 }),
		"overflow":        other(func(c *cursor) { c.snapshot.xmax = c.snapshot.xmin + 1<<63 - 1 }),
		"zero":            other(func(c *cursor) { c.snapshot.xmin = 0 }),
		"half zero":       other(func(c *cursor) { c.snapshot.xmin, c.snapshot.xmax = 1<<32, 1<<32 }),
		"running outside": other(func(c *cursor) { c.snapshot.running = []uint64{c.snapshot.xmax} }),
		"running twice": other(func(c *cursor) {
			c.snapshot.xmin--
			c.snapshot.running = []uint64{c.snapshot.xmin,
				c.snapshot.xmin}
		}),
		"too many running":  other(func(c *cursor) { c.snapshot = many(maxRunning + 1) }),
		"cut short":         changes.Cursor[:12],
		"too long":          changes.Cursor + "AAAA",
		"another alphabet":  changes.Cursor[:len(changes.Cursor)-1] + "+",
		"with a line break": changes.Cursor[:10] + "\n" + changes.Cursor[10:],
		"nonsense":          "'; DROP TABLE blocklist; --",
		"NUL":               "\x00",
	} {
		if _, err := db.BlocklistChanges(t.Context(), text); !errors.Is(err, blocklist.ErrCursorGone) {
			t.Errorf("%s: %v, want ErrCursorGone", name, err)
		}
	}
}

// many is a snapshot with every second of 2n transactions running.
func many(n int) snapshot {
	s := snapshot{xmin: 1000, xmax: 1000 + 2*uint64(n)} //nolint:gosec // not negative
	for i := range s.xmax - s.xmin {
		if i%2 == 0 {
			s.running = append(s.running, s.xmin+i)
		}
	}
	return s
}

func TestSnapshot(t *testing.T) {
	conn := connect(t, pgtest.URL(t))
	for _, s := range []snapshot{{xmin: 1, xmax: 1}, {xmin: 5, xmax: 5}, {xmin: 5, xmax: 9, running: []uint64{5}}, {
		xmin:    1<<40 + 3,
		xmax:    1<<40 + 9,
		running: []uint64{1<<40 + 3, 1<<40 + 8},
	}, many(maxRunning)} {
		// The server reads what we write, and we read what it writes.
		var text string
		must(t, conn.QueryRow(t.Context(), "SELECT $1::text::pg_snapshot::text", s.String()).Scan(&text))
		got, err := parseSnapshot(text)
		must(t, err)
		c, ok := parseCursor(cursor{snapshot: got}.String())
		if text != s.String() || got.String() != s.String() || !ok || c.snapshot.String() != s.String() {
			t.Errorf("%s is read as %s and %s, and from a cursor as %s", s, text, got, c.snapshot)
		}
	}
	got, err := parseSnapshot(many(maxRunning + 1).String())
	must(t, err)
	if want := (snapshot{xmin: 1000, xmax: 1000}); got.String() != want.String() {
		t.Errorf("with too many running transactions: %s, want %s", got, want)
	}
	for _, text := range []string{"", "1", "1:2", "1:2:3:4", "a:2:", "1:-2:", "1:2:,", "1:99999999999999999999:"} {
		if s, err := parseSnapshot(text); err == nil {
			t.Errorf("%q is read as %s", text, s)
		}
	}
}

func FuzzCursor(f *testing.F) {
	f.Add(cursor{snapshot: many(3)}.String())
	f.Add(cursor{snapshot: snapshot{xmin: 7, xmax: 9}}.String())
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		c, ok := parseCursor(text)
		if !ok {
			return
		}
		if c.String() != text {
			t.Errorf("%q is a second spelling of %q", text, c)
		}
		if s, err := parseSnapshot(c.snapshot.String()); err != nil || s.String() != c.snapshot.String() {
			t.Errorf("%q holds the snapshot %s, which is read as %s: %v", text, c.snapshot, s, err)
		}
	})
}

// TestSIDKey holds the key that SQL computes against the one that verifiers compute.
func TestSIDKey(t *testing.T) {
	conn := connect(t, pgtest.URL(t))
	for i := range 200 {
		id := session.NewID(noon().Add(time.Duration(i) * time.Hour))
		if i < 2 {
			id = session.ID{}
			for b := range id {
				id[b] = byte(-i) //nolint:gosec // all zeros, all ones
			}
		}
		var key []byte
		must(t, conn.QueryRow(t.Context(), `WITH ended AS (SELECT $1::uuid AS id) SELECT `+blockKey+` FROM ended`,
			[16]byte(id)).Scan(&key))
		if verifier.BlockKey(key) != verifier.KeyOf(verifier.BlockSID, id.String()) {
			t.Fatalf("key of %s is %x", id, key)
		}
	}
}

func TestREV07_WaitAfterLostConnection(t *testing.T) {
	db, url := open(t)
	must(t, db.Wait(t.Context())) // connected
	admin := connect(t, url)
	for round := range 3 {
		heard := make(chan error, 1)
		go func() { heard <- db.Wait(t.Context()) }()
		must(t, db.Block(t.Context(), blocklist.NewEntry(verifier.BlockJTI, fmt.Sprint(round), noon()), event()))
		must(t, <-heard)

		go func() { heard <- db.Wait(t.Context()) }()
		tag, err := admin.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = `+
			`current_database() AND query LIKE 'LISTEN%'`)
		must(t, err)
		if tag.RowsAffected() != 1 {
			t.Fatalf("%d connections listen, want 1", tag.RowsAffected())
		}
		if err := <-heard; err == nil {
			t.Error("the lost connection was not told")
		}
		must(t, db.Wait(t.Context())) // connected again, which is news
	}
}
