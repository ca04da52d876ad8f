package limit_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/handstamp/handstamp/pkg/limit"
)

func TestRL04_BoundedMemory(t *testing.T) {
	t.Parallel()
	l := limit.NewAddresses(limit.Rate{Burst: 1, Every: time.Hour})
	l.Take("192.0.2.1")
	if l.Wait("192.0.2.1") == 0 || l.Wait("192.0.2.2") > 0 {
		t.Fatal("the limiter does not limit")
	}
	from := netip.MustParseAddr("10.0.0.0")
	for i := range limit.MaxAddresses + 10_000 {
		if i%1000 == 0 && l.Wait("192.0.2.1") == 0 { // an address that comes again is not forgotten in a flood of others
			t.Fatalf("forgotten after %d others", i)
		}
		l.Take(from.String())
		from = from.Next()
	}
	if got := l.Len(); got > limit.MaxAddresses {
		t.Errorf("%d addresses are remembered, want at most %d", got, limit.MaxAddresses)
	}
	for _, junk := range []string{"", "junk", "1.2.3", "fe80::1%"} {
		l.Take(junk)
		if l.Wait(junk) > 0 {
			t.Errorf("%q waits", junk)
		}
	}
}
