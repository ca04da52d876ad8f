package user

import (
	"context"
	"errors"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/clock"
	"github.com/handstamp/handstamp/pkg/password"
)

// ErrSignupClosed says that nobody may sign up. Ask the operator for an account.
var ErrSignupClosed = errors.New("signing up is closed")

// SignupStore is what signing up needs of a database.
type SignupStore interface {
	// CreateUser adds a user together with its event. ErrEmailTaken if the address is taken.
	CreateUser(ctx context.Context, u User, e audit.Event) error
}

// Signup makes users who sign up by themselves.
type Signup struct {
	Store  SignupStore
	Hasher *password.Hasher
	Policy password.Policy
	Closed bool         // nobody may
	Clock  *clock.Clock // nil for the machine's
	Gate   *Gate
}

// Create makes a user with a password. The address and the name come from ParseEmail and ParseName. ErrSignupClosed,
// ErrEmailTaken, what password.Policy.Check fails with, *password.BusyError, *AttemptError; any other error is a storage failure.
func (s *Signup) Create(ctx context.Context, email, name, plain string, origin audit.Origin) (User, error) {
	return s.prepared(ctx, email, name, plain, origin, func(u User) error {
		return s.Store.CreateUser(ctx, u, audit.SignedUp(u.CreatedAt, u.ID, "", origin))
	})
}

// Prepare does what Create does but stores nothing, for a user whose address has to be proven first. Create's errors but
// ErrEmailTaken.
func (s *Signup) Prepare(ctx context.Context, email, name, plain string, origin audit.Origin) (User, error) {
	return s.prepared(ctx, email, name, plain, origin, func(User) error { return nil })
}

func (s *Signup) prepared(ctx context.Context, email, name, plain string, origin audit.Origin, store func(u User) error) (
	User, error) {
	if s.Closed {
		return User{}, ErrSignupClosed
	}
	if err := s.Policy.Check(plain, email, name); err != nil {
		return User{}, err
	}
	var u User
	err := s.Gate.with(ctx, s.Hasher, password.ForSignup, origin.IP, s.Gate.Signups, func(place *password.Place) error {
		hash, err := place.Hash(ctx, plain)
		if err != nil {
			if s.Gate.Signups != nil {
				s.Gate.Signups.Return(origin.IP)
			}
			return err
		}
		now := s.Clock.Now()
		u = User{ID: NewID(now), Email: email, Name: name, PasswordHash: hash, CreatedAt: now, UpdatedAt: now}
		return store(u)
	})
	return u, err
}
