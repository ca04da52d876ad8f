package postgres

import (
	"bytes"
	"context"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/session"
)

// sessionColumns are what row.session reads.
const sessionColumns = `s.id, s.user_id, s.client_id, s.generation, s.nonce, s.rotated_at, s.last_request_hash,
	s.earlier_requests, s.idle_expires_at, s.expires_at, s.revoked_at, s.revoke_reason, s.scope, s.audience, s.roles,
	s.iat_floor, s.amr, s.acr, s.auth_time, s.user_agent, s.ip, s.created_at, s.status_number, s.parent_id,
	c.id IS NULL OR c.disabled_at IS NOT NULL, c.refresh_grace`

// personColumn is what row.person reads after them. It costs a look at the user's row only for an ID token that tells of the
// user.
const personColumn = `, CASE WHEN ' ' || s.scope || ' ' LIKE '% openid %'
		AND COALESCE(c.id_token_claims, NOT c.third_party) THEN (
		SELECT json_build_object('email', u.email, 'email_verified_at', floor(extract(epoch FROM u.email_verified_at))::bigint,
			'name', u.name, 'profile', u.profile, 'updated_at', floor(extract(epoch FROM u.updated_at))::bigint)::text
		FROM users u WHERE u.id = s.user_id) END`

// noPerson stands in place of personColumn in statements that only read.
const noPerson = `, NULL::text`

func (r *row) person(s *session.Session) {
	text := r.next(-1)
	if text == nil {
		return
	}
	var err error
	if s.Person, err = session.ParsePerson(s.UserID, text); err != nil {
		r.err = errFormat
	}
}

func (r *row) session() *session.Session {
	s := &session.Session{
		ID:              r.bytes16(),
		UserID:          r.text(),
		ClientID:        r.text(),
		Generation:      uint32(r.int64()), //nolint:gosec // written from one
		Nonce:           r.bytes16(),
		RotatedAt:       r.time(),
		LastRequestHash: r.bytes16(),
		EarlierRequests: bytes.Clone(r.next(-1)),
		IdleExpiresAt:   r.time(),
		ExpiresAt:       r.time(),
		RevokedAt:       r.time(),
		RevokeReason:    session.Reason(r.text()),
		Scope:           r.text(),
		Audience:        r.texts(),
		Roles:           r.texts(),
		IATFloor:        r.int64(),
		AMR:             r.texts(),
		ACR:             r.text(),
		AuthTime:        r.time(),
		UserAgent:       r.text(),
		IP:              r.text(),
		CreatedAt:       r.time(),
		StatusNumber:    r.int64(),
		Parent:          r.bytes16(),
		ClientDisabled:  r.bool(),
	}
	if b := r.next(8); b != nil {
		grace := row{columns: [][]byte{b}}
		s.ClientGrace = new(time.Duration(grace.int64()) * time.Microsecond)
	}
	return s
}

