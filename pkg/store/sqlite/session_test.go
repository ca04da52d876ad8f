package sqlite_test

import (
	"crypto/rand"
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/store/sqlite"
	"github.com/handstamp/handstamp/pkg/user"
)

// BenchmarkRotate rotates sessions, alone and so many in one call, next to the least that a database could do: the same number of
// bare updates of one column in one transaction. The metric is rows per second.
func BenchmarkRotate(b *testing.B) {
	const sessions = 10_000
	path := filepath.Join(b.TempDir(), "handstamp.db")
	db, err := sqlite.Open(b.Context(), sqlite.Prefix+path)
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	if err := db.Migrate(b.Context()); err != nil {
		b.Fatal(err)
	}
	rows := startSessions(b, db, sessions)

	bare, err := sql.Open("sqlite", "file:"+path+"?_synchronous=FULL&_busy_timeout=5000&_txlock=immediate")
	if err != nil {
		b.Fatal(err)
	}
	defer bare.Close()
	bare.SetMaxOpenConns(1)
	if _, err := bare.Exec(`CREATE TABLE bare (id INTEGER PRIMARY KEY, generation INTEGER NOT NULL, rest TEXT NOT NULL) STRICT;
		WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 9999)
		INSERT INTO bare SELECT i, 1, printf('%400d', i) FROM n`); err != nil {
		b.Fatal(err)
	}
	update, err := bare.Prepare(`UPDATE bare SET generation = generation + 1 WHERE id = ?`)
	if err != nil {
		b.Fatal(err)
	}
	defer update.Close()

	for _, size := range []int{1, 8, 64} {
		next := 0
		b.Run(fmt.Sprintf("rotate=%d", size), func(b *testing.B) {
			b.ReportAllocs()
			batch := make([]session.Rotation, size)
			for b.Loop() {
				for i := range batch {
					row := &rows[(next+i)%len(rows)]
					batch[i] = session.Rotation{
						ID: row.ID, Nonce: row.Nonce, ClientID: row.ClientID, From: row.Generation, To: row.Generation + 1,
						At: row.RotatedAt, IdleExpiresAt: row.IdleExpiresAt.Add(time.Second),
					}
				}
				got, err := db.Rotate(b.Context(), batch)
				if err != nil {
					b.Fatal(err)
				}
				for i, g := range got {
					if g == nil {
						b.Fatal("not rotated")
					}
					rows[(next+i)%len(rows)].Generation++
				}
				next += size
			}
			b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "rows/s")
		})
		b.Run(fmt.Sprintf("bare=%d", size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				tx, err := bare.Begin()
				if err != nil {
					b.Fatal(err)
				}
				stmt := tx.Stmt(update) //nolint:sqlclosecheck // closed with the transaction
				for range size {
					if _, err := stmt.Exec(next % sessions); err != nil {
						b.Fatal(err)
					}
					next++
				}
				if err := tx.Commit(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// startSessions starts sessions of one user as a browser has them.
func startSessions(tb testing.TB, db *sqlite.DB, n int) []session.Session {
	tb.Helper()
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	u := user.User{ID: user.NewID(at), Email: "u@example.test", Roles: []string{"member"}, CreatedAt: at, UpdatedAt: at}
	if err := db.CreateUser(tb.Context(), u, audit.Event{At: at, Kind: audit.KindUserCreated, UserID: u.ID}); err != nil {
		tb.Fatal(err)
	}
	rows := make([]session.Session, n)
	for i := range rows {
		s := session.Session{
			ID: session.NewID(at.Add(time.Duration(i) * time.Millisecond)), UserID: u.ID, ClientID: oauth.DefaultClientID, Generation: 1,
			RotatedAt:     at,
			IdleExpiresAt: at.Add(time.Hour),
			ExpiresAt:     at.Add(24 * time.Hour),
			Scope:         "openid",
			AMR:           []string{"pwd"},
			AuthTime:      at,
			UserAgent:     "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0.0.0 Safari/537.36",
			IP:            "192.0.2.1", CreatedAt: at,
		}
		rand.Read(s.Nonce[:])
		started, err := db.Start(tb.Context(), session.Start{
			Session: s,
			Event:   audit.Event{At: at, Kind: audit.KindLoggedIn, UserID: u.ID},
		})
		if err != nil || !started.Created {
			tb.Fatal(started, err)
		}
		rows[i] = s
	}
	return rows
}
