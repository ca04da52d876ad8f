package api

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/pkg/oauth"
)

// push is POST /oauth2/par (RFC 9126).
func (a *API) push(c echo.Context) error {
	r, err := readForm(c)
	if err != nil {
		return err
	}
	uri, err := a.OAuth.Push(c.Request().Context(), r)
	if err != nil {
		return err
	}
	noStore(c.Response().Header())
	return writeJSON(c, http.StatusCreated, "application/json", struct {
		RequestURI string `json:"request_uri"`
		ExpiresIn  int64  `json:"expires_in"`
	}{uri, int64(oauth.PushedRequestLifetime.Seconds())})
}
