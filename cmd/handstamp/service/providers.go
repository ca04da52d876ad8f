package service

import (
	"context"

	"github.com/handstamp/handstamp/pkg/upstream"
)

// upstreams builds what logs users in at providers.
func (b *builder) upstreams(context.Context) (err error) {
	options := upstream.Options{Key: b.master, Clock: b.config.Clock, Log: b.log}
	if b.providers, err = upstream.NewProviders(b.config.Providers, options); err != nil {
		return err
	}
	b.linker = upstream.Linker{
		Store:         b.Store,
		Clock:         b.config.Clock,
		SignupAllowed: b.config.Signup,
		EmailRequired: true,
		BlockFor:      sessionConfig(b.config).Outlived(),
	}
	b.keeper = upstream.Keeper{
		Store:     b.Store,
		Sealer:    upstream.NewSealer(b.master),
		Providers: b.providers,
		Clock:     b.config.Clock,
	}
	return nil
}
