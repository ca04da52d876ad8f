package bff

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/handstamp/handstamp/pkg/verifier"
)

// renewals brings together all requests of this process that need the same refresh.
type renewals struct {
	mu       sync.Mutex
	flights  map[ID]*flight // by the hash of the refresh token
	outcomes outcomes
	closed   bool
	work     sync.WaitGroup
}

// flight is a refresh under way, or one that has ended a moment ago.
type flight struct {
	done  chan struct{}
	state *state
	err   error
	until time.Time // of an outcome
}

// How long the outcome of a refresh answers those who come with the same token. A page's requests leave together and arrive one
// after another, and while the issuer is down, one request a second is enough to find out. What it refused, it refuses forever.
const (
	keepRenewed = 10 * time.Second
	keepFailed  = time.Second
	keepRefused = time.Minute
)

const renewTimeout = 15 * time.Second

// outcomes are flights that have landed.
type outcomes struct {
	limit int
	m     map[ID]*flight
	mu    sync.Mutex
}

func (o *outcomes) get(id ID) *flight {
	o.mu.Lock()
	defer o.mu.Unlock()
	if f, ok := o.m[id]; ok && time.Now().Before(f.until) {
		return f
	}
	return nil
}

func (o *outcomes) put(id ID, f *flight) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.m == nil || len(o.m) >= o.limit {
		o.m = map[ID]*flight{}
	}
	o.m[id] = f
}

func (o *outcomes) purge(now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for id, f := range o.m {
		if !now.Before(f.until) {
			delete(o.m, id)
		}
	}
}

// close waits for the flights under way.
func (f *renewals) close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.work.Wait()
}

// renew returns the session that follows s, with other tokens. The error wraps ErrNoSession if the session has ended, else
// ErrUnavailable, and then s is as good as before. A refresh goes on when the request is gone that began it: others wait for it,
// and its answer is the only copy of the next refresh token.
func (b *BFF) renew(ctx context.Context, s *state) (*state, error) {
	if s.refresh == "" {
		return nil, ErrNoSession
	}
	id := ID(sha256.Sum256([]byte(s.refresh)))
	if landed := b.renewals.outcomes.get(id); landed != nil {
		return landed.state, landed.err
	}
	b.renewals.mu.Lock()
	f, ok := b.renewals.flights[id]
	if !ok {
		if b.renewals.closed {
			b.renewals.mu.Unlock()
			return nil, ErrUnavailable
		}
		f = &flight{done: make(chan struct{})}
		b.renewals.flights[id] = f
		b.renewals.work.Go(func() { b.fly(context.WithoutCancel(ctx), id, f, s) })
	}
	b.renewals.mu.Unlock()
	select {
	case <-f.done:
		return f.state, f.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))
	}
}

func (b *BFF) fly(ctx context.Context, id ID, f *flight, s *state) {
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	f.state, f.err = b.refresh(ctx, s)
	keep := keepRenewed
	switch {
	case errors.Is(f.err, ErrNoSession):
		keep = keepRefused
	case f.err != nil:
		keep = keepFailed
		b.config.Log.WarnContext(ctx, "session was not refreshed", "session_id", s.sid, "error", f.err)
	}
	f.until = time.Now().Add(keep)
	b.renewals.outcomes.put(id, f)
	b.renewals.mu.Lock()
	delete(b.renewals.flights, id)
	b.renewals.mu.Unlock()
	close(f.done)
}

// refresh asks the issuer for the next tokens. Another process may do so at the same time: its Idempotency-Key is ours, so both
// get the same refresh token, and of the two that write it to the Store, the second takes what the first wrote.
func (b *BFF) refresh(ctx context.Context, s *state) (*state, error) {
	if b.config.Store != nil {
		switch current, err := b.load(ctx, s.key); {
		case err != nil:
			return nil, err
		case current.refresh != s.refresh || current.access != s.access:
			return current, nil
		default:
			s = current
		}
	}
	t, err := b.issuer.refresh(ctx, s.refresh)
	if errors.Is(err, errInvalidGrant) {
		return b.refused(ctx, s)
	}
	if err != nil {
		return nil, err
	}
	next := *s
	next.access, next.refreshedAt = t.access, time.Now().Unix()
	if t.refresh != "" {
		next.refresh = t.refresh
	}
	if t.id != "" {
		if _, err := b.checkIDToken(ctx, t, idTokenWanted{subject: s.subject}); err != nil { // OpenID Connect Core, section 12.2
			return nil, fmt.Errorf("%w: refreshed: %w", ErrUnavailable, err)
		}
		next.id = t.id
	}
	if b.config.Store == nil {
		return &next, nil
	}
	next.version++
	switch err := b.config.Store.Swap(ctx, b.record(&next)); {
	case errors.Is(err, ErrConflict):
		return b.load(ctx, s.key)
	case errors.Is(err, ErrNotFound):
		b.cached.remove(s.key)
		return nil, ErrNoSession
	case err != nil: // the Store has the old token, with which the next attempt gets the same answer again
		return nil, fmt.Errorf("%w: store: %w", ErrUnavailable, err)
	}
	b.cached.put(cachedState{&next, time.Now()})
	return &next, nil
}

// refused is what became of a session whose refresh token the issuer does not take. In a Store there may be a later one by now;
// if there is none, the session has ended. A sealed cookie may be a late copy, beside which the browser has a better one, so that
// it is not cleared.
func (b *BFF) refused(ctx context.Context, s *state) (*state, error) {
	if b.config.Store == nil {
		return nil, ErrNoSession
	}
	current, err := b.load(ctx, s.key)
	if err != nil || current.version != s.version {
		return current, err
	}
	b.cached.remove(s.key)
	if _, err := b.config.Store.End(ctx, Match{ID: s.key}); err != nil {
		return nil, fmt.Errorf("%w: store: %w", ErrUnavailable, err)
	}
	return nil, ErrNoSession
}

// alive returns the claims of the session's access token, and the session that has taken its place if it had to be refreshed. A
// token is refreshed when it is about to expire, and at once when it has expired or was revoked: by the end of the session, which
// the issuer then says, or by a change of the user's roles, which the next token has.
func (b *BFF) alive(ctx context.Context, s *state) (*verifier.Claims, *state, error) {
	const attempts = 4 // other processes may be ahead of us, and the roles may change again
	for range attempts {
		if b.ended.has(s.sid) || !time.Now().Before(s.endsAt(b.config.IdleLifetime, b.config.Lifetime)) {
			return nil, nil, ErrNoSession
		}
		claims, err := b.verifier.Verify(ctx, s.access)
		switch {
		case errors.Is(err, verifier.ErrUnavailable):
			return nil, nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		case err == nil && (claims.ClientID != b.config.ClientID || claims.Subject != s.subject):
			return nil, nil, ErrNoSession
		case err == nil && time.Until(claims.ExpiresAt) > refreshAhead(claims):
			return claims, s, nil
		}
		next, failure := b.renew(ctx, s)
		if failure != nil && err == nil {
			return claims, s, nil // still good, and the next request tries again
		}
		if failure != nil {
			return nil, nil, failure
		}
		s = next
	}
	return nil, nil, fmt.Errorf("%w: each new access token was refused", ErrUnavailable)
}

// refreshAhead is how long before its expiry an access token is refreshed.
func refreshAhead(c *verifier.Claims) time.Duration {
	return min(time.Minute, c.ExpiresAt.Sub(c.IssuedAt)/8)
}
