package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/user"
)

// Parts of statements in which "ended" are the sessions whose access tokens are blocked.
const (
	// blockKey is verifier.KeyOf(verifier.BlockSID, sid) of the session in column id: the first 16 bytes of SHA-256("sid"
	// || 0 || sid), where sid is "ses_" and the base32 form of the ID, padded with zero bits to a multiple of 5.
	blockKey = `(SELECT substr(sha256('sid\000ses_'::bytea || convert_to(string_agg(
			substr('abcdefghijklmnopqrstuvwxyz234567', substring(b.bits FROM 5 * n + 1 FOR 5)::bit(5)::integer + 1, 1),
			'' ORDER BY n), 'UTF8')), 1, 16)
		FROM generate_series(0, 25) AS n, (SELECT ('x' || translate(ended.id::text, '-', '') || '00')::bit(136) AS bits) AS b)`

	blockEnded = insertEntries + ` SELECT ` + blockKey + `, ended.not_before, ended.drop_after FROM ended ` + largerEntry

	notifyEnded = `CASE WHEN EXISTS (SELECT FROM ended) THEN ` + notify + ` END`
)

// A statement that ends a user's sessions is endWhich, perhaps another condition on the session, endThem, a condition
// under which there is something to record, and endTold.
//
// The parameters after the event's are: 11 the time, 12 the user, 13 the session to spare, 14 the reason, 15 the end of
// the block in seconds.
const (
	endWhich = `WITH ` + endMine

	endMine = `mine AS (
			SELECT s.id FROM sessions s WHERE s.user_id = $12::text AND ` + live + endLive

	endLive = ` AND COALESCE(s.parent_id, s.id) <> COALESCE((SELECT o.parent_id FROM sessions o WHERE o.id = $13::uuid), $13::uuid)
				AND s.revoked_at IS NULL AND s.idle_expires_at > $11::timestamptz AND s.expires_at > $11::timestamptz`

	endThem = ` ORDER BY s.id FOR NO KEY UPDATE OF s
		), ended AS (
			UPDATE sessions s SET revoked_at = $11::timestamptz, revoke_reason = $14::text
			FROM mine WHERE s.id = mine.id
			RETURNING s.id, $15::bigint AS not_before, $15::bigint AS drop_after
		), blocked AS (` + blockEnded + `), noted AS (` + insertEvent + ` WHERE `

	endTold = `)
		SELECT ARRAY (SELECT id FROM ended ORDER BY id), ` + notifyEnded

	someEnded   = `EXISTS (SELECT FROM ended)`
	userExists  = `EXISTS (SELECT FROM users WHERE id = $12::text)`
	userWritten = `EXISTS (SELECT FROM users WHERE id = $12::text AND xmin = pg_current_xact_id()::xid)` // by this transaction

	// Whatever ends sessions holds the lock on the user's row, as what starts one does: a child that begins meanwhile is found, or
	// finds that its parent has ended.
	lockUserOf = `SELECT true FROM users u WHERE u.id = (SELECT s.user_id FROM sessions s WHERE s.id = $1) FOR NO KEY UPDATE`

	lockUser = `SELECT true FROM users WHERE id = $1 FOR NO KEY UPDATE`
)

// What ends all sessions of a user makes no new ones possible either: forgetWhose, perhaps a condition on the user, and
// forget delete the browser sessions and the unused codes, but those of the browser session that a spared session came
// from. A transaction that adds one holds or waits for the lock on the user's row, so this statement follows the one
// that took it.
//
// The parameters are: 1 the user, 2 the session to spare.
const (
	forgetWhose = `WITH whose AS (
			SELECT u.id, (SELECT s.browser_session FROM sessions s WHERE s.id = $2::uuid AND s.user_id = u.id) AS spared
			FROM users u WHERE u.id = $1`

	forget = `), codes AS (
			DELETE FROM authorization_codes a USING whose w
			WHERE a.user_id = w.id AND a.used_at IS NULL AND (w.spared IS NULL OR a.browser_session IS DISTINCT FROM w.spared)
		) DELETE FROM browser_sessions b USING whose w WHERE b.user_id = w.id AND b.hash IS DISTINCT FROM w.spared`

	justWritten = ` AND u.xmin = pg_current_xact_id()::xid`
)

// ending are the parameters of these statements.
func ending(userID string, except session.ID, e session.Ending) []any {
	return withEvent(e.Event, when(e.At), userID, uuid(except), string(e.Reason), seconds(e.BlockUntil))
}

