// Package sqlstore keeps the sessions of package bff in PostgreSQL or SQLite, through database/sql and the driver that the caller
// has chosen.
//
//	db, err := sql.Open("pgx", "postgres://...")   // github.com/jackc/pgx/v5/stdlib
//	db, err := sql.Open("sqlite", "file:app.db?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)")   // modernc.org/sqlite
//
//	store := sqlstore.New(db)
//	if err := store.CreateTables(ctx); err != nil {
//		return err
//	}
//
// Each call is one statement, and both databases understand the same ones, with numbered parameters.
package sqlstore

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/handstamp/handstamp/pkg/bff"
)

// Schema makes the tables. It may be run again. Times are Unix microseconds; IDs are in hexadecimal digits.
const Schema = `
CREATE TABLE IF NOT EXISTS bff_sessions (
	id         TEXT   NOT NULL PRIMARY KEY,
	version    BIGINT NOT NULL,
	subject    TEXT   NOT NULL,
	session_id TEXT   NOT NULL,
	data       BYTEA  NOT NULL,
	created_at BIGINT NOT NULL,
	expires_at BIGINT NOT NULL
);
CREATE INDEX IF NOT EXISTS bff_sessions_subject ON bff_sessions (subject, created_at);
CREATE INDEX IF NOT EXISTS bff_sessions_session_id ON bff_sessions (session_id);
CREATE INDEX IF NOT EXISTS bff_sessions_expires_at ON bff_sessions (expires_at);
CREATE TABLE IF NOT EXISTS bff_once (
	id         TEXT   NOT NULL PRIMARY KEY,
	expires_at BIGINT NOT NULL
);
CREATE INDEX IF NOT EXISTS bff_once_expires_at ON bff_once (expires_at);
`

// Store implements bff.Store.
type Store struct {
	db *sql.DB
}

// New returns the Store in a database that has the tables of Schema. The caller closes the database.
func New(db *sql.DB) *Store { return &Store{db} }

// CreateTables makes the tables of Schema where they are missing. A program without the right to do so leaves it to its
// migrations.
func (s *Store) CreateTables(ctx context.Context) error {
	_, err := s.db.ExecContext(ctx, Schema)
	return wrapped("create tables", err)
}

func wrapped(what string, err error) error {
	if err != nil {
		return fmt.Errorf("sqlstore: %s: %w", what, err)
	}
	return nil
}

// digits is an ID in the tables.
func digits(id bff.ID) string { return hex.EncodeToString(id[:]) }

const columns = "id, version, subject, session_id, data, created_at, expires_at"

// Create implements bff.Store.
func (s *Store) Create(ctx context.Context, r bff.Record) error {
	_, err := s.db.ExecContext(ctx, "INSERT INTO bff_sessions ("+columns+") VALUES ($1, $2, $3, $4, $5, $6, $7)",
		digits(r.ID), r.Version, r.Subject, r.SessionID, r.Data, r.CreatedAt.UnixMicro(), r.ExpiresAt.UnixMicro())
	return wrapped("create", err)
}

// Load implements bff.Store.
func (s *Store) Load(ctx context.Context, id bff.ID) (bff.Record, error) {
	r, err := scan(s.db.QueryRowContext(ctx, "SELECT "+columns+" FROM bff_sessions WHERE id = $1", digits(id)).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return bff.Record{}, bff.ErrNotFound
	}
	return r, wrapped("load", err)
}

// Swap implements bff.Store.
func (s *Store) Swap(ctx context.Context, r bff.Record) error {
	result, err := s.db.ExecContext(ctx,
		"UPDATE bff_sessions SET version = $1, data = $2, expires_at = $3 WHERE id = $4 AND version = $5",
		r.Version, r.Data, r.ExpiresAt.UnixMicro(), digits(r.ID), r.Version-1)
	if err != nil {
		return wrapped("swap", err)
	}
	if n, err := result.RowsAffected(); err != nil || n == 1 {
		return wrapped("swap", err)
	}
	if _, err := s.Load(ctx, r.ID); err != nil {
		return err
	}
	return bff.ErrConflict
}

