package service

import (
	"context"

	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/session"
)

// SessionConfig are the lives of sessions and access tokens.
func SessionConfig(c Config) session.Config {
	return session.Config{
		IdleLifetime:        c.RefreshIdleLifetime,
		Lifetime:            c.RefreshLifetime,
		Grace:               c.RefreshGrace,
		Limit:               c.SessionLimit,
		AccessTokenLifetime: c.AccessTokenLifetime,
		ClockMargin:         clockMargin,
	}
}

// SessionEnder returns what ends sessions. It needs no master key.
func SessionEnder(c Config, s session.EndingStore) *session.Ender {
	return session.NewEnder(s, SessionConfig(c))
}

// SessionManager returns the manager of sessions.
func SessionManager(c Config, s session.Store, master seal.MasterKey) *session.Manager {
	return session.NewManager(s, master, SessionConfig(c))
}

// sessions builds the manager of sessions.
func (b *builder) sessions(context.Context) error {
	b.Sessions = SessionManager(b.config, b.Store, b.master)
	return nil
}
