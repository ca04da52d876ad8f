package api

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
)

// jwks is GET /.well-known/jwks.json (RFC 7517): from memory, also while the database is down.
func (a *API) jwks(c echo.Context) error {
	set := a.Keys.JWKS(c.Request().Context())
	h := c.Response().Header()
	h.Set("ETag", set.ETag)
	h.Set("Cache-Control", fmt.Sprintf("public, max-age=%d", int(set.MaxAge/time.Second)))
	if matchesETag(c.Request(), set.ETag) {
		return c.NoContent(http.StatusNotModified)
	}
	return writeBytes(c, http.StatusOK, "application/jwk-set+json", set.Body)
}

// matchesETag reports whether the caller has the document already (RFC 9110, section 13.1.2).
func matchesETag(r *http.Request, etag string) bool {
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
