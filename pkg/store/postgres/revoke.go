package postgres

import (
	"context"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/user"
)

// Parts of statements in which "ended" are the sessions whose access tokens are blocked.
const (
	// blockKey is verifier.KeyOf(verifier.BlockSID, sid) of the session in column id: the first 16 bytes of SHA-256("sid" || 0 || sid), where
	// sid is "ses_" and the base32 form of the ID, padded with zero bits to a multiple of 5.
	blockKey = `(SELECT substr(sha256('sid\000ses_'::bytea || convert_to(string_agg(
			substr('abcdefghijklmnopqrstuvwxyz234567', substring(b.bits FROM 5 * n + 1 FOR 5)::bit(5)::integer + 1, 1), '' ORDER BY n), 'UTF8')), 1, 16)
		FROM generate_series(0, 25) AS n, (SELECT ('x' || translate(ended.id::text, '-', '') || '00')::bit(136) AS bits) AS b)`

	blockEnded = insertEntries + ` SELECT ` + blockKey + `, ended.not_before, ended.drop_after FROM ended ` + largerEntry

	notifyEnded = `CASE WHEN EXISTS (SELECT FROM ended) THEN ` + notify + ` END`
)

// endOf ends sessions. All that were not revoked are, also those that are over by their times: another replica's clock may see that
// otherwise. What is told is which of them were alive.
//
// The parameters after the event's are: 11 the time, 12 the user, 13 the session to spare, 14 the reason, 15 the end of the block in seconds.
const (
	endWhich = `WITH mine AS (
			SELECT s.id, s.idle_expires_at > $11::timestamptz AND s.expires_at > $11::timestamptz AS live FROM sessions s
			WHERE s.user_id = $12::text AND s.id <> $13::uuid AND s.revoked_at IS NULL `

	endThem = ` ORDER BY s.id FOR NO KEY UPDATE
		), ended AS (
			UPDATE sessions s SET revoked_at = $11::timestamptz, revoke_reason = $14::text
			FROM mine WHERE s.id = mine.id AND s.revoked_at IS NULL
			RETURNING s.id, mine.live, $15::bigint AS not_before, $15::bigint AS drop_after
		), blocked AS (` + blockEnded + `), noted AS (` + insertEvent

	endTold = `)
		SELECT ARRAY (SELECT id FROM ended WHERE live ORDER BY id), ` + notifyEnded

	endSessions = endWhich + endThem + ` WHERE EXISTS (SELECT FROM users WHERE id = $12::text)` + endTold
)

// ending are the parameters of these statements.
func ending(userID string, except session.ID, e session.Ending, more ...any) []any {
	return withEvent(e.Event, append([]any{when(e.At), userID, uuid(except), string(e.Reason), seconds(e.BlockUntil)}, more...)...)
}

// EndSession implements session.Store.
func (db *DB) EndSession(ctx context.Context, id session.ID, e session.Ending) (bool, error) {
	const sql = `WITH ended AS (
			UPDATE sessions s SET revoked_at = $11::timestamptz, revoke_reason = $13::text
			WHERE s.id = $12 AND s.revoked_at IS NULL
			RETURNING s.id, s.idle_expires_at > $11::timestamptz AND s.expires_at > $11::timestamptz AS live, $14::bigint AS not_before, $14::bigint AS drop_after
		), blocked AS (` + blockEnded + `), noted AS (` + insertEvent + ` FROM ended WHERE live)
		SELECT EXISTS (SELECT FROM ended WHERE live), ` + notifyEnded
	var ended bool
	err := db.run(ctx, "end session", one(sql, to(&ended, nil),
		withEvent(e.Event, when(e.At), uuid(id), string(e.Reason), seconds(e.BlockUntil))...))
	return ended, err
}

// EndSessions implements session.Store.
func (db *DB) EndSessions(ctx context.Context, userID string, except session.ID, e session.Ending) ([]session.ID, error) {
	var ended []pgtype.UUID
	err := db.run(ctx, "end sessions", one(endSessions, to(&ended, nil), ending(userID, except, e)...))
	return ids(ended), err
}

