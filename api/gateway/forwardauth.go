package gateway

import (
	"net/http"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// forwardAuth is GET /v1/forward-auth: a gateway asks whether a request may pass, and gets the identity as X-Auth-* headers
// (nginx auth_request, Traefik ForwardAuth, Caddy forward_auth). ?audience=, ?scope= and ?role= demand what the route behind
// needs; without an audience the token must be meant for this service. It costs no query.
func (r *Room) forwardAuth(c echo.Context) error {
	query, err := door.ReadQuery(c, "audience", "scope", "role")
	if err != nil {
		return err
	}
	if strings.ContainsAny(query.Get("scope"), "\"\\\r\n") {
		return door.InvalidRequest("scope", "holds characters that no scope has")
	}
	accepts := r.Verifier
	audience := query.Get("audience")
	if audience != "" {
		accepts = r.AnyAudience
	}
	raw, err := verifier.TokenFrom(c.Request())
	if err != nil {
		return err
	}
	claims, err := accepts.Verify(c.Request().Context(), raw)
	if err != nil {
		return err
	}
	door.NoStore(c.Response().Header())
	door.EventOf(c).UserID, door.EventOf(c).ClientID, door.EventOf(c).SessionID = claims.Subject, claims.ClientID, claims.SessionID
	if audience != "" && !slices.Contains(claims.Audience, audience) {
		return door.InvalidToken("the access token is for another audience", nil)
	}
	scopes, role := strings.Fields(query.Get("scope")), query.Get("role")
	if !claims.HasScope(scopes...) || role != "" && !claims.HasRole(role) {
		return door.InsufficientScope(strings.Join(scopes, " "), "the access token lacks a scope or role")
	}
	h := c.Response().Header()
	for name, value := range map[string]string{
		"X-Auth-Subject": claims.Subject, "X-Auth-Client-Id": claims.ClientID, "X-Auth-Session-Id": claims.SessionID,
		"X-Auth-Scope": strings.Join(claims.Scope, " "), "X-Auth-Roles": strings.Join(claims.Roles, " "),
	} {
		h.Set(name, value) // also when empty: a header of the caller's must not reach the application
	}
	return c.NoContent(http.StatusOK)
}
