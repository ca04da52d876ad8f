// Package feed tells resource servers which access tokens are blocked: by the blocklist, its stream, and status lists.
package feed

import (
	"context"
	"net/http"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/limit"
	"github.com/handstamp/handstamp/pkg/statuslist"
	"github.com/handstamp/handstamp/pkg/token"
)

// Statuses are the status lists.
type Statuses interface {
	URIs(ctx context.Context) ([]string, error)
	Document(ctx context.Context, client, number string) (statuslist.Document, error)
}

// Limits bound how many callers there are at once: in all, and from each address. What they read is public, so anybody may come.
type Limits struct {
	Readers *limit.InFlight // of the blocklist
	Streams *limit.InFlight
}

// Room serves the feeds.
type Room struct {
	Door      *door.Door
	Blocklist *blocklist.List
	Statuses  Statuses // nil if access tokens refer to no status list
	Minter    *token.Minter
	Followers interface { // counts open streams
		Inc()
		Dec()
	}

	Limits Limits

	snapshots snapshots
	events    events
}

// Routes returns the rows of the room.
func (r *Room) Routes() []door.Route {
	return []door.Route{
		{Method: http.MethodGet, Path: blocklist.Path, Sharing: door.SharedAll, Handler: r.blocklist},
		{Method: http.MethodGet, Path: blocklist.StreamPath, Access: door.Stream, Sharing: door.SharedAll, Handler: r.stream},
		{Method: http.MethodGet, Path: statuslist.Path, Sharing: door.SharedAll, Handler: r.statusLists},
		{Method: http.MethodGet, Path: statuslist.Path + "/:client/:number", Sharing: door.SharedAll, Handler: r.statusList},
	}
}
