package oauth2

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/pkg/oauth"
)

// push is POST /oauth2/par (RFC 9126).
func (r *Room) push(c echo.Context) error {
	request, err := door.ReadForm(c)
	if err != nil {
		return err
	}
	uri, err := r.OAuth.Push(c.Request().Context(), request)
	if err != nil {
		return err
	}
	door.NoStore(c.Response().Header())
	return door.WriteJSON(c, http.StatusCreated, "application/json", struct {
		RequestURI string `json:"request_uri"`
		ExpiresIn  int64  `json:"expires_in"`
	}{uri, int64(oauth.PushedRequestLifetime.Seconds())})
}
