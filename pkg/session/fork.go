package session

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/handstamp/handstamp/pkg/audit"
)

// maxChildren is how many live children a session has at most.
const maxChildren = 5

// Fork begins a child of the session whose refresh token is presented: a chain of its own for a second holder on the
// same device, so that two never hold one. The token is judged as in a refresh, and the parent does not move. A child
// has the parent's ends, and whatever ends one ends both. The errors are those of Refresh, and ErrChild.
func (m *Manager) Fork(ctx context.Context, r Refresh) (Issued, error) {
	p, err := m.codec.Parse(r.Raw)
	if err != nil {
		return Issued{}, err
	}
	if ctx.Err() != nil {
		return Issued{}, fmt.Errorf("fork: %w", context.Cause(ctx)) // nobody asks any more
	}
	// What is read is judged, also if the caller leaves meanwhile: see refreshSlowly.
	staying, cancel := context.WithTimeout(context.WithoutCancel(ctx), batchTimeout)
	defer cancel()
	at := m.config.Clock.Now()
	heldUp := m.heldUp(r, at)
	for range refreshAttempts {
		parent, verdict, err := m.judge(staying, p, r, at, heldUp)
		switch {
		case verdict == Revoke:
			return Issued{}, m.revokeForReuse(ctx, parent, r.Origin, at)
		case err != nil:
			return Issued{}, err
		case !parent.Parent.IsZero():
			return Issued{}, ErrChild
		}
		f := m.fork(parent, r.Origin)
		f.At = at
		row, err := m.store.Fork(ctx, f)
		m.heard(ctx, err)
		if err != nil {
			return Issued{}, fmt.Errorf("fork: %w", err)
		}
		if row != nil {
			child := Presented{ID: row.ID, Generation: row.Generation, Nonce: row.Nonce}
			r.Raw, r.IdempotencyKey = "", ""
			return m.answer(ctx, *row, child, r, Rotation{
				ID: row.ID, Nonce: row.Nonce, ClientID: row.ClientID, From: 1, To: 2, At: at, IdleExpiresAt: at.Add(m.config.IdleLifetime),
			})
		}
	}
	return Issued{}, fmt.Errorf("session changed %d times while it was forked", refreshAttempts)
}

func (m *Manager) fork(parent Session, origin audit.Origin) Fork {
	now := m.config.Clock.Now()
	f := Fork{
		Parent:     parent.ID,
		Nonce:      parent.Nonce,
		ClientID:   parent.ClientID,
		Generation: parent.Generation,
		ID:         NewID(now),
		UserAgent:  origin.UserAgent,
		IP:         origin.IP,
		Limit:      maxChildren,
		BlockUntil: m.blockUntil(now),
	}
	rand.Read(f.ChildNonce[:])
	f.Event = audit.SessionForked(now, parent.UserID, f.ID.String(), parent.ID.String(), parent.ClientID, origin)
	return f
}

// Root is the session that a device began with: the parent of a child, and every other session itself.
func (s Session) Root() ID {
	if s.Parent.IsZero() {
		return s.ID
	}
	return s.Parent
}
