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

const eventColumns = `at, kind, actor, user_id, session_id, client_id, reason, ip, user_agent, request_id`

// Events implements [audit.Store].
func (db *DB) Events(ctx context.Context, userID string, before time.Time, limit int) (events []audit.Event, err error) {
	err = db.read(ctx, "list events", func(c *conn) error {
		each := func(r *row) error {
			var e audit.Event
			r.scan(&e.At, (*string)(&e.Kind), &e.Actor, &e.UserID, &e.SessionID, &e.ClientID, &e.Reason, &e.IP, &e.UserAgent, &e.RequestID)
			events = append(events, e)
			return nil
		}
		end := int64(math.MaxInt64)
		if !before.IsZero() {
			end = before.UnixMicro()
		}
		if userID == "" {
			return c.query(`SELECT `+eventColumns+` FROM audit_events
				WHERE at < ? ORDER BY at DESC, id DESC LIMIT ?`, each, end, limit)
		}
		return c.query(`SELECT `+eventColumns+` FROM audit_events
			WHERE user_id = ? AND user_id <> '' AND at < ? ORDER BY at DESC, id DESC LIMIT ?`, each, userID, end, limit)
	})
	return events, err
}
