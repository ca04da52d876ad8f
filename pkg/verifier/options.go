package verifier

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"
)

// Defaults of the options.
const (
	// DefaultMaxStaleness is how long the feed may be silent before the policy of WithMaxStaleness decides.
	DefaultMaxStaleness = time.Minute
	// DefaultPollInterval is the time between two polls while the stream cannot be had.
	DefaultPollInterval = time.Second
	// FutureLeeway is how far iat and nbf may always be in the future: the clocks of issuer and resource server differ, and a token
	// that was just minted must not be refused for it.
	FutureLeeway = 30 * time.Second
)

// Policy is what to do with a token when the blocklist is staler than MaxStaleness.
type Policy int

const (
	// FailOpen accepts a token that no known entry refuses. An outage of the issuer stops nobody, and a revocation made during the
	// outage takes effect when the token expires. This is the default.
	FailOpen Policy = iota
	// FailClosed answers ErrUnavailable, and ErrBlocked for a token that a known entry refuses.
	FailClosed
)

// BlockCheck reports whether a token minted at iat (Unix seconds) is refused by an entry for one of keys. An error means that it
// cannot say now; Verify answers it with ErrUnavailable.
type BlockCheck func(ctx context.Context, keys []BlockKey, iat int64) (blocked bool, err error)

// Hooks are called as things happen, for metrics and logs. They run on the caller's goroutine or on the follower's and must not
// block. A nil hook is not called.
type Hooks struct {
	// Verified is called for each Verify: err is its answer, cached whether the signature was known from before.
	Verified func(err error, took time.Duration, cached bool)
	// KeysFetched is called after each attempt to fetch the keys.
	KeysFetched func(err error)
	// FeedFailed is called when a poll failed or the stream broke.
	FeedFailed func(err error)
	// FeedMode is called when the way in which the feed is followed changes.
	FeedMode func(FeedMode)
	// Entries is called after entries were merged, with their number; asOf is the issuer's time of the feed document.
	Entries func(n int, asOf time.Time)
}

// Option changes how New makes a Verifier.
type Option func(*settings) error

type settings struct {
	audiences    []string
	anyAudience  bool
	client       *http.Client
	types        []string
	leeway       time.Duration
	maxLifetime  time.Duration
	keys         func(kid string) (*Key, bool)
	blocked      BlockCheck
	withoutFeed  bool
	maxStaleness time.Duration
	policy       Policy
	pollInterval time.Duration
	cacheSize    int
	hooks        Hooks
	now          func() time.Time
}

// WithAudience names this resource server: a token is accepted if its aud has at least one of the names. It is required.
func WithAudience(audiences ...string) Option {
	return func(s *settings) error {
		if slices.Contains(audiences, "") {
			return errors.New("verifier: empty audience")
		}
		s.audiences = append(s.audiences, audiences...)
		return nil
	}
}

// WithAnyAudience accepts tokens for anybody, in place of WithAudience. It is for the issuer itself, which must be able
// to tell about and revoke every token that it made. A resource server that used it would accept tokens that a
// stranger's service was given.
func WithAnyAudience() Option {
	return func(s *settings) error { s.anyAudience = true; return nil }
}

// The types of access tokens, in the header's typ.
const (
	TypeAccessToken = "at+jwt" // RFC 9068, section 2.1
	TypeJWT         = "JWT"    // RFC 7519, section 5.1
)

// TokenUseAccess is the claim token_use of an access token of TypeJWT. Without it a token of that type is an ID token.
const TokenUseAccess = "access"

// WithTokenType says which types of access tokens are accepted. The default is TypeAccessToken alone. An issuer that serves
// resource servers which refuse at+jwt may give the tokens of some clients the type TypeJWT, which ID tokens have too. An ID
// token is no access token under any type: one of TypeJWT is refused unless its claim token_use is TokenUseAccess.
func WithTokenType(types ...string) Option {
	return func(s *settings) error {
		for _, t := range types {
			if t != TypeAccessToken && t != TypeJWT {
				return errors.New("verifier: the type of access tokens is at+jwt or JWT")
			}
		}
		if len(types) == 0 {
			return errors.New("verifier: no type of access tokens")
		}
		s.types = slices.Clone(types)
		return nil
	}
}

