package service

import (
	"context"

	"github.com/handstamp/handstamp/pkg/oauth"
)

// clients reads the registered clients.
func (b *builder) clients(ctx context.Context) error {
	b.Clients = oauth.NewRegistry(b.Store)
	b.signer = oauth.NewClientSigner(b.Clients, b.Minter)
	return b.Clients.Sync(ctx)
}

// oauth builds the server of the protocol.
func (b *builder) oauth(context.Context) error {
	b.OAuth = oauth.NewServer(oauth.Config{
		Issuer:              b.config.Issuer,
		Audience:            b.config.Audience,
		AccessTokenLifetime: b.config.AccessTokenLifetime,
		Statuses:            b.statuses,
		Clock:               b.config.Clock,
	}, b.Store, b.Store, b.Clients, b.Sessions, b.Minter, b.forAnyone)
	return nil
}
