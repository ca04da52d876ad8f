package main

import (
	"sync/atomic"
	"time"
)

// schedule says when the next request is due. Without a rate the loop is closed: a client sends its next request as
// soon as it has the answer to the last. With a rate it is open: request n is due at start + n/rate whatever the server
// does, and its latency counts from then, so that a stalled server can't hide the requests that it kept from being sent
// (coordinated omission).
type schedule struct {
	start time.Time // first request
	begin time.Time // end of the warm-up; requests due earlier are not measured
	end   time.Time // no request is due at or after; zero: no such bound
	rate  float64   // requests per second over all clients; 0: closed loop
	limit int64     // measured requests; 0: no such bound

	arrivals atomic.Int64 // open loop: requests handed out
	measured atomic.Int64 // requests handed out after the warm-up
	halted   atomic.Bool
}

// sleeper blocks until a time, or not much longer than slice.
type sleeper interface {
	sleepUntil(t time.Time)
	close() error
}

// slice bounds one sleep, so that an interrupted run ends soon.
const slice = 100 * time.Millisecond

// halt makes every later call of next say no.
func (s *schedule) halt() { s.halted.Store(true) }

// next blocks until the caller's next request is due and returns the time from which its latency counts. It returns
// false when the run is over.
func (s *schedule) next(sl sleeper) (due time.Time, ok bool) {
	if s.rate > 0 {
		n := s.arrivals.Add(1) - 1
		due = s.start.Add(time.Duration(float64(n) / s.rate * float64(time.Second)))
	} else {
		due = time.Now()
	}
	if !s.end.IsZero() && !due.Before(s.end) {
		return due, false
	}
	for s.rate > 0 && !s.halted.Load() {
		wait := time.Until(due)
		if wait <= 0 {
			break
		}
		sl.sleepUntil(due.Add(min(0, slice-wait)))
	}
	if s.halted.Load() {
		return due, false
	}
	if s.limit > 0 && !due.Before(s.begin) && s.measured.Add(1) > s.limit {
		return due, false
	}
	return due, true
}

// plainSleeper is time.Sleep: exact under a fake clock, rough to a millisecond under a real one.
type plainSleeper struct{}

func (plainSleeper) sleepUntil(t time.Time) { time.Sleep(time.Until(t)) }
func (plainSleeper) close() error           { return nil }
