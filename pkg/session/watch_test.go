package session

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestWatch_Unanswered(t *testing.T) {
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	for name, test := range map[string]struct {
		happens  func(w *watch)
		from, to int // seconds after the start
		want     time.Duration
	}{
		"ok/all was well":          {func(w *watch) { w.answered(at(100)) }, 90, 130, 0},
		"ok/before the start":      {func(*watch) {}, -60, 10, time.Minute},
		"ok/long before the start": {func(*watch) {}, -3600, 10, maxUnanswered},
		"ok/storage failed and came back": {func(w *watch) {
			w.answered(at(100))
			w.failed()
			w.failed()
			w.answered(at(150))
			w.answered(at(160))
		}, 95, 170, 50 * time.Second},
		"ok/storage fails still": {func(w *watch) {
			w.answered(at(100))
			w.failed()
		}, 110, 170, time.Minute},
		"ok/the process stood still": {func(w *watch) {
			w.look(at(100))
			w.look(at(120))
		}, 90, 200, 20 * time.Second},
		"ok/less than a stall": {func(w *watch) {
			w.look(at(100))
			w.look(at(100).Add(stallAfter - 1))
		}, 90, 200, 0},
		"ok/what two gaps share counts once": {func(w *watch) {
			w.answered(at(100))
			w.failed()
			w.look(at(110))
			w.look(at(120))
			w.answered(at(130))
			w.look(at(125))
			w.look(at(140))
		}, 90, 200, 40 * time.Second},
		"ok/many gaps": {func(w *watch) {
			for i := range 3 * maxGaps {
				w.answered(at(100 + 4*i))
				w.failed()
				w.answered(at(101 + 4*i))
			}
		}, 100 + 4*2*maxGaps, 1000, maxGaps * time.Second},
		"ok/at most so much": {func(w *watch) {
			w.look(at(0))
			w.look(at(86400))
		}, 0, 86400, maxUnanswered},
		"ok/a time before the other": {func(w *watch) { w.failed() }, 20, 10, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWatch(start)
			test.happens(w)
			if got := w.unanswered(at(test.from), at(test.to)); got != test.want {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
}

func TestWatch_HeldUp(t *testing.T) {
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	w := newWatch(start)
	want := func(what string, at time.Time, want time.Duration) {
		t.Helper()
		if got := w.heldUp(at); got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	want("nobody watches", start.Add(time.Hour), 0)
	w.look(start)
	want("all is well", start.Add(stallAfter-1), 0)
	want("before the watch has looked", start.Add(19*time.Second), 19*time.Second)
	w.look(start.Add(19 * time.Second))
	for after := watchEvery; after < catchUp; after += watchEvery {
		w.look(start.Add(19*time.Second + after))
		want("while it catches up", start.Add(19*time.Second+after), 19*time.Second+after)
	}
	w.look(start.Add(19*time.Second + catchUp))
	want("afterwards", start.Add(19*time.Second+catchUp), 0)
}

func TestWatch_Keep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatch(time.Now())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			w.keep(ctx, time.Now)
			close(done)
		}()
		time.Sleep(time.Minute)
		if got := w.heldUp(time.Now()); got != 0 {
			t.Errorf("held up for %v", got)
		}
		cancel()
		<-done
		if got := w.heldUp(time.Now().Add(time.Hour)); got != 0 {
			t.Errorf("nobody watches, but held up for %v", got)
		}
	})
}
