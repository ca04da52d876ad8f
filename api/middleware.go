package api

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// event is what is logged of a request: filled on the way, written once at the end.
type event struct {
	requestID string
	userID    string
	clientID  string
	sessionID string
	err       error
}

const eventKey = "handstamp.event"

// eventOf returns the request's event.
func eventOf(c echo.Context) *event {
	e, ok := c.Get(eventKey).(*event)
	if !ok {
		e = &event{}
		c.Set(eventKey, e)
	}
	return e
}

// observe gives each request an ID and a time limit, and logs and counts it once when it is done. A panic becomes an error.
func (a *API) observe(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		start := time.Now()
		e := &event{requestID: rand.Text()[:20]}
		c.Set(eventKey, e)
		h := c.Response().Header()
		h.Set("X-Request-Id", e.requestID)
		h.Set("X-Content-Type-Options", "nosniff")
		if a.config.HSTS {
			h.Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
		}
		a.Metrics.InFlight.Inc()
		defer a.Metrics.InFlight.Dec()

		if err := protect(next, c); err != nil {
			c.Error(err)
		}
		a.finish(c, e, time.Since(start))
		return nil
	}
}

// protect turns a panic into an error.
func protect(next echo.HandlerFunc, c echo.Context) (err error) {
	defer func() {
		if r := recover(); r != nil {
			if r == http.ErrAbortHandler { //nolint:errorlint // the value itself, as net/http compares it
				panic(r)
			}
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
			err = &Problem{Status: http.StatusInternalServerError, Code: "internal", Title: "Internal error", Detail: "the request ID finds the cause in the log", Err: err}
		}
	}()
	return next(c)
}

func (a *API) finish(c echo.Context, e *event, took time.Duration) {
	status := c.Response().Status
	route := c.Path()
	if route == "" {
		route = "unmatched"
	}
	a.Metrics.observe(c.Request().Method, route, status, took)
	level := slog.LevelInfo
	if status >= http.StatusInternalServerError {
		level = slog.LevelError
	}
	ctx := c.Request().Context()
	if !a.Log.Enabled(ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, 12)
	attrs = append(attrs,
		slog.String("request_id", e.requestID),
		slog.String("method", cut(c.Request().Method)),
		slog.String("route", route),
		slog.Int("status", status),
		slog.Int64("duration_us", took.Microseconds()),
		slog.String("ip", c.RealIP()),
	)
	for _, named := range [...]struct{ key, value string }{{"user_id", e.userID}, {"client_id", e.clientID}, {"session_id", e.sessionID}} {
		if named.value != "" {
			attrs = append(attrs, slog.String(named.key, cut(named.value)))
		}
	}
	if e.err != nil {
		attrs = append(attrs, slog.String("error", cut(e.err.Error())))
		if status >= http.StatusInternalServerError {
			attrs = append(attrs, slog.String("user_agent", cut(c.Request().UserAgent())))
		}
	}
	a.Log.LogAttrs(ctx, level, "request", attrs...)
}

// maxLogged bounds a field that a caller has a say in, in bytes.
const maxLogged = 256

// cut shortens a text for a log or an audit row and makes it printable.
func cut(s string) string {
	if len(s) > maxLogged {
		s = s[:maxLogged]
		for len(s) > 0 && !utf8.ValidString(s[max(0, len(s)-utf8.UTFMax):]) {
			s = s[:len(s)-1]
		}
	}
	if strings.ContainsFunc(s, unprintable) || !utf8.ValidString(s) {
		s = strings.Map(func(r rune) rune {
			if unprintable(r) {
				return '\ufffd'
			}
			return r
		}, strings.ToValidUTF8(s, "\ufffd"))
	}
	return s
}

// unprintable finds what could break a line or drive a terminal: controls and the line separators of Unicode.
func unprintable(r rune) bool {
	return r < 0x20 || (r >= 0x7f && r < 0xa0) || r == '\u2028' || r == '\u2029'
}

// maxBody bounds a request body in bytes.
const maxBody = 64 << 10

