// Package gateway lets gateways ask whether a request may pass.
package gateway

import (
	"net/http"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// Room answers gateways.
type Room struct {
	Verifier    *verifier.Verifier // accepts access tokens that are meant for this service
	AnyAudience *verifier.Verifier // accepts access tokens of this service for every audience
}

// Routes returns the rows of the room.
func (r *Room) Routes() []door.Route {
	return []door.Route{{Method: http.MethodGet, Path: "/v1/forward-auth", Handler: r.forwardAuth}}
}
