package service

import (
	"context"

	"github.com/handstamp/handstamp/pkg/egress"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/sharedsignal"
)

// delivery builds what tells others that sessions have ended.
func (b *builder) delivery(context.Context) error {
	b.sealer = sharedsignal.NewSealer(b.master)
	b.logouts = oauth.NewLogoutSender(b.config.Issuer, b.Store, b.Minter, egress.New(logoutCalls()), b.log)
	b.signals = sharedsignal.NewSender(b.config.Issuer, b.Store, b.Minter, b.sealer, egress.New(signalCalls(b.config)), b.log)
	return nil
}
