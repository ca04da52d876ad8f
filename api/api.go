// Package api is all that a caller sees of the authorization server: its routes, what they read and what they answer.
// It is the only package that knows Echo.
//
// A request is logged once, in one event (middleware.go); an error is written in one place (errors.go); every route
// stands in one table, together with who may call it.
package api

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/pages"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/keyring"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/password"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/sharedsignal"
	"github.com/handstamp/handstamp/pkg/statuslist"
	"github.com/handstamp/handstamp/pkg/token"
	"github.com/handstamp/handstamp/pkg/upstream"
	"github.com/handstamp/handstamp/pkg/user"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// Config is what the routes need to know of the service.
type Config struct {
	Issuer         string // without a trailing slash
	TrustedProxies TrustedProxies
	RequestTimeout time.Duration // of one request's work; zero means 10 s
	LoginsPerIP    Rate          // failed logins from one address (IPv6: one /64) on this replica
	SignupDisabled bool
	SignalsPrivate bool // events may be pushed into private networks
	HSTS           bool // the issuer is https
}

// Store is what the routes need of a database besides what the features need.
type Store interface {
	oauth.Store
	Ping(ctx context.Context) error
	Schema(ctx context.Context) (current, newest int64, err error)
}

// Parts are what the routes serve.
type Parts struct {
	Store         Store
	OAuth         *oauth.Server
	Clients       *oauth.Registry
	Sessions      *session.Manager
	Keys          *keyring.Keyring
	Minter        *token.Minter
	Blocklist     *blocklist.List
	Statuses      *statuslist.Publisher // nil if access tokens refer to no status list
	Signals       sharedsignal.Store
	SignalSealer  sharedsignal.Sealer
	Verifier      *verifier.Verifier // accepts access tokens that are meant for this service
	AnyAudience   *verifier.Verifier // accepts access tokens of this service that are meant for whomever
	Authenticator *user.Authenticator
	Hasher        *password.Hasher
	Passwords     password.Policy
	Browser       oauth.BrowserStore
	Upstream      upstream.Store
	Providers     *upstream.Providers
	Linker        upstream.Linker
	Keeper        upstream.Keeper
	Pages         *pages.Renderer
	PageKey       []byte // 32 secret bytes: what pages carry is encrypted with it
	Metrics       *Metrics
	Log           *slog.Logger
}

// API serves the routes.
type API struct {
	Parts
	config     Config
	echo       *echo.Echo
	failures   *failureLimiter
	pageStates pageSealer
	feedEvents feedEvents
	stopping   chan struct{} // closed when open streams have to end
	stop       sync.Once
}

// New returns the service's handler.
func New(config Config, parts Parts) *API {
	if config.RequestTimeout == 0 {
		config.RequestTimeout = 10 * time.Second
	}
	a := &API{Parts: parts, config: config, echo: echo.New(), failures: newFailureLimiter(config.LoginsPerIP), stopping: make(chan struct{}), pageStates: newPageSealer(parts.PageKey)}
	a.echo.HideBanner, a.echo.HidePort = true, true
	a.echo.IPExtractor = config.TrustedProxies.clientIP
	a.echo.HTTPErrorHandler = a.writeError
	a.echo.Use(a.observe, a.limit)
	for _, r := range a.routes() {
		a.register(r)
	}
	return a
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.echo.ServeHTTP(w, r) }

// Stop ends the open streams; their followers come back, to another replica. Everything else goes on.
func (a *API) Stop() { a.stop.Do(func() { close(a.stopping) }) }

// access says who may call a route. It is decided before the handler runs.
type access int

const (
	anyone    access = iota // no credential, or one that the handler checks itself (a client's, a refresh token)
	bearer                  // a valid access token of a user
	ownBearer               // the handler checks the access token itself: of whatever audience, or a refresh token instead
	receiver                // a client's own access token with the scope of the receivers of events
	page                    // a hosted page: cookies, errors as pages, posts from our own pages only
)

// sharing says which pages of other origins may read a route's answer (CORS).
type sharing int

const (
	notShared    sharing = iota
	sharedClient         // the registered origins of clients, exactly
	sharedAll            // public documents: every origin, without credentials
)

// route is one row of the table.
type route struct {
	method  string
	path    string
	access  access
	sharing sharing
	handler echo.HandlerFunc
}

