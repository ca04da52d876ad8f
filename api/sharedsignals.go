package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/pkg/egress"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/sharedsignal"
	"github.com/handstamp/handstamp/pkg/verifier"
)

const (
	signalsPath = "/v1/ssf"
	// maxPoll is how many events one poll answers, and longPoll how long it waits for the first.
	maxPoll  = 100
	longPoll = 8 * time.Second
	// lookEvery is how often a waiting poll looks although nothing has woken it.
	lookEvery = time.Second
	// maxText bounds what a receiver may store as a description, a state, a reason or a header, in bytes.
	maxText = 1024
)

// signalsMetadata is GET /.well-known/ssf-configuration (OpenID Shared Signals Framework 1.0, section 7.1).
func (a *API) signalsMetadata(c echo.Context) error {
	type scheme struct {
		URN string `json:"spec_urn"`
	}
	at := func(path string) string { return a.config.Issuer + path }
	c.Response().Header().Set("Cache-Control", "public, max-age=300")
	return writeJSON(c, http.StatusOK, "application/json", struct {
		SpecVersion           string   `json:"spec_version"`
		Issuer                string   `json:"issuer"`
		JWKSURI               string   `json:"jwks_uri"`
		DeliveryMethods       []string `json:"delivery_methods_supported"`
		ConfigurationEndpoint string   `json:"configuration_endpoint"`
		StatusEndpoint        string   `json:"status_endpoint"`
		AddSubjectEndpoint    string   `json:"add_subject_endpoint"`
		RemoveSubjectEndpoint string   `json:"remove_subject_endpoint"`
		VerificationEndpoint  string   `json:"verification_endpoint"`
		AuthorizationSchemes  []scheme `json:"authorization_schemes"`
		DefaultSubjects       string   `json:"default_subjects"`
	}{
		"1_0", a.config.Issuer, at("/.well-known/jwks.json"), []string{sharedsignal.MethodPush, sharedsignal.MethodPoll},
		at(signalsPath + "/streams"), at(signalsPath + "/status"), at(signalsPath + "/subjects/add"), at(signalsPath + "/subjects/remove"), at(signalsPath + "/verify"),
		[]scheme{{"urn:ietf:rfc:6749"}}, "ALL",
	})
}

// receiving lets a handler run only with an access token that a client has got for itself, with the scope for this. The handler finds it by
// claimsOf.
func (a *API) receiving(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		raw, err := verifier.TokenFrom(c.Request())
		if err != nil {
			return err
		}
		claims, err := a.Verifier.Verify(c.Request().Context(), raw)
		if err != nil {
			return err
		}
		noStore(c.Response().Header())
		eventOf(c).clientID = claims.ClientID
		if claims.SessionID != "" || claims.Subject != claims.ClientID || !claims.HasScope(sharedsignal.Scope) {
			return &Problem{
				Status: http.StatusForbidden, Code: "insufficient_scope", Title: "Not allowed", Detail: "streams need a client's own access token with the scope " + sharedsignal.Scope,
				Challenge: `Bearer error="insufficient_scope", scope="` + sharedsignal.Scope + `"`,
			}
		}
		client, err := a.Clients.Client(c.Request().Context(), claims.ClientID)
		if errors.Is(err, oauth.ErrClientNotFound) || err == nil && client.Disabled() {
			return invalidToken("the access token is not valid", err)
		}
		if err != nil {
			return err
		}
		c.Set(claimsKey, claims)
		return next(c)
	}
}

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

func (a *API) streamBody(s sharedsignal.Stream) streamBody {
	body := streamBody{
		ID: s.ID, Issuer: a.config.Issuer, Audience: s.ClientID, Delivery: delivery{Method: s.Method, EndpointURL: s.EndpointURL},
		EventsSupported: []string{sharedsignal.EventSessionRevoked}, EventsRequested: s.EventsRequested, EventsDelivered: []string{}, Description: s.Description,
		MinVerification: int(sharedsignal.VerifyEvery / time.Second), Inactivity: int(sharedsignal.Retention / time.Second),
	}
	if body.EventsRequested == nil {
		body.EventsRequested = []string{}
	}
	if s.Method == sharedsignal.MethodPoll {
		body.Delivery.EndpointURL = a.config.Issuer + signalsPath + "/poll"
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
		"events_delivered": {in.EventsDelivered, is.EventsDelivered}, "min_verification_interval": {in.MinVerification, is.MinVerification},
		"inactivity_timeout": {in.Inactivity, is.Inactivity},
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
			return invalidRequest(field, "the value is not valid")
		}
		if given, err := json.Marshal(compact); err != nil || string(given) != string(wanted) {
			return invalidRequest(field, "is not for the receiver to change")
		}
	}
	return nil
}

