package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/handstamp/handstamp/migrations"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/user"
)

// Migrate implements store.Store. All steps are one transaction, and it is also the lock that makes processes take turns.
func (db *DB) Migrate(ctx context.Context) (err error) {
	if _, _, err := db.Schema(ctx); err != nil { // not over what belongs to another program
		return err
	}
	connector, err := sqlite.NewConnector(db.writer.source)
	if err != nil {
		return fmt.Errorf("migrate database: %w", err)
	}
	outer := &oneTransaction{Connector: connector}
	handle := sql.OpenDB(outer)
	handle.SetMaxOpenConns(1)
	handle.SetMaxIdleConns(1)
	defer func() {
		if closeErr := handle.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("migrate database: %w", closeErr)
		}
	}()
	provider, err := goose.NewProvider(goose.DialectSQLite3, handle, migrations.SQLite(), goose.WithDisableGlobalRegistry(true),
		goose.WithGoMigrations(migrations.EmailSpellings(setEmailKey, user.EmailKey)))
	if err != nil {
		return fmt.Errorf("migrate database: %w", err)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrate database: %w", err)
	}
	if err := outer.commit(); err != nil {
		return fmt.Errorf("migrate database: %w", err)
	}
	db.wake.all()
	return nil
}

const setEmailKey = `UPDATE users SET email_key = ?1 WHERE id = ?2 AND NOT EXISTS (SELECT 1 FROM users WHERE email_key = ?1)`

// Schema implements store.Store.
func (db *DB) Schema(ctx context.Context) (current, newest int64, err error) {
	newest, err = migrations.Newest(migrations.SQLite())
	if err != nil {
		return 0, 0, fmt.Errorf("read migrations: %w", err)
	}
	err = db.read(ctx, "read schema version", func(c *conn) error {
		found, err := c.one(`SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'goose_db_version'`, func(*row) {})
		if err != nil || !found {
			return err
		}
		if _, err = c.one(`SELECT coalesce(max(version_id), 0) FROM goose_db_version`, func(r *row) { r.scan(&current) }); err != nil {
			return err
		}
		ours, err := c.one(`SELECT 1 FROM pragma_table_info('sessions') WHERE name = 'iat_floor'`, func(*row) {})
		if err == nil && current > 0 && !ours {
			return fmt.Errorf("%w: another program keeps its tables in this file: choose another with database_url", store.ErrSchema)
		}
		return err
	})
	return current, newest, err
}

// oneTransaction opens a connection inside a transaction, in which the transactions of its user are savepoints.
type oneTransaction struct {
	driver.Connector
	conn driver.Conn
}

// Connect implements driver.Connector.
func (o *oneTransaction) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := o.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	if err := begin(ctx, conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	o.conn = conn
	return savepoints{conn}, nil
}

// migrationAttempts is how often a migration waits for busyTimeout, a minute in all: other processes may be migrating,
// too, or write all the time.
const migrationAttempts = 20

func begin(ctx context.Context, conn driver.Conn) (err error) {
	for range migrationAttempts {
		if err = run(conn, "BEGIN IMMEDIATE"); !isCode(err, sqlite3.SQLITE_BUSY) || ctx.Err() != nil {
			break
		}
	}
	return err
}

func (o *oneTransaction) commit() error { return run(o.conn, "COMMIT") }

type savepoints struct{ driver.Conn }

// Begin implements driver.Conn.
func (s savepoints) Begin() (driver.Tx, error) { return s, run(s.Conn, "SAVEPOINT step") }

// Commit implements driver.Tx.
func (s savepoints) Commit() error { return run(s.Conn, "RELEASE step") }

// Rollback implements driver.Tx.
func (s savepoints) Rollback() error { return run(s.Conn, "ROLLBACK TO step; RELEASE step") }

func run(conn driver.Conn, query string) error {
	stmt, err := conn.Prepare(query)
	if err != nil {
		return err
	}
	_, err = stmt.(driver.StmtExecContext).ExecContext(context.Background(), nil) //nolint:forcetypeassert // pinned driver version
	return errors.Join(err, stmt.Close())
}
