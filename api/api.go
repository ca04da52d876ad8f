// Package api is all that a caller sees of the authorization server: its routes, their requests and their answers. Only it
// and the packages below it know Echo.
//
// Each package below it is a room with the routes of one audience. Package door has what the rooms share, and pages renders the
// hosted pages.
package api

import (
	"net/http"
	"slices"
	"sync/atomic"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
)

// Room has the routes of one audience.
type Room interface{ Routes() []door.Route }

// API serves the routes of all rooms.
type API struct {
	door *door.Door
	echo atomic.Pointer[echo.Echo]
}

// New returns the service's handler, whose table of routes is the rows of the rooms.
func New(d *door.Door, rooms ...Room) *API {
	a := &API{door: d}
	a.Replace(d, rooms...)
	return a
}

// Replace lets other rooms answer from now on. A request that has begun is answered to its end by the rooms with which it has
// begun. The door is one that the first was turned into by [door.Door.With].
func (a *API) Replace(d *door.Door, rooms ...Room) { a.echo.Store(d.Handler(Table(rooms...))) }

// Table returns the rows of the rooms, in one table.
func Table(rooms ...Room) []door.Route {
	var rows []door.Route
	for _, r := range rooms {
		rows = slices.Concat(rows, r.Routes())
	}
	return rows
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.echo.Load().ServeHTTP(w, r) }

// Stop ends the open streams; their followers come back, to another replica. Everything else goes on.
func (a *API) Stop() { a.door.Stop() }
