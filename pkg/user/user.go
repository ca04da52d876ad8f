// Package user holds the people who log in: their record, the rules for their e-mail address, and the
// store interface through which their record is read and written.
package user

import (
	"context"
	"errors"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/id"
)

// IDPrefix starts every user ID. No client ID may start with it, so that the subject of a user's token and
// the subject of a client's own token can never be equal (RFC 9068, section 5).
const IDPrefix = "usr_"

// MaxNameLength and MaxEmailLength bound what is stored, in code points and bytes (RFC 5321, section 4.5.3.1).
const (
	MaxNameLength  = 200
	MaxEmailLength = 254
)

// Sentinels of the feature. Any other error of a Store is a storage failure: its outcome is unknown, and the
// caller answers that it can be tried again.
var (
	// ErrNotFound says that no user has this ID or address.
	ErrNotFound = errors.New("user not found")
	// ErrEmailTaken says that another user has this address.
	ErrEmailTaken = errors.New("e-mail address is taken")
	// ErrChanged says that the record is no longer what the caller compared it with; nothing was written.
	ErrChanged = errors.New("user was changed meanwhile")
	// ErrInvalidEmail says that a text is not an address that mail can be sent to.
	ErrInvalidEmail = errors.New("not a valid e-mail address")
	// ErrInvalidName says that a display name is too long or holds control characters.
	ErrInvalidName = errors.New("name must be at most 200 characters without control characters")
	// ErrInvalidRole says that a role is not made of 1 to 64 letters, digits and "_.:-".
	ErrInvalidRole = errors.New("a role is 1 to 64 letters, digits and _.:-")
	// ErrTooManyAttempts says that an address has used up its login attempts; see AttemptError for the wait.
	ErrTooManyAttempts = errors.New("too many login attempts")
)

// User is one person.
type User struct {
	ID              string
	Email           string // as typed, NFC
	EmailVerifiedAt time.Time
	Name            string
	Profile         Profile
	PasswordHash    string // PHC string; empty for users who never set one
	Roles           []string
	CreatedAt       time.Time
	UpdatedAt       time.Time
	DisabledAt      time.Time // zero while enabled
}

// Disabled reports whether the user is kept out.
func (u User) Disabled() bool { return !u.DisabledAt.IsZero() }

// Store is what the feature needs of a database. Writes that also end sessions belong to the session store.
type Store interface {
	// CreateUser adds a user together with its event. ErrEmailTaken if the address is taken.
	CreateUser(ctx context.Context, u User, e audit.Event) error
	// UserByID finds a user. ErrNotFound.
	UserByID(ctx context.Context, id string) (User, error)
	// UserByEmail finds a user by address, compared by EmailKey. ErrNotFound.
	UserByEmail(ctx context.Context, email string) (User, error)
	// Users lists users by ID, at most limit of them, those after the given ID.
	Users(ctx context.Context, after string, limit int) ([]User, error)
	// BeginLogin counts one password attempt against the address, whether or not somebody has it, and reads the
	// user, in one statement. The count is durable before the password is checked, so neither parallel guesses nor
	// a crash escapes it. It counts under one of the attempt's keys: that of the device, if its credential is the user's password;
	// that of the client address, if a live session of the user is from there; or that of strangers.
	BeginLogin(ctx context.Context, t Try, limit Throttle) (Attempt, error)
	// ReplacePasswordHash stores a stronger hash of the same password. ErrChanged if the hash is no longer old.
	ReplacePasswordHash(ctx context.Context, id, old, replacement string, at time.Time) error
	// UpdateUser changes the name and attributes that c names, and leaves the others. ErrNotFound.
	UpdateUser(ctx context.Context, id string, c Change, at time.Time) (User, error)
	// EnableUser lets a disabled user in again. ErrNotFound.
	EnableUser(ctx context.Context, id string, e audit.Event) error
}

// NewID makes a user ID.
func NewID(now time.Time) string { return IDPrefix + id.New(now).String() }

// ParseName returns the display name in NFC, trimmed, or ErrInvalidName.
func ParseName(s string) (string, error) {
	s = strings.TrimSpace(norm.NFC.String(s))
	if !utf8.ValidString(s) || utf8.RuneCountInString(s) > MaxNameLength || strings.ContainsFunc(s, notInName) {
		return "", ErrInvalidName
	}
	return s, nil
}

// notInName is a control character, or one that turns the direction of the text around the name (Unicode Annex 9, section 2):
// with it a name could pretend to be another one.
func notInName(r rune) bool {
	return unicode.IsControl(r) || r >= '\u202A' && r <= '\u202E' || r >= '\u2066' && r <= '\u2069'
}

// ParseRoles returns the roles sorted as given without repeats, or ErrInvalidRole.
func ParseRoles(roles []string) ([]string, error) {
	out := make([]string, 0, len(roles))
	seen := make(map[string]bool, len(roles))
	for _, r := range roles {
		if r == "" || len(r) > 64 || strings.ContainsFunc(r, notInRole) {
			return nil, ErrInvalidRole
		}
		if !seen[r] {
			seen[r] = true
			out = append(out, r)
		}
	}
	return out, nil
}

func notInRole(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_.:-", r)
}
