package oauth2

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
)

// token is POST /oauth2/token (RFC 6749, section 3.2).
func (r *Room) token(c echo.Context) error {
	request, err := door.ReadForm(c)
	if err != nil {
		return err
	}
	presented := r.Door.Presents(c)
	request.Presented = presented.Token
	response, err := r.OAuth.Token(c.Request().Context(), request)
	if err != nil {
		return presented.Failed(err)
	}
	return r.Door.WriteTokens(c, http.StatusOK, response)
}
