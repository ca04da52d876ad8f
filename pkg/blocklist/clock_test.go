package blocklist

import (
	"testing"
	"time"
)

func TestREV05_ClockIsSet(t *testing.T) {
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	type reading struct{ elapsed, wall, believed time.Duration } // since the start
	for name, readings := range map[string][]reading{
		"ok/runs": {{0, 0, 0}, {time.Hour, time.Hour, time.Hour}, {240 * time.Hour, 240 * time.Hour, 240 * time.Hour}},
		"ok/is kept right": {
			{time.Minute, time.Minute + 30*time.Second, time.Minute + 30*time.Second},
			{time.Hour, time.Hour + time.Minute, time.Hour + time.Minute},
		},
		"ok/set back": {{time.Hour, 0, 0}, {2 * time.Hour, time.Hour, time.Hour}},
		"ok/set forward, then back": {
			{time.Minute, 24 * time.Hour, time.Minute}, {10 * time.Minute, 24 * time.Hour, 10 * time.Minute},
			{11 * time.Minute, 11 * time.Minute, 11 * time.Minute},
			{2 * time.Hour, 26 * time.Hour, 2 * time.Hour}, // forward once more: the hour begins anew
		},
		"ok/set forward for good": {
			{time.Minute, 24 * time.Hour, time.Minute}, {60 * time.Minute, 25 * time.Hour, 60 * time.Minute},
			{61 * time.Minute, 25 * time.Hour, 25 * time.Hour}, {62 * time.Minute, 25*time.Hour + time.Minute, 25*time.Hour + time.Minute},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClock(start)
			for _, r := range readings {
				if got := c.believed(start.Add(r.wall), r.elapsed); !got.Equal(start.Add(r.believed)) {
					t.Errorf("after %v at %v: believes %v, want %v", r.elapsed, r.wall, got.Sub(start), r.believed)
				}
			}
		})
	}
}
