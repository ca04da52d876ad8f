package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/sharedsignal"
)

const (
	streamColumns = `t.id, t.client_id, t.method, t.endpoint_url, t.sealed, t.description, t.events_requested, t.status, ` +
		`t.status_reason, t.attempts, t.created_at, t.updated_at`

	// deliverable are the events e of a stream t that it may deliver as it is.
	deliverable = `e.stream_id = t.id AND (t.status = 'enabled' OR e.kind = 'stream-updated')`
)

// method is a method's short name in the table.
func method(s sharedsignal.Stream) string {
	if s.Method == sharedsignal.MethodPush {
		return "push"
	}
	return "poll"
}

// streams runs a statement that returns streams.
func (db *DB) streams(ctx context.Context, doing, sql string, args ...any) ([]sharedsignal.Stream, error) {
	var streams []sharedsignal.Stream
	err := db.run(ctx, doing, step{sql: sql, args: args, scan: func(rows pgx.Rows) error {
		s, err := scanStream(rows)
		streams = append(streams, s)
		return err
	}})
	return streams, err
}

// scanStream reads streamColumns, and what follows them into more.
func scanStream(rows pgx.Rows, more ...any) (s sharedsignal.Stream, err error) {
	err = rows.Scan(append([]any{
		&s.ID,
		&s.ClientID,
		&s.Method,
		&s.EndpointURL,
		&s.Sealed,
		&s.Description,
		texts{&s.EventsRequested},
		&s.Status,
		&s.StatusReason,
		&s.Attempts,
		instant{&s.CreatedAt},
		instant{&s.UpdatedAt},
	}, more...)...)
	s.Method = map[string]string{"push": sharedsignal.MethodPush, "poll": sharedsignal.MethodPoll}[s.Method]
	return s, err
}

// CreateStream implements sharedsignal.Store.
func (db *DB) CreateStream(ctx context.Context, s sharedsignal.Stream) error {
	const sql = `INSERT INTO signal_streams (id, client_id, method, endpoint_url, sealed, description, events_requested,
		delivers, status, status_reason, attempts,
			created_at, updated_at, leased_until)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'enabled', '', 0, $9, $9, $9) ON CONFLICT (client_id) DO NOTHING RETURNING true`
	var created bool
	err := db.run(ctx, "create stream", one(sql, to(&created), s.ID, s.ClientID, method(s), s.EndpointURL, s.Sealed,
		s.Description, list(s.EventsRequested), s.Delivers(), when(s.CreatedAt)))
	if err == nil && !created {
		return sharedsignal.ErrStreamExists
	}
	return err
}

// Stream implements sharedsignal.Store.
func (db *DB) Stream(ctx context.Context, clientID string) (sharedsignal.Stream, error) {
	found, err := db.streams(ctx, "read stream", `SELECT `+streamColumns+` FROM signal_streams t WHERE t.client_id = $1`, clientID)
	if err == nil && len(found) == 0 {
		err = sharedsignal.ErrStreamNotFound
	}
	if err != nil {
		return sharedsignal.Stream{}, err
	}
	return found[0], nil
}

// UpdateStream implements sharedsignal.Store. A new endpoint is tried at once.
func (db *DB) UpdateStream(ctx context.Context, s sharedsignal.Stream) error {
	const sql = `UPDATE signal_streams SET method = $3, endpoint_url = $4, sealed = $5, description = $6,
		events_requested = $7, delivers = $8, attempts = 0,
			updated_at = $9, leased_until = LEAST(leased_until, $9)
		WHERE id = $1 AND client_id = $2 RETURNING true`
	return db.stream(ctx, "update stream", sql, s.ID, s.ClientID, method(s), s.EndpointURL, s.Sealed, s.Description,
		list(s.EventsRequested), s.Delivers(), when(s.UpdatedAt))
}

// stream runs a statement that returns true if it has found the stream, and others.
func (db *DB) stream(ctx context.Context, doing, sql string, args ...any) error {
	var found bool
	err := db.run(ctx, doing, one(sql, to(&found), args...))
	if err == nil && !found {
		return sharedsignal.ErrStreamNotFound
	}
	return err
}

