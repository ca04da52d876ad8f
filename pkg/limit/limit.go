// Package limit slows down callers that ask too often. It counts in memory, on each replica alone. A limit that must hold
// exactly, because an attacker could guess beyond it, is in the database beside the data that it protects.
package limit

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

// maxAddresses bounds the memory of Addresses; the address that was quiet longest makes way.
const maxAddresses = 100_000

// Addresses has a bucket for each client address; all of an IPv6 /64 share one, since that is what one customer has. It
// is safe for concurrent use. Nil limits nothing.
type Addresses struct {
	rate Rate

	mu      sync.Mutex
	buckets *lru.Cache[netip.Prefix, *rate.Limiter]
}

// NewAddresses returns full buckets.
func NewAddresses(r Rate) *Addresses {
	buckets, err := lru.New[netip.Prefix, *rate.Limiter](maxAddresses)
	if err != nil {
		panic(err) // the size is a positive constant
	}
	return &Addresses{rate: r, buckets: buckets}
}

// Wait is how long an address has to wait before its bucket holds one again; zero if not at all.
func (l *Addresses) Wait(ip string) time.Duration {
	b := l.bucket(ip, false)
	if b == nil || b.Tokens() >= 1 {
		return 0
	}
	return time.Duration((1 - b.Tokens()) * float64(l.rate.Every))
}

// Take takes one out of an address's bucket, if there is one in it.
func (l *Addresses) Take(ip string) {
	if b := l.bucket(ip, true); b != nil {
		b.Allow()
	}
}

func (l *Addresses) bucket(ip string, create bool) *rate.Limiter {
	if l == nil || l.rate.Burst == 0 {
		return nil
	}
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return nil
	}
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
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
