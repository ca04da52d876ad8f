// Package limit slows down callers that ask too often. It counts in memory, on each replica alone. A limit that must hold
// exactly, because an attacker could guess beyond it, is in the database beside the data that it protects.
package limit

import (
	"net/netip"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// Rate is a bucket that holds Burst and fills with one every Every. The zero value limits nothing.
type Rate struct {
	Burst int
	Every time.Duration
}

// maxAddresses bounds the memory of Addresses; the address that was quiet longest makes way.
const maxAddresses = 100_000

// network is what shares a bucket with an address: all of an IPv6 /64, since that is what one customer has. False for a text that
// is no address.
func network(ip string) (netip.Prefix, bool) {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return netip.Prefix{}, false
	}
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	prefix, err := addr.Prefix(bits)
	return prefix, err == nil
}

// Buckets has a bucket for each of many keys. It is safe for concurrent use. Nil limits nothing.
type Buckets[K comparable] struct {
	rate Rate

	mu      sync.Mutex
	buckets *lru.Cache[K, time.Time] // when all that was taken is paid for (the generic cell rate algorithm)
}

// NewBuckets returns full buckets.
func NewBuckets[K comparable](r Rate) *Buckets[K] {
	buckets, err := lru.New[K, time.Time](maxAddresses)
	if err != nil {
		panic(err) // the size is a positive constant
	}
	return &Buckets[K]{rate: r, buckets: buckets}
}

// Wait is how long a key has to wait before its bucket holds one again; zero if not at all.
func (l *Buckets[K]) Wait(key K) time.Duration {
	if l == nil || l.rate.Burst == 0 {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	paid, _ := l.buckets.Get(key)
	return l.wait(paid, now)
}

// Take takes one out of a key's bucket. If there is none in it, it takes nothing and returns how long to wait.
func (l *Buckets[K]) Take(key K) time.Duration {
	if l == nil || l.rate.Burst == 0 {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	paid, _ := l.buckets.Get(key)
	if wait := l.wait(paid, now); wait > 0 {
		return wait
	}
	if paid.Before(now) {
		paid = now
	}
	l.buckets.Add(key, paid.Add(l.rate.Every))
	return 0
}

// Return puts one back that was taken.
func (l *Buckets[K]) Return(key K) {
	if l == nil || l.rate.Burst == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if paid, ok := l.buckets.Get(key); ok {
		l.buckets.Add(key, paid.Add(-l.rate.Every))
	}
}

func (l *Buckets[K]) wait(paid, now time.Time) time.Duration {
	if paid.Before(now) {
		return 0
	}
	return max(0, paid.Sub(now)-time.Duration(l.rate.Burst-1)*l.rate.Every)
}

// Addresses has a bucket for each client address; all of an IPv6 /64 share one. What is no address is not limited. It is safe for
// concurrent use. Nil limits nothing.
type Addresses struct{ buckets *Buckets[netip.Prefix] }

// NewAddresses returns full buckets.
func NewAddresses(r Rate) *Addresses { return &Addresses{NewBuckets[netip.Prefix](r)} }

// Wait is how long an address has to wait before its bucket holds one again; zero if not at all.
func (l *Addresses) Wait(ip string) time.Duration {
	n, ok := network(ip)
	if l == nil || !ok {
		return 0
	}
	return l.buckets.Wait(n)
}

// Take takes one out of an address's bucket. If there is none in it, it takes nothing and returns how long to wait.
func (l *Addresses) Take(ip string) time.Duration {
	n, ok := network(ip)
	if l == nil || !ok {
		return 0
	}
	return l.buckets.Take(n)
}

// Return puts one back that was taken.
func (l *Addresses) Return(ip string) {
	if n, ok := network(ip); ok && l != nil {
		l.buckets.Return(n)
	}
}