// limit bounds the body and the time of a request. Event streams live longer and have their own limits.
func (a *API) limit(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		if r.ContentLength > maxBody {
			return echo.ErrStatusRequestEntityTooLarge
		}
		if r.Header.Get("Content-Encoding") != "" {
			return echo.ErrUnsupportedMediaType // a compressed body could be a bomb
		}
		if r.Body != nil && r.Body != http.NoBody {
			r.Body = http.MaxBytesReader(c.Response(), r.Body, maxBody)
		}
		if c.Path() == streamPath {
			return next(c)
		}
		ctx, cancel := context.WithTimeout(r.Context(), a.config.RequestTimeout)
		defer cancel()
		c.SetRequest(r.WithContext(ctx))
		return next(c)
	}
}

const claimsKey = "handstamp.claims"

// authenticated lets a handler run only with a valid access token of a user at one of the operator's own clients that is meant for this
// service, which it finds by claimsOf. The token is checked without a query: signature and claims offline, revocation in this replica's copy
// of the blocklist. What a user has allowed a third-party client stands in its scope, and none of that is the account itself.
func (a *API) authenticated(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		claims, err := authenticate(c, a.Verifier)
		if err != nil {
			return err
		}
		client, err := a.Clients.Client(c.Request().Context(), claims.ClientID)
		if errors.Is(err, oauth.ErrClientNotFound) {
			return invalidToken("the access token is not valid", err)
		}
		if err != nil {
			return err
		}
		if client.ThirdParty {
			return &Problem{
				Status: http.StatusForbidden, Code: "first_party_only", Title: "Not allowed", Detail: "the access token is a third-party client's",
				Challenge: `Bearer error="insufficient_scope"`,
			}
		}
		c.Set(claimsKey, claims)
		return next(c)
	}
}

func authenticate(c echo.Context, v *verifier.Verifier) (*verifier.Claims, error) {
	raw, err := verifier.TokenFrom(c.Request())
	if err != nil {
		return nil, err
	}
	claims, err := v.Verify(c.Request().Context(), raw)
	if err != nil {
		return nil, err
	}
	noStore(c.Response().Header())
	e := eventOf(c)
	e.userID, e.clientID, e.sessionID = claims.Subject, claims.ClientID, claims.SessionID
	if claims.SessionID == "" { // a client's own token is no user's
		return nil, invalidToken("the access token is not a user's", nil)
	}
	return claims, nil
}

// claimsOf returns the claims of the access token that authenticated checked.
func claimsOf(c echo.Context) *verifier.Claims {
	claims, ok := c.Get(claimsKey).(*verifier.Claims)
	if !ok {
		panic("route without authentication asks for claims")
	}
	return claims
}

// origin is where a request came from, for audit rows and sessions.
func origin(c echo.Context) audit.Origin {
	return audit.Origin{IP: c.RealIP(), UserAgent: cut(c.Request().UserAgent()), RequestID: eventOf(c).requestID}
}

// shared adds the CORS headers of a route's answers.
func (a *API) shared(s sharing, next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		a.allowOrigin(c, s)
		return next(c)
	}
}

// allowOrigin says which page may read the answer: every one for public documents, else a client's registered origins, compared
// exactly. Credentials are never allowed: nothing that is shared depends on a cookie.
func (a *API) allowOrigin(c echo.Context, s sharing) bool {
	h := c.Response().Header()
	if s == sharedAll {
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Access-Control-Expose-Headers", "ETag, X-Request-Id")
		return true
	}
	h.Add("Vary", "Origin")
	from := c.Request().Header.Get("Origin")
	if from == "" || !a.Clients.AllowsOrigin(from) {
		return false
	}
	h.Set("Access-Control-Allow-Origin", from)
	h.Set("Access-Control-Expose-Headers", "Retry-After, WWW-Authenticate, X-Request-Id")
	return true
}

// preflight answers the browser's question before a request (Fetch standard, CORS protocol).
func (a *API) preflight(s sharing, path string) echo.HandlerFunc {
	return func(c echo.Context) error {
		h := c.Response().Header()
		if a.allowOrigin(c, s) {
			var methods []string
			for _, r := range a.routes() {
				if r.path == path && !slices.Contains(methods, r.method) {
					methods = append(methods, r.method)
				}
			}
			h.Set("Access-Control-Allow-Methods", strings.Join(methods, ", "))
			h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Idempotency-Key, Last-Event-ID")
			h.Set("Access-Control-Max-Age", "600")
		}
		return c.NoContent(http.StatusNoContent)
	}
}
