package bff

import (
	"sync"
	"time"
)

// Bounds of the cache of sessions. The issuer's feed tells of ended ones within a second; reread is for what it may miss: a
// session that was ended in the Store while the issuer could not be told.
const (
	cacheSize = 50_000
	reread    = 30 * time.Second
)

// cache remembers what the Store has, in two generations: what is used moves to the young one; when that is full, the old one is
// forgotten and the young one takes its place.
type cache struct {
	mu         sync.RWMutex
	young, old map[ID]cachedState
}

type cachedState struct {
	*state
	loadedAt time.Time
}

func newCache() *cache { return &cache{young: map[ID]cachedState{}} }

// get returns a state, and whether it may be used without asking the Store.
func (c *cache) get(id ID) (s *state, fresh bool) {
	c.mu.RLock()
	entry, young := c.young[id]
	if !young {
		entry = c.old[id]
	}
	c.mu.RUnlock()
	if entry.state == nil {
		return nil, false
	}
	if !young {
		c.put(entry)
	}
	return entry.state, time.Since(entry.loadedAt) < reread
}

// put remembers a state unless a later one is known.
func (c *cache) put(entry cachedState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, ok := c.young[entry.key]; ok && known.version > entry.version {
		return
	}
	if len(c.young) >= cacheSize/2 {
		c.young, c.old = map[ID]cachedState{}, c.young
	}
	c.young[entry.key] = entry
}

func (c *cache) remove(id ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.young, id)
	delete(c.old, id)
}
