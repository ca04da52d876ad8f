package sqlite

import (
	"context"
	"time"

	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/outbox"
	"github.com/handstamp/handstamp/pkg/sharedsignal"
)

// LeaseRows implements [outbox.Source]. The oldest row of each destination is found by jumping from destination to
// destination in the index, so that a long queue of one costs no more than a short one. A row that is put off has the reason
// of its failure and is passed over; one that is leased has none, and the destination waits for it.
func (db *DB) LeaseRows(ctx context.Context, kind string, at, until time.Time, limit int) (leased []outbox.Row, err error) {
	const due = `WITH RECURSIVE destinations (name) AS (
			SELECT min(destination) FROM outbox WHERE kind = ?1 AND dead_at IS NULL
			UNION ALL
			SELECT (SELECT min(o.destination) FROM outbox o WHERE o.kind = ?1 AND o.dead_at IS NULL
				AND o.destination > destinations.name) FROM destinations WHERE destinations.name IS NOT NULL
		), head AS (
			SELECT (SELECT min(o.id) FROM outbox o WHERE o.kind = ?1 AND o.dead_at IS NULL AND o.destination = destinations.name
				AND (o.leased_until <= ?2 OR o.reason = '')) AS id
			FROM destinations WHERE destinations.name IS NOT NULL
		)
		SELECT o.id FROM head CROSS JOIN outbox o WHERE o.id = head.id AND o.leased_until <= ?2 ORDER BY o.leased_until LIMIT ?3`
	// Nearly always there is none, and looking takes no lock.
	some := false
	err = db.read(ctx, "look into outbox", func(c *conn) (err error) {
		some, err = c.one(due, func(*row) {}, kind, at, 1)
		return err
	})
	if err != nil || !some {
		return nil, err
	}
	err = db.write(ctx, "lease outbox", func(c *conn) error {
		return c.query(`UPDATE outbox SET leased_until = ?4, attempts = attempts + 1, reason = '' WHERE id IN (`+due+`)
			RETURNING id, destination, payload, attempts - 1, created_at, leased_until`, func(r *row) error {
			o := outbox.Row{Kind: kind}
			var payload string
			var attempts int64
			r.scan(&o.ID, &o.Destination, &payload, &attempts, &o.CreatedAt, &o.LeasedUntil)
			o.Payload, o.Attempts = []byte(payload), int(attempts)
			leased = append(leased, o)
			return nil
		}, kind, at, limit, until)
	})
	if err != nil {
		return nil, err
	}
	return leased, nil
}

// FinishRow implements [outbox.Source]. The end of the lease says whose it is.
func (db *DB) FinishRow(ctx context.Context, r outbox.Row, o outbox.Outcome) error {
	return db.write(ctx, "finish outbox row", func(c *conn) (err error) {
		if o.Result() == outbox.Delivered {
			_, err = c.exec(`DELETE FROM outbox WHERE id = ? AND leased_until = ? AND dead_at IS NULL`, r.ID, r.LeasedUntil)
			return err
		}
		_, err = c.exec(`
			UPDATE outbox SET leased_until = coalesce(?3, leased_until), dead_at = ?4, reason = ?5
			WHERE id = ?1 AND leased_until = ?2 AND dead_at IS NULL`,
			r.ID, r.LeasedUntil, o.RetryAt, o.DeadAt, o.Reason)
		return err
	})
}

// Deliveries implements store.Store.
func (db *DB) Deliveries(ctx context.Context) (map[string]int, error) {
	var logouts, pushes int64
	err := db.read(ctx, "count deliveries", func(c *conn) error {
		if _, err := c.one(`SELECT count(*) FROM outbox WHERE kind = ? AND dead_at IS NULL`, func(r *row) { r.scan(&logouts) },
			oauth.KindLogout); err != nil {
			return err
		}
		_, err := c.one(`SELECT count(*) FROM signal_events WHERE at > 0`, func(r *row) { r.scan(&pushes) })
		return err
	})
	return map[string]int{oauth.KindLogout: int(logouts), sharedsignal.KindPush: int(pushes)}, err
}

// SweepRows implements [outbox.Store].
func (db *DB) SweepRows(ctx context.Context, before time.Time, limit int) (int, error) {
	return db.sweep(ctx, "sweep outbox", before, limit,
		`DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE dead_at < ? ORDER BY dead_at LIMIT ?)`,
		`DELETE FROM mail_budgets WHERE key IN (SELECT key FROM mail_budgets WHERE free_at < ? ORDER BY free_at LIMIT ?)`)
}

// Rows implements [outbox.Store].
func (db *DB) Rows(ctx context.Context, kind string, before int64, limit int) (entries []outbox.Entry, err error) {
	err = db.read(ctx, "list outbox", func(c *conn) error {
		return c.query(`SELECT id, destination, payload, attempts, created_at, leased_until, dead_at, reason FROM outbox
			WHERE kind = ?1 AND (?2 = 0 OR id < ?2) ORDER BY id DESC LIMIT ?3`, func(r *row) error {
			e := outbox.Entry{Row: outbox.Row{Kind: kind}}
			var payload string
			var attempts int64
			r.scan(&e.ID, &e.Destination, &payload, &attempts, &e.CreatedAt, &e.LeasedUntil, &e.DeadAt, &e.Reason)
			e.Payload, e.Attempts = []byte(payload), int(attempts)
			entries = append(entries, e)
			return nil
		}, kind, before, limit)
	})
	return entries, err
}

// RetryRows implements [outbox.Store].
func (db *DB) RetryRows(ctx context.Context, kind string, ids []int64, at time.Time) (retried int, err error) {
	const sql = `UPDATE outbox SET dead_at = NULL, reason = '', attempts = 0, created_at = ?2, leased_until = ?2
		WHERE kind = ?1 AND (dead_at IS NOT NULL OR reason <> '')`
	err = db.write(ctx, "retry outbox", func(c *conn) error {
		if ids == nil {
			n, err := c.exec(sql, kind, at)
			retried = int(n)
			return err
		}
		for _, id := range ids {
			n, err := c.exec(sql+` AND id = ?3`, kind, at, id)
			if err != nil {
				return err
			}
			retried += int(n)
		}
		return nil
	})
	return retried, err
}

// Backlog implements [outbox.Store].
func (db *DB) Backlog(ctx context.Context, kind string) (b outbox.Backlog, err error) {
	err = db.read(ctx, "count outbox", func(c *conn) error {
		_, err := c.one(`SELECT count(*) FILTER (WHERE dead_at IS NULL), count(dead_at), min(created_at) FILTER (WHERE dead_at IS NULL)
			FROM outbox WHERE kind = ?`, func(r *row) {
			var waiting, dead int64
			r.scan(&waiting, &dead, &b.Oldest)
			b.Waiting, b.Dead = int(waiting), int(dead)
		}, kind)
		return err
	})
	return b, err
}
