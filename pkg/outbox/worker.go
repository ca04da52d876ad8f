package outbox

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/handstamp/handstamp/pkg/clock"
)

const (
	lookEvery  = time.Second            // without a wake-up
	lookPause  = 100 * time.Millisecond // after a wake-up, however many follow
	finishTime = 5 * time.Second        // for the finish of a row
)

// Kind is how the rows of one kind are delivered.
type Kind struct {
	Name   string
	Source Source
	// Deliver delivers a row once. An error puts the row off, one that is ErrPermanent gives it up; Deliver logs it, in words of
	// the kind.
	Deliver func(ctx context.Context, r Row) error
	// Lease is how long a row is this replica's. It is longer than Deliver may take, and it is how long a row waits whose
	// replica has died.
	Lease time.Duration
	// Timeout bounds Deliver.
	Timeout time.Duration
	// Wait is the time until the next attempt after one that failed, by the attempts before it.
	Wait func(attempts int) time.Duration
	// Attempts is after how many a row is given up; 0 for never.
	Attempts int
	// Age is how old a row is given up when an attempt fails, also if others have made it wait; 0 for any.
	Age time.Duration
	// Places is how many destinations are served at once.
	Places int
}

// Result is what became of an attempt.
type Result string

// The results.
const (
	Delivered Result = "delivered"
	PutOff    Result = "put_off"
	Dead      Result = "dead"
)

// Observe hears of each attempt, for metrics: what became of it, and how old the row was. Many goroutines call it.
type Observe func(kind string, r Result, age time.Duration)

// Worker delivers the rows of one kind.
type Worker struct {
	clock   *clock.Clock
	kind    Kind
	observe Observe
	log     *slog.Logger
}

// NewWorker returns a worker. observe may be nil.
func NewWorker(k Kind, clock *clock.Clock, observe Observe, log *slog.Logger) *Worker {
	if observe == nil {
		observe = func(string, Result, time.Duration) {}
	}
	return &Worker{kind: k, clock: clock, observe: observe, log: log}
}

// Run delivers due rows until ctx ends, and then waits for the deliveries that have begun. It looks at each wake-up and every
// second; wake returns a channel that is closed at the next wake-up, which a commit of rows causes.
func (w *Worker) Run(ctx context.Context, wake func() <-chan struct{}) {
	var group sync.WaitGroup
	defer group.Wait()
	done := make(chan struct{}, w.kind.Places)
	timer := time.NewTimer(lookEvery)
	defer timer.Stop()
	for busy := 0; ; {
		woken := wake() // asked before the look, so that no row is missed between the two
		for _, r := range w.look(ctx, w.kind.Places-busy) {
			busy++
			group.Go(func() {
				w.Deliver(ctx, r)
				done <- struct{}{}
			})
		}
		timer.Reset(lookEvery)
		select {
		case <-ctx.Done():
			return
		case <-done: // its destination may have more
			busy--
		case <-timer.C:
		case <-woken:
			select {
			case <-ctx.Done():
				return
			case <-done:
				busy--
			case <-time.After(lookPause):
			}
		}
	}
}

// look leases what is due, as much as there are places.
func (w *Worker) look(ctx context.Context, places int) []Row {
	if places == 0 {
		return nil
	}
	now := w.clock.Now()
	rows, err := w.kind.Source.LeaseRows(ctx, w.kind.Name, now, now.Add(w.kind.Lease), places)
	if err != nil {
		if ctx.Err() == nil {
			w.log.WarnContext(ctx, "outbox cannot be read", "kind", w.kind.Name, "error", err)
		}
		return nil
	}
	return rows
}

// Deliver makes one attempt and records what became of it.
func (w *Worker) Deliver(ctx context.Context, r Row) {
	bounded, cancel := context.WithTimeout(ctx, w.kind.Timeout)
	err := w.kind.Deliver(bounded, r)
	cancel()
	now := w.clock.Now()
	o := Outcome{}
	switch {
	case err == nil:
	case ctx.Err() != nil: // this replica stops: another one may try at once
		o.RetryAt, o.Reason = now, "the service stopped"
	case errors.Is(err, ErrPermanent), w.kind.Attempts > 0 && r.Attempts+1 >= w.kind.Attempts,
		w.kind.Age > 0 && now.Sub(r.CreatedAt) >= w.kind.Age:
		o.DeadAt, o.Reason = now, err.Error()
	default:
		o.RetryAt, o.Reason = now.Add(w.kind.Wait(r.Attempts)), err.Error()
	}
	if o.Result() == Dead { // the kind knows better how to tell of an attempt
		w.log.WarnContext(ctx, "delivery given up", "kind", w.kind.Name, "destination", r.Destination, "attempts", r.Attempts+1)
	}
	w.observe(w.kind.Name, o.Result(), now.Sub(r.CreatedAt))

	// What was delivered is recorded also when the service is about to stop.
	finish, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTime)
	defer cancel()
	if err := w.kind.Source.FinishRow(finish, r, o); err != nil {
		w.log.WarnContext(ctx, "delivery cannot be recorded, it will be repeated", "kind", w.kind.Name, "error", err)
	}
}
