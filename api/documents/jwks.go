package documents

import (
	"fmt"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
)

// jwks is GET /.well-known/jwks.json (RFC 7517): from memory, also while the database is down.
func (r *Room) jwks(c echo.Context) error {
	set := r.Keys.JWKS(c.Request().Context())
	h := c.Response().Header()
	h.Set("ETag", set.ETag)
	h.Set("Cache-Control", fmt.Sprintf("public, max-age=%d", int(set.MaxAge/time.Second)))
	if door.MatchesETag(c.Request(), set.ETag) {
		return c.NoContent(http.StatusNotModified)
	}
	return door.WriteBytes(c, http.StatusOK, "application/jwk-set+json", set.Body)
}
