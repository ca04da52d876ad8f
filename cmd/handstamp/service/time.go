package service

import (
	"context"
	"time"

	"github.com/handstamp/handstamp/pkg/clock"
	"github.com/handstamp/handstamp/pkg/store"
)

const (
	// measureEvery is how often a replica asks the database for its time.
	measureEvery = 10 * time.Second
	// measureTimeout bounds a measurement.
	measureTimeout = 5 * time.Second
	// warnOffset is the difference between the clocks that an operator hears of.
	warnOffset = time.Second
)

// measure sets a clock by the database's.
func measure(ctx context.Context, c *clock.Clock, s store.Store) error {
	ctx, cancel := context.WithTimeout(ctx, measureTimeout)
	defer cancel()
	_, err := c.Measure(ctx, s.Now)
	return err
}

// keepTime goes on measuring until ctx ends.
func (b *builder) keepTime(ctx context.Context) {
	ticker := time.NewTicker(measureEvery)
	defer ticker.Stop()
	var told time.Duration
	for {
		offset := b.config.Clock.Offset()
		switch moved := (offset - told).Abs() > warnOffset; {
		case moved && offset.Abs() > clock.MaxOffset:
			told = offset
			b.log.ErrorContext(ctx, "the clock is too far from the database's: set it", "database_ahead", offset.String())
		case moved && offset.Abs() > warnOffset:
			told = offset
			b.log.WarnContext(ctx, "the clock is not the database's and is corrected: set it", "database_ahead", offset.String())
		case moved:
			told = 0
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := measure(ctx, b.config.Clock, b.Store); err != nil && ctx.Err() == nil {
			b.log.DebugContext(ctx, "the database's clock cannot be read", "error", err)
		}
	}
}
