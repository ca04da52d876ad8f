package postgres

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/handstamp/handstamp/pkg/store/postgres/pgtest"
	"github.com/handstamp/handstamp/pkg/store/storetest"
)

// TestBrowserQueryPlans fails if a statement of the browser flow reads a table from end to end. The tables are all but empty, which is when
// a planner left alone would choose to.
func TestBrowserQueryPlans(t *testing.T) {
	db := openURL(t, pgtest.URL(t)+"&pool_max_conns=1") // one connection, whose statistics are complete when it says so
	must(t, db.Migrate(t.Context()))
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
	before := scans()
	storetest.ExerciseBrowser(t, db)
	for name, n := range scans() {
		if n > before[name] {
			t.Errorf("%s was read from end to end %d times", name, n-before[name])
		}
	}
}
