package service

import (
	"context"
	"time"

	"github.com/handstamp/handstamp/pkg/limit"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/session"
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
		Gateways:            oauth.NewGatewaySeals(b.master),
		Pushes:              pushes(),
	}, b.Store, b.Store, b.Clients, b.Sessions, b.Minter, b.forAnyone)
	b.gateways = oauth.NewGateways(b.OAuth, session.NewHolders(b.Sessions, b.blocked))
	return nil
}

// pushes bounds pushed authorization requests: those of one client, and those of public clients from one address, since anybody
// may push for a public client. Each is kept for a minute.
func pushes() func(c oauth.Client, ip string) time.Duration {
	clients := limit.NewBuckets[string](limit.Rate{Burst: 3000, Every: 20 * time.Millisecond})
	addresses := limit.NewAddresses(limit.Rate{Burst: 300, Every: 200 * time.Millisecond})
	return func(c oauth.Client, ip string) time.Duration {
		if c.Type == oauth.Public {
			if wait := addresses.Take(ip); wait > 0 {
				return wait
			}
		}
		return clients.Take(c.ID)
	}
}

// attempts bounds logins at providers that are begun from one address. Each is kept for ten minutes.
func attempts() *limit.Addresses {
	return limit.NewAddresses(limit.Rate{Burst: 600, Every: 100 * time.Millisecond})
}
