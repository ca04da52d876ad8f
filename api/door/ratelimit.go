package door

import (
	"net/netip"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// Rate is a bucket that holds Burst and fills with one every Every. The zero value limits nothing.
type Rate struct {
	Burst int
	Every time.Duration
}

// maxAddresses bounds the memory of the limiter; the address that was quiet longest makes way.
const maxAddresses = 100_000

// FailureLimiter slows down who tries many passwords from one address, whoever's passwords they are. It counts failures only,
// so that many users behind one address are not held up, and it is local to the replica: the limits that must hold exactly,
// those for each account, stand in the database.
type FailureLimiter struct {
	rate    Rate
	counter interface{ Inc() }

	mu      sync.Mutex
	buckets *lru.Cache[netip.Prefix, *rate.Limiter]
}

// NewFailureLimiter returns a limiter that remembers no failure. The counter counts all of them.
func NewFailureLimiter(r Rate, counter interface{ Inc() }) *FailureLimiter {
	buckets, err := lru.New[netip.Prefix, *rate.Limiter](maxAddresses)
	if err != nil {
		panic(err) // the size is a positive constant
	}
	return &FailureLimiter{rate: r, counter: counter, buckets: buckets}
}

// Wait is how long an address has to wait before its next attempt; zero if not at all.
func (l *FailureLimiter) Wait(ip string) time.Duration {
	b := l.bucket(ip, false)
	if b == nil || b.Tokens() >= 1 {
		return 0
	}
	return time.Duration((1 - b.Tokens()) * float64(l.rate.Every))
}

// Count takes one failure off the address's bucket.
func (l *FailureLimiter) Count(ip string) {
	l.counter.Inc()
	if b := l.bucket(ip, true); b != nil {
		b.Allow()
	}
}

func (l *FailureLimiter) bucket(ip string, create bool) *rate.Limiter {
	addr, err := netip.ParseAddr(ip)
	if err != nil || l.rate.Burst == 0 {
		return nil
	}
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64 // what one customer has
	}
	network, _ := addr.Prefix(bits)
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.buckets.Get(network)
	if !ok && create {
		b = rate.NewLimiter(rate.Every(l.rate.Every), l.rate.Burst)
		l.buckets.Add(network, b)
	}
	return b
}
