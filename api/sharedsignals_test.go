package api_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/sharedsignal"
)

const caep = "https://schemas.openid.net/secevent/caep/event-type/session-revoked"

// signals is a receiver with its access token.
type signals struct {
	*servicetest.Service
	t     testing.TB
	token string
}

func withPrivateReceivers(c *service.Config) { c.SignalsPrivate = true }

func addReceiver(t testing.TB, s *servicetest.Service) signals {
	t.Helper()
	id := fmt.Sprintf("receiver-%d", people.Add(1))
	addClient(t, s, oauth.Client{
		ID:         id,
		Type:       oauth.Confidential,
		SecretHash: oauth.HashSecret(secretOf(id)),
		Grants:     []string{oauth.GrantClientCredentials},
		Scopes:     []string{"ssf", "other"},
	})
	return signals{s, t, s.FormWith(t, "/oauth2/token", basic(id), "grant_type", "client_credentials", "scope",
		"ssf").Tokens(t).AccessToken}
}

// call sends JSON to an endpoint below /v1/ssf.
func (r signals) call(method, path string, body any) servicetest.Response {
	r.t.Helper()
	var content io.Reader
	h := bearer(r.token)
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			r.t.Fatal(err)
		}
		content = strings.NewReader(string(encoded))
		h.Set("Content-Type", "application/json")
	}
	return r.Do(r.t, method, "/v1/ssf/"+path, h, content)
}

// created is a stream's configuration.
func (r signals) created(body object) map[string]any {
	r.t.Helper()
	answer := r.call("POST", "streams", body)
	if answer.Status != http.StatusCreated {
		r.t.Fatalf("%d %s", answer.Status, answer.Body)
	}
	var stream map[string]any
	answer.JSON(r.t, &stream)
	return stream
}

type polled struct {
	Sets map[string]string
	More bool `json:"moreAvailable"`
}

func (r signals) poll(body object) polled {
	r.t.Helper()
	var p polled
	answer := r.call("POST", "poll", body)
	if answer.Status != http.StatusOK {
		r.t.Fatalf("%d %s", answer.Status, answer.Body)
	}
	answer.JSON(r.t, &p)
	return p
}

// set is the claims of a security event token, whose signature was checked with the published keys.
func (r signals) set(raw string) map[string]any {
	r.t.Helper()
	claims := jwt.MapClaims{}
	parsed, err := jwt.NewParser(jwt.WithIssuer(r.Config.Issuer),
		jwt.WithAudience(fmt.Sprint(servicetest.Claims(r.t, r.token)["client_id"]))).ParseWithClaims(raw, claims,
		func(t *jwt.Token) (any, error) {
			kid, _ := t.Header["kid"].(string)
			key, ok := r.Keys.Public(kid)
			if !ok {
				return nil, fmt.Errorf("no key %q", kid)
			}
			return key.Public(), nil
		})
	if err != nil || parsed.Header["typ"] != "secevent+jwt" {
		r.t.Fatalf("%v: %s", err, raw)
	}
	for _, not := range []string{"sub", "exp"} { // section 4.1
		if _, ok := claims[not]; ok {
			r.t.Errorf("a security event token with %s", not)
		}
	}
	return claims
}

// revocation checks an event about the end of a session.
func (r signals) revocation(raw string, p person, initiator string) {
	r.t.Helper()
	claims := r.set(raw)
	want := map[string]any{
		"format":  "complex",
		"user":    map[string]any{"format": "iss_sub", "iss": r.Config.Issuer, "sub": p.id},
		"session": map[string]any{"format": "opaque", "id": sid(r.t, p.AccessToken)},
	}
	if fmt.Sprint(claims["sub_id"]) != fmt.Sprint(want) {
		r.t.Errorf("sub_id %v, want %v", claims["sub_id"], want)
	}
	events, _ := claims["events"].(map[string]any)
	event, _ := events[caep].(map[string]any)
	if len(events) != 1 || event["initiating_entity"] != initiator || event["event_timestamp"] != claims["iat"] {
		r.t.Errorf("events %v", events)
	}
}

func logOut(t testing.TB, s *servicetest.Service, p person) {
	t.Helper()
	if r := s.Do(t, http.MethodPost, "/v1/logout", bearer(p.AccessToken), nil); r.Status >= 300 {
		t.Fatal(r)
	}
}

