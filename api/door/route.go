package door

import (
	"net/http"
	"slices"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/oauth"
)

// Access says who may call a route. It is decided before the handler runs.
type Access int

// The kinds of access.
const (
	Anyone       Access = iota // no credential, or one that the handler checks itself (a client's, a refresh token)
	Stream                     // as Anyone, and the answer goes on until the caller leaves
	Bearer                     // a user's valid access token for the account API, of one of the operator's own clients
	RecentBearer               // as Bearer, of a user who has logged in a moment ago
	OwnBearer                  // the handler checks it: it may be for another audience, or a refresh token may stand in for it
	Receiver                   // a client's own access token with the scope of the route
	Page                       // a hosted page: cookies, errors as pages, posts from our own pages only
	EntryPage                  // as Page, and clients and providers may have the browser post to it
)

// String returns the word for the access in lists.
func (a Access) String() string {
	switch a {
	case Anyone:
		return "anyone"
	case Stream:
		return "stream"
	case Bearer:
		return "bearer"
	case RecentBearer:
		return "recent_bearer"
	case OwnBearer:
		return "own_bearer"
	case Receiver:
		return "receiver"
	case Page:
		return "page"
	case EntryPage:
		return "entry_page"
	}
	return "unknown"
}

// Sharing says which pages of other origins may read a route's answer (CORS).
type Sharing int

// The kinds of sharing.
const (
	NotShared    Sharing = iota
	SharedClient         // the registered origins of clients, exactly
	SharedOwn            // those of the operator's own clients
	SharedAll            // public documents: every origin, without credentials
)

// String returns the word for the sharing in lists.
func (s Sharing) String() string {
	switch s {
	case NotShared:
		return "none"
	case SharedClient:
		return "clients"
	case SharedOwn:
		return "own_clients"
	case SharedAll:
		return "all"
	}
	return "unknown"
}

// Route is one row of the table of routes.
type Route struct {
	Method  string
	Path    string
	Access  Access
	Scope   string // of a Receiver route
	Sharing Sharing
	Cookie  bool         // the refresh cookie of a client is read or set here
	Audit   []audit.Kind // the security events that a request may record
	Handler echo.HandlerFunc
}

// NeededScope is the scope that the access token of a request must have; empty if none.
func (r Route) NeededScope() string {
	if r.Access == Bearer || r.Access == RecentBearer {
		return oauth.ScopeAccount
	}
	return r.Scope
}

// hasHead reports whether HEAD is answered, too.
func (r Route) hasHead() bool {
	return r.Method == http.MethodGet && (r.Access == Anyone || r.Access == Stream)
}

// guarded returns the handler behind what the access of its route asks for.
func (d *Door) guarded(r Route) echo.HandlerFunc {
	handler := namedByText(r.Handler)
	switch r.Access {
	case Bearer:
		return d.authenticated(handler)
	case RecentBearer:
		return d.authenticated(d.recently(handler))
	case Receiver:
		return d.receiving(r.Scope, handler)
	case Page:
		return d.hosted(d.ownPosts(handler))
	case EntryPage:
		return d.hosted(handler)
	case Anyone, Stream, OwnBearer: // the handler checks what there is to check
	}
	return handler
}

// namedByText lets a handler run only if what the path names is text, as nothing else has a name.
func namedByText(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if slices.ContainsFunc(c.ParamValues(), func(name string) bool { return !isText(name) }) {
			return echo.ErrNotFound
		}
		return next(c)
	}
}
