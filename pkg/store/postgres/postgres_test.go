package postgres

import (
	"testing"

	"github.com/handstamp/handstamp/pkg/store/postgres/pgtest"
)

// open returns a migrated database.
func open(t testing.TB) *DB {
	t.Helper()
	return openURL(t, pgtest.URL(t), true)
}

func openURL(t testing.TB, url string, migrate bool) *DB {
	t.Helper()
	db, err := Open(t.Context(), url, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	if migrate {
		if err := db.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return db
}
