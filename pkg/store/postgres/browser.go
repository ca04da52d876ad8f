package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/user"
)

// SaveCode implements oauth.BrowserStore.
func (db *DB) SaveCode(ctx context.Context, c oauth.Code) error {
	const sql = `WITH used AS (
			DELETE FROM pushed_requests WHERE hash = $17::bytea RETURNING 1
		)
		INSERT INTO authorization_codes (hash, client_id, user_id, redirect_uri, challenge, scope, audience, nonce, amr, acr,
			auth_time, browser_session, created_at, expires_at, ip, user_agent)
		SELECT $1::bytea, $2::text, $3::text, $4::text, $5::text, $6::text, $7::text[], $8::text, $9::text[], $10::text,
			$11::timestamptz, $12::bytea, $13::timestamptz, $14::timestamptz, $15::text, $16::text
		WHERE $17::bytea IS NULL OR EXISTS (SELECT FROM used)
		RETURNING true`
	var saved bool
	err := db.run(ctx, "save authorization code",
		one(sql, to(&saved), c.Hash[:], c.ClientID, c.UserID, c.RedirectURI, c.Challenge, c.Scope, list(c.Audience), c.Nonce,
			list(c.AMR), c.ACR, when(c.AuthTime), some(c.BrowserSession), when(c.CreatedAt), when(c.ExpiresAt),
			c.IP, c.UserAgent, some(c.Pushed)))
	if err == nil && !saved {
		return oauth.ErrRequestNotFound
	}
	return err
}

// Code implements oauth.BrowserStore.
func (db *DB) Code(ctx context.Context, h oauth.Hash) (oauth.Code, error) {
	const sql = `SELECT client_id, user_id, redirect_uri, challenge, scope, audience, nonce, amr, acr, auth_time,
		browser_session, created_at, expires_at,
			used_at, session_id, ip, user_agent
		FROM authorization_codes WHERE hash = $1`
	c := oauth.Code{Hash: h}
	var found bool
	err := db.run(ctx, "read authorization code",
		one(sql, existing(&found, &c.ClientID, &c.UserID, &c.RedirectURI, &c.Challenge, &c.Scope, texts{&c.Audience},
			&c.Nonce, texts{&c.AMR}, &c.ACR, instant{&c.AuthTime}, digest{(*[32]byte)(&c.BrowserSession)}, instant{&c.CreatedAt},
			instant{&c.ExpiresAt},
			instant{&c.UsedAt}, sid{&c.SessionID}, &c.IP, &c.UserAgent), h[:]))
	switch {
	case err != nil:
		return oauth.Code{}, err
	case !found:
		return oauth.Code{}, oauth.ErrCodeNotFound
	}
	return c, nil
}

// RedeemCode implements oauth.BrowserStore. All callers take turns at the lock on the user's row, and a transaction that
// ends the user's browser sessions takes it as well. So the code counts only while its browser session is alive, no matter
// when it was saved.
func (db *DB) RedeemCode(ctx context.Context, h oauth.Hash, start session.Start) (session.Started, error) {
	const sql = startFacts + `code AS (
			UPDATE authorization_codes a SET used_at = $31::timestamptz, session_id = $11::uuid
			WHERE a.hash = $41::bytea AND a.user_id = $12 AND a.used_at IS NULL AND a.expires_at > $31::timestamptz
				AND (a.browser_session IS NULL OR EXISTS (
				SELECT FROM browser_sessions b WHERE b.hash = a.browser_session AND b.user_id = a.user_id))
			RETURNING a.browser_session
		), ` + startAllowed + `code` + startConditions + startRest + `,
			EXISTS (SELECT FROM code), EXISTS (SELECT FROM authorization_codes a WHERE a.hash = $41::bytea AND a.used_at IS NOT NULL)`
	var (
		started        session.Started
		ended          []pgtype.UUID
		redeemed, used bool
	)
	err := db.run(ctx, "redeem authorization code",
		do(lockUser, start.Session.UserID),
		one(sql, toStarted(&started, &ended, &redeemed, &used), append(starting(&start), h[:])...))
	switch {
	case err != nil:
		return session.Started{}, err
	case used:
		return session.Started{}, oauth.ErrCodeUsed
	case !redeemed:
		return session.Started{}, oauth.ErrCodeNotFound
	}
	started.Ended = ids(ended)
	return started, nil
}