// SetPassword implements session.Store.
func (db *DB) SetPassword(ctx context.Context, userID, old, replacement string, e session.Ending) ([]session.ID, error) {
	const (
		first = `UPDATE users SET password_hash = $3, updated_at = $4 WHERE id = $1 AND password_hash = $2 RETURNING true`
		// A hash is salted, so that the replacement stands there only if the first statement has put it there.
		replaced = `EXISTS (SELECT FROM users WHERE id = $12::text AND password_hash = $16::text)`
		then     = endWhich + ` AND ` + replaced + endThem + ` WHERE ` + replaced + endTold
	)
	var (
		changed bool
		ended   []pgtype.UUID
	)
	err := db.run(ctx, "set password",
		one(first, to(&changed), userID, old, replacement, when(e.At)),
		one(then, to(&ended, nil), ending(userID, session.ID{}, e, replacement)...))
	if err == nil && !changed {
		return nil, user.ErrChanged
	}
	return ids(ended), err
}

// DisableUser implements session.Store.
func (db *DB) DisableUser(ctx context.Context, userID string, e session.Ending) ([]session.ID, error) {
	const disable = `UPDATE users SET disabled_at = COALESCE(disabled_at, $2), updated_at = $2 WHERE id = $1 RETURNING true`
	var (
		found bool
		ended []pgtype.UUID
	)
	err := db.run(ctx, "disable user",
		one(disable, to(&found), userID, when(e.At)),
		one(endSessions, to(&ended, nil), ending(userID, session.ID{}, e)...))
	if err == nil && !found {
		return nil, user.ErrNotFound
	}
	return ids(ended), err
}

// DeleteUser implements session.Store.
func (db *DB) DeleteUser(ctx context.Context, userID string, e session.Ending) ([]session.ID, error) {
	const (
		lock   = `SELECT true FROM users WHERE id = $1 FOR UPDATE`
		remove = `DELETE FROM users WHERE id = $1`
	)
	var (
		found bool
		ended []pgtype.UUID
	)
	// The sessions are ended like any others before they go with their user.
	err := db.run(ctx, "delete user",
		one(lock, to(&found), userID),
		one(endSessions, to(&ended, nil), ending(userID, session.ID{}, e)...),
		do(remove, userID))
	if err == nil && !found {
		return nil, user.ErrNotFound
	}
	return ids(ended), err
}

// SetRoles implements session.Store. The floor of a session may be ahead of the time; its tokens then live longer, and so must the entry.
func (db *DB) SetRoles(ctx context.Context, userID string, roles []string, e session.Ending) error {
	const (
		first = `UPDATE users SET roles = $2, updated_at = $3 WHERE id = $1 RETURNING true`
		then  = `WITH mine AS (
				SELECT s.id FROM sessions s WHERE s.user_id = $12 AND s.revoked_at IS NULL ORDER BY s.id FOR NO KEY UPDATE
			), ended AS (
				UPDATE sessions s SET roles = $13::text[], iat_floor = GREATEST(s.iat_floor, $11::bigint) + 1
				FROM mine WHERE s.id = mine.id AND s.revoked_at IS NULL
				RETURNING s.id, s.iat_floor - 1 AS not_before, $14::bigint + s.iat_floor - 1 - $11::bigint AS drop_after
			), blocked AS (` + blockEnded + `), noted AS (` + insertEvent + ` FROM users WHERE id = $12)
			SELECT ` + notifyEnded
	)
	var found bool
	err := db.run(ctx, "set roles",
		one(first, to(&found), userID, list(roles), when(e.At)),
		do(then, withEvent(e.Event, e.At.Unix(), userID, list(roles), seconds(e.BlockUntil))...))
	if err == nil && !found {
		return user.ErrNotFound
	}
	return err
}
