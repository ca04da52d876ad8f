// Package door has what the rooms of the api share, and decides nothing of their features: who may call a route, how a request
// is read, limited and logged, and the three writers of errors over the one table of errors.
//
// A request is logged once, in one event (observe.go); an error is written in one place (writers.go).
package door

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/pages"
	"github.com/handstamp/handstamp/pkg/clock"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// Clients are the registered clients.
type Clients interface {
	Client(ctx context.Context, id string) (oauth.Client, error)
	Knows(id string) bool
	AllowsOrigin(origin string) bool
	AllowsOwnOrigin(origin string) bool
	AllowsCookieOrigin(origin string) bool
}

// Config is what the door needs to know of the service.
type Config struct {
	Issuer         string // without a trailing slash
	TrustedProxies TrustedProxies
	Clients        Clients
	Verifier       *verifier.Verifier // accepts access tokens that are meant for this service
	Pages          *pages.Renderer
	Metrics        *Metrics
	Clock          *clock.Clock // nil for the machine's
	Log            *slog.Logger
}

// Door stands before every route.
type Door struct {
	config   Config
	stopping chan struct{}
	stop     func()
}

// New returns a door.
func New(config Config) *Door {
	stopping := make(chan struct{})
	return &Door{config: config, stopping: stopping, stop: sync.OnceFunc(func() { close(stopping) })}
}

// With returns a door with other settings, which stops when d does.
func (d *Door) With(config Config) *Door {
	return &Door{config: config, stopping: d.stopping, stop: d.stop}
}

// Issuer returns the issuer, without a trailing slash.
func (d *Door) Issuer() string { return d.config.Issuer }

// Now is the time by which requests are judged.
func (d *Door) Now() time.Time { return d.config.Clock.Now() }

// Secure reports whether the issuer is https. A loopback issuer may do without.
func (d *Door) Secure() bool { return strings.HasPrefix(d.config.Issuer, "https:") }

// CookieName is the full name of a cookie. The __Host- prefix keeps other hosts of the domain from planting one (RFC 6265bis,
// section 4.1.3.2); it needs https, so a loopback issuer goes without.
func (d *Door) CookieName(name string) string {
	if d.Secure() {
		return "__Host-" + name
	}
	return name
}

// Stop ends what is open for long; its callers come back, to another replica. Everything else goes on.
func (d *Door) Stop() { d.stop() }

// Stopping is closed when what is open for long has to end.
func (d *Door) Stopping() <-chan struct{} { return d.stopping }

// Handler returns a handler that answers the routes and refuses everything else.
func (d *Door) Handler(routes []Route) *echo.Echo {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.IPExtractor = d.config.TrustedProxies.clientIP
	e.HTTPErrorHandler = d.WriteError
	e.Use(d.observe, d.limit(routes))
	for _, r := range routes {
		handler := d.guarded(r)
		if r.Sharing != NotShared {
			handler = d.shared(r, handler)
			e.OPTIONS(r.Path, d.preflight(r, routes))
		}
		e.Add(r.Method, r.Path, handler)
		if r.hasHead() {
			e.HEAD(r.Path, handler)
		}
	}
	return e
}
