package sqlite

import (
	"context"
	"time"

	"github.com/handstamp/handstamp/pkg/sharedsignal"
)

const (
	streamColumns = `id, client_id, method, endpoint_url, sealed, description, events_requested, status, status_reason, ` +
		`attempts, created_at, updated_at`

	// deliverable are the events e of a stream t that it may deliver as it is.
	deliverable = `e.stream_id = t.id AND (t.status = 'enabled' OR e.kind = 'stream-updated')`
)

func scanStream(r *row) (s sharedsignal.Stream) {
	var attempts int64
	r.scan(&s.ID, &s.ClientID, &s.Method, &s.EndpointURL, &s.Sealed, &s.Description, &s.EventsRequested, (*string)(&s.Status),
		&s.StatusReason, &attempts, &s.CreatedAt, &s.UpdatedAt)
	s.Attempts = int(attempts)
	s.Method = map[string]string{"push": sharedsignal.MethodPush, "poll": sharedsignal.MethodPoll}[s.Method]
	return s
}

// method is a method's short name in the table.
func method(s sharedsignal.Stream) string {
	if s.Method == sharedsignal.MethodPush {
		return "push"
	}
	return "poll"
}

// changeStream runs a statement that changes one stream, and what else belongs to it.
func (db *DB) changeStream(ctx context.Context, doing string, change func(c *conn) (found int64, err error)) error {
	return db.write(ctx, doing, func(c *conn) error {
		found, err := change(c)
		if err == nil && found == 0 {
			return sharedsignal.ErrStreamNotFound
		}
		return err
	})
}

// CreateStream implements [sharedsignal.Store].
func (db *DB) CreateStream(ctx context.Context, s sharedsignal.Stream) error {
	return db.write(ctx, "create stream", func(c *conn) error {
		n, err := c.exec(`
			INSERT INTO signal_streams (id, client_id, method, endpoint_url, sealed, description, events_requested, delivers, status,
				status_reason, attempts, created_at, updated_at, leased_until)
			VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'enabled', '', 0, ?9, ?9, ?9) ON CONFLICT (client_id) DO NOTHING`,
			s.ID, s.ClientID, method(s), s.EndpointURL, s.Sealed, s.Description, s.EventsRequested, s.Delivers(), s.CreatedAt)
		if err == nil && n == 0 {
			return sharedsignal.ErrStreamExists
		}
		return err
	})
}

// Stream implements [sharedsignal.Store].
func (db *DB) Stream(ctx context.Context, clientID string) (s sharedsignal.Stream, err error) {
	err = db.read(ctx, "read stream", func(c *conn) error {
		found, err := c.one(`SELECT `+streamColumns+` FROM signal_streams WHERE client_id = ?`, func(r *row) { s = scanStream(r) },
			clientID)
		if err == nil && !found {
			return sharedsignal.ErrStreamNotFound
		}
		return err
	})
	return s, err
}

// UpdateStream implements [sharedsignal.Store]. A new endpoint is tried at once.
func (db *DB) UpdateStream(ctx context.Context, s sharedsignal.Stream) error {
	return db.changeStream(ctx, "update stream", func(c *conn) (int64, error) {
		return c.exec(`
			UPDATE signal_streams SET method = ?3, endpoint_url = ?4, sealed = ?5, description = ?6, events_requested = ?7,
				delivers = ?8, attempts = 0, updated_at = ?9, leased_until = min(leased_until, ?9)
			WHERE id = ?1 AND client_id = ?2`,
			s.ID, s.ClientID, method(s), s.EndpointURL, s.Sealed, s.Description, s.EventsRequested, s.Delivers(), s.UpdatedAt)
	})
}

// SetStreamStatus implements [sharedsignal.Store].
func (db *DB) SetStreamStatus(ctx context.Context, id, clientID string, status sharedsignal.Status, reason string,
	at time.Time) error {
	return db.changeStream(ctx, "set stream status", func(c *conn) (int64, error) {
		n, err := c.exec(`UPDATE signal_streams SET status = ?, status_reason = ?, updated_at = ? WHERE id = ? AND client_id = ?`,
			string(status), reason, at, id, clientID)
		if err == nil && n > 0 && status == sharedsignal.Disabled {
			_, err = c.exec(`DELETE FROM signal_events WHERE stream_id = ?`, id)
		}
		return n, err
	})
}