func TestSignalsPoll(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db)
		other := servicetest.Start(t, db, sameIssuer(s))
		r := addReceiver(t, s)
		stream := r.created(object{"events_requested": []string{caep, "urn:unknown"}, "description": "mine"})
		id, _ := stream["stream_id"].(string)
		if d, _ := stream["delivery"].(map[string]any); d["method"] != "urn:ietf:rfc:8936" ||
			d["endpoint_url"] != s.Config.Issuer+"/v1/ssf/poll" || fmt.Sprint(stream["events_delivered"]) != "["+caep+"]" ||
			stream["iss"] != s.Config.Issuer {
			t.Errorf("stream %v", stream)
		}
		want(t, "a second stream", r.call("POST", "streams", object{}), http.StatusConflict, "conflict")

		t.Run("ok/told until it is acknowledged, by every replica", func(t *testing.T) {
			p := signUp(t, s)
			logOut(t, s, p)
			first := r.poll(object{"returnImmediately": true})
			if len(first.Sets) != 1 {
				t.Fatalf("%+v", first)
			}
			elsewhere := r
			elsewhere.Service = other
			again := elsewhere.poll(object{"returnImmediately": true})
			for jti, raw := range first.Sets {
				r.revocation(raw, p, "user")
				a, b := servicetest.Claims(t, raw), servicetest.Claims(t, again.Sets[jti])
				if a["jti"] != jti || fmt.Sprint(a) != fmt.Sprint(b) {
					t.Errorf("%v, then %v", a, b)
				}
				if left := r.poll(object{"returnImmediately": true, "ack": []string{jti}}); len(left.Sets) != 0 {
					t.Errorf("told after it was acknowledged: %v", left)
				}
			}
		})
		t.Run("ok/more than asked for, and refused", func(t *testing.T) {
			for range 3 {
				logOut(t, s, signUp(t, s))
			}
			if none := r.poll(object{"maxEvents": 0}); len(none.Sets) != 0 {
				t.Errorf("%+v", none)
			}
			got := r.poll(object{"maxEvents": 2, "returnImmediately": true})
			if len(got.Sets) != 2 || !got.More {
				t.Fatalf("%+v", got)
			}
			errs := object{}
			for jti := range got.Sets {
				errs[jti] = object{"err": "jwtParse", "description": "cannot be read"}
			}
			last := r.poll(object{"returnImmediately": true, "setErrs": errs})
			if len(last.Sets) != 1 || last.More {
				t.Fatalf("%+v", last)
			}
			for jti := range last.Sets {
				r.poll(object{"maxEvents": 0, "ack": []string{jti}})
			}
		})
		t.Run("ok/waits for an event of another replica", func(t *testing.T) {
			var group sync.WaitGroup
			p := signUp(t, s)
			group.Go(func() { logOut(t, other, p) })
			began := time.Now()
			got := r.poll(object{})
			group.Wait()
			if len(got.Sets) != 1 || time.Since(began) > 5*time.Second {
				t.Errorf("%+v after %v", got, time.Since(began))
			}
			for jti := range got.Sets {
				r.poll(object{"maxEvents": 0, "ack": []string{jti}})
			}
		})
		t.Run("ok/verification", func(t *testing.T) {
			if answer := r.call("POST", "verify", object{"stream_id": id, "state": "abc"}); answer.Status != http.StatusNoContent {
				t.Fatal(answer)
			}
			want(t, "again at once", r.call("POST", "verify", object{"stream_id": id}), http.StatusTooManyRequests, "too_many_attempts")
			for jti, raw := range r.poll(object{"returnImmediately": true}).Sets {
				claims := r.set(raw)
				if fmt.Sprint(claims["sub_id"]) != fmt.Sprint(map[string]any{"format": "opaque", "id": id}) ||
					fmt.Sprint(claims["events"]) != fmt.Sprint(map[string]any{sharedsignal.EventVerification: map[string]any{"state": "abc"}}) {
					t.Errorf("%v", claims)
				}
				r.poll(object{"maxEvents": 0, "ack": []string{jti}})
			}
		})
		t.Run("ok/a subject removed and added", func(t *testing.T) {
			p := signUp(t, s)
			user := object{"stream_id": id, "subject": object{"format": "iss_sub", "iss": s.Config.Issuer, "sub": p.id}}
			if answer := r.call("POST", "subjects/remove", user); answer.Status != http.StatusNoContent {
				t.Fatal(answer)
			}
			logOut(t, s, p)
			session := object{"format": "complex", "session": object{"format": "opaque", "id": sid(t, p.AccessToken)}}
			if answer := r.call("POST", "subjects/add",
				object{"stream_id": id, "subject": session, "verified": true}); answer.Status != http.StatusOK {
				t.Fatal(answer)
			}
			if answer := r.call("POST", "subjects/add", user); answer.Status != http.StatusOK {
				t.Fatal(answer)
			}
			if got := r.poll(object{"returnImmediately": true}); len(got.Sets) != 0 {
				t.Errorf("%+v", got)
			}
			for _, subject := range []object{{"format": "email", "email": "a@example.com"}, {"format": "opaque", "id": "x"}, {
				"format": "iss_sub",
				"iss":    "https://elsewhere.example",
				"sub":    p.id,
			}, {}} {
				want(t, fmt.Sprint(subject), r.call("POST", "subjects/remove", object{"stream_id": id, "subject": subject}),
					http.StatusBadRequest, "invalid_request")
			}
		})
		t.Run("ok/paused", func(t *testing.T) {
			status := func(to string) {
				t.Helper()
				if answer := r.call("POST", "status",
					object{"stream_id": id, "status": to, "reason": "because"}); answer.Status != http.StatusOK {
					t.Fatal(answer)
				}
				var got struct{ Status, Reason string }
				r.call("GET", "status?stream_id="+id, nil).JSON(t, &got)
				if got.Status != to || got.Reason != "because" {
					t.Errorf("status %+v", got)
				}
			}
			status("paused")
			logOut(t, s, signUp(t, s))
			if got := r.poll(object{"returnImmediately": true}); len(got.Sets) != 0 {
				t.Errorf("while paused: %+v", got)
			}
			status("enabled")
			if got := r.poll(object{"returnImmediately": true}); len(got.Sets) != 1 {
				t.Errorf("after: %+v", got)
			}
			status("disabled")
			status("enabled")
			if got := r.poll(object{"returnImmediately": true}); len(got.Sets) != 0 {
				t.Errorf("after it was disabled: %+v", got)
			}
		})
		t.Run("ok/updated, replaced, deleted", func(t *testing.T) {
			var got map[string]any
			r.call("PATCH", "streams", object{
				"stream_id":        id,
				"description":      "changed",
				"iss":              s.Config.Issuer,
				"aud":              stream["aud"],
				"events_delivered": []string{caep},
			}).JSON(t, &got)
			if got["description"] != "changed" || fmt.Sprint(got["events_requested"]) != "["+caep+" urn:unknown]" {
				t.Errorf("updated: %v", got)
			}
			for field, value := range map[string]any{
				"iss":                "https://elsewhere.example",
				"aud":                "other",
				"events_supported":   []string{"urn:x"},
				"inactivity_timeout": 1,
				"surprise":           1,
			} {
				want(t, field, r.call("PATCH", "streams", object{"stream_id": id, field: value}), http.StatusBadRequest, "invalid_request")
			}
			r.call("PUT", "streams", object{"stream_id": id, "events_requested": []string{"urn:unknown"}}).JSON(t, &got)
			if got["description"] != "changed" && got["description"] != nil || fmt.Sprint(got["events_delivered"]) != "[]" {
				t.Errorf("replaced: %v", got)
			}
			var all []map[string]any
			r.call("GET", "streams", nil).JSON(t, &all)
			if len(all) != 1 || all[0]["stream_id"] != id {
				t.Errorf("all: %v", all)
			}
			stranger := addReceiver(t, s)
			want(t, "another client's", stranger.call("GET", "streams?stream_id="+url.QueryEscape(id), nil), http.StatusNotFound,
				"not_found")
			want(t, "another client's", stranger.call("DELETE", "streams?stream_id="+url.QueryEscape(id), nil), http.StatusNotFound,
				"not_found")
			want(t, "another client's", stranger.call("POST", "status", object{"stream_id": id, "status": "paused"}),
				http.StatusNotFound, "not_found")
			if answer := r.call("DELETE", "streams?stream_id="+id, nil); answer.Status != http.StatusNoContent {
				t.Fatal(answer)
			}
			want(t, "a stream that is gone", r.call("POST", "poll", object{}), http.StatusNotFound, "not_found")
			if body := r.call("GET", "streams", nil).Body; body != "[]" {
				t.Errorf("all: %s", body)
			}
		})
		t.Run("fail/whoever is no receiver", func(t *testing.T) {
			user := signUp(t, s)
			backend := fmt.Sprint(servicetest.Claims(t, r.token)["client_id"])
			narrow := s.FormWith(t, "/oauth2/token", basic(backend), "grant_type", "client_credentials", "scope",
				"other").Tokens(t).AccessToken
			for name, c := range map[string]struct {
				token  string
				status int
				code   string
			}{
				"nobody":            {"", 401, "unauthorized"},
				"forged":            {"e30.e30.e30", 401, "invalid_token"},
				"a user":            {user.AccessToken, 403, "insufficient_scope"},
				"without the scope": {narrow, 403, "insufficient_scope"},
			} {
				stranger := signals{s, t, c.token}
				for _, path := range []string{"POST streams", "GET streams", "POST poll", "POST verify", "POST subjects/remove",
					"POST status"} {
					method, path, _ := strings.Cut(path, " ")
					var body any
					if method == "POST" {
						body = object{}
					}
					want(t, name+": "+path, stranger.call(method, path, body), c.status, c.code)
				}
			}
		})
	})
}

