// Package blocklist lists the tokens that must be refused before they expire, and tells every replica and every
// resource server about them.
//
// The table is small: an entry lives no longer than the tokens it refuses. Each replica holds a copy in memory
// ([List]), which a wake-up from the database and polling keep current, so that checking a token costs no query.
package blocklist

import (
	"context"
	"errors"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// Path is where the blocklist is served, below the issuer; StreamPath is where its changes are.
const (
	Path       = "/v1/blocklist"
	StreamPath = Path + "/stream"
)

// ErrCursorGone says that the changes since a cursor are no longer known; the caller takes a snapshot.
var ErrCursorGone = errors.New("blocklist cursor is too old or from another history")

// Entry refuses the tokens that match Key and whose iat is not after NotBefore.
type Entry struct {
	Key       verifier.BlockKey
	NotBefore time.Time // whole seconds
	DropAfter time.Time // whole seconds; no token it could refuse is accepted after this
}

// NewEntry blocks every token of a kind and value that can be alive before until: the form for what has ended for good.
func NewEntry(kind verifier.BlockKind, value string, until time.Time) Entry {
	return Entry{Key: verifier.KeyOf(kind, value), NotBefore: until, DropAfter: until}
}

// Changes is what a reader of the table learns.
type Changes struct {
	Entries  []Entry
	Cursor   string // opaque; hand it to the next call
	Snapshot bool   // Entries is the whole list, not what has changed
}

// Store is what the feature needs of a database.
//
// Adding is part of the store methods that end sessions and disable clients; Block adds one entry by itself.
// An entry that exists keeps the larger of both values of NotBefore and DropAfter.
type Store interface {
	// Block adds an entry together with its event.
	Block(ctx context.Context, entry Entry, e audit.Event) error
	// BlocklistChanges returns the entries added or changed since the cursor, or all for an empty cursor. Entries may
	// repeat, none is ever left out, in any order in which parallel transactions commit. ErrCursorGone.
	BlocklistChanges(ctx context.Context, cursor string) (Changes, error)
	// DropBlocklist removes at most limit entries whose DropAfter is before at, and says how many.
	DropBlocklist(ctx context.Context, at time.Time, limit int) (int, error)
	// Wait returns when another replica or command may have changed blocklist, keys or clients, or when ctx ends.
	// It is a hint: callers poll as well.
	Wait(ctx context.Context) error
}