// A statement that starts a session is startFacts, perhaps more that the session depends on, startAllowed, the table
// with its browser session, startConditions and startRest.
const (
	startFacts = `WITH u AS (
			SELECT id, disabled_at, password_hash, roles FROM users WHERE id = $12 FOR NO KEY UPDATE
		), c AS (
			SELECT disabled_at FROM clients WHERE id = $13
		), `

	startAllowed = `allowed AS (
			SELECT u.id, u.roles, b.browser_session FROM u, c, `

	startConditions = ` AS b
			WHERE u.disabled_at IS NULL AND c.disabled_at IS NULL AND ($30::text = '' OR u.password_hash = $30::text)
				AND ($36::text = '' OR EXISTS (SELECT FROM identities i WHERE i.provider = $36::text AND i.subject = $37::text
					AND i.user_id = u.id))
				AND ($39::boolean OR NOT ` + hasFactors + `u.id))
				AND ($40::bytea IS NULL OR ` + isCompleted + `$40::bytea))
		), `

	startRest = `created AS (
			INSERT INTO sessions (id, user_id, client_id, generation, nonce, rotated_at, last_request_hash, idle_expires_at,
				expires_at, revoked_at,
				revoke_reason, scope, audience, roles, iat_floor, amr, acr, auth_time, user_agent, ip, created_at, browser_session)
			SELECT $11::uuid, $12, $13, $14::bigint, $15::bytea, $16::timestamptz, $17::bytea, $18::timestamptz, $19::timestamptz,
				$20::timestamptz,
				$21::text, $22::text, $23::text[], allowed.roles, $24::bigint, $25::text[], $26::text, $27::timestamptz, $28::text,
					$29::text, $31::timestamptz,
				allowed.browser_session
			FROM allowed
			RETURNING id, status_number
		), ended AS (
			SELECT e.ended AS id, e.begun, $34::bigint AS not_before, $34::bigint AS drop_after
			FROM allowed, end_surplus_sessions(allowed.id, $11::uuid, $31::timestamptz, $32::bigint, $33::text, $13::text,
				allowed.browser_session) AS e
		), blocked AS (` + blockEnded + `
		), forgotten AS (
			UPDATE login_attempts a SET free_at = CASE WHEN $38::interval = '0' THEN $31::timestamptz ELSE a.free_at - $38::interval END
			FROM allowed WHERE a.key = $35::bytea
		), noted AS (` + insertEvent + ` FROM allowed), made_way AS (` + insertSurplusEvent + `)
		SELECT EXISTS (SELECT FROM created), EXISTS (SELECT FROM u), EXISTS (SELECT FROM u WHERE disabled_at IS NOT NULL),
			EXISTS (SELECT FROM c), EXISTS (SELECT FROM c WHERE disabled_at IS NOT NULL), COALESCE((SELECT roles
				FROM u), '{}'), COALESCE((SELECT status_number FROM created), 0),
			` + hasFactors + `$12), ` + isCompleted + `$40::bytea),
			ARRAY (SELECT id FROM ended ORDER BY begun, id), ` + notifyEnded
)

// insertSurplusEvent records that a login ended sessions: as the login's own event, by the system and for the reason $33.
const insertSurplusEvent = `INSERT INTO audit_events (at, kind, actor, user_id, session_id, client_id, reason, ip,
	user_agent, request_id)
	SELECT $1::timestamptz, '` + string(audit.KindSessionsEnded) + `', '` + audit.ActorSystem +
	`', $4::text, '', $6::text, $33::text, $8::text, $9::text, $10::text
	WHERE EXISTS (SELECT FROM ended)`

// Start implements session.Store. It locks the user's row: a change of roles or state that is under way is waited for
// and seen, and one that comes later waits for this session and finds it. Logins of one user take turns, so that the
// limit holds among them.
func (db *DB) Start(ctx context.Context, start session.Start) (session.Started, error) {
	const sql = startFacts + startAllowed + `(SELECT NULL::bytea AS browser_session)` + startConditions + startRest
	var (
		started session.Started
		ended   []pgtype.UUID
	)
	steps := []step{one(sql, toStarted(&started, &ended), starting(&start)...)}
	if start.Provider != "" { // the statement has to see the identities as they are once it has the lock
		steps = append([]step{do(lockUser, start.Session.UserID)}, steps...)
	}
	steps = append(using(start.Session.UserID, start.Session.CreatedAt, start.Factor), steps...)
	steps = append(steps, writing(insertLetter+sessionBegun+insertLetterThen, start.Session.UserID, start.Mail,
		uuid(start.Session.ID))...)
	if err := db.run(ctx, "start session", steps...); err != nil {
		return session.Started{}, err
	}
	started.Ended = ids(ended)
	return started, nil
}

// toStarted scans what startRest returns, and more that a statement returns after it.
func toStarted(started *session.Started, ended *[]pgtype.UUID, more ...any) func(rows pgx.Rows) error {
	return to(append([]any{
		&started.Created, &started.UserFound, &started.UserDisabled, &started.ClientFound, &started.ClientDisabled,
		texts{&started.Roles}, &started.StatusNumber, &started.HasFactors, &started.FactorUsed, ended, nil,
	}, more...)...)
}