// receiver is an endpoint that events are pushed to.
type endpoint struct {
	*httptest.Server
	mu            sync.Mutex
	got           []string
	authorization []string
	answer        func(n int, w http.ResponseWriter)
}

func newEndpoint(t *testing.T, answer func(n int, w http.ResponseWriter)) *endpoint {
	t.Helper()
	e := &endpoint{answer: answer}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		e.mu.Lock()
		defer e.mu.Unlock()
		if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/secevent+jwt" {
			t.Errorf("%s %s", r.Method, r.Header.Get("Content-Type"))
		}
		e.got = append(e.got, string(body))
		e.authorization = append(e.authorization, r.Header.Get("Authorization"))
		e.answer(len(e.got), w)
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *endpoint) received() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.got)
}

func accept(_ int, w http.ResponseWriter) { w.WriteHeader(http.StatusAccepted) }

func TestSignalsPush(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db, withPrivateReceivers)
		servicetest.Start(t, db, withPrivateReceivers, sameIssuer(s)) // which takes part
		pushed := func(t *testing.T, e *endpoint) (signals, string) {
			t.Helper()
			r := addReceiver(t, s)
			stream := r.created(object{
				"events_requested": []string{caep},
				"delivery": object{
					"method":               "urn:ietf:rfc:8935",
					"endpoint_url":         e.URL + "/events",
					"authorization_header": "Bearer secret of the receiver",
				},
			})
			if body := fmt.Sprint(stream); strings.Contains(body, "secret") {
				t.Errorf("the authorization is told: %s", body)
			}
			id, _ := stream["stream_id"].(string)
			return r, id
		}
		jti := func(raw string) any { return servicetest.Claims(t, raw)["jti"] }

		t.Run("ok/once, with the authorization", func(t *testing.T) {
			e := newEndpoint(t, accept)
			r, id := pushed(t, e)
			p := signUp(t, s)
			logOut(t, s, p)
			servicetest.Eventually(t, "the event arrives", func() bool { return len(e.received()) > 0 })
			r.revocation(e.received()[0], p, "user")
			if e.authorization[0] != "Bearer secret of the receiver" {
				t.Errorf("authorization %q", e.authorization[0])
			}
			if answer := r.call("POST", "verify", object{"stream_id": id, "state": "xyz"}); answer.Status != http.StatusNoContent {
				t.Fatal(answer)
			}
			servicetest.Eventually(t, "the verification arrives", func() bool { return len(e.received()) > 1 })
			if got := e.received(); len(got) != 2 || !strings.Contains(fmt.Sprint(r.set(got[1])), "xyz") {
				t.Errorf("%d events", len(got))
			}
			want(t, "a poll", r.call("POST", "poll", object{}), http.StatusNotFound, "not_found")
		})
		t.Run("ok/a receiver that fails gets the same event again", func(t *testing.T) {
			e := newEndpoint(t, func(n int, w http.ResponseWriter) {
				if n == 1 {
					w.WriteHeader(http.StatusServiceUnavailable)
					return
				}
				accept(n, w)
			})
			pushed(t, e)
			logOut(t, s, signUp(t, s))
			servicetest.Eventually(t, "the event arrives again", func() bool { return len(e.received()) == 2 })
			if got := e.received(); jti(got[0]) != jti(got[1]) ||
				servicetest.Claims(t, got[0])["iat"] != servicetest.Claims(t, got[1])["iat"] {
				t.Errorf("%v, then %v", servicetest.Claims(t, got[0]), servicetest.Claims(t, got[1]))
			}
		})
		t.Run("fail/addresses that may not be called", func(t *testing.T) {
			r := addReceiver(t, s)
			for _, address := range []string{"", "ftp://example.com/x", "http://receiver.example/x", "https://user@receiver.example/",
				"https://receiver.example/#x", "/events"} {
				want(t, address, r.call("POST", "streams",
					object{"delivery": object{"method": "urn:ietf:rfc:8935", "endpoint_url": address}}), http.StatusBadRequest,
					"invalid_request")
			}
			want(t, "method", r.call("POST", "streams", object{"delivery": object{"method": "carrier-pigeon"}}), http.StatusBadRequest,
				"invalid_request")
			want(t, "header", r.call("POST", "streams", object{"delivery": object{
				"method":               "urn:ietf:rfc:8935",
				"endpoint_url":         "https://receiver.example",
				"authorization_header": "a\r\nb: c",
			}}), http.StatusBadRequest, "invalid_request")
		})
	})
}

