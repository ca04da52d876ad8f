package session

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/handstamp/handstamp/pkg/verifier"
)

// maxHeld bounds the sessions of each half of what Holders remembers.
const maxHeld = 50_000

// Holders keeps sessions alive whose holder shows the session itself, sealed, and has no refresh tokens: a browser at a gateway.
// It remembers what the database said of a session for as long as an access token lives, and asks the blocklist meanwhile, as
// a verifier does. So a request costs no query, and what ends a session or changes its roles reaches it as soon as any verifier.
type Holders struct {
	manager *Manager
	blocked verifier.BlockCheck

	mu         sync.RWMutex
	young, old map[ID]*held
}

// held is a session as the database told it, which nobody changes.
type held struct {
	session Session
	until   time.Time            // when the database has to be asked again
	keys    [2]verifier.BlockKey // under which the blocklist may name it
}

// NewHolders returns holders that remember no session. The check asks this replica's copy of the blocklist.
func NewHolders(m *Manager, blocked verifier.BlockCheck) *Holders {
	return &Holders{manager: m, blocked: blocked, young: map[ID]*held{}}
}

// Session returns a session that its holder may go on with. ErrEnded, ErrWrongClient, ErrClientDisabled; any other error is a
// storage failure.
func (h *Holders) Session(ctx context.Context, id ID, nonce Nonce, clientID string) (Session, error) {
	now := h.manager.Now()
	if known := h.find(id); known != nil && known.session.holds(nonce, clientID) == nil && now.Before(known.until) {
		blocked, err := h.blocked(ctx, known.keys[:], known.session.IATFloor)
		if err != nil {
			return Session{}, fmt.Errorf("ask the blocklist: %w", err)
		}
		if !blocked {
			return known.session, nil
		}
	}
	s, err := h.manager.Continue(ctx, id, nonce, clientID)
	if err != nil {
		return Session{}, err
	}
	h.Keep(s)
	return s, nil
}

// Keep remembers a session that the database has just told.
func (h *Holders) Keep(s Session) {
	until := h.manager.Now().Add(h.manager.config.heldFor())
	for _, end := range []time.Time{s.IdleExpiresAt, s.ExpiresAt} {
		if end.Before(until) {
			until = end
		}
	}
	h.put(&held{session: s, until: until, keys: [2]verifier.BlockKey{
		verifier.KeyOf(verifier.BlockSID, s.ID.String()), verifier.KeyOf(verifier.BlockClient, s.ClientID),
	}})
}

func (h *Holders) find(id ID) *held {
	h.mu.RLock()
	known, young := h.young[id]
	if !young {
		known = h.old[id]
	}
	h.mu.RUnlock()
	if known != nil && !young {
		h.put(known)
	}
	return known
}

// put remembers a session as one of the youngest. Of those that nobody asks for, at most maxHeld stay.
func (h *Holders) put(known *held) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.young) >= maxHeld {
		h.young, h.old = map[ID]*held{}, h.young
	}
	h.young[known.session.ID] = known
}

// heldFor is for how long a session is held without asking the database: as an access token would, but not so long that a
// session which is used would be idle meanwhile.
func (c Config) heldFor() time.Duration { return min(c.AccessTokenLifetime, c.IdleLifetime/2) }

// holds reports whether a holder of the session at a client shows its nonce.
func (s Session) holds(nonce Nonce, clientID string) error {
	switch {
	case subtle.ConstantTimeCompare(s.Nonce[:], nonce[:]) != 1:
		return ErrEnded
	case s.ClientID != clientID:
		return ErrWrongClient
	}
	return nil
}

// Continue is a refresh for a holder who shows the session itself, and so has nothing that is used up: the idle end moves, and
// the same rule decides. Requests of one holder that come at once move the session once.
// ErrEnded, ErrWrongClient, ErrClientDisabled change nothing; any other error is a storage failure or ErrBusy.
func (m *Manager) Continue(ctx context.Context, id ID, nonce Nonce, clientID string) (Session, error) {
	for range refreshAttempts {
		s, err := m.store.Session(ctx, id)
		m.heard(ctx, err)
		if errors.Is(err, ErrNotFound) {
			return Session{}, ErrEnded
		}
		if err != nil {
			return Session{}, fmt.Errorf("read session: %w", err)
		}
		now := m.config.Clock.Now()
		if err := s.holds(nonce, clientID); err != nil {
			return Session{}, err
		}
		if err := mayRefresh(s, "", now); err != nil {
			return Session{}, err
		}
		row, err := m.advance(ctx, s, now)
		if err != nil {
			return Session{}, fmt.Errorf("continue session: %w", err)
		}
		if row != nil {
			return *row, mayRefresh(*row, "", now)
		}
	}
	return Session{}, fmt.Errorf("session changed %d times while it was continued", refreshAttempts)
}

// advance moves a session on from its row as read, unless another request has just done so; nil if the row has changed. Either
// way no blocklist entry of before is about what the row says now.
func (m *Manager) advance(ctx context.Context, s Session, now time.Time) (*Session, error) {
	step := Rotation{
		ID: s.ID, Nonce: s.Nonce, ClientID: s.ClientID, From: s.Generation, To: s.Generation + 1,
		At: now, IdleExpiresAt: now.Add(m.config.IdleLifetime),
	}
	if now.Sub(s.RotatedAt) < m.config.heldFor()/2 || step.To == 0 {
		row, err := m.store.Repeat(ctx, step)
		m.heard(ctx, err)
		return row, err
	}
	return m.batch.do(ctx, step)
}
