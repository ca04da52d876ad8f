// Package firstparty serves the JSON routes of the operator's own clients: login, and the user's own account.
package firstparty

import (
	"context"
	"net/http"
	"time"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/pkg/account"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/clock"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/password"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/upstream"
	"github.com/handstamp/handstamp/pkg/user"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// Users are the users in the database.
type Users interface {
	UserByID(ctx context.Context, id string) (user.User, error)
	UpdateUser(ctx context.Context, id string, c user.Change, at time.Time) (user.User, error)
}

// Links are the users' links to providers in the database.
type Links interface {
	Identities(ctx context.Context, userID string) ([]upstream.LinkedIdentity, error)
	RemoveIdentity(ctx context.Context, r upstream.Removal) error
	UseIDToken(ctx context.Context, tokenHash [32]byte, expiresAt time.Time) error
}

// Login logs users in with a password, and out.
type Login struct {
	Door          *door.Door
	OAuth         *oauth.Server
	Sessions      *session.Manager
	AnyAudience   *verifier.Verifier // accepts access tokens of this service for every audience
	Authenticator *user.Authenticator
	Signup        *user.Signup
	Account       *account.Service
	MFA           *MFA
}

// Routes returns the rows of the room.
func (r *Login) Routes() []door.Route {
	return []door.Route{
		{
			Method: http.MethodPost, Path: "/v1/signup", Sharing: door.SharedOwn, Cookie: true, Handler: r.signup,
			Audit: []audit.Kind{audit.KindSignedUp, audit.KindVerifyAsked, audit.KindLoggedIn},
		},
		{
			Method: http.MethodPost, Path: "/v1/login", Sharing: door.SharedOwn, Cookie: true, Handler: r.login,
			Audit: []audit.Kind{audit.KindLoggedIn, audit.KindVerifyAsked, audit.KindLoginFailed},
		},
		{
			Method:  http.MethodPost,
			Path:    "/v1/logout",
			Access:  door.OwnBearer,
			Sharing: door.SharedClient,
			Cookie:  true,
			Handler: r.logout,
			Audit:   []audit.Kind{audit.KindSessionEnded},
		},
		{
			Method: http.MethodPost, Path: "/v1/sessions/fork", Sharing: door.SharedClient, Cookie: true, Handler: r.fork,
			Audit: []audit.Kind{audit.KindSessionForked, audit.KindRefreshTokenReuse, audit.KindSessionsEnded},
		},
		{Method: http.MethodGet, Path: "/v1/session", Sharing: door.SharedClient, Cookie: true, Handler: r.session},
	}
}

// Account serves a user's own profile, password and sessions.
type Account struct {
	Door          *door.Door
	OAuth         *oauth.Server
	Sessions      *session.Manager
	Users         Users
	Authenticator *user.Authenticator
	Hasher        *password.Hasher
	Passwords     password.Policy
	Clock         *clock.Clock
}

// Routes returns the rows of the room.
func (r *Account) Routes() []door.Route {
	const by, recent, to = door.Bearer, door.RecentBearer, door.SharedOwn
	return []door.Route{
		{Method: http.MethodGet, Path: "/v1/me", Access: by, Sharing: to, Handler: r.me},
		{Method: http.MethodPatch, Path: "/v1/me", Access: by, Sharing: to, Handler: r.updateMe},
		{
			Method: http.MethodDelete, Path: "/v1/me", Access: recent, Sharing: to, Handler: r.deleteMe,
			Audit: []audit.Kind{audit.KindUserDeleted},
		},
		{
			Method: http.MethodPost, Path: "/v1/password/change", Access: by, Sharing: to, Cookie: true, Handler: r.changePassword,
			Audit: []audit.Kind{audit.KindPasswordChanged, audit.KindLoggedIn, audit.KindLoginFailed},
		},
		{
			Method: http.MethodPost, Path: "/v1/password/set", Access: recent, Sharing: to, Cookie: true, Handler: r.setPassword,
			Audit: []audit.Kind{audit.KindPasswordChanged, audit.KindLoggedIn},
		},
		{Method: http.MethodGet, Path: "/v1/sessions", Access: by, Sharing: to, Handler: r.sessions},
		{
			Method: http.MethodDelete, Path: "/v1/sessions", Access: by, Sharing: to, Handler: r.endSessions,
			Audit: []audit.Kind{audit.KindSessionsEnded},
		},
		{
			Method: http.MethodDelete, Path: "/v1/sessions/:sid", Access: by, Sharing: to, Handler: r.endSession,
			Audit: []audit.Kind{audit.KindSessionEnded},
		},
	}
}

// Identities serves a user's links to providers. A link is added by way of the hosted pages: POST /v1/identities/:provider, whose
// answer is the address of one, is theirs.
type Identities struct {
	Door      *door.Door
	OAuth     *oauth.Server
	Users     Users
	Upstream  Links
	Providers *upstream.Providers
	Linker    upstream.Linker
	Keeper    upstream.Keeper
	MFA       *MFA
}

// Routes returns the rows of the room.
func (r *Identities) Routes() []door.Route {
	const by, recent, to = door.Bearer, door.RecentBearer, door.SharedOwn
	return []door.Route{
		{Method: http.MethodGet, Path: "/v1/identities", Access: by, Sharing: to, Handler: r.identities},
		{
			Method: http.MethodDelete, Path: "/v1/identities/:provider", Access: recent, Sharing: to, Handler: r.removeIdentity,
			Audit: []audit.Kind{audit.KindIdentityRemoved},
		},
		{Method: http.MethodGet, Path: "/v1/identities/:provider/token", Access: by, Sharing: to, Handler: r.identityToken},
		{
			Method: http.MethodPost, Path: "/v1/login/:provider/id-token", Sharing: to, Cookie: true, Handler: r.loginByIDToken,
			Audit: []audit.Kind{audit.KindSignedUp, audit.KindIdentityLinked, audit.KindLoggedIn},
		},
	}
}