// EndSession implements session.Store.
func (db *DB) EndSession(ctx context.Context, id session.ID, e session.Ending) (bool, error) {
	const (
		alive = `s.revoked_at IS NULL AND s.idle_expires_at > $11::timestamptz AND s.expires_at > $11::timestamptz`
		sql   = `WITH device AS (
			SELECT COALESCE(s.parent_id, s.id) AS id FROM sessions s WHERE s.id = $12 AND ` + alive + `
		), mine AS (
			SELECT s.id FROM sessions s WHERE s.id = ANY (ARRAY (
				SELECT d.id FROM device d UNION ALL SELECT f.id FROM device d JOIN sessions f ON f.parent_id = d.id)) AND ` + alive + `
			ORDER BY s.id FOR NO KEY UPDATE OF s
		), ended AS (
			UPDATE sessions s SET revoked_at = $11::timestamptz, revoke_reason = $13::text
			FROM mine WHERE s.id = mine.id
			RETURNING s.id, $14::bigint AS not_before, $14::bigint AS drop_after
		), blocked AS (` + blockEnded + `), noted AS (` + insertEvent + ` WHERE EXISTS (SELECT FROM ended))
		SELECT EXISTS (SELECT FROM ended), ` + notifyEnded
	)
	var ended bool
	err := db.run(ctx, "end session", do(lockUserOf, uuid(id)), one(sql, to(&ended, nil),
		withEvent(e.Event, when(e.At), uuid(id), string(e.Reason), seconds(e.BlockUntil))...))
	return ended, err
}

// EndDevice implements session.Store.
func (db *DB) EndDevice(ctx context.Context, userID string, id session.ID, e session.Ending) ([]session.ID, error) {
	const sql = endWhich + ` AND (s.id = $16::uuid OR EXISTS (SELECT FROM sessions o WHERE o.id = $16::uuid
			AND o.user_id = s.user_id AND o.client_id = s.client_id AND (o.browser_session = s.browser_session
				OR COALESCE(o.parent_id, o.id) = COALESCE(s.parent_id, s.id))))` +
		endThem + someEnded + endTold
	var ended []pgtype.UUID
	err := db.run(ctx, "end device", do(lockUser, userID),
		one(sql, to(&ended, nil), append(ending(userID, session.ID{}, e), uuid(id))...))
	return ids(ended), err
}

// EndSessions implements session.Store.
func (db *DB) EndSessions(ctx context.Context, userID string, except session.ID, e session.Ending) ([]session.ID, error) {
	const sql = endWhich + endThem + someEnded + endTold
	var ended []pgtype.UUID
	err := db.run(ctx, "end sessions",
		do(lockUser, userID),
		one(sql, to(&ended, nil), ending(userID, except, e)...),
		do(forgetWhose+forget, userID, uuid(except)))
	return ids(ended), err
}

// EndSessionsBefore implements session.Store.
func (db *DB) EndSessionsBefore(ctx context.Context, before time.Time, after session.ID, limit int, e session.Ending) (
	[]session.ID, int, error) {
	const (
		end = `WITH mine AS (
				SELECT s.id FROM sessions s WHERE s.id > $13::uuid AND s.created_at < $12::timestamptz
					AND s.revoked_at IS NULL AND s.idle_expires_at > $11::timestamptz AND s.expires_at > $11::timestamptz
				ORDER BY s.id LIMIT $16::bigint FOR NO KEY UPDATE OF s
			), ended AS (
				UPDATE sessions s SET revoked_at = $11::timestamptz, revoke_reason = $14::text
				FROM mine WHERE s.id = mine.id
				RETURNING s.id, $15::bigint AS not_before, $15::bigint AS drop_after
			), blocked AS (` + blockEnded + `), noted AS (` + insertEvent + ` WHERE ` + someEnded + endTold
		// A walk along the primary key: no index is worth its price for what is done once in years.
		forgetOld = `WITH browsers AS (
				DELETE FROM browser_sessions WHERE hash IN (
					SELECT hash FROM browser_sessions WHERE hash > '' AND created_at < $1 ORDER BY hash LIMIT $2::bigint)
				RETURNING 1
			), codes AS (
				DELETE FROM authorization_codes WHERE hash IN (
					SELECT hash FROM authorization_codes
					WHERE hash > '' AND created_at < $1 AND used_at IS NULL ORDER BY hash LIMIT $2::bigint)
				RETURNING 1
			) SELECT GREATEST((SELECT count(*) FROM browsers), (SELECT count(*) FROM codes))`
	)
	var (
		ended     []pgtype.UUID
		forgotten int
	)
	err := db.run(ctx, "end sessions",
		one(end, to(&ended, nil), withEvent(e.Event, when(e.At), when(before), uuid(after), string(e.Reason), seconds(e.BlockUntil),
			int64(limit))...),
		one(forgetOld, to(&forgotten), when(before), int64(limit)))
	if err != nil {
		return nil, 0, err
	}
	return ids(ended), forgotten, nil
}

