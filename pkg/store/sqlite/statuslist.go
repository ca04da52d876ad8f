package sqlite

import (
	"context"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/statuslist"
)

// nextStatus takes the next status number.
func nextStatus(c *conn) (number int64, err error) {
	_, err = c.one(`UPDATE status_numbers SET last = last + 1 WHERE one = 1 RETURNING last`, func(r *row) { r.scan(&number) })
	return number, err
}

// renumber gives a session another status number; a trigger revokes the one that it had.
func renumber(c *conn, id session.ID) error {
	number, err := nextStatus(c)
	if err != nil {
		return err
	}
	_, err = c.exec(`UPDATE sessions SET status_number = ? WHERE id = ?`, number, id[:])
	return err
}

// RevokedStatuses implements [statuslist.Store].
func (db *DB) RevokedStatuses(ctx context.Context, first, last int64) (numbers []int64, err error) {
	err = db.read(ctx, "read revoked statuses", func(c *conn) error {
		return c.query(`SELECT number FROM revoked_statuses WHERE number BETWEEN ? AND ? ORDER BY number`, func(r *row) error {
			var n int64
			r.scan(&n)
			numbers = append(numbers, n)
			return nil
		}, first, last)
	})
	return numbers, err
}

// StatusRange implements [statuslist.Store].
func (db *DB) StatusRange(ctx context.Context) (least, greatest int64, err error) {
	err = db.read(ctx, "read range of statuses", func(c *conn) error {
		for _, query := range []string{
			`SELECT status_number FROM sessions WHERE status_number >= ? ORDER BY status_number LIMIT 1`,
			`SELECT status_number FROM sessions WHERE status_number >= ? ORDER BY status_number DESC LIMIT 1`,
			`SELECT number FROM revoked_statuses WHERE number >= ? ORDER BY number LIMIT 1`,
			`SELECT number FROM revoked_statuses WHERE number >= ? ORDER BY number DESC LIMIT 1`,
		} {
			var n int64
			if found, err := c.one(query, func(r *row) { r.scan(&n) }, statuslist.Size); err != nil {
				return err
			} else if found {
				greatest = max(greatest, n)
				if least == 0 || n < least {
					least = n
				}
			}
		}
		return nil
	})
	return least, greatest, err
}

// BlockToken implements [statuslist.Store].
func (db *DB) BlockToken(ctx context.Context, number int64, iat time.Time, entry blocklist.Entry, e audit.Event) error {
	return db.announce(ctx, "block token", func(c *conn) error {
		if err := block(c, e.At, entry); err != nil {
			return err
		}
		if number != 0 {
			if _, err := c.exec(`
				INSERT INTO revoked_statuses (number, newest_at) VALUES (?, ?)
				ON CONFLICT (number) DO UPDATE SET newest_at = max(newest_at, excluded.newest_at)`, number, iat.Unix()); err != nil {
				return err
			}
			ids, err := sessionIDs(c, `SELECT id FROM sessions WHERE status_number = ?`, number)
			if err != nil {
				return err
			}
			for _, id := range ids {
				if err := renumber(c, id); err != nil {
					return err
				}
			}
		}
		return record(c, e)
	})
}

// SweepStatuses implements [statuslist.Store].
func (db *DB) SweepStatuses(ctx context.Context, before time.Time, limit int) (swept int, err error) {
	err = db.write(ctx, "sweep statuses", func(c *conn) error {
		n, err := c.exec(`
			DELETE FROM revoked_statuses WHERE number IN (SELECT number FROM revoked_statuses WHERE newest_at < ? ORDER BY newest_at
				LIMIT ?)`, before.Unix(), limit)
		swept = int(n)
		return err
	})
	return swept, err
}
