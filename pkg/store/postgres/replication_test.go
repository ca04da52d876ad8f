package postgres

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/store/postgres/pgtest"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// TestTM04_TM05_Failover has a standby take over from a primary that is gone for good.
func TestTM04_TM05_Failover(t *testing.T) {
	t.Parallel()
	primary := pgtest.NewCluster(t)
	standby := primary.Standby()
	db := openURL(t, "postgres://postgres@"+primary.Host()+","+standby.Host()+"/postgres?sslmode=disable")
	must(t, db.Migrate(t.Context()))
	_, s := login(t, db)
	must(t, db.Block(t.Context(), blocklist.NewEntry(verifier.BlockJTI, "before", noon()), event()))
	changes, err := db.BlocklistChanges(t.Context(), "")
	must(t, err)
	caughtUp(t, primary, standby)

	// The standby takes no writes, and nobody is told that it is fine.
	if err := openURL(t, standby.URL()).Ping(t.Context()); err == nil {
		t.Error("a standby answers Ping")
	}
	reader := openURL(t, standby.URL()+"&target_session_attrs=any")
	if err := reader.Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("Ping on a standby: %v", err)
	}
	if got, err := reader.Rotate(t.Context(), []session.Rotation{rotation(s)}); err == nil {
		t.Errorf("rotated on a standby: %+v", got)
	}

	primary.Crash()
	if _, err := db.Rotate(t.Context(), []session.Rotation{rotation(s)}); err == nil {
		t.Error("rotated on a server that is gone")
	}
	standby.Promote()
	promoted := time.Now()
	var got []*session.Session
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for got == nil {
		if got, err = db.Rotate(ctx, []session.Rotation{rotation(s)}); ctx.Err() != nil {
			t.Fatalf("not recovered: %v", err)
		}
	}
	if took := time.Since(promoted); took > 5*time.Second {
		t.Errorf("recovered after %s, want 5 s", took)
	}
	if got[0] == nil || got[0].Generation != 2 {
		t.Errorf("rotated %+v", got[0])
	}

	for db.Ping(ctx) != nil { // refreshes have connections of their own: the others find out for themselves that theirs are dead
		if ctx.Err() != nil {
			t.Fatal("not recovered")
		}
	}

	// Transaction numbers of the new history may be lower than what readers have seen.
	if _, err := db.BlocklistChanges(t.Context(), changes.Cursor); !errors.Is(err, blocklist.ErrCursorGone) {
		t.Errorf("a cursor of before the failover: %v, want ErrCursorGone", err)
	}
	after, err := db.BlocklistChanges(t.Context(), "")
	must(t, err)
	if len(after.Entries) != 1 {
		t.Errorf("%d entries, want 1", len(after.Entries))
	}

	// A commit that should wait for a standby, and none is there: the server gives up waiting and reports success.
	standby.Set("synchronous_standby_names", "nobody")
	single := openURL(t, standby.URL()+"&pool_max_conns=1")
	outcome := make(chan error, 1)
	go func() {
		_, err := single.EndSession(t.Context(), s.ID, endFor(session.ReasonLogout))
		outcome <- err
	}()
	admin := connect(t, standby.URL())
	for canceled := false; !canceled; {
		must(t, admin.QueryRow(t.Context(), `SELECT COALESCE(bool_or(pg_cancel_backend(pid)), false), pg_sleep(0.01)::text
			FROM pg_stat_activity
			WHERE wait_event = 'SyncRep'`).Scan(&canceled, nil))
	}
	if err := <-outcome; !errors.Is(err, errUncertain) {
		t.Errorf("EndSession: %v, want an unknown outcome", err)
	}
	must(t, single.Ping(t.Context())) // the next statement on the connection is certain again
}

// caughtUp returns when the standby has everything that the primary has.
func caughtUp(t *testing.T, primary, standby *pgtest.Cluster) {
	t.Helper()
	var lsn string
	must(t, connect(t, primary.URL()).QueryRow(t.Context(), "SELECT pg_current_wal_lsn()::text").Scan(&lsn))
	c := connect(t, standby.URL())
	for range 1000 {
		var there bool
		err := c.QueryRow(t.Context(), "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn, pg_sleep(0.01)::text", lsn).Scan(&there,
			nil)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			t.Fatal(err)
		}
		if there {
			return
		}
	}
	t.Fatal("the standby does not follow")
}
