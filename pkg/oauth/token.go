package oauth

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
)

// Form is a parsed application/x-www-form-urlencoded body.
type Form map[string][]string

// One returns a parameter that may be given once (RFC 6749, section 3.2). A parameter without a value counts as left out.
func (f Form) One(name string) (string, error) {
	values := f[name]
	if len(values) > 1 {
		return "", &Error{Code: InvalidRequest, Description: name + " is given more than once", Parameter: name}
	}
	if len(values) == 0 {
		return "", nil
	}
	return values[0], nil
}

// required returns a parameter that must be there, once.
func (f Form) required(name string) (string, error) {
	v, err := f.One(name)
	if err == nil && v == "" {
		err = refuse(InvalidRequest, "%s is missing", name)
	}
	return v, err
}

// Request is a request of a client at one of the protocol's endpoints.
type Request struct {
	Form           Form
	Basic          *BasicAuth // from the Authorization header, nil if there is none
	IdempotencyKey string
	Origin         audit.Origin
	Arrived        func() time.Duration // how long ago the request came in; see session.Refresh
	// Presented returns the refresh token that the request presents, empty for none, once the client has authenticated; inForm is
	// what the form has in its place. It fails if the request does not come from where the client's must. Nil: what the form has.
	Presented func(c Client, inForm string) (string, error)
}

// BasicAuth is a client's ID and secret from an Authorization header, decoded (RFC 6749, section 2.3.1). RawID and RawSecret
// are what stood there, for clients that don't encode what they send.
type BasicAuth struct{ ID, Secret, RawID, RawSecret string }

// presented returns the refresh token that a client presents in a request; inForm is what the form has in its place.
func (r Request) presented(c Client, inForm string) (string, error) {
	if r.Presented == nil {
		return inForm, nil
	}
	raw, err := r.Presented(c, inForm)
	if err != nil {
		return "", &Error{Code: InvalidRequest, Description: "the request does not come as the client is registered", Err: err}
	}
	return raw, nil
}

// grant is what the token endpoint asks of a grant type: it gets an authenticated client that may use it, and the refresh token
// that the request presents, empty for none.
type grant func(s *Server, ctx context.Context, c Client, r Request, refreshToken string) (*TokenResponse, error)

// grantOf is the table of the token endpoint; nil for a grant type that it has not.
func grantOf(name string) grant {
	switch name {
	case GrantAuthorizationCode:
		return (*Server).authorizationCode
	case GrantRefreshToken:
		return (*Server).refresh
	case GrantClientCredentials:
		return (*Server).clientCredentials
	}
	return nil
}

// Token answers the token endpoint (RFC 6749, section 3.2). Every error is an *Error.
func (s *Server) Token(ctx context.Context, r Request) (*TokenResponse, error) {
	response, err := s.token(ctx, r)
	if err != nil {
		return nil, AsError(err)
	}
	return response, nil
}

func (s *Server) token(ctx context.Context, r Request) (*TokenResponse, error) {
	name, err := r.Form.required("grant_type")
	if err != nil {
		return nil, err
	}
	handle := grantOf(name)
	if handle == nil {
		return nil, refuse(UnsupportedGrantType, "the grant type is not supported")
	}
	client, err := s.authenticate(ctx, r)
	if err != nil {
		return nil, err
	}
	if !client.Allows(name) {
		return nil, refuse(UnauthorizedClient, "the client is not registered for the grant type %s", name)
	}
	inForm, err := r.Form.One("refresh_token")
	if err != nil {
		return nil, err
	}
	refreshToken, err := r.presented(client, inForm)
	if err != nil {
		return nil, err
	}
	return handle(s, ctx, client, r, refreshToken)
}

// authenticate finds the client of a request and checks its secret (RFC 6749, section 2.3). A request that names no
// client is the built-in public client's. Unknown client, wrong secret and disabled client are answered alike.
func (s *Server) authenticate(ctx context.Context, r Request) (Client, error) {
	id, err := r.Form.One("client_id")
	if err != nil {
		return Client{}, err
	}
	secret, err := r.Form.One("client_secret")
	if err != nil {
		return Client{}, err
	}
	basic, err := s.basic(ctx, r.Basic)
	if err != nil {
		return Client{}, err
	}
	if r.Basic = basic; basic != nil {
		switch {
		case secret != "":
			return Client{}, refuse(InvalidRequest, "the client authenticates in two ways at once")
		case id != "" && id != r.Basic.ID:
			return Client{}, refuse(InvalidRequest, "client_id differs from the Authorization header")
		}
		id, secret = r.Basic.ID, r.Basic.Secret
	} else if id == "" && secret == "" {
		id = DefaultClientID
	}
	for _, assertion := range []string{"client_assertion", "client_assertion_type"} {
		if len(r.Form[assertion]) > 0 {
			return Client{}, refuse(InvalidClient, "client assertions are not supported")
		}
	}
	failed := refuse(InvalidClient, "client authentication failed")
	client, err := s.clients.Client(ctx, id)
	if errors.Is(err, ErrClientNotFound) {
		Client{}.secretMatches(secret) // the same work as for a known client
		return Client{}, failed
	}
	if err != nil {
		return Client{}, err
	}
	if client.Type == Confidential {
		if !client.secretMatches(secret) {
			return Client{}, failed
		}
	} else if secret != "" || r.Basic != nil && r.Basic.Secret != "" {
		return Client{}, failed // a public client has no secret to know
	}
	if client.Disabled() {
		return Client{}, failed
	}
	return client, nil
}

// basic returns the credentials of a header as the client has meant them: in the form that the standard says, unless only the
// other names a client.
func (s *Server) basic(ctx context.Context, b *BasicAuth) (*BasicAuth, error) {
	if b == nil || b.RawID == "" || b.ID == b.RawID && b.Secret == b.RawSecret {
		return b, nil
	}
	_, err := s.clients.Client(ctx, b.ID)
	if errors.Is(err, ErrClientNotFound) {
		return &BasicAuth{ID: b.RawID, Secret: b.RawSecret}, nil
	}
	return b, err
}

// authenticateConfidential is authenticate for endpoints that serve only clients with a secret.
func (s *Server) authenticateConfidential(ctx context.Context, r Request) (Client, error) {
	client, err := s.authenticate(ctx, r)
	if err != nil {
		return Client{}, err
	}
	if client.Type != Confidential {
		return Client{}, refuse(InvalidClient, "client authentication is required")
	}
	return client, nil
}

// resources are the resource parameters of a request (RFC 8707, section 2); they may repeat.
func (r Request) resources() []string {
	var out []string
	for _, v := range r.Form["resource"] {
		if v = strings.TrimSpace(v); v != "" {
			out = append(out, v)
		}
	}
	return out
}
