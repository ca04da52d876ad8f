package postgres

import (
	"encoding/hex"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/handstamp/handstamp/migrations"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/outbox"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/store/postgres/pgtest"
	"github.com/handstamp/handstamp/pkg/user"
)

// What an older program has left to deliver is delivered, also what its last transactions wrote while the schema
// changed; and the way back loses nothing.
func TestOutboxTakesOlderDeliveriesOver(t *testing.T) {
	db := openURL(t, pgtest.URL(t))
	handle := stdlib.OpenDB(*db.config)
	defer func() { must(t, handle.Close()) }()
	schema, err := goose.NewProvider(goose.DialectPostgres, handle, migrations.Postgres(),
		goose.WithGoMigrations(migrations.EmailSpellings(setEmailKey, user.EmailKey)))
	must(t, err)
	_, err = schema.UpTo(t.Context(), 4)
	must(t, err)
	const add = `INSERT INTO logout_deliveries (client_id, uri, user_id, session_id, attempts, created_at, leased_until)
		VALUES ($1, 'https://app.example.test/logout?a="1"', 'usr_a', '01020304-0506-0708-090a-0b0c0d0e0f10', 2, $2, $2)`
	_, err = handle.ExecContext(t.Context(), add, "before", noon())
	must(t, err)
	must(t, db.Migrate(t.Context()))
	_, err = handle.ExecContext(t.Context(), add, "while", noon())
	must(t, err)
	_, err = db.SweepRows(t.Context(), noon(), 10)
	must(t, err)

	rows, err := db.LeaseRows(t.Context(), oauth.KindLogout, noon(), noon().Add(time.Minute), 10)
	must(t, err)
	if len(rows) != 2 {
		t.Fatalf("%d rows, want 2", len(rows))
	}
	var id session.ID
	_, err = hex.Decode(id[:], []byte("0102030405060708090a0b0c0d0e0f10"))
	must(t, err)
	for i, client := range []string{"before", "while"} {
		got, err := oauth.LogoutOf(rows[i])
		must(t, err)
		if want := (oauth.Logout{
			ClientID:  client,
			URI:       `https://app.example.test/logout?a="1"`,
			UserID:    "usr_a",
			SessionID: id,
		}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		if rows[i].Attempts != 2 || !rows[i].CreatedAt.Equal(noon()) {
			t.Errorf("%+v", rows[i])
		}
	}
	must(t, db.FinishRow(t.Context(), rows[0], outbox.Outcome{DeadAt: noon(), Reason: "given up"}))

	_, err = schema.DownTo(t.Context(), 4)
	must(t, err)
	var client, sid string
	must(t, handle.QueryRowContext(t.Context(), `SELECT client_id, session_id FROM logout_deliveries`).Scan(&client, &sid))
	if client != "while" || sid != "01020304-0506-0708-090a-0b0c0d0e0f10" {
		t.Errorf("left after the way back: %s, %s", client, sid)
	}
}
