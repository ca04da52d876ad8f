package limit_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/handstamp/handstamp/pkg/limit"
)

func TestTakeDoesNotOverrun(t *testing.T) {
	const burst = 7
	l := limit.NewAddresses(limit.Rate{Burst: burst, Every: time.Hour})
	var group sync.WaitGroup
	var taken atomic.Int64
	for range 200 {
		group.Go(func() {
			if l.Take("192.0.2.1") == 0 {
				taken.Add(1)
			}
		})
	}
	group.Wait()
	if got := taken.Load(); got != burst {
		t.Errorf("%d of %d were taken", got, burst)
	}
	l.Return("192.0.2.1")
	if l.Take("192.0.2.1") != 0 || l.Take("192.0.2.1") == 0 {
		t.Error("one was given back, and one is there")
	}
	var none *limit.Addresses
	none.Return("192.0.2.1")
	l.Return("198.51.100.1") // of which none was taken: there are no more than the burst
	for range burst {
		if l.Take("198.51.100.1") != 0 {
			t.Fatal("less than the burst")
		}
	}
	if l.Take("198.51.100.1") == 0 {
		t.Error("more than the burst")
	}
}

func TestInFlight(t *testing.T) {
	f := limit.NewInFlight(4, 2)
	steps := []struct {
		what string
		ip   string
		want bool
	}{
		{"ok/first", "2001:db8::1", true},
		{"ok/second", "2001:db8::2", true},
		{"fail/a /64 has no more", "2001:db8::3", false},
		{"ok/another address", "192.0.2.1", true},
		{"ok/what is no address", "unknown", true},
		{"fail/no more in all", "192.0.2.2", false},
	}
	for _, s := range steps {
		if got := f.Enter(s.ip); got != s.want {
			t.Errorf("%s: %t", s.what, got)
		}
	}
	f.Leave("2001:db8::9")
	if !f.Enter("192.0.2.2") || f.Enter("192.0.2.3") {
		t.Error("one has left, and one may come")
	}
	if none := (*limit.InFlight)(nil); !none.Enter("192.0.2.1") {
		t.Error("nil limits")
	}
	unbounded := limit.NewInFlight(0, 0)
	for range 1000 {
		if !unbounded.Enter("192.0.2.1") {
			t.Fatal("zero limits")
		}
	}
}

func TestPacer(t *testing.T) {
	// leave lets so many be refused at once, and returns when each of them left.
	leave := func(t *testing.T, p *limit.Pacer, callers int) (last time.Duration, atOnce int64) {
		began := time.Now()
		var group sync.WaitGroup
		var now atomic.Int64
		for range callers {
			group.Go(func() {
				p.Hold(t.Context())
				if time.Since(began) == 0 {
					now.Add(1)
				}
			})
		}
		group.Wait()
		return time.Since(began), now.Load()
	}
	for name, test := range map[string]struct {
		longest time.Duration
		most    int
		callers int
		last    time.Duration
		atOnce  int64
	}{
		"ok/one leaves soon":                {time.Second, 1000, 1, 2 * time.Millisecond, 0},
		"ok/100 leave one after the other":  {time.Second, 1000, 100, 200 * time.Millisecond, 0},
		"ok/none waits longer than allowed": {time.Second, 10_000, 5000, time.Second, 0},
		"ok/what is held is bounded":        {time.Second, 10, 100, 20 * time.Millisecond, 90},
		"ok/zero holds nothing":             {0, 10, 100, 0, 100},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := limit.NewPacer(test.longest, test.most)
				for range 2 { // the second time as the first: nothing is left over
					if last, atOnce := leave(t, p, test.callers); last != test.last || atOnce != test.atOnce {
						t.Errorf("the last left after %s, and %d at once; want %s, %d", last, atOnce, test.last, test.atOnce)
					}
				}
			})
		})
	}
	t.Run("ok/a caller who has gone is not held", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			began := time.Now()
			limit.NewPacer(time.Second, 10).Hold(ctx)
			(*limit.Pacer)(nil).Hold(t.Context())
			if time.Since(began) != 0 {
				t.Error("held")
			}
		})
	})
}
