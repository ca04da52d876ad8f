package bff

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// expiring is a set whose members leave at a time. It holds at most limit of them.
type expiring[K comparable] struct {
	limit int

	size atomic.Int64 // so that an empty set costs no lock
	mu   sync.RWMutex
	m    map[K]time.Time
}

// add adds a member and reports whether it is new.
func (e *expiring[K]) add(k K, until time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if old, ok := e.m[k]; ok && time.Now().Before(old) {
		return false
	}
	if e.m == nil {
		e.m = map[K]time.Time{}
	}
	if len(e.m) >= e.limit {
		for k := range e.m { // any
			delete(e.m, k)
			break
		}
	}
	e.m[k] = until
	e.size.Store(int64(len(e.m)))
	return true
}

func (e *expiring[K]) has(k K) bool {
	if e.size.Load() == 0 {
		return false
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	until, ok := e.m[k]
	return ok && time.Now().Before(until)
}

func (e *expiring[K]) purge(now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	maps.DeleteFunc(e.m, func(_ K, until time.Time) bool { return !now.Before(until) })
	e.size.Store(int64(len(e.m)))
}
