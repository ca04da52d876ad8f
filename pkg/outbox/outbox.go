// Package outbox delivers the messages of the service to other parties: logout tokens, security events and mails.
//
// The transaction of the cause writes the row, so that either both exist or neither does. Replicas share the rows: one
// leases a row, delivers it and finishes it. If a replica dies, another one leases its row when the lease is over. So a
// row is delivered at least once.
//
// The rows of one destination are delivered one at a time, the oldest first. A row that fails waits apart for its next attempt,
// and those behind it go on: a receiver that refuses one message gets the others. A destination that does not answer occupies
// one of the worker's places, and delays no other destination.
package outbox

import (
	"context"
	"errors"
	"time"
)

// ErrPermanent says of a delivery that no other attempt would succeed.
var ErrPermanent = errors.New("not to be delivered")

// DeadFor is how long a dead letter is kept for the operator to look at.
const DeadFor = 7 * 24 * time.Hour

// Row is one thing to deliver.
type Row struct {
	ID          int64
	Kind        string
	Destination string
	Payload     []byte // of a form that the kind knows
	Attempts    int    // begun before this one
	CreatedAt   time.Time
	LeasedUntil time.Time
}

// Outcome is what became of a row. The zero Outcome says that it was delivered.
type Outcome struct {
	RetryAt time.Time // when it is due again; zero if it is not
	DeadAt  time.Time // when it was given up; zero if it was not
	Reason  string    // why it was not delivered; no secret
}

// Result says which of the three it is.
func (o Outcome) Result() Result {
	switch {
	case !o.DeadAt.IsZero():
		return Dead
	case !o.RetryAt.IsZero():
		return PutOff
	default:
		return Delivered
	}
}

// Source is where the rows of one kind come from.
type Source interface {
	// LeaseRows returns at most limit rows of a kind that are due, of different destinations and each the oldest of its
	// destination but for those that are put off. No other worker gets them, nor others of their destinations, before until.
	LeaseRows(ctx context.Context, kind string, at, until time.Time, limit int) ([]Row, error)
	// FinishRow ends a lease: it removes the row, puts it off, or keeps it as a dead letter. A row that another
	// worker has leased or finished since stays as it is.
	FinishRow(ctx context.Context, r Row, o Outcome) error
}

// Entry is a row as an operator looks at it.
type Entry struct {
	Row
	DeadAt time.Time // when it was given up; zero while it waits
	Reason string    // why the last attempt failed; empty before the first has
}

// Backlog is what has not been delivered.
type Backlog struct {
	Waiting int
	Dead    int       // given up, and not swept yet
	Oldest  time.Time // when the oldest row that waits was written; zero if none does
}

// Store is what the outbox needs of a database. Two rows of one destination whose transactions run at the same time
// have no order, and are perhaps leased at the same time.
type Store interface {
	Source
	// SweepRows deletes at most limit dead letters that were given up before a time, and says how many.
	SweepRows(ctx context.Context, before time.Time, limit int) (int, error)
	// Rows lists the rows of a kind, the newest first: at most limit of them, those before an ID (0: from the newest on).
	Rows(ctx context.Context, kind string, before int64, limit int) ([]Entry, error)
	// RetryRows makes rows of a kind due that were given up or put off, as if they were written at a time; no IDs for all of
	// them. It says how many. A row that is being delivered stays as it is.
	RetryRows(ctx context.Context, kind string, ids []int64, at time.Time) (int, error)
	// Backlog counts the rows of a kind.
	Backlog(ctx context.Context, kind string) (Backlog, error)
}
