package service

import (
	"context"
	"time"

	"github.com/handstamp/handstamp/pkg/factor"
	"github.com/handstamp/handstamp/pkg/mail"
	"github.com/handstamp/handstamp/pkg/outbox"
	"github.com/handstamp/handstamp/pkg/sharedsignal"
)

const (
	sweepEvery = time.Minute
	// codeMemory is how long after its end an authorization code that is shown again is recognized, and ends the session that
	// it gave.
	codeMemory = time.Hour
	// clockMargin is for replicas and verifiers whose clocks differ.
	clockMargin = 2 * time.Minute
)

// sweep deletes what has expired, in small batches, every minute. Replicas share the work.
func (v *Service) sweep(ctx context.Context, c Config) {
	const batch = 1000
	lifetimes := sessionConfig(c)
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := c.Clock.Now()
		var unkept time.Time // nothing is older than the zero time
		if c.AuditRetention > 0 {
			unkept = now.Add(-c.AuditRetention)
		}
		err := v.Blocklist.Drop(ctx, now.Add(-time.Minute))
		for _, sweep := range []struct {
			batch  func(ctx context.Context, before time.Time, limit int) (int, error)
			before time.Time
		}{
			{v.Store.SweepSessions, now},
			{v.Store.SweepBrowser, now.Add(-codeMemory)},
			{v.Store.SweepPushedRequests, now},
			{v.Store.SweepUpstream, now.Add(-lifetimes.ClockMargin)},
			{func(ctx context.Context, before time.Time, limit int) (int, error) {
				return v.Store.SweepSignals(ctx, before, now, limit)
			}, v.Blocklist.Over(now).Add(-sharedsignal.Retention)},
			{v.Store.SweepProofs, now.Add(-lifetimes.ClockMargin)},
			{v.Store.SweepRows, now.Add(-outbox.DeadFor)},
			{v.Store.SweepFactors, now.Add(-factor.Memory)},
			{v.Store.SweepStatuses, v.Blocklist.Over(now).Add(-lifetimes.Outlived())},
			{v.Store.SweepEvents, unkept},
		} {
			for n := batch; err == nil && n == batch; {
				n, err = sweep.batch(ctx, sweep.before, batch)
			}
		}
		if err != nil && ctx.Err() == nil {
			v.log.WarnContext(ctx, "expired rows cannot be swept", "error", err)
		}
		if err == nil {
			v.figures.swept.Store(now.Unix())
		}
		waiting, err := v.Store.Deliveries(ctx)
		if err != nil && ctx.Err() == nil {
			v.log.WarnContext(ctx, "the deliveries that wait cannot be counted", "error", err)
		}
		v.countMail(ctx, now)
		for kind, n := range waiting {
			v.figures.waiting.WithLabelValues(kind).Set(float64(n))
		}
		if err := v.Store.Checkpoint(ctx); err != nil && ctx.Err() == nil {
			v.log.WarnContext(ctx, "the database's log cannot be moved to its main file", "error", err)
		}
	}
}

// countMail sets the figures of the mails that wait.
func (v *Service) countMail(ctx context.Context, now time.Time) {
	b, err := v.Store.Backlog(ctx, mail.KindMail)
	if err != nil {
		if ctx.Err() == nil {
			v.log.WarnContext(ctx, "the mails that wait cannot be counted", "error", err)
		}
		return
	}
	v.figures.waiting.WithLabelValues(mail.KindMail).Set(float64(b.Waiting))
	age := 0.0
	if !b.Oldest.IsZero() {
		age = now.Sub(b.Oldest).Seconds()
	}
	v.figures.oldest.Set(age)
}
