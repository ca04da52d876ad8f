package oauth

import "context"

// maxIdempotencyKey bounds the Idempotency-Key header, in bytes.
const maxIdempotencyKey = 255

// refresh is the refresh_token grant (RFC 6749, section 6; RFC 9700, section 4.14). A scope or resource that is asked for
// narrows this access token only; the grant stays as it was.
func (s *Server) refresh(ctx context.Context, c Client, r Request, raw string) (*TokenResponse, error) {
	refresh, err := r.refreshOf(c, raw)
	if err != nil {
		return nil, err
	}
	scope, err := r.Form.One("scope")
	if err != nil {
		return nil, err
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
	refresh.Scope = scope
	issued, err := s.sessions.Refresh(ctx, refresh)
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
