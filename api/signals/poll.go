package signals

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/pkg/sharedsignal"
)

// pollStream is POST /v1/ssf/poll (RFC 8936, section 2.4).
func (r *Room) pollStream(c echo.Context) error {
	ctx := c.Request().Context()
	var in struct {
		MaxEvents         *int                       `json:"maxEvents"`
		ReturnImmediately bool                       `json:"returnImmediately"`
		Acknowledged      []string                   `json:"ack"`
		Refused           map[string]json.RawMessage `json:"setErrs"`
	}
	if err := door.ReadJSON(c, &in); err != nil {
		return err
	}
	limit := maxPoll
	if in.MaxEvents != nil {
		limit = max(0, min(*in.MaxEvents, maxPoll))
	}
	s, err := r.Signals.Stream(ctx, door.ClaimsOf(c).ClientID)
	if err == nil && s.Method != sharedsignal.MethodPoll {
		err = sharedsignal.ErrStreamNotFound
	}
	if err != nil {
		return err
	}
	done := in.Acknowledged
	for jti, reason := range in.Refused { // which would be refused again
		r.Log.WarnContext(ctx, "the receiver refuses an event", "client_id", s.ClientID, "stream_id", s.ID, "reason",
			door.Cut(string(reason)))
		done = append(done, jti)
	}
	if len(done) > 0 {
		if err := r.Signals.Acknowledge(ctx, s.ID, done); err != nil {
			return err
		}
	}
	var answer struct {
		Sets map[string]string `json:"sets"`
		More bool              `json:"moreAvailable,omitempty"`
	}
	answer.Sets = map[string]string{}
	if limit > 0 {
		events, err := r.awaitEvents(c, s.ID, limit+1, in.ReturnImmediately)
		if err != nil {
			return err
		}
		if answer.More = len(events) > limit; answer.More {
			events = events[:limit]
		}
		for _, e := range events {
			if answer.Sets[e.JTI], err = sharedsignal.SET(ctx, r.Signer, r.Door.Issuer(), s, e); err != nil {
				return err
			}
		}
	}
	return door.WriteJSON(c, http.StatusOK, "application/json", answer)
}

// awaitEvents reads events, and waits for the first if it may.
func (r *Room) awaitEvents(c echo.Context, streamID string, limit int, immediately bool) ([]sharedsignal.Event, error) {
	ctx := c.Request().Context()
	end := time.NewTimer(longPoll)
	defer end.Stop()
	for {
		changed := r.Blocklist.Changed() // the end of a session changes the blocklist, too
		events, err := r.Signals.SignalEvents(ctx, streamID, limit)
		if err != nil || len(events) > 0 || immediately {
			return events, err
		}
		look := time.NewTimer(lookEvery)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-r.Door.Stopping():
			immediately = true
		case <-end.C:
			immediately = true
		case <-changed:
		case <-look.C:
		}
		look.Stop()
	}
}
