package door

import (
	"context"
	"net/http"

	"github.com/labstack/echo/v4"
)

// maxBody bounds a request body in bytes.
const maxBody = 64 << 10

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
			if r.ContentLength > maxBody {
				return echo.ErrStatusRequestEntityTooLarge
			}
			if r.Header.Get("Content-Encoding") != "" {
				return echo.ErrUnsupportedMediaType // a compressed body could be a bomb
			}
			if r.Body != nil && r.Body != http.NoBody {
				r.Body = http.MaxBytesReader(c.Response(), r.Body, maxBody)
			}
			if streams[c.Path()] {
				return next(c)
			}
			ctx, cancel := context.WithTimeout(r.Context(), d.config.RequestTimeout)
			defer cancel()
			c.SetRequest(r.WithContext(ctx))
			return next(c)
		}
	}
}
