package firstparty

import (
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/pkg/session"
)

// sessionBody is one of the user's logins: a session, or several that the same browser login gave the same client.
type sessionBody struct {
	ID            string    `json:"id"`
	ClientID      string    `json:"client_id"`
	CreatedAt     time.Time `json:"created_at"`
	LastRefreshAt time.Time `json:"last_refresh_at"`
	ExpiresAt     time.Time `json:"expires_at"`      // however often it is refreshed
	IdleExpiresAt time.Time `json:"idle_expires_at"` // unless it is refreshed before
	IP            string    `json:"ip"`
	UserAgent     string    `json:"user_agent"`
	AMR           []string  `json:"amr"`
	Current       bool      `json:"current"`
}

// sessions is GET /v1/sessions.
func (r *Account) sessions(c echo.Context) error {
	claims := door.ClaimsOf(c)
	list, err := r.Sessions.List(c.Request().Context(), claims.Subject)
	if err != nil {
		return err
	}
	body := struct {
		Sessions []sessionBody `json:"sessions"`
	}{[]sessionBody{}}
	for _, s := range session.Devices(list, claims.SessionID) {
		body.Sessions = append(body.Sessions, sessionBody{
			ID: s.ID.String(), ClientID: s.ClientID, CreatedAt: s.CreatedAt.UTC(), LastRefreshAt: s.RotatedAt.UTC(),
			ExpiresAt: s.ExpiresAt.UTC(), IdleExpiresAt: s.IdleExpiresAt.UTC(), IP: s.IP, UserAgent: s.UserAgent, AMR: s.AMR,
			Current: s.ID.String() == claims.SessionID,
		})
	}
	return door.WriteJSON(c, http.StatusOK, "application/json", body)
}

// endSession is DELETE /v1/sessions/{sid}. Another user's session is not found.
func (r *Account) endSession(c echo.Context) error {
	ctx := c.Request().Context()
	id, err := session.ParseID(c.Param("sid"))
	if err != nil {
		return err
	}
	s, err := r.Sessions.Session(ctx, id)
	if err != nil {
		return err
	}
	if s.UserID != door.ClaimsOf(c).Subject {
		return session.ErrNotFound
	}
	if err := r.Sessions.EndDevice(ctx, s, session.ReasonRevoked, by(c)); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// endSessions is DELETE /v1/sessions: log out everywhere; with ?except=current, everywhere else.
func (r *Account) endSessions(c echo.Context) error {
	var except session.ID
	query, err := door.ReadQuery(c, "except")
	if err != nil {
		return err
	}
	if query.Has("except") {
		if query.Get("except") != "current" {
			return door.InvalidRequest("except", `must be "current"`)
		}
		id, err := session.ParseID(door.ClaimsOf(c).SessionID)
		if err != nil {
			return err
		}
		except = id
	}
	_, err = r.Sessions.EndAll(c.Request().Context(), door.ClaimsOf(c).Subject, except, session.ReasonLogoutAll, by(c))
	if err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}
