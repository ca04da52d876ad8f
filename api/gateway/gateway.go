// Package gateway lets gateways ask whether a request may pass. forwardauth.go answers for access tokens, login.go for browsers
// that have logged in at the gateway, and forwarded.go reads what was asked of the gateway.
package gateway

import (
	"context"
	"net/http"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// Clients are the registered clients.
type Clients interface {
	Client(ctx context.Context, id string) (oauth.Client, error)
}

// Room answers gateways.
type Room struct {
	Door        *door.Door
	Verifier    *verifier.Verifier // accepts access tokens that are meant for this service
	AnyAudience *verifier.Verifier // accepts access tokens of this service for every audience
	Clients     Clients
	Gateways    *oauth.Gateways
}

// Routes returns the rows of the room.
func (r *Room) Routes() []door.Route {
	return []door.Route{{
		Method: http.MethodGet, Path: "/v1/forward-auth", Handler: r.forwardAuth,
		Audit: []audit.Kind{audit.KindLoggedIn, audit.KindSessionEnded},
	}}
}
