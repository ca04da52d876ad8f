package firstparty

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// logout is POST /v1/logout: it ends the session of the access token in the Authorization header, or of the refresh
// token in the body or the cookie. Answered after the end is committed. Logging out twice is no error. A token may end
// its own session, for any audience.
func (r *Login) logout(c echo.Context) error {
	claims, err := door.Authenticate(c, r.AnyAudience)
	if errors.Is(err, verifier.ErrNoToken) && c.Request().ContentLength != 0 {
		return r.logoutByRefreshToken(c)
	}
	if errors.Is(err, verifier.ErrNoToken) && c.Request().Header.Get(door.HeaderClient) != "" {
		return r.logoutByCookie(c)
	}
	if errors.Is(err, verifier.ErrBlocked) {
		id, over, failure := r.isOver(c)
		switch {
		case failure != nil:
			return failure
		case over:
			r.clearCookie(c, id)
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
	r.clearCookie(c, id)
	return c.NoContent(http.StatusNoContent)
}

// clearCookie clears the cookie of the page that has ended a session with its access token. A cookie of another session is of
// somebody who has logged in meanwhile, in another tab.
func (r *Login) clearCookie(c echo.Context, ended session.ID) {
	id := c.Request().Header.Get(door.HeaderClient)
	if id == "" {
		return // no page of a client with a cookie
	}
	client, err := r.OAuth.Client(c.Request().Context(), id)
	if err != nil {
		return
	}
	presented := r.Door.Presents(c)
	raw, err := presented.Token(client, "")
	if err != nil {
		return
	}
	if id, err := r.Sessions.IDOf(raw); err == nil && id == ended {
		presented.Ended()
	}
}

// logoutByCookie ends the session whose refresh token is in the cookie of the client that the page names.
func (r *Login) logoutByCookie(c echo.Context) error {
	door.NoStore(c.Response().Header())
	client, presented, err := r.byCookie(c)
	if err != nil {
		return err
	}
	raw, err := presented.Token(client, "")
	if err != nil {
		return err
	}
	if raw != "" {
		if err := r.endByRefreshToken(c, raw, client.ID); err != nil {
			return presented.Failed(err)
		}
	}
	presented.Ended()
	return c.NoContent(http.StatusNoContent)
}

// byCookie finds the client of a request that names it by the header of pages only, and so has its refresh token in a cookie.
func (r *Login) byCookie(c echo.Context) (oauth.Client, *door.Presented, error) {
	id := c.Request().Header.Get(door.HeaderClient)
	if id == "" {
		return oauth.Client{}, nil, door.NoClientHeader()
	}
	client, err := r.OAuth.Client(c.Request().Context(), id)
	if err != nil {
		return oauth.Client{}, nil, err
	}
	door.EventOf(c).ClientID = client.ID
	if !client.UsesCookie() {
		return oauth.Client{}, nil, door.InvalidRequest("refresh_token",
			"the refresh token of this client is in the body, not in a cookie")
	}
	return client, r.Door.Presents(c), nil
}

// endByRefreshToken ends the session of a refresh token that a client presents. A session that is over already is no error.
func (r *Login) endByRefreshToken(c echo.Context, raw, clientID string) error {
	s, _, err := r.Sessions.Find(c.Request().Context(), raw)
	switch {
	case errors.Is(err, session.ErrEnded):
		return nil
	case err != nil:
		return err
	case s.ClientID != clientID:
		return session.ErrWrongClient
	}
	return r.end(c, s)
}

func (r *Login) end(c echo.Context, s session.Session) error {
	door.EventOf(c).UserID, door.EventOf(c).SessionID = s.UserID, s.ID.String()
	by := session.By{Actor: s.UserID, ClientID: s.ClientID, Origin: door.Origin(c)}
	return r.Sessions.End(c.Request().Context(), s, session.ReasonLogout, by)
}

// isOver reports whether the session of a request's access token has ended, and which it is. The token is authentic, for one that
// is not is never said to be blocked; but a token can also be blocked by itself, and its session goes on.
func (r *Login) isOver(c echo.Context) (id session.ID, over bool, err error) {
	raw, err := verifier.TokenFrom(c.Request())
	if err != nil {
		return id, false, err
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
		return id, false, err
	}
	if id, err = session.ParseID(claims.SessionID); err != nil {
		return id, false, nil // a client's own token
	}
	door.NoStore(c.Response().Header())
	s, err := r.Sessions.Session(c.Request().Context(), id)
	if errors.Is(err, session.ErrNotFound) {
		return id, true, nil
	}
	return id, err == nil && !s.Alive(r.Sessions.Now()), err
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
	client, err := r.OAuth.Client(c.Request().Context(), s.ClientID)
	if err == nil && client.UsesCookie() {
		return door.WrongTransport()
	}
	if err := r.end(c, s); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}