// End implements bff.Store.
func (s *Store) End(ctx context.Context, m bff.Match) ([]bff.Record, error) {
	column, value := "session_id", m.SessionID
	switch {
	case m.ID != bff.ID{}:
		column, value = "id", digits(m.ID)
	case m.Subject != "":
		column, value = "subject", m.Subject
	case m.SessionID == "":
		return nil, nil
	}
	return s.query(ctx, "end", "DELETE FROM bff_sessions WHERE "+column+" = $1 RETURNING "+columns, value)
}

// List implements bff.Store.
func (s *Store) List(ctx context.Context, subject string) ([]bff.Record, error) {
	return s.query(ctx, "list",
		"SELECT "+columns+" FROM bff_sessions WHERE subject = $1 ORDER BY created_at DESC, id DESC", subject)
}

// Trim implements bff.Store. It sees what was created before it, and all callers agree on the order: the last leaves no more than
// keep, and none removes what another keeps.
func (s *Store) Trim(ctx context.Context, subject string, keep int) ([]bff.Record, error) {
	return s.query(ctx, "trim", "DELETE FROM bff_sessions WHERE id IN ("+
		"SELECT id FROM (SELECT id, ROW_NUMBER() OVER (ORDER BY created_at DESC, id DESC) AS place FROM bff_sessions"+
		" WHERE subject = $1) AS numbered WHERE place > $2) RETURNING "+columns, subject, keep)
}

// Once implements bff.Store.
func (s *Store) Once(ctx context.Context, id bff.ID, expiresAt time.Time) (bool, error) {
	result, err := s.db.ExecContext(ctx, "INSERT INTO bff_once (id, expires_at) VALUES ($1, $2) ON CONFLICT DO NOTHING",
		digits(id), expiresAt.UnixMicro())
	if err != nil {
		return false, wrapped("once", err)
	}
	n, err := result.RowsAffected()
	return n == 1, wrapped("once", err)
}

// Sweep implements bff.Store.
func (s *Store) Sweep(ctx context.Context, now time.Time, limit int) (int, error) {
	swept := 0
	for _, table := range []string{"bff_sessions", "bff_once"} {
		result, err := s.db.ExecContext(ctx, "DELETE FROM "+table+ //nolint:gosec // one of two names
			" WHERE id IN (SELECT id FROM "+table+" WHERE expires_at < $1 LIMIT $2)", now.UnixMicro(), limit)
		if err != nil {
			return swept, wrapped("sweep", err)
		}
		n, err := result.RowsAffected()
		if err != nil {
			return swept, wrapped("sweep", err)
		}
		swept += int(n)
	}
	return swept, nil
}

func (s *Store) query(ctx context.Context, what, statement string, args ...any) ([]bff.Record, error) {
	rows, err := s.db.QueryContext(ctx, statement, args...)
	if err != nil {
		return nil, wrapped(what, err)
	}
	defer rows.Close()
	var records []bff.Record
	for rows.Next() {
		r, err := scan(rows.Scan)
		if err != nil {
			return nil, wrapped(what, err)
		}
		records = append(records, r)
	}
	return records, wrapped(what, rows.Err())
}

// scan reads the columns of a record.
func scan(into func(...any) error) (r bff.Record, err error) {
	var id string
	var createdAt, expiresAt int64
	if err := into(&id, &r.Version, &r.Subject, &r.SessionID, &r.Data, &createdAt, &expiresAt); err != nil {
		return bff.Record{}, err
	}
	if len(id) != hex.EncodedLen(len(r.ID)) {
		return bff.Record{}, fmt.Errorf("id of %d digits", len(id))
	}
	if _, err := hex.Decode(r.ID[:], []byte(id)); err != nil {
		return bff.Record{}, fmt.Errorf("id: %w", err)
	}
	r.CreatedAt, r.ExpiresAt = time.UnixMicro(createdAt), time.UnixMicro(expiresAt)
	return r, nil
}
