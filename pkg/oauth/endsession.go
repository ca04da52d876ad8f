package oauth

import (
	"context"

	"github.com/handstamp/handstamp/pkg/session"
)

// EndBrowserSession logs a browser out: its browser session ends, and every session that was started from it.
func (s *Server) EndBrowserSession(ctx context.Context, b BrowserSession, by session.By) error {
	_, err := s.browser.EndBrowserSession(ctx, b.Hash, s.sessions.Ending(session.ReasonLogout, b.UserID, by))
	return err
}

// RevokeConsent takes back what a user has allowed a client: its sessions end.
func (s *Server) RevokeConsent(ctx context.Context, userID, clientID string, by session.By) error {
	_, err := s.browser.RevokeConsent(ctx, userID, clientID, s.sessions.Ending(session.ReasonRevoked, userID, by))
	return err
}
