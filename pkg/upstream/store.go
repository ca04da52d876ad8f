package upstream

import (
	"context"
	"errors"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/user"
)

// Sentinels of the store. Any other error of a Store is a storage failure: its outcome is unknown, and the caller answers
// that it can be tried again.
var (
	// ErrNotFound says that there is no such attempt (any more), identity or stored token.
	ErrNotFound = errors.New("not found")
	// ErrReplayed says that an ID token has been used for a login before.
	ErrReplayed = errors.New("ID token was used before")
	// ErrConflict says that another request was faster: the identity is linked now, the address is taken, or the user or
	// the row is no longer as it was read. Nothing was written; read and decide again.
	ErrConflict = errors.New("changed meanwhile")
	// ErrLastCredential says that the identity is the user's only way in; it stays.
	ErrLastCredential = errors.New("the last way to log in can't be removed")
)

// Person is what a decision needs to know of a user.
type Person struct {
	UserID        string
	Email         string // as the user has it; empty for none
	EmailVerified bool
	Disabled      bool
	// HasProvider: the user is linked to the provider in question by some identity.
	HasProvider bool
}

// Question asks who an identity could be of.
type Question struct {
	Provider string
	Subject  string
	Email    string // empty to find nobody by address
	UserID   string // the user who adds the identity; empty for nobody
}

// Known answers a Question.
type Known struct {
	Owner      *Person  // the user to whom (Provider, Subject) is linked; nil if none
	Candidates []Person // the users who have Email, compared by user.EmailKey
	Self       *Person  // the user with UserID; nil if there is none (any more)
}

// Link is an identity to be linked to a user.
type Link struct {
	UserID   string
	Identity Identity // Provider, Subject, Email (as the provider gave it, for the user to recognize the identity by)
	At       time.Time
	Event    audit.Event // committed together with the link
}

// Adoption gives a user whose address was never proven to the person who has now proven it.
type Adoption struct {
	Link
	Email      string    // the user's address, now proven; must still be the user's to the letter, and unverified
	BlockUntil time.Time // no access token minted until now is accepted after this
}

// LinkedIdentity is one of a user's identities.
type LinkedIdentity struct {
	Provider    string
	Subject     string
	Email       string // as the provider gave it when it was linked; empty if none
	LinkedAt    time.Time
	HasTokens   bool // provider tokens are kept
	NeedsReauth bool // the provider no longer honours them
}

// Removal takes an identity from a user.
type Removal struct {
	UserID   string
	Provider string
	// Providers are the IDs in the configuration: an identity of any other is not a way in.
	Providers []string
	Event     audit.Event
}

// TokenRow is an identity's stored provider tokens. Version becomes one more with every write.
type TokenRow struct {
	Provider    string
	Subject     string
	Sealed      []byte
	NeedsReauth bool
	LeasedUntil time.Time // zero if nobody refreshes the tokens
	Version     int64
}

// Store is what the feature needs of a database. Each method is one transaction.
type Store interface {
	LoginStore
	IdentityStore
	TokenStore
}

// LoginStore is what logins at providers need of a database.
type LoginStore interface {
	// SaveAttempt keeps an attempt until it is taken or swept.
	SaveAttempt(ctx context.Context, a Attempt) error
	// TakeAttempt removes and returns the attempt with a state hash, so that of all who ask one gets it. An attempt that
	// has expired at a time is not returned. ErrNotFound.
	TakeAttempt(ctx context.Context, stateHash [32]byte, at time.Time) (Attempt, error)
	// UseIDToken remembers that an ID token was used, by its SHA-256, until it expires. ErrReplayed.
	UseIDToken(ctx context.Context, tokenHash [32]byte, expiresAt time.Time) error
	// SweepUpstream deletes at most limit attempts and used ID tokens that expired before a time, and says how many.
	SweepUpstream(ctx context.Context, before time.Time, limit int) (int, error)
}

// IdentityStore is what identities need of a database.
type IdentityStore interface {
	// Known answers the question in one snapshot.
	Known(ctx context.Context, q Question) (Known, error)
	// LinkIdentity adds an identity to a user. If verifiedEmail is not empty, it must still be the user's address to the
	// letter, and verified. ErrConflict if not, if the identity is linked already, if the user is linked to the provider by
	// another, or is gone or disabled.
	LinkIdentity(ctx context.Context, l Link, verifiedEmail string) error
	// AdoptUser removes every credential that the user could have without having proven the address: password, other
	// identities with their tokens, second factors, recovery codes, pending changes and mailed links. It ends all
	// sessions and blocks their sids, marks the address as verified at Link.At, sets name and attributes to the identity's, and
	// links the identity. ErrConflict if Email is not the user's unverified address any more, if the identity is linked
	// already, or if the user is gone or disabled.
	AdoptUser(ctx context.Context, a Adoption) error
	// CreateUserWithIdentity adds a user and the identity. ErrConflict if the address is taken or the identity linked.
	CreateUserWithIdentity(ctx context.Context, u user.User, l Link) error
	// Identities lists a user's, by provider.
	Identities(ctx context.Context, userID string) ([]LinkedIdentity, error)
	// RemoveIdentity removes one, with its tokens, if a password or an identity at one of Removal.Providers remains.
	// ErrNotFound, ErrLastCredential.
	RemoveIdentity(ctx context.Context, r Removal) error
}

// TokenStore is what kept tokens of providers need of a database.
type TokenStore interface {
	// SaveTokens stores the tokens of a linked identity after a login: no lease, no need to log in again, next version.
	// ErrNotFound.
	SaveTokens(ctx context.Context, provider, subject string, sealed []byte) error
	// Tokens reads the tokens of a user's identity. ErrNotFound if there is no identity or nothing is kept for it.
	Tokens(ctx context.Context, userID, provider string) (TokenRow, error)
	// LeaseTokens reserves the refresh for the caller until a time, if the row has the version and is not leased at
	// another; it returns the next version. ErrConflict.
	LeaseTokens(ctx context.Context, row TokenRow, at, until time.Time) (version int64, err error)
	// FinishTokens writes Sealed and NeedsReauth and ends the lease, if the row still has the version. It makes the next
	// version, so that who read the row during the lease can't lease the old tokens after it. ErrConflict.
	FinishTokens(ctx context.Context, row TokenRow) error
}
