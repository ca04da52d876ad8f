package sharedsignal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/handstamp/handstamp/pkg/egress"
	"github.com/handstamp/handstamp/pkg/outbox"
)

// KindPush are the streams that have something to push, as rows of the outbox. The destination is the stream, the
// payload its client.
const KindPush = "signal"

// Limits of pushing.
const (
	pushLease   = 30 * time.Second
	pushPlaces  = 64                                      // streams at once
	pushEvents  = 16                                      // of one stream at once
	pushRounds  = 16                                      // of one lease
	pushTime    = pushLease - egress.Timeout - finishTime // after which no round of a lease begins
	finishTime  = 5 * time.Second                         // for the record of a round
	longestWait = 5 * time.Minute
)

// Sender pushes events to receivers (RFC 8935).
type Sender struct {
	issuer string
	store  Store
	signer Signer
	sealer Sealer
	client *http.Client
	log    *slog.Logger
}

// NewSender returns a sender. The client decides which addresses may be called; it must not follow redirects.
func NewSender(issuer string, store Store, signer Signer, sealer Sealer, client *http.Client, log *slog.Logger) *Sender {
	return &Sender{issuer, store, signer, sealer, client, log}
}

// Kind says how events are pushed. A receiver that fails is tried again for as long as its events are kept.
func (s *Sender) Kind() outbox.Kind {
	return outbox.Kind{
		Name:    KindPush,
		Source:  streams{s.store, s.signer.Now},
		Deliver: s.deliver,
		Lease:   pushLease,
		Timeout: pushLease,
		// 1 s, 2 s, 4 s, ... 5 min
		Wait:   func(attempts int) time.Duration { return min(longestWait, time.Second<<min(attempts, 10)) },
		Places: pushPlaces,
	}
}

// streams is the source of KindPush. Events have a table of their own because receivers may also fetch them, so the row
// is the stream: it is due while it has events that it may deliver.
type streams struct {
	store EventStore
	now   func() time.Time
}

// LeaseRows implements outbox.Source.
func (s streams) LeaseRows(ctx context.Context, kind string, at, until time.Time, limit int) ([]outbox.Row, error) {
	due, err := s.store.LeaseStreams(ctx, at, until, limit)
	rows := make([]outbox.Row, 0, len(due))
	for _, d := range due {
		rows = append(rows, outbox.Row{
			Kind:        kind,
			Destination: d.ID,
			Payload:     []byte(d.ClientID),
			Attempts:    d.Attempts,
			CreatedAt:   d.Since,
			LeasedUntil: until,
		})
	}
	return rows, err
}

// FinishRow implements outbox.Source. A stream whose events were delivered is due at once, for there may be more by now.
// None is given up: its events are swept when they are too old.
func (s streams) FinishRow(ctx context.Context, r outbox.Row, o outbox.Outcome) error {
	p := Push{
		StreamID:    r.Destination,
		LeasedUntil: r.LeasedUntil,
		Attempts:    r.Attempts + 1,
	}
	switch o.Result() {
	case outbox.Delivered:
		p.Attempts, p.DueAt = 0, s.now()
	case outbox.PutOff:
		p.DueAt = o.RetryAt
	case outbox.Dead:
		p.DueAt = o.DeadAt.Add(longestWait)
	}
	return s.store.FinishPush(ctx, p)
}

// outcome is what became of some events.
type outcome struct {
	mu                 sync.Mutex
	delivered, refused []string
	failure            error
}

func (o *outcome) note(jti string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch refusal := (*refusedError)(nil); {
	case err == nil:
		o.delivered = append(o.delivered, jti)
	case errors.As(err, &refusal):
		o.refused = append(o.refused, jti)
		o.failure = err
	default:
		o.failure = err
	}
}

// deliver pushes the events of one stream until none is left, one fails, or the lease is nearly over.
func (s *Sender) deliver(ctx context.Context, r outbox.Row) error {
	end := time.Now().Add(pushTime)
	stream, err := s.store.Stream(ctx, string(r.Payload))
	if errors.Is(err, ErrStreamNotFound) || err == nil && stream.ID != r.Destination {
		return nil // it was deleted since
	}
	if err != nil {
		return err
	}
	for round := 1; ; round++ {
		limit := pushEvents
		if round == 1 && r.Attempts > 0 { // a receiver that failed is tried with one
			limit = 1
		}
		events, err := s.store.SignalEvents(ctx, stream.ID, limit)
		o := &outcome{failure: err}
		var group sync.WaitGroup
		for _, e := range events {
			group.Go(func() { o.note(e.JTI, s.send(ctx, stream, e)) })
		}
		group.Wait()

		attempts := 0
		if o.failure != nil {
			attempts = r.Attempts
		}
		// What a receiver has taken is noted also when the service is about to stop.
		if err := s.finish(context.WithoutCancel(ctx), r, o, attempts); err != nil {
			s.log.WarnContext(ctx, "delivery of security events cannot be recorded, it will be repeated", "error", err)
			return err
		}
		if o.failure != nil {
			s.log.WarnContext(ctx, "security events not delivered", "client_id", stream.ClientID, "stream_id", stream.ID, "attempt",
				r.Attempts+1, "error", o.failure)
			return o.failure
		}
		if len(events) < limit || round == pushRounds || time.Now().After(end) || ctx.Err() != nil {
			return nil
		}
	}
}

// finish records a round, and keeps the lease.
func (s *Sender) finish(ctx context.Context, r outbox.Row, o *outcome, attempts int) error {
	ctx, cancel := context.WithTimeout(ctx, finishTime)
	defer cancel()
	return s.store.FinishPush(ctx, Push{
		StreamID:    r.Destination,
		LeasedUntil: r.LeasedUntil,
		Delivered:   o.delivered,
		Refused:     o.refused,
		Attempts:    attempts,
		DueAt:       r.LeasedUntil,
	})
}

// refusedError is an answer of RFC 8935, section 2.3: the receiver does not want this token, now or ever.
type refusedError struct {
	Code        string `json:"err"`
	Description string `json:"description"`
}

func (e *refusedError) Error() string {
	return fmt.Sprintf("the receiver refuses an event: %.64q (%.256q)", e.Code, e.Description)
}

// send pushes one event (RFC 8935, section 2.1).
func (s *Sender) send(ctx context.Context, stream Stream, e Event) error {
	authorization, err := s.sealer.Open(stream.ID, stream.Sealed)
	if err != nil {
		return err
	}
	raw, err := SET(ctx, s.signer, s.issuer, stream, e)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, stream.EndpointURL, strings.NewReader(raw))
	if err != nil {
		return ErrEndpoint
	}
	request.Header.Set("Content-Type", "application/secevent+jwt")
	request.Header.Set("Accept", "application/json")
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	response, err := s.client.Do(request)
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err // without the address, which may hold a secret
	}
	if err != nil {
		return err
	}
	defer response.Body.Close()
	switch {
	case response.StatusCode >= 200 && response.StatusCode < 300: // 202, says RFC 8935, section 2.2
		return nil
	case response.StatusCode == http.StatusBadRequest:
		refusal := &refusedError{}
		if body, err := io.ReadAll(io.LimitReader(response.Body, 64<<10)); err == nil && json.Unmarshal(body, refusal) == nil &&
			refusal.Code != "" {
			return refusal
		}
	}
	return fmt.Errorf("the receiver answered %s", response.Status)
}
