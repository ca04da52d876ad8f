package sqlite

import (
	"context"
	"math"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
)

// Record implements [audit.Store].
func (db *DB) Record(ctx context.Context, e audit.Event) error {
	return db.write(ctx, "record event", func(c *conn) error { return record(c, e) })
}

func record(c *conn, e audit.Event) error {
	_, err := c.exec(`
		INSERT INTO audit_events (at, kind, actor, user_id, session_id, client_id, reason, ip, user_agent, request_id)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		e.At, string(e.Kind), e.Actor, e.UserID, e.SessionID, e.ClientID, e.Reason, e.IP, e.UserAgent, e.RequestID)
	return err
}

const eventColumns = `id, at, kind, actor, user_id, session_id, client_id, reason, ip, user_agent, request_id`

// Events implements [audit.Store].
func (db *DB) Events(ctx context.Context, userID string, before audit.Cursor, limit int) (events []audit.Event, err error) {
	err = db.read(ctx, "list events", func(c *conn) error {
		each := func(r *row) error {
			var e audit.Event
			r.scan(&e.ID, &e.At, (*string)(&e.Kind), &e.Actor, &e.UserID, &e.SessionID, &e.ClientID, &e.Reason, &e.IP, &e.UserAgent,
				&e.RequestID)
			events = append(events, e)
			return nil
		}
		end := int64(math.MaxInt64)
		if !before.At.IsZero() {
			end = before.At.UnixMicro()
		}
		if userID == "" {
			return c.query(`SELECT `+eventColumns+` FROM audit_events
				WHERE (at, id) < (?, ?) ORDER BY at DESC, id DESC LIMIT ?`, each, end, before.ID, limit)
		}
		return c.query(`SELECT `+eventColumns+` FROM audit_events
			WHERE user_id = ? AND user_id <> '' AND (at, id) < (?, ?) ORDER BY at DESC, id DESC LIMIT ?`, each, userID, end, before.ID,
			limit)
	})
	return events, err
}

// SweepEvents implements [audit.Store].
func (db *DB) SweepEvents(ctx context.Context, before time.Time, limit int) (swept int, err error) {
	err = db.write(ctx, "sweep events", func(c *conn) error {
		n, err := c.exec(`
			DELETE FROM audit_events WHERE id IN (SELECT id FROM audit_events WHERE at < ? ORDER BY at LIMIT ?)`, before, limit)
		swept = int(n)
		return err
	})
	return swept, err
}
