package door

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
)

// NoStore keeps what is secret or personal out of every cache (RFC 6749, section 5.1).
func NoStore(h http.Header) {
	h.Set("Cache-Control", "no-store")
}

// SetRetryAfter sets whole seconds, at least one (RFC 9110, section 10.2.3).
func SetRetryAfter(h http.Header, d time.Duration) {
	if d > 0 {
		h.Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(d.Seconds())))))
	}
}

// WriteJSON writes a document with a Content-Length.
func WriteJSON(c echo.Context, status int, contentType string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return WriteBytes(c, status, contentType, body)
}

// WriteBytes writes a body with a Content-Length, which a HEAD request gets without the body.
func WriteBytes(c echo.Context, status int, contentType string, body []byte) error {
	h := c.Response().Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	c.Response().WriteHeader(status)
	if c.Request().Method == http.MethodHead {
		return nil
	}
	_, err := c.Response().Write(body)
	return err
}

// MatchesETag reports whether the caller has the document already (RFC 9110, section 13.1.2).
func MatchesETag(r *http.Request, etag string) bool {
	for _, line := range r.Header.Values("If-None-Match") {
		for tag := range strings.SplitSeq(line, ",") {
			tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/")
			if tag == etag || tag == "*" {
				return true
			}
		}
	}
	return false
}
