package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/handstamp/handstamp/api"
	"github.com/handstamp/handstamp/api/pages"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/egress"
	"github.com/handstamp/handstamp/pkg/keyring"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/outbox"
	"github.com/handstamp/handstamp/pkg/password"
	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/sharedsignal"
	"github.com/handstamp/handstamp/pkg/statuslist"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/store/postgres"
	"github.com/handstamp/handstamp/pkg/store/sqlite"
	"github.com/handstamp/handstamp/pkg/token"
	"github.com/handstamp/handstamp/pkg/upstream"
	"github.com/handstamp/handstamp/pkg/user"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// OpenStore opens the database that a URL names.
func OpenStore(ctx context.Context, databaseURL string, log *slog.Logger) (store.Store, error) {
	if strings.HasPrefix(databaseURL, sqlite.Prefix) {
		return sqlite.Open(ctx, databaseURL)
	}
	return postgres.Open(ctx, databaseURL, postgres.Options{Log: log})
}

// OpenCurrentStore opens the database and makes sure that its schema fits this program.
func OpenCurrentStore(ctx context.Context, c Config, log *slog.Logger) (store.Store, error) {
	s, err := OpenStore(ctx, string(c.DatabaseURL), log)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(string(c.DatabaseURL), sqlite.Prefix) || c.Migrate {
		err = s.Migrate(ctx)
	}
	if err == nil {
		err = CheckSchema(ctx, s)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// CheckSchema fails with store.ErrSchema if migrations are missing.
func CheckSchema(ctx context.Context, s store.Store) error {
	current, newest, err := s.Schema(ctx)
	if err != nil {
		return err
	}
	if current < newest {
		return fmt.Errorf("%w: the database is at version %d, this program needs %d; run handstamp migrate up", store.ErrSchema, current, newest)
	}
	return nil // a newer schema is one that this program was promised to run on: changes first expand, then contract
}

// MasterKey finds the master key. It is made at the first start only: never when the database holds keys that another one sealed.
func MasterKey(ctx context.Context, c Config, keys keyring.Store) (seal.MasterKey, error) {
	if c.MasterKey != "" {
		return seal.ParseMasterKey(string(c.MasterKey))
	}
	m, err := seal.LoadMasterKey(c.KeysDir)
	if !errors.Is(err, seal.ErrNoMasterKey) {
		return m, err
	}
	records, listErr := keys.SigningKeys(ctx)
	if listErr != nil {
		return seal.MasterKey{}, listErr
	}
	if len(records) > 0 {
		return seal.MasterKey{}, fmt.Errorf("%w, but the database holds signing keys that one has sealed: put that file back into %s, or set HANDSTAMP_MASTER_KEY", err, c.KeysDir)
	}
	return seal.CreateMasterKey(c.KeysDir)
}

// Service is every part of the running program.
type Service struct {
	Store     store.Store
	Keys      *keyring.Keyring
	Blocklist *blocklist.List
	Clients   *oauth.Registry
	Sessions  *session.Manager
	API       *api.API
	log       *slog.Logger

	cancel     context.CancelFunc
	background sync.WaitGroup
}

// New builds every part and starts what runs in the background. The caller closes the service, which closes the store.
func New(ctx context.Context, c Config, s store.Store, log *slog.Logger, registry *prometheus.Registry) (_ *Service, err error) {
	master, err := MasterKey(ctx, c, s)
	if err != nil {
		return nil, err
	}
	v := &Service{Store: s, log: log}
	if v.Keys, err = keyring.Open(ctx, s, master, KeyringOptions(c, log)); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			v.Keys.Close()
		}
	}()
	v.Blocklist = blocklist.NewList(s, log)
	if err := v.Blocklist.Sync(ctx); err != nil {
		return nil, err
	}
	v.Clients = oauth.NewRegistry(s)
	if err := v.Clients.Sync(ctx); err != nil {
		return nil, err
	}
	v.Sessions = SessionManager(c, s, master)
	hasher, err := NewHasher(c)
	if err != nil {
		return nil, err
	}
	forUs, forAnyone, err := v.verifiers(ctx, c)
	if err != nil {
		return nil, err
	}
	proxies, err := api.ParseTrustedProxies(c.TrustedProxies)
	if err != nil {
		return nil, err
	}
	hosted, err := newPages(c)
	if err != nil {
		return nil, err
	}
	providers, err := upstream.NewProviders(c.Providers, upstream.Options{Key: master})
	if err != nil {
		return nil, err
	}
	minter := token.NewMinter(c.Issuer, v.Keys)
	sealer := sharedsignal.NewSealer(master)
	var statuses *statuslist.Publisher
	if c.StatusList {
		if statuses, err = statuslist.New(statuslist.Options{
			Issuer: c.Issuer, Store: s, Minter: minter, Key: master.Derive(seal.StatusIndex, 16), Clients: v.Clients.StatusClients, Lifetime: c.AccessTokenLifetime,
		}); err != nil {
			return nil, err
		}
	}
	v.API = api.New(api.Config{
		Issuer: c.Issuer, TrustedProxies: proxies, LoginsPerIP: api.Rate{Burst: c.LoginIPFailures, Every: c.LoginIPFailureEvery},
		SignupDisabled: !c.Signup, SignalsPrivate: c.SignalsPrivate, HSTS: strings.HasPrefix(c.Issuer, "https:"),
	}, api.Parts{
		Store: s,
		OAuth: oauth.NewServer(oauth.Config{Issuer: c.Issuer, Audience: c.Audience, AccessTokenLifetime: c.AccessTokenLifetime, Statuses: statuses},
			s, s, v.Clients, v.Sessions, minter, forAnyone),
		Clients: v.Clients, Sessions: v.Sessions, Keys: v.Keys, Minter: minter, Blocklist: v.Blocklist, Statuses: statuses, Signals: s, SignalSealer: sealer, Verifier: forUs, AnyAudience: forAnyone,
		Authenticator: user.NewAuthenticator(s, hasher, user.Throttle{Burst: c.LoginAttempts, Every: c.LoginAttemptEvery}),
		Hasher:        hasher, Passwords: password.Policy{MinLength: c.PasswordMinLength}, Metrics: api.NewMetrics(registry), Log: log,
		Browser: s, Upstream: s, Providers: providers,
		Linker: upstream.Linker{Store: s, SignupAllowed: c.Signup, EmailRequired: true, AccessTokenLifetime: SessionConfig(c).Outlived()},
		Keeper: upstream.Keeper{Store: s, Sealer: upstream.NewSealer(master), Providers: providers},
		Pages:  hosted, PageKey: master.Derive(seal.PageStates, 32),
	})
	v.start(ctx, c, oauth.NewLogoutSender(c.Issuer, s, minter, egress.New(logoutCalls()), log),
		sharedsignal.NewSender(c.Issuer, s, minter, sealer, egress.New(signalCalls(c)), log))
	return v, nil
}

