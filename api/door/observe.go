package door

import (
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/pkg/audit"
)

// Event is what is logged of a request: filled on the way, written once at the end.
type Event struct {
	RequestID string
	IP        string // the client's
	TraceID   string // of a proxy's trace
	UserID    string
	ClientID  string
	SessionID string
	Err       error
}

const eventKey = "handstamp.event"

// EventOf returns the request's event.
func EventOf(c echo.Context) *Event {
	e, ok := c.Get(eventKey).(*Event)
	if !ok {
		e = &Event{IP: c.RealIP()}
		c.Set(eventKey, e)
	}
	return e
}

// observe gives each request an ID, and logs and counts it once when it is done. A panic becomes an error.
func (d *Door) observe(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		start := time.Now()
		e := d.newEvent(c.Request())
		e.IP = c.RealIP()
		c.Set(eventKey, e)
		h := c.Response().Header()
		h.Set("X-Request-Id", e.RequestID)
		h.Set("X-Content-Type-Options", "nosniff")
		if d.Secure() {
			h.Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
		}
		d.config.Metrics.InFlight.Inc()
		defer d.config.Metrics.InFlight.Dec()

		if err := protect(next, c); err != nil {
			c.Error(err)
		}
		d.finish(c, e, time.Since(start))
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
			err = internal(fmt.Errorf("panic: %v\n%s", r, debug.Stack()))
		}
	}()
	return next(c)
}

func (d *Door) finish(c echo.Context, e *Event, took time.Duration) {
	status := c.Response().Status
	route := c.Path()
	if route == "" {
		route = "unmatched"
	}
	d.config.Metrics.observe(c.Request().Method, route, status, took)
	level := slog.LevelInfo
	switch {
	case status == http.StatusServiceUnavailable: // a crowd, or a database that is away: nobody mends the service for it
		level = slog.LevelWarn
	case status >= http.StatusInternalServerError:
		level = slog.LevelError
	}
	ctx := c.Request().Context()
	if !d.config.Log.Enabled(ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, 13)
	attrs = append(attrs,
		slog.String("request_id", e.RequestID),
		slog.String("method", Cut(c.Request().Method)),
		slog.String("route", route),
		slog.Int("status", status),
		slog.Int64("duration_us", took.Microseconds()),
		slog.String("ip", e.IP),
	)
	for _, named := range [...]struct{ key, value string }{
		{"trace_id", e.TraceID},
		{"user_id", e.UserID},
		{"client_id", e.ClientID},
		{"session_id", e.SessionID},
	} {
		if named.value != "" {
			attrs = append(attrs, slog.String(named.key, Cut(named.value)))
		}
	}
	if e.Err != nil {
		attrs = append(attrs, slog.String("error", Cut(e.Err.Error())))
		if status >= http.StatusInternalServerError {
			attrs = append(attrs, slog.String("user_agent", Cut(c.Request().UserAgent())))
		}
	}
	d.config.Log.LogAttrs(ctx, level, "request", attrs...)
}

// maxLogged bounds a field that a caller has a say in, in bytes.
const maxLogged = 256

// Cut shortens a text for a log or an audit row and makes it printable.
func Cut(s string) string {
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

// Origin is where a request came from, for audit rows and sessions.
func Origin(c echo.Context) audit.Origin {
	e := EventOf(c)
	return audit.Origin{
		IP:        e.IP,
		UserAgent: Cut(c.Request().UserAgent()),
		RequestID: e.RequestID,
		Languages: Cut(c.Request().Header.Get("Accept-Language")),
	}
}
