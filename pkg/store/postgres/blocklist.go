package postgres

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"strconv"
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
// The cursor is the oldest transaction that was still running when the reader's statement took its snapshot. Whatever that
// statement did not see was written by this transaction or a later one. (A number from a sequence would not do: a transaction that took a
// low number may commit after one with a higher number was read.) While a writer elsewhere stays open for long, what was written since is repeated.
//
// Transaction numbers are those of one history: another cluster, or this one after a failover or a restore, counts its own.
func (db *DB) BlocklistChanges(ctx context.Context, after string) (blocklist.Changes, error) {
	const sql = `SELECT h.system, h.timeline, pg_snapshot_xmin(pg_current_snapshot())::text::bigint, pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
			b.key, b.not_before, b.drop_after
		FROM (SELECT system_identifier AS system, ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::bigint AS timeline
			FROM pg_control_system()) AS h
		LEFT JOIN blocklist b ON b.xid >= $1::text::xid8`
	var from cursor
	if after != "" {
		var ok bool
		if from, ok = parseCursor(after); !ok {
			return blocklist.Changes{}, blocklist.ErrCursorGone
		}
	}
	var (
		now  cursor
		next int64
		out  = blocklist.Changes{Snapshot: after == ""}
	)
	err := db.run(ctx, "read blocklist", step{sql: sql, args: []any{binaryFormat(), strconv.FormatInt(from.xmin, 10)}, scan: func(rows pgx.Rows) error {
		r := row{columns: rows.RawValues()}
		now, next = cursor{system: r.int64(), timeline: r.int64(), xmin: r.int64()}, r.int64()
		if r.columns[0] != nil {
			out.Entries = append(out.Entries, blocklist.Entry{
				Key: r.bytes16(), NotBefore: time.Unix(r.int64(), 0).UTC(), DropAfter: time.Unix(r.int64(), 0).UTC(),
			})
		}
		return r.err
	}})
	switch {
	case err != nil:
		return blocklist.Changes{}, err
	case after != "" && (from.system != now.system || from.timeline != now.timeline || from.xmin > next):
		return blocklist.Changes{}, blocklist.ErrCursorGone
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

// cursor is a place in a history of transactions.
type cursor struct {
	system   int64 // identifies the cluster
	timeline int64 // changes with each promotion of a standby and each restore
	xmin     int64 // everything before has ended
}

const (
	cursorVersion = 1
	cursorLength  = 1 + 8 + 4 + 8
)

// String is 28 characters.
func (c cursor) String() string {
	b := make([]byte, 0, cursorLength)
	b = append(b, cursorVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(c.system))   //nolint:gosec // the same bits
	b = binary.BigEndian.AppendUint32(b, uint32(c.timeline)) //nolint:gosec // is one
	b = binary.BigEndian.AppendUint64(b, uint64(c.xmin))     //nolint:gosec // is one
	return base64.RawURLEncoding.EncodeToString(b)
}

func parseCursor(s string) (cursor, bool) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) != cursorLength || b[0] != cursorVersion {
		return cursor{}, false
	}
	c := cursor{
		system:   int64(binary.BigEndian.Uint64(b[1:])), //nolint:gosec // the same bits
		timeline: int64(binary.BigEndian.Uint32(b[9:])),
		xmin:     int64(binary.BigEndian.Uint64(b[13:])), //nolint:gosec // checked below
	}
	return c, c.xmin >= 0 && c.String() == s
}
