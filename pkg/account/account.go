// Package account lets people back in who have lost their password, and lets them show that an address is theirs.
//
// A mail brings a proof: a link and a code. The link's token has 130 random bits, works once, for one purpose and one user, and
// not any more once the user has another password or another address. The code has 8 digits. It works only together with the
// secret of the flow in which it was asked for, and for five tries, which are counted before they are evaluated. The database
// knows neither.
package account

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/mail"
	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/user"
)

// Sentinels of the feature. Any other error of a Store is a storage failure: its outcome is unknown, and the caller answers that
// it can be tried again.
var (
	// ErrOff says that the service sends no mail, so that nothing can be proven by one.
	ErrOff = errors.New("the service sends no mail")
	// ErrLink says that the token of a link was used, has expired, is damaged, or is void because the user has another password or
	// address by now. Ask for another mail.
	ErrLink = errors.New("the link is used up, expired or damaged")
	// ErrCode says that a code is wrong, was tried too often, has expired, or belongs to another flow. Type it again, or ask for
	// another one.
	ErrCode = errors.New("the code is wrong, expired or tried too often")
)

// Purpose is what a proof is good for. The texts are stable.
type Purpose string

// The purposes.
const (
	Reset  Purpose = "reset"  // another password
	Verify Purpose = "verify" // the address is proven; with Data, the user who has signed up begins to exist
)

// Lifetime is how long a proof can be used.
func (p Purpose) Lifetime() time.Duration {
	switch p {
	case Reset:
		return 30 * time.Minute
	case Verify:
		return 24 * time.Hour
	}
	return 0
}

// MaxTries is how often a code may be tried, right or wrong.
const MaxTries = 5

// Hash is the SHA-256 of a secret, or a code keyed with one; the database has no other form of it.
type Hash [sha256.Size]byte

// Proof is a row: what was sent to an address, and what it stands for.
type Proof struct {
	Hash       Hash // of the token in the link
	Flow       Hash // of the secret of the flow that asked
	CodeHash   Hash
	Purpose    Purpose
	UserID     string // empty if the address has no user
	Email      string // the user's, when the proof was made
	Credential user.Credential
	Data       string
	CreatedAt  time.Time
	ExpiresAt  time.Time
}

// Asked is a proof that somebody has asked for.
type Asked struct {
	Proof
	Letter mail.Letter // that brings it
	Event  audit.Event
}

// Found is a proof that is shown again, with its user as read in the same statement.
type Found struct {
	Proof
	User user.User
}

// Store is what the feature needs of a database.
type Store interface {
	// AskProof writes a proof together with its letter and its event, and removes the user's older proofs of the same purpose: those
	// with data if it has some, or else those without. If the letter is beyond its budget nothing is written, so that the older one
	// stays good. It does the same work without a user.
	AskProof(ctx context.Context, a Asked) error
	// ProofByLink finds a proof of a purpose by its token at a time, and changes nothing. ErrLink.
	ProofByLink(ctx context.Context, hash Hash, purpose Purpose, at time.Time) (Found, error)
	// TryCode finds a proof of a purpose by its flow at a time, and counts one try of its code, which is durable before the code is
	// compared. ErrCode if there is none, or MaxTries were counted.
	TryCode(ctx context.Context, flow Hash, purpose Purpose, at time.Time) (Found, error)
	// ResetPassword uses a proof up and does what session.Store.SetPassword does, if the user's password and address are still
	// those of f.User and the user is enabled. It proves the address. If it was not proven before, the user's identities are
	// removed: somebody else may have linked them. ErrLink.
	ResetPassword(ctx context.Context, f Found, replacement string, e session.Ending) ([]session.ID, error)
	// VerifyEmail uses a proof up and notes that its user's address is proven, if it is still the same, and the user is enabled.
	// ErrLink.
	VerifyEmail(ctx context.Context, f Found, e audit.Event) error
	// FinishSignup uses a proof without a user up and creates the user. ErrLink, also if the address has got a user meanwhile.
	FinishSignup(ctx context.Context, f Found, u user.User, e audit.Event) error
	// SweepProofs deletes at most limit proofs that have expired before a time, and says how many.
	SweepProofs(ctx context.Context, before time.Time, limit int) (int, error)
}

// hashOf is how the database knows a secret.
func hashOf(secret seal.Secret) Hash { return sha256.Sum256([]byte(secret)) }

// codeHash is how the database knows a code: only the holder of the flow's secret can compute it, so that the database alone
// does not reveal the few digits.
func codeHash(flow seal.Secret, code string) (h Hash) {
	mac := hmac.New(sha256.New, []byte(flow))
	mac.Write([]byte(code))
	return Hash(mac.Sum(nil))
}

// codeDigits is the length of a code.
const codeDigits = 8

// newCode makes a code.
func newCode() (seal.Secret, error) {
	n, err := rand.Int(rand.Reader, big.NewInt(100_000_000))
	if err != nil {
		return "", fmt.Errorf("make a code: %w", err)
	}
	return seal.Secret(fmt.Sprintf("%0*d", codeDigits, n)), nil
}

// parseCode returns the digits of a code as people type and copy it: with spaces and hyphens, and also in the digits of other
// scripts that keyboards and input methods make of them. Empty if it is none.
func parseCode(text string) string {
	var digits strings.Builder
	for _, r := range text {
		switch {
		case r >= '0' && r <= '9':
			digits.WriteRune(r)
		case r >= '０' && r <= '９': // full width
			digits.WriteRune('0' + r - '０')
		case r >= '٠' && r <= '٩': // Arabic-Indic
			digits.WriteRune('0' + r - '٠')
		case r >= '۰' && r <= '۹': // extended Arabic-Indic
			digits.WriteRune('0' + r - '۰')
		case r == ' ' || r == '-' || r == '\u00A0' || r == '\u202F' || r == '\t':
		default:
			return ""
		}
		if digits.Len() > codeDigits {
			return ""
		}
	}
	if digits.Len() != codeDigits {
		return ""
	}
	return digits.String()
}

// secrets are what a mail brings, and the secret that whoever has asked keeps.
type secrets struct{ token, code, flow seal.Secret }

// newProof makes a proof for a user, or for nobody, and its secrets.
func newProof(p Purpose, u user.User, at time.Time) (Proof, secrets, error) {
	code, err := newCode()
	if err != nil {
		return Proof{}, secrets{}, err
	}
	s := secrets{token: seal.Secret(rand.Text()), code: code, flow: seal.Secret(rand.Text())}
	return Proof{
		Hash:       hashOf(s.token),
		Flow:       hashOf(s.flow),
		CodeHash:   codeHash(s.flow, string(s.code)),
		Purpose:    p,
		UserID:     u.ID,
		Email:      u.Email,
		Credential: user.CredentialOf(u.PasswordHash),
		CreatedAt:  at,
		ExpiresAt:  at.Add(p.Lifetime()),
	}, s, nil
}

// pending says whether the proof is that of somebody who has signed up and is no user yet.
func (f Found) pending() bool { return f.Purpose == Verify && f.UserID == "" && f.Data != "" }

// void says whether the user is no longer the one that the proof was made for.
func (f Found) void() bool {
	if f.pending() {
		return false
	}
	return f.User.ID == "" || f.User.ID != f.UserID || f.User.Disabled() || f.User.Email != f.Email ||
		user.CredentialOf(f.User.PasswordHash) != f.Credential
}
