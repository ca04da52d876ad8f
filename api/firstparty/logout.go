package firstparty

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

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
	if errors.Is(err, verifier.ErrBlocked) {
		over, failure := r.isOver(c)
		switch {
		case failure != nil:
			return failure
		case over:
			return c.NoContent(http.StatusNoContent)
		}
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

// isOver reports whether the session of a request's access token has ended. The token is authentic, for one that is not is never
// said to be blocked; but a token can also be blocked by itself, and its session goes on.
func (r *Login) isOver(c echo.Context) (bool, error) {
	raw, err := verifier.TokenFrom(c.Request())
	if err != nil {
		return false, err
	}
	var claims struct {
		SessionID string `json:"sid"`
	}
	_, payload, _ := strings.Cut(raw, ".")
	payload, _, _ = strings.Cut(payload, ".")
	text, err := base64.RawURLEncoding.DecodeString(payload)
	if err == nil {
		err = json.Unmarshal(text, &claims)
	}
	if err != nil {
		return false, err
	}
	id, err := session.ParseID(claims.SessionID)
	if err != nil {
		return false, nil // a client's own token
	}
	door.NoStore(c.Response().Header())
	s, err := r.Sessions.Session(c.Request().Context(), id)
	if errors.Is(err, session.ErrNotFound) {
		return true, nil
	}
	return err == nil && !s.Alive(r.Sessions.Now()), err
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
