package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/statuslist"
)

// RevokedStatuses implements statuslist.Store.
func (db *DB) RevokedStatuses(ctx context.Context, first, last int64) ([]int64, error) {
	const sql = `SELECT number FROM revoked_statuses WHERE number BETWEEN $1 AND $2 ORDER BY number`
	var numbers []int64
	err := db.run(ctx, "read revoked statuses", step{
		sql:  sql,
		args: []any{binaryFormat(), first, last},
		scan: func(rows pgx.Rows) error {
			r := row{columns: rows.RawValues()}
			numbers = append(numbers, r.int64())
			return r.err
		},
	})
	return numbers, err
}

// StatusRange implements statuslist.Store.
func (db *DB) StatusRange(ctx context.Context) (least, greatest int64, err error) {
	const sql = `SELECT COALESCE(LEAST((SELECT min(status_number) FROM sessions WHERE status_number IS NOT NULL),
				(SELECT min(number) FROM revoked_statuses WHERE number >= $1)), 0),
			COALESCE(GREATEST((SELECT max(status_number) FROM sessions WHERE status_number IS NOT NULL),
				(SELECT max(number) FROM revoked_statuses WHERE number >= $1)), 0)`
	err = db.run(ctx, "read range of statuses", one(sql, to(&least, &greatest), int64(statuslist.Size)))
	return least, greatest, err
}

// BlockToken implements statuslist.Store. A refresh that has been given the number is waited for, and one that comes
// later gets the new one.
func (db *DB) BlockToken(ctx context.Context, number int64, iat time.Time, entry blocklist.Entry, e audit.Event) error {
	const (
		renumber = `UPDATE sessions SET status_number = nextval('status_numbers') WHERE status_number = $1`
		revoke   = `INSERT INTO revoked_statuses AS r (number, newest_at) SELECT $1::bigint, $2::bigint WHERE $1::bigint <> 0
			ON CONFLICT (number) DO UPDATE SET newest_at = GREATEST(r.newest_at, excluded.newest_at)`
		block = `WITH blocked AS (` + insertEntries + ` VALUES ($11, $12, $13) ` + largerEntry + `), noted AS (` + insertEvent + `)
			SELECT ` + notify
	)
	return db.run(ctx, "block token", do(renumber, number), do(revoke, number, iat.Unix()),
		do(block, withEvent(e, entry.Key[:], entry.NotBefore.Unix(), seconds(entry.DropAfter))...))
}

// SweepStatuses implements statuslist.Store.
func (db *DB) SweepStatuses(ctx context.Context, before time.Time, limit int) (int, error) {
	const sql = `WITH swept AS (
			DELETE FROM revoked_statuses WHERE ctid = ANY (ARRAY (
				SELECT ctid FROM revoked_statuses WHERE newest_at < $1 ORDER BY newest_at LIMIT $2::bigint FOR UPDATE SKIP LOCKED))
			RETURNING 1
		) SELECT count(*) FROM swept`
	var swept int64
	err := db.run(ctx, "sweep statuses", one(sql, to(&swept), before.Unix(), int64(limit)))
	return int(swept), err
}
