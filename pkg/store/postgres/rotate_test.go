package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/store/postgres/pgtest"
)

// seed adds n sessions of one user, by SQL because the point is to have many. Session i has ID and nonce i.
func seed(t testing.TB, url string, n int) {
	t.Helper()
	c := connect(t, url)
	_, err := c.Exec(t.Context(), `INSERT INTO users (id, email, email_key, name, password_hash, roles, created_at, updated_at)
		VALUES ('usr_seeded', 'seeded@example.test', 'seeded@example.test', '', 'hash', '{member}', $1, $1)`, noon())
	must(t, err)
	_, err = c.Exec(t.Context(), `INSERT INTO sessions (id, user_id, client_id, generation, nonce, rotated_at,
		last_request_hash, idle_expires_at, expires_at,
			revoke_reason, scope, audience, roles, iat_floor, amr, acr, auth_time, user_agent, ip, created_at)
		SELECT lpad(to_hex(i), 32, '0')::uuid, 'usr_seeded', 'default', 1, decode(lpad(to_hex(i), 32, '0'), 'hex'), $1, NULL,
			$1::timestamptz + interval '7 days',
			$1::timestamptz + interval '30 days', '', 'openid profile', '{https://api.example.test}', '{member}', 1, '{pwd}', '', $1,
			'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0', '192.0.2.7', $1
		FROM generate_series(0, $2::int - 1) i`, noon(), n)
	must(t, err)
}

// seeded is the rotation of session i from a generation.
func seeded(i int, from uint32) session.Rotation {
	r := session.Rotation{
		ClientID:      "default",
		From:          from,
		To:            from + 1,
		At:            noon().Add(time.Minute),
		IdleExpiresAt: noon().Add(8 * 24 * time.Hour),
		RequestHash:   session.RequestHash{1},
	}
	for b := range 4 {
		r.ID[15-b] = byte(i >> (8 * b)) //nolint:gosec // the byte is meant
	}
	r.Nonce = session.Nonce(r.ID)
	return r
}

// rotate fails if one of the rotations does.
func rotate(t testing.TB, db *DB, batch []session.Rotation) {
	t.Helper()
	got, err := db.Rotate(t.Context(), batch)
	must(t, err)
	if i := slices.Index(got, nil); i >= 0 {
		t.Fatalf("rotation %d of %d failed", i, len(got))
	}
}

// TestPlans pins how the hot statements find their rows, on connections as the store makes them. The plans are made when all
// tables are still empty, which is when a planner left alone would choose to read them from end to end for ever after.
func TestPlans(t *testing.T) {
	db, _ := open(t)
	for name, c := range map[string]struct {
		sql  string
		args int
		want []string
	}{
		"one": {rotateOne, 9, []string{"Index Scan using sessions_pkey on sessions s", "Index Cond: (id = $1)"}},
		"many": {rotateMany, 9, []string{"Function Scan on r", "Index Scan using sessions_pkey on sessions s",
			"Index Cond: (id = r.id)"}},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := db.pool.Acquire(t.Context())
			must(t, err)
			defer conn.Release()
			_, err = conn.Exec(t.Context(), "PREPARE "+name+" AS "+c.sql)
			must(t, err)
			nulls := strings.TrimSuffix(strings.Repeat("NULL,", c.args), ",")
			rows, err := conn.Query(t.Context(), "EXPLAIN EXECUTE "+name+"("+nulls+")")
			must(t, err)
			lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
			must(t, err)
			plan := strings.Join(lines, "\n")
			for _, want := range c.want {
				if !strings.Contains(plan, want) {
					t.Errorf("the plan has no %q", want)
				}
			}
			for _, not := range []string{"Seq Scan", "Hash", "Merge", "Sort", "JIT"} {
				if strings.Contains(plan, not) {
					t.Errorf("the plan has a %s", not)
				}
			}
			// The requests come from the outermost loop, so rows are locked in the order of the requests.
			if c.want[0] == "Function Scan on r" && strings.Index(plan, "Function Scan on r") > strings.Index(plan, "Index Scan") {
				t.Error("the requests are not the outermost loop")
			}
			if t.Failed() {
				t.Log("\n" + plan)
			}
		})
	}
}

