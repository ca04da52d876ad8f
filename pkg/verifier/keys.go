package verifier

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// How the keys are kept fresh.
const (
	unknownKeyPause  = 30 * time.Second // between fetches for the sake of a kid that is not known
	defaultKeyMaxAge = 5 * time.Minute  // for a JWKS without Cache-Control
	uncachedKeys     = 30 * time.Second // for a JWKS that says it may not be cached at all
	longestKeyMaxAge = 24 * time.Hour
)

// keyFetcher keeps the issuer's keys in memory (RFC 7517). The last good set is kept for as long as no other can be
// had: an issuer that is down must not take its resource servers with it, and a key that was revoked is named in the
// blocklist.
type keyFetcher struct {
	remote *remote
	hook   func(error)
	tried  chan struct{} // closed after the first attempt
	wake   chan struct{} // of run, to fetch now
	set    atomic.Pointer[keySet]

	mu      sync.Mutex
	etag    string
	fetched time.Time // when set was last known to be the issuer's
	maxAge  time.Duration
	err     error           // of the last attempt
	round   chan struct{}   // closed when the fetch that is wanted or under way ends; nil if none is
	unknown time.Time       // when a kid that is not known last caused a fetch
	blocked map[string]bool // kids whose entry in the blocklist has caused a fetch
	closed  bool
}

// keySet is never changed once it is in use.
type keySet map[string]*Key

func newKeyFetcher(r *remote, hook func(error)) *keyFetcher {
	f := &keyFetcher{remote: r, hook: hook, tried: make(chan struct{}), wake: make(chan struct{}, 1), blocked: map[string]bool{}}
	f.set.Store(new(keySet))
	return f
}

// key returns the key with this kid. It asks the issuer for a kid that is not known, in one fetch for all who ask and at most one
// each 30 seconds, so that made-up kids cost the issuer nothing. It returns ErrUnknownKey if the issuer has no such key and
// ErrUnavailable if it could not be asked.
func (f *keyFetcher) key(ctx context.Context, kid string) (*Key, error) {
	if key, ok := (*f.set.Load())[kid]; ok {
		return key, nil
	}
	if round := f.ask(); round != nil {
		select {
		case <-round:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: waiting for keys: %w", ErrUnavailable, context.Cause(ctx))
		}
	}
	if key, ok := (*f.set.Load())[kid]; ok {
		return key, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, fmt.Errorf("%w: keys: %w", ErrUnavailable, f.err)
	}
	return nil, ErrUnknownKey
}

// ask returns a channel that is closed when the fetch under way ends. If there is none it starts one, or returns nil if
// that is not due: before the first success the pace is that of run.
func (f *keyFetcher) ask() chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.round == nil && !f.closed && !f.fetched.IsZero() && time.Since(f.unknown) >= unknownKeyPause {
		f.unknown = time.Now()
		f.round = make(chan struct{})
		notify(f.wake)
	}
	return f.round
}

// run fetches the keys, and again whenever they are about to go stale or are asked for, until ctx is done.
func (f *keyFetcher) run(ctx context.Context) {
	defer f.close()
	retry := backoff{first: time.Second, limit: time.Minute}
	for first := true; ; first = false {
		err := f.fetch(ctx)
		if first {
			close(f.tried)
		}
		wait := jitter(f.maxAge) // never later than the headers say
		if err != nil {
			wait = retry.next()
		} else {
			retry.reset()
		}
		if _, ok := sleep(ctx, wait, f.wake); !ok {
			return
		}
	}
}

// fetch takes over what the issuer answers.
func (f *keyFetcher) fetch(ctx context.Context) error {
	f.mu.Lock()
	if f.round == nil {
		f.round = make(chan struct{})
	}
	etag := f.etag
	f.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	begin := time.Now()
	a, set, err := f.load(ctx, etag)

	f.mu.Lock()
	if f.err = err; err == nil {
		f.fetched, f.maxAge = begin, a.keyMaxAge()
		if set != nil {
			f.etag = a.header.Get("ETag")
			f.set.Store(&set)
		}
	}
	close(f.round)
	f.round = nil
	f.mu.Unlock()
	if f.hook != nil {
		f.hook(err)
	}
	return err
}

// close lets go who waits for a fetch that will not come.
func (f *keyFetcher) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed, f.err = true, ErrClosed
	if f.round != nil {
		close(f.round)
		f.round = nil
	}
}

// load asks the issuer for its keys; set is nil if those of etag are still the ones.
func (f *keyFetcher) load(ctx context.Context, etag string) (a *answer, set keySet, err error) {
	defer func() {
		if err != nil {
			f.remote.forget()
		}
	}()
	m, err := f.remote.metadata(ctx)
	if err != nil {
		return nil, nil, err
	}
	a, err = f.remote.get(ctx, m.JWKS, etag, "application/jwk-set+json, application/json", maxJWKS)
	if err != nil || a.status != 200 {
		return a, nil, err
	}
	set, err = parseKeys(a.body, *f.set.Load())
	return a, set, err
}

// parseKeys reads a JWKS. Keys that we could not verify with are passed over (RFC 7517, section 5); a set in which one kid stands
// for two keys, or in which none is left, is refused. A key that is also in old is the same *Key again.
func parseKeys(body []byte, old keySet) (keySet, error) {
	var wire JWKSet
	if err := json.Unmarshal(body, &wire); err != nil {
		return nil, fmt.Errorf("JWKS: %w", err)
	}
	set := make(keySet, len(wire.Keys))
	for _, k := range wire.Keys {
		public, err := k.Public()
		if err != nil {
			continue
		}
		if _, twice := set[k.Kid]; twice {
			return nil, fmt.Errorf("JWKS: kid %q stands for two keys", k.Kid)
		}
		key, err := NewKey(k.Kid, public)
		if err != nil {
			continue
		}
		if o := old[k.Kid]; o != nil && o.equal(key) {
			key = o
		}
		set[k.Kid] = key
	}
	if len(set) == 0 {
		return nil, errors.New("JWKS: no usable key")
	}
	return set, nil
}

// keyMaxAge returns how long the keys may be used before they are fetched again (RFC 9111, section 4.2).
func (a *answer) keyMaxAge() time.Duration {
	maxAge := defaultKeyMaxAge
	for directive := range strings.SplitSeq(a.header.Get("Cache-Control"), ",") {
		name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(directive)), "=")
		switch name {
		case "no-store", "no-cache":
			return uncachedKeys
		case "max-age":
			s, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31)
			if err != nil || s == 0 {
				return uncachedKeys
			}
			maxAge = time.Duration(s) * time.Second
		}
	}
	return min(max(maxAge-a.age(), time.Second), longestKeyMaxAge)
}

// refetchIfBlocked fetches the keys at once if the blocklist names one of them: where a key was revoked there is a new one.
func (f *keyFetcher) refetchIfBlocked(set *BlockSet) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for kid := range *f.set.Load() {
		if _, blocked := set.Lookup(KeyOf(BlockKID, kid)); blocked && !f.blocked[kid] {
			f.blocked[kid] = true
			notify(f.wake)
		}
	}
}

// sleep waits until d has passed or wake has a value, which it reports as woken. It is not ok if ctx is done.
func sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) (woken, ok bool) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-wake:
		woken = true
	}
	return woken, ctx.Err() == nil
}

// notify wakes who waits on c, now or as soon as it does.
func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