// SetStreamStatus implements sharedsignal.Store.
func (db *DB) SetStreamStatus(ctx context.Context, id, clientID string, status sharedsignal.Status, reason string,
	at time.Time) error {
	const sql = `WITH changed AS (
			UPDATE signal_streams SET status = $3::text, status_reason = $4, updated_at = $5 WHERE id = $1 AND client_id = $2 RETURNING id
		), gone AS (
			DELETE FROM signal_events e USING changed WHERE e.stream_id = changed.id AND $3::text = 'disabled'
		) SELECT true FROM changed`
	return db.stream(ctx, "set stream status", sql, id, clientID, string(status), reason, when(at))
}

// DeleteStream implements sharedsignal.Store.
func (db *DB) DeleteStream(ctx context.Context, id, clientID string) error {
	const sql = `WITH deleted AS (
			DELETE FROM signal_streams WHERE id = $1 AND client_id = $2 RETURNING id
		), gone AS (
			DELETE FROM signal_events e USING deleted WHERE e.stream_id = deleted.id
		) SELECT true FROM deleted`
	return db.stream(ctx, "delete stream", sql, id, clientID)
}

// LeaveOut implements sharedsignal.Store.
func (db *DB) LeaveOut(ctx context.Context, streamID string, s sharedsignal.Subject, limit int) error {
	const sql = `WITH t AS (
			SELECT id FROM signal_streams WHERE id = $1 FOR NO KEY UPDATE
		), room AS (
			SELECT t.id, (SELECT count(*) FROM signal_exclusions x WHERE x.stream_id = t.id) < $4::bigint OR EXISTS (
				SELECT FROM signal_exclusions x WHERE x.stream_id = t.id AND x.user_id = $2 AND x.session_id = $3::uuid) AS enough FROM t
		), added AS (
			INSERT INTO signal_exclusions (stream_id, user_id, session_id) SELECT id, $2, $3::uuid FROM room WHERE enough
				ON CONFLICT DO NOTHING
		) SELECT enough FROM room`
	var found, enough bool
	err := db.run(ctx, "leave out subject", one(sql, existing(&found, &enough), streamID, s.UserID, uuid(s.SessionID), int64(limit)))
	switch {
	case err != nil:
		return err
	case !found:
		return sharedsignal.ErrStreamNotFound
	case !enough:
		return sharedsignal.ErrTooManySubjects
	}
	return nil
}

// TakeIn implements sharedsignal.Store.
func (db *DB) TakeIn(ctx context.Context, streamID string, s sharedsignal.Subject) error {
	return db.run(ctx, "take in subject", do(
		`DELETE FROM signal_exclusions WHERE stream_id = $1 AND user_id = $2 AND session_id = $3`, streamID, s.UserID,
		uuid(s.SessionID)))
}

// Verify implements sharedsignal.Store.
func (db *DB) Verify(ctx context.Context, streamID, state string, at time.Time, every time.Duration) error {
	const sql = `WITH asked AS (
			UPDATE signal_streams SET verified_at = $3::timestamptz WHERE id = $1 AND (verified_at IS NULL OR verified_at <= $4)
				RETURNING id
		), added AS (
			INSERT INTO signal_events (stream_id, kind, state, at) SELECT id, 'verification', $2, $3::timestamptz FROM asked
		) SELECT EXISTS (SELECT FROM asked) FROM signal_streams WHERE id = $1`
	var found, asked bool
	err := db.run(ctx, "verify stream", one(sql, existing(&found, &asked), streamID, state, when(at), when(at.Add(-every))))
	switch {
	case err != nil:
		return err
	case !found:
		return sharedsignal.ErrStreamNotFound
	case !asked:
		return sharedsignal.ErrTooSoon
	}
	return nil
}

// SignalEvents implements sharedsignal.Store.
func (db *DB) SignalEvents(ctx context.Context, streamID string, limit int) ([]sharedsignal.Event, error) {
	const sql = `SELECT e.id, e.jti, e.kind, e.user_id, e.session_id, e.reason, e.state, e.at FROM signal_streams t, signal_events e
		WHERE t.id = $1 AND ` + deliverable + ` ORDER BY e.id LIMIT $2::bigint`
	var events []sharedsignal.Event
	err := db.run(ctx, "read events", step{sql: sql, args: []any{streamID, int64(limit)}, scan: func(rows pgx.Rows) error {
		var e sharedsignal.Event
		var id pgtype.UUID
		err := rows.Scan(&e.ID, &e.JTI, &e.Kind, &e.UserID, &id, &e.Reason, &e.State, instant{&e.At})
		e.SessionID = session.ID(id.Bytes)
		events = append(events, e)
		return err
	}})
	return events, err
}