// TestRotationsStayInPlace counts what rotations write: one new version of the row on the row's page, no index entry,
// no growth. It has a server of its own: while a transaction of others is open, the server keeps old versions for it.
func TestRotationsStayInPlace(t *testing.T) {
	t.Parallel()
	const sessions, rounds, together = 10_000, 3, 64
	url := pgtest.NewCluster(t, "autovacuum = off").URL()
	db := openURL(t, url+"&pool_max_conns=1") // one connection, whose statistics are complete when it says so
	must(t, db.Migrate(t.Context()))
	seed(t, url, sessions)
	size := func() (table, indexes int64) {
		must(t, db.pool.QueryRow(t.Context(), `SELECT pg_relation_size('sessions'), pg_indexes_size('sessions')`).Scan(&table,
			&indexes))
		return table, indexes
	}
	table, indexes := size()

	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // not a secret
	for round := range rounds {
		for chosen := range slices.Chunk(random.Perm(sessions), together) {
			batch := make([]session.Rotation, len(chosen))
			for i, n := range chosen {
				batch[i] = seeded(n, uint32(round+1)) //nolint:gosec // small
			}
			rotate(t, db, batch)
		}
	}

	var updated, hot int64
	_, err := db.pool.Exec(t.Context(), "SELECT pg_stat_force_next_flush()")
	must(t, err)
	must(t, db.pool.QueryRow(t.Context(), `SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'sessions'`).
		Scan(&updated, &hot))
	if updated != sessions*rounds || hot != updated {
		t.Errorf("%d rotations made %d updates, %d of them heap-only", sessions*rounds, updated, hot)
	}
	if afterTable, afterIndexes := size(); afterTable != table || afterIndexes != indexes {
		t.Errorf("table and indexes have grown from %d and %d bytes to %d and %d", table, indexes, afterTable, afterIndexes)
	}
}

// hold locks a row on a connection of its own until release is called.
func hold(t *testing.T, url, sql string, args ...any) (conn *pgx.Conn, release func()) {
	t.Helper()
	c := connect(t, url)
	tx, err := c.Begin(t.Context())
	must(t, err)
	tag, err := tx.Exec(t.Context(), sql, args...)
	must(t, err)
	if tag.RowsAffected() != 1 {
		t.Fatalf("%d rows locked, want 1", tag.RowsAffected())
	}
	return c, func() { must(t, tx.Commit(t.Context())) }
}

const (
	holdSession = `SELECT FROM sessions WHERE id = $1 FOR UPDATE`
	holdUser    = `SELECT FROM users WHERE id = $1 FOR UPDATE`
)

