package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// identity is whom a request is of, and what they may do.
type identity struct {
	subject  string
	clientID string
	session  string
	audience []string
	scope    []string
	roles    []string
	byLogin  bool // not by an access token
}

// forwardAuth is GET /v1/forward-auth: a gateway asks whether a request may pass, and gets the identity as X-Auth-* headers
// (nginx auth_request, Traefik ForwardAuth, Caddy forward_auth). ?audience=, ?scope= and ?role= demand what the route behind
// needs; without an audience the token must be meant for this service. It costs no query. With ?client_id=, a browser may have
// logged in at the client instead.
func (r *Room) forwardAuth(c echo.Context) error {
	query, err := door.ReadQuery(c, "audience", "scope", "role", "client_id", "redirect_status")
	if err != nil {
		return err
	}
	if strings.ContainsAny(query.Get("scope"), "\"\\\r\n") {
		return door.InvalidRequest("scope", "holds characters that no scope has")
	}
	redirectStatus := http.StatusFound
	switch query.Get("redirect_status") {
	case "", "302":
	case "401":
		redirectStatus = http.StatusUnauthorized
	default:
		return door.InvalidRequest("redirect_status", "must be 302 or 401")
	}
	if !query.Has("client_id") {
		who, err := r.byToken(c, query)
		return answer(c, who, query, err)
	}
	client, err := r.client(c, query.Get("client_id"))
	if err != nil {
		return err
	}
	if _, err := verifier.TokenFrom(c.Request()); errors.Is(err, verifier.ErrNoToken) {
		who, err := r.byLogin(c, client, redirectStatus)
		return answer(c, who, query, err)
	}
	if hasCookie(c, client) {
		return fmt.Errorf("%w: an access token and the cookie of a login", verifier.ErrRequest)
	}
	who, err := r.byToken(c, query)
	return answer(c, who, query, err)
}

// byToken answers for a request with an access token.
func (r *Room) byToken(c echo.Context, query url.Values) (*identity, error) {
	accepts := r.Verifier
	if query.Get("audience") != "" {
		accepts = r.AnyAudience
	}
	raw, err := verifier.TokenFrom(c.Request())
	if err != nil {
		return nil, err
	}
	claims, err := accepts.Verify(c.Request().Context(), raw)
	if err != nil {
		return nil, err
	}
	door.NoStore(c.Response().Header())
	door.EventOf(c).UserID, door.EventOf(c).ClientID, door.EventOf(c).SessionID = claims.Subject, claims.ClientID, claims.SessionID
	return &identity{
		subject:  claims.Subject,
		clientID: claims.ClientID,
		session:  claims.SessionID,
		audience: claims.Audience,
		scope:    claims.Scope,
		roles:    claims.Roles,
	}, nil
}

// answer lets a request pass if it is of somebody who may do what the query demands. Without somebody it was answered, or err
// says why not.
func answer(c echo.Context, who *identity, query url.Values, err error) error {
	if err != nil || who == nil {
		return err
	}
	if audience := query.Get("audience"); audience != "" && !slices.Contains(who.audience, audience) {
		if who.byLogin { // not 401: to log in again would not help
			return door.InsufficientScope("", "the login is for another audience")
		}
		return door.InvalidToken("the access token is for another audience", nil)
	}
	lacks := func(scope string) bool { return !slices.Contains(who.scope, scope) }
	scopes, role := strings.Fields(query.Get("scope")), query.Get("role")
	if slices.ContainsFunc(scopes, lacks) || role != "" && !slices.Contains(who.roles, role) {
		return door.InsufficientScope(strings.Join(scopes, " "), "the access token or login lacks a scope or role")
	}
	h := c.Response().Header()
	for name, value := range map[string]string{
		"X-Auth-Subject": who.subject, "X-Auth-Client-Id": who.clientID, "X-Auth-Session-Id": who.session,
		"X-Auth-Scope": strings.Join(who.scope, " "), "X-Auth-Roles": strings.Join(who.roles, " "),
	} {
		h.Set(name, value) // also when empty: a header of the caller's must not reach the application
	}
	return c.NoContent(http.StatusOK)
}
