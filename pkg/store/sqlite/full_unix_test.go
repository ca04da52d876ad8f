//go:build unix

package sqlite_test

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/handstamp/handstamp/pkg/session"
)

// TestDiskFull lets no file grow, which is how a full disk looks to a database: writes fail as storage failures, reads
// go on, nothing is half-written, and as soon as there is room the same connection pool writes again.
func TestDiskFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "handstamp.db")
	db := migrated(t, path)
	rows := startSessions(t, db, 4)
	_, err := db.Session(t.Context(), rows[0].ID) // a service that runs has read before
	check(t, err)
	rotations := func(generation uint32) (out []session.Rotation) {
		for _, row := range rows {
			out = append(out, session.Rotation{
				ID: row.ID, Nonce: row.Nonce, ClientID: row.ClientID, From: generation, To: generation + 1, At: row.RotatedAt,
				IdleExpiresAt: row.IdleExpiresAt,
			})
		}
		return out
	}

	exceeded := make(chan os.Signal, 1)
	signal.Notify(exceeded, syscall.SIGXFSZ)
	defer signal.Stop(exceeded)
	var before syscall.Rlimit
	check(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before))
	limit := before
	limit.Cur = 512
	check(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit))
	restore := func() { check(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before)) }
	defer restore()

	for round := range 3 {
		if _, err := createUser(t.Context(), db, fmt.Sprintf("%d@example.test", round)); err == nil {
			t.Error("CreateUser: no error")
		}
		if err := db.Ping(t.Context()); err == nil {
			t.Error("Ping: no error, and nothing can be written")
		}
		if got, err := db.Rotate(t.Context(), rotations(1)); err == nil {
			t.Errorf("Rotate: %v, no error", got)
		}
		if got, err := db.Rotate(t.Context(), rotations(1)[:1]); err == nil {
			t.Errorf("Rotate of one: %v, no error", got)
		}
		if got, err := db.Session(t.Context(), rows[0].ID); err != nil || got.Generation != 1 {
			t.Errorf("Session: generation %d, %v", got.Generation, err)
		}
	}
	restore()
	check(t, db.Ping(t.Context()))

	got, err := db.Rotate(t.Context(), rotations(1))
	check(t, err)
	for i, row := range got {
		if row == nil || row.Generation != 2 {
			t.Errorf("rotation %d: %+v", i, row)
		}
	}
	for round := range 3 {
		if _, err := createUser(t.Context(), db, fmt.Sprintf("%d@example.test", round)); err != nil {
			t.Errorf("CreateUser: %v", err)
		}
	}
	if result := db.Pragma(t, "integrity_check"); result != "ok" {
		t.Errorf("integrity check: %s", result)
	}
}