// DeleteStream implements [sharedsignal.Store].
func (db *DB) DeleteStream(ctx context.Context, id, clientID string) error {
	return db.changeStream(ctx, "delete stream", func(c *conn) (int64, error) {
		n, err := c.exec(`DELETE FROM signal_streams WHERE id = ? AND client_id = ?`, id, clientID)
		if err == nil && n > 0 {
			_, err = c.exec(`DELETE FROM signal_events WHERE stream_id = ?`, id)
		}
		return n, err
	})
}

// LeaveOut implements [sharedsignal.Store].
func (db *DB) LeaveOut(ctx context.Context, streamID string, s sharedsignal.Subject, limit int) error {
	return db.write(ctx, "leave out subject", func(c *conn) error {
		if found, err := c.one(`SELECT 1 FROM signal_streams WHERE id = ?`, func(*row) {}, streamID); err != nil || !found {
			return notFoundOr(err)
		}
		known, err := c.one(`SELECT 1 FROM signal_exclusions WHERE stream_id = ? AND user_id = ? AND session_id = ?`, func(*row) {},
			streamID, s.UserID, s.SessionID[:])
		if err != nil || known {
			return err
		}
		var count int64
		if _, err := c.one(`SELECT count(*) FROM signal_exclusions WHERE stream_id = ?`, func(r *row) { r.scan(&count) },
			streamID); err != nil {
			return err
		}
		if count >= int64(limit) {
			return sharedsignal.ErrTooManySubjects
		}
		_, err = c.exec(`INSERT INTO signal_exclusions (stream_id, user_id, session_id) VALUES (?, ?, ?)`, streamID, s.UserID,
			s.SessionID[:])
		return err
	})
}

func notFoundOr(err error) error {
	if err == nil {
		return sharedsignal.ErrStreamNotFound
	}
	return err
}

// TakeIn implements [sharedsignal.Store].
func (db *DB) TakeIn(ctx context.Context, streamID string, s sharedsignal.Subject) error {
	return db.write(ctx, "take in subject", func(c *conn) error {
		_, err := c.exec(`DELETE FROM signal_exclusions WHERE stream_id = ? AND user_id = ? AND session_id = ?`, streamID, s.UserID,
			s.SessionID[:])
		return err
	})
}

// Verify implements [sharedsignal.Store].
func (db *DB) Verify(ctx context.Context, streamID, state string, at time.Time, every time.Duration) error {
	return db.write(ctx, "verify stream", func(c *conn) error {
		n, err := c.exec(`UPDATE signal_streams SET verified_at = ?2 WHERE id = ?1 AND (verified_at IS NULL OR verified_at <= ?3)`,
			streamID, at, at.Add(-every))
		if err != nil {
			return err
		}
		if n == 0 {
			if found, err := c.one(`SELECT 1 FROM signal_streams WHERE id = ?`, func(*row) {}, streamID); err != nil || !found {
				return notFoundOr(err)
			}
			return sharedsignal.ErrTooSoon
		}
		_, err = c.exec(`INSERT INTO signal_events (stream_id, kind, state, at) VALUES (?, 'verification', ?, ?)`, streamID, state, at)
		return err
	})
}

// SignalEvents implements [sharedsignal.Store].
func (db *DB) SignalEvents(ctx context.Context, streamID string, limit int) (events []sharedsignal.Event, err error) {
	err = db.read(ctx, "read events", func(c *conn) error {
		return c.query(`
			SELECT e.id, e.jti, e.kind, e.user_id, e.session_id, e.reason, e.state, e.at FROM signal_streams t CROSS JOIN signal_events e
			WHERE t.id = ? AND `+deliverable+` ORDER BY e.id LIMIT ?`, func(r *row) error {
			var e sharedsignal.Event
			r.scan(&e.ID, &e.JTI, (*string)(&e.Kind), &e.UserID, e.SessionID[:], &e.Reason, &e.State, &e.At)
			events = append(events, e)
			return nil
		}, streamID, limit)
	})
	return events, err
}

// Acknowledge implements [sharedsignal.Store].
func (db *DB) Acknowledge(ctx context.Context, streamID string, jtis []string) error {
	return db.write(ctx, "acknowledge events", func(c *conn) error { return removeEvents(c, streamID, jtis) })
}

