package upstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/clock"
	"github.com/handstamp/handstamp/pkg/user"
)

// The reasons to refuse an identity. The provider did its part; these are our rules.
var (
	// ErrUserDisabled says that the user is kept out. To the user it is told as any other failed login.
	ErrUserDisabled = errors.New("user is disabled")
	// ErrIdentityTaken says that the identity that a user wants to add is another user's.
	ErrIdentityTaken = errors.New("identity is linked to another user")
	// ErrProviderLinked says that the user is linked to this provider by another identity. It is removed first.
	ErrProviderLinked = errors.New("user is linked to this provider already")
	// ErrAmbiguousEmail says that several users have the address, so that it tells nothing.
	ErrAmbiguousEmail = errors.New("more than one user has this address")
	// ErrLookalikeEmail says that the proven address belongs to nobody, but reads like another user's ("fußball" and
	// "fussball"), and no two users have such addresses. The other user can log in otherwise and add the identity then.
	ErrLookalikeEmail = errors.New("another user has an address that reads alike")
	// ErrEmailRequired says that a new user needs an address that the provider has verified, and there is none. The
	// user can log in otherwise and add the identity then.
	ErrEmailRequired = errors.New("provider gave no verified e-mail address")
	// ErrSignupClosed says that this way creates no new users.
	ErrSignupClosed = errors.New("new users are not accepted")
)

// Action is what to do with an identity.
type Action int

// The actions. The zero value does nothing.
const (
	Refuse Action = iota
	Login         // log the user in; nothing to write
	LinkTo        // link the identity to the user, who is logged in or has proven the same address
	Adopt         // remove the user's unproven credentials, then link
	Create        // make a new user with the identity
)

// String is the action's name in logs.
func (a Action) String() string {
	return [...]string{"refuse", "login", "link", "adopt", "create"}[a]
}

// Situation is everything that the decision depends on.
type Situation struct {
	Identity Identity
	// EmailTrusted: what this provider calls verified is proof (Provider.TrustsEmail).
	EmailTrusted bool
	// SignupAllowed: new users are accepted, by the server and by the provider's configuration.
	SignupAllowed bool
	// EmailRequired: a user must have a verified address.
	EmailRequired bool
	// UserID is the logged-in user who adds the identity; empty for a login.
	UserID string
	Known
}

// Decision is what follows.
type Decision struct {
	Action Action
	UserID string // of Login, LinkTo and Adopt
	// Email is the proven address, on which LinkTo (if not empty) and Adopt rest, as the user has it; or what a created user
	// gets.
	Email string
	Err   error // of Refuse: one of the reasons
}

// provenEmail is the address that the identity proves, empty if it proves none.
func (s Situation) provenEmail() string {
	if s.Identity.EmailVerified && s.EmailTrusted {
		return s.Identity.Email
	}
	return ""
}

// Decide says what an identity means. The link (provider, subject) comes first and an address second, and only a proven
// one. An unproven address matches no user, not even for a refusal, so that an attacker learns nothing by claiming an
// address.
func Decide(s Situation) Decision {
	switch {
	case s.Owner != nil:
		return decideOwned(s)
	case s.UserID != "":
		return decideAdded(s)
	case s.Identity.EmailFault != nil: // it is not known whom the address would have found
		return Decision{Err: s.Identity.EmailFault}
	case s.provenEmail() != "" && len(s.Candidates) > 0:
		return decideByEmail(s)
	case !s.SignupAllowed:
		return Decision{Err: ErrSignupClosed}
	case s.provenEmail() == "" && s.EmailRequired:
		return Decision{Err: ErrEmailRequired}
	}
	return Decision{Action: Create, Email: s.provenEmail()}
}

func decideOwned(s Situation) Decision {
	switch {
	case s.UserID != "" && s.UserID != s.Owner.UserID:
		return Decision{Err: ErrIdentityTaken}
	case s.Owner.Disabled:
		return Decision{Err: ErrUserDisabled}
	}
	return Decision{Action: Login, UserID: s.Owner.UserID}
}

// decideAdded: the session proves who asks, so the address may well be another than the user's here.
func decideAdded(s Situation) Decision {
	switch {
	case s.Self == nil || s.Self.Disabled:
		return Decision{Err: ErrUserDisabled}
	case s.Self.HasProvider:
		return Decision{Err: ErrProviderLinked}
	}
	return Decision{Action: LinkTo, UserID: s.UserID}
}

