package service

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/handstamp/handstamp/pkg/factor"
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
	failures := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "handstamp_login_failures_total",
		Help: "Logins refused for an unknown address or a wrong password. Alert on a rise: an attacker is guessing.",
	})
	b.registry.MustRegister(failures)
	gate := passwordGate(c, b.Hasher.Places())
	gate.Failed = failures.Inc
	throttle := user.Throttle{Burst: c.LoginAttempts, Every: c.LoginAttemptEvery}
	b.authenticator = user.NewAuthenticator(b.Store, b.Hasher, throttle, gate, c.Clock)
	b.signup = &user.Signup{
		Store:  b.Store,
		Hasher: b.Hasher,
		Policy: b.passwords,
		Closed: !c.Signup,
		Clock:  c.Clock,
		Gate:   gate,
	}
	b.devices = user.NewDevices(b.master)
	b.factors = factor.NewManager(b.Store, b.master, factor.Config{Issuer: c.BrandName, Clock: c.Clock, Mail: notices(c)})
	return nil
}

// passwordGate is what stands before the hasher.
func passwordGate(c Config, places int) *user.Gate {
	each := c.LoginIPConcurrency
	if each == 0 {
		each = max(1, places/2)
	}
	return &user.Gate{
		Failures: limit.NewAddresses(limit.Rate{Burst: c.LoginIPFailures, Every: c.LoginIPFailureEvery}),
		Signups:  limit.NewAddresses(limit.Rate{Burst: c.SignupIPLimit, Every: c.SignupIPEvery}),
		Refusals: limit.NewAddresses(limit.Rate{Burst: c.BusyIPLimit, Every: c.BusyIPEvery}),
		InFlight: limit.NewInFlight(0, each),
		Pacer:    limit.NewPacer(c.RefusalHold, c.RefusalsHeld),
	}
}
