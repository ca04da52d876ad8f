package upstream_test

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/handstamp/handstamp/pkg/upstream"
	"github.com/handstamp/handstamp/pkg/user"
)

// memory keeps the promises of upstream.Store in maps, for the tests of the rules above it. The databases are held to the
// same promises by their conformance suite.
type memory struct {
	mu         sync.Mutex
	attempts   map[[32]byte]upstream.Attempt
	used       map[[32]byte]bool
	users      map[string]*memoryUser
	identities map[[2]string]*memoryIdentity // by provider and subject
	lag        func()                        // called after Known has read, to let others be faster
	events     []string
}

type memoryUser struct {
	email              string
	verified, disabled bool
	password           string
	name               string
	sessions           int
}

type memoryIdentity struct {
	userID string
	email  string
	tokens *upstream.TokenRow
}

func newMemory() *memory {
	return &memory{
		attempts: map[[32]byte]upstream.Attempt{}, used: map[[32]byte]bool{},
		users: map[string]*memoryUser{}, identities: map[[2]string]*memoryIdentity{},
	}
}

func (m *memory) SaveAttempt(_ context.Context, a upstream.Attempt) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.attempts[a.StateHash] = a
	return nil
}

func (m *memory) TakeAttempt(_ context.Context, hash [32]byte, at time.Time) (upstream.Attempt, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a, ok := m.attempts[hash]
	delete(m.attempts, hash)
	if !ok || !at.Before(a.ExpiresAt) {
		return upstream.Attempt{}, upstream.ErrNotFound
	}
	return a, nil
}

func (m *memory) UseIDToken(_ context.Context, hash [32]byte, _ time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.used[hash] {
		return upstream.ErrReplayed
	}
	m.used[hash] = true
	return nil
}

func (m *memory) person(id, provider string) *upstream.Person {
	u, ok := m.users[id]
	if !ok {
		return nil
	}
	p := &upstream.Person{UserID: id, Email: u.email, EmailVerified: u.verified, Disabled: u.disabled}
	for key, i := range m.identities {
		p.HasProvider = p.HasProvider || key[0] == provider && i.userID == id
	}
	return p
}

func (m *memory) Known(_ context.Context, q upstream.Question) (upstream.Known, error) {
	m.mu.Lock()
	var k upstream.Known
	if i, ok := m.identities[[2]string{q.Provider, q.Subject}]; ok {
		k.Owner = m.person(i.userID, q.Provider)
	}
	for id, u := range m.users {
		if q.Email != "" && user.EmailKey(u.email) == user.EmailKey(q.Email) {
			k.Candidates = append(k.Candidates, *m.person(id, q.Provider))
		}
	}
	k.Self = m.person(q.UserID, q.Provider)
	lag := m.lag
	m.lag = nil
	m.mu.Unlock()
	if lag != nil {
		lag()
	}
	return k, nil
}

func (m *memory) link(l upstream.Link) error {
	key := [2]string{l.Identity.Provider, l.Identity.Subject}
	p := m.person(l.UserID, l.Identity.Provider)
	if m.identities[key] != nil || p == nil || p.Disabled || p.HasProvider {
		return upstream.ErrConflict
	}
	m.identities[key] = &memoryIdentity{userID: l.UserID, email: l.Identity.Email}
	m.events = append(m.events, string(l.Event.Kind)+" "+l.Event.Reason+" "+l.Event.UserID)
	return nil
}

func (m *memory) LinkIdentity(_ context.Context, l upstream.Link, verifiedEmail string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if u := m.users[l.UserID]; verifiedEmail != "" &&
		(u == nil || !u.verified || u.email != verifiedEmail) {
		return upstream.ErrConflict
	}
	return m.link(l)
}

func (m *memory) AdoptUser(_ context.Context, a upstream.Adoption) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	u := m.users[a.UserID]
	if u == nil || u.disabled || u.verified || u.email != a.Email ||
		m.identities[[2]string{a.Identity.Provider, a.Identity.Subject}] != nil {
		return upstream.ErrConflict
	}
	for key, i := range m.identities {
		if i.userID == a.UserID {
			delete(m.identities, key)
		}
	}
	u.password, u.sessions, u.verified, u.name = "", 0, true, a.Identity.Name
	return m.link(a.Link)
}

func (m *memory) CreateUserWithIdentity(_ context.Context, n user.User, l upstream.Link) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, u := range m.users {
		if n.Email != "" && user.EmailKey(u.email) == user.EmailKey(n.Email) {
			return upstream.ErrConflict
		}
	}
	if m.identities[[2]string{l.Identity.Provider, l.Identity.Subject}] != nil {
		return upstream.ErrConflict
	}
	m.users[n.ID] = &memoryUser{email: n.Email, verified: !n.EmailVerifiedAt.IsZero(), name: n.Name}
	return m.link(l)
}

func (m *memory) Identities(_ context.Context, userID string) ([]upstream.LinkedIdentity, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []upstream.LinkedIdentity
	for key, i := range m.identities {
		if i.userID == userID {
			out = append(out, upstream.LinkedIdentity{Provider: key[0], Subject: key[1], Email: i.email, HasTokens: i.tokens != nil,
				NeedsReauth: i.tokens != nil && i.tokens.NeedsReauth})
		}
	}
	return out, nil
}

func (m *memory) RemoveIdentity(_ context.Context, r upstream.Removal) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found *[2]string
	others := m.users[r.UserID].password != ""
	for key, i := range m.identities {
		switch {
		case i.userID != r.UserID:
		case key[0] == r.Provider:
			found = &key
		case slices.Contains(r.Providers, key[0]):
			others = true
		}
	}
	switch {
	case found == nil:
		return upstream.ErrNotFound
	case !others:
		return upstream.ErrLastCredential
	}
	delete(m.identities, *found)
	return nil
}

func (m *memory) SaveTokens(_ context.Context, provider, subject string, sealed []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := m.identities[[2]string{provider, subject}]
	if i == nil {
		return upstream.ErrNotFound
	}
	row := upstream.TokenRow{Provider: provider, Subject: subject, Sealed: sealed, Version: 1}
	if i.tokens != nil {
		row.Version = i.tokens.Version + 1
	}
	i.tokens = &row
	return nil
}

func (m *memory) Tokens(_ context.Context, userID, provider string) (upstream.TokenRow, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, i := range m.identities {
		if key[0] == provider && i.userID == userID && i.tokens != nil {
			return *i.tokens, nil
		}
	}
	return upstream.TokenRow{}, upstream.ErrNotFound
}

func (m *memory) LeaseTokens(_ context.Context, row upstream.TokenRow, at, until time.Time) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := m.identities[[2]string{row.Provider, row.Subject}]
	if i == nil || i.tokens == nil || i.tokens.Version != row.Version || i.tokens.LeasedUntil.After(at) {
		return 0, upstream.ErrConflict
	}
	i.tokens.Version++
	i.tokens.LeasedUntil = until
	return i.tokens.Version, nil
}

func (m *memory) FinishTokens(_ context.Context, row upstream.TokenRow) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := m.identities[[2]string{row.Provider, row.Subject}]
	if i == nil || i.tokens == nil || i.tokens.Version != row.Version {
		return upstream.ErrConflict
	}
	i.tokens.Version++
	i.tokens.Sealed, i.tokens.NeedsReauth, i.tokens.LeasedUntil = row.Sealed, row.NeedsReauth, time.Time{}
	return nil
}

func (m *memory) SweepUpstream(context.Context, time.Time, int) (int, error) { return 0, nil }
