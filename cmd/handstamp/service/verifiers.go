package service

import (
	"context"

	"github.com/handstamp/handstamp/pkg/verifier"
)

// verifiers builds what checks the service's own access tokens, with keys and blocklist of this process: one accepts those
// that are meant for this service, the other those for any audience.
func (b *builder) verifiers(ctx context.Context) (err error) {
	own := []verifier.Option{
		verifier.WithKeys(b.Keys.Public),
		verifier.WithBlocklist(b.blocked),
		verifier.WithCache(10_000),
		verifier.WithTokenType(verifier.TypeAccessToken, verifier.TypeJWT),
		verifier.WithClock(b.config.Clock.Now),
	}
	audience := append([]string{b.config.Issuer}, b.config.Audience...)
	if b.forUs, err = verifier.New(ctx, b.config.Issuer, append(own, verifier.WithAudience(audience...))...); err != nil {
		return err
	}
	b.forAnyone, err = verifier.New(ctx, b.config.Issuer, append(own, verifier.WithAnyAudience())...)
	return err
}

// blocked asks this process's copy of the blocklist, once it is known to be current.
func (b *builder) blocked(ctx context.Context, keys []verifier.BlockKey, iat int64) (bool, error) {
	if err := b.Blocklist.Fresh(ctx); err != nil {
		return false, err
	}
	return b.Blocklist.Set().Blocked(keys, iat), nil
}
