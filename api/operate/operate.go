// Package operate reports the health of the service to the program that runs it.
package operate

import (
	"context"
	"net/http"
	"time"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/pkg/clock"
	"github.com/handstamp/handstamp/pkg/keyring"
)

// Database is the database.
type Database interface {
	Ping(ctx context.Context) error
	Schema(ctx context.Context) (current, newest int64, err error)
}

// Blocklist is this replica's copy of the blocklist.
type Blocklist interface{ HeardAt() time.Time }

// Keys are the signing keys.
type Keys interface {
	Signer(ctx context.Context, algorithm string) (*keyring.SigningKey, error)
}

// Room serves the checks.
type Room struct {
	Database  Database
	Blocklist Blocklist
	Keys      Keys
	Clock     *clock.Clock
}

// Routes returns the rows of the room.
func (r *Room) Routes() []door.Route {
	return []door.Route{
		{Method: http.MethodGet, Path: "/healthz", Handler: r.healthz},
		{Method: http.MethodGet, Path: "/readyz", Handler: r.readyz},
	}
}
