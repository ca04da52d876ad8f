package oauth

import (
	"context"
	"errors"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/token"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// Revoke answers the revocation endpoint (RFC 7009). A refresh token of any generation ends its session; an access token is
// blocked by itself. Nil also for a token that is unknown or no longer alive; when it returns nil the revocation is
// committed. Every error is an *Error.
func (s *Server) Revoke(ctx context.Context, r Request) error {
	if err := s.revoke(ctx, r); err != nil {
		return AsError(err)
	}
	return nil
}

func (s *Server) revoke(ctx context.Context, r Request) error {
	raw, err := r.Form.One("token")
	if err != nil {
		return err
	}
	client, err := s.authenticate(ctx, r)
	if err != nil {
		return err
	}
	if raw == "" || session.IsRefreshToken(raw) { // an access token comes in the form always
		if raw, err = r.presented(client, raw); err != nil {
			return err
		}
	}
	switch {
	case raw == "" && client.UsesCookie():
		return nil // the browser has none
	case raw == "":
		return refuse(InvalidRequest, "token is missing")
	}
	// token_type_hint is only a hint (RFC 7009, section 2.1), and the two kinds cannot be confused.
	found, _, err := s.sessions.Find(ctx, raw)
	switch {
	case errors.Is(err, session.ErrMalformed):
		return s.revokeAccessToken(ctx, client, raw, r.Origin)
	case errors.Is(err, session.ErrEnded):
		return nil
	case err != nil:
		return err
	case found.ClientID != client.ID:
		return refuse(UnauthorizedClient, "the token was issued to another client")
	}
	return s.sessions.End(ctx, found, session.ReasonRevoked, session.By{Actor: client.ID, ClientID: client.ID, Origin: r.Origin})
}

func (s *Server) revokeAccessToken(ctx context.Context, client Client, raw string, origin audit.Origin) error {
	claims, err := s.verifier.Verify(ctx, raw)
	if errors.Is(err, verifier.ErrUnavailable) {
		return err
	}
	if err != nil {
		return nil //nolint:nilerr // not alive, so there is nothing to revoke
	}
	if claims.ClientID != client.ID {
		return refuse(UnauthorizedClient, "the token was issued to another client")
	}
	entry := blocklist.NewEntry(verifier.BlockJTI, claims.ID, s.sessions.BlockUntil())
	event := audit.TokenRevoked(s.config.Clock.Now(), claims.Subject, claims.SessionID, string(session.ReasonRevoked),
		audit.By{Actor: client.ID, ClientID: client.ID, Origin: origin})
	var status struct {
		List token.Status `json:"status_list"`
	}
	if found, err := claims.Decode("status", &status); s.config.Statuses == nil || !found || err != nil {
		return s.store.Block(ctx, entry, event)
	}
	return s.config.Statuses.Revoke(ctx, status.List, claims.IssuedAt, entry, event)
}
