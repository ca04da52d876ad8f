// Package keyring keeps the keys that sign tokens: it makes, seals, rotates and revokes them, and serves their public
// halves as a JWKS document.
//
// Any number of replicas share the keys through a [Store]; each holds a [Keyring], which follows the store every second and
// makes due changes by compare-and-swap. The schedule keeps two bounds. A new key is published for at least MaxAge + Leeway
// before it signs, so that every copy of the JWKS that a cache may still hold has it; usually for much longer, since some
// caches fetch less often than they are told. An old key stays published for longer than the lifetime of the last token that
// it signed. Half of the leeway is for replicas that lag behind the store, the other half for clocks that differ. A replica
// that lags more shortens the max-age that it gives to caches, down to zero, and stops signing before its key can be out of
// date.
package keyring

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/handstamp/handstamp/pkg/clock"
	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/verifier"
)

const (
	// revocationLifetime is how long a revoked key is listed and blocked. It must outlast every copy of the JWKS, also at a
	// verifier that keeps its last good one while it cannot reach the issuer.
	revocationLifetime = 30 * 24 * time.Hour

	syncTimeout  = 5 * time.Second  // of one look at the store
	patience     = time.Second      // how long a caller waits for a look at the store
	bootPatience = 10 * time.Second // how long a caller waits for the first keys; a small machine takes seconds for RSA
	maxSteps     = 32               // of one Sync; each makes progress unless another replica did

	// byHand is how long a key is published before it signs that nobody has planned: some libraries fetch keys no more often than
	// every 15 minutes, whatever Cache-Control says.
	byHand = 20 * time.Minute
)

// The errors of a Keyring. What is neither one of these nor ErrConflict, ErrNotFound, ErrSealed or ErrCorrupt is a
// storage failure.
var (
	// ErrUnknownAlgorithm is returned for an algorithm that the keyring does not sign with.
	ErrUnknownAlgorithm = errors.New("keyring: unknown algorithm")
	// ErrUpcoming is returned by Rotate when an upcoming key exists; that key takes over without further doing.
	ErrUpcoming = errors.New("keyring: an upcoming key exists already")
	// ErrNotReady is returned by Signer when no key may sign now: an algorithm was added minutes ago, or the store could
	// not be read for so long that the active key may have been replaced. Try again later.
	ErrNotReady = errors.New("keyring: no signing key ready")
)

// Options are the settings of a Keyring. The zero value of each field stands for its default.
type Options struct {
	// Algorithms are those to sign with, the default one first; ES256 by default. ES256 and RS256 are always available,
	// named or not.
	Algorithms []string
	// TokenLifetime is the longest lifetime of any token signed; 15 minutes by default.
	TokenLifetime time.Duration
	// MaxAge is the longest time for which caches may keep a copy of the JWKS; 5 minutes by default.
	MaxAge time.Duration
	// Leeway is the allowance for replicas that lag and clocks that differ; 60 seconds by default.
	Leeway time.Duration
	// HintLifetime is how long the public half of a retired key stays known, beyond its time in the JWKS, for ID tokens that
	// are shown as hints ([Keyring.Hint]): as long as sessions last. None by default.
	HintLifetime time.Duration
	// PublishAhead is how long a key is published before it signs on schedule; 24 hours by default, at most half of RotateEvery
	// and at least MaxAge and Leeway together.
	PublishAhead time.Duration
	// RotateEvery is the time for which a key signs; 30 days by default.
	RotateEvery time.Duration
	// SyncEvery is the time between two looks at the store; 1 second by default, at most a quarter of Leeway.
	SyncEvery time.Duration
	// Blocked reports whether a key was revoked, as far as others have been told. It may know before the keys are read again,
	// and then they are: nothing is signed that nobody accepts. Nil if nobody is told.
	Blocked func(kid string) bool
	// Clock tells the time; nil for the machine's.
	Clock *clock.Clock
	// Logger is told when the store cannot be read, and when it can again; nothing is logged without one.
	Logger *slog.Logger
}

// Keyring holds the signing keys in memory. All methods are safe for use by several goroutines.
type Keyring struct {
	store   Store
	sealer  sealer
	options Options
	lead    time.Duration // for which a key is published before it signs, at least
	ahead   time.Duration // the same on schedule

	busy        chan struct{} // holds one token while somebody works on the store
	view        atomic.Pointer[view]
	attemptedAt atomic.Int64  // Unix milliseconds of the beginning of the last look at the store
	complete    chan struct{} // closed when every algorithm has had a published key
	wake        chan struct{}

	stop    context.CancelFunc
	stopped sync.WaitGroup
}

