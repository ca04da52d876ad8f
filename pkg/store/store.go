// Package store declares what the authorization server needs from a database: the sum of the needs of its features.
//
// Two packages implement it natively, postgres and sqlite; storetest tests both for the same behaviour.
package store

import (
	"context"
	"errors"
	"time"

	"github.com/handstamp/handstamp/pkg/account"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/factor"
	"github.com/handstamp/handstamp/pkg/keyring"
	"github.com/handstamp/handstamp/pkg/mail"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/outbox"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/sharedsignal"
	"github.com/handstamp/handstamp/pkg/statuslist"
	"github.com/handstamp/handstamp/pkg/upstream"
	"github.com/handstamp/handstamp/pkg/user"
)

// ErrSchema says that the database was not migrated, or by a newer program.
var ErrSchema = errors.New("database schema does not fit this program")

// Stats are figures of connections to a database, of one process.
type Stats struct {
	Connections int           // open at most
	InUse       int           // with a statement now
	Waits       int64         // calls that had to wait for a connection, since the start
	Waited      time.Duration // how long in all
	Failures    int64         // calls that failed for a reason of storage, since the start
}

// Store is a database.
type Store interface {
	audit.Store
	user.Store
	session.Store
	blocklist.Store
	keyring.Store
	oauth.ClientStore
	oauth.BrowserStore
	outbox.Store
	mail.Store
	account.Store
	upstream.Store
	factor.Store
	statuslist.Store
	sharedsignal.Store

	// Migrate brings the schema up to date. Replicas that start at once take turns.
	Migrate(ctx context.Context) error
	// Schema reports the version of the database and the newest this program knows. ErrSchema is not
	// returned here; the caller compares.
	Schema(ctx context.Context) (current, newest int64, err error)
	// Now is the time by the database's clock, where it has one of its own; otherwise by the machine's.
	Now(ctx context.Context) (time.Time, error)
	// Ping fails if the database does not answer or does not take writes.
	Ping(ctx context.Context) error
	// Stats are figures of this process's connections.
	Stats() Stats
	// Deliveries counts what waits to be delivered, by the kinds of outbox and sharedsignal.
	Deliveries(ctx context.Context) (map[string]int, error)
	// Checkpoint does what a database needs now and then. It is called every minute.
	Checkpoint(ctx context.Context) error
	// Close waits for running statements and lets go of the database.
	Close() error
}
