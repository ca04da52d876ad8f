package signals

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/pkg/egress"
	"github.com/handstamp/handstamp/pkg/sharedsignal"
)

// delivery is how a stream delivers (OpenID Shared Signals Framework 1.0, section 6.1).
type delivery struct {
	Method        string `json:"method"`
	EndpointURL   string `json:"endpoint_url,omitempty"`
	Authorization string `json:"authorization_header,omitempty"`
}

// streamBody is the configuration of a stream (section 8.1.1). The authorization header is a secret, and never told.
type streamBody struct {
	ID              string   `json:"stream_id"`
	Issuer          string   `json:"iss"`
	Audience        string   `json:"aud"`
	Delivery        delivery `json:"delivery"`
	EventsSupported []string `json:"events_supported"`
	EventsRequested []string `json:"events_requested"`
	EventsDelivered []string `json:"events_delivered"`
	MinVerification int      `json:"min_verification_interval"`
	Inactivity      int      `json:"inactivity_timeout"`
	Description     string   `json:"description,omitempty"`
}

func (r *Room) streamBody(s sharedsignal.Stream) streamBody {
	body := streamBody{
		ID:              s.ID,
		Issuer:          r.Door.Issuer(),
		Audience:        s.ClientID,
		Delivery:        delivery{Method: s.Method, EndpointURL: s.EndpointURL},
		EventsSupported: []string{sharedsignal.EventSessionRevoked},
		EventsRequested: s.EventsRequested,
		EventsDelivered: []string{},
		Description:     s.Description,
		MinVerification: int(sharedsignal.VerifyEvery / time.Second), Inactivity: int(sharedsignal.Retention / time.Second),
	}
	if body.EventsRequested == nil {
		body.EventsRequested = []string{}
	}
	if s.Method == sharedsignal.MethodPoll {
		body.Delivery.EndpointURL = r.Door.Issuer() + path + "/poll"
	}
	if s.Delivers() {
		body.EventsDelivered = body.EventsSupported
	}
	return body
}

// streamInput is what a receiver sends: what it decides on, and perhaps what it has read before, which must be as it is.
type streamInput struct {
	ID              string          `json:"stream_id"`
	EventsRequested *[]string       `json:"events_requested"`
	Delivery        json.RawMessage `json:"delivery"`
	Description     *string         `json:"description"`
	Issuer          json.RawMessage `json:"iss"`
	Audience        json.RawMessage `json:"aud"`
	EventsSupported json.RawMessage `json:"events_supported"`
	EventsDelivered json.RawMessage `json:"events_delivered"`
	MinVerification json.RawMessage `json:"min_verification_interval"`
	Inactivity      json.RawMessage `json:"inactivity_timeout"`
}

// unchanged refuses an input that wants to change what the service decides on (section 8.1.1.3).
func (in streamInput) unchanged(is streamBody) error {
	for field, v := range map[string]struct {
		given json.RawMessage
		is    any
	}{
		"iss": {in.Issuer, is.Issuer}, "aud": {in.Audience, is.Audience}, "events_supported": {in.EventsSupported, is.EventsSupported},
		"events_delivered":          {in.EventsDelivered, is.EventsDelivered},
		"min_verification_interval": {in.MinVerification, is.MinVerification},
		"inactivity_timeout":        {in.Inactivity, is.Inactivity},
	} {
		if v.given == nil {
			continue
		}
		var compact any
		wanted, err := json.Marshal(v.is)
		if err != nil {
			return err
		}
		if json.Unmarshal(v.given, &compact) != nil {
			return door.InvalidRequest(field, "the value is not valid")
		}
		if given, err := json.Marshal(compact); err != nil || string(given) != string(wanted) {
			return door.InvalidRequest(field, "is not for the receiver to change")
		}
	}
	return nil
}

// apply takes over what the receiver decides on. What is left out stays as it is.
func (r *Room) apply(in streamInput, s *sharedsignal.Stream) error {
	if in.EventsRequested != nil {
		unfit := func(e string) bool { return e == "" || len(e) > 256 }
		if len(*in.EventsRequested) > 50 || slices.ContainsFunc(*in.EventsRequested, unfit) {
			return door.InvalidRequest("events_requested", "at most 50, of at most 256 bytes each")
		}
		s.EventsRequested = *in.EventsRequested
	}
	if in.Description != nil {
		s.Description = *in.Description
		for len(s.Description) > maxText || !utf8.ValidString(s.Description) { // a transmitter may cut it (section 8.1.1)
			s.Description = s.Description[:min(len(s.Description)-1, maxText)]
		}
	}
	if in.Delivery == nil {
		return nil
	}
	var d delivery
	if err := door.DecodeObject(in.Delivery, "delivery.", &d); err != nil {
		return err
	}
	switch d.Method {
	case sharedsignal.MethodPoll:
		s.Method, s.EndpointURL, s.Sealed = d.Method, "", nil
		return nil
	case sharedsignal.MethodPush:
	default:
		return door.InvalidRequest("delivery", "method must be "+sharedsignal.MethodPush+" or "+sharedsignal.MethodPoll)
	}
	if len(d.EndpointURL) > maxText || egress.CheckURL(d.EndpointURL, egress.Options{PrivateNetworks: r.Private}) != nil {
		return sharedsignal.ErrEndpoint
	}
	unprintable := func(b byte) bool { return b < ' ' || b > '~' }
	if len(d.Authorization) > maxText || slices.ContainsFunc([]byte(d.Authorization), unprintable) {
		return door.InvalidRequest("delivery", "authorization_header must be printable ASCII")
	}
	// one that was not told again goes to the address that it was given for, and no other
	if d.Authorization != "" || d.EndpointURL != s.EndpointURL {
		s.Sealed = r.Sealer.Seal(s.ID, d.Authorization)
	}
	s.Method, s.EndpointURL = d.Method, d.EndpointURL
	return nil
}

