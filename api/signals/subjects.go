package signals

import (
	"encoding/json"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/pkg/sharedsignal"
)

// statusBody is the status of a stream (section 8.1.2).
type statusBody struct {
	ID     string              `json:"stream_id"`
	Status sharedsignal.Status `json:"status"`
	Reason string              `json:"reason,omitempty"`
}

// streamStatus is GET /v1/ssf/status?stream_id= (section 8.1.2.1).
func (r *Room) streamStatus(c echo.Context) error {
	query, err := door.ReadQuery(c, "stream_id")
	if err != nil {
		return err
	}
	s, err := r.ownStream(c, query.Get("stream_id"))
	if err != nil {
		return err
	}
	return door.WriteJSON(c, http.StatusOK, "application/json", statusBody{s.ID, s.Status, s.StatusReason})
}

// updateStreamStatus is POST /v1/ssf/status (section 8.1.2.2).
func (r *Room) updateStreamStatus(c echo.Context) error {
	var in statusBody
	if err := door.ReadJSON(c, &in); err != nil {
		return err
	}
	if !in.Status.Valid() {
		return door.InvalidRequest("status", "must be enabled, paused or disabled")
	}
	if len(in.Reason) > maxText {
		return door.InvalidRequest("reason", "is too long")
	}
	ctx, client := c.Request().Context(), door.ClaimsOf(c).ClientID
	if err := r.Signals.SetStreamStatus(ctx, in.ID, client, in.Status, in.Reason, r.Door.Now()); err != nil {
		return err
	}
	return door.WriteJSON(c, http.StatusOK, "application/json", in)
}

// subjectInput names a subject (section 8.1.3).
type subjectInput struct {
	ID       string          `json:"stream_id"`
	Subject  json.RawMessage `json:"subject"`
	Verified *bool           `json:"verified"`
}

func (r *Room) readSubject(c echo.Context) (sharedsignal.Stream, sharedsignal.Subject, error) {
	var in subjectInput
	if err := door.ReadJSON(c, &in); err != nil {
		return sharedsignal.Stream{}, sharedsignal.Subject{}, err
	}
	s, err := r.ownStream(c, in.ID)
	if err != nil {
		return sharedsignal.Stream{}, sharedsignal.Subject{}, err
	}
	subject, err := sharedsignal.ParseSubject(in.Subject, r.Door.Issuer())
	return s, subject, err
}

// addSubject is POST /v1/ssf/subjects/add. Every subject is in a stream from the start: this takes in again what was removed.
func (r *Room) addSubject(c echo.Context) error {
	s, subject, err := r.readSubject(c)
	if err != nil {
		return err
	}
	if err := r.Signals.TakeIn(c.Request().Context(), s.ID, subject); err != nil {
		return err
	}
	return c.NoContent(http.StatusOK)
}

// removeSubject is POST /v1/ssf/subjects/remove. Whether there is such a user or session is not told.
func (r *Room) removeSubject(c echo.Context) error {
	s, subject, err := r.readSubject(c)
	if err != nil {
		return err
	}
	if err := r.Signals.LeaveOut(c.Request().Context(), s.ID, subject, sharedsignal.MaxSubjects); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// verifyStream is POST /v1/ssf/verify (section 8.1.4.2).
func (r *Room) verifyStream(c echo.Context) error {
	var in struct {
		ID    string `json:"stream_id"`
		State string `json:"state"`
	}
	if err := door.ReadJSON(c, &in); err != nil {
		return err
	}
	if len(in.State) > maxText {
		return door.InvalidRequest("state", "is too long")
	}
	s, err := r.ownStream(c, in.ID)
	if err != nil {
		return err
	}
	if err := r.Signals.Verify(c.Request().Context(), s.ID, in.State, r.Door.Now(), sharedsignal.VerifyEvery); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}