// Acknowledge implements sharedsignal.Store.
func (db *DB) Acknowledge(ctx context.Context, streamID string, jtis []string) error {
	return db.run(ctx, "acknowledge events",
		do(`DELETE FROM signal_events WHERE stream_id = $1 AND jti = ANY ($2::text[])`, streamID, list(jtis)))
}

// LeaseStreams implements sharedsignal.Store.
func (db *DB) LeaseStreams(ctx context.Context, at, until time.Time, limit int) ([]sharedsignal.Due, error) {
	const sql = `UPDATE signal_streams t SET leased_until = $2
		WHERE t.id = ANY (ARRAY (
			SELECT t.id FROM signal_streams t JOIN clients c ON c.id = t.client_id
			WHERE t.method = 'push' AND t.leased_until <= $1 AND c.disabled_at IS NULL AND EXISTS (SELECT FROM signal_events e WHERE ` +
		deliverable + `)
			ORDER BY t.leased_until LIMIT $3::bigint FOR NO KEY UPDATE OF t SKIP LOCKED))
		RETURNING ` + streamColumns + `,
			(SELECT e.at FROM signal_events e WHERE ` + deliverable + ` ORDER BY e.id LIMIT 1)`
	var leased []sharedsignal.Due
	err := db.run(ctx, "lease streams", step{
		sql:  sql,
		args: []any{when(at), when(until), int64(limit)},
		scan: func(rows pgx.Rows) (err error) {
			var d sharedsignal.Due
			d.Stream, err = scanStream(rows, instant{&d.Since})
			leased = append(leased, d)
			return err
		},
	})
	if err != nil {
		return nil, err
	}
	return leased, nil
}

// FinishPush implements sharedsignal.Store.
func (db *DB) FinishPush(ctx context.Context, p sharedsignal.Push) error {
	const (
		remove = `DELETE FROM signal_events
			WHERE stream_id = $1 AND (jti = ANY ($2::text[]) OR jti = ANY ($3::text[]) AND refusals + 1 >= $4::bigint)`
		refuse = `UPDATE signal_events SET refusals = refusals + 1 WHERE stream_id = $1 AND jti = ANY ($2::text[])`
		finish = `UPDATE signal_streams SET attempts = $3, leased_until = $4 WHERE id = $1 AND leased_until = $2`
	)
	return db.run(ctx, "finish push",
		do(remove, p.StreamID, list(p.Delivered), list(p.Refused), int64(sharedsignal.MaxRefusals)),
		do(refuse, p.StreamID, list(p.Refused)),
		do(finish, p.StreamID, when(p.LeasedUntil), int64(p.Attempts), when(p.DueAt)))
}

// SweepSignals implements sharedsignal.Store.
func (db *DB) SweepSignals(ctx context.Context, before, at time.Time, limit int) (int, error) {
	const (
		disable = `WITH old AS (
				SELECT t.id FROM signal_streams t
				WHERE t.status <> 'disabled' AND EXISTS (SELECT FROM signal_events e WHERE e.stream_id = t.id AND e.at < $1)
				ORDER BY t.id LIMIT $3::bigint FOR NO KEY UPDATE SKIP LOCKED
			), disabled AS (
				UPDATE signal_streams t SET status = 'disabled', status_reason = $4::text, updated_at = $2::timestamptz FROM old
					WHERE t.id = old.id RETURNING t.id
			), gone AS (
				DELETE FROM signal_events e USING disabled WHERE e.stream_id = disabled.id
			), told AS (
				INSERT INTO signal_events (stream_id, kind, state, reason, at) SELECT id, 'stream-updated', 'disabled', $4::text,
					$2::timestamptz FROM disabled
			) SELECT count(*) FROM disabled`
		remove = `WITH swept AS (
				DELETE FROM signal_events WHERE ctid = ANY (ARRAY (
					SELECT e.ctid FROM signal_events e WHERE e.at < $1 AND NOT EXISTS (SELECT FROM signal_streams t
						WHERE t.id = e.stream_id AND t.status <> 'disabled')
					ORDER BY e.at LIMIT $2::bigint FOR UPDATE SKIP LOCKED))
				RETURNING 1
			) SELECT count(*) FROM swept`
	)
	var disabled, swept int64
	err := db.run(ctx, "sweep signals",
		one(disable, to(&disabled), when(before), when(at), int64(limit), sharedsignal.ReasonNotFetched),
		one(remove, to(&swept), when(before), int64(limit)))
	return int(max(disabled, swept)), err
}
