package door

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
)

// maxBody bounds a request body in bytes.
const maxBody = 64 << 10

// requestTimeout bounds the work of one request.
const requestTimeout = 10 * time.Second

// limit bounds the body and the time of a request. Streams go on until the caller leaves, and have their own limits.
func (d *Door) limit(routes []Route) echo.MiddlewareFunc {
	streams := make(map[string]bool)
	for _, r := range routes {
		if r.Access == Stream {
			streams[r.Path] = true
		}
	}
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			r := c.Request()
			if !takesBody(r.Method) {
				leaveBody(c)
				return d.inTime(c, streams, next)
			}
			if r.Body != nil && r.Body != http.NoBody {
				// The writer of net/http itself: only that hears of a body beyond the limit, and closes the connection in order.
				body := http.MaxBytesReader(c.Response().Writer, r.Body, maxBody)
				defer drain(r, body)
				if r.ContentLength > maxBody {
					return echo.ErrStatusRequestEntityTooLarge // r.Body is left alone: net/http sees its length, and answers unread
				}
				r.Body = body
			}
			if r.Header.Get("Content-Encoding") != "" {
				return echo.ErrUnsupportedMediaType // a compressed body could be a bomb
			}
			return d.inTime(c, streams, next)
		}
	}
}

// inTime bounds the time of a request, unless it is a stream.
func (d *Door) inTime(c echo.Context, streams map[string]bool, next echo.HandlerFunc) error {
	if streams[c.Path()] {
		return next(c)
	}
	ctx, cancel := context.WithTimeout(c.Request().Context(), requestTimeout)
	defer cancel()
	c.SetRequest(c.Request().WithContext(ctx))
	return next(c)
}

// Stay lets a request go on if its caller leaves, as long as it might have gone on otherwise: what is known must not depend on
// whether the caller waits for it. The function that it returns ends it.
func Stay(c echo.Context) context.CancelFunc {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Request().Context()), requestTimeout)
	c.SetRequest(c.Request().WithContext(ctx))
	return cancel
}

// takesBody reports whether requests of a method have a body that means something (RFC 9110, section 9.3).
func takesBody(method string) bool {
	return method != http.MethodGet && method != http.MethodHead && method != http.MethodOptions
}

// leaveBody keeps handlers from the body of a request that has none by its method. A gateway that asks whether a request may
// pass sends along the fields that describe that request's body, and seldom the body. So nobody waits for it, nor takes what
// comes next for it: the connection ends with the answer.
func leaveBody(c echo.Context) {
	r := c.Request()
	if r.ContentLength != 0 {
		r.Body = http.NoBody
		c.Response().Header().Set("Connection", "close")
	}
}

// drain reads what nobody has read of a body, as far as the limit, where the connection is closed after the answer.
// A connection that is closed over unread bytes is reset, and the caller may lose the answer (RFC 9112, section 9.6).
// On one that stays open, net/http does the same. A caller that waits to be asked for its body (RFC 9110,
// section 10.1.1) is not asked.
func drain(r *http.Request, body io.Reader) {
	if r.Close && r.Header.Get("Expect") == "" {
		_, _ = io.Copy(io.Discard, body)
	}
}
