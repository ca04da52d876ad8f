package oauth

import (
	"context"

	"github.com/handstamp/handstamp/pkg/session"
)

// Fork begins a child of the session whose refresh token a client presents, and answers as the token endpoint does. A
// client that may refresh may fork. Every error is an *Error.
func (s *Server) Fork(ctx context.Context, r Request) (*TokenResponse, error) {
	response, err := s.fork(ctx, r)
	if err != nil {
		return nil, AsError(err)
	}
	return response, nil
}

func (s *Server) fork(ctx context.Context, r Request) (*TokenResponse, error) {
	client, err := s.authenticate(ctx, r)
	if err != nil {
		return nil, err
	}
	if !client.Allows(GrantRefreshToken) {
		return nil, refuse(UnauthorizedClient, "the client is not registered for the grant type %s", GrantRefreshToken)
	}
	inForm, err := r.Form.One("refresh_token")
	if err != nil {
		return nil, err
	}
	raw, err := r.presented(client, inForm)
	if err != nil {
		return nil, err
	}
	refresh, err := r.refreshOf(client, raw)
	if err != nil {
		return nil, err
	}
	issued, err := s.sessions.Fork(ctx, refresh)
	if err != nil {
		return nil, err
	}
	response, err := s.respond(ctx, client, issued, issued.Scope, issued.Audience)
	if err != nil {
		return nil, err
	}
	return response, s.addIDToken(ctx, response, client, issued, issued.Person, "")
}

// refreshOf is a refresh token that a client presents in a request, empty for none.
func (r Request) refreshOf(c Client, raw string) (session.Refresh, error) {
	switch {
	case raw == "" && c.UsesCookie(): // the browser has none: that is no fault of the page
		return session.Refresh{}, refuse(InvalidGrant, "no refresh token came with the request: the user has to log in")
	case raw == "":
		return session.Refresh{}, refuse(InvalidRequest, "refresh_token is missing")
	case len(r.IdempotencyKey) > maxIdempotencyKey:
		return session.Refresh{}, refuse(InvalidRequest, "Idempotency-Key is longer than %d bytes", maxIdempotencyKey)
	}
	return session.Refresh{
		Raw:            raw,
		ClientID:       c.ID,
		IdempotencyKey: r.IdempotencyKey,
		Origin:         r.Origin,
		Arrived:        r.Arrived,
	}, nil
}
