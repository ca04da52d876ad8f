package service

import (
	"context"
	"slices"

	"github.com/handstamp/handstamp/api/door"
)

// Reload puts into force what can be changed while the service runs: the look and the languages of the pages, the
// providers, who may sign up, the rule for passwords, and the trusted proxies. Everything is built anew beside what is in
// force, and takes its place at once: a request sees all of the old settings or all of the new. After an error the old ones
// stay. The rest of c is not looked at. Calls do not overlap.
func (v *Service) Reload(ctx context.Context, c Config) error {
	b := *v.builder
	b.config = b.config.with(c)
	proxies, err := door.ParseTrustedProxies(b.config.TrustedProxies)
	if err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{b.upstreams, b.hosted} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	b.passwords.MinLength = c.PasswordMinLength
	signup := *b.signup
	signup.Policy, signup.Closed = b.passwords, !c.Signup
	b.signup = &signup
	b.account = b.account.With(b.passwords)
	b.api.Pages, b.api.TrustedProxies = b.pages, proxies
	b.door = b.door.With(b.api)
	v.builder = &b
	b.looks.Store(b.pages)
	b.API.Replace(b.door, slices.Concat(b.public(), b.private())...)
	return nil
}

// with returns the settings with what Reload changes taken from others.
func (c Config) with(others Config) Config {
	c.Providers = others.Providers
	c.Signup, c.PasswordMinLength = others.Signup, others.PasswordMinLength
	c.TrustedProxies = others.TrustedProxies
	c.BrandName, c.BrandLogo, c.BrandLogoDark = others.BrandName, others.BrandLogo, others.BrandLogoDark
	c.BrandAccent, c.BrandAccentDark = others.BrandAccent, others.BrandAccentDark
	c.SupportURL, c.PrivacyURL, c.TermsURL = others.SupportURL, others.PrivacyURL, others.TermsURL
	c.LanguagesDir, c.Scopes = others.LanguagesDir, others.Scopes
	c.HomeURL, c.ChangePasswordURL = others.HomeURL, others.ChangePasswordURL
	return c
}
