package service

import (
	"context"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/pkg/password"
	"github.com/handstamp/handstamp/pkg/user"
)

// NewHasher returns the hasher of passwords.
func NewHasher(c Config) (*password.Hasher, error) {
	return password.NewHasher(password.Config{
		Params:      password.Params{Memory: uint32(c.Argon2Memory), Time: uint32(c.Argon2Time), Threads: uint8(c.Argon2Threads)}, //nolint:gosec // bounded by the configuration
		Concurrency: c.PasswordConcurrency, Queue: c.PasswordQueue,
	})
}

// accounts builds what checks passwords and makes users.
func (b *builder) accounts(context.Context) (err error) {
	c := b.config
	if b.Hasher, err = NewHasher(c); err != nil {
		return err
	}
	b.passwords = password.Policy{MinLength: c.PasswordMinLength}
	b.authenticator = user.NewAuthenticator(b.Store, b.Hasher, user.Throttle{Burst: c.LoginAttempts, Every: c.LoginAttemptEvery})
	b.signup = &user.Signup{
		Store:  b.Store,
		Hasher: b.Hasher,
		Policy: b.passwords,
	}
	b.Figures = door.NewMetrics(b.registry)
	b.failures = door.NewFailureLimiter(door.Rate{Burst: c.LoginIPFailures, Every: c.LoginIPFailureEvery}, b.Figures.LoginFailures)
	return nil
}
