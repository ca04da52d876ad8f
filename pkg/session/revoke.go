package session

import (
	"context"
	"fmt"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
)

// By says who ends sessions, and from where.
type By = audit.By

// Ender ends sessions, and changes users where that ends their sessions. It needs no key, so the command line can end
// sessions that it cannot start. Its errors are those of the store, which say what was being done.
type Ender struct {
	store  EndingStore
	config Config
}

// NewEnder returns an ender over a store. It uses the lives of access tokens, and the margin, of the configuration.
func NewEnder(store EndingStore, config Config) *Ender {
	return &Ender{store: store, config: config}
}

// End ends one session and blocks its access tokens. It is no error if the session is unknown or over already.
func (n *Ender) End(ctx context.Context, s Session, reason Reason, by By) error {
	event := audit.SessionEnded(n.config.Clock.Now(), s.UserID, s.ID.String(), string(reason), by)
	_, err := n.store.EndSession(ctx, s.ID, n.ending(event, reason))
	return err
}

// EndDevice ends a session, and with it those of the same browser login at the same client: they are one line in the
// user's list. It is no error if the session is over already.
func (n *Ender) EndDevice(ctx context.Context, s Session, reason Reason, by By) error {
	event := audit.SessionEnded(n.config.Clock.Now(), s.UserID, s.ID.String(), string(reason), by)
	_, err := n.store.EndDevice(ctx, s.UserID, s.ID, n.ending(event, reason))
	return err
}

// EndAll ends the user's live sessions but one (zero: all) and blocks their access tokens.
func (n *Ender) EndAll(ctx context.Context, userID string, except ID, reason Reason, by By) ([]ID, error) {
	return n.store.EndSessions(ctx, userID, except, n.Ending(reason, userID, by))
}

// EndBefore ends every live session that was begun before a time, and every browser session and unused code that is
// as old, and blocks the access tokens. It
// works in batches, each of which is committed and heard of by itself; after an error it can be called again.
func (n *Ender) EndBefore(ctx context.Context, before time.Time, reason Reason, by By) (ended int, err error) {
	const batch = 1000
	var after ID
	for {
		ids, forgotten, err := n.store.EndSessionsBefore(ctx, before, after, batch, n.Ending(reason, "", by))
		ended += len(ids)
		if err != nil || len(ids) < batch && forgotten < batch {
			return ended, err
		}
		if len(ids) > 0 {
			after = ids[len(ids)-1]
		}
	}
}

// SetPassword stores a new password hash, ends all of the user's sessions, and tells the user by mail. user.ErrChanged
// if the hash is no longer old.
func (n *Ender) SetPassword(ctx context.Context, userID, old, replacement string, by By) error {
	event := audit.PasswordChanged(n.config.Clock.Now(), userID, string(ReasonPasswordChange), by)
	e := n.ending(event, ReasonPasswordChange)
	e.Mail = n.config.Mail.PasswordChanged(event.At, by.Origin)
	_, err := n.store.SetPassword(ctx, userID, old, replacement, e)
	return err
}

// DisableUser keeps the user out and ends all sessions. user.ErrNotFound.
func (n *Ender) DisableUser(ctx context.Context, userID string, by By) error {
	event := audit.UserDisabled(n.config.Clock.Now(), userID, string(ReasonUserDisabled), by)
	_, err := n.store.DisableUser(ctx, userID, n.ending(event, ReasonUserDisabled))
	return err
}

// DeleteUser removes the user, blocks the access tokens of all sessions, and tells the user by mail. user.ErrNotFound.
func (n *Ender) DeleteUser(ctx context.Context, userID string, by By) error {
	event := audit.UserDeleted(n.config.Clock.Now(), userID, string(ReasonUserDeleted), by)
	e := n.ending(event, ReasonUserDeleted)
	e.Mail = n.config.Mail.AccountDeleted(event.At, by.Origin)
	_, err := n.store.DeleteUser(ctx, userID, e)
	return err
}

// SetRoles replaces the user's roles and blocks the access tokens minted until now. Sessions stay alive: the next
// refresh carries the new roles. user.ErrNotFound.
func (n *Ender) SetRoles(ctx context.Context, userID string, roles []string, by By) error {
	event := audit.RolesChanged(n.config.Clock.Now(), userID, by)
	return n.store.SetRoles(ctx, userID, roles, n.ending(event, ""))
}

// revokeForReuse ends the session whose old token was shown, and returns ErrReuse once that is committed.
func (m *Manager) revokeForReuse(ctx context.Context, s Session, origin audit.Origin, at time.Time) error {
	// The thief, or the victim, may hang up: the end of the session must not depend on that.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), batchTimeout)
	defer cancel()
	event := audit.RefreshTokenReuse(at, s.UserID, s.ID.String(), s.ClientID, origin)
	_, err := m.store.EndSession(ctx, s.ID, m.ending(event, ReasonReuse))
	if err != nil {
		return fmt.Errorf("revoke reused session: %w", err)
	}
	return ErrReuse
}

// BlockUntil is when the last access token that is minted now has expired on every clock.
func (n *Ender) BlockUntil() time.Time { return n.blockUntil(n.config.Clock.Now()) }

func (n *Ender) blockUntil(at time.Time) time.Time {
	return at.Add(n.config.Outlived()).Truncate(time.Second)
}

// Ending is what the end of several of a user's sessions leaves behind, for the store methods of other features that
// end sessions.
func (n *Ender) Ending(reason Reason, userID string, by By) Ending {
	return n.ending(audit.SessionsEnded(n.config.Clock.Now(), userID, string(reason), by), reason)
}

func (n *Ender) ending(event audit.Event, reason Reason) Ending {
	return Ending{At: event.At, Reason: reason, BlockUntil: n.blockUntil(event.At), Event: event}
}