// SetPassword implements session.Store.
func (db *DB) SetPassword(ctx context.Context, userID, old, replacement string, e session.Ending) ([]session.ID, error) {
	const (
		replace = `UPDATE users SET password_hash = $3, updated_at = $4 WHERE id = $1 AND password_hash = $2 RETURNING true`
		end     = endWhich + ` AND ` + userWritten + endThem + userWritten + endTold
	)
	var (
		changed bool
		ended   []pgtype.UUID
	)
	steps := append([]step{one(replace, to(&changed), userID, old, replacement, when(e.At))},
		writing(insertLetter+recipientWritten+insertLetterThen, userID, e.Mail)...)
	err := db.run(ctx, "set password", append(steps,
		one(end, to(&ended, nil), ending(userID, session.ID{}, e)...),
		do(forgetWhose+justWritten+forget, userID, uuid(session.ID{})))...)
	if err == nil && !changed {
		return nil, user.ErrChanged
	}
	return ids(ended), err
}

// DisableUser implements session.Store.
func (db *DB) DisableUser(ctx context.Context, userID string, e session.Ending) ([]session.ID, error) {
	const (
		disable = `WITH disabled AS (
				UPDATE users SET disabled_at = $2::timestamptz, updated_at = $2::timestamptz WHERE id = $1 AND disabled_at IS NULL
			) SELECT EXISTS (SELECT FROM users WHERE id = $1)`
		end = endWhich + endThem + userWritten + ` OR ` + someEnded + endTold
	)
	var (
		found bool
		ended []pgtype.UUID
	)
	err := db.run(ctx, "disable user",
		one(disable, to(&found), userID, when(e.At)),
		one(end, to(&ended, nil), ending(userID, session.ID{}, e)...),
		do(forgetWhose+forget, userID, uuid(session.ID{})))
	if err == nil && !found {
		return nil, user.ErrNotFound
	}
	return ids(ended), err
}

// DeleteUser implements session.Store.
func (db *DB) DeleteUser(ctx context.Context, userID string, e session.Ending) ([]session.ID, error) {
	const (
		lock = `SELECT true FROM users WHERE id = $1 FOR UPDATE`
		end  = endWhich + endThem + userExists + endTold
		// The address may not be found in the table of attempts either.
		remove = `WITH removed AS (DELETE FROM users WHERE id = $1 RETURNING email_key)
			DELETE FROM login_attempts a USING removed WHERE a.key = sha256(convert_to(removed.email_key, 'UTF8'))`
	)
	var (
		found bool
		ended []pgtype.UUID
	)
	// The sessions are ended like any others before they go with their user.
	steps := append([]step{one(lock, to(&found), userID)}, writing(insertLetter+always+insertLetterThen, userID, e.Mail)...)
	err := db.run(ctx, "delete user", append(steps,
		one(end, to(&ended, nil), ending(userID, session.ID{}, e)...),
		do(forgetWhose+forget, userID, uuid(session.ID{})),
		do(remove, userID))...)
	if err == nil && !found {
		return nil, user.ErrNotFound
	}
	return ids(ended), err
}

// SetRoles implements session.Store.
func (db *DB) SetRoles(ctx context.Context, userID string, roles []string, e session.Ending) error {
	const (
		first = `WITH u AS (
				SELECT id, roles FROM users WHERE id = $1 FOR NO KEY UPDATE
			), changed AS (
				UPDATE users t SET roles = $2::text[], updated_at = $3 FROM u
				WHERE t.id = u.id AND NOT (u.roles @> $2::text[] AND u.roles <@ $2::text[])
			) SELECT true FROM u`
		then = `WITH changed AS (
				SELECT id FROM users WHERE id = $12 AND updated_at = $15
			), mine AS (
				SELECT s.id FROM sessions s JOIN changed c ON s.user_id = c.id
				WHERE ` + live + ` AND s.revoked_at IS NULL AND s.idle_expires_at > $15 AND s.expires_at > $15
				ORDER BY s.id FOR NO KEY UPDATE OF s
			), ended AS (
				UPDATE sessions s SET roles = $13::text[],
					iat_floor = LEAST(GREATEST(s.iat_floor, $11::bigint), $11::bigint + 1) + 1,
					status_number = nextval('status_numbers')
				FROM mine WHERE s.id = mine.id
				RETURNING s.id, s.iat_floor - 1 AS not_before, $14::bigint AS drop_after
			), blocked AS (` + blockEnded + `), noted AS (` + insertEvent + ` FROM changed)
			SELECT ` + notifyEnded
	)
	var found bool
	err := db.run(ctx, "set roles",
		one(first, to(&found), userID, list(roles), when(e.At)),
		do(then, withEvent(e.Event, e.At.Unix(), userID, list(roles), seconds(e.BlockUntil), when(e.At))...))
	if err == nil && !found {
		return user.ErrNotFound
	}
	return err
}