// KeyringOptions are the settings of the keyring.
func KeyringOptions(c Config, log *slog.Logger) keyring.Options {
	return keyring.Options{
		Algorithms: []string{c.SigningAlgorithm}, TokenLifetime: c.AccessTokenLifetime, MaxAge: c.JWKSMaxAge, RotateEvery: c.KeyRotation, Logger: log,
	}
}

// SessionConfig are the lives of sessions and access tokens.
func SessionConfig(c Config) session.Config {
	return session.Config{
		IdleLifetime:        c.RefreshIdleLifetime,
		Lifetime:            c.RefreshLifetime,
		Grace:               c.RefreshGrace,
		Limit:               c.SessionLimit,
		AccessTokenLifetime: c.AccessTokenLifetime,
		ClockMargin:         clockMargin,
	}
}

// SessionEnder returns what ends sessions. It needs no master key.
func SessionEnder(c Config, s session.EndingStore) *session.Ender {
	return session.NewEnder(s, SessionConfig(c))
}

// SessionManager returns the manager of sessions.
func SessionManager(c Config, s session.Store, master seal.MasterKey) *session.Manager {
	return session.NewManager(s, master, SessionConfig(c))
}

// NewHasher returns the hasher of passwords.
func NewHasher(c Config) (*password.Hasher, error) {
	return password.NewHasher(password.Config{
		Params:      password.Params{Memory: uint32(c.Argon2Memory), Time: uint32(c.Argon2Time), Threads: uint8(c.Argon2Threads)}, //nolint:gosec // bounded by the configuration
		Concurrency: c.PasswordConcurrency, Queue: c.PasswordQueue,
	})
}

