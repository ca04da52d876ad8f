package service

import (
	"context"

	"github.com/handstamp/handstamp/pkg/session"
)

// sessionConfig are the lifetimes of sessions and access tokens.
func sessionConfig(c Config) session.Config {
	return session.Config{
		IdleLifetime:        c.RefreshIdleLifetime,
		Lifetime:            c.RefreshLifetime,
		Grace:               c.RefreshGrace,
		Limit:               c.SessionLimit,
		AccessTokenLifetime: c.AccessTokenLifetime,
		ClockMargin:         clockMargin,
		Clock:               c.Clock,
		Mail:                notices(c),
	}
}

// SessionEnder returns what ends sessions. It needs no master key.
func SessionEnder(c Config, s session.EndingStore) *session.Ender {
	return session.NewEnder(s, sessionConfig(c))
}

// sessions builds the manager of sessions.
func (b *builder) sessions(context.Context) error {
	c := sessionConfig(b.config)
	c.Refreshed = func(o session.Outcome) { b.figures.refreshes.WithLabelValues(string(o)).Inc() }
	b.Sessions = session.NewManager(b.Store, b.master, c)
	return nil
}
