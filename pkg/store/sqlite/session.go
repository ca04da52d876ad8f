package sqlite

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"slices"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/user"
	"github.com/handstamp/handstamp/pkg/verifier"
)

const (
	sessionColumns = `sessions.id, user_id, client_id, generation, nonce, rotated_at, last_request_hash, earlier_requests,
		idle_expires_at, expires_at, revoked_at, revoke_reason, scope, audience, roles, iat_floor, amr, acr, auth_time, user_agent, ip,
		created_at, coalesce(status_number, 0), coalesce(parent_id, zeroblob(16))`

	// sessionFacts are of the session's client.
	sessionFacts = `,
		(SELECT disabled_at IS NOT NULL FROM clients WHERE clients.id = sessions.client_id),
		(SELECT refresh_grace FROM clients WHERE clients.id = sessions.client_id)`

	// sessionPerson is what scanRotated reads of the user, only for an ID token that tells of the user.
	sessionPerson = `,
		CASE WHEN instr(' ' || sessions.scope || ' ', ' openid ') > 0
				AND (SELECT coalesce(id_token_claims, NOT third_party) FROM clients WHERE clients.id = sessions.client_id) THEN (
			SELECT json_object('email', email, 'email_verified_at', email_verified_at / 1000000, 'name', name,
				'profile', json(profile), 'updated_at', updated_at / 1000000)
			FROM users WHERE users.id = sessions.user_id) END`

	// alive is the condition of Session.Alive with the time as ?1.
	alive = `revoked_at IS NULL AND idle_expires_at > ?1 AND expires_at > ?1`
)

func scanSession(r *row, s *session.Session) {
	r.scan(s.ID[:], &s.UserID, &s.ClientID, &s.Generation, s.Nonce[:], &s.RotatedAt, s.LastRequestHash[:],
		&s.EarlierRequests, &s.IdleExpiresAt, &s.ExpiresAt, &s.RevokedAt, (*string)(&s.RevokeReason), &s.Scope,
		&s.Audience, &s.Roles, &s.IATFloor, &s.AMR, &s.ACR, &s.AuthTime,
		&s.UserAgent, &s.IP, &s.CreatedAt, &s.StatusNumber, s.Parent[:], &s.ClientDisabled, &s.ClientGrace)
}

// scanRotated reads what sessionPerson adds as well.
func scanRotated(r *row, s *session.Session) {
	scanSession(r, s)
	text, told := r.values[len(r.values)-1].(string)
	if !told || r.err != nil {
		return
	}
	s.Person, r.err = session.ParsePerson(s.UserID, []byte(text))
}

// Start implements [session.Store].
func (db *DB) Start(ctx context.Context, s session.Start) (started session.Started, err error) {
	err = db.write(ctx, "start session", func(c *conn) error {
		if started, err = start(c, s, nil); err == nil && !started.Created {
			return errRollback
		}
		return err
	})
	if err != nil {
		return session.Started{}, err
	}
	if len(started.Ended) > 0 {
		db.wake.all()
	}
	return started, nil
}

// start adds the session if it may start; browserSession is the hash of the one it comes from, nil for none.
func start(c *conn, s session.Start, browserSession []byte) (started session.Started, err error) {
	if err := startFacts(c, s, &started); err != nil {
		return started, err
	}
	if !started.UserFound || started.UserDisabled || !started.ClientFound || started.ClientDisabled ||
		started.HasFactors && !s.ShowsFactors {
		return started, nil
	}
	if !s.Factor.IsZero() {
		started.FactorUsed, err = useFactor(c, s.Session.UserID, s.Session.CreatedAt, s.Factor)
		if err != nil || !started.FactorUsed {
			return started, err
		}
	}
	if started.Ended, err = makeWay(c, s, browserSession); err != nil {
		return started, err
	}
	if started.StatusNumber, err = nextStatus(c); err != nil {
		return started, err
	}
	if err := insertSession(c, s.Session, started, browserSession); err != nil {
		return started, err
	}
	if err := refund(c, s.Refund, s.Session.CreatedAt); err != nil {
		return started, err
	}
	if err := post(c, s.Session.UserID, s.Mail); err != nil {
		return started, err
	}
	started.Created = true
	return started, record(c, s.Event)
}