// Without the setting, nothing is pushed to the service's own surroundings, whatever name leads there.
func TestSignalsStayOutOfPrivateNetworks(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		e := newEndpoint(t, accept)
		r := addReceiver(t, w.Service)
		want(t, "loopback", r.call("POST", "streams",
			object{"delivery": object{"method": "urn:ietf:rfc:8935", "endpoint_url": e.URL}}), http.StatusBadRequest, "invalid_request")
		stream := r.created(object{
			"events_requested": []string{caep},
			"delivery":         object{"method": "urn:ietf:rfc:8935", "endpoint_url": strings.Replace(e.URL, "http://", "https://", 1)},
		})
		logOut(t, w.Service, signUp(t, w.Service))
		servicetest.Eventually(t, "the sender refuses the address", func() bool {
			return slices.ContainsFunc(strings.Split(w.Log.String()+w.other.Log.String(), "\n"), func(line string) bool {
				return strings.Contains(line, "security events not delivered") && strings.Contains(line, "not a public one") &&
					strings.Contains(line, fmt.Sprint(stream["stream_id"]))
			})
		})
		if got := e.received(); len(got) > 0 {
			t.Errorf("%d requests", len(got))
		}
		r.call("DELETE", "streams?stream_id="+fmt.Sprint(stream["stream_id"]), nil)
	})
}

