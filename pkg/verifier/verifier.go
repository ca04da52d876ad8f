package verifier

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Verifier checks access tokens of one issuer for one resource server. It is safe for use by any number of goroutines. Make one
// with New and keep it for the life of the program.
type Verifier struct {
	issuer string
	settings
	key   func(ctx context.Context, kid string) (*Key, error)
	cache *cache                 // nil if none is wanted
	last  atomic.Pointer[header] // of an authentic token; the next one most likely has the same

	fetcher  *keyFetcher // nil if the keys are in-process
	follower *follower   // nil if the blocklist is in-process or not wanted
	cancel   context.CancelFunc
	work     sync.WaitGroup
}

// New returns a Verifier for tokens of issuer, which is the exact iss of its tokens. WithAudience is required.
//
// New fetches the issuer's metadata, keys and blocklist and waits for the first attempt to succeed or fail, at most
// until ctx is done; ctx does not affect the background work, which continues until Close. New returns an error if an
// option is wrong or the server at issuer says that it is another issuer. It returns none if the issuer cannot be
// reached: a resource server may start first. Verify then returns ErrUnavailable until the issuer is there.
func New(ctx context.Context, issuer string, options ...Option) (*Verifier, error) {
	v := &Verifier{issuer: issuer, settings: settings{
		types:        []string{TypeAccessToken},
		maxStaleness: DefaultMaxStaleness,
		pollInterval: DefaultPollInterval,
		now:          time.Now,
	}}
	for _, option := range options {
		if err := option(&v.settings); err != nil {
			return nil, err
		}
	}
	if len(v.audiences) == 0 && !v.anyAudience {
		return nil, errors.New("verifier: WithAudience is required: a token for any other service would be accepted")
	}
	if v.cacheSize > 0 {
		v.cache = newCache(v.cacheSize)
	}
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	v.cancel = cancel
	if err := v.start(ctx, background); err != nil {
		v.Close()
		return nil, err
	}
	return v, nil
}

// start starts the work in the background and waits for the first attempts.
func (v *Verifier) start(ctx, background context.Context) error {
	var remote *remote
	if v.keys == nil || v.blocked == nil && !v.withoutFeed {
		var err error
		if remote, err = newRemote(v.issuer, v.client); err != nil {
			return err
		}
	}
	var first []<-chan struct{}
	if v.keys != nil {
		v.key = func(_ context.Context, kid string) (*Key, error) {
			if k, ok := v.keys(kid); ok {
				return k, nil
			}
			return nil, ErrUnknownKey
		}
	} else {
		v.fetcher = newKeyFetcher(remote, v.hooks.KeysFetched)
		v.key = v.fetcher.key
		first = append(first, v.fetcher.tried)
		v.work.Go(func() { v.fetcher.run(background) })
	}
	if v.blocked == nil && !v.withoutFeed {
		v.follower = newFollower(remote, &v.settings)
		if v.fetcher != nil {
			v.follower.merged = v.fetcher.refetchIfBlocked
		}
		v.blocked = v.follower.blocked
		first = append(first, v.follower.tried)
		v.work.Go(func() { v.follower.poll(background) })
		v.work.Go(func() { v.follower.listen(background) })
	}
	for _, tried := range first {
		select {
		case <-tried:
		case <-ctx.Done():
			return fmt.Errorf("verifier: %w", context.Cause(ctx))
		}
	}
	if remote != nil {
		return remote.misconfigured()
	}
	return nil
}

// Close ends the background work and waits for it. Verify continues with the known keys and entries; for a token that needs
// more it returns ErrUnavailable.
func (v *Verifier) Close() {
	v.cancel()
	v.work.Wait()
}

