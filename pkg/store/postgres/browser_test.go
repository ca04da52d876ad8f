package postgres

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/handstamp/handstamp/pkg/audit"
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
		_, err := db.BeginLogin(ctx, user.Try{Email: u.Email, IP: "192.0.2.1", At: noon()}, user.Throttle{Burst: 5, Every: time.Minute})
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
		at := rotation(s).At
		child, err := db.Fork(ctx, session.Fork{
			Parent:     s.ID,
			Nonce:      s.Nonce,
			ClientID:   s.ClientID,
			Generation: s.Generation + 1,
			At:         at,
			ID:         session.NewID(at),
			Limit:      5,
			BlockUntil: at,
			Event:      audit.Event{At: at, UserID: u.ID},
		})
		must(t, err)
		if child == nil {
			t.Error("the session was not forked")
		}
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

// TestEndedSessionsCostNothing fails if a statement that looks for the sessions of a user reads those that have ended.
func TestEndedSessionsCostNothing(t *testing.T) {
	url := pgtest.URL(t)
	db := openURL(t, url+"&pool_max_conns=1")
	must(t, db.Migrate(t.Context()))
	const ended = 20_000
	seed(t, url, ended)
	ctx, c := t.Context(), connect(t, url)
	_, err := c.Exec(ctx, `UPDATE sessions SET revoked_at = created_at, revoke_reason = 'logout'`)
	must(t, err)
	_, err = c.Exec(ctx, `VACUUM ANALYZE sessions`)
	must(t, err)
	seeded, err := db.UserByID(ctx, "usr_seeded")
	must(t, err)
	read := func() (n int64) {
		_, err := db.pool.Exec(ctx, "SELECT pg_stat_force_next_flush()")
		must(t, err)
		must(t, db.pool.QueryRow(ctx, `SELECT idx_tup_fetch + seq_tup_read FROM pg_stat_user_tables
			WHERE relname = 'sessions'`).Scan(&n))
		return n
	}
	var s session.Session
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"start", func() error {
			start := startFor(seeded, session.NewID(noon()))
			start.PasswordHash, s = "", start.Session
			_, err := db.Start(ctx, start)
			return err
		}},
		{"attempt", func() error {
			_, err := db.BeginLogin(ctx, user.Try{Email: seeded.Email, IP: "192.0.2.99", At: noon()},
				user.Throttle{Burst: 5, Every: time.Minute})
			return err
		}},
		{"list", func() error { _, err := db.Sessions(ctx, seeded.ID, noon()); return err }},
		{"roles", func() error { return db.SetRoles(ctx, seeded.ID, []string{"another"}, endFor("")) }},
		{"end all others", func() error {
			_, err := db.EndSessions(ctx, seeded.ID, s.ID, endFor(session.ReasonLogoutAll))
			return err
		}},
		{"password", func() error {
			_, err := db.SetPassword(ctx, seeded.ID, "hash", "another", endFor(session.ReasonPasswordChange))
			return err
		}},
	} {
		before := read()
		must(t, step.do())
		if n := read() - before; n > 100 {
			t.Errorf("%s read %d rows of sessions", step.what, n)
		}
	}
}
