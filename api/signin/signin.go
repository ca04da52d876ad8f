// Package signin is the hosted flow, in which a browser goes from a client's request to the answer: login, sign-up, choice of
// user, consent, login at a provider, adding an identity, and logout.
package signin

import (
	"context"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/pkg/account"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/factor"
	"github.com/handstamp/handstamp/pkg/keyring"
	"github.com/handstamp/handstamp/pkg/limit"
	"github.com/handstamp/handstamp/pkg/mail"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/upstream"
	"github.com/handstamp/handstamp/pkg/user"
)

const (
	authorizePath = "/oauth2/authorize"
	loginPath     = "/oauth2/login"
	logoutPath    = "/oauth2/logout"
	callbackPath  = "/oauth2/callback/"
)

// Users are the users in the database.
type Users interface {
	UserByID(ctx context.Context, id string) (user.User, error)
}

// Clients are the registered clients.
type Clients interface {
	Client(ctx context.Context, id string) (oauth.Client, error)
}

// Browser is what a browser is known by: its cookies, and the pages that it was shown.
type Browser struct {
	Door            *door.Door
	BrowserSessions oauth.BrowserSessionStore
	States          States
}

// Upstreams sends browsers to providers.
type Upstreams struct {
	*Browser
	Upstream  upstream.LoginStore
	Providers *upstream.Providers
	Clients   Clients
	Attempts  *limit.Addresses // begun logins at providers, which leave a row each
}

// Routes returns the rows of the room.
func (h *Upstreams) Routes() []door.Route {
	return []door.Route{
		{
			Method: http.MethodPost, Path: "/v1/identities/:provider", Access: door.RecentBearer, Sharing: door.SharedOwn,
			Handler: h.addIdentity,
		},
		{Method: http.MethodGet, Path: "/oauth2/identities", Access: door.Page, Handler: h.beginIdentity},
	}
}

// Passwords checks passwords, and makes users with one.
type Passwords struct {
	Authenticator *user.Authenticator
	Signup        *user.Signup
	Devices       door.Devices
	Notices       *mail.Notices // that tell users of logins
	Account       *account.Service
	Factors       *factor.Manager
}

// Login takes an authorization request through the pages to its answer.
type Login struct {
	*Upstreams
	OAuth     *oauth.Server
	Users     Users
	Keys      *keyring.Keyring
	Consents  oauth.ConsentStore
	Passwords Passwords
	Linker    upstream.Linker
	Keeper    upstream.Keeper
}

// Routes returns the rows of the room.
func (h *Login) Routes() []door.Route {
	fromProvider := []audit.Kind{audit.KindSignedUp, audit.KindIdentityLinked}
	return []door.Route{
		{Method: http.MethodGet, Path: authorizePath, Access: door.EntryPage, Handler: h.authorize},
		{Method: http.MethodPost, Path: authorizePath, Access: door.EntryPage, Handler: h.authorize},
		{Method: http.MethodGet, Path: loginPath, Access: door.Page, Handler: h.loginPage},
		{
			Method: http.MethodPost, Path: loginPath, Access: door.Page, Handler: h.loginForm,
			Audit: []audit.Kind{audit.KindLoginFailed, audit.KindVerifyAsked},
		},
		{Method: http.MethodGet, Path: "/oauth2/signup", Access: door.Page, Handler: h.signupPage},
		{
			Method: http.MethodPost, Path: "/oauth2/signup", Access: door.Page, Handler: h.signupForm,
			Audit: []audit.Kind{audit.KindSignedUp, audit.KindVerifyAsked},
		},
		{Method: http.MethodGet, Path: mfaPath, Access: door.Page, Handler: h.mfaPage},
		{
			Method: http.MethodPost, Path: mfaPath, Access: door.Page, Handler: h.mfaForm,
			Audit: []audit.Kind{audit.KindLoginFailed},
		},
		{Method: http.MethodPost, Path: "/oauth2/continue", Access: door.Page, Handler: h.continueForm},
		{
			Method: http.MethodPost, Path: "/oauth2/consent", Access: door.Page, Handler: h.consentForm,
			Audit: []audit.Kind{audit.KindConsentGranted},
		},
		{Method: http.MethodGet, Path: "/oauth2/provider/:id", Access: door.Page, Handler: h.provider},
		{Method: http.MethodGet, Path: callbackPath + ":id", Access: door.EntryPage, Handler: h.callback, Audit: fromProvider},
		{Method: http.MethodPost, Path: callbackPath + ":id", Access: door.EntryPage, Handler: h.callback, Audit: fromProvider},
		{Method: http.MethodGet, Path: "/assets/*", Handler: h.asset},
	}
}

// asset is GET /assets/*: style sheet and pictures of the hosted pages.
func (h *Login) asset(c echo.Context) error { return h.Door.ServeAsset(c) }

// Logout ends a browser's login (OpenID Connect RP-Initiated Logout 1.0).
type Logout struct {
	*Browser
	OAuth    *oauth.Server
	Sessions *session.Manager
	Clients  Clients
	Keys     *keyring.Keyring
	Users    Users
}

// Routes returns the rows of the room.
func (h *Logout) Routes() []door.Route {
	ends := []audit.Kind{audit.KindSessionsEnded, audit.KindSessionEnded}
	return []door.Route{
		{Method: http.MethodGet, Path: logoutPath, Access: door.EntryPage, Handler: h.endSessionPage, Audit: ends},
		{Method: http.MethodPost, Path: logoutPath, Access: door.EntryPage, Handler: h.endSessionPage, Audit: ends},
		{Method: http.MethodPost, Path: logoutPath + "/confirm", Access: door.Page, Handler: h.endSessionForm, Audit: ends},
	}
}
