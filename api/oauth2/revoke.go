package oauth2

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
)

// revoke is POST /oauth2/revoke (RFC 7009): 200 once the revocation is committed, and for tokens that are not alive. The body is
// an empty object: section 2.2 ignores it, and clients that read every answer as JSON fail on none.
func (r *Room) revoke(c echo.Context) error {
	request, err := door.ReadForm(c)
	if err != nil {
		return err
	}
	presented := r.Door.Presents(c)
	request.Presented = presented.Token
	if err := r.OAuth.Revoke(c.Request().Context(), request); err != nil {
		return err
	}
	presented.Ended()
	door.NoStore(c.Response().Header())
	return door.WriteJSON(c, http.StatusOK, "application/json", struct{}{})
}