// ReleaseCode implements oauth.BrowserStore.
func (db *DB) ReleaseCode(ctx context.Context, h oauth.Hash, id session.ID) error {
	const sql = `WITH unheard AS (
			DELETE FROM sessions s USING authorization_codes a
			WHERE a.hash = $1 AND a.session_id = s.id AND s.id = $2 AND s.generation = 1 AND s.revoked_at IS NULL
			RETURNING s.id
		)
		UPDATE authorization_codes a SET used_at = NULL, session_id = NULL FROM unheard u WHERE a.hash = $1 AND a.session_id = u.id`
	return db.run(ctx, "release authorization code", do(sql, h[:], uuid(id)))
}

// SaveBrowserSession implements oauth.BrowserStore. What the replaced one of the same user gave goes on as given by the new one.
func (db *DB) SaveBrowserSession(ctx context.Context, b oauth.BrowserSession, replaces oauth.Hash) error {
	const sql = `WITH u AS (
			SELECT id FROM users WHERE id = $2 AND disabled_at IS NULL AND ($9::text = '' OR password_hash = $9::text)
				AND ($10::text = '' OR EXISTS (SELECT FROM identities i WHERE i.provider = $10::text AND i.subject = $11::text
					AND i.user_id = $2))
				AND ($14::boolean OR NOT ` + hasFactors + `$2)) AND ($15::bytea IS NULL OR ` + isCompleted + `$15::bytea))
		), replaced AS (
			DELETE FROM browser_sessions o USING u WHERE o.hash = $8::bytea RETURNING o.hash, o.user_id
		), saved AS (
			INSERT INTO browser_sessions (hash, user_id, amr, acr, auth_time, created_at, expires_at)
			SELECT $1::bytea, u.id, $3::text[], $4::text, $5::timestamptz, $6::timestamptz, $7::timestamptz FROM u
			RETURNING user_id
		), codes AS (
			UPDATE authorization_codes a SET browser_session = $1::bytea FROM replaced r
			WHERE r.user_id = $2 AND a.user_id = r.user_id AND a.browser_session = r.hash AND a.used_at IS NULL
		), mine AS (
			SELECT s.id FROM replaced r, sessions s
			WHERE r.user_id = $2 AND s.user_id = r.user_id AND s.browser_session = r.hash AND ` + live + ` AND s.revoked_at IS NULL
			ORDER BY s.id FOR NO KEY UPDATE OF s
		), carried AS (
			UPDATE sessions s SET browser_session = $1::bytea FROM mine WHERE s.id = mine.id
		), forgotten AS (
			UPDATE login_attempts t SET free_at = CASE WHEN $13::interval = '0' THEN $6::timestamptz ELSE t.free_at - $13::interval END
			FROM saved WHERE t.key = $12::bytea
		)
		SELECT EXISTS (SELECT FROM saved), NOT $14::boolean AND ` + hasFactors + `$2) AND EXISTS (
			SELECT FROM users WHERE id = $2 AND disabled_at IS NULL), $15::bytea IS NOT NULL AND NOT ` + isCompleted + `$15::bytea)`
	var saved, needed, refused bool
	steps := append([]step{do(lockUser, b.UserID)}, using(b.UserID, b.CreatedAt, b.Proof.Factor)...)
	steps = append(steps,
		one(sql, to(&saved, &needed, &refused), append([]any{
			b.Hash[:], b.UserID, list(b.AMR), b.ACR, when(b.AuthTime), when(b.CreatedAt), when(b.ExpiresAt), some(replaces),
			b.Proof.PasswordHash, b.Proof.Provider, b.Proof.Subject,
		}, append(refund(b.Proof.Refund), b.Proof.ShowsFactors, some(b.Proof.Factor.Login))...)...))
	err := db.run(ctx, "save browser session",
		append(steps, writing(insertLetter+browserBegun+insertLetterThen, b.UserID, b.Mail, b.Hash[:])...)...)
	switch {
	case err != nil || saved:
		return err
	case needed:
		return user.ErrFactorNeeded
	case refused:
		return user.ErrFactorUsed
	}
	return user.ErrNotFound
}

// BrowserSession implements oauth.BrowserStore.
func (db *DB) BrowserSession(ctx context.Context, h oauth.Hash, at time.Time) (oauth.BrowserSession, error) {
	const sql = `SELECT b.user_id, b.amr, b.acr, b.auth_time, b.created_at, b.expires_at,
			NOT 'mfa' = ANY (b.amr) AND ` + hasFactors + `b.user_id)
		FROM browser_sessions b JOIN users u ON u.id = b.user_id
		WHERE b.hash = $1 AND b.expires_at > $2 AND u.disabled_at IS NULL`
	b := oauth.BrowserSession{Hash: h}
	var found bool
	err := db.run(ctx, "read browser session", one(sql,
		existing(&found, &b.UserID, texts{&b.AMR}, &b.ACR, instant{&b.AuthTime}, instant{&b.CreatedAt}, instant{&b.ExpiresAt},
			&b.FactorNeeded), h[:], when(at)))
	switch {
	case err != nil:
		return oauth.BrowserSession{}, err
	case !found:
		return oauth.BrowserSession{}, oauth.ErrBrowserSessionNotFound
	}
	return b, nil
}

