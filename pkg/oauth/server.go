package oauth

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/clock"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/statuslist"
	"github.com/handstamp/handstamp/pkg/token"
	"github.com/handstamp/handstamp/pkg/user"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// Config is what the protocol needs to know of the service.
type Config struct {
	Issuer              string
	Audience            []string // of tokens whose client has no audiences of its own
	AccessTokenLifetime time.Duration
	Statuses            *statuslist.Publisher // of the status claim of access tokens; nil for none
	Clock               *clock.Clock          // nil for the machine's
	Gateways            GatewaySeals          // of logins at gateways; the zero value knows none
	// Pushes bounds pushed requests, which are kept for a while: it counts one of a client from an address, and returns how long to
	// wait if there were too many. Nil bounds nothing.
	Pushes func(c Client, ip string) time.Duration
}

// Store is what the protocol needs of a database besides what its features need.
type Store interface {
	ClientStore
	user.Store
	audit.Store
	blocklist.Store
}

// Server answers the protocol's requests.
type Server struct {
	config   Config
	store    Store
	browser  BrowserStore
	clients  *Registry
	sessions *session.Manager
	minter   *token.Minter
	verifier *verifier.Verifier
}

// NewServer returns a server. The verifier checks the service's own access tokens, for any audience.
func NewServer(config Config, store Store, browser BrowserStore, clients *Registry, sessions *session.Manager,
	minter *token.Minter, v *verifier.Verifier) *Server {
	return &Server{config: config, store: store, browser: browser, clients: clients, sessions: sessions, minter: minter, verifier: v}
}

// TokenResponse is RFC 6749, section 5.1.
type TokenResponse struct {
	AccessToken  string
	ExpiresIn    time.Duration
	RefreshToken string // empty if none is given
	IDToken      string // empty unless the scope has openid
	Scope        string
	SessionID    session.ID
	// Client is whose the tokens are, and IdleExpiresAt until when the refresh token can be used.
	Client        Client
	IdleExpiresAt time.Time
}

// openIDScopes are the scope values with which an OpenID client asks for itself, not for an API (OpenID Connect Core,
// section 5.4 and 11).
func openIDScopes() []string { return []string{"openid", "profile", "email", "offline_access"} }

// ScopeAccount is the scope of the account API: the user's profile, password, sessions and identities. It is worth the whole
// account, so a token has it only if it was asked for by name, or if nothing was asked for and the client is the operator's
// own.
const ScopeAccount = "account"

// grantedScope is what a client gets for what it asks: nothing beyond what it is registered for; if it asks for nothing, its
// registered scopes but those of OpenID Connect, which are always asked for by name (RFC 6749, section 3.3), and the account.
func grantedScope(c Client, asked string) (string, error) {
	may := slices.Clone(c.Scopes)
	if c.MayAccount() && !slices.Contains(may, ScopeAccount) {
		may = append(may, ScopeAccount)
	}
	if asked == "" {
		return strings.Join(slices.DeleteFunc(may, func(s string) bool { return slices.Contains(openIDScopes(), s) }), " "), nil
	}
	values := strings.Fields(asked)
	for _, v := range values {
		if !validScopeValue(v) {
			return "", refuse(InvalidScope, "scope holds characters that are not allowed")
		}
		if !slices.Contains(may, v) {
			return "", refuse(InvalidScope, "the client is not registered for the scope %s", v)
		}
	}
	slices.Sort(values)
	return strings.Join(slices.Compact(values), " "), nil
}

// audiences are those that a client's tokens may name.
func (s *Server) audiences(c Client) []string {
	if len(c.Audiences) > 0 {
		return c.Audiences
	}
	return s.config.Audience
}

// grantedAudience is what a client gets for the resources it asks for (RFC 8707, section 2), all of allowed if it asks for
// none. With the scope account it may ask for the issuer, which is the account API and no resource server.
func (s *Server) grantedAudience(allowed []string, scope string, resources []string) ([]string, error) {
	account := slices.Contains(strings.Fields(scope), ScopeAccount)
	resources = slices.Clone(resources)
	for i, r := range resources {
		if r == s.config.Issuer+"/" && !slices.Contains(allowed, r) { // the slash that URL libraries add
			r = s.config.Issuer
			resources[i] = r
		}
		if !slices.Contains(allowed, r) && (!account || r != s.config.Issuer) {
			return nil, refuse(InvalidTarget, "the resource is unknown or not granted to the client")
		}
	}
	if len(resources) == 0 {
		return allowed, nil
	}
	return resources, nil
}

