// Package documents serves the public documents of the service: its keys, its metadata and its contract.
package documents

import (
	"context"
	"net/http"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/pkg/keyring"
)

// Keys are the signing keys.
type Keys interface {
	JWKS(ctx context.Context) keyring.JWKS
	Algorithms() []string
}

// Room serves the documents.
type Room struct {
	Issuer      string // without a trailing slash
	Keys        Keys
	StatusLists bool   // access tokens refer to status lists
	Contract    []byte // openapi.yaml
	Door        *door.Door
	HomeURL     string // where a person goes on who has come to the service itself; empty for nowhere
	PasswordURL string // where a person changes the password; empty for HomeURL
}

// Routes returns the rows of the room.
func (r *Room) Routes() []door.Route {
	return []door.Route{
		{Method: http.MethodGet, Path: "/", Access: door.Page, Handler: r.home},
		{Method: http.MethodGet, Path: "/favicon.ico", Handler: r.icon},
		{Method: http.MethodGet, Path: "/.well-known/change-password", Handler: r.changePassword},
		{Method: http.MethodGet, Path: "/.well-known/jwks.json", Sharing: door.SharedAll, Handler: r.jwks},
		{Method: http.MethodGet, Path: "/.well-known/oauth-authorization-server", Sharing: door.SharedAll, Handler: r.metadata},
		{Method: http.MethodGet, Path: "/.well-known/openid-configuration", Sharing: door.SharedAll, Handler: r.metadata},
		{Method: http.MethodGet, Path: "/openapi.yaml", Sharing: door.SharedAll, Handler: r.openapi},
	}
}
