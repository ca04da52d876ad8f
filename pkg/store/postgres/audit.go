package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/handstamp/handstamp/pkg/audit"
)

// insertEvent records the event that the first ten parameters describe. It ends in a SELECT without FROM, so that a statement can
// add when there is something to record.
const insertEvent = `INSERT INTO audit_events (at, kind, actor, user_id, session_id, client_id, reason, ip, user_agent,
	request_id)
	SELECT $1::timestamptz, $2::text, $3::text, $4::text, $5::text, $6::text, $7::text, $8::text, $9::text, $10::text`

// withEvent are the parameters of a statement that contains insertEvent.
func withEvent(e audit.Event, more ...any) []any {
	return append([]any{when(e.At), string(e.Kind), e.Actor, e.UserID, e.SessionID, e.ClientID, e.Reason, e.IP, e.UserAgent,
		e.RequestID}, more...)
}

// Record implements audit.Store.
func (db *DB) Record(ctx context.Context, e audit.Event) error {
	return db.run(ctx, "record event", do(insertEvent, withEvent(e)...))
}

// Events implements audit.Store.
func (db *DB) Events(ctx context.Context, userID string, before audit.Cursor, limit int) ([]audit.Event, error) {
	const columns = `SELECT id, at, kind, actor, user_id, session_id, client_id, reason, ip, user_agent, request_id FROM audit_events
		WHERE (at, id) < (COALESCE($1::timestamptz, 'infinity'), $2::bigint)`
	const newest = ` ORDER BY at DESC, id DESC LIMIT $3::bigint`
	sql, args := columns+newest, []any{when(before.At), before.ID, int64(limit)}
	if userID != "" {
		sql, args = columns+` AND user_id = $4::text AND user_id <> ''`+newest, append(args, userID)
	}
	var events []audit.Event
	err := db.report(ctx, "list events", step{sql: sql, args: args, scan: func(rows pgx.Rows) error {
		var e audit.Event
		err := rows.Scan(&e.ID, instant{&e.At}, &e.Kind, &e.Actor, &e.UserID, &e.SessionID, &e.ClientID, &e.Reason, &e.IP,
			&e.UserAgent, &e.RequestID)
		events = append(events, e)
		return err
	}})
	return events, err
}

// SweepEvents implements audit.Store.
func (db *DB) SweepEvents(ctx context.Context, before time.Time, limit int) (int, error) {
	const sql = `WITH swept AS (
			DELETE FROM audit_events WHERE ctid = ANY (ARRAY (
				SELECT ctid FROM audit_events WHERE at < $1 ORDER BY at LIMIT $2::bigint FOR UPDATE SKIP LOCKED))
			RETURNING 1
		) SELECT count(*) FROM swept`
	var swept int64
	err := db.run(ctx, "sweep events", one(sql, to(&swept), when(before), int64(limit)))
	return int(swept), err
}
