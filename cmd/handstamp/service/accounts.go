package service

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

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
	failures := countedFailures{
		Addresses: limit.NewAddresses(limit.Rate{Burst: c.LoginIPFailures, Every: c.LoginIPFailureEvery}),
		counter: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "handstamp_login_failures_total",
			Help: "Logins refused for an unknown address or a wrong password. Alert on a rise: an attacker is guessing.",
		}),
	}
	b.registry.MustRegister(failures.counter)
	throttle := user.Throttle{Burst: c.LoginAttempts, Every: c.LoginAttemptEvery}
	b.authenticator = user.NewAuthenticator(b.Store, b.Hasher, throttle, failures, c.Clock)
	b.signup = &user.Signup{
		Store:  b.Store,
		Hasher: b.Hasher,
		Policy: b.passwords,
		Closed: !c.Signup,
		Clock:  c.Clock,
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