// startFacts reads what decides on a new session.
func startFacts(c *conn, s session.Start, started *session.Started) (err error) {
	started.UserFound, err = c.one(`
		SELECT disabled_at IS NOT NULL, roles FROM users WHERE id = ?1 AND (?2 = '' OR password_hash = ?2)
			AND (?3 = '' OR EXISTS (SELECT 1 FROM identities WHERE provider = ?3 AND subject = ?4 AND user_id = ?1))`,
		func(r *row) { r.scan(&started.UserDisabled, &started.Roles) }, s.Session.UserID, s.PasswordHash, s.Provider, s.Subject)
	if err != nil {
		return err
	}
	started.ClientFound, err = c.one(`SELECT disabled_at IS NOT NULL FROM clients WHERE id = ?`,
		func(r *row) { r.scan(&started.ClientDisabled) }, s.Session.ClientID)
	if err != nil {
		return err
	}
	started.HasFactors, err = hasFactors(c, s.Session.UserID)
	return err
}

// makeWay ends sessions of the user so that one more stays within the limit: first those of the same browser login at the same
// client, then those that were used least recently.
func makeWay(c *conn, s session.Start, browserSession []byte) ([]session.ID, error) {
	if s.Limit <= 0 {
		return nil, nil
	}
	at := s.Session.CreatedAt
	ids, err := sessionIDs(c, `SELECT id FROM sessions WHERE user_id = ?2 AND parent_id IS NULL AND `+alive+`
		ORDER BY coalesce(browser_session = ?4 AND client_id = ?5, 0), rotated_at DESC, id DESC LIMIT -1 OFFSET ?3`,
		at, s.Session.UserID, s.Limit-1, browserSession, s.Session.ClientID)
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	slices.Reverse(ids) // as they went
	for _, id := range slices.Clone(ids) {
		children, err := sessionIDs(c, `UPDATE sessions SET revoked_at = ?1, revoke_reason = ?2
			WHERE (id = ?3 OR parent_id = ?3) AND `+alive+` RETURNING id`, at, string(session.ReasonLimit), id[:])
		if err != nil {
			return nil, err
		}
		ids = append(ids, slices.DeleteFunc(children, func(child session.ID) bool { return child == id })...)
	}
	if err := blockSessions(c, ids, at, s.BlockUntil); err != nil {
		return nil, err
	}
	e := s.Event // of the login that they made way for
	e.Kind, e.Actor, e.SessionID, e.Reason = audit.KindSessionsEnded, audit.ActorSystem, "", string(session.ReasonLimit)
	return ids, record(c, e)
}

