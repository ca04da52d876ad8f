package clock_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/handstamp/handstamp/pkg/clock"
)

func TestClock(t *testing.T) {
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		ahead     time.Duration   // the database
		takes     []time.Duration // each question, there and back
		want      time.Duration
		precision time.Duration
	}{
		"ok/the same":                        {0, []time.Duration{0, 0, 0}, 0, 0},
		"ok/ahead":                           {5 * time.Minute, []time.Duration{0, 0, 0}, 5 * time.Minute, 0},
		"ok/behind":                          {-10 * time.Second, []time.Duration{0, 0, 0}, -10 * time.Second, 0},
		"ok/half of the way is allowed for":  {time.Minute, []time.Duration{8, 4, 6}, time.Minute, 2},
		"ok/less than the measurement knows": {time.Second, []time.Duration{3e9, 3e9, 3e9}, 0, 1500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			now, calls := start, 0
			c := clock.New(func() time.Time { return now })
			precision, err := c.Measure(t.Context(), func(context.Context) (time.Time, error) {
				now = now.Add(test.takes[calls] / 2)
				told := now.Add(test.ahead)
				now = now.Add(test.takes[calls] / 2)
				calls++
				return told, nil
			})
			if err != nil || precision != test.precision || c.Offset() != test.want || !c.Now().Equal(now.Add(test.want)) {
				t.Errorf("offset %v ± %v, %v; want %v ± %v", c.Offset(), precision, err, test.want, test.precision)
			}
		})
	}
	t.Run("fail/the database does not answer", func(t *testing.T) {
		c, broken := clock.New(time.Now), errors.New("broken")
		ahead := func(context.Context) (time.Time, error) { return time.Now().Add(time.Hour), nil }
		if _, err := c.Measure(t.Context(), ahead); err != nil {
			t.Fatal(err)
		}
		before := c.Offset()
		_, err := c.Measure(t.Context(), func(context.Context) (time.Time, error) { return time.Time{}, broken })
		if !errors.Is(err, broken) || c.Offset() != before {
			t.Errorf("offset %v, %v", c.Offset(), err)
		}
	})
	t.Run("ok/nobody has measured", func(t *testing.T) {
		for name, c := range map[string]*clock.Clock{"nil": nil, "zero": {}} {
			if c.Offset() != 0 || time.Since(c.Now()).Abs() > time.Minute {
				t.Errorf("%s: %v", name, c.Now())
			}
		}
	})
}
