package service

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/pkg/limit"
	"github.com/handstamp/handstamp/pkg/password"
	"github.com/handstamp/handstamp/pkg/user"
)

// NewHasher returns the hasher of passwords.
func NewHasher(c Config) (*password.Hasher, error) {
	//nolint:gosec // bounded by the configuration
	params := password.Params{Memory: uint32(c.Argon2Memory), Time: uint32(c.Argon2Time), Threads: uint8(c.Argon2Threads)}
	return password.NewHasher(password.Config{
		Params:      params,
		Concurrency: c.PasswordConcurrency,
		Queue:       c.PasswordQueue,
	})
}

// accounts builds what checks passwords and makes users.
func (b *builder) accounts(context.Context) (err error) {
	c := b.config
	if b.Hasher, err = NewHasher(c); err != nil {
		return err
	}
	b.passwords = password.Policy{MinLength: c.PasswordMinLength}
	b.Figures = door.NewMetrics(b.registry)
	failures := countedFailures{
		Addresses: limit.NewAddresses(limit.Rate{Burst: c.LoginIPFailures, Every: c.LoginIPFailureEvery}),
		counter:   b.Figures.LoginFailures,
	}
	b.authenticator = user.NewAuthenticator(b.Store, b.Hasher, user.Throttle{Burst: c.LoginAttempts, Every: c.LoginAttemptEvery},
		failures)
	b.signup = &user.Signup{
		Store:  b.Store,
		Hasher: b.Hasher,
		Policy: b.passwords,
		Closed: !c.Signup,
	}
	return nil
}

// countedFailures are the wrong passwords from each address, and a figure of them all.
type countedFailures struct {
	*limit.Addresses
	counter prometheus.Counter
}

// Count implements user.Failures.
func (f countedFailures) Count(ip string) {
	f.counter.Inc()
	f.Take(ip)
}
