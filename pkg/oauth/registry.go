package oauth

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/handstamp/handstamp/pkg/statuslist"
)

// changeOverlap is how far back a registry looks for changed clients beyond its last look: for transactions that took
// long to commit and for clocks that differ.
const changeOverlap = time.Minute

// Registry is a replica's copy of the clients. Whether a client may be issued a token is decided on its row, in the
// statement that writes; the copy serves what rarely changes.
type Registry struct {
	store ClientStore

	mu       sync.RWMutex
	clients  map[string]Client
	lookedAt time.Time
}

// NewRegistry returns an empty registry; Sync fills it.
func NewRegistry(store ClientStore) *Registry {
	return &Registry{store: store, clients: map[string]Client{}}
}

// Client returns a client, enabled or not. ErrClientNotFound; any other error is a storage failure.
func (r *Registry) Client(ctx context.Context, id string) (Client, error) {
	r.mu.RLock()
	c, ok := r.clients[id]
	r.mu.RUnlock()
	if ok {
		return c, nil
	}
	c, err := r.store.Client(ctx, id)
	if err != nil {
		return Client{}, fmt.Errorf("client: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clients[id] = c
	return c, nil
}

// Knows reports whether a client of this ID is in the copy. It asks no database.
func (r *Registry) Knows(id string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	_, ok := r.clients[id]
	return ok
}

// Sync takes over the clients that were changed since the last look; the first time, all of them.
func (r *Registry) Sync(ctx context.Context) error {
	began := time.Now()
	r.mu.RLock()
	since := r.lookedAt.Add(-changeOverlap)
	r.mu.RUnlock()
	changed, err := r.store.ClientsChangedSince(ctx, since)
	if err != nil {
		return fmt.Errorf("read changed clients: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lookedAt = began
	for _, c := range changed {
		r.clients[c.ID] = c
	}
	return nil
}

// StatusClients lists the clients for their status lists.
func (r *Registry) StatusClients() []statuslist.Client {
	r.mu.RLock()
	defer r.mu.RUnlock()
	clients := make([]statuslist.Client, 0, len(r.clients))
	for _, c := range r.clients {
		clients = append(clients, statuslist.Client{ID: c.ID, Disabled: c.Disabled()})
	}
	return clients
}

// AllowsOrigin reports whether an enabled client may be used from a page of an origin, compared exactly.
func (r *Registry) AllowsOrigin(origin string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, c := range r.clients {
		if !c.Disabled() && slices.Contains(c.Origins, origin) {
			return true
		}
	}
	return false
}