func decideByEmail(s Situation) Decision {
	candidate := s.Candidates[0]
	switch {
	case len(s.Candidates) > 1:
		return Decision{Err: ErrAmbiguousEmail}
	case !user.SameMailbox(candidate.Email, s.provenEmail()):
		return Decision{Err: ErrLookalikeEmail}
	case candidate.Disabled:
		return Decision{Err: ErrUserDisabled}
	case !candidate.EmailVerified:
		// The creator of this user never proved the address; it may have been made to wait for its owner. What they can
		// log in with must not survive.
		return Decision{Action: Adopt, UserID: candidate.UserID, Email: candidate.Email}
	case candidate.HasProvider:
		// The same address, another person at the provider: it was given to somebody else there.
		return Decision{Err: ErrProviderLinked}
	}
	return Decision{Action: LinkTo, UserID: candidate.UserID, Email: candidate.Email}
}

// Linker carries decisions out.
type Linker struct {
	Store Store
	// Clock tells the time; nil for the machine's.
	Clock *clock.Clock
	// SignupAllowed: the server accepts new users.
	SignupAllowed bool
	// EmailRequired: a user must have a verified address.
	EmailRequired bool
	// BlockFor is how long the sessions of an adopted user stay on the blocklist: as long as an access token that was minted
	// may be accepted anywhere, so its lifetime and the margin for clocks that differ.
	BlockFor time.Duration
}

// Resolve finds, links or makes the user whom the identity stands for. userID is that of the attempt: the logged-in
// user who adds the identity, or empty. The user may still not log in without what else is required (a second factor,
// for one).
//
// Errors: the reasons of this package (ErrUserDisabled, ErrIdentityTaken, ErrProviderLinked, ErrAmbiguousEmail,
// ErrEmailRequired, ErrSignupClosed); ErrConflict if others keep changing the same user; anything else is a storage
// failure.
func (l Linker) Resolve(ctx context.Context, p *Provider, id Identity, userID string, origin audit.Origin) (Decision, error) {
	const tries = 4
	for range tries {
		d, err := l.resolve(ctx, p, id, userID, origin)
		if !errors.Is(err, ErrConflict) {
			return d, err
		}
	}
	return Decision{}, fmt.Errorf("link identity: %w", ErrConflict)
}

// refused names the provider in a refusal.
func (p *Provider) refused(reason error) error {
	if _, ok := errors.AsType[*Error](reason); ok {
		return reason
	}
	return p.fail(reason, "find the user", nil)
}

func (l Linker) resolve(ctx context.Context, p *Provider, id Identity, userID string, origin audit.Origin) (Decision, error) {
	s := Situation{
		Identity: id, UserID: userID, EmailTrusted: p.TrustsEmail(),
		SignupAllowed: l.SignupAllowed && p.SignupAllowed(), EmailRequired: l.EmailRequired,
	}
	var err error
	s.Known, err = l.Store.Known(ctx, Question{Provider: id.Provider, Subject: id.Subject, Email: s.provenEmail(), UserID: userID})
	if err != nil {
		return Decision{}, fmt.Errorf("look up identity: %w", err)
	}
	d := Decide(s)
	now := l.Clock.Now()
	link := Link{UserID: d.UserID, Identity: id, At: now}
	switch d.Action {
	case Login:
	case Refuse:
		return d, p.refused(d.Err)
	case LinkTo:
		link.Event = audit.IdentityLinked(now, d.UserID, id.Provider, false, origin)
		err = l.Store.LinkIdentity(ctx, link, d.Email)
	case Adopt:
		link.Event = audit.IdentityLinked(now, d.UserID, id.Provider, true, origin)
		err = l.Store.AdoptUser(ctx, Adoption{Link: link, Email: d.Email, BlockUntil: now.Add(l.BlockFor)})
	case Create:
		d.UserID = user.NewID(now)
		link.UserID = d.UserID
		link.Event = audit.SignedUp(now, d.UserID, id.Provider, origin)
		u := user.User{ID: d.UserID, Email: d.Email, Name: id.Name, Profile: id.Profile, CreatedAt: now, UpdatedAt: now}
		if d.Email != "" {
			u.EmailVerifiedAt = now
		}
		err = l.Store.CreateUserWithIdentity(ctx, u, link)
	}
	if err != nil {
		return Decision{}, fmt.Errorf("%v identity: %w", d.Action, err)
	}
	return d, nil
}
