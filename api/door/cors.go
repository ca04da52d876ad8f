package door

import (
	"net/http"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"
)

// shared adds the CORS headers of a route's answers.
func (d *Door) shared(route Route, next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		d.allowOrigin(c, route)
		return next(c)
	}
}

// allowOrigin says which page may read the answer: every one for public documents, else a client's registered origins,
// compared exactly. Credentials are allowed on the routes of the refresh cookie only, and for the origins of the
// clients that have it: nothing else that is shared depends on a cookie. Those among them that are for every client
// allow all registered origins, because libraries send credentials without need (keycloak-js: with each token request).
// FromPage keeps a cookie for the pages of its client.
func (d *Door) allowOrigin(c echo.Context, route Route) bool {
	h := c.Response().Header()
	if route.Sharing == SharedAll {
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Access-Control-Expose-Headers", "ETag, X-Request-Id")
		return true
	}
	h.Add("Vary", "Origin")
	from := c.Request().Header.Get("Origin")
	allows := d.config.Clients.AllowsOrigin
	if route.Sharing == SharedOwn {
		allows = d.config.Clients.AllowsOwnOrigin
	}
	if from == "" || !allows(from) {
		return false
	}
	h.Set("Access-Control-Allow-Origin", from)
	if route.Cookie && (route.Sharing == SharedClient || d.config.Clients.AllowsCookieOrigin(from)) {
		h.Set("Access-Control-Allow-Credentials", "true")
	}
	h.Set("Access-Control-Expose-Headers", "Date, Retry-After, WWW-Authenticate, X-Request-Id")
	return true
}

// allowedHeaders are what a request needs, and what client libraries and instrumentation add to every request. None changes what
// a request does.
const allowedHeaders = "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, X-Requested-With, traceparent, " +
	"tracestate, baggage, sentry-trace, MCP-Protocol-Version"

// preflight answers the browser's question before a request (Fetch standard, CORS protocol).
func (d *Door) preflight(route Route, routes []Route) echo.HandlerFunc {
	return func(c echo.Context) error {
		h := c.Response().Header()
		if d.allowOrigin(c, route) {
			var methods []string
			for _, r := range routes {
				if r.Path == route.Path && !slices.Contains(methods, r.Method) {
					methods = append(methods, r.Method)
				}
			}
			h.Set("Access-Control-Allow-Methods", strings.Join(methods, ", "))
			headers := allowedHeaders
			if route.Cookie {
				headers += ", " + HeaderClient + ", " + HeaderHolder
			}
			h.Set("Access-Control-Allow-Headers", headers)
			h.Set("Access-Control-Max-Age", "600")
		}
		return c.NoContent(http.StatusNoContent)
	}
}
