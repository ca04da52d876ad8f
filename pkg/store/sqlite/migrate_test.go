package sqlite_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"testing"

	"github.com/pressly/goose/v3"

	"github.com/handstamp/handstamp/migrations"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/store/sqlite"
	"github.com/handstamp/handstamp/pkg/store/storetest"
)

func TestMigrateEmailSpellings(t *testing.T) {
	path := filepath.Join(t.TempDir(), "handstamp.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	handle, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = handle.Close() })
	storetest.EmailSpellings(t, goose.DialectSQLite3, handle, migrations.SQLite(), [3]string{"'[]'", "1", "2"}, func() store.Store {
		db, err := sqlite.Open(t.Context(), sqlite.Prefix+path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		return db
	})
}