// waitForWaiting returns when n connections to the database wait for a lock.
func waitForWaiting(t *testing.T, url string, n int) {
	t.Helper()
	c := connect(t, url)
	for range 1000 {
		var waiting int
		must(t, c.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND `+
			`wait_event_type = 'Lock'`).Scan(&waiting))
		if waiting == n {
			return
		}
		_, err := c.Exec(t.Context(), "SELECT pg_sleep(0.005)")
		must(t, err)
	}
	t.Fatalf("never were %d connections waiting for a lock", n)
}

// TestDeadlock makes a batch the victim of a deadlock: it has locked the first session and waits for the second, whose
// holder wants the first. The batch is undone and its rotations are made one by one. Who becomes the victim is the
// server's choice, made a second after somebody began to wait, so the test goes on until it has chosen the batch.
func TestDeadlock(t *testing.T) {
	t.Parallel()
	db, url := openPatient(t)
	_, a := login(t, db)
	_, b := login(t, db)
	if slices.Compare(a.ID[:], b.ID[:]) > 0 {
		a, b = b, a
	}
	for range 10 {
		other := connect(t, url)
		tx, err := other.Begin(t.Context())
		must(t, err)
		_, err = tx.Exec(t.Context(), holdSession, [16]byte(b.ID))
		must(t, err)

		var wg sync.WaitGroup
		wg.Go(func() {
			got, err := db.Rotate(t.Context(), []session.Rotation{rotation(b), rotation(a)})
			if err != nil || got[0] == nil || got[1] == nil {
				t.Errorf("rotated %v: %v", got, err)
				return
			}
			if got[0].ID != b.ID || got[1].ID != a.ID || got[0].Generation != b.Generation+1 {
				t.Errorf("rotated %+v", got)
			}
		})
		waitForWaiting(t, url, 1)
		tag, err := connect(t, url).Exec(t.Context(), holdSession+" SKIP LOCKED", [16]byte(a.ID))
		must(t, err)
		if tag.RowsAffected() != 0 {
			t.Error("rows are not locked in the order of their IDs")
		}
		_, err = tx.Exec(t.Context(), holdSession, [16]byte(a.ID)) // returns when the deadlock has been resolved
		must(t, tx.Rollback(t.Context()))
		wg.Wait()
		if err == nil || t.Failed() {
			return
		}
		if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != codeDeadlock {
			t.Fatal(err)
		}
		a.Generation++
		b.Generation++
	}
	t.Error("the batch was never the victim")
}

// TestHeldRow has somebody sit on one session of a batch. The others are rotated all the same.
func TestHeldRow(t *testing.T) {
	db, url := open(t)
	impatient := openURL(t, url+"&lock_timeout=50")
	_, a := login(t, db)
	_, b := login(t, db)
	_, release := hold(t, url, holdSession, [16]byte(b.ID))
	_, err := impatient.Rotate(t.Context(), []session.Rotation{rotation(a), rotation(b)})
	if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != codeLockNotAvailable {
		t.Errorf("Rotate: %v, want a lock timeout", err)
	}
	release()
	for id, want := range map[session.ID]uint32{a.ID: 2, b.ID: 1} {
		got, err := db.Session(t.Context(), id)
		must(t, err)
		if got.Generation != want {
			t.Errorf("generation %d, want %d", got.Generation, want)
		}
	}
}

func BenchmarkRotate(b *testing.B) {
	const sessions = 100_000
	db, url := open(b)
	seed(b, url, sessions)
	generation := make([]uint32, sessions)
	for i := range generation {
		generation[i] = 1
	}
	for _, size := range []int{1, 8, 32, 64} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			b.ReportAllocs()
			batch := make([]session.Rotation, size)
			for b.Loop() {
				first := rand.IntN(sessions) //nolint:gosec // not a secret
				for i := range batch {
					n := (first + i*7919) % sessions
					batch[i] = seeded(n, generation[n])
					generation[n]++
				}
				rotate(b, db, batch)
			}
			b.ReportMetric(float64(size*b.N)/b.Elapsed().Seconds(), "rotations/s")
		})
	}
}

// TestRefreshesHaveTheirOwnConnections takes every connection that there is for anything else: refreshes go on.
func TestRefreshesHaveTheirOwnConnections(t *testing.T) {
	db, _ := open(t)
	u, s := login(t, db)
	var held []*pgxpool.Conn
	for range db.pool.Config().MaxConns {
		c, err := db.pool.Acquire(t.Context())
		must(t, err)
		held = append(held, c)
	}
	defer func() {
		for _, c := range held {
			c.Release()
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	got, err := db.Rotate(ctx, []session.Rotation{rotation(s)})
	must(t, err)
	if got[0] == nil {
		t.Fatal("not rotated")
	}
	again := rotation(*got[0])
	_, err = db.Rotate(ctx, []session.Rotation{again, again})
	must(t, err)
	_, err = db.Repeat(ctx, again)
	must(t, err)
	_, err = db.Session(ctx, s.ID)
	must(t, err)
	waiting, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	if _, err := db.UserByID(waiting, u.ID); err == nil {
		t.Error("there was a connection for something else, and nothing was tested")
	}
}
