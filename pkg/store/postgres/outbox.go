package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/outbox"
	"github.com/handstamp/handstamp/pkg/sharedsignal"
)

// LeaseRows implements outbox.Source. The oldest row of each destination is found by jumping from destination to
// destination in the index, so that a long queue of one costs no more than a short one. A row that is put off has the reason
// of its failure and is passed over; one that is leased has none, and the destination waits for it.
func (db *DB) LeaseRows(ctx context.Context, kind string, at, until time.Time, limit int) ([]outbox.Row, error) {
	const sql = `WITH RECURSIVE d (destination) AS (
			SELECT min(o.destination) FROM outbox o WHERE o.kind = $1 AND o.dead_at IS NULL
			UNION ALL
			SELECT (SELECT min(o.destination) FROM outbox o WHERE o.kind = $1 AND o.dead_at IS NULL
				AND o.destination > d.destination) FROM d WHERE d.destination IS NOT NULL
		), head AS (
			SELECT (SELECT min(o.id) FROM outbox o WHERE o.kind = $1 AND o.dead_at IS NULL AND o.destination = d.destination
				AND (o.leased_until <= $2::timestamptz OR o.reason = '')) AS id
			FROM d WHERE d.destination IS NOT NULL
		), leased AS (
			UPDATE outbox SET leased_until = $3::timestamptz, attempts = attempts + 1, reason = ''
			WHERE id = ANY (ARRAY (
				SELECT o.id FROM head JOIN outbox o ON o.id = head.id WHERE o.leased_until <= $2::timestamptz AND o.dead_at IS NULL
				ORDER BY o.leased_until LIMIT $4::bigint FOR UPDATE OF o SKIP LOCKED))
			RETURNING id, destination, payload, attempts - 1 AS attempts, created_at, leased_until
		) SELECT id, destination, payload, attempts, created_at, leased_until FROM leased ORDER BY id`
	var leased []outbox.Row
	err := db.run(ctx, "lease outbox", step{
		sql:  sql,
		args: []any{kind, when(at), when(until), int64(limit)},
		scan: func(rows pgx.Rows) error {
			r := outbox.Row{Kind: kind}
			var payload string
			err := rows.Scan(&r.ID, &r.Destination, &payload, &r.Attempts, instant{&r.CreatedAt}, instant{&r.LeasedUntil})
			r.Payload = []byte(payload)
			leased = append(leased, r)
			return err
		},
	})
	if err != nil {
		return nil, err
	}
	return leased, nil
}

// FinishRow implements outbox.Source. The end of the lease says whose it is.
func (db *DB) FinishRow(ctx context.Context, r outbox.Row, o outbox.Outcome) error {
	const (
		remove = `DELETE FROM outbox WHERE id = $1 AND leased_until = $2 AND dead_at IS NULL`
		keep   = `UPDATE outbox SET leased_until = COALESCE($3, leased_until), dead_at = $4, reason = $5
			WHERE id = $1 AND leased_until = $2 AND dead_at IS NULL`
	)
	if o.Result() == outbox.Delivered {
		return db.run(ctx, "finish outbox row", do(remove, r.ID, when(r.LeasedUntil)))
	}
	return db.run(ctx, "finish outbox row", do(keep, r.ID, when(r.LeasedUntil), when(o.RetryAt), when(o.DeadAt), o.Reason))
}

// Deliveries implements store.Store.
func (db *DB) Deliveries(ctx context.Context) (map[string]int, error) {
	const sql = `SELECT (SELECT count(*) FROM outbox WHERE kind = $1 AND dead_at IS NULL), (SELECT count(*) FROM signal_events)`
	var logouts, pushes int
	err := db.report(ctx, "count deliveries", one(sql, to(&logouts, &pushes), oauth.KindLogout))
	return map[string]int{oauth.KindLogout: logouts, sharedsignal.KindPush: pushes}, err
}

// SweepRows implements outbox.Store. It also moves what a transaction that began before the migration has left in the
// table of before.
func (db *DB) SweepRows(ctx context.Context, before time.Time, limit int) (int, error) {
	const (
		move = `WITH moved AS (
				DELETE FROM logout_deliveries WHERE leased_until >= '-infinity' RETURNING *
			) INSERT INTO outbox (kind, destination, payload, attempts, created_at, leased_until)
			SELECT 'logout', client_id,
				json_build_object('uri', uri, 'user_id', user_id, 'session_id', translate(session_id::text, '-', '')),
				attempts, created_at, leased_until
			FROM moved ORDER BY id`
		sweep = `WITH swept AS (
				DELETE FROM outbox WHERE id = ANY (ARRAY (
					SELECT id FROM outbox WHERE dead_at < $1 ORDER BY dead_at LIMIT $2::bigint FOR UPDATE SKIP LOCKED))
				RETURNING 1
			) SELECT count(*) FROM swept`
		budgets = `DELETE FROM mail_budgets WHERE ctid = ANY (ARRAY (
			SELECT ctid FROM mail_budgets WHERE free_at < $1 ORDER BY free_at LIMIT $2::bigint FOR UPDATE SKIP LOCKED))`
	)
	var swept int64
	err := db.run(ctx, "sweep outbox", do(move), one(sweep, to(&swept), when(before), int64(limit)),
		do(budgets, when(before), int64(limit)))
	return int(swept), err
}

// Rows implements outbox.Store.
func (db *DB) Rows(ctx context.Context, kind string, before int64, limit int) ([]outbox.Entry, error) {
	const sql = `SELECT id, destination, payload, attempts, created_at, leased_until, dead_at, reason FROM outbox
		WHERE kind = $1 AND ($2::bigint = 0 OR id < $2::bigint) ORDER BY id DESC LIMIT $3::bigint`
	var entries []outbox.Entry
	err := db.report(ctx, "list outbox", step{
		sql:  sql,
		args: []any{kind, before, int64(limit)},
		scan: func(rows pgx.Rows) error {
			e := outbox.Entry{Row: outbox.Row{Kind: kind}}
			var payload string
			err := rows.Scan(&e.ID, &e.Destination, &payload, &e.Attempts, instant{&e.CreatedAt}, instant{&e.LeasedUntil},
				instant{&e.DeadAt}, &e.Reason)
			e.Payload = []byte(payload)
			entries = append(entries, e)
			return err
		},
	})
	return entries, err
}

// RetryRows implements outbox.Store.
func (db *DB) RetryRows(ctx context.Context, kind string, ids []int64, at time.Time) (int, error) {
	const sql = `WITH retried AS (
			UPDATE outbox SET dead_at = NULL, reason = '', attempts = 0, created_at = $3::timestamptz, leased_until = $3::timestamptz
			WHERE kind = $1 AND ($2::bigint[] IS NULL OR id = ANY ($2::bigint[])) AND (dead_at IS NOT NULL OR reason <> '')
			RETURNING 1
		) SELECT count(*) FROM retried`
	var retried int64
	err := db.run(ctx, "retry outbox", one(sql, to(&retried), kind, ids, when(at)))
	return int(retried), err
}

// Backlog implements outbox.Store.
func (db *DB) Backlog(ctx context.Context, kind string) (b outbox.Backlog, err error) {
	const sql = `SELECT count(*) FILTER (WHERE dead_at IS NULL), count(dead_at), min(created_at) FILTER (WHERE dead_at IS NULL)
		FROM outbox WHERE kind = $1`
	err = db.report(ctx, "count outbox", one(sql, to(&b.Waiting, &b.Dead, instant{&b.Oldest}), kind))
	return b, err
}
