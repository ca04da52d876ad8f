package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/handstamp/handstamp/pkg/store/storetest"
)

// TestBrowserQueryPlans fails if a statement of the browser flow reads a table from end to end.
func TestBrowserQueryPlans(t *testing.T) {
	db := migrated(t, filepath.Join(t.TempDir(), "handstamp.db"))
	storetest.ExerciseBrowser(t, db)
	db.CheckPlans(t)
}