// ownStream finds the receiver's stream, which must have the ID.
func (r *Room) ownStream(c echo.Context, id string) (sharedsignal.Stream, error) {
	s, err := r.Signals.Stream(c.Request().Context(), door.ClaimsOf(c).ClientID)
	if err == nil && s.ID != id {
		err = sharedsignal.ErrStreamNotFound
	}
	return s, err
}

// streams is GET /v1/ssf/streams: all of the receiver's, which are one or none, or with ?stream_id= that one (section 8.1.1.2).
func (r *Room) streams(c echo.Context) error {
	query, err := door.ReadQuery(c, "stream_id")
	if err != nil {
		return err
	}
	if query.Has("stream_id") {
		s, err := r.ownStream(c, query.Get("stream_id"))
		if err != nil {
			return err
		}
		return door.WriteJSON(c, http.StatusOK, "application/json", r.streamBody(s))
	}
	bodies := []streamBody{}
	s, err := r.Signals.Stream(c.Request().Context(), door.ClaimsOf(c).ClientID)
	switch {
	case err == nil:
		bodies = append(bodies, r.streamBody(s))
	case !errors.Is(err, sharedsignal.ErrStreamNotFound):
		return err
	}
	return door.WriteJSON(c, http.StatusOK, "application/json", bodies)
}

// createStream is POST /v1/ssf/streams (section 8.1.1.1). Without a delivery the receiver polls.
func (r *Room) createStream(c echo.Context) error {
	var in streamInput
	if err := door.ReadJSON(c, &in); err != nil {
		return err
	}
	now := r.Door.Now()
	s := sharedsignal.Stream{
		ID:        sharedsignal.NewStreamID(),
		ClientID:  door.ClaimsOf(c).ClientID,
		Method:    sharedsignal.MethodPoll,
		Status:    sharedsignal.Enabled,
		CreatedAt: now,
		UpdatedAt: now,
	}
	if in.ID != "" {
		return door.InvalidRequest("stream_id", "is not for the receiver to choose")
	}
	if err := r.apply(in, &s); err != nil {
		return err
	}
	body := r.streamBody(s)
	if err := in.unchanged(body); err != nil {
		return err
	}
	if err := r.Signals.CreateStream(c.Request().Context(), s); err != nil {
		return err
	}
	return door.WriteJSON(c, http.StatusCreated, "application/json", body)
}

// updateStream is PATCH /v1/ssf/streams (section 8.1.1.3).
func (r *Room) updateStream(c echo.Context) error { return r.changeStream(c, false) }

// replaceStream is PUT /v1/ssf/streams (section 8.1.1.4): what is left out is deleted.
func (r *Room) replaceStream(c echo.Context) error { return r.changeStream(c, true) }

func (r *Room) changeStream(c echo.Context, replace bool) error {
	var in streamInput
	if err := door.ReadJSON(c, &in); err != nil {
		return err
	}
	if err := door.Required("stream_id", in.ID); err != nil {
		return err
	}
	s, err := r.ownStream(c, in.ID)
	if err != nil {
		return err
	}
	if err := in.unchanged(r.streamBody(s)); err != nil {
		return err
	}
	if replace {
		s.EventsRequested, s.Description = nil, ""
		if in.Delivery == nil {
			s.Method, s.EndpointURL, s.Sealed = sharedsignal.MethodPoll, "", nil
		}
	}
	s.UpdatedAt = r.Door.Now()
	if err := r.apply(in, &s); err != nil {
		return err
	}
	if err := r.Signals.UpdateStream(c.Request().Context(), s); err != nil {
		return err
	}
	return door.WriteJSON(c, http.StatusOK, "application/json", r.streamBody(s))
}

// deleteStream is DELETE /v1/ssf/streams?stream_id= (section 8.1.1.5).
func (r *Room) deleteStream(c echo.Context) error {
	query, err := door.ReadQuery(c, "stream_id")
	if err != nil {
		return err
	}
	if err := r.Signals.DeleteStream(c.Request().Context(), query.Get("stream_id"), door.ClaimsOf(c).ClientID); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}
