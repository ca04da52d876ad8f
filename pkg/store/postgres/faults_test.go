package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/store/postgres/pgtest"
)

// TestRemedies makes the mistakes of a first installation. Each error says what to do.
func TestRemedies(t *testing.T) {
	// role makes a role that may do nothing, and returns the URL of a database that uses it.
	role := func(t *testing.T, url string) string {
		t.Helper()
		name := "handstamp_test_" + strings.ToLower(rand.Text())
		c := connect(t, url)
		t.Cleanup(func() {
			ctx := context.WithoutCancel(t.Context())
			_, err := c.Exec(ctx, "DROP OWNED BY "+name+"; DROP ROLE "+name)
			must(t, err)
		})
		_, err := c.Exec(t.Context(), "CREATE ROLE "+name+"; REVOKE CREATE ON SCHEMA public FROM PUBLIC")
		must(t, err)
		return url + "&role=" + name
	}
	prepared := func(t *testing.T, sql string) *DB {
		t.Helper()
		url := pgtest.URL(t)
		_, err := connect(t, url).Exec(t.Context(), sql)
		must(t, err)
		return openURL(t, url)
	}
	const goose = `CREATE TABLE goose_db_version (id serial, version_id bigint, is_applied boolean, tstamp timestamp);
		INSERT INTO goose_db_version (version_id, is_applied) VALUES (0, true), (3, true);`
	migrate := func(ctx context.Context, db *DB) error { return db.Migrate(ctx) }
	for name, test := range map[string]struct {
		db     func(t *testing.T) *DB
		try    func(ctx context.Context, db *DB) error
		remedy string
		schema bool
	}{
		"fail/no right to make tables": {
			func(t *testing.T) *DB { t.Helper(); return openURL(t, role(t, pgtest.URL(t))) },
			migrate, "the role may not make tables: migrate with the address of the owner", false,
		},
		"fail/no right to the tables": {
			func(t *testing.T) *DB { t.Helper(); _, url := open(t); return openURL(t, role(t, url)) },
			func(ctx context.Context, db *DB) error { _, err := db.Users(ctx, "", 1); return err },
			"the role lacks a right: let the owner of the tables run GRANT SELECT", false,
		},
		"fail/another program's migrations, read": {
			func(t *testing.T) *DB { t.Helper(); return prepared(t, goose) },
			func(ctx context.Context, db *DB) error { _, _, err := db.Schema(ctx); return err },
			"another program keeps its tables in this schema", true,
		},
		"fail/another program's migrations, with sessions of its own": {
			func(t *testing.T) *DB { t.Helper(); return prepared(t, goose+`CREATE TABLE sessions (id serial)`) },
			migrate, "search_path=NAME", true,
		},
		"fail/another program's tables": {
			func(t *testing.T) *DB { t.Helper(); return prepared(t, `CREATE TABLE users (id serial)`) },
			migrate, "another program's tables are in the way", false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.try(t.Context(), test.db(t))
			if err == nil || !strings.Contains(err.Error(), test.remedy) || errors.Is(err, store.ErrSchema) != test.schema {
				t.Errorf("%v, want %q", err, test.remedy)
			}
			if Down(err) {
				t.Error("waiting would not help")
			}
		})
	}

	t.Run("ok/a schema of its own beside another program's", func(t *testing.T) {
		url := pgtest.URL(t)
		_, err := connect(t, url).Exec(t.Context(), goose+`CREATE TABLE users (id serial); CREATE SCHEMA handstamp`)
		must(t, err)
		db := openURL(t, url+"&search_path=handstamp")
		must(t, db.Migrate(t.Context()))
		login(t, db)
	})
}

func TestDown(t *testing.T) {
	refused := openURL(t, "postgres://u:p@127.0.0.1:1/d?connect_timeout=1").Ping(t.Context())
	unknown := openURL(t, strings.Replace(pgtest.URL(t), "handstamp_test_", "handstamp_none_", 1)).Ping(t.Context())
	for name, test := range map[string]struct {
		err  error
		down bool
	}{
		"ok/refused":     {refused, true},
		"ok/starts":      {fmt.Errorf("ping: %w", &pgconn.PgError{Code: "57P03"}), true},
		"ok/stops":       {&pgconn.PgError{Code: "57P01"}, true},
		"ok/full":        {&pgconn.PgError{Code: "53300"}, true},
		"ok/standby":     {&pgconn.PgError{Code: "25006"}, true},
		"ok/silent":      {context.DeadlineExceeded, true},
		"fail/nothing":   {nil, false},
		"fail/password":  {&pgconn.PgError{Code: "28P01"}, false},
		"fail/database":  {unknown, false},
		"fail/schema":    {failed("read", &pgconn.PgError{Code: "42P01"}), false},
		"fail/not a row": {pgx.ErrNoRows, false},
	} {
		t.Run(name, func(t *testing.T) {
			if Down(test.err) != test.down {
				t.Errorf("%v: %t, want %t", test.err, !test.down, test.down)
			}
		})
	}
}
