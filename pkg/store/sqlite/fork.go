package sqlite

import (
	"context"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/session"
)

// Fork implements [session.Store].
func (db *DB) Fork(ctx context.Context, f session.Fork) (child *session.Session, err error) {
	var ended []session.ID
	err = db.write(ctx, "fork session", func(c *conn) error {
		child, ended, err = fork(c, f)
		if err == nil && child == nil {
			return errRollback
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(ended) > 0 {
		db.wake.all()
	}
	return child, nil
}

func fork(c *conn, f session.Fork) (child *session.Session, ended []session.ID, err error) {
	found, err := c.one(`SELECT 1 FROM sessions WHERE `+exact+` AND parent_id IS NULL`, func(*row) {},
		f.At, f.Parent[:], f.Generation, f.Nonce[:], f.ClientID)
	if err != nil || !found {
		return nil, nil, err
	}
	if ended, err = makeWayForChild(c, f); err != nil {
		return nil, nil, err
	}
	status, err := nextStatus(c)
	if err != nil {
		return nil, nil, err
	}
	_, err = c.exec(`
		INSERT INTO sessions (id, user_id, client_id, generation, nonce, rotated_at, last_request_hash, idle_expires_at, expires_at,
			revoked_at, revoke_reason, scope, audience, roles, iat_floor, amr, acr, auth_time, user_agent, ip, created_at,
			browser_session, status_number, parent_id)
		SELECT ?2, user_id, client_id, 1, ?3, ?4, zeroblob(16), idle_expires_at, expires_at,
			NULL, '', scope, audience, roles, max(iat_floor, ?5), amr, acr, auth_time, ?6, ?7, created_at,
			browser_session, ?8, id
		FROM sessions WHERE id = ?1`,
		f.Parent[:], f.ID[:], f.ChildNonce[:], f.At, f.At.Unix(), f.UserAgent, f.IP, status)
	if err != nil {
		return nil, nil, err
	}
	child, err = oneSession(c, `SELECT `+sessionColumns+sessionFacts+sessionPerson+` FROM sessions WHERE id = ?`, f.ID[:])
	if err != nil {
		return nil, nil, err
	}
	return child, ended, record(c, f.Event)
}

// makeWayForChild ends children so that one more stays within the limit: those that were used least recently.
func makeWayForChild(c *conn, f session.Fork) ([]session.ID, error) {
	ids, err := sessionIDs(c, `UPDATE sessions SET revoked_at = ?1, revoke_reason = ?4 WHERE id IN (
		SELECT id FROM sessions WHERE parent_id = ?2 AND `+alive+` ORDER BY rotated_at DESC, id DESC LIMIT -1 OFFSET ?3) RETURNING id`,
		f.At, f.Parent[:], f.Limit-1, string(session.ReasonLimit))
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	if err := blockSessions(c, ids, f.At, f.BlockUntil); err != nil {
		return nil, err
	}
	e := f.Event // of the fork that they made way for
	e.Kind, e.Actor, e.SessionID, e.Reason = audit.KindSessionsEnded, audit.ActorSystem, "", string(session.ReasonLimit)
	return ids, record(c, e)
}