func removeEvents(c *conn, streamID string, jtis []string) error {
	for _, jti := range jtis {
		if _, err := c.exec(`DELETE FROM signal_events WHERE stream_id = ? AND jti = ?`, streamID, jti); err != nil {
			return err
		}
	}
	return nil
}

// LeaseStreams implements [sharedsignal.Store].
func (db *DB) LeaseStreams(ctx context.Context, at, until time.Time, limit int) (leased []sharedsignal.Due, err error) {
	const due = `SELECT t.id FROM signal_streams t
		WHERE t.leased_until <= ?1 AND t.method = 'push' AND EXISTS (SELECT 1 FROM clients WHERE clients.id = t.client_id
			AND disabled_at IS NULL)
			AND EXISTS (SELECT 1 FROM signal_events e WHERE ` + deliverable + `)
		ORDER BY t.leased_until LIMIT ?2`
	// Nearly always there is none, and looking takes no lock.
	some := false
	err = db.read(ctx, "look for due streams", func(c *conn) (err error) {
		some, err = c.one(due, func(*row) {}, at, 1)
		return err
	})
	if err != nil || !some {
		return nil, err
	}
	err = db.write(ctx, "lease streams", func(c *conn) error {
		err := c.query(`UPDATE signal_streams AS t SET leased_until = ?3 WHERE t.id IN (`+due+`) RETURNING `+streamColumns,
			func(r *row) error {
				leased = append(leased, sharedsignal.Due{Stream: scanStream(r)})
				return nil
			}, at, limit, until)
		if err != nil {
			return err
		}
		const oldest = `SELECT e.at FROM signal_streams t CROSS JOIN signal_events e WHERE t.id = ? AND ` + deliverable + `
			ORDER BY e.id LIMIT 1`
		for i := range leased {
			if _, err := c.one(oldest, func(r *row) { r.scan(&leased[i].Since) }, leased[i].ID); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return leased, nil
}

// FinishPush implements [sharedsignal.Store].
func (db *DB) FinishPush(ctx context.Context, p sharedsignal.Push) error {
	return db.write(ctx, "finish push", func(c *conn) error {
		if err := removeEvents(c, p.StreamID, p.Delivered); err != nil {
			return err
		}
		for _, jti := range p.Refused {
			if _, err := c.exec(`UPDATE signal_events SET refusals = refusals + 1 WHERE stream_id = ? AND jti = ?`, p.StreamID,
				jti); err != nil {
				return err
			}
			if _, err := c.exec(`DELETE FROM signal_events WHERE stream_id = ? AND jti = ? AND refusals >= ?`, p.StreamID, jti,
				sharedsignal.MaxRefusals); err != nil {
				return err
			}
		}
		_, err := c.exec(`UPDATE signal_streams SET attempts = ?, leased_until = ? WHERE id = ? AND leased_until = ?`,
			p.Attempts, p.DueAt, p.StreamID, p.LeasedUntil)
		return err
	})
}

// SweepSignals implements [sharedsignal.Store].
func (db *DB) SweepSignals(ctx context.Context, before, at time.Time, limit int) (swept int, err error) {
	err = db.write(ctx, "sweep signals", func(c *conn) error {
		var old []string
		if err := c.query(`SELECT stream_id FROM signal_events WHERE at < ? ORDER BY at LIMIT ?`, func(r *row) error {
			var id string
			r.scan(&id)
			old = append(old, id)
			return nil
		}, before, limit); err != nil {
			return err
		}
		for _, id := range old {
			disabled, err := c.exec(`UPDATE signal_streams SET status = 'disabled', status_reason = ?, updated_at = ? WHERE id = ? AND `+
				`status <> 'disabled'`, sharedsignal.ReasonNotFetched, at, id)
			if err != nil {
				return err
			}
			if disabled > 0 {
				if _, err := c.exec(`DELETE FROM signal_events WHERE stream_id = ?`, id); err != nil {
					return err
				}
				if _, err := c.exec(`INSERT INTO signal_events (stream_id, kind, state, reason, at) VALUES (?, 'stream-updated', `+
					`'disabled', ?, ?)`, id, sharedsignal.ReasonNotFetched, at); err != nil {
					return err
				}
			} else if _, err := c.exec(`DELETE FROM signal_events WHERE stream_id = ? AND at < ?`, id, before); err != nil {
				return err
			}
		}
		swept = len(old)
		return nil
	})
	return swept, err
}
