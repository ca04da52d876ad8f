// Package factor holds what users show besides a password: authenticators, whose codes last half a minute (TOTP, RFC 6238), and
// recovery codes for the day on which the authenticator is lost.
//
// A login that has shown one factor only, of a user who has a second one, is pending. It becomes a token of [Logins],
// which the caller sends back together with a code, and which is worth nothing else. [Manager.Check] counts the try,
// evaluates the code, and returns what the store uses up in the transaction in which the login succeeds:
//
//	pending, err := logins.Open(factor.ForAPI, token, now)
//	use, err := manager.Check(ctx, pending, factor.MethodTOTP, code, origin)
//	login.Factor = use // of session.Login or oauth.Proof
package factor

import (
	"context"
	"errors"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/id"
	"github.com/handstamp/handstamp/pkg/mail"
)

// Kind is what a factor is. The texts are stable.
type Kind string

// KindTOTP is an authenticator: a program or a device that shows codes.
const KindTOTP Kind = "totp"

// Method is a way to show a second factor. The texts are stable.
type Method string

// The methods.
const (
	MethodTOTP     Method = "totp"
	MethodRecovery Method = "recovery"
)

// Sentinels of the feature.
var (
	// ErrNotFound says that the user has no such factor, or no longer.
	ErrNotFound = errors.New("factor not found")
	// ErrTooMany says that the user has as many factors as one may have: remove one first.
	ErrTooMany = errors.New("there are too many factors")
	// ErrCode says that a code is wrong.
	ErrCode = errors.New("the code is wrong")
	// ErrLogin says that a pending login is none, is over, or was completed: log in again.
	ErrLogin = errors.New("the login is over")
	// ErrName says that a name is empty, too long, or holds control characters.
	ErrName = errors.New("a name is 1 to 100 characters without control characters")
	// ErrMethod says that there is no such method.
	ErrMethod = errors.New("there is no such method")
)

// MaxFactors is how many factors a user may have.
const MaxFactors = 10

// The bound on guessing: tries of one user at most within a time, whatever they are for and wherever they come from.
const (
	MaxTries  = 5
	TriesWait = 15 * time.Minute
)

// Memory is how long tries, completed logins and factors that nobody confirms are kept: longer than any of them counts.
const Memory = time.Hour

// Factor is one row.
type Factor struct {
	ID          string
	UserID      string
	Kind        Kind
	Name        string
	Secret      []byte // sealed
	LastStep    int64  // the newest step whose code was used
	CreatedAt   time.Time
	ConfirmedAt time.Time // zero until a first code has shown that the authenticator has the secret
	LastUsedAt  time.Time // zero until a login
}

// NewID makes the ID of a factor.
func NewID(at time.Time) string { return "fac_" + id.New(at).String() }

// Confirmation makes a factor count.
type Confirmation struct {
	UserID, FactorID string
	Step             int64 // of the code, which is used up
	At               time.Time
	// SessionID names the session in which it was shown, which from now on has the AMR and the ACR.
	SessionID [16]byte
	AMR       []string
	ACR       string
	// RecoveryCodes are hashes of a first set. They are kept only if the user has none left.
	RecoveryCodes [][32]byte
	Event         audit.Event
	Mail          mail.Letter
}

// Removal takes a factor away; with the last one the recovery codes go.
type Removal struct {
	UserID, FactorID string
	Event            audit.Event
	Mail             mail.Letter
}

// Try is a try that was counted, or refused.
type Try struct {
	ID         int64
	RetryAfter time.Duration // above zero: the try is refused, and nothing may be evaluated
	Factors    []Factor      // that are confirmed
}

// Store is what the feature needs of a database. Each method is one transaction.
type Store interface {
	// Factors lists a user's factors, also those that are not confirmed, the oldest first, and counts the recovery codes.
	Factors(ctx context.Context, userID string) (list []Factor, recoveryCodes int, err error)
	// AddFactor adds a factor that is not confirmed, in place of any other that is not. ErrTooMany if the user has as many as limit
	// that are; user.ErrNotFound.
	AddFactor(ctx context.Context, f Factor, limit int) error
	// ConfirmFactor confirms a factor that is not, and moves its last step. It says whether the recovery codes were kept.
	// ErrNotFound if there is none that waits for it.
	ConfirmFactor(ctx context.Context, c Confirmation) (kept bool, err error)
	// RenameFactor gives a confirmed factor another name. ErrNotFound.
	RenameFactor(ctx context.Context, userID, id, name string) error
	// RemoveFactor removes a factor. One that was not confirmed leaves neither event nor mail. ErrNotFound.
	RemoveFactor(ctx context.Context, r Removal) error
	// ReplaceRecoveryCodes puts hashes in place of all that the user has. ErrNotFound if the user has no confirmed factor.
	ReplaceRecoveryCodes(ctx context.Context, userID string, hashes [][32]byte, e audit.Event) error
	// BeginFactorTry counts a try of a user at a time, unless there were limit within the window before it, and reads what it is
	// evaluated against. It is committed before anything is evaluated.
	BeginFactorTry(ctx context.Context, userID string, at time.Time, limit int, window time.Duration) (Try, error)
	// SweepFactors deletes at most limit tries that were made before a time, completed logins that were over before it, and
	// factors that were added before it and not confirmed, and says how many.
	SweepFactors(ctx context.Context, before time.Time, limit int) (int, error)
}