// signals are the requests of a receiver, with what it keeps secret.
func (l *leaks) signals() {
	t := l.T
	t.Helper()
	const authorization, inAddress = "Bearer of-the-receiver-alone-7d1f", "in-the-address-93ab"
	l.add("authorization of a push", authorization, "of-the-receiver-alone-7d1f")
	r := addReceiver(t, l.Service)
	l.add("receiver's access token", r.token)
	l.add("receiver's client secret", secretOf(fmt.Sprint(servicetest.Claims(t, r.token)["client_id"])))
	l.Get(t, "/.well-known/ssf-configuration", "")
	id, _ := r.created(object{"events_requested": []string{caep}, "delivery": object{
		"method":               sharedsignal.MethodPush,
		"endpoint_url":         "https://127.0.0.1:1/?key=" + inAddress,
		"authorization_header": authorization,
	}})["stream_id"].(string)
	p := signUp(t, l.Service)
	l.tokens("of a session that ends", p.Tokens)
	logOut(t, l.Service, p)
	servicetest.Eventually(t, "a push fails",
		func() bool { return strings.Contains(l.Service.Log.String(), "security events not delivered") })
	if strings.Contains(l.Service.Log.String(), inAddress) {
		t.Error("the log has the address of a push")
	}
	for _, call := range []struct {
		method, path string
		body         any
	}{
		{"GET", "streams", nil}, {"PATCH", "streams", object{"stream_id": id, "description": "d"}},
		{"GET", "status?stream_id=" + id, nil},
		{"POST", "status", object{"stream_id": id, "status": "paused"}}, {"POST", "verify", object{"stream_id": id}},
		{"POST", "subjects/remove", object{
			"stream_id": id,
			"subject":   object{"format": "iss_sub", "iss": l.Config.Issuer, "sub": p.id},
		}},
		{"POST", "subjects/add", object{"stream_id": id, "subject": object{"format": "iss_sub", "iss": l.Config.Issuer, "sub": p.id}}},
		{"PUT", "streams", object{"stream_id": id}}, {"POST", "poll", object{"returnImmediately": true}},
		{"DELETE", "streams?stream_id=" + id, nil},
	} {
		if answer := r.call(call.method, call.path, call.body); answer.Status >= 300 {
			t.Errorf("%s %s: %d %s", call.method, call.path, answer.Status, answer.Body)
		} else if strings.Contains(answer.Body, "of-the-receiver-alone") {
			t.Errorf("%s %s tells the authorization", call.method, call.path)
		}
	}
}

