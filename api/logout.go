package api

import (
	"errors"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// logout is POST /v1/logout: it ends the session of the access token in the Authorization header, or of the refresh token in the
// body. Answered after the end is committed. Logging out twice is no error. A token for whatever audience may end its own session.
func (a *API) logout(c echo.Context) error {
	claims, err := authenticate(c, a.AnyAudience)
	if errors.Is(err, verifier.ErrNoToken) && c.Request().ContentLength != 0 {
		return a.logoutByRefreshToken(c)
	}
	if err != nil {
		return err
	}
	id, err := session.ParseID(claims.SessionID)
	if err != nil {
		return err
	}
	by := session.By{Actor: claims.Subject, ClientID: claims.ClientID, Origin: origin(c)}
	if err := a.Sessions.End(c.Request().Context(), session.Session{ID: id, UserID: claims.Subject}, session.ReasonLogout, by); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

func (a *API) logoutByRefreshToken(c echo.Context) error {
	var b struct {
		RefreshToken string `json:"refresh_token"`
	}
	if err := readJSON(c, &b); err != nil {
		return err
	}
	if err := required("refresh_token", b.RefreshToken); err != nil {
		return err
	}
	noStore(c.Response().Header())
	s, _, err := a.Sessions.Find(c.Request().Context(), b.RefreshToken)
	if errors.Is(err, session.ErrEnded) {
		return c.NoContent(http.StatusNoContent)
	}
	if err != nil {
		return err
	}
	eventOf(c).userID, eventOf(c).sessionID = s.UserID, s.ID.String()
	by := session.By{Actor: s.UserID, ClientID: s.ClientID, Origin: origin(c)}
	if err := a.Sessions.End(c.Request().Context(), s, session.ReasonLogout, by); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}
