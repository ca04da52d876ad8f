package door_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/handstamp/handstamp/api/door"
)

type uncounted struct{}

func (uncounted) Inc() {}

func TestRL04_BoundedMemory(t *testing.T) {
	t.Parallel()
	l := door.NewFailureLimiter(door.Rate{Burst: 1, Every: time.Hour}, uncounted{})
	l.Count("192.0.2.1")
	if l.Wait("192.0.2.1") == 0 || l.Wait("192.0.2.2") > 0 {
		t.Fatal("the limiter does not limit")
	}
	from := netip.MustParseAddr("10.0.0.0")
	for i := range door.MaxAddresses + 10_000 {
		if i%1000 == 0 && l.Wait("192.0.2.1") == 0 { // whoever comes again is not forgotten in a flood of others
			t.Fatalf("forgotten after %d others", i)
		}
		l.Count(from.String())
		from = from.Next()
	}
	if got := l.Len(); got > door.MaxAddresses {
		t.Errorf("%d addresses are remembered, want at most %d", got, door.MaxAddresses)
	}
	for _, junk := range []string{"", "junk", "1.2.3", "fe80::1%"} {
		l.Count(junk)
		if l.Wait(junk) > 0 {
			t.Errorf("%q waits", junk)
		}
	}
}
