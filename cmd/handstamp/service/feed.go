package service

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/statuslist"
)

// statusLists builds the status lists, if they are on. It comes after the clients, which have lists of their own.
func (b *builder) statusLists(context.Context) (err error) {
	if !b.config.StatusList {
		return nil
	}
	b.statuses, err = statuslist.New(statuslist.Options{
		Issuer:   b.config.Issuer,
		Store:    b.Store,
		Minter:   b.Minter,
		Key:      b.master.Derive(seal.StatusIndex, 16),
		Clients:  b.Clients.StatusClients,
		Lifetime: b.config.AccessTokenLifetime,
		Clock:    b.config.Clock,
	})
	return err
}

// blocklist reads the blocklist, and registers how many follow it.
func (b *builder) blocklist(ctx context.Context) error {
	b.Followers = prometheus.NewGauge(prometheus.GaugeOpts{Name: "handstamp_blocklist_followers", Help: "Open blocklist streams."})
	b.registry.MustRegister(b.Followers)
	b.Blocklist = blocklist.NewList(b.Store, b.config.Clock.Now, b.log)
	return b.Blocklist.Sync(ctx)
}
