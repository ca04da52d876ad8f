package bff

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/handstamp/handstamp/pkg/verifier"
)

// BFF keeps the sessions of one web application. It is safe for use by any number of goroutines. Make one with New and keep it
// for the life of the program.
type BFF struct {
	config   Config
	issuer   *issuer
	verifier *verifier.Verifier
	sealer   *sealer
	cookies  cookies
	origins  *http.CrossOriginProtection
	renewals renewals
	cached   *cache           // of what the Store has; nil without one
	ended    expiring[string] // sid of sessions that ended here, which the issuer's feed may not have told yet
	seen     expiring[ID]     // jti of logout tokens, without a Store
	handler  http.Handler

	cancel context.CancelFunc
	work   sync.WaitGroup
}

// endedAge is longer than any access token lives that a cookie of an ended session may hold.
const endedAge = 24 * time.Hour

// Sweeping of what has expired.
const (
	sweepInterval = time.Minute
	sweepBatch    = 1000
)

// New returns the BFF of the application that config describes, a client of issuer. All faults in config are reported together.
//
// New fetches the issuer's metadata, keys and blocklist and waits for the first attempt, at most until ctx is done; ctx does not
// affect the work in the background, which continues until Close. The application may start before the issuer: until that is
// there, nobody can log in, and guarded requests are answered 503. New returns an error if another issuer is at the address.
func New(ctx context.Context, issuer string, config Config) (*BFF, error) {
	b := &BFF{config: config}
	keys, err := newSealer(config.Keys)
	if err := errors.Join(b.config.complete(), err); err != nil {
		return nil, err
	}
	b.sealer = keys
	b.cookies = newCookies(b.config.CookieName, strings.HasPrefix(b.config.URL, "https:"))
	b.origins = http.NewCrossOriginProtection()
	for _, origin := range append([]string{b.config.URL}, b.config.TrustedOrigins...) {
		if err := b.origins.AddTrustedOrigin(origin); err != nil {
			return nil, err
		}
	}
	if b.config.Store != nil {
		b.cached = newCache()
	}
	b.issuer = newIssuer(issuer, &b.config)
	b.renewals.flights, b.renewals.outcomes.limit = map[ID]*flight{}, 100_000
	b.ended.limit, b.seen.limit = 1_000_000, 100_000
	b.handler = b.routes()

	options := append([]verifier.Option{
		verifier.WithAnyAudience(), // they come from the token endpoint, and are for whatever API this client may call
		verifier.WithTokenType(verifier.TypeAccessToken, verifier.TypeJWT),
		verifier.WithCache(100_000),
	}, b.config.Verifier...)
	if b.config.HTTPClient != nil {
		options = append([]verifier.Option{verifier.WithHTTPClient(b.config.HTTPClient)}, options...)
	}
	if b.verifier, err = verifier.New(ctx, issuer, options...); err != nil {
		return nil, err
	}
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	b.cancel = cancel
	b.work.Go(func() { b.sweep(background) })
	return b, nil
}

// Close ends the work in the background and waits for it. Requests that come later are answered 503 when they need the issuer.
func (b *BFF) Close() {
	b.cancel()
	b.renewals.close()
	b.work.Wait()
	b.verifier.Close()
}

// Ready reports whether sessions can be checked: keys and blocklist of the issuer were loaded.
func (b *BFF) Ready() bool { return b.verifier.Ready() }

// sweep removes what has expired, now and then.
func (b *BFF) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			b.ended.purge(now)
			b.seen.purge(now)
			b.renewals.outcomes.purge(now)
			if b.config.Store == nil {
				continue
			}
			for swept := sweepBatch; swept >= sweepBatch; {
				var err error
				if swept, err = b.config.Store.Sweep(ctx, now, sweepBatch); err != nil {
					b.config.Log.WarnContext(ctx, "expired sessions were not swept", "error", err)
					break
				}
			}
		}
	}
}

// routes are the addresses of Handler.
func (b *BFF) routes() http.Handler {
	mux := http.NewServeMux()
	for pattern, handler := range map[string]http.HandlerFunc{
		"GET %/login":               b.login,
		"GET %/callback":            b.callback,
		"POST %/logout":             b.logout,
		"GET %/me":                  b.me,
		"POST %/backchannel-logout": b.backchannelLogout,
	} {
		mux.Handle(strings.Replace(pattern, "%", b.config.Prefix, 1), handler)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Referrer-Policy", "no-referrer") // a callback's address has the code
		mux.ServeHTTP(w, r)
	})
}

// Handler serves these addresses below Config.Prefix. Mount it at Config.Prefix + "/".
//
//   - GET login begins a login at the issuer. The query may have return_to, a path of the application to come back to; prompt and
//     max_age to have the user authenticate again; and login_hint, ui_locales, acr_values and provider for the issuer.
//   - GET callback ends it.
//   - POST logout ends the session here and at the issuer. It wants the CSRF token. A browser is sent on to the issuer's logout
//     and comes back to Config.LogoutPath; a caller that accepts JSON gets {"location": "..."} and goes there itself.
//   - GET me answers JSON about the user: sub, roles, scope, auth_time, expires_at, csrf_token, and name, email and so on as far
//     as the ID token has them. Without a session it answers 401.
//   - POST backchannel-logout takes logout tokens (OpenID Connect Back-Channel Logout 1.0). Register it with the issuer.
func (b *BFF) Handler() http.Handler { return b.handler }