// BrowserClients implements oauth.BrowserStore.
func (db *DB) BrowserClients(ctx context.Context, b oauth.BrowserSession, at time.Time) ([]string, error) {
	const sql = `SELECT DISTINCT s.client_id FROM sessions s WHERE s.user_id = $1 AND s.browser_session = $2 AND s.revoked_at IS NULL
		AND s.idle_expires_at > $3 AND s.expires_at > $3 ORDER BY s.client_id`
	var ids []string
	err := db.run(ctx, "list clients of browser session", step{
		sql:  sql,
		args: []any{b.UserID, b.Hash[:], when(at)},
		scan: func(rows pgx.Rows) error {
			var id string
			err := rows.Scan(&id)
			ids = append(ids, id)
			return err
		},
	})
	return ids, err
}

// EndBrowserSession implements oauth.BrowserStore.
func (db *DB) EndBrowserSession(ctx context.Context, h oauth.Hash, e session.Ending) ([]session.ID, error) {
	const (
		lock = `SELECT true FROM browser_sessions b, users u WHERE b.hash = $1 AND u.id = b.user_id FOR NO KEY UPDATE OF u`
		end  = `WITH gone AS (
				DELETE FROM browser_sessions b WHERE b.hash = $12::bytea RETURNING b.hash, b.user_id
			), codes AS (
				DELETE FROM authorization_codes a USING gone g WHERE a.user_id = g.user_id AND a.browser_session = g.hash
					AND a.used_at IS NULL
			), mine AS (
				SELECT s.id FROM gone g, sessions s WHERE s.user_id = g.user_id AND s.browser_session = g.hash AND ` + live +
			endLive + endThem + `EXISTS (SELECT FROM gone)` + endTold
	)
	var ended []pgtype.UUID
	err := db.run(ctx, "end browser session",
		do(lock, h[:]),
		one(end, to(&ended, nil), withEvent(e.Event, when(e.At), h[:], uuid(session.ID{}), string(e.Reason), seconds(e.BlockUntil))...))
	return ids(ended), err
}

// SavePushedRequest implements oauth.BrowserStore.
func (db *DB) SavePushedRequest(ctx context.Context, r oauth.PushedRequest) error {
	const sql = `INSERT INTO pushed_requests (hash, client_id, parameters, expires_at) VALUES ($1, $2, $3, $4)`
	return db.run(ctx, "save pushed request", do(sql, r.Hash[:], r.ClientID, r.Parameters, when(r.ExpiresAt)))
}

// VisitPushedRequest implements oauth.BrowserStore.
func (db *DB) VisitPushedRequest(ctx context.Context, h oauth.Hash, at, until time.Time) (oauth.PushedRequest, error) {
	const sql = `UPDATE pushed_requests SET expires_at = GREATEST(expires_at, $3) WHERE hash = $1 AND expires_at > $2
		RETURNING client_id, parameters, expires_at`
	r := oauth.PushedRequest{Hash: h}
	var found bool
	err := db.run(ctx, "visit pushed request",
		one(sql, existing(&found, &r.ClientID, &r.Parameters, instant{&r.ExpiresAt}), h[:], when(at), when(until)))
	switch {
	case err != nil:
		return oauth.PushedRequest{}, err
	case !found:
		return oauth.PushedRequest{}, oauth.ErrRequestNotFound
	}
	return r, nil
}

const consentColumns = `user_id, client_id, scope, granted_at`

func consentTargets(c *oauth.Consent) []any {
	return []any{&c.UserID, &c.ClientID, &c.Scope, instant{&c.GrantedAt}}
}

// Consent implements oauth.BrowserStore.
func (db *DB) Consent(ctx context.Context, userID, clientID string) (oauth.Consent, error) {
	const sql = `SELECT ` + consentColumns + ` FROM consents WHERE user_id = $1 AND client_id = $2`
	var c oauth.Consent
	err := db.run(ctx, "read consent", one(sql, to(consentTargets(&c)...), userID, clientID))
	return c, err
}

