package postgres

import (
	"context"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/session"
)

// Fork implements session.Store. It locks the user's row first, as Start does: what ends the parent has ended it then,
// or waits and finds the child. So forks of one parent take turns, too, and the limit holds among them.
func (db *DB) Fork(ctx context.Context, f session.Fork) (*session.Session, error) {
	const (
		read = `SELECT ` + sessionColumns + personColumn + ` FROM sessions s JOIN clients c ON c.id = s.client_id WHERE s.id = $1`
		sql  = `WITH parent AS (
			SELECT s.* FROM sessions s JOIN clients c ON c.id = s.client_id
			WHERE s.id = $11::uuid AND s.nonce = $12::bytea AND s.client_id = $13::text AND s.generation = $14::bigint
				AND s.parent_id IS NULL
				AND s.revoked_at IS NULL AND s.idle_expires_at > $15::timestamptz AND s.expires_at > $15::timestamptz
				AND c.disabled_at IS NULL
			FOR NO KEY UPDATE OF s
		), ended AS (
			UPDATE sessions e SET revoked_at = $15::timestamptz, revoke_reason = $21::text
			WHERE e.id = ANY (ARRAY (
				SELECT o.id FROM parent, sessions o WHERE o.parent_id = parent.id AND o.revoke_reason = ''
					AND o.revoked_at IS NULL AND o.idle_expires_at > $15::timestamptz AND o.expires_at > $15::timestamptz
				ORDER BY o.rotated_at DESC, o.id DESC OFFSET $20::bigint))
			RETURNING e.id, $22::bigint AS not_before, $22::bigint AS drop_after
		), blocked AS (` + blockEnded + `
		), created AS (
			INSERT INTO sessions (id, user_id, client_id, generation, nonce, rotated_at, idle_expires_at, expires_at, revoke_reason, scope,
				audience, roles, iat_floor, amr, acr, auth_time, user_agent, ip, created_at, browser_session, parent_id)
			SELECT $16::uuid, p.user_id, p.client_id, 1, $17::bytea, $15::timestamptz, p.idle_expires_at, p.expires_at, '', p.scope,
				p.audience, p.roles, GREATEST(p.iat_floor, $23::bigint), p.amr, p.acr, p.auth_time, $18::text, $19::text, p.created_at,
				p.browser_session, p.id
			FROM parent p
			RETURNING id
		), noted AS (` + insertEvent + ` FROM created), made_way AS (` + insertForkLimitEvent + `)
		SELECT true, ` + notifyEnded + ` FROM created`
	)
	var forked bool
	err := db.run(ctx, "fork session", do(lockUserOf, uuid(f.Parent)), one(sql, to(&forked, nil), withEvent(f.Event,
		uuid(f.Parent), f.Nonce[:], f.ClientID, int64(f.Generation), when(f.At), uuid(f.ID), f.ChildNonce[:], f.UserAgent, f.IP,
		int64(f.Limit)-1, string(session.ReasonLimit), seconds(f.BlockUntil), f.At.Unix())...))
	if err != nil || !forked {
		return nil, err
	}
	return db.presented(ctx, "read forked session", read, binaryFormat(), uuid(f.ID))
}

// insertForkLimitEvent is insertSurplusEvent for a fork.
const insertForkLimitEvent = `INSERT INTO audit_events (at, kind, actor, user_id, session_id, client_id, reason, ip,
	user_agent, request_id)
	SELECT $1::timestamptz, '` + string(audit.KindSessionsEnded) + `', '` + audit.ActorSystem +
	`', $4::text, '', $6::text, $21::text, $8::text, $9::text, $10::text
	WHERE EXISTS (SELECT FROM ended)`
