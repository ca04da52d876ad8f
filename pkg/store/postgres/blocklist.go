package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/blocklist"
)

// An entry is written by insertEntries, a SELECT of key, not_before and drop_after, and largerEntry. The transaction that has
// changed an entry is its writer like the one that has added it.
const (
	insertEntries = `INSERT INTO blocklist AS b (key, not_before, drop_after)`
	largerEntry   = `ON CONFLICT (key) DO UPDATE SET not_before = GREATEST(b.not_before, excluded.not_before),
		drop_after = GREATEST(b.drop_after, excluded.drop_after), xid = pg_current_xact_id()`
)

// Block implements blocklist.Store.
func (db *DB) Block(ctx context.Context, entry blocklist.Entry, e audit.Event) error {
	const sql = `WITH blocked AS (` + insertEntries + ` VALUES ($11, $12, $13) ` + largerEntry + `), noted AS (` + insertEvent + `)
		SELECT ` + notify
	return db.run(ctx, "block tokens", do(sql, withEvent(e, entry.Key[:], entry.NotBefore.Unix(), seconds(entry.DropAfter))...))
}

// BlocklistChanges implements blocklist.Store.
//
// The cursor is the snapshot of the reader's statement: which transactions had ended. The next reading is told of what
// all others have written, and so of each entry exactly once. (A number from a sequence would not do: a transaction
// that took a low number may commit after one with a higher number was read.)
func (db *DB) BlocklistChanges(ctx context.Context, after string) (blocklist.Changes, error) {
	const sql = `WITH h AS MATERIALIZED (` + place + `)
		SELECT h.history, h.seen, b.key, b.not_before, b.drop_after
		FROM h LEFT JOIN blocklist b ON COALESCE(h.history = $2::bytea, true) AND b.` + changedSince
	from, err := startOf(after)
	if err != nil {
		return blocklist.Changes{}, err
	}
	var same []byte // the history that there must be to tell anything
	if after != "" {
		same = from.history[:]
	}
	var (
		now  cursor
		seen string
		out  = blocklist.Changes{Snapshot: after == ""}
	)
	err = db.run(ctx, "read blocklist", step{
		sql:  sql,
		args: []any{binaryFormat(), from.snapshot.String(), same},
		scan: func(rows pgx.Rows) error {
			r := row{columns: rows.RawValues()}
			if seen == "" {
				now.history, seen = history(r.next(len(now.history))), r.text()
			} else {
				r.columns = r.columns[2:]
			}
			if r.err == nil && r.columns[0] != nil {
				out.Entries = append(out.Entries, blocklist.Entry{
					Key: r.bytes16(), NotBefore: time.Unix(r.int64(), 0).UTC(), DropAfter: time.Unix(r.int64(), 0).UTC(),
				})
			}
			return r.err
		},
	})
	if err != nil {
		return blocklist.Changes{}, err
	}
	if now.snapshot, err = parseSnapshot(seen); err != nil {
		return blocklist.Changes{}, failed("read blocklist", err)
	}
	if err := now.follows(from); err != nil {
		return blocklist.Changes{}, err
	}
	out.Cursor = now.String()
	return out, nil
}

// DropBlocklist implements blocklist.Store.
func (db *DB) DropBlocklist(ctx context.Context, at time.Time, limit int) (int, error) {
	const sql = `WITH dropped AS (
			DELETE FROM blocklist WHERE ctid = ANY (ARRAY (
				SELECT ctid FROM blocklist WHERE drop_after < $1 ORDER BY drop_after LIMIT $2::bigint FOR UPDATE SKIP LOCKED))
			RETURNING 1
		) SELECT count(*) FROM dropped`
	var dropped int64
	// An entry is over when the clock shows a later second.
	err := db.run(ctx, "drop blocklist entries", one(sql, to(&dropped), at.Unix(), int64(limit)))
	return int(dropped), err
}
