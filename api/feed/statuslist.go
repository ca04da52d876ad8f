package feed

import (
	"fmt"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
)

// statusLists is GET /v1/status-lists: the addresses of all lists (draft-ietf-oauth-status-list, section 9).
func (r *Room) statusLists(c echo.Context) error {
	if r.Statuses == nil {
		return door.NotFound("access tokens of this service refer to no status list")
	}
	uris, err := r.Statuses.URIs(c.Request().Context())
	if err != nil {
		return err
	}
	c.Response().Header().Set("Cache-Control", "public, max-age=60")
	return door.WriteJSON(c, http.StatusOK, "application/json", struct {
		StatusLists []string `json:"status_lists"`
	}{uris})
}

// statusList is GET /v1/status-lists/CLIENT/NUMBER: one list as a JWT, for any Accept (draft-ietf-oauth-status-list,
// section 8.1).
func (r *Room) statusList(c echo.Context) error {
	if r.Statuses == nil {
		return door.NotFound("access tokens of this service refer to no status list")
	}
	if c.QueryParams().Has("time") { // draft-ietf-oauth-status-list, section 8.4
		return &door.Problem{
			Status: http.StatusNotImplemented,
			Code:   "not_supported",
			Title:  "Not implemented",
			Detail: "there are no lists of the past",
			Field:  "time",
		}
	}
	document, err := r.Statuses.Document(c.Request().Context(), c.Param("client"), c.Param("number"))
	if err != nil {
		return err
	}
	h := c.Response().Header()
	h.Set("ETag", document.ETag)
	h.Set("Cache-Control", fmt.Sprintf("public, max-age=%d", int(document.MaxAge/time.Second)))
	if door.MatchesETag(c.Request(), document.ETag) {
		return c.NoContent(http.StatusNotModified)
	}
	return writeCompressed(c, "application/statuslist+jwt", []byte(document.Raw))
}
