package documents

import (
	"cmp"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/api/pages"
)

// home is GET /: what this is, for a person who has come to the service itself.
func (r *Room) home(c echo.Context) error {
	return r.Door.WritePage(c, http.StatusOK, c.QueryParam("ui_locales"), pages.Home{
		Issuer:      r.Issuer,
		LoginURL:    r.HomeURL,
		MetadataURL: "/.well-known/openid-configuration",
		KeysURL:     "/.well-known/jwks.json",
		ContractURL: "/openapi.yaml",
	})
}

// icon is GET /favicon.ico.
func (r *Room) icon(c echo.Context) error { return r.Door.ServeIcon(c) }

// changePassword is GET /.well-known/change-password, where programs that keep passwords send a person (W3C, A Well-Known URL
// for Changing Passwords).
func (r *Room) changePassword(c echo.Context) error {
	door.NoStore(c.Response().Header())
	return c.Redirect(http.StatusFound, cmp.Or(r.PasswordURL, r.HomeURL, "/"))
}
