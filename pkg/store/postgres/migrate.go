package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/handstamp/handstamp/migrations"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/user"
)

// Migrate implements store.Store. It needs a role that may create tables, and a connection of its own: behind a
// pooler that hands out connections by transaction, migrate with a URL that goes past it.
func (db *DB) Migrate(ctx context.Context) error {
	if _, _, err := db.Schema(ctx); err != nil { // not over what belongs to another program
		return err
	}
	config := db.config.Copy()
	for _, name := range []string{"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"} {
		delete(config.RuntimeParams, name)
	}
	withoutPointPlans(config)
	pool := stdlib.OpenDB(*config)
	provider, err := goose.NewProvider(goose.DialectPostgres, pool, migrations.Postgres(), goose.WithSessionLocker(turn{}),
		goose.WithDisableGlobalRegistry(true), goose.WithGoMigrations(migrations.EmailSpellings(setEmailKey, user.EmailKey)))
	if err == nil {
		_, err = provider.Up(ctx)
	}
	if err = errors.Join(err, pool.Close()); err != nil {
		return failed("migrate database", err)
	}
	return nil
}

const setEmailKey = `UPDATE users SET email_key = $1 WHERE id = $2 AND NOT EXISTS (SELECT FROM users WHERE email_key = $1)`

// errForeign says that the schema is not ours.
var errForeign = fmt.Errorf("%w: another program keeps its tables in this schema (its migrations stand in goose_db_version): "+
	"give Handstamp a database of its own, or a schema of its own by adding search_path=NAME to database_url", store.ErrSchema)

// turn makes replicas that start at once migrate one after the other: the second finds nothing left to do.
type turn struct{}

// turnLock is arbitrary and known to all replicas.
const turnLock = 4851736284

// SessionLock implements goose's lock.SessionLocker.
func (turn) SessionLock(ctx context.Context, c *sql.Conn) error {
	_, err := c.ExecContext(ctx, "SELECT pg_advisory_lock($1)", turnLock)
	return err
}

// SessionUnlock implements goose's lock.SessionLocker.
func (turn) SessionUnlock(ctx context.Context, c *sql.Conn) error {
	_, err := c.ExecContext(ctx, "SELECT pg_advisory_unlock($1)", turnLock)
	return err
}

// Schema implements store.Store.
func (db *DB) Schema(ctx context.Context) (current, newest int64, err error) {
	newest, err = migrations.Newest(migrations.Postgres())
	if err != nil {
		return 0, 0, failed("read migrations", err)
	}
	var ours bool
	// Not counted as a failure: that there is no such table is an answer.
	err = repeat(ctx, db.pool, undone, "read schema version", []step{
		one("SELECT COALESCE(max(version_id), 0), EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass('sessions') AND "+
			"attname = 'iat_floor') FROM goose_db_version WHERE is_applied", to(&current, &ours))})
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code == codeUndefinedTable {
		return 0, newest, nil
	}
	if err == nil && current > 0 && !ours {
		return 0, 0, failed("read schema version", errForeign)
	}
	return current, newest, err
}
