package service

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/handstamp/handstamp/api"
	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/api/pages"
	"github.com/handstamp/handstamp/api/signin"
	"github.com/handstamp/handstamp/pkg/account"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/factor"
	"github.com/handstamp/handstamp/pkg/keyring"
	"github.com/handstamp/handstamp/pkg/limit"
	"github.com/handstamp/handstamp/pkg/mail"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/outbox"
	"github.com/handstamp/handstamp/pkg/password"
	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/sharedsignal"
	"github.com/handstamp/handstamp/pkg/statuslist"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/token"
	"github.com/handstamp/handstamp/pkg/upstream"
	"github.com/handstamp/handstamp/pkg/user"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// Service is every part of the running program that others look at.
type Service struct {
	Store     store.Store
	Keys      *keyring.Keyring
	Blocklist *blocklist.List
	Clients   *oauth.Registry
	Sessions  *session.Manager
	Hasher    *password.Hasher
	Minter    *token.Minter
	OAuth     *oauth.Server
	Followers prometheus.Gauge // open streams of the blocklist
	Mails     *mail.Writer     // nil if mail is off
	API       *api.API
	log       *slog.Logger
	builder   *builder // builds again what can be replaced
	figures   *figures

	cancel     context.CancelFunc
	background sync.WaitGroup
}

// builder builds a service; each feature has a file with its own step.
type builder struct {
	*Service
	config   Config
	registry *prometheus.Registry
	master   seal.MasterKey

	statuses         *statuslist.Publisher // nil if access tokens refer to no status list
	forUs, forAnyone *verifier.Verifier    // accept access tokens that are meant for this service, and for every audience

	passwords     password.Policy
	authenticator *user.Authenticator
	signup        *user.Signup
	devices       user.Devices
	factors       *factor.Manager

	providers *upstream.Providers
	linker    upstream.Linker
	keeper    upstream.Keeper

	gateways *oauth.Gateways

	signer  *oauth.ClientSigner
	sealer  sharedsignal.Sealer
	logouts *oauth.LogoutSender
	signals *sharedsignal.Sender

	mailer *mail.Sender
	looks  *atomic.Pointer[pages.Renderer] // the pages that are in force, also after a reload

	account *account.Service

	states signin.States
	pages  *pages.Renderer
	door   *door.Door
	api    door.Config // what the door was made of
	feed   api.Room    // stays when others are replaced: its followers do, too

	attempts *limit.Addresses // logins begun at providers; stays likewise
}

// New builds every part and starts what runs in the background. The caller closes the service, which closes the store.
func New(ctx context.Context, c Config, s store.Store, log *slog.Logger, registry *prometheus.Registry) (*Service, error) {
	counts := newFigures(registry)
	b := &builder{
		Service:  &Service{Store: tally{s, counts}, log: log, figures: counts},
		config:   c,
		registry: registry,
		looks:    &atomic.Pointer[pages.Renderer]{},
	}
	for _, step := range []func(context.Context) error{
		b.keys,
		b.blocklist,
		b.clients,
		b.sessions,
		b.statusLists,
		b.accounts,
		b.verifiers,
		b.upstreams,
		b.oauth,
		b.delivery,
		b.hosted,
		b.mail,
		b.recovery,
		b.serving,
		b.watched,
	} {
		if err := step(ctx); err != nil {
			if b.Keys != nil {
				b.Keys.Close()
			}
			return nil, err
		}
	}
	b.builder = b
	b.start(ctx)
	return b.Service, nil
}

// start runs what goes on in the background until Close.
func (b *builder) start(ctx context.Context) {
	v := b.Service
	ctx, v.cancel = context.WithCancel(context.WithoutCancel(ctx))
	v.background.Go(func() {
		v.Blocklist.Follow(ctx, func(ctx context.Context) {
			v.Keys.Wake()
			if err := v.Clients.Sync(ctx); err != nil && ctx.Err() == nil {
				v.log.DebugContext(ctx, "clients cannot be read", "error", err)
			}
		})
	})
	v.background.Go(func() { b.keepTime(ctx) })
	v.background.Go(func() { v.Sessions.Watch(ctx) })
	v.background.Go(func() { v.sweep(ctx, b.config) })
	observe := deliveryFigures(b.registry)
	for _, kind := range []outbox.Kind{b.logouts.Kind(), b.signals.Kind(), b.mailer.Kind()} {
		worker := outbox.NewWorker(kind, b.config.Clock, observe, v.log)
		// What ends a session changes the blocklist. Other events of streams, and mails, wait for the worker's next look, a second
		// at most.
		v.background.Go(func() { worker.Run(ctx, v.Blocklist.Changed) })
	}
}

// Close stops what runs in the background and closes the store.
func (v *Service) Close() error {
	v.cancel()
	v.background.Wait()
	v.builder.mailer.Close()
	v.Blocklist.Close()
	v.Keys.Close()
	return v.Store.Close()
}
