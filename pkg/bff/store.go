package bff

import (
	"context"
	"time"
)

// Store keeps sessions on the server. NewMemory is one; package sqlstore is one for PostgreSQL and SQLite, and the module
// redisstore one for Redis and Valkey. Package bfftest has the tests that each of them passes. A store keeps what it is given:
// Record.Data is sealed, and the rules are in this package. It is safe for use by any number of goroutines and processes.
type Store interface {
	// Create adds a record, whose version is 1. Its ID is new: it is the hash of a random number.
	Create(ctx context.Context, r Record) error
	// Load returns a record, or ErrNotFound. It may return one whose ExpiresAt has passed.
	Load(ctx context.Context, id ID) (Record, error)
	// Swap replaces Data and ExpiresAt of the record whose version is r.Version-1, and makes r.Version its version. If there is
	// another version, it returns ErrConflict, and if there is none, ErrNotFound: no record that was ended comes back.
	Swap(ctx context.Context, r Record) error
	// End removes the records that match and returns them; there may be none.
	End(ctx context.Context, m Match) ([]Record, error)
	// List returns the records of a subject, newest first.
	List(ctx context.Context, subject string) ([]Record, error)
	// Trim removes the oldest records of a subject so that keep of them are left, and returns those that it removed. Of calls
	// at the same time, the last leaves no more than keep.
	Trim(ctx context.Context, subject string, keep int) ([]Record, error)
	// Once reports true to the first caller with this ID and false to all later ones, at least until expiresAt.
	Once(ctx context.Context, id ID, expiresAt time.Time) (bool, error)
	// Sweep removes records and IDs of Once that expired before now, about limit of each, and returns how many. A store whose
	// records expire by themselves does nothing.
	Sweep(ctx context.Context, now time.Time, limit int) (int, error)
}

// Record is a session in a Store.
type Record struct {
	ID        ID
	Version   int64  // 1, and one more with each Swap
	Subject   string // the user's ID; never changes, as all but Version, Data and ExpiresAt
	SessionID string // the sid, by which the issuer knows the session
	Data      []byte // sealed
	CreatedAt time.Time
	ExpiresAt time.Time
}

// Match says which records End removes. Exactly one of its fields is set.
type Match struct {
	ID        ID
	Subject   string
	SessionID string
}
