package api

import (
	"net/http"

	"github.com/labstack/echo/v4"
)

// revoke is POST /oauth2/revoke (RFC 7009): 200 once the revocation is committed, and for tokens that are not alive.
func (a *API) revoke(c echo.Context) error {
	r, err := readForm(c)
	if err != nil {
		return err
	}
	if err := a.OAuth.Revoke(c.Request().Context(), r); err != nil {
		return err
	}
	noStore(c.Response().Header())
	return c.NoContent(http.StatusOK)
}
