package api

import (
	"net/http"
	"net/http/httptest"

	"github.com/labstack/echo/v4"
)

// ErrorAnswer is what a handler's error becomes under a path.
func ErrorAnswer(path string, err error) *httptest.ResponseRecorder {
	a := &API{echo: echo.New()}
	w := httptest.NewRecorder()
	a.writeError(err, a.echo.NewContext(httptest.NewRequest(http.MethodGet, path, http.NoBody), w))
	return w
}

// ErrorPage is what a handler's error becomes on a hosted page.
func ErrorPage(err error) (status int, code string) {
	p := asPageError(err)
	return p.status, p.code
}

// Route is one row of the table of routes.
type Route struct{ Method, Path string }

// Routes returns every route that the service answers, those included that the router was given besides the table: HEAD and OPTIONS.
func (a *API) Routes() []Route {
	var out []Route
	for _, r := range a.echo.Routes() {
		out = append(out, Route{r.Method, r.Path})
	}
	return out
}

// FailureLimiter is the limiter of failed logins.
type FailureLimiter struct{ l *failureLimiter }

// NewFailureLimiter returns an empty limiter.
func NewFailureLimiter(r Rate) FailureLimiter { return FailureLimiter{newFailureLimiter(r)} }

// Count takes one failure off an address's bucket.
func (l FailureLimiter) Count(ip string) { l.l.count(ip) }

// Waits reports whether an address has to wait.
func (l FailureLimiter) Waits(ip string) bool { return l.l.wait(ip) > 0 }

// Len is the number of addresses that the limiter remembers.
func (l FailureLimiter) Len() int { return l.l.buckets.Len() }

// MaxAddresses is the most that it may remember.
const MaxAddresses = maxAddresses
