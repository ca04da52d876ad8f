// Package signals lets receivers manage and poll their streams of events (OpenID Shared Signals Framework 1.0).
package signals

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/sharedsignal"
)

const (
	path = "/v1/ssf"
	// maxPoll is how many events one poll answers, and longPoll how long it waits for the first.
	maxPoll  = 100
	longPoll = 8 * time.Second
	// lookEvery is how often a waiting poll looks although nothing has woken it.
	lookEvery = time.Second
	// maxText bounds what a receiver may store as a description, a state, a reason or a header, in bytes.
	maxText = 1024
)

// Room serves the streams.
type Room struct {
	Door      *door.Door
	Signals   sharedsignal.Store
	Sealer    sharedsignal.Sealer
	Signer    sharedsignal.Signer
	Blocklist *blocklist.List // which changes when a session ends
	Private   bool            // events may be pushed into private networks
	Log       *slog.Logger
}

// Routes returns the rows of the room.
func (r *Room) Routes() []door.Route {
	routes := []door.Route{
		{Method: http.MethodGet, Path: "/.well-known/ssf-configuration", Sharing: door.SharedAll, Handler: r.metadata},
	}
	for _, of := range []struct {
		method, path string
		handler      echo.HandlerFunc
	}{
		{http.MethodGet, path + "/streams", r.streams},
		{http.MethodPost, path + "/streams", r.createStream},
		{http.MethodPatch, path + "/streams", r.updateStream},
		{http.MethodPut, path + "/streams", r.replaceStream},
		{http.MethodDelete, path + "/streams", r.deleteStream},
		{http.MethodGet, path + "/status", r.streamStatus},
		{http.MethodPost, path + "/status", r.updateStreamStatus},
		{http.MethodPost, path + "/subjects/add", r.addSubject},
		{http.MethodPost, path + "/subjects/remove", r.removeSubject},
		{http.MethodPost, path + "/verify", r.verifyStream},
		{http.MethodPost, path + "/poll", r.pollStream},
	} {
		routes = append(routes, door.Route{
			Method: of.method, Path: of.path, Access: door.Receiver, Scope: sharedsignal.Scope, Handler: of.handler,
		})
	}
	return routes
}
