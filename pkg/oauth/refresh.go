package oauth

import (
	"context"

	"github.com/handstamp/handstamp/pkg/session"
)

// maxIdempotencyKey bounds the Idempotency-Key header, in bytes.
const maxIdempotencyKey = 255

// refresh is the refresh_token grant (RFC 6749, section 6; RFC 9700, section 4.14). A scope or resource that is asked for
// narrows this access token only; the grant stays as it was.
func (s *Server) refresh(ctx context.Context, c Client, r Request, raw string) (*TokenResponse, error) {
	switch {
	case raw == "" && c.UsesCookie(): // the browser has none: that is no fault of the page
		return nil, refuse(InvalidGrant, "no refresh token came with the request: the user has to log in")
	case raw == "":
		return nil, refuse(InvalidRequest, "refresh_token is missing")
	}
	scope, err := r.Form.One("scope")
	if err != nil {
		return nil, err
	}
	if len(r.IdempotencyKey) > maxIdempotencyKey {
		return nil, refuse(InvalidRequest, "Idempotency-Key is longer than %d bytes", maxIdempotencyKey)
	}
	resources := r.resources()
	if len(resources) > 0 { // checked before anything moves
		found, _, err := s.sessions.Find(ctx, raw)
		if err != nil {
			return nil, err
		}
		if _, err := s.grantedAudience(found.Audience, found.Scope, resources); err != nil && found.ClientID == c.ID {
			return nil, err
		}
	}
	issued, err := s.sessions.Refresh(ctx, session.Refresh{
		Raw:            raw,
		ClientID:       c.ID,
		IdempotencyKey: r.IdempotencyKey,
		Scope:          scope,
		Origin:         r.Origin,
		Arrived:        r.Arrived,
	})
	if err != nil {
		return nil, err
	}
	audience, err := s.grantedAudience(issued.Audience, issued.Scope, resources)
	if err != nil {
		return nil, err
	}
	if scope == "" {
		scope = issued.Scope
	}
	response, err := s.respond(ctx, c, issued, scope, audience)
	if err != nil {
		return nil, err
	}
	// An ID token with each refresh: of the same login, and without the nonce of its request (OpenID Connect Core, section 12.2).
	return response, s.addIDToken(ctx, response, c, issued, issued.Person, "")
}
