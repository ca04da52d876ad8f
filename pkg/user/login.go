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

// refusedError is ErrInvalidCredentials, and for the log the user whose address was tried.
type refusedError struct{ userID string }

func (*refusedError) Error() string { return ErrInvalidCredentials.Error() }

func (*refusedError) Unwrap() error { return ErrInvalidCredentials }

// Refused returns the ID of the user whose login was refused, for the operator's log; empty if no user has the address. It must
// not reach the caller.
func Refused(err error) string {
	if r, ok := errors.AsType[*refusedError](err); ok {
		return r.userID
	}
	return ""
}

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

// Credentials are what somebody logs in with.
type Credentials struct {
	Email    string
	Password string
	Device   Device         // zero if it is not known
	For      password.Share // that the check belongs to
}

// Authenticated is a user whose password was checked a moment ago.
type Authenticated struct {
	User
	// Refund is for the store method that carries out what the password was checked for: a login that succeeds gives its attempt
	// back.
	Refund Refund
}

// Authenticator checks passwords. Every check of a password goes through it, so that its limits hold everywhere.
type Authenticator struct {
	store    LoginStore
	hasher   *password.Hasher
	throttle Throttle
	gate     *Gate
	clock    *clock.Clock
}

// NewAuthenticator returns an authenticator over a store.
func NewAuthenticator(store LoginStore, hasher *password.Hasher, throttle Throttle, gate *Gate,
	clock *clock.Clock) *Authenticator {
	return &Authenticator{
		store:    store,
		hasher:   hasher,
		throttle: throttle,
		gate:     gate,
		clock:    clock,
	}
}

// Authenticate returns the user whose address and password these are. Every attempt that is not refused before costs
// one statement and one password hash, whether or not the address has a user; an address with too many failures costs
// neither, and neither does an attempt for which the hasher has no room. A hash of an older kind is replaced on the way.
// ErrInvalidCredentials, *AttemptError, password.ErrMalformed, password.ErrTooLong, *password.BusyError; any other error is a
// storage failure.
func (a *Authenticator) Authenticate(ctx context.Context, c Credentials, origin audit.Origin) (u Authenticated, err error) {
	if err := password.Validate(c.Password); err != nil {
		return Authenticated{}, err
	}
	err = a.gate.with(ctx, a.hasher, c.For, origin.IP, a.gate.Failures, func(place *password.Place) (err error) {
		var wrong bool
		u, wrong, err = a.authenticate(ctx, place, c, origin)
		switch {
		case wrong:
			if a.gate.Failed != nil {
				a.gate.Failed()
			}
		case a.gate.Failures != nil:
			a.gate.Failures.Return(origin.IP)
		}
		return err
	})
	return u, err
}

// evaluationTimeout bounds what an attempt costs once it is counted.
const evaluationTimeout = 10 * time.Second

// authenticate is Authenticate behind the gate. wrong says that the password was evaluated and is not the user's, also if that
// cannot be recorded.
func (a *Authenticator) authenticate(ctx context.Context, place *password.Place, c Credentials,
	origin audit.Origin) (u Authenticated, wrong bool, err error) {
	now := a.clock.Now()
	attempt, err := a.store.BeginLogin(ctx, Try{Email: c.Email, IP: origin.IP, Device: c.Device, At: now}, a.throttle)
	if err != nil {
		return Authenticated{}, false, fmt.Errorf("begin login: %w", err)
	}
	if attempt.RetryAfter > 0 {
		return Authenticated{}, false, &AttemptError{RetryAfter: attempt.RetryAfter}
	}
	// The attempt is counted, so it is evaluated, and a failure is recorded, also if the caller has gone: one who hangs up in time
	// must not guess unseen.
	staying, cancel := context.WithTimeout(context.WithoutCancel(ctx), evaluationTimeout)
	defer cancel()
	ok, err := place.Verify(staying, attempt.User.PasswordHash, c.Password)
	if err != nil && !errors.Is(err, password.ErrUnknownHash) {
		return Authenticated{}, false, err
	}
	if reason := refusal(attempt, ok); reason != "" {
		if err := a.store.Record(staying, audit.LoginFailed(now, attempt.User.ID, reason, origin)); err != nil {
			return Authenticated{}, true, fmt.Errorf("record failed login: %w", err)
		}
		return Authenticated{}, true, &refusedError{attempt.User.ID}
	}
	known, err := a.rehash(ctx, place, attempt.User, c.Password)
	if err != nil {
		return Authenticated{}, false, err
	}
	return Authenticated{User: known, Refund: attempt.Refund}, false, nil
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

// rehash replaces a weaker hash of the password that was just verified, if the user still has it. A caller who leaves meanwhile
// leaves the old one.
func (a *Authenticator) rehash(ctx context.Context, place *password.Place, u User, plain string) (User, error) {
	if !a.hasher.NeedsRehash(u.PasswordHash) {
		return u, nil
	}
	stronger, err := place.Hash(ctx, plain)
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
