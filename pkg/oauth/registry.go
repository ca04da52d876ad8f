package oauth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/statuslist"
)

// Registry is a replica's copy of the clients. Whether a client may be issued a token is decided on its row, in the
// statement that writes; the copy serves what rarely changes.
type Registry struct {
	store ClientStore

	syncing sync.Mutex
	cursor  string // of the last Sync

	mu      sync.RWMutex
	clients map[string]Client
	syncs   int // that have changed the copy
}

// NewRegistry returns an empty registry; Sync fills it.
func NewRegistry(store ClientStore) *Registry {
	return &Registry{store: store, clients: map[string]Client{}}
}

// Client returns a client, enabled or not. ErrClientNotFound; any other error is a storage failure.
func (r *Registry) Client(ctx context.Context, id string) (Client, error) {
	r.mu.RLock()
	c, ok := r.clients[id]
	syncs := r.syncs
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
	if r.syncs == syncs { // otherwise the row may be older than what Sync has taken over meanwhile
		r.clients[id] = c
	}
	return c, nil
}

// Knows reports whether a client of this ID is in the copy. It asks no database.
func (r *Registry) Knows(id string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	_, ok := r.clients[id]
	return ok
}

// Sync takes over the changes since the last time; the first time, and after a restore of the database, all clients.
func (r *Registry) Sync(ctx context.Context) error {
	r.syncing.Lock()
	defer r.syncing.Unlock()
	changes, err := r.store.ClientChanges(ctx, r.cursor)
	if errors.Is(err, blocklist.ErrCursorGone) {
		changes, err = r.store.ClientChanges(ctx, "")
	}
	if err != nil {
		return fmt.Errorf("read changed clients: %w", err)
	}
	r.cursor = changes.Cursor
	if !changes.Complete && len(changes.Changed) == 0 && len(changes.Deleted) == 0 {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.syncs++
	if changes.Complete {
		clear(r.clients)
	}
	for _, c := range changes.Changed {
		r.clients[c.ID] = c
	}
	for _, id := range changes.Deleted {
		delete(r.clients, id)
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
	return r.any(func(c Client) bool { return slices.Contains(c.Origins, origin) })
}

// AllowsOwnOrigin is AllowsOrigin for the operator's own clients only.
func (r *Registry) AllowsOwnOrigin(origin string) bool {
	return r.any(func(c Client) bool { return !c.ThirdParty && slices.Contains(c.Origins, origin) })
}

// AllowsCookieOrigin is AllowsOrigin for clients only whose refresh token is in a cookie.
func (r *Registry) AllowsCookieOrigin(origin string) bool {
	return r.any(func(c Client) bool { return c.UsesCookie() && slices.Contains(c.Origins, origin) })
}

// any reports whether an enabled client is as the condition says.
func (r *Registry) any(is func(c Client) bool) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, c := range r.clients {
		if !c.Disabled() && is(c) {
			return true
		}
	}
	return false
}