// routes is the one table of routes.
func (a *API) routes() []route {
	return []route{
		{http.MethodGet, "/.well-known/jwks.json", anyone, sharedAll, a.jwks},
		{http.MethodGet, "/.well-known/oauth-authorization-server", anyone, sharedAll, a.metadata},
		{http.MethodGet, "/.well-known/openid-configuration", anyone, sharedAll, a.metadata},
		{http.MethodPost, "/oauth2/token", anyone, sharedClient, a.token},
		{http.MethodPost, "/oauth2/revoke", anyone, sharedClient, a.revoke},
		{http.MethodPost, "/oauth2/introspect", anyone, notShared, a.introspect},

		{http.MethodPost, "/oauth2/par", anyone, notShared, a.push},
		{http.MethodGet, "/oauth2/userinfo", ownBearer, sharedClient, a.userinfo},
		{http.MethodPost, "/oauth2/userinfo", ownBearer, sharedClient, a.userinfo},
		{http.MethodGet, "/oauth2/logout", page, notShared, a.endSessionPage},
		{http.MethodPost, "/oauth2/logout", page, notShared, a.endSessionPage},
		{http.MethodPost, "/oauth2/logout/confirm", page, notShared, a.endSessionForm},
		{http.MethodGet, "/oauth2/authorize", page, notShared, a.authorize},
		{http.MethodPost, "/oauth2/authorize", page, notShared, a.authorize},
		{http.MethodGet, "/oauth2/login", page, notShared, a.loginPage},
		{http.MethodPost, "/oauth2/login", page, notShared, a.loginForm},
		{http.MethodGet, "/oauth2/signup", page, notShared, a.signupPage},
		{http.MethodPost, "/oauth2/signup", page, notShared, a.signupForm},
		{http.MethodPost, "/oauth2/continue", page, notShared, a.continueForm},
		{http.MethodPost, "/oauth2/consent", page, notShared, a.consentForm},
		{http.MethodGet, "/oauth2/provider/:id", page, notShared, a.provider},
		{http.MethodGet, "/oauth2/identities", page, notShared, a.beginIdentity},
		{http.MethodGet, callbackPath + ":id", page, notShared, a.callback},
		{http.MethodPost, callbackPath + ":id", page, notShared, a.callback},
		{http.MethodGet, "/assets/*", anyone, notShared, a.assets},

		{http.MethodPost, "/v1/signup", anyone, sharedClient, a.signup},
		{http.MethodPost, "/v1/login", anyone, sharedClient, a.login},
		{http.MethodPost, "/v1/logout", ownBearer, sharedClient, a.logout},
		{http.MethodGet, "/v1/me", bearer, sharedClient, a.me},
		{http.MethodPatch, "/v1/me", bearer, sharedClient, a.updateMe},
		{http.MethodDelete, "/v1/me", bearer, sharedClient, a.deleteMe},
		{http.MethodPost, "/v1/password/change", bearer, sharedClient, a.changePassword},
		{http.MethodGet, "/v1/sessions", bearer, sharedClient, a.sessions},
		{http.MethodDelete, "/v1/sessions", bearer, sharedClient, a.endSessions},
		{http.MethodDelete, "/v1/sessions/:sid", bearer, sharedClient, a.endSession},
		{http.MethodGet, "/v1/identities", bearer, sharedClient, a.identities},
		{http.MethodPost, "/v1/identities/:provider", bearer, sharedClient, a.addIdentity},
		{http.MethodDelete, "/v1/identities/:provider", bearer, sharedClient, a.removeIdentity},
		{http.MethodGet, "/v1/identities/:provider/token", bearer, sharedClient, a.identityToken},
		{http.MethodPost, "/v1/login/:provider/id-token", anyone, sharedClient, a.loginByIDToken},
		{http.MethodGet, "/v1/blocklist", anyone, sharedAll, a.blocklist},
		{http.MethodGet, "/v1/blocklist/stream", anyone, sharedAll, a.blocklistStream},

		{http.MethodGet, "/.well-known/ssf-configuration", anyone, sharedAll, a.signalsMetadata},
		{http.MethodGet, signalsPath + "/streams", receiver, notShared, a.streams},
		{http.MethodPost, signalsPath + "/streams", receiver, notShared, a.createStream},
		{http.MethodPatch, signalsPath + "/streams", receiver, notShared, a.updateStream},
		{http.MethodPut, signalsPath + "/streams", receiver, notShared, a.replaceStream},
		{http.MethodDelete, signalsPath + "/streams", receiver, notShared, a.deleteStream},
		{http.MethodGet, signalsPath + "/status", receiver, notShared, a.streamStatus},
		{http.MethodPost, signalsPath + "/status", receiver, notShared, a.updateStreamStatus},
		{http.MethodPost, signalsPath + "/subjects/add", receiver, notShared, a.addSubject},
		{http.MethodPost, signalsPath + "/subjects/remove", receiver, notShared, a.removeSubject},
		{http.MethodPost, signalsPath + "/verify", receiver, notShared, a.verifyStream},
		{http.MethodPost, signalsPath + "/poll", receiver, notShared, a.pollStream},

		{http.MethodGet, statuslist.Path, anyone, sharedAll, a.statusLists},
		{http.MethodGet, statuslist.Path + "/:client/:number", anyone, sharedAll, a.statusList},

		{http.MethodGet, "/v1/forward-auth", anyone, notShared, a.forwardAuth},

		{http.MethodGet, "/openapi.yaml", anyone, sharedAll, a.openapi},
		{http.MethodGet, "/healthz", anyone, notShared, a.healthz},
		{http.MethodGet, "/readyz", anyone, notShared, a.readyz},
	}
}

func (a *API) register(r route) {
	handler := r.handler
	switch r.access {
	case bearer:
		handler = a.authenticated(handler)
	case receiver:
		handler = a.receiving(handler)
	case page:
		handler = a.hosted(handler)
	case anyone, ownBearer: // the handler knows
	}
	if r.sharing != notShared {
		handler = a.shared(r.sharing, handler)
		a.echo.OPTIONS(r.path, a.preflight(r.sharing, r.path))
	}
	a.echo.Add(r.method, r.path, handler)
	if r.method == http.MethodGet && r.access == anyone {
		a.echo.HEAD(r.path, handler)
	}
}
