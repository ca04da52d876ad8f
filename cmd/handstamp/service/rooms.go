package service

import (
	"context"
	"slices"

	"github.com/handstamp/handstamp/api"
	"github.com/handstamp/handstamp/api/documents"
	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/api/feed"
	"github.com/handstamp/handstamp/api/firstparty"
	"github.com/handstamp/handstamp/api/gateway"
	"github.com/handstamp/handstamp/api/oauth2"
	"github.com/handstamp/handstamp/api/operate"
	"github.com/handstamp/handstamp/api/signals"
	"github.com/handstamp/handstamp/api/signin"
	"github.com/handstamp/handstamp/pkg/limit"
)

// serving builds the handler.
func (b *builder) serving(context.Context) error {
	proxies, err := door.ParseTrustedProxies(b.config.TrustedProxies)
	if err != nil {
		return err
	}
	b.api = door.Config{
		Issuer:         b.config.Issuer,
		TrustedProxies: proxies,
		Clients:        b.Clients,
		Verifier:       b.forUs,
		Pages:          b.pages,
		Metrics:        door.NewMetrics(b.registry),
		Clock:          b.config.Clock,
		Log:            b.log,
	}
	b.door = door.New(b.api)
	b.feed, b.attempts = b.feedRoom(), attempts()
	b.API = api.New(b.door, slices.Concat(b.public(), b.private())...)
	return nil
}

// Routes returns the table of routes, without a service behind it.
func Routes() []door.Route {
	b := &builder{Service: &Service{}}
	b.feed = b.feedRoom()
	return api.Table(slices.Concat(b.public(), b.private())...)
}

// public are the rooms for users, clients and resource servers, which may be anywhere.
func (b *builder) public() []api.Room {
	browser := &signin.Browser{
		Door:            b.door,
		BrowserSessions: b.Store,
		States:          b.states,
	}
	devices := door.Devices{
		Door:   b.door,
		Sealed: b.devices,
	}
	upstreams := &signin.Upstreams{
		Browser:   browser,
		Upstream:  b.Store,
		Providers: b.providers,
		Clients:   b.Clients,
		Attempts:  b.attempts,
	}
	login := &signin.Login{
		Upstreams: upstreams,
		OAuth:     b.OAuth,
		Users:     b.Store,
		Keys:      b.Keys,
		Consents:  b.Store,
		Passwords: signin.Passwords{
			Authenticator: b.authenticator,
			Signup:        b.signup,
			Devices:       devices,
			Notices:       notices(b.config),
			Account:       b.account,
			Factors:       b.factors,
		},
		Linker: b.linker,
		Keeper: b.keeper,
	}
	mfa := &firstparty.MFA{
		Door:    b.door,
		OAuth:   b.OAuth,
		Users:   b.Store,
		Factors: b.factors,
		Devices: devices,
	}
	return []api.Room{
		b.documentsRoom(),
		&oauth2.Room{
			Door:        b.door,
			Issuer:      b.config.Issuer,
			OAuth:       b.OAuth,
			AnyAudience: b.forAnyone,
		},
		login,
		&signin.Recovery{Login: login},
		upstreams,
		&signin.Logout{
			Browser:  browser,
			OAuth:    b.OAuth,
			Sessions: b.Sessions,
			Clients:  b.Clients,
			Keys:     b.Keys,
			Users:    b.Store,
		},
		&firstparty.Login{
			Door:          b.door,
			OAuth:         b.OAuth,
			Sessions:      b.Sessions,
			AnyAudience:   b.forAnyone,
			Authenticator: b.authenticator,
			Signup:        b.signup,
			Account:       b.account,
			MFA:           mfa,
		},
		&firstparty.Recovery{
			Door:    b.door,
			Users:   b.Store,
			Account: b.account,
		},
		mfa,
		&firstparty.Factors{
			Door:     b.door,
			Users:    b.Store,
			Sessions: b.Sessions,
			Factors:  b.factors,
		},
		&firstparty.Account{
			Door:          b.door,
			OAuth:         b.OAuth,
			Sessions:      b.Sessions,
			Users:         b.Store,
			Authenticator: b.authenticator,
			Hasher:        b.Hasher,
			Passwords:     b.passwords,
			Clock:         b.config.Clock,
		},
		&firstparty.Identities{
			Door:      b.door,
			OAuth:     b.OAuth,
			Users:     b.Store,
			Upstream:  b.Store,
			Providers: b.providers,
			Linker:    b.linker,
			Keeper:    b.keeper,
			MFA:       mfa,
		},
		b.feed,
		&signals.Room{
			Door:      b.door,
			Signals:   b.Store,
			Sealer:    b.sealer,
			Signer:    b.signer,
			Blocklist: b.Blocklist,
			Private:   b.config.SignalsPrivate,
			Log:       b.log,
		},
	}
}

// private are the rooms for the operator's own network: gateways, and what watches the service.
func (b *builder) private() []api.Room {
	return []api.Room{
		&gateway.Room{
			Door:        b.door,
			Verifier:    b.forUs,
			AnyAudience: b.forAnyone,
			Clients:     b.Clients,
			Gateways:    b.gateways,
		},
		&operate.Room{
			Database:  b.Store,
			Blocklist: b.Blocklist,
			Keys:      b.Keys,
			Clock:     b.config.Clock,
		},
	}
}

func (b *builder) documentsRoom() *documents.Room {
	return &documents.Room{
		Issuer:      b.config.Issuer,
		Keys:        b.Keys,
		StatusLists: b.statuses != nil,
		Contract:    api.Contract(),
		Door:        b.door,
		HomeURL:     b.config.HomeURL,
		PasswordURL: b.config.ChangePasswordURL,
	}
}

func (b *builder) feedRoom() *feed.Room {
	room := &feed.Room{
		Door:      b.door,
		Blocklist: b.Blocklist,
		Minter:    b.Minter,
		Followers: b.Followers,
		Limits: feed.Limits{
			Readers: limit.NewInFlight(b.config.FeedReaders, b.config.FeedReadersPerAddress),
			Streams: limit.NewInFlight(b.config.FeedStreams, b.config.FeedStreamsPerAddress),
		},
	}
	if b.statuses != nil { // a nil pointer in an interface would not be nil
		room.Statuses = b.statuses
	}
	return room
}
