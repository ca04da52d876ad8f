package firstparty

import (
	"errors"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// logout is POST /v1/logout: it ends the session of the access token in the Authorization header, or of the refresh token in
// the body. Answered after the end is committed. Logging out twice is no error. A token may end its own session, for any
// audience.
func (r *Login) logout(c echo.Context) error {
	claims, err := door.Authenticate(c, r.AnyAudience)
	if errors.Is(err, verifier.ErrNoToken) && c.Request().ContentLength != 0 {
		return r.logoutByRefreshToken(c)
	}
	if err != nil {
		return err
	}
	id, err := session.ParseID(claims.SessionID)
	if err != nil {
		return err
	}
	by := session.By{Actor: claims.Subject, ClientID: claims.ClientID, Origin: door.Origin(c)}
	ended := session.Session{ID: id, UserID: claims.Subject}
	if err := r.Sessions.End(c.Request().Context(), ended, session.ReasonLogout, by); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

func (r *Login) logoutByRefreshToken(c echo.Context) error {
	var b struct {
		RefreshToken string `json:"refresh_token"`
	}
	if err := door.ReadJSON(c, &b); err != nil {
		return err
	}
	if err := door.Required("refresh_token", b.RefreshToken); err != nil {
		return err
	}
	door.NoStore(c.Response().Header())
	s, _, err := r.Sessions.Find(c.Request().Context(), b.RefreshToken)
	if errors.Is(err, session.ErrEnded) {
		return c.NoContent(http.StatusNoContent)
	}
	if err != nil {
		return err
	}
	door.EventOf(c).UserID, door.EventOf(c).SessionID = s.UserID, s.ID.String()
	by := session.By{Actor: s.UserID, ClientID: s.ClientID, Origin: door.Origin(c)}
	if err := r.Sessions.End(c.Request().Context(), s, session.ReasonLogout, by); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}
