// Package sqlitetest makes SQLite databases for tests.
package sqlitetest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/handstamp/handstamp/pkg/store/sqlite"
)

// migrated is the content of an empty database. It is made once: that takes longer than most tests.
//
//nolint:gochecknoglobals // never changes
var migrated = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "handstamp-*")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "handstamp.db")
	db, err := sqlite.Open(context.Background(), sqlite.Prefix+path)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(db.Migrate(context.Background()), db.Close()); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

// URL returns the URL of an empty database that was migrated. It goes with the test. A test that opens the database in a bubble
// of testing/synctest calls URL outside of it.
func URL(t testing.TB) string {
	t.Helper()
	content, err := migrated()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "handstamp.db")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return sqlite.Prefix + path
}
