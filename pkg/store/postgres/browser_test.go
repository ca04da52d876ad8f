package postgres

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/store/postgres/pgtest"
	"github.com/handstamp/handstamp/pkg/store/storetest"
	"github.com/handstamp/handstamp/pkg/user"
)

// TestBrowserQueryPlans fails if a statement of the browser flow reads a table from end to end. The tables are all but
// empty, which is when a planner left alone would choose to.
func TestBrowserQueryPlans(t *testing.T) {
	db := openURL(t, pgtest.URL(t)+"&pool_max_conns=1") // one connection, whose statistics are complete when it says so
	must(t, db.Migrate(t.Context()))
	noScans(t, db, func() { storetest.ExerciseBrowser(t, db) })
}

// TestLoginQueryPlans is the same for a login by password, a refresh, a token check and a logout.
func TestLoginQueryPlans(t *testing.T) {
	db := openURL(t, pgtest.URL(t)+"&pool_max_conns=1")
	must(t, db.Migrate(t.Context()))
	noScans(t, db, func() {
		ctx := t.Context()
		u, s := login(t, db)
		_, err := db.BeginLogin(ctx, u.Email, "192.0.2.1", noon(), user.Throttle{Burst: 5, Every: time.Minute})
		must(t, err)
		_, err = db.UserByEmail(ctx, u.Email)
		must(t, err)
		_, err = db.UserByID(ctx, u.ID)
		must(t, err)
		_, err = db.Session(ctx, s.ID)
		must(t, err)
		_, err = db.Sessions(ctx, u.ID, noon())
		must(t, err)
		_, err = db.Rotate(ctx, []session.Rotation{rotation(s)})
		must(t, err)
		_, err = db.EndSession(ctx, s.ID, endFor(session.ReasonLogout))
		must(t, err)
	})
}

// noScans fails if work on a database of one connection reads a table from end to end.
func noScans(t *testing.T, db *DB, work func()) {
	t.Helper()
	scans := func() map[string]int64 {
		_, err := db.pool.Exec(t.Context(), "SELECT pg_stat_force_next_flush()")
		must(t, err)
		rows, err := db.pool.Query(t.Context(), `SELECT relname, seq_scan FROM pg_stat_user_tables`)
		must(t, err)
		out := map[string]int64{}
		var name string
		var n int64
		_, err = pgx.ForEachRow(rows, []any{&name, &n}, func() error { out[name] = n; return nil })
		must(t, err)
		return out
	}
	// The connection that migrated counts until it is gone, and goes after Migrate has returned.
	for others := 1; others > 0; {
		must(t, db.pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()`).Scan(&others))
	}
	before := scans()
	work()
	for name, n := range scans() {
		if n > before[name] {
			t.Errorf("%s was read from end to end %d times", name, n-before[name])
		}
	}
}
