package service

import (
	"context"

	"github.com/handstamp/handstamp/api/signin"
	"github.com/handstamp/handstamp/pkg/account"
	"github.com/handstamp/handstamp/pkg/limit"
)

// Verification is what the setting says, or what is in force where nothing is set.
func (c Config) Verification() account.Verification {
	switch {
	case c.EmailVerification != "":
		return account.Verification(c.EmailVerification)
	case c.SMTPURL != "":
		return account.Optional
	}
	return account.Off
}

// recovery builds what proves addresses and replaces passwords by mail.
func (b *builder) recovery(context.Context) error {
	b.account = account.New(account.Config{
		Store:     b.Store,
		Mails:     b.Mails,
		Passwords: b.passwords,
		Hasher:    b.Hasher,
		Sessions:  b.Sessions.Ender,
		Askers:    limit.NewAddresses(limit.Rate{Burst: b.config.MailIPLimit, Every: b.config.MailIPEvery}),
		Clock:     b.config.Clock,

		Verification: b.config.Verification(),
		ResetPath:    signin.ResetPath,
		VerifyPath:   signin.VerifyPath,
	})
	return nil
}