// WithHTTPClient sets the client that talks to the issuer, for a private certificate authority or a proxy. Its Timeout
// is not used (each request has its own), and redirects are never followed.
func WithHTTPClient(c *http.Client) Option {
	return func(s *settings) error {
		if c == nil {
			return errors.New("verifier: nil HTTP client")
		}
		s.client = c
		return nil
	}
}

// WithLeeway sets the difference of clocks that is forgiven, in whole seconds: a token is refused from exp+leeway on,
// and while iat or nbf is later than now+max(leeway, FutureLeeway). The default is 0: expiry is exact.
func WithLeeway(d time.Duration) Option {
	return func(s *settings) error {
		if d < 0 || d > 5*time.Minute {
			return errors.New("verifier: leeway must be between 0 and 5 minutes")
		}
		s.leeway = d.Truncate(time.Second)
		return nil
	}
}

// WithClock takes the time from now instead of time.Now, by which tokens are judged.
func WithClock(now func() time.Time) Option {
	return func(s *settings) error {
		if now == nil {
			return errors.New("verifier: no clock")
		}
		s.now = now
		return nil
	}
}

// WithMaxLifetime refuses tokens whose exp is more than d after iat. The default, 0, refuses none.
func WithMaxLifetime(d time.Duration) Option {
	return func(s *settings) error {
		if d < 0 {
			return errors.New("verifier: negative maximum lifetime")
		}
		s.maxLifetime = d
		return nil
	}
}

// WithKeys takes the keys from a function in the same process instead of the issuer's JWKS. It must answer from memory,
// and with the same *Key for as long as the key is the same.
func WithKeys(key func(kid string) (*Key, bool)) Option {
	return func(s *settings) error { s.keys = key; return nil }
}

// WithBlocklist takes the blocklist from a function in the same process instead of the issuer's feed.
func WithBlocklist(check BlockCheck) Option {
	return func(s *settings) error { s.blocked = check; return nil }
}

// WithoutFeed does not follow the issuer's feed: a revoked token is accepted until it expires.
func WithoutFeed() Option {
	return func(s *settings) error { s.withoutFeed = true; return nil }
}

// WithMaxStaleness sets how old the knowledge of revocations may become, and the policy from then on. It is at least 10
// seconds, the time of two heartbeats; the clocks of issuer and resource server must not differ by more than 30
// seconds. The defaults are DefaultMaxStaleness and FailOpen. Before the first blocklist is loaded, Verify
// returns ErrUnavailable for every token, under either policy: an empty list is not the same as no revocations.
func WithMaxStaleness(d time.Duration, policy Policy) Option {
	return func(s *settings) error {
		if d < 10*time.Second {
			return errors.New("verifier: MaxStaleness must be at least 10 seconds")
		}
		s.maxStaleness, s.policy = d, policy
		return nil
	}
}

// WithPollInterval sets the time between two polls while there is no stream. The default is DefaultPollInterval.
func WithPollInterval(d time.Duration) Option {
	return func(s *settings) error {
		if d < 100*time.Millisecond {
			return errors.New("verifier: poll interval under 100 ms")
		}
		s.pollInterval = d
		return nil
	}
}

// WithCache remembers up to size tokens whose signature was verified, until they expire: verifying one again costs about a
// microsecond, and everything else, above all the blocklist, is checked on each use. The default, 0, remembers none. A remembered
// token takes about 2 KiB; it cannot be read back from the memory, which holds a keyed hash of it and its claims.
func WithCache(size int) Option {
	return func(s *settings) error {
		if size < 0 {
			return errors.New("verifier: negative cache size")
		}
		s.cacheSize = size
		return nil
	}
}

// WithHooks sets the functions to call as things happen.
func WithHooks(h Hooks) Option {
	return func(s *settings) error { s.hooks = h; return nil }
}
