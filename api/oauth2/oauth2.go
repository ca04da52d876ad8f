// Package oauth2 serves the endpoints that clients call directly: token, revocation, introspection, pushed requests and
// userinfo.
package oauth2

import (
	"net/http"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// Room serves the endpoints.
type Room struct {
	Door        *door.Door
	Issuer      string // without a trailing slash
	OAuth       *oauth.Server
	AnyAudience *verifier.Verifier // accepts access tokens of this service for every audience
}

// Routes returns the rows of the room.
func (r *Room) Routes() []door.Route {
	return []door.Route{
		{
			Method: http.MethodPost, Path: "/oauth2/token", Sharing: door.SharedClient, Cookie: true, Handler: r.token,
			Audit: []audit.Kind{audit.KindLoggedIn, audit.KindRefreshTokenReuse, audit.KindSessionEnded},
		},
		{
			Method: http.MethodPost, Path: "/oauth2/revoke", Sharing: door.SharedClient, Cookie: true, Handler: r.revoke,
			Audit: []audit.Kind{audit.KindSessionEnded, audit.KindTokenRevoked},
		},
		{Method: http.MethodPost, Path: "/oauth2/introspect", Handler: r.introspect},
		{Method: http.MethodPost, Path: "/oauth2/par", Handler: r.push},
		{Method: http.MethodGet, Path: "/oauth2/userinfo", Access: door.OwnBearer, Sharing: door.SharedClient, Handler: r.userinfo},
		{Method: http.MethodPost, Path: "/oauth2/userinfo", Access: door.OwnBearer, Sharing: door.SharedClient, Handler: r.userinfo},
	}
}
