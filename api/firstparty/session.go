package firstparty

import (
	"errors"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/pkg/session"
)

// session is GET /v1/session: whether the browser has a session at the client of the page, by the refresh token in the
// cookie. It answers what a refresh would find, and neither rotates nor ends anything: a start page asks it before it
// has a reason to refresh.
func (r *Login) session(c echo.Context) error {
	door.NoStore(c.Response().Header())
	client, presented, err := r.byCookie(c)
	if err != nil {
		return err
	}
	raw, err := presented.Token(client, "")
	if err != nil {
		return err
	}
	s, err := r.Sessions.Look(c.Request().Context(), session.Refresh{
		Raw:            raw,
		ClientID:       client.ID,
		IdempotencyKey: c.Request().Header.Get("Idempotency-Key"),
		Arrived:        door.Arrived(c.Request()),
	})
	if noSession(err) {
		if errors.Is(err, session.ErrEnded) {
			presented.Ended()
		}
		return c.NoContent(http.StatusNoContent)
	}
	if err != nil {
		return err
	}
	door.EventOf(c).UserID, door.EventOf(c).SessionID = s.UserID, s.ID.String()
	return door.WriteJSON(c, http.StatusOK, "application/json", struct {
		UserID        string    `json:"user_id"`
		ClientID      string    `json:"client_id"`
		SessionID     string    `json:"session_id"`
		ExpiresAt     time.Time `json:"expires_at"`      // however often it is refreshed
		IdleExpiresAt time.Time `json:"idle_expires_at"` // unless it is refreshed before
	}{s.UserID, s.ClientID, s.ID.String(), s.ExpiresAt.UTC(), s.IdleExpiresAt.UTC()})
}

// noSession reports whether a token would not be refreshed, for what reason ever. A storage failure is none.
func noSession(err error) bool {
	for _, reason := range []error{session.ErrMalformed, session.ErrEnded, session.ErrReuse, session.ErrLate, session.ErrWrongClient,
		session.ErrClientDisabled} {
		if errors.Is(err, reason) {
			return true
		}
	}
	return false
}
