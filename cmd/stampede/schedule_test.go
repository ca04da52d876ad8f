package main

import (
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestSchedule(t *testing.T) {
	t.Run("ok/open loop is due on time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			now := time.Now()
			s := &schedule{start: now, begin: now.Add(time.Second), end: now.Add(3 * time.Second), rate: 10}
			n := 0
			for ; ; n++ {
				due, ok := s.next(plainSleeper{})
				if !ok {
					break
				}
				if want := now.Add(time.Duration(n) * 100 * time.Millisecond); due != want || !time.Now().Equal(want) {
					t.Fatalf("request %d is due %v after the start, sent %v", n, due.Sub(now), time.Since(now))
				}
			}
			if n != 30 {
				t.Errorf("%d requests in 3 s at 10/s", n)
			}
		})
	})
	t.Run("ok/count leaves the warm-up out", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			now := time.Now()
			s := &schedule{start: now, begin: now.Add(time.Second), rate: 10, limit: 7}
			n := 0
			for ; ; n++ {
				if _, ok := s.next(plainSleeper{}); !ok {
					break
				}
			}
			if n != 17 {
				t.Errorf("%d requests, want 10 in the warm-up and 7 more", n)
			}
		})
	})
	t.Run("ok/clients share the arrivals", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			now := time.Now()
			s := &schedule{start: now, begin: now, end: now.Add(time.Second), rate: 1000}
			var mu sync.Mutex
			seen := map[time.Time]int{}
			var wg sync.WaitGroup
			for range 7 {
				wg.Go(func() {
					for {
						due, ok := s.next(plainSleeper{})
						if !ok {
							return
						}
						mu.Lock()
						seen[due]++
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			if len(seen) != 1000 {
				t.Errorf("%d arrivals, want 1000 different ones", len(seen))
			}
		})
	})
	t.Run("ok/halt wakes a sleeper soon", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			now := time.Now()
			s := &schedule{start: now, begin: now, rate: 0.001}
			if _, ok := s.next(plainSleeper{}); !ok {
				t.Fatal("the first request is due at once")
			}
			time.AfterFunc(time.Second, s.halt)
			if _, ok := s.next(plainSleeper{}); ok || time.Since(now) > time.Second+slice {
				t.Errorf("went on for %v", time.Since(now))
			}
		})
	})
	t.Run("ok/closed loop is due now", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &schedule{begin: time.Now(), end: time.Now().Add(time.Second)}
			if due, ok := s.next(plainSleeper{}); !ok || !due.Equal(time.Now()) {
				t.Errorf("%v %v", due, ok)
			}
			time.Sleep(time.Second)
			if _, ok := s.next(plainSleeper{}); ok {
				t.Error("went on after the end")
			}
		})
	})
}

// A server that stands still for a second while 100 requests a second are due keeps one client from sending them. They count
// all the same, with the time that they would have had to wait.
func TestStallIsNotHidden(t *testing.T) {
	for _, tc := range []struct {
		name     string
		rate     float64
		slow     int64 // requests that took 100 ms or more
		requests int64
	}{
		{"ok/open loop", 100, 90, 500},
		{"ok/closed loop hides it", 0, 1, 400},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				var server sync.WaitGroup
				server.Go(func() { // answers in no time, or in 10 ms for the closed loop; request 100 takes a second
					buf := make([]byte, 4096)
					for n := 0; ; n++ {
						if _, err := theirs.Read(buf); err != nil {
							return
						}
						if tc.rate == 0 {
							time.Sleep(10 * time.Millisecond)
						}
						if n == 100 {
							time.Sleep(time.Second)
						}
						if _, err := theirs.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")); err != nil {
							return
						}
					}
				})
				rec := newRecorder(false)
				c := &client{conn: newConn(nil, time.Minute), sleeper: plainSleeper{}, pipeline: 1, total: 1}
				c.conn.use(ours)
				c.turns = []turn{{op: newFetch(&target{}, "/"), recorder: rec, weight: 1}}
				now := time.Now()
				c.run(t.Context(), &schedule{start: now, begin: now, end: now.Add(5 * time.Second), rate: tc.rate})
				_ = ours.Close()
				server.Wait()
				var slow int64
				for _, bar := range rec.total.Distribution() {
					if bar.From >= int64(99*time.Millisecond) {
						slow += bar.Count
					}
				}
				if got := rec.total.TotalCount(); got != tc.requests {
					t.Errorf("%d requests, want %d", got, tc.requests)
				}
				if slow < tc.slow || slow > tc.slow+2 {
					t.Errorf("%d requests took 100 ms or more, want %d", slow, tc.slow)
				}
			})
		})
	}
}

// The kernel's timer doesn't fire early; how late it is depends on the machine and isn't tested.
func TestSleeper(t *testing.T) {
	s, err := newSleeper()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []time.Duration{-time.Second, 0, time.Microsecond, 2 * time.Millisecond} {
		until := time.Now().Add(d)
		s.sleepUntil(until)
		if time.Now().Before(until) {
			t.Errorf("woke %v early", time.Until(until))
		}
	}
	if err := s.close(); err != nil {
		t.Error(err)
	}
}
