package sqlstore_test

import (
	"database/sql"
	"path/filepath"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/handstamp/handstamp/pkg/bff"
	"github.com/handstamp/handstamp/pkg/bff/bfftest"
	"github.com/handstamp/handstamp/pkg/bff/sqlstore"
	"github.com/handstamp/handstamp/pkg/store/postgres/pgtest"
)

func TestSQLite(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "app.db")
	bfftest.TestStore(t, opener("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)"), false)
}

func TestPostgreSQL(t *testing.T) {
	t.Parallel()
	bfftest.TestStore(t, opener("pgx", pgtest.URL(t)), false)
}

// opener opens a database once more at each call.
func opener(driver, address string) func(t *testing.T) bff.Store {
	return func(t *testing.T) bff.Store {
		t.Helper()
		db, err := sql.Open(driver, address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		store := sqlstore.New(db)
		for range 2 {
			if err := store.CreateTables(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		return store
	}
}
