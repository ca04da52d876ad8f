package oauth

import (
	"context"
	"slices"
	"strings"

	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/token"
)

// clientCredentials is the client_credentials grant (RFC 6749, section 4.4): a client acts for itself. There is no session, no
// refresh token and no ID token; the subject is the client ID, which no user ID can equal (RFC 9068, section 5).
func (s *Server) clientCredentials(ctx context.Context, c Client, r Request, _ string) (*TokenResponse, error) {
	asked, err := r.Form.One("scope")
	if err != nil {
		return nil, err
	}
	c.NoAccount = true // it has none
	scope, err := grantedScope(c, asked)
	if err != nil {
		return nil, err
	}
	for value := range slices.Values(openIDScopes()) {
		if session.ScopeWithin(value, scope) {
			return nil, refuse(InvalidScope, "there is no user whose %s could be asked for", value)
		}
	}
	audience, err := s.grantedAudience(s.audiences(c), scope, r.resources())
	if err != nil {
		return nil, err
	}
	// The client is read now, not from the registry's copy: this is the transaction that issues.
	now := s.config.Clock.Now()
	fresh, err := s.store.Client(ctx, c.ID)
	if err != nil {
		return nil, err
	}
	found := session.ClientState{Known: true, Disabled: fresh.Disabled()}
	if err := session.MayIssueToClient(found, scope, strings.Join(fresh.Scopes, " ")); err != nil {
		return nil, err
	}
	var status token.Status
	if s.config.Statuses != nil {
		status = s.config.Statuses.OwnReference(c.ID)
	}
	access, err := s.minter.Mint(ctx, token.Access{
		Algorithm: c.Algorithm, Type: c.AccessTokenType,
		Subject: c.ID, Audience: audience, ClientID: c.ID, Scope: scope,
		IssuedAt: now, Lifetime: s.config.AccessTokenLifetime, Status: status,
	})
	if err != nil {
		return nil, err
	}
	return &TokenResponse{AccessToken: access.Raw, ExpiresIn: access.ExpiresAt.Sub(access.IssuedAt), Scope: scope}, nil
}