func insertSession(c *conn, s session.Session, started session.Started, browserSession []byte) error {
	_, err := c.exec(`
		INSERT INTO sessions (id, user_id, client_id, generation, nonce, rotated_at, last_request_hash, idle_expires_at, expires_at,
			revoked_at, revoke_reason, scope, audience, roles, iat_floor, amr, acr, auth_time, user_agent, ip, created_at,
				browser_session, status_number)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		s.ID[:], s.UserID, s.ClientID, s.Generation, s.Nonce[:], s.RotatedAt, s.LastRequestHash[:], s.IdleExpiresAt, s.ExpiresAt,
		s.RevokedAt, string(s.RevokeReason), s.Scope, s.Audience, started.Roles, s.IATFloor, s.AMR, s.ACR, s.AuthTime, s.UserAgent,
		s.IP, s.CreatedAt, browserSession, started.StatusNumber)
	return err
}

// Rotate implements [session.Store]. Rotations that come together are one transaction, and so one sync of the log.
func (db *DB) Rotate(ctx context.Context, rotations []session.Rotation) (rows []*session.Session, err error) {
	switch len(rotations) {
	case 0:
		return nil, nil
	case 1:
		row, err := db.update(ctx, "rotate session", func(c *conn) (*session.Session, error) {
			return oneSession(c, rotate+` RETURNING `+sessionColumns+sessionFacts+sessionPerson, rotateArgs(rotations[0])...)
		})
		if err != nil {
			return nil, err
		}
		return []*session.Session{row}, nil
	}
	err = db.refresh(ctx, "rotate sessions", func(c *conn) (err error) {
		rows, err = rotateAll(c, rotations)
		return err
	})
	if err != nil {
		return nil, err
	}
	return rows, nil
}

const (
	// exact is the condition that a row is as presented.
	exact = `id = ?2 AND generation = ?3 AND nonce = ?4 AND client_id = ?5 AND ` + alive + `
		AND (SELECT disabled_at IS NULL FROM clients WHERE clients.id = sessions.client_id)`

	rotate = `
		UPDATE sessions SET
			generation = ?6, rotated_at = ?1, last_request_hash = ?7, idle_expires_at = min(?8, expires_at,
				coalesce((SELECT p.idle_expires_at FROM sessions p WHERE p.id = sessions.parent_id), expires_at)), -- of a child's parent
			iat_floor = max(iat_floor, ?9),
			earlier_requests = CASE WHEN ?6 = generation + 1 AND (last_request_hash <> zeroblob(16) OR earlier_requests IS NOT NULL) THEN
				substr(CAST(last_request_hash || coalesce(earlier_requests, x'') AS BLOB), 1, 64) END
		WHERE ` + exact
)

func rotateArgs(r session.Rotation) []any {
	return []any{r.At, r.ID[:], r.From, r.Nonce[:], r.ClientID, r.To, r.RequestHash[:], r.IdleExpiresAt, r.At.Unix()}
}

// rotateAll updates row by row and then reads all that were updated. RETURNING would build a temporary table for each
// row and cost twice as much.
func rotateAll(c *conn, rotations []session.Rotation) ([]*session.Session, error) {
	at := make(map[session.ID]int, len(rotations)) // where the rows that were updated go
	ids := []byte{'['}
	for i, r := range rotations {
		if _, done := at[r.ID]; done {
			continue // of several rotations of one session one succeeds
		}
		n, err := c.exec(rotate, rotateArgs(r)...)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			continue
		}
		at[r.ID] = i
		if len(ids) > 1 {
			ids = append(ids, ',')
		}
		ids = append(hex.AppendEncode(append(ids, '"'), r.ID[:]), '"')
	}
	rows := make([]*session.Session, len(rotations))
	if len(at) == 0 {
		return rows, nil
	}
	err := c.query(`SELECT `+sessionColumns+sessionFacts+sessionPerson+
		` FROM json_each(?) AS wanted CROSS JOIN sessions ON sessions.id = unhex(wanted.value)`,
		func(r *row) error {
			var s session.Session
			scanRotated(r, &s)
			rows[at[s.ID]] = &s
			return nil
		}, string(append(ids, ']')))
	return rows, err
}

// Repeat implements [session.Store].
func (db *DB) Repeat(ctx context.Context, r session.Rotation) (*session.Session, error) {
	return db.update(ctx, "repeat rotation", func(c *conn) (*session.Session, error) {
		return oneSession(c, `
			UPDATE sessions SET iat_floor = max(iat_floor, ?6)
			WHERE `+exact+`
			RETURNING `+sessionColumns+sessionFacts+sessionPerson,
			r.At, r.ID[:], r.From, r.Nonce[:], r.ClientID, r.At.Unix())
	})
}

// update runs one statement that is its own transaction.
func (db *DB) update(ctx context.Context, doing string, do func(c *conn) (*session.Session, error)) (s *session.Session,
	err error) {
	err = db.writer.use(ctx, func(c *conn) error {
		if s, err = do(c); err != nil {
			c.failed = true // a commit may be under way
		}
		return err
	})
	if err != nil {
		return nil, wrap(doing, err)
	}
	return s, nil
}

// oneSession returns nil if the statement finds none.
func oneSession(c *conn, query string, args ...any) (*session.Session, error) {
	var s session.Session
	found, err := c.one(query, func(r *row) { scanRotated(r, &s) }, args...)
	if err != nil || !found {
		return nil, err
	}
	return &s, nil
}

func sessionIDs(c *conn, query string, args ...any) (ids []session.ID, err error) {
	err = c.query(query, func(r *row) error {
		var id session.ID
		r.scan(id[:])
		ids = append(ids, id)
		return nil
	}, args...)
	return ids, err
}

// Session implements [session.Store].
func (db *DB) Session(ctx context.Context, id session.ID) (s session.Session, err error) {
	err = db.read(ctx, "read session", func(c *conn) error {
		found, err := c.one(`SELECT `+sessionColumns+sessionFacts+` FROM sessions WHERE id = ?`, func(r *row) { scanSession(r, &s) },
			id[:])
		if err == nil && !found {
			return session.ErrNotFound
		}
		return err
	})
	return s, err
}

// Sessions implements [session.Store].
func (db *DB) Sessions(ctx context.Context, userID string, at time.Time) (sessions []session.Session, err error) {
	err = db.read(ctx, "list sessions", func(c *conn) error {
		return c.query(`SELECT `+sessionColumns+sessionFacts+`, browser_session FROM sessions WHERE user_id = ?2 AND `+alive+`
			AND NOT EXISTS (SELECT 1 FROM clients WHERE clients.id = sessions.client_id AND deleted_at IS NOT NULL)
			ORDER BY created_at DESC, id DESC`, func(r *row) error {
			var s session.Session
			scanSession(r, &s)
			browser, _ := r.values[len(r.values)-1].([]byte)
			copy(s.Browser[:], browser)
			sessions = append(sessions, s)
			return nil
		}, at, userID)
	})
	return sessions, err
}

// EndSession implements [session.Store].
func (db *DB) EndSession(ctx context.Context, id session.ID, e session.Ending) (ended bool, err error) {
	err = db.announce(ctx, "end session", func(c *conn) error {
		var root session.ID
		found, err := c.one(`SELECT coalesce(parent_id, id) FROM sessions WHERE id = ?2 AND `+alive, func(r *row) { r.scan(root[:]) },
			e.At, id[:])
		if err != nil || !found {
			return cmp.Or(err, errRollback)
		}
		ids, err := sessionIDs(c, `UPDATE sessions SET revoked_at = ?1, revoke_reason = ?2 WHERE (id = ?3 OR parent_id = ?3) AND `+
			alive+
			` RETURNING id`, e.At, string(e.Reason), root[:])
		if err != nil {
			return err
		}
		ended = true
		if err := blockSessions(c, ids, e.At, e.BlockUntil); err != nil {
			return err
		}
		return record(c, e.Event)
	})
	return ended && err == nil, err
}

// EndDevice implements [session.Store].
func (db *DB) EndDevice(ctx context.Context, userID string, id session.ID, e session.Ending) (ids []session.ID, err error) {
	err = db.announce(ctx, "end device", func(c *conn) error {
		ids, err = endSome(c, `(id = ?4
			OR (client_id, browser_session) = (SELECT client_id, browser_session FROM sessions WHERE id = ?4 AND user_id = ?2)
			OR coalesce(parent_id, id) = (SELECT coalesce(parent_id, id) FROM sessions WHERE id = ?4 AND user_id = ?2))`, userID, id[:], e)
		if err != nil || len(ids) == 0 {
			return cmp.Or(err, errRollback)
		}
		return record(c, e.Event)
	})
	if err != nil {
		return nil, err
	}
	return ids, nil
}

// EndSessions implements [session.Store].
func (db *DB) EndSessions(ctx context.Context, userID string, except session.ID, e session.Ending) ([]session.ID, error) {
	return db.ending(ctx, "end sessions", userID, except, e, func(*conn) (bool, error) { return false, nil })
}

// EndSessionsBefore implements [session.Store].
func (db *DB) EndSessionsBefore(ctx context.Context, before time.Time, after session.ID, limit int, e session.Ending) (
	ids []session.ID, forgotten int, err error) {
	err = db.announce(ctx, "end sessions", func(c *conn) error {
		ids, err = sessionIDs(c, `UPDATE sessions SET revoked_at = ?1, revoke_reason = ?4 WHERE id IN (
			SELECT id FROM sessions WHERE id > ?3 AND created_at < ?2 AND `+alive+` ORDER BY id LIMIT ?5) RETURNING id`,
			e.At, before, after[:], string(e.Reason), limit)
		if err != nil {
			return err
		}
		slices.SortFunc(ids, func(a, b session.ID) int { return bytes.Compare(a[:], b[:]) })
		for _, sql := range []string{
			// A walk along the primary key: no index is worth its price for what is done once in years.
			`DELETE FROM browser_sessions WHERE hash IN (
				SELECT hash FROM browser_sessions WHERE hash > x'' AND created_at < ? ORDER BY hash LIMIT ?)`,
			`DELETE FROM authorization_codes WHERE hash IN (
				SELECT hash FROM authorization_codes WHERE hash > x'' AND created_at < ? AND used_at IS NULL ORDER BY hash LIMIT ?)`,
		} {
			n, err := c.exec(sql, before, limit)
			if err != nil {
				return err
			}
			forgotten = max(forgotten, int(n))
		}
		if len(ids) == 0 {
			return nil
		}
		if err := blockSessions(c, ids, e.At, e.BlockUntil); err != nil {
			return err
		}
		return record(c, e.Event)
	})
	if err != nil {
		return nil, 0, err
	}
	return ids, forgotten, nil
}

// SetPassword implements [session.Store].
func (db *DB) SetPassword(ctx context.Context, userID, old, replacement string, e session.Ending) ([]session.ID, error) {
	return db.ending(ctx, "set password", userID, session.ID{}, e, func(c *conn) (bool, error) {
		if err := replaceHash(c, userID, old, replacement, e.At); err != nil {
			return false, err
		}
		return true, post(c, userID, e.Mail)
	})
}

// DisableUser implements [session.Store].
func (db *DB) DisableUser(ctx context.Context, userID string, e session.Ending) ([]session.ID, error) {
	return db.ending(ctx, "disable user", userID, session.ID{}, e, func(c *conn) (bool, error) {
		return setDisabled(c, userID, e.At, e.At)
	})
}

// ending changes the user and ends the user's sessions. The event is recorded if either made a difference.
func (db *DB) ending(ctx context.Context, doing, userID string, except session.ID, e session.Ending,
	change func(c *conn) (bool, error)) (ids []session.ID, err error) {
	err = db.announce(ctx, doing, func(c *conn) error {
		changed, err := change(c)
		if err != nil {
			return err
		}
		if ids, err = endAll(c, userID, except, e); err != nil {
			return err
		}
		if !changed && len(ids) == 0 {
			return nil
		}
		return record(c, e.Event)
	})
	if err != nil {
		return nil, err
	}
	return ids, nil
}

// endAll ends and blocks the user's live sessions except one. It also ends what could start another: browser sessions and
// unused codes, except those of the browser session of the spared one.
func endAll(c *conn, userID string, except session.ID, e session.Ending) ([]session.ID, error) {
	ids, err := sessionIDs(c, `UPDATE sessions SET revoked_at = ?1, revoke_reason = ?4 WHERE user_id = ?2
		AND coalesce(parent_id, id) <> coalesce((SELECT o.parent_id FROM sessions o WHERE o.id = ?3), ?3) AND `+alive+` RETURNING id`,
		e.At, userID, except[:], string(e.Reason))
	if err != nil {
		return nil, err
	}
	const spared = ` IS NOT (SELECT browser_session FROM sessions WHERE id = ?2 AND user_id = ?1)`
	if _, err := c.exec(`DELETE FROM browser_sessions WHERE user_id = ?1 AND hash`+spared, userID, except[:]); err != nil {
		return nil, err
	}
	if _, err := c.exec(`DELETE FROM authorization_codes WHERE user_id = ?1 AND used_at IS NULL AND (browser_session IS NULL OR `+
		`browser_session`+spared+`)`,
		userID, except[:]); err != nil {
		return nil, err
	}
	return ids, blockSessions(c, ids, e.At, e.BlockUntil)
}

// DeleteUser implements [session.Store]. The sessions go with the row of the user; events stay, they are the record of it.
func (db *DB) DeleteUser(ctx context.Context, userID string, e session.Ending) (ids []session.ID, err error) {
	err = db.announce(ctx, "delete user", func(c *conn) error {
		if err := post(c, userID, e.Mail); err != nil {
			return err
		}
		if ids, err = endAll(c, userID, session.ID{}, e); err != nil {
			return err
		}
		var emailKey string
		found, err := c.one(`DELETE FROM users WHERE id = ? RETURNING coalesce(email_key, '')`, func(r *row) { r.scan(&emailKey) },
			userID)
		if err != nil {
			return err
		}
		if !found {
			return user.ErrNotFound
		}
		attempts := user.StrangersKey(emailKey)
		if _, err := c.exec(`DELETE FROM login_attempts WHERE key = ?`, attempts[:]); err != nil {
			return err
		}
		return record(c, e.Event)
	})
	if err != nil {
		return nil, err
	}
	return ids, nil
}

// SetRoles implements [session.Store].
func (db *DB) SetRoles(ctx context.Context, userID string, roles []string, e session.Ending) error {
	return db.announce(ctx, "set roles", func(c *conn) error {
		var old []string
		found, err := c.one(`SELECT roles FROM users WHERE id = ?`, func(r *row) { r.scan(&old) }, userID)
		if err != nil {
			return err
		}
		if !found {
			return user.ErrNotFound
		}
		if slices.Equal(slices.Sorted(slices.Values(old)), slices.Sorted(slices.Values(roles))) {
			return errRollback
		}
		if _, err := c.exec(`UPDATE users SET roles = ?, updated_at = ? WHERE id = ?`, roles, e.At, userID); err != nil {
			return err
		}
		var (
			entries []blocklist.Entry
			changed []session.ID
		)
		err = c.query(`UPDATE sessions SET roles = ?3, iat_floor = min(max(iat_floor, ?4), ?4 + 1) + 1 WHERE user_id = ?2 AND `+alive+
			` RETURNING id, iat_floor`,
			func(r *row) error {
				var id session.ID
				var floor int64
				r.scan(id[:], &floor)
				entries = append(entries, blocklist.Entry{
					Key:       verifier.KeyOf(verifier.BlockSID, id.String()),
					NotBefore: time.Unix(floor-1, 0),
					DropAfter: e.BlockUntil,
				})
				changed = append(changed, id)
				return nil
			}, e.At, userID, roles, e.At.Unix())
		if err != nil {
			return err
		}
		if err := block(c, e.At, entries...); err != nil {
			return err
		}
		for _, id := range changed {
			if err := renumber(c, id); err != nil {
				return err
			}
		}
		return record(c, e.Event)
	})
}

// SweepSessions implements [session.Store].
func (db *DB) SweepSessions(ctx context.Context, before time.Time, limit int) (swept int, err error) {
	err = db.write(ctx, "sweep sessions", func(c *conn) error {
		n, err := c.exec(`
			DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE expires_at < ? ORDER BY expires_at LIMIT ?)`, before, limit)
		swept = int(n)
		return err
	})
	return swept, err
}