// signals are the answers of the event streams in the contract.
func (c *checked) signals(s *servicetest.Service) {
	c.t.Helper()
	c.exchange(s, 200, "GET", "/.well-known/ssf-configuration", nil, "")
	r := addReceiver(c.t, s)
	json := bearer(r.token, "Content-Type", "application/json")
	call := func(status int, method, path, body string) servicetest.Response {
		c.t.Helper()
		return c.exchange(s, status, method, "/v1/ssf/"+path, json, body)
	}
	var stream struct {
		ID string `json:"stream_id"`
	}
	call(400, "POST", "streams", `{"delivery":{"method":"x"}}`)
	call(201, "POST", "streams", `{"events_requested":["`+caep+`"]}`).JSON(c.t, &stream)
	call(409, "POST", "streams", `{}`)
	call(200, "GET", "streams", "")
	call(200, "GET", "streams?stream_id="+stream.ID, "")
	call(400, "GET", "streams?x=1", "")
	call(404, "GET", "streams?stream_id=x", "")
	named := `{"stream_id":"` + stream.ID + `"`
	for _, method := range []string{"PATCH", "PUT"} {
		call(200, method, "streams", named+`,"description":"d"}`)
		call(400, method, "streams", `{}`)
		call(404, method, "streams", `{"stream_id":"x"}`)
	}
	call(200, "GET", "status?stream_id="+stream.ID, "")
	call(400, "GET", "status?x=1", "")
	call(404, "GET", "status?stream_id=x", "")
	call(200, "POST", "status", named+`,"status":"enabled"}`)
	call(400, "POST", "status", named+`,"status":"x"}`)
	call(404, "POST", "status", `{"stream_id":"x","status":"enabled"}`)
	subject := `,"subject":{"format":"iss_sub","iss":"` + s.Config.Issuer + `","sub":"usr_x"}}`
	for path, status := range map[string]int{"subjects/add": 200, "subjects/remove": 204} {
		call(status, "POST", path, named+subject)
		call(400, "POST", path, named+`,"subject":{"format":"x"}}`)
		call(404, "POST", path, `{"stream_id":"x"`+subject)
	}
	call(204, "POST", "verify", named+`,"state":"s"}`)
	call(429, "POST", "verify", named+`}`)
	call(400, "POST", "verify", `{"x":1}`)
	call(404, "POST", "verify", `{"stream_id":"x"}`)
	call(200, "POST", "poll", `{"returnImmediately":true}`)
	call(400, "POST", "poll", `{"x":1}`)
	call(400, "DELETE", "streams?x=1", "")
	call(404, "DELETE", "streams?stream_id=x", "")
	for method, paths := range map[string][]string{
		"GET":    {"streams", "status"},
		"POST":   {"streams", "status", "subjects/add", "subjects/remove", "verify", "poll"},
		"PATCH":  {"streams"},
		"PUT":    {"streams"},
		"DELETE": {"streams"},
	} {
		for _, path := range paths {
			c.exchange(s, 401, method, "/v1/ssf/"+path, nil, "")
			c.exchange(s, 403, method, "/v1/ssf/"+path, bearer(signUp(c.t, s).AccessToken), "")
		}
	}
	call(204, "DELETE", "streams?stream_id="+stream.ID, "")
	call(404, "POST", "poll", `{}`)
}

