package postgres

import (
	"database/sql"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/handstamp/handstamp/migrations"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/store/postgres/pgtest"
	"github.com/handstamp/handstamp/pkg/store/storetest"
)

func TestMigrateEmailSpellings(t *testing.T) {
	url := pgtest.URL(t)
	handle, err := sql.Open("pgx", url)
	must(t, err)
	t.Cleanup(func() { _ = handle.Close() })
	values := [3]string{"'{}'", "'2026-01-01'", "'2026-02-01'"}
	storetest.EmailSpellings(t, goose.DialectPostgres, handle, migrations.Postgres(), values, func() store.Store {
		return openURL(t, url)
	})
}
