package limit

import (
	"net/netip"
	"sync"
)

// InFlight bounds how much goes on at once: in all, and for each client address. All of an IPv6 /64 count as one address, and so
// does everything that is no address. It is safe for concurrent use. Nil limits nothing.
type InFlight struct {
	most, each int

	mu    sync.Mutex
	all   int
	under map[netip.Prefix]int
}

// NewInFlight returns a bound; zero stands for none.
func NewInFlight(most, each int) *InFlight {
	return &InFlight{most: most, each: each, under: make(map[netip.Prefix]int)}
}

// Enter reports whether one more may go on for an address, and counts it until Leave if it may.
func (f *InFlight) Enter(ip string) bool {
	if f == nil {
		return true
	}
	n, _ := network(ip)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.most > 0 && f.all >= f.most || f.each > 0 && f.under[n] >= f.each {
		return false
	}
	f.all++
	f.under[n]++
	return true
}

// Leave counts one less.
func (f *InFlight) Leave(ip string) {
	if f == nil {
		return
	}
	n, _ := network(ip)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all--
	if f.under[n]--; f.under[n] <= 0 {
		delete(f.under, n)
	}
}
