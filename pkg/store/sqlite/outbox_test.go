package sqlite

import (
	"database/sql"
	"path/filepath"
	"testing"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/handstamp/handstamp/migrations"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/user"
)

// What an older program has left to deliver is delivered, and the way back loses nothing.
func TestOutboxTakesOlderDeliveriesOver(t *testing.T) {
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	db, err := Open(t.Context(), Prefix+filepath.Join(t.TempDir(), "handstamp.db"))
	check(err)
	defer func() { check(db.Close()) }()
	handle, err := sql.Open("sqlite", db.writer.source)
	check(err)
	defer func() { check(handle.Close()) }()
	schema, err := goose.NewProvider(goose.DialectSQLite3, handle, migrations.SQLite(),
		goose.WithGoMigrations(migrations.EmailSpellings(setEmailKey, user.EmailKey)))
	check(err)
	_, err = schema.UpTo(t.Context(), 4)
	check(err)
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	_, err = handle.ExecContext(t.Context(),
		`INSERT INTO logout_deliveries (client_id, uri, user_id, session_id, attempts, created_at, leased_until)
		VALUES ('app', 'https://app.example.test/logout?a="1"', 'usr_a', x'0102030405060708090a0b0c0d0e0f10', 2, ?1, ?1)`,
		at.UnixMicro())
	check(err)
	check(db.Migrate(t.Context()))

	rows, err := db.LeaseRows(t.Context(), oauth.KindLogout, at, at.Add(time.Minute), 10)
	check(err)
	if len(rows) != 1 || rows[0].Attempts != 2 || !rows[0].CreatedAt.Equal(at) {
		t.Fatalf("rows: %+v", rows)
	}
	got, err := oauth.LogoutOf(rows[0])
	check(err)
	id := session.ID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	if want := (oauth.Logout{
		ClientID:  "app",
		URI:       `https://app.example.test/logout?a="1"`,
		UserID:    "usr_a",
		SessionID: id,
	}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}

	_, err = schema.DownTo(t.Context(), 4)
	check(err)
	var client string
	var sid []byte
	check(handle.QueryRowContext(t.Context(), `SELECT client_id, session_id FROM logout_deliveries`).Scan(&client, &sid))
	if client != "app" || string(sid) != string(id[:]) {
		t.Errorf("left after the way back: %s, %x", client, sid)
	}
}
