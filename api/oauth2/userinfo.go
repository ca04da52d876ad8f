package oauth2

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/pkg/oauth"
)

// userinfo is GET and POST /oauth2/userinfo (OpenID Connect Core, section 5.3). The access token may have any audience: it
// is the client's, and what the client gets here is what the user has granted it.
func (r *Room) userinfo(c echo.Context) error {
	claims, err := door.Authenticate(c, r.AnyAudience)
	if err != nil {
		return err
	}
	if !claims.HasScope("openid") {
		return door.InsufficientScope("openid", "the access token lacks the scope openid")
	}
	info, err := r.OAuth.UserInfo(c.Request().Context(), claims)
	if err != nil {
		return err
	}
	return door.WriteJSON(c, http.StatusOK, "application/json", struct {
		Subject string `json:"sub"`
		oauth.PersonClaims
	}{claims.Subject, info})
}