// starting are the parameters of a statement that starts a session.
func starting(start *session.Start) []any {
	s := &start.Session
	others := int64(math.MaxInt32)
	if start.Limit > 0 {
		others = int64(start.Limit) - 1
	}
	attempt := refund(start.Refund)
	return withEvent(start.Event,
		uuid(s.ID), s.UserID, s.ClientID, int64(s.Generation), s.Nonce[:], when(s.RotatedAt), requestHash(&s.LastRequestHash),
		when(s.IdleExpiresAt), when(s.ExpiresAt), when(s.RevokedAt), string(s.RevokeReason), s.Scope, list(s.Audience), s.IATFloor,
		list(s.AMR), s.ACR,
		when(s.AuthTime), s.UserAgent, s.IP, start.PasswordHash, when(s.CreatedAt), others, string(session.ReasonLimit),
		seconds(start.BlockUntil), attempt[0], start.Provider, start.Subject, attempt[1], start.ShowsFactors,
		some(start.Factor.Login))
}

// live is what the index of live sessions says of a session. It stands beside the exact conditions in each statement that looks
// for the sessions of a user, so that those which have ended cost it nothing, however many they are.
const live = `s.revoke_reason = ''`

// Session implements session.Store.
func (db *DB) Session(ctx context.Context, id session.ID) (session.Session, error) {
	const sql = `SELECT ` + sessionColumns + noPerson + ` FROM sessions s LEFT JOIN clients c ON c.id = s.client_id WHERE s.id = $1`
	s, err := db.presented(ctx, "read session", sql, binaryFormat(), uuid(id))
	switch {
	case err != nil:
		return session.Session{}, err
	case s == nil:
		return session.Session{}, session.ErrNotFound
	}
	return *s, nil
}

// Sessions implements session.Store.
func (db *DB) Sessions(ctx context.Context, userID string, at time.Time) ([]session.Session, error) {
	const sql = `SELECT ` + sessionColumns + `, s.browser_session FROM sessions s LEFT JOIN clients c ON c.id = s.client_id
		WHERE s.user_id = $1 AND ` + live + ` AND s.revoked_at IS NULL AND s.idle_expires_at > $2 AND s.expires_at > $2
			AND c.deleted_at IS NULL
		ORDER BY s.created_at DESC, s.id DESC`
	var sessions []session.Session
	err := db.run(ctx, "list sessions", step{
		sql:  sql,
		args: []any{binaryFormat(), userID, when(at)},
		scan: func(rows pgx.Rows) error {
			r := row{columns: rows.RawValues()}
			s := r.session()
			copy(s.Browser[:], r.next(-1))
			sessions = append(sessions, *s)
			return r.err
		},
	})
	return sessions, err
}

// SweepSessions implements session.Store. It also forgets login attempts that are paid for, as many at a time.
func (db *DB) SweepSessions(ctx context.Context, before time.Time, limit int) (int, error) {
	const (
		sessions = `WITH swept AS (
				DELETE FROM sessions WHERE ctid = ANY (ARRAY (
					SELECT ctid FROM sessions WHERE expires_at < $1 ORDER BY expires_at LIMIT $2::bigint FOR UPDATE SKIP LOCKED))
				RETURNING 1
			) SELECT count(*) FROM swept`
		attempts = `DELETE FROM login_attempts WHERE ctid = ANY (ARRAY (
			SELECT ctid FROM login_attempts WHERE free_at < $1 ORDER BY free_at LIMIT $2::bigint FOR UPDATE SKIP LOCKED))`
	)
	var swept int64
	err := db.run(ctx, "sweep sessions", one(sessions, to(&swept), when(before), int64(limit)),
		do(attempts, when(before), int64(limit)))
	return int(swept), err
}
