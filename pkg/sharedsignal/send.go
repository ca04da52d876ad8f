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
)

// Limits of pushing: a slow or dead receiver holds up nobody else.
const (
	pushEvery   = time.Second
	pushPause   = 100 * time.Millisecond // between two looks, however often it is woken
	pushLease   = 30 * time.Second
	pushStreams = 16                     // at once
	pushEvents  = 16                     // of one stream at once
	pushRounds  = 16                     // of one lease
	pushTime    = pushLease - 2*callTime // after which no round of a lease begins
	callTime    = 5 * time.Second        // of the client that pushes
	longestWait = 5 * time.Minute
)

// Sender pushes events to receivers (RFC 8935). Several replicas share the streams.
type Sender struct {
	issuer string
	store  Store
	minter Minter
	sealer Sealer
	client *http.Client
	log    *slog.Logger
}

// NewSender returns a sender. The client decides which addresses may be called; it must not follow redirects.
func NewSender(issuer string, store Store, minter Minter, sealer Sealer, client *http.Client, log *slog.Logger) *Sender {
	return &Sender{issuer, store, minter, sealer, client, log}
}

// Run pushes what is due until ctx ends, at each wake-up and every second. wake returns a channel that is closed at the next one.
func (s *Sender) Run(ctx context.Context, wake func() <-chan struct{}) {
	timer := time.NewTimer(pushEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-wake():
		case <-timer.C:
		}
		timer.Reset(pushEvery)
		for s.pushDue(ctx) {
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pushPause):
		}
	}
}

// pushDue serves one batch of streams, and reports whether there may be more.
func (s *Sender) pushDue(ctx context.Context) bool {
	now := time.Now()
	due, err := s.store.LeaseStreams(ctx, now, now.Add(pushLease), pushStreams)
	if err != nil {
		if ctx.Err() == nil {
			s.log.WarnContext(ctx, "event streams cannot be read", "error", err)
		}
		return false
	}
	var group sync.WaitGroup
	for _, stream := range due {
		group.Go(func() { s.push(ctx, stream, now.Add(pushTime)) })
	}
	group.Wait()
	return len(due) == pushStreams && ctx.Err() == nil
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

// push delivers the events of one stream until none is left, one fails, or the lease is nearly over.
func (s *Sender) push(ctx context.Context, stream Stream, end time.Time) {
	for round := 1; ; round++ {
		limit := pushEvents
		if round == 1 && stream.Attempts > 0 { // a receiver that failed is tried with one
			limit = 1
		}
		events, err := s.store.SignalEvents(ctx, stream.ID, limit)
		o := &outcome{failure: err}
		var group sync.WaitGroup
		for _, e := range events {
			group.Go(func() { o.note(e.JTI, s.send(ctx, stream, e)) })
		}
		group.Wait()

		now := time.Now()
		last := o.failure != nil || len(events) < limit || round == pushRounds || now.After(end) || ctx.Err() != nil
		attempts, dueAt := 0, end.Add(2*callTime) // the end of the lease
		switch {
		case o.failure != nil:
			attempts = stream.Attempts + 1
			dueAt = now.Add(min(longestWait, time.Second<<min(stream.Attempts, 10))) // 1 s, 2 s, 4 s, ... 5 min
			if ctx.Err() == nil {
				s.log.WarnContext(ctx, "security events not delivered", "client_id", stream.ClientID, "stream_id", stream.ID, "attempt", attempts, "error", o.failure)
			}
		case last: // there may be more by now
			dueAt = now
		}
		// What a receiver has taken is noted also when the service is about to stop.
		if err := s.finish(context.WithoutCancel(ctx), stream.ID, o, attempts, dueAt); err != nil {
			s.log.WarnContext(ctx, "delivery of security events cannot be recorded, it will be repeated", "error", err)
			return
		}
		if last {
			return
		}
	}
}

func (s *Sender) finish(ctx context.Context, id string, o *outcome, attempts int, dueAt time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	return s.store.FinishPush(ctx, id, o.delivered, o.refused, attempts, dueAt)
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
	raw, err := SET(ctx, s.minter, s.issuer, stream, e)
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
		if body, err := io.ReadAll(io.LimitReader(response.Body, 64<<10)); err == nil && json.Unmarshal(body, refusal) == nil && refusal.Code != "" {
			return refusal
		}
	}
	return fmt.Errorf("the receiver answered %s", response.Status)
}