// Open reads the keys from the store, makes the first key of the default algorithm if there is none, and starts to follow
// the store; the other algorithms get their first keys in the background. The error is ErrSealed or ErrCorrupt if a key
// cannot be opened. The caller closes the keyring.
func Open(ctx context.Context, store Store, master seal.MasterKey, options Options) (*Keyring, error) {
	options, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	k := &Keyring{
		store: store, sealer: newSealer(master), options: options, lead: options.MaxAge + options.Leeway,
		ahead: max(options.MaxAge+options.Leeway, min(options.PublishAhead, options.RotateEvery/2)),
		busy:  make(chan struct{}, 1), complete: make(chan struct{}), wake: make(chan struct{}, 1),
	}
	// RSA keys take their time, so that only the default algorithm is waited for.
	if err := k.sync(ctx, options.Algorithms[:1]); err != nil {
		return nil, fmt.Errorf("open keyring: %w", err)
	}
	ctx, k.stop = context.WithCancel(context.WithoutCancel(ctx))
	k.stopped.Go(func() { k.follow(ctx) })
	return k, nil
}

func (o Options) withDefaults() (Options, error) {
	var faults []error
	algorithms := slices.Clone(o.Algorithms)
	for _, algorithm := range algorithms {
		if !slices.Contains([]string{verifier.ES256, verifier.EdDSA, verifier.RS256}, algorithm) {
			faults = append(faults, fmt.Errorf("%w: %q; choose of ES256, EdDSA, RS256", ErrUnknownAlgorithm, algorithm))
		}
	}
	for _, algorithm := range always() {
		if !slices.Contains(algorithms, algorithm) {
			algorithms = append(algorithms, algorithm)
		}
	}
	o.Algorithms = algorithms
	for _, d := range []struct {
		name     string
		value    *time.Duration
		standard time.Duration
	}{
		{"TokenLifetime", &o.TokenLifetime, 15 * time.Minute},
		{"MaxAge", &o.MaxAge, 5 * time.Minute},
		{"Leeway", &o.Leeway, time.Minute},
		{"PublishAhead", &o.PublishAhead, 24 * time.Hour},
		{"RotateEvery", &o.RotateEvery, 30 * 24 * time.Hour},
		{"SyncEvery", &o.SyncEvery, time.Second},
	} {
		if *d.value == 0 {
			*d.value = d.standard
		}
		if *d.value < 0 {
			faults = append(faults, fmt.Errorf("keyring: %s is negative", d.name))
		}
	}
	if o.RotateEvery < o.MaxAge+o.Leeway {
		faults = append(faults, errors.New("keyring: RotateEvery is shorter than MaxAge and Leeway together"))
	}
	if o.SyncEvery > o.Leeway/4 {
		faults = append(faults, errors.New("keyring: SyncEvery is longer than a quarter of Leeway"))
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, errors.Join(faults...)
}

// always names the algorithms that every replica has, whatever its settings: ES256 because every verifier knows it and it
// is fast, RS256 because some clients know nothing else.
func always() []string { return []string{verifier.ES256, verifier.RS256} }

// Close stops following the store and waits until that is done. The keys in memory stay usable.
func (k *Keyring) Close() {
	k.stop()
	k.stopped.Wait()
}

// Wake makes the keyring look at the store now rather than at its next turn, because the keys have changed.
func (k *Keyring) Wake() {
	select {
	case k.wake <- struct{}{}:
	default: // a look is asked for already
	}
}

func (k *Keyring) follow(ctx context.Context) {
	ticker := time.NewTicker(k.options.SyncEvery)
	defer ticker.Stop()
	for failing := false; ; {
		err := k.Sync(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !failing:
			k.options.Logger.LogAttrs(ctx, slog.LevelError, "signing keys cannot be synchronised", slog.Any("error", err))
		case err == nil && failing:
			k.options.Logger.LogAttrs(ctx, slog.LevelInfo, "signing keys are synchronised again")
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-k.wake:
		}
	}
}

// Sync reads the keys from the store and makes due changes: it activates upcoming keys, makes new ones, deletes old ones. The
// keyring calls it by itself; calling it more often does no harm.
func (k *Keyring) Sync(ctx context.Context) error { return k.sync(ctx, nil) }

func (k *Keyring) sync(ctx context.Context, algorithms []string) error {
	unlock, err := k.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	for range maxSteps {
		v, err := k.reload(ctx)
		if err != nil {
			return err
		}
		if algorithms == nil {
			algorithms = k.algorithms(v)
		}
		step := k.next(v, k.now(), algorithms)
		if step == nil {
			return nil
		}
		if err := k.do(ctx, step); err != nil && !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("synchronise signing keys: %w", ErrConflict)
}

// lock waits for the right to work on the store.
func (k *Keyring) lock(ctx context.Context) (unlock func(), err error) {
	select {
	case k.busy <- struct{}{}:
		return func() { <-k.busy }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// do takes one step, in bounded time: a key must not come to be much later than its CreatedAt says.
func (k *Keyring) do(ctx context.Context, step step) error {
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	return step(ctx)
}

// reload reads the store and publishes what it says. What was known stays if that fails.
func (k *Keyring) reload(ctx context.Context) (*view, error) {
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	at := k.now() // before the reading, so that a slow answer counts as old
	defer k.attemptedAt.Store(at.UnixMilli())
	records, err := k.store.SigningKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("read signing keys: %w", err)
	}
	v, err := k.build(records, at, k.view.Load())
	if err != nil {
		return nil, err
	}
	k.view.Store(v)
	if v.complete {
		select {
		case <-k.complete:
		default:
			close(k.complete)
		}
	}
	return v, nil
}

// algorithms returns those that need a key: the configured ones, and any that has one from earlier settings.
func (k *Keyring) algorithms(v *view) []string {
	algorithms := slices.Clone(k.options.Algorithms)
	for _, record := range v.records {
		if record.State == StateActive && !slices.Contains(algorithms, record.Algorithm) {
			algorithms = append(algorithms, record.Algorithm)
		}
	}
	return algorithms
}

// current returns the view, looking at the store first if that was not tried for long: the process was suspended.
func (k *Keyring) current(ctx context.Context) *view {
	if k.suspended() {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		_ = k.lookAgain(ctx) // the old view carries its age, and every use of it regards that
	}
	return k.view.Load()
}

// suspended reports whether the store was not looked at for longer than any failure can explain.
func (k *Keyring) suspended() bool {
	return k.now().UnixMilli()-k.attemptedAt.Load() > k.options.lag().Milliseconds()
}

func (k *Keyring) lookAgain(ctx context.Context) error {
	unlock, err := k.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if !k.suspended() { // another caller has looked meanwhile
		return nil
	}
	_, err = k.reload(ctx)
	return err
}

// lag is how old a view may be without consequences.
func (o Options) lag() time.Duration { return o.Leeway / 2 }

// awaitComplete waits a little for the first keys of all algorithms, and returns the view then.
func (k *Keyring) awaitComplete(ctx context.Context) *view {
	ctx, cancel := context.WithTimeout(ctx, bootPatience)
	defer cancel()
	select {
	case <-k.complete:
	case <-ctx.Done():
	}
	return k.view.Load()
}

// Signer returns the key that signs with the algorithm now, or with the default algorithm for "". The default is the
// first configured algorithm that has an active key, so that a newly chosen one takes over when its key has been published
// long enough. ErrUnknownAlgorithm, ErrNotReady.
func (k *Keyring) Signer(ctx context.Context, algorithm string) (*SigningKey, error) {
	v := k.current(ctx)
	s, ok := v.signing[algorithm]
	if ok && k.options.Blocked != nil && k.options.Blocked(s.key.ID) {
		if err := k.Sync(ctx); err != nil {
			return nil, fmt.Errorf("%w: %s was revoked: %w", ErrNotReady, s.key.ID, err)
		}
		v = k.current(ctx)
		s, ok = v.signing[algorithm]
	}
	if !ok && !v.complete {
		s, ok = k.awaitComplete(ctx).signing[algorithm]
	}
	switch {
	case !ok && slices.Contains(k.options.Algorithms, algorithm):
		return nil, fmt.Errorf("%w: %s has no active key yet", ErrNotReady, algorithm)
	case !ok:
		return nil, fmt.Errorf("%w: %q", ErrUnknownAlgorithm, algorithm)
	case k.now().After(s.until):
		return nil, fmt.Errorf("%w: the store was last read at %s", ErrNotReady, v.at.Format(time.RFC3339))
	}
	return s.key, nil
}

// Algorithms returns the algorithms that the keyring signs with, the default one first.
func (k *Keyring) Algorithms() []string { return slices.Clone(k.options.Algorithms) }

// TokenLifetime returns the longest lifetime that a token may have: keys are published for that long after they last sign.
func (k *Keyring) TokenLifetime() time.Duration { return k.options.TokenLifetime }

// SyncedAt returns when the keys in memory were read from the store. A replica for which that is longer ago than the
// Leeway should not be called ready.
func (k *Keyring) SyncedAt() time.Time { return k.view.Load().at }

// List returns all keys as last read, without their private halves, the oldest first.
func (k *Keyring) List(ctx context.Context) []Record {
	records := slices.Clone(k.current(ctx).records)
	for i := range records {
		records[i].Sealed = nil
	}
	return records
}

// now is the wall clock without its monotonic part, which stands still while the machine is suspended.
func (k *Keyring) now() time.Time { return k.options.Clock.Now().UTC().Truncate(time.Millisecond) }
