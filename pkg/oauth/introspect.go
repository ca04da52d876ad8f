package oauth

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/user"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// Introspection is the answer of RFC 7662, section 2.2. The zero value says that the token is not active, and nothing else.
type Introspection struct {
	Active    bool
	TokenType string // at+jwt's "Bearer", or "refresh_token"
	Scope     string
	ClientID  string
	Subject   string
	SessionID string
	ID        string
	Audience  []string
	Roles     []string
	IssuedAt  time.Time
	ExpiresAt time.Time
	AuthTime  time.Time
}

// Introspect answers the introspection endpoint (RFC 7662) for confidential clients. A client learns about tokens that
// were issued to it or are meant for one of its audiences; for it, every other token is not active.
// Introspect reads sessions, users and clients from the database, so the answer reflects every acknowledged end of one.
// About a single revoked access token or key it knows as much as the verifier. Every error is an *Error.
func (s *Server) Introspect(ctx context.Context, r Request) (Introspection, error) {
	answer, err := s.introspect(ctx, r)
	if err != nil {
		return Introspection{}, AsError(err)
	}
	return answer, nil
}

func (s *Server) introspect(ctx context.Context, r Request) (Introspection, error) {
	client, err := s.authenticateConfidential(ctx, r)
	if err != nil {
		return Introspection{}, err
	}
	raw, err := r.Form.required("token")
	if err != nil {
		return Introspection{}, err
	}
	found, current, err := s.sessions.Find(ctx, raw)
	switch {
	case errors.Is(err, session.ErrMalformed):
		return s.introspectAccessToken(ctx, client, raw)
	case errors.Is(err, session.ErrEnded):
		return Introspection{}, nil
	case err != nil:
		return Introspection{}, err
	case !current || !concerns(client, found.ClientID, found.Audience):
		return Introspection{}, nil
	}
	return Introspection{
		Active: true, TokenType: "refresh_token", Scope: found.Scope, ClientID: found.ClientID, Subject: found.UserID,
		SessionID: found.ID.String(), Audience: found.Audience, IssuedAt: found.RotatedAt,
		ExpiresAt: minTime(found.IdleExpiresAt, found.ExpiresAt), AuthTime: found.AuthTime,
	}, nil
}

func (s *Server) introspectAccessToken(ctx context.Context, client Client, raw string) (Introspection, error) {
	claims, err := s.verifier.Verify(ctx, raw)
	if errors.Is(err, verifier.ErrUnavailable) {
		return Introspection{}, err
	}
	if err != nil || !concerns(client, claims.ClientID, claims.Audience) {
		return Introspection{}, nil //nolint:nilerr // not alive
	}
	if alive, err := s.issuerStillStands(ctx, claims); err != nil || !alive {
		return Introspection{}, err
	}
	return Introspection{
		Active: true, TokenType: "Bearer", Scope: strings.Join(claims.Scope, " "), ClientID: claims.ClientID, Subject: claims.Subject,
		SessionID: claims.SessionID, ID: claims.ID, Audience: claims.Audience, Roles: claims.Roles,
		IssuedAt: claims.IssuedAt, ExpiresAt: claims.ExpiresAt, AuthTime: claims.AuthTime,
	}, nil
}

// issuerStillStands asks the database whether what an access token was minted for is still alive.
func (s *Server) issuerStillStands(ctx context.Context, claims *verifier.Claims) (bool, error) {
	if claims.SessionID == "" { // a client's own token
		c, err := s.store.Client(ctx, claims.ClientID)
		if errors.Is(err, ErrClientNotFound) {
			return false, nil
		}
		return err == nil && !c.Disabled(), err
	}
	id, err := session.ParseID(claims.SessionID)
	if err != nil {
		return false, nil //nolint:nilerr // no session has this ID
	}
	found, err := s.sessions.Session(ctx, id)
	if errors.Is(err, session.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	u, err := s.store.UserByID(ctx, found.UserID)
	if errors.Is(err, user.ErrNotFound) {
		return false, nil
	}
	return err == nil && found.RevokedAt.IsZero() && !found.ClientDisabled && !u.Disabled(), err
}

// concerns reports whether a client may know about a token. A client without audiences of its own is no resource server: the
// audience that its own tokens have by default would be that of everybody's.
func concerns(c Client, issuedTo string, audience []string) bool {
	if c.ID == issuedTo {
		return true
	}
	return slices.ContainsFunc(c.Audiences, func(a string) bool { return slices.Contains(audience, a) })
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