// signalsUnavailable are their answers when the database is gone.
func (c *checked) signalsUnavailable(s *servicetest.Service, token string) {
	c.t.Helper()
	json := bearer(token, "Content-Type", "application/json")
	subject := `{"stream_id":"x","subject":{"format":"iss_sub","iss":"` + s.Config.Issuer + `","sub":"usr_x"}}`
	for _, call := range [][3]string{
		{"GET", "streams"}, {"POST", "streams", "{}"}, {"PATCH", "streams", `{"stream_id":"x"}`},
		{"PUT", "streams", `{"stream_id":"x"}`}, {"DELETE", "streams?stream_id=x"},
		{"GET", "status?stream_id=x"}, {"POST", "status", `{"stream_id":"x","status":"enabled"}`}, {"POST", "subjects/add", subject},
		{"POST", "subjects/remove", subject}, {"POST", "verify", `{"stream_id":"x"}`}, {"POST", "poll", "{}"},
	} {
		c.exchange(s, 503, call[0], "/v1/ssf/"+call[1], json, call[2])
	}
}

// What stands deeper in a body is held to the same rules as what stands on top: known names, given once, text that
// every database keeps.
func TestSignalsStrictBodies(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		r := addReceiver(t, w.Service)
		id, _ := r.created(object{})["stream_id"].(string)
		for path, bodies := range map[string][]string{
			"PATCH streams": {
				`{"stream_id":"ID","events_requested":["a\u0000"]}`, `{"stream_id":"ID","events_requested":["\ud800"]}`,
				`{"stream_id":"ID","delivery":{"method":"urn:ietf:rfc:8936","METHOD":"urn:ietf:rfc:8935"}}`,
				`{"stream_id":"ID","delivery":{"method":"urn:ietf:rfc:8935","method":"urn:ietf:rfc:8936"}}`,
				`{"stream_id":"ID","delivery":{"method":"urn:ietf:rfc:8936","extra":1}}`, `{"stream_id":"ID","delivery":[]}`,
				`{"stream_id":"ID","delivery":{"method":"urn:ietf:rfc:8935","endpoint_url":"https://receiver.example/\u0000"}}`,
			},
			"POST subjects/remove": {
				`{"stream_id":"ID","subject":{"format":"iss_sub","iss":"ISSUER","sub":"usr_a\u0000"}}`,
				`{"stream_id":"ID","subject":{"format":"iss_sub","iss":"ISSUER","sub":"usr_a","sub":"usr_b"}}`,
				`{"stream_id":"ID","subject":{"format":"complex","user":{"format":"iss_sub","iss":"ISSUER","sub":"usr_a"},` +
					`"device":{"format":"opaque","id":"x"}}}`,
			},
			"POST poll": {`{"ack":["a\u0000"],"returnImmediately":true}`,
				`{"setErrs":{"a\u0000":{"err":"x"}},"returnImmediately":true}`,
				`{"setErrs":{"a":{"err":"x"},"a":{"err":"y"}},"returnImmediately":true}`},
		} {
			method, path, _ := strings.Cut(path, " ")
			for _, body := range bodies {
				body = strings.NewReplacer("ID", id, "ISSUER", w.Config.Issuer).Replace(body)
				answer := r.Do(t, method, "/v1/ssf/"+path, bearer(r.token, "Content-Type", "application/json"), strings.NewReader(body))
				want(t, body, answer, http.StatusBadRequest, "invalid_request")
			}
		}
		var left []map[string]any
		r.call("GET", "streams", nil).JSON(t, &left)
		if len(left) != 1 || len(left[0]["events_requested"].([]any)) != 0 { //nolint:forcetypeassert // the contract says so
			t.Errorf("%v", left)
		}
	})
}
