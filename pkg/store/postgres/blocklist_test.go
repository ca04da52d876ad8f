package postgres

import (
	"encoding/base64"
	"encoding/binary"
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
// after every step. The reader learns of each entry by the first reading after its commit.
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
			read() // what was written while another transaction was open may have been repeated until now
			if changes := read(); len(changes.Entries) != 0 {
				t.Errorf("%d entries are told for ever", len(changes.Entries))
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
	raw := binary.BigEndian.AppendUint64([]byte{cursorVersion, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 1<<63)
	for name, text := range map[string]string{
		"another cluster":   other(func(c *cursor) { c.system++ }),
		"another timeline":  other(func(c *cursor) { c.timeline++ }),
		"from the future":   other(func(c *cursor) { c.xmin += 1000 }),
		"another version":   "AA" + changes.Cursor[2:],
		"too large":         base64.RawURLEncoding.EncodeToString(raw),
		"cut short":         changes.Cursor[:24],
		"too long":          changes.Cursor + "AAAA",
		"another alphabet":  changes.Cursor[:27] + "+",
		"with a line break": changes.Cursor[:10] + "\n" + changes.Cursor[10:],
		"nonsense":          "'; DROP TABLE blocklist; --",
		"NUL":               "\x00",
	} {
		if _, err := db.BlocklistChanges(t.Context(), text); !errors.Is(err, blocklist.ErrCursorGone) {
			t.Errorf("%s: %v, want ErrCursorGone", name, err)
		}
	}
}

func FuzzCursor(f *testing.F) {
	f.Add(cursor{system: -1, timeline: 1, xmin: 700}.String())
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		if c, ok := parseCursor(s); ok && c.String() != s {
			t.Errorf("%q is a second spelling of %q", s, c)
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
		must(t, conn.QueryRow(t.Context(), `WITH ended AS (SELECT $1::uuid AS id) SELECT `+blockKey+` FROM ended`, [16]byte(id)).Scan(&key))
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
		tag, err := admin.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'`)
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
