package service_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/store/storetest"
)

// TestSweep lets a service run for two sweeps over a log with events of several ages.
func TestSweep(t *testing.T) {
	const day = 24 * time.Hour
	ages := []time.Duration{0, day, 89 * day, 91 * day, 1000 * day}
	for name, test := range map[string]struct {
		retention time.Duration
		left      int
	}{
		"ok/by default":    {service.DefaultConfig().AuditRetention, 3},
		"ok/for a day":     {day, 1},
		"ok/all are kept":  {0, 5},
		"ok/for two years": {730 * day, 4},
	} {
		over(t, name, func(b *bench) {
			b.config.AuditRetention = test.retention
			v := b.start(b.store)
			start := time.Now()
			for _, age := range ages {
				e := audit.LoginFailed(start.Add(-age), "usr_1", "wrong_password", audit.Origin{})
				must(b.T, b.store.Record(b.Context(), e))
			}
			time.Sleep(2*time.Minute + time.Second) // of the bubble's clock
			synctest.Wait()
			events, err := b.store.Events(b.Context(), "usr_1", audit.Cursor{}, 10)
			must(b.T, err)
			var left []time.Duration
			for _, e := range events {
				left = append(left, start.Sub(e.At))
			}
			if !slices.Equal(left, ages[:test.left]) {
				b.Errorf("ages %v are left, want %v", left, ages[:test.left])
			}
			must(b.T, v.Close())
		})
	}
}

// backlog is a store with more expired sessions than one batch takes.
type backlog struct {
	store.Store
	left  int
	calls *int
}

func (s *backlog) SweepSessions(_ context.Context, _ time.Time, limit int) (int, error) {
	*s.calls++
	n := min(limit, s.left)
	s.left -= n
	return n, nil
}

func TestSweepRound(t *testing.T) {
	over(t, "ok/a backlog goes in one round, batch by batch", func(b *bench) {
		var calls int
		s := &backlog{Store: b.store, left: 2500, calls: &calls}
		v := b.start(s)
		time.Sleep(time.Minute + time.Second)
		synctest.Wait()
		if s.left != 0 || calls != 3 {
			b.Errorf("%d sessions are left after %d batches", s.left, calls)
		}
		must(b.T, v.Close())
	})
	over(t, "fail/storage failure: it is logged, and the next round sweeps", func(b *bench) {
		first := storetest.Fail(b.store, 1, storetest.Before, "SweepSessions")
		last := storetest.Fail(first, 0, storetest.Before, "SweepEvents")
		v := b.start(last)
		time.Sleep(time.Minute + time.Second)
		synctest.Wait()
		if first.Calls() != 1 || last.Calls() != 0 {
			b.Errorf("%d and %d sweeps in the round that fails", first.Calls(), last.Calls())
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if first.Calls() != 2 || last.Calls() != 1 {
			b.Errorf("%d and %d sweeps after the next round", first.Calls(), last.Calls())
		}
		if n := strings.Count(b.logged.String(), "expired rows cannot be swept"); n != 1 {
			b.Errorf("logged %d times: %s", n, b.logged)
		}
		must(b.T, v.Close())
	})
}