// Verify returns the claims of raw if it is a valid access token for this resource server, and an error that wraps ErrInvalid or
// ErrUnavailable if not. The claims are not read before the signature is known to be right, so a forged token learns nothing.
//
// Verify works in memory. It asks the issuer only for a kid that is not known, together with all others who ask at that time and
// not more than once in 30 seconds; ctx bounds the wait.
func (v *Verifier) Verify(ctx context.Context, raw string) (*Claims, error) {
	if v.hooks.Verified == nil {
		claims, _, err := v.verify(ctx, raw)
		return claims, err
	}
	begin := time.Now()
	claims, cached, err := v.verify(ctx, raw)
	v.hooks.Verified(err, time.Since(begin), cached)
	return claims, err
}

func (v *Verifier) verify(ctx context.Context, raw string) (_ *Claims, cached bool, err error) {
	var id cacheKey
	var claims *Claims
	if v.cache != nil && len(raw) <= MaxTokenSize {
		id = v.cache.id(raw)
		claims = v.cached(ctx, id)
	}
	cached = claims != nil
	if !cached {
		if claims, err = v.authenticate(ctx, raw); err != nil {
			return nil, false, err
		}
	}
	now := v.now()
	if err := v.checkTimes(claims, now); err != nil {
		if cached {
			v.cache.remove(id)
		}
		return nil, cached, err
	}
	if v.blocked != nil {
		blocked, err := v.blocked(ctx, claims.blockKeys(), claims.IssuedAt.Unix())
		if err != nil {
			return nil, cached, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		if blocked {
			return nil, cached, ErrBlocked
		}
	}
	if v.cache != nil && !cached {
		v.cache.put(id, claims)
	}
	return claims, cached, nil
}

// cached returns the claims of a token seen before, nil if it is new or the key that signed it is no longer the issuer's.
func (v *Verifier) cached(ctx context.Context, id cacheKey) *Claims {
	claims := v.cache.get(id)
	if claims == nil {
		return nil
	}
	if key, err := v.key(ctx, claims.KeyID); err != nil || key != claims.key {
		v.cache.remove(id)
		return nil
	}
	return claims
}

// authenticate returns the claims of raw if it is an access token that the issuer made for this resource server, at
// whatever time.
func (v *Verifier) authenticate(ctx context.Context, raw string) (*Claims, error) {
	token, err := split(raw)
	if err != nil {
		return nil, err
	}
	h := v.last.Load()
	known := h != nil && h.part == token.header
	if !known {
		if h, err = parseHeader(token.header, v.types); err != nil {
			return nil, err
		}
	}
	key, err := v.key(ctx, h.kid)
	if err != nil {
		return nil, err
	}
	if h.alg != key.alg { // the key decides; a token has no say (RFC 8725, section 3.1)
		return nil, fmt.Errorf("%w: alg is not the key's", ErrSignature)
	}
	if err := key.verify(token.signed, token.signature); err != nil {
		return nil, err
	}
	if !known {
		h.part = strings.Clone(h.part) // not the whole token
		v.last.Store(h)
	}
	payload, err := decodePart(token.payload)
	if err != nil {
		return nil, err
	}
	claims, err := parseClaims(payload, key)
	if err != nil {
		return nil, err
	}
	if h.typ != TypeAccessToken && claims.use != TokenUseAccess { // an ID token (RFC 8725, section 3.12)
		return nil, fmt.Errorf("%w: not an access token", ErrMalformed)
	}
	if claims.Issuer != v.issuer {
		return nil, ErrIssuer
	}
	if !v.anyAudience && !slices.ContainsFunc(claims.Audience, func(a string) bool { return slices.Contains(v.audiences, a) }) {
		return nil, ErrAudience
	}
	return claims, nil
}

// checkTimes holds the claims against the clock, see WithLeeway for the exact limits.
func (v *Verifier) checkTimes(c *Claims, now time.Time) error {
	future := now.Add(max(v.leeway, FutureLeeway))
	switch {
	case !now.Before(c.ExpiresAt.Add(v.leeway)): // RFC 7519, section 4.1.4: "on or after"
		return ErrExpired
	case c.IssuedAt.After(future), c.NotBefore.After(future):
		return ErrNotYetValid
	case v.maxLifetime > 0 && c.ExpiresAt.Sub(c.IssuedAt) > v.maxLifetime:
		return ErrLifetime
	}
	return nil
}
