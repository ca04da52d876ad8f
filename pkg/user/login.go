package user

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/clock"
	"github.com/handstamp/handstamp/pkg/password"
)

// ErrInvalidCredentials is the one answer to an unknown address, a wrong password, and a disabled user: telling them apart would
// tell a stranger who has an account.
var ErrInvalidCredentials = errors.New("e-mail address or password is wrong")

// AttemptError says when an address may try again. It matches ErrTooManyAttempts, and it is the same for addresses
// that nobody has.
type AttemptError struct{ RetryAfter time.Duration }

// Error implements error.
func (e *AttemptError) Error() string { return ErrTooManyAttempts.Error() }

// Is makes the error match ErrTooManyAttempts.
func (e *AttemptError) Is(target error) bool { return target == ErrTooManyAttempts }

// LoginStore is what a password login needs of a database.
type LoginStore interface {
	Store
	audit.Store
}

// Failures slow down an address from which many wrong passwords come, for one user or for many. Only failures count,
// so that many users behind one address are not held up.
type Failures interface {
	// Wait is how long an address has to wait before its next attempt; zero if not at all.
	Wait(ip string) time.Duration
	// Count counts a failure.
	Count(ip string)
}

// Authenticator checks passwords. Every check of a password goes through it, so that its limits hold everywhere.
type Authenticator struct {
	store    LoginStore
	hasher   *password.Hasher
	throttle Throttle
	failures Failures
	clock    *clock.Clock
}

// NewAuthenticator returns an authenticator over a store.
func NewAuthenticator(store LoginStore, hasher *password.Hasher, throttle Throttle, failures Failures,
	clock *clock.Clock) *Authenticator {
	return &Authenticator{
		store:    store,
		hasher:   hasher,
		throttle: throttle,
		failures: failures,
		clock:    clock,
	}
}

// Authenticate returns the user whose address and password these are. Every attempt that is not refused before costs
// one statement and one password hash, whether or not the address has a user; an address with too many failures costs
// neither. A hash of an older kind is replaced on the way. ErrInvalidCredentials, *AttemptError, password.ErrMalformed,
// password.ErrTooLong, *password.BusyError; any other error is a storage failure.
func (a *Authenticator) Authenticate(ctx context.Context, email, plain string, origin audit.Origin) (User, error) {
	if wait := a.failures.Wait(origin.IP); wait > 0 {
		return User{}, &AttemptError{RetryAfter: wait}
	}
	u, err := a.authenticate(ctx, email, plain, origin)
	if errors.Is(err, ErrInvalidCredentials) {
		a.failures.Count(origin.IP)
	}
	return u, err
}

func (a *Authenticator) authenticate(ctx context.Context, email, plain string, origin audit.Origin) (User, error) {
	now := a.clock.Now()
	attempt, err := a.store.BeginLogin(ctx, email, origin.IP, now, a.throttle)
	if err != nil {
		return User{}, fmt.Errorf("begin login: %w", err)
	}
	if attempt.RetryAfter > 0 {
		return User{}, &AttemptError{RetryAfter: attempt.RetryAfter}
	}
	ok, err := a.hasher.Verify(ctx, attempt.User.PasswordHash, plain)
	if err != nil && !errors.Is(err, password.ErrUnknownHash) {
		return User{}, err
	}
	u := attempt.User
	if reason := refusal(attempt, ok); reason != "" {
		if err := a.store.Record(ctx, audit.LoginFailed(now, u.ID, reason, origin)); err != nil {
			return User{}, fmt.Errorf("record failed login: %w", err)
		}
		return User{}, ErrInvalidCredentials
	}
	return a.rehash(ctx, u, plain)
}

// refusal is why an attempt fails, for the audit log only; empty if it succeeds.
func refusal(attempt Attempt, ok bool) string {
	switch {
	case !attempt.Found:
		return "unknown_user"
	case !ok:
		return "wrong_password"
	case attempt.User.Disabled():
		return "user_disabled"
	}
	return ""
}

// rehash replaces a weaker hash of the password that was just verified, if the user still has it. Being too busy for that is no
// reason to refuse the login.
func (a *Authenticator) rehash(ctx context.Context, u User, plain string) (User, error) {
	if !a.hasher.NeedsRehash(u.PasswordHash) {
		return u, nil
	}
	stronger, err := a.hasher.Hash(ctx, plain)
	if err != nil {
		return u, nil //nolint:nilerr // the next login tries again
	}
	err = a.store.ReplacePasswordHash(ctx, u.ID, u.PasswordHash, stronger, a.clock.Now())
	if errors.Is(err, ErrChanged) {
		return User{}, ErrInvalidCredentials // the password was changed meanwhile, so this one is the old one
	}
	if err != nil {
		return User{}, fmt.Errorf("replace password hash: %w", err)
	}
	u.PasswordHash = stronger
	return u, nil
}
