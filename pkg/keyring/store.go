package keyring

import (
	"context"
	"errors"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
)

// State is where a signing key stands in its life. The text is what the database holds and what people see.
type State string

// The states of a signing key, in the order of its life. Only an upcoming, active or retired key is published.
const (
	StateUpcoming State = "upcoming" // published, not yet signing
	StateActive   State = "active"   // signing; exactly one for each algorithm
	StateRetired  State = "retired"  // published until its last token has expired, private half wiped
	StateRevoked  State = "revoked"  // out of the JWKS at once and announced in the feed, private half wiped
)

// Record is one signing key as the database holds it. Times are UTC in whole milliseconds, and the zero Time stands
// for "not yet" (NULL).
type Record struct {
	// ID is the kid: the RFC 7638 thumbprint of the public key, base64url without padding.
	ID string
	// Algorithm is the JWS name of the one algorithm that the key is for: ES256, EdDSA or RS256.
	Algorithm string
	State     State
	// Sealed is the private half sealed under the master key; nil once the key is retired or revoked.
	Sealed []byte
	// Public is the public half as a DER SubjectPublicKeyInfo.
	Public []byte
	// CreatedAt is when the key was made, and so the earliest time at which it was published.
	CreatedAt time.Time
	// ActivatesAt is when it may begin to sign.
	ActivatesAt time.Time
	// ActivatedAt is when it did begin to sign.
	ActivatedAt time.Time
	// RetiredAt is when its successor took over.
	RetiredAt time.Time
	// RemoveAt is when the row may go; set when the key is retired or revoked.
	RemoveAt time.Time
	// RevokedAt is when it was revoked.
	RevokedAt time.Time
}

// Insertion asks the store to add an upcoming key.
type Insertion struct {
	// Key is the new row; its State is upcoming.
	Key Record
	// Active is the kid of the key of the same algorithm that the caller believes to be active, or "" for none.
	Active string
	// Event is recorded in the same transaction. It is the one event of a rotation: the activation follows from it.
	Event audit.Event
}

// Activation asks the store to make an upcoming key the active one of its algorithm.
type Activation struct {
	// ID is the upcoming key.
	ID string
	// At becomes ActivatedAt of the key and RetiredAt of its predecessor.
	At time.Time
	// RemoveAt becomes RemoveAt of the predecessor.
	RemoveAt time.Time
}

// Revocation asks the store to revoke a key and to announce it.
type Revocation struct {
	// ID is the key; it must not be active.
	ID string
	// At becomes RevokedAt.
	At time.Time
	// RemoveAt becomes RemoveAt of the key, and both times (not_before and drop_after) of its blocklist entry: a token
	// signed with a revoked key is refused whatever its iat says, because the thief of the key chooses the iat.
	RemoveAt time.Time
	// Event is recorded in the same transaction.
	Event audit.Event
}

// ErrConflict is returned by a store when the keys are no longer as the caller believed: another replica was faster.
// Read the keys again and decide anew.
var ErrConflict = errors.New("keyring: signing keys changed meanwhile")

// ErrNotFound is returned when there is no key with the given ID.
var ErrNotFound = errors.New("keyring: no such signing key")

// Store is what the keyring needs of a database. Each method is one transaction, each failure that is not one of the
// sentinels named is a storage failure. Writers of signing keys run one after the other (the table is tiny and written
// once a month: PostgreSQL takes LOCK TABLE ... IN SHARE ROW EXCLUSIVE MODE, SQLite BEGIN IMMEDIATE); readers never wait.
//
// The database itself enforces that an algorithm has at most one active and at most one upcoming key, by a partial
// unique index for each.
type Store interface {
	// SigningKeys lists every key, ordered by CreatedAt, then ID.
	SigningKeys(ctx context.Context) ([]Record, error)

	// InsertSigningKey adds an upcoming key. ErrConflict if another key of its algorithm is active than the one named (or
	// none is, or one is although none was named), if the algorithm already has an upcoming key, or if the ID exists;
	// nothing is recorded then.
	InsertSigningKey(ctx context.Context, insertion Insertion) error

	// ActivateSigningKey makes the upcoming key active and retires the active key of the same algorithm, if there is one,
	// in the same transaction: its State, RetiredAt, RemoveAt, and Sealed set to NULL. ErrConflict if the key is not
	// upcoming or does not exist.
	ActivateSigningKey(ctx context.Context, activation Activation) error

	// RevokeSigningKey sets State, RevokedAt, RemoveAt, and Sealed to NULL, and writes the blocklist entry of kind "kid"
	// for the ID in the same transaction. A key that is revoked already stays as it is: no error and no second event.
	// ErrConflict if the key is active (an algorithm is never left without one), ErrNotFound if there is no such key.
	RevokeSigningKey(ctx context.Context, revocation Revocation) error

	// DeleteSigningKeys deletes the retired and revoked keys whose RemoveAt is not after at.
	DeleteSigningKeys(ctx context.Context, at time.Time) error
}