// apply takes over what the receiver decides on. What is left out stays as it is.
func (a *API) apply(in streamInput, s *sharedsignal.Stream) error {
	if in.EventsRequested != nil {
		if len(*in.EventsRequested) > 50 || slices.ContainsFunc(*in.EventsRequested, func(e string) bool { return e == "" || len(e) > 256 }) {
			return invalidRequest("events_requested", "at most 50, of at most 256 bytes each")
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
	if err := decodeObject(in.Delivery, "delivery.", &d); err != nil {
		return err
	}
	switch d.Method {
	case sharedsignal.MethodPoll:
		s.Method, s.EndpointURL, s.Sealed = d.Method, "", nil
		return nil
	case sharedsignal.MethodPush:
	default:
		return invalidRequest("delivery", "method must be "+sharedsignal.MethodPush+" or "+sharedsignal.MethodPoll)
	}
	if len(d.EndpointURL) > maxText || egress.CheckURL(d.EndpointURL, egress.Options{PrivateNetworks: a.config.SignalsPrivate}) != nil {
		return sharedsignal.ErrEndpoint
	}
	if len(d.Authorization) > maxText || slices.ContainsFunc([]byte(d.Authorization), func(b byte) bool { return b < ' ' || b > '~' }) {
		return invalidRequest("delivery", "authorization_header must be printable ASCII")
	}
	if d.Authorization != "" || d.EndpointURL != s.EndpointURL { // one that was not told again goes to the address that it was given for, and no other
		s.Sealed = a.SignalSealer.Seal(s.ID, d.Authorization)
	}
	s.Method, s.EndpointURL = d.Method, d.EndpointURL
	return nil
}

// ownStream finds the receiver's stream, which must have the ID.
func (a *API) ownStream(c echo.Context, id string) (sharedsignal.Stream, error) {
	s, err := a.Signals.Stream(c.Request().Context(), claimsOf(c).ClientID)
	if err == nil && s.ID != id {
		err = sharedsignal.ErrStreamNotFound
	}
	return s, err
}

// streams is GET /v1/ssf/streams: all of the receiver's, which are one or none, or with ?stream_id= that one (section 8.1.1.2).
func (a *API) streams(c echo.Context) error {
	query, err := readQuery(c, "stream_id")
	if err != nil {
		return err
	}
	if query.Has("stream_id") {
		s, err := a.ownStream(c, query.Get("stream_id"))
		if err != nil {
			return err
		}
		return writeJSON(c, http.StatusOK, "application/json", a.streamBody(s))
	}
	bodies := []streamBody{}
	s, err := a.Signals.Stream(c.Request().Context(), claimsOf(c).ClientID)
	switch {
	case err == nil:
		bodies = append(bodies, a.streamBody(s))
	case !errors.Is(err, sharedsignal.ErrStreamNotFound):
		return err
	}
	return writeJSON(c, http.StatusOK, "application/json", bodies)
}

// createStream is POST /v1/ssf/streams (section 8.1.1.1). Without a delivery the receiver polls.
func (a *API) createStream(c echo.Context) error {
	var in streamInput
	if err := readJSON(c, &in); err != nil {
		return err
	}
	now := time.Now()
	s := sharedsignal.Stream{ID: sharedsignal.NewStreamID(), ClientID: claimsOf(c).ClientID, Method: sharedsignal.MethodPoll, Status: sharedsignal.Enabled, CreatedAt: now, UpdatedAt: now}
	if in.ID != "" {
		return invalidRequest("stream_id", "is not for the receiver to choose")
	}
	if err := a.apply(in, &s); err != nil {
		return err
	}
	body := a.streamBody(s)
	if err := in.unchanged(body); err != nil {
		return err
	}
	if err := a.Signals.CreateStream(c.Request().Context(), s); err != nil {
		return err
	}
	return writeJSON(c, http.StatusCreated, "application/json", body)
}

// updateStream is PATCH /v1/ssf/streams (section 8.1.1.3).
func (a *API) updateStream(c echo.Context) error { return a.changeStream(c, false) }

// replaceStream is PUT /v1/ssf/streams (section 8.1.1.4): what is left out is deleted.
func (a *API) replaceStream(c echo.Context) error { return a.changeStream(c, true) }

func (a *API) changeStream(c echo.Context, replace bool) error {
	var in streamInput
	if err := readJSON(c, &in); err != nil {
		return err
	}
	if err := required("stream_id", in.ID); err != nil {
		return err
	}
	s, err := a.ownStream(c, in.ID)
	if err != nil {
		return err
	}
	if err := in.unchanged(a.streamBody(s)); err != nil {
		return err
	}
	if replace {
		s.EventsRequested, s.Description = nil, ""
		if in.Delivery == nil {
			s.Method, s.EndpointURL, s.Sealed = sharedsignal.MethodPoll, "", nil
		}
	}
	s.UpdatedAt = time.Now()
	if err := a.apply(in, &s); err != nil {
		return err
	}
	if err := a.Signals.UpdateStream(c.Request().Context(), s); err != nil {
		return err
	}
	return writeJSON(c, http.StatusOK, "application/json", a.streamBody(s))
}

// deleteStream is DELETE /v1/ssf/streams?stream_id= (section 8.1.1.5).
func (a *API) deleteStream(c echo.Context) error {
	query, err := readQuery(c, "stream_id")
	if err != nil {
		return err
	}
	if err := a.Signals.DeleteStream(c.Request().Context(), query.Get("stream_id"), claimsOf(c).ClientID); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// statusBody is the status of a stream (section 8.1.2).
type statusBody struct {
	ID     string              `json:"stream_id"`
	Status sharedsignal.Status `json:"status"`
	Reason string              `json:"reason,omitempty"`
}

// streamStatus is GET /v1/ssf/status?stream_id= (section 8.1.2.1).
func (a *API) streamStatus(c echo.Context) error {
	query, err := readQuery(c, "stream_id")
	if err != nil {
		return err
	}
	s, err := a.ownStream(c, query.Get("stream_id"))
	if err != nil {
		return err
	}
	return writeJSON(c, http.StatusOK, "application/json", statusBody{s.ID, s.Status, s.StatusReason})
}

// updateStreamStatus is POST /v1/ssf/status (section 8.1.2.2).
func (a *API) updateStreamStatus(c echo.Context) error {
	var in statusBody
	if err := readJSON(c, &in); err != nil {
		return err
	}
	if !in.Status.Valid() {
		return invalidRequest("status", "must be enabled, paused or disabled")
	}
	if len(in.Reason) > maxText {
		return invalidRequest("reason", "is too long")
	}
	if err := a.Signals.SetStreamStatus(c.Request().Context(), in.ID, claimsOf(c).ClientID, in.Status, in.Reason, time.Now()); err != nil {
		return err
	}
	return writeJSON(c, http.StatusOK, "application/json", in)
}

// subjectInput names a subject (section 8.1.3).
type subjectInput struct {
	ID       string          `json:"stream_id"`
	Subject  json.RawMessage `json:"subject"`
	Verified *bool           `json:"verified"`
}

func (a *API) readSubject(c echo.Context) (sharedsignal.Stream, sharedsignal.Subject, error) {
	var in subjectInput
	if err := readJSON(c, &in); err != nil {
		return sharedsignal.Stream{}, sharedsignal.Subject{}, err
	}
	s, err := a.ownStream(c, in.ID)
	if err != nil {
		return sharedsignal.Stream{}, sharedsignal.Subject{}, err
	}
	subject, err := sharedsignal.ParseSubject(in.Subject, a.config.Issuer)
	return s, subject, err
}

// addSubject is POST /v1/ssf/subjects/add. Every subject is in a stream from the start: this takes in again what was removed.
func (a *API) addSubject(c echo.Context) error {
	s, subject, err := a.readSubject(c)
	if err != nil {
		return err
	}
	if err := a.Signals.TakeIn(c.Request().Context(), s.ID, subject); err != nil {
		return err
	}
	return c.NoContent(http.StatusOK)
}

// removeSubject is POST /v1/ssf/subjects/remove. Whether there is such a user or session is not told.
func (a *API) removeSubject(c echo.Context) error {
	s, subject, err := a.readSubject(c)
	if err != nil {
		return err
	}
	if err := a.Signals.LeaveOut(c.Request().Context(), s.ID, subject, sharedsignal.MaxSubjects); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// verifyStream is POST /v1/ssf/verify (section 8.1.4.2).
func (a *API) verifyStream(c echo.Context) error {
	var in struct {
		ID    string `json:"stream_id"`
		State string `json:"state"`
	}
	if err := readJSON(c, &in); err != nil {
		return err
	}
	if len(in.State) > maxText {
		return invalidRequest("state", "is too long")
	}
	s, err := a.ownStream(c, in.ID)
	if err != nil {
		return err
	}
	if err := a.Signals.Verify(c.Request().Context(), s.ID, in.State, time.Now(), sharedsignal.VerifyEvery); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// pollStream is POST /v1/ssf/poll (RFC 8936, section 2.4).
func (a *API) pollStream(c echo.Context) error {
	ctx := c.Request().Context()
	var in struct {
		MaxEvents         *int                       `json:"maxEvents"`
		ReturnImmediately bool                       `json:"returnImmediately"`
		Acknowledged      []string                   `json:"ack"`
		Refused           map[string]json.RawMessage `json:"setErrs"`
	}
	if err := readJSON(c, &in); err != nil {
		return err
	}
	limit := maxPoll
	if in.MaxEvents != nil {
		limit = max(0, min(*in.MaxEvents, maxPoll))
	}
	s, err := a.Signals.Stream(ctx, claimsOf(c).ClientID)
	if err == nil && s.Method != sharedsignal.MethodPoll {
		err = sharedsignal.ErrStreamNotFound
	}
	if err != nil {
		return err
	}
	done := in.Acknowledged
	for jti, reason := range in.Refused { // which would be refused again
		a.Log.WarnContext(ctx, "the receiver refuses an event", "client_id", s.ClientID, "stream_id", s.ID, "reason", cut(string(reason)))
		done = append(done, jti)
	}
	if len(done) > 0 {
		if err := a.Signals.Acknowledge(ctx, s.ID, done); err != nil {
			return err
		}
	}
	var answer struct {
		Sets map[string]string `json:"sets"`
		More bool              `json:"moreAvailable,omitempty"`
	}
	answer.Sets = map[string]string{}
	if limit > 0 {
		events, err := a.awaitEvents(c, s.ID, limit+1, in.ReturnImmediately)
		if err != nil {
			return err
		}
		if answer.More = len(events) > limit; answer.More {
			events = events[:limit]
		}
		for _, e := range events {
			if answer.Sets[e.JTI], err = sharedsignal.SET(ctx, a.Minter, a.config.Issuer, s, e); err != nil {
				return err
			}
		}
	}
	return writeJSON(c, http.StatusOK, "application/json", answer)
}

// awaitEvents reads events, and waits for the first if it may.
func (a *API) awaitEvents(c echo.Context, streamID string, limit int, immediately bool) ([]sharedsignal.Event, error) {
	ctx := c.Request().Context()
	end := time.NewTimer(longPoll)
	defer end.Stop()
	for {
		changed := a.Blocklist.Changed() // the end of a session changes the blocklist, too
		events, err := a.Signals.SignalEvents(ctx, streamID, limit)
		if err != nil || len(events) > 0 || immediately {
			return events, err
		}
		look := time.NewTimer(lookEvery)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-a.stopping:
			immediately = true
		case <-end.C:
			immediately = true
		case <-changed:
		case <-look.C:
		}
		look.Stop()
	}
}