// Login is a user whose credential was just checked.
type Login struct {
	User          user.User
	CheckPassword bool // see session.Login
	Refund        user.Refund
	Provider      string // see session.Login
	Subject       string
	ClientID      string
	Scope         string
	AMR           []string
	AuthTime      time.Time // when the provider has authenticated the user; zero: now
	Origin        audit.Origin
	NewDevice     bool           // see session.Login
	Factor        user.FactorUse // see session.Login
}

// Login starts a session for a user at a client that has no protocol of its own: the first-party API.
func (s *Server) Login(ctx context.Context, l Login) (*TokenResponse, error) {
	client, scope, err := s.loginClient(ctx, l.ClientID, l.Scope)
	if err != nil {
		return nil, err
	}
	return s.start(ctx, client, l, scope)
}

// Renew starts a session in place of the one of the user's request. The session has the same client, for any way in
// which the client logs users in, and the same scope.
func (s *Server) Renew(ctx context.Context, l Login) (*TokenResponse, error) {
	client, err := s.clients.Client(ctx, l.ClientID)
	if err != nil {
		return nil, AsError(err)
	}
	return s.start(ctx, client, l, l.Scope)
}

func (s *Server) start(ctx context.Context, client Client, l Login, scope string) (*TokenResponse, error) {
	issued, err := s.sessions.Start(ctx, session.Login{
		User: l.User, CheckPassword: l.CheckPassword, Refund: l.Refund, Provider: l.Provider, Subject: l.Subject,
		ClientID: client.ID, Scope: scope,
		Audience: s.audiences(client), AMR: l.AMR, ACR: ACROf(l.AMR), AuthTime: l.AuthTime, Origin: l.Origin,
		NewDevice: l.NewDevice, Factor: l.Factor,
	})
	if err != nil {
		return nil, err
	}
	return s.respond(ctx, client, issued, issued.Scope, issued.Audience)
}

// CheckLogin says whether a login at a client with a scope could succeed, before a password is checked for it, and returns the
// client.
func (s *Server) CheckLogin(ctx context.Context, clientID, scope string) (Client, error) {
	client, _, err := s.loginClient(ctx, clientID, scope)
	return client, err
}

// Client returns an enabled client by its ID, for requests that authenticate by what they present.
func (s *Server) Client(ctx context.Context, id string) (Client, error) {
	client, err := s.clients.Client(ctx, id)
	if err != nil {
		return Client{}, AsError(err)
	}
	if client.Disabled() {
		return Client{}, refuse(InvalidClient, "client authentication failed")
	}
	return client, nil
}

func (s *Server) loginClient(ctx context.Context, id, scope string) (Client, string, error) {
	if id == "" {
		id = DefaultClientID
	}
	client, err := s.clients.Client(ctx, id)
	if err != nil {
		return Client{}, "", AsError(err)
	}
	switch {
	case client.Disabled():
		return Client{}, "", refuse(InvalidClient, "client authentication failed")
	case client.Type != Public || client.ThirdParty:
		// Passwords are for the operator's own applications only.
		return Client{}, "", refuse(UnauthorizedClient, "the client may not log users in with a password")
	}
	scope, err = grantedScope(client, scope)
	return client, scope, err
}

// respond mints the access token of a session for the response.
func (s *Server) respond(ctx context.Context, c Client, issued session.Issued, scope string,
	audience []string) (*TokenResponse, error) {
	var status token.Status
	if s.config.Statuses != nil {
		status = s.config.Statuses.Reference(issued.ClientID, issued.StatusNumber)
	}
	access, err := s.minter.Mint(ctx, token.Access{
		Algorithm: c.Algorithm, Type: c.AccessTokenType,
		Subject: issued.UserID, Audience: audience, ClientID: issued.ClientID, Scope: scope,
		SessionID: issued.ID.String(), Roles: issued.Roles, AuthTime: issued.AuthTime, AMR: issued.AMR, ACR: issued.ACR,
		IssuedAt: time.Unix(issued.IATFloor, 0), Lifetime: s.config.AccessTokenLifetime, Status: status,
	})
	if err != nil {
		return nil, AsError(err)
	}
	return &TokenResponse{
		AccessToken:   access.Raw,
		ExpiresIn:     access.ExpiresAt.Sub(access.IssuedAt),
		RefreshToken:  issued.RefreshToken,
		Scope:         scope,
		SessionID:     issued.ID,
		Client:        c,
		IdleExpiresAt: issued.IdleExpiresAt,
	}, nil
}