// Consents implements oauth.BrowserStore.
func (db *DB) Consents(ctx context.Context, userID string) ([]oauth.Consent, error) {
	const sql = `SELECT ` + consentColumns + ` FROM consents WHERE user_id = $1 ORDER BY client_id`
	var consents []oauth.Consent
	err := db.run(ctx, "list consents", step{sql: sql, args: []any{userID}, scan: func(rows pgx.Rows) error {
		var c oauth.Consent
		err := rows.Scan(consentTargets(&c)...)
		consents = append(consents, c)
		return err
	}})
	return consents, err
}

// SaveConsent implements oauth.BrowserStore.
func (db *DB) SaveConsent(ctx context.Context, c oauth.Consent, e audit.Event) error {
	const sql = `WITH u AS (
			SELECT id FROM users WHERE id = $11 FOR KEY SHARE
		), saved AS (
			INSERT INTO consents (user_id, client_id, scope, granted_at) SELECT u.id, $12::text, $13::text, $14::timestamptz FROM u
			ON CONFLICT (user_id, client_id) DO UPDATE SET scope = excluded.scope, granted_at = excluded.granted_at
			RETURNING user_id
		), noted AS (` + insertEvent + ` FROM saved)
		SELECT EXISTS (SELECT FROM saved)`
	var saved bool
	err := db.run(ctx, "save consent", one(sql, to(&saved), withEvent(e, c.UserID, c.ClientID, c.Scope, when(c.GrantedAt))...))
	if err == nil && !saved {
		return user.ErrNotFound
	}
	return err
}

// RevokeConsent implements oauth.BrowserStore.
func (db *DB) RevokeConsent(ctx context.Context, userID, clientID string, e session.Ending) ([]session.ID, error) {
	const (
		codes = `DELETE FROM authorization_codes WHERE user_id = $1 AND client_id = $2 AND used_at IS NULL`
		end   = `WITH forgotten AS (
				DELETE FROM consents WHERE user_id = $12::text AND client_id = $16::text RETURNING scope
			), ` + endMine + ` AND s.client_id = $16::text` + endThem + someEnded + ` OR EXISTS (SELECT FROM forgotten)` + endTold
	)
	var ended []pgtype.UUID
	err := db.run(ctx, "revoke consent",
		do(lockUser, userID),
		do(codes, userID, clientID),
		one(end, to(&ended, nil), append(ending(userID, session.ID{}, e), clientID)...))
	return ids(ended), err
}

// SweepBrowser implements oauth.BrowserStore.
func (db *DB) SweepBrowser(ctx context.Context, before time.Time, limit int) (int, error) {
	return db.sweep(ctx, "sweep browser flow", before, limit, sweepCodes, sweepBrowserSessions)
}

// SweepPushedRequests implements oauth.BrowserStore.
func (db *DB) SweepPushedRequests(ctx context.Context, before time.Time, limit int) (int, error) {
	return db.sweep(ctx, "sweep pushed requests", before, limit, sweepPushedRequests)
}

// What is swept by the same rule, one statement for each table.
const (
	sweepCodes           = sweepFirst + `authorization_codes` + sweepWhich + `authorization_codes` + sweepLast
	sweepBrowserSessions = sweepFirst + `browser_sessions` + sweepWhich + `browser_sessions` + sweepLast
	sweepPushedRequests  = sweepFirst + `pushed_requests` + sweepWhich + `pushed_requests` + sweepLast
	sweepAttempts        = sweepFirst + `upstream_attempts` + sweepWhich + `upstream_attempts` + sweepLast
	sweepUsedIDTokens    = sweepFirst + `used_id_tokens` + sweepWhich + `used_id_tokens` + sweepLast
	sweepProofs          = sweepFirst + `account_proofs` + sweepWhich + `account_proofs` + sweepLast

	sweepFirst = `WITH swept AS (DELETE FROM `
	sweepWhich = ` WHERE ctid = ANY (ARRAY (SELECT ctid FROM `
	sweepLast  = ` WHERE expires_at < $1 ORDER BY expires_at LIMIT $2::bigint FOR UPDATE SKIP LOCKED)) RETURNING 1) SELECT ` +
		`count(*) FROM swept`
)

// sweep runs the statements until they have deleted as many rows as the limit allows.
func (db *DB) sweep(ctx context.Context, doing string, before time.Time, limit int, statements ...string) (swept int, err error) {
	for _, sql := range statements {
		if swept == limit {
			break
		}
		var n int64
		if err := db.run(ctx, doing, one(sql, to(&n), when(before), int64(limit-swept))); err != nil {
			return 0, err
		}
		swept += int(n)
	}
	return swept, nil
}