// newPages prepares the hosted pages in the operator's look.
func newPages(c Config) (*pages.Renderer, error) {
	b := pages.Branding{
		Name: c.BrandName, Accent: c.BrandAccent, AccentDark: c.BrandAccentDark, SupportURL: c.SupportURL, PrivacyURL: c.PrivacyURL, TermsURL: c.TermsURL,
	}
	for _, logo := range []struct {
		file string
		into *[]byte
	}{{c.BrandLogo, &b.Logo}, {c.BrandLogoDark, &b.LogoDark}} {
		if logo.file == "" {
			continue
		}
		content, err := os.ReadFile(logo.file)
		if err != nil {
			return nil, fmt.Errorf("brand logo: %w", err)
		}
		*logo.into = content
	}
	if c.LanguagesDir == "" {
		return pages.New(b, nil)
	}
	return pages.New(b, os.DirFS(c.LanguagesDir))
}

// verifiers check the service's own access tokens, with keys and blocklist of this process: one those that are meant for this service,
// one those for whatever audience.
func (v *Service) verifiers(ctx context.Context, c Config) (forUs, forAnyone *verifier.Verifier, err error) {
	own := []verifier.Option{
		verifier.WithKeys(v.Keys.Public),
		verifier.WithBlocklist(func(ctx context.Context, keys []verifier.BlockKey, iat int64) (bool, error) {
			if err := v.Blocklist.Fresh(ctx); err != nil {
				return false, err
			}
			return v.Blocklist.Set().Blocked(keys, iat), nil
		}),
		verifier.WithCache(10_000),
	}
	audience := append([]string{c.Issuer}, c.Audience...)
	if forUs, err = verifier.New(ctx, c.Issuer, append(own, verifier.WithAudience(audience...))...); err != nil {
		return nil, nil, err
	}
	forAnyone, err = verifier.New(ctx, c.Issuer, append(own, verifier.WithAnyAudience())...)
	return forUs, forAnyone, err
}

const (
	sweepEvery = time.Minute
	// codeMemory is how long after its end an authorization code that is shown again is recognized, and ends the session that it gave.
	codeMemory = time.Hour
	// clockMargin is for replicas and verifiers whose clocks differ.
	clockMargin = 2 * time.Minute
)

// start runs what goes on in the background until Close.
func (v *Service) start(ctx context.Context, c Config, logouts *oauth.LogoutSender, signals *sharedsignal.Sender) {
	ctx, v.cancel = context.WithCancel(context.WithoutCancel(ctx))
	v.background.Go(func() {
		v.Blocklist.Follow(ctx, func(ctx context.Context) {
			v.Keys.Wake()
			if err := v.Clients.Sync(ctx); err != nil && ctx.Err() == nil {
				v.log.DebugContext(ctx, "clients cannot be read", "error", err)
			}
		})
	})
	v.background.Go(func() { v.sweep(ctx, c) })
	for _, kind := range []outbox.Kind{logouts.Kind(), signals.Kind()} {
		worker := outbox.NewWorker(kind, nil, v.log)
		v.background.Go(func() { worker.Run(ctx, v.Blocklist.Changed) }) // whatever ends a session changes the blocklist
	}
}

// sweep deletes what has expired, in small batches, every minute. Replicas share the work.
func (v *Service) sweep(ctx context.Context, c Config) {
	const batch = 1000
	lives := SessionConfig(c)
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := time.Now()
		var unkept time.Time // nothing is older than the zero time
		if c.AuditRetention > 0 {
			unkept = now.Add(-c.AuditRetention)
		}
		err := v.Blocklist.Drop(ctx, now.Add(-time.Minute))
		for _, sweep := range []struct {
			batch  func(ctx context.Context, before time.Time, limit int) (int, error)
			before time.Time
		}{
			{v.Store.SweepSessions, now},
			{v.Store.SweepBrowser, now.Add(-codeMemory)},
			{v.Store.SweepUpstream, now.Add(-lives.ClockMargin)},
			{func(ctx context.Context, before time.Time, limit int) (int, error) {
				return v.Store.SweepSignals(ctx, before, now, limit)
			}, v.Blocklist.Over(now).Add(-sharedsignal.Retention)},
			{v.Store.SweepRows, now.Add(-outbox.DeadFor)},
			{v.Store.SweepStatuses, v.Blocklist.Over(now).Add(-lives.Outlived())},
			{v.Store.SweepEvents, unkept},
		} {
			for n := batch; err == nil && n == batch; {
				n, err = sweep.batch(ctx, sweep.before, batch)
			}
		}
		if err != nil && ctx.Err() == nil {
			v.log.WarnContext(ctx, "expired rows cannot be swept", "error", err)
		}
	}
}

// Close stops what runs in the background and closes the store.
func (v *Service) Close() error {
	v.cancel()
	v.background.Wait()
	v.Keys.Close()
	return v.Store.Close()
}
