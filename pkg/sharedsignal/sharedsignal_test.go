package sharedsignal

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/handstamp/handstamp/pkg/outbox"
	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/token"
)

const issuer = "https://login.example.test"

// unsigned makes tokens without a key; that the real ones have a signature is for the tests of the whole service.
type unsigned struct{}

func (unsigned) Now() time.Time { return time.Now() }

func (unsigned) SignFor(_ context.Context, _ string, typ token.Type, claims any) (string, error) {
	payload, err := json.Marshal(claims)
	return string(typ) + "." + base64.RawURLEncoding.EncodeToString(payload) + ".", err
}

func payload(t *testing.T, raw string) string {
	t.Helper()
	typ, rest, _ := strings.Cut(raw, ".")
	decoded, err := base64.RawURLEncoding.DecodeString(strings.TrimSuffix(rest, "."))
	if err != nil || typ != "secevent+jwt" {
		t.Fatalf("%s: %v", raw, err)
	}
	return string(decoded)
}

func sealer(t *testing.T) Sealer {
	t.Helper()
	master, err := seal.ParseMasterKey("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	if err != nil {
		t.Fatal(err)
	}
	return NewSealer(master)
}

func TestSET(t *testing.T) {
	id := session.NewID(time.Unix(1_700_000_000, 0))
	at := time.Unix(1_700_000_000, 500)
	subject := fmt.Sprintf(`{"format":"complex","user":{"format":"iss_sub","iss":%q,"sub":"usr_a"},`+
		`"session":{"format":"opaque","id":%q}}`, issuer, id)
	stream := `{"format":"opaque","id":"stm_a"}`
	for name, c := range map[string]struct {
		event Event
		sub   string
		kind  string
		told  string
	}{
		"logout": {Event{Kind: KindSessionRevoked, Reason: "logout"}, subject, EventSessionRevoked,
			`{"event_timestamp":1700000000,"initiating_entity":"user","reason_admin":{"en":"logout"}}`},
		"disabled": {Event{Kind: KindSessionRevoked, Reason: "user_disabled"}, subject, EventSessionRevoked,
			`{"event_timestamp":1700000000,"initiating_entity":"admin","reason_admin":{"en":"user_disabled"}}`},
		"reuse": {Event{Kind: KindSessionRevoked, Reason: "reuse"}, subject, EventSessionRevoked,
			`{"event_timestamp":1700000000,"initiating_entity":"policy","reason_admin":{"en":"reuse"}}`},
		"no telling": {Event{Kind: KindSessionRevoked, Reason: "revoked"}, subject, EventSessionRevoked,
			`{"event_timestamp":1700000000,"reason_admin":{"en":"revoked"}}`},
		"verification": {Event{Kind: KindVerification, State: "s"}, stream, EventVerification, `{"state":"s"}`},
		"unasked":      {Event{Kind: KindVerification}, stream, EventVerification, `{}`},
		"updated": {Event{Kind: KindStreamUpdated, State: "disabled", Reason: "why"}, stream, EventStreamUpdated,
			`{"reason":"why","status":"disabled"}`},
	} {
		t.Run("ok/"+name, func(t *testing.T) {
			c.event.JTI, c.event.UserID, c.event.SessionID, c.event.At = "j", "usr_a", id, at
			raw, err := SET(t.Context(), unsigned{}, issuer, Stream{ID: "stm_a", ClientID: "receiver"}, c.event)
			if err != nil {
				t.Fatal(err)
			}
			want := fmt.Sprintf(`{"iss":%q,"aud":"receiver","iat":1700000000,"jti":"j","sub_id":%s,"events":{%q:%s}}`, issuer, c.sub,
				c.kind, c.told)
			if got := payload(t, raw); got != want {
				t.Errorf("%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestParseSubject(t *testing.T) {
	id := session.NewID(time.Unix(1_700_000_000, 0))
	userOf, sessionOf := fmt.Sprintf(`{"format":"iss_sub","iss":%q,"sub":"usr_a"}`,
		issuer), fmt.Sprintf(`{"format":"opaque","id":%q}`, id)
	for raw, want := range map[string]Subject{
		userOf: {UserID: "usr_a"}, sessionOf: {SessionID: id},
		`{"format":"complex","user":` + userOf + `}`:                             {UserID: "usr_a"},
		`{"format":"complex","user":` + userOf + `,"session":` + sessionOf + `}`: {SessionID: id},
	} {
		if got, err := ParseSubject(json.RawMessage(raw), issuer); err != nil || got != want {
			t.Errorf("%s: %+v, %v", raw, got, err)
		}
	}
	for _, raw := range []string{
		``, `null`, `[]`, `{}`, `"x"`, `{"format":"complex"}`, `{"format":"email","email":"a@example.test"}`,
		`{"format":"opaque","id":"ses_x"}`, `{"format":"opaque","id":"usr_a"}`,
		`{"format":"iss_sub","iss":"https://elsewhere.example","sub":"usr_a"}`, `{"format":"iss_sub","sub":"usr_a"}`,
		fmt.Sprintf(`{"format":"iss_sub","iss":%q,"sub":""}`, issuer),
		`{"format":"complex","user":{"format":"complex","user":` + userOf + `}}`,
	} {
		if got, err := ParseSubject(json.RawMessage(raw), issuer); !errors.Is(err, ErrSubject) {
			t.Errorf("%s: %+v, %v", raw, got, err)
		}
	}
}

func TestSealer(t *testing.T) {
	s := sealer(t)
	sealed := s.Seal("stm_a", "Bearer x")
	if got, err := s.Open("stm_a", sealed); err != nil || got != "Bearer x" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := s.Open("stm_b", sealed); err == nil {
		t.Error("opens for another stream")
	}
	// A row that a program before pkg/seal has written.
	before, err := base64.StdEncoding.DecodeString("JFBlUU7gQy3edAyqXepPT5ouYMVRB0OqZ2kYkhib/ErjEKjdKjQoDf8=")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Open("stm_a", before); err != nil || got != "Bearer secret" {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := s.Open("stm_a", s.Seal("stm_a", "")); err != nil || got != "" {
		t.Errorf("%q, %v", got, err)
	}
}

// queue stands for a database, which the conformance suite tests, with one stream.
type queue struct {
	Store
	mu       sync.Mutex
	stream   Stream
	events   []Event
	finished []finished
}

type finished struct {
	delivered, refused []string
	attempts           int
	wait               time.Duration
}

func (q *queue) Stream(context.Context, string) (Stream, error) { return q.stream, nil }

// due is the stream as a row of the outbox.
func (q *queue) due() outbox.Row {
	return outbox.Row{
		Destination: q.stream.ID,
		Payload:     []byte(q.stream.ClientID),
		Attempts:    q.stream.Attempts,
		LeasedUntil: time.Now().Add(pushLease),
	}
}

// rounds are what was finished in each round of a lease; the end of the lease belongs to the last.
func (q *queue) rounds() []finished {
	n := len(q.finished) - 1
	rounds, end := q.finished[:n], q.finished[n]
	rounds[n-1].attempts, rounds[n-1].wait = end.attempts, end.wait
	return rounds
}

func (q *queue) SignalEvents(_ context.Context, _ string, limit int) ([]Event, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.events[:min(limit, len(q.events))]), nil
}

func (q *queue) FinishPush(_ context.Context, p Push) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	slices.Sort(p.Delivered)
	q.events = slices.DeleteFunc(q.events, func(e Event) bool { return slices.Contains(p.Delivered, e.JTI) })
	q.finished = append(q.finished, finished{p.Delivered, p.Refused, p.Attempts, time.Until(p.DueAt).Round(time.Second)})
	q.stream.Attempts = p.Attempts
	return nil
}

func TestPush(t *testing.T) {
	var (
		mu     sync.Mutex
		answer func(n int, w http.ResponseWriter)
		calls  int
	)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		calls++
		answer(calls, w)
	}))
	t.Cleanup(receiver.Close)
	push := func(t *testing.T, events, attempts int, to func(n int, w http.ResponseWriter)) []finished {
		t.Helper()
		answer, calls = to, 0
		q := &queue{stream: Stream{ID: "stm_a", ClientID: "c", Method: MethodPush, EndpointURL: receiver.URL, Attempts: attempts}}
		for i := range events {
			q.events = append(q.events, Event{ID: int64(i), JTI: fmt.Sprintf("%03d", i), Kind: KindVerification, At: time.Now()})
		}
		s := NewSender(issuer, q, unsigned{}, sealer(t), receiver.Client(), slog.New(slog.DiscardHandler))
		outbox.NewWorker(s.Kind(), nil, nil, slog.New(slog.DiscardHandler)).Deliver(t.Context(), q.due())
		return q.rounds()
	}
	accept := func(_ int, w http.ResponseWriter) { w.WriteHeader(http.StatusAccepted) }
	refuse := func(_ int, w http.ResponseWriter) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"err":"invalid_key","description":"no"}`))
	}
	t.Run("ok/all of them, in rounds", func(t *testing.T) {
		got := push(t, 2*pushEvents+3, 0, accept)
		if len(got) != 3 || len(got[0].delivered) != pushEvents || got[0].wait < 20*time.Second || len(got[2].delivered) != 3 ||
			got[2].wait > time.Second || got[2].attempts != 0 {
			t.Errorf("%+v", got)
		}
	})
	t.Run("ok/one that fails leaves the others delivered", func(t *testing.T) {
		got := push(t, 3, 0, func(n int, w http.ResponseWriter) {
			if n == 2 {
				w.WriteHeader(http.StatusInternalServerError)
				return
			}
			accept(n, w)
		})
		if len(got) != 1 || len(got[0].delivered) != 2 || len(got[0].refused) != 0 || got[0].attempts != 1 ||
			got[0].wait != time.Second {
			t.Errorf("%+v", got)
		}
	})
	t.Run("ok/a receiver that failed is tried with one, and then gets the rest", func(t *testing.T) {
		if got := push(t, 3, 4, accept); len(got) != 2 || len(got[0].delivered) != 1 || len(got[1].delivered) != 2 {
			t.Errorf("%+v", got)
		}
	})
	t.Run("fail/the wait doubles, up to five minutes", func(t *testing.T) {
		for attempts, wait := range map[int]time.Duration{
			0:    time.Second,
			1:    2 * time.Second,
			5:    32 * time.Second,
			9:    longestWait,
			1000: longestWait,
		} {
			got := push(t, 3, attempts, func(_ int, w http.ResponseWriter) { w.WriteHeader(http.StatusTooManyRequests) })
			if len(got) != 1 || got[0].wait != wait || got[0].attempts != attempts+1 || attempts > 0 && calls != 1 {
				t.Errorf("after %d: %+v, %d calls", attempts, got, calls)
			}
		}
	})
	t.Run("fail/refused", func(t *testing.T) {
		if got := push(t, 1, 0, refuse); len(got) != 1 || !slices.Equal(got[0].refused, []string{"000"}) || got[0].attempts != 1 {
			t.Errorf("%+v", got)
		}
	})
	t.Run("fail/a 400 that does not say why is a failure", func(t *testing.T) {
		if got := push(t, 1, 0, func(_ int, w http.ResponseWriter) { w.WriteHeader(http.StatusBadRequest) }); len(got) != 1 ||
			len(got[0].refused) != 0 || got[0].attempts != 1 {
			t.Errorf("%+v", got)
		}
	})
	t.Run("fail/an authorization that cannot be opened", func(t *testing.T) {
		q := &queue{
			stream: Stream{ID: "stm_a", EndpointURL: receiver.URL, Sealed: []byte("of another key")},
			events: []Event{{JTI: "a", Kind: KindVerification}},
		}
		calls = 0
		s := NewSender(issuer, q, unsigned{}, sealer(t), receiver.Client(), slog.New(slog.DiscardHandler))
		outbox.NewWorker(s.Kind(), nil, nil, slog.New(slog.DiscardHandler)).Deliver(t.Context(), q.due())
		if calls != 0 || len(q.events) != 1 || q.rounds()[0].attempts != 1 {
			t.Errorf("%d calls, %+v", calls, q.finished)
		}
	})
}

// What the outbox says of an attempt decides when the stream is due again; one that was not delivered is never due at once.
func TestFinishRow(t *testing.T) {
	now := time.Now()
	for name, test := range map[string]struct {
		outcome  outbox.Outcome
		attempts int
		wait     time.Duration
	}{
		"ok/delivered":  {outbox.Outcome{}, 0, 0},
		"ok/put off":    {outbox.Outcome{RetryAt: now.Add(time.Minute)}, 4, time.Minute},
		"fail/given up": {outbox.Outcome{DeadAt: now}, 4, longestWait},
	} {
		t.Run(name, func(t *testing.T) {
			q := &queue{stream: Stream{ID: "stm_a"}}
			if err := (streams{q, time.Now}).FinishRow(t.Context(), outbox.Row{Destination: "stm_a", Attempts: 3},
				test.outcome); err != nil {
				t.Fatal(err)
			}
			if got := q.finished[0]; got.attempts != test.attempts || got.wait != test.wait {
				t.Errorf("%d attempts, due in %v; want %d and %v", got.attempts, got.wait, test.attempts, test.wait)
			}
		})
	}
}
