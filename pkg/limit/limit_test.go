package limit_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/handstamp/handstamp/pkg/limit"
)

func TestAddresses(t *testing.T) {
	for name, c := range map[string]struct {
		rate      limit.Rate
		from, and string // three are taken by the first
		want      time.Duration
	}{
		"ok/another address has a bucket of its own": {limit.Rate{Burst: 3, Every: time.Minute}, "192.0.2.1", "192.0.2.2", 0},
		"ok/another /64 has a bucket of its own": {limit.Rate{Burst: 3, Every: time.Minute}, "2001:db8:0:1::1",
			"2001:db8:0:2::1", 0},
		"ok/what is no address is not limited": {limit.Rate{Burst: 3, Every: time.Minute}, "unknown", "unknown", 0},
		"ok/the zero rate limits nothing":      {limit.Rate{}, "192.0.2.1", "192.0.2.1", 0},
		"ok/a larger bucket is not empty":      {limit.Rate{Burst: 4, Every: time.Minute}, "192.0.2.1", "192.0.2.1", 0},
		"fail/an address whose bucket is empty waits": {limit.Rate{Burst: 3, Every: time.Minute}, "192.0.2.1", "192.0.2.1",
			time.Minute},
		"fail/a /64 shares a bucket": {limit.Rate{Burst: 3, Every: time.Minute}, "2001:db8:0:1::1", "2001:db8:0:1:ffff::2",
			time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := limit.NewAddresses(c.rate)
				for range 3 {
					l.Take(c.from)
				}
				if got := l.Wait(c.and); got != c.want {
					t.Errorf("wait %s, want %s", got, c.want)
				}
				time.Sleep(c.want)
				if got := l.Wait(c.and); got != 0 {
					t.Errorf("after that, wait %s", got)
				}
			})
		})
	}

	t.Run("ok/nil limits nothing", func(t *testing.T) {
		var l *limit.Addresses
		l.Take("192.0.2.1")
		if got := l.Wait("192.0.2.1"); got != 0 {
			t.Errorf("wait %s", got)
		}
	})
}
