package bff

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// Memory is a Store in the memory of one process. Sessions end with the process: it is for tests and for a first try.
type Memory struct {
	mu      sync.Mutex
	records map[ID]Record
	once    map[ID]time.Time
}

// NewMemory returns an empty Memory.
func NewMemory() *Memory {
	return &Memory{records: map[ID]Record{}, once: map[ID]time.Time{}}
}

// Create implements Store.
func (m *Memory) Create(_ context.Context, r Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.records[r.ID]; ok {
		return ErrConflict
	}
	r.Data = bytes.Clone(r.Data)
	m.records[r.ID] = r
	return nil
}

// Load implements Store.
func (m *Memory) Load(_ context.Context, id ID) (Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.records[id]
	if !ok {
		return Record{}, ErrNotFound
	}
	r.Data = bytes.Clone(r.Data)
	return r, nil
}

// Swap implements Store.
func (m *Memory) Swap(_ context.Context, r Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	old, ok := m.records[r.ID]
	switch {
	case !ok:
		return ErrNotFound
	case old.Version != r.Version-1:
		return ErrConflict
	}
	old.Version, old.Data, old.ExpiresAt = r.Version, bytes.Clone(r.Data), r.ExpiresAt
	m.records[r.ID] = old
	return nil
}

// End implements Store.
func (m *Memory) End(_ context.Context, match Match) ([]Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.remove(func(r Record) bool {
		switch {
		case match.ID != ID{}:
			return r.ID == match.ID
		case match.Subject != "":
			return r.Subject == match.Subject
		}
		return match.SessionID != "" && r.SessionID == match.SessionID
	}), nil
}

// remove removes what matches. The caller holds the lock.
func (m *Memory) remove(matches func(Record) bool) []Record {
	var removed []Record
	for id, r := range m.records {
		if matches(r) {
			removed = append(removed, r)
			delete(m.records, id)
		}
	}
	return removed
}

// List implements Store.
func (m *Memory) List(_ context.Context, subject string) ([]Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.list(subject), nil
}

func (m *Memory) list(subject string) []Record {
	var list []Record
	for _, r := range m.records {
		if r.Subject == subject {
			r.Data = bytes.Clone(r.Data)
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(a, b Record) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), bytes.Compare(b.ID[:], a.ID[:]))
	})
	return list
}

// Trim implements Store.
func (m *Memory) Trim(_ context.Context, subject string, keep int) ([]Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := m.list(subject)
	removed := list[min(keep, len(list)):]
	for _, r := range removed {
		delete(m.records, r.ID)
	}
	return removed, nil
}

// Once implements Store.
func (m *Memory) Once(_ context.Context, id ID, expiresAt time.Time) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.once[id]; ok {
		return false, nil
	}
	m.once[id] = expiresAt
	return true, nil
}

// Sweep implements Store.
func (m *Memory) Sweep(_ context.Context, now time.Time, _ int) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	swept := len(m.remove(func(r Record) bool { return r.ExpiresAt.Before(now) }))
	for id, expiresAt := range m.once {
		if expiresAt.Before(now) {
			swept++
			delete(m.once, id)
		}
	}
	return swept, nil
}
