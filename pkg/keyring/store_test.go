package keyring_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/keyring"
)

// memory is a Store that keeps its word to the letter, in memory.
type memory struct {
	mu      sync.Mutex
	keys    []keyring.Record
	events  []audit.Event
	blocked map[string]time.Time
}

func (m *memory) SigningKeys(ctx context.Context) ([]keyring.Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	keys := slices.Clone(m.keys)
	for i := range keys {
		keys[i].Sealed, keys[i].Public = bytes.Clone(keys[i].Sealed), bytes.Clone(keys[i].Public)
	}
	slices.SortFunc(keys, func(a, b keyring.Record) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return keys, ctx.Err()
}

func (m *memory) find(match func(keyring.Record) bool) *keyring.Record {
	if i := slices.IndexFunc(m.keys, match); i >= 0 {
		return &m.keys[i]
	}
	return nil
}

func (m *memory) in(algorithm string, state keyring.State) *keyring.Record {
	return m.find(func(r keyring.Record) bool { return r.Algorithm == algorithm && r.State == state })
}

func (m *memory) id(id string) *keyring.Record {
	return m.find(func(r keyring.Record) bool { return r.ID == id })
}

func (m *memory) InsertSigningKey(ctx context.Context, i keyring.Insertion) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	active := ""
	if r := m.in(i.Key.Algorithm, keyring.StateActive); r != nil {
		active = r.ID
	}
	if active != i.Active || m.in(i.Key.Algorithm, keyring.StateUpcoming) != nil || m.id(i.Key.ID) != nil {
		return keyring.ErrConflict
	}
	m.keys, m.events = append(m.keys, i.Key), append(m.events, i.Event)
	return ctx.Err()
}

func (m *memory) ActivateSigningKey(ctx context.Context, a keyring.Activation) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := m.id(a.ID)
	if key == nil || key.State != keyring.StateUpcoming {
		return keyring.ErrConflict
	}
	if old := m.in(key.Algorithm, keyring.StateActive); old != nil {
		old.State, old.Sealed, old.RetiredAt, old.RemoveAt = keyring.StateRetired, nil, a.At, a.RemoveAt
	}
	key.State, key.ActivatedAt = keyring.StateActive, a.At
	return ctx.Err()
}

func (m *memory) RevokeSigningKey(ctx context.Context, r keyring.Revocation) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := m.id(r.ID)
	switch {
	case key == nil:
		return keyring.ErrNotFound
	case key.State == keyring.StateActive:
		return keyring.ErrConflict
	case key.State == keyring.StateRevoked:
		return nil
	}
	key.State, key.Sealed, key.RevokedAt, key.RemoveAt = keyring.StateRevoked, nil, r.At, r.RemoveAt
	if m.blocked == nil {
		m.blocked = map[string]time.Time{}
	}
	m.blocked[r.ID] = r.RemoveAt
	m.events = append(m.events, r.Event)
	return ctx.Err()
}

func (m *memory) DeleteSigningKeys(ctx context.Context, at time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keys = slices.DeleteFunc(m.keys, func(r keyring.Record) bool {
		return (r.State == keyring.StateRetired || r.State == keyring.StateRevoked) && !r.RemoveAt.After(at)
	})
	return ctx.Err()
}

// edit changes the stored keys behind everybody's back.
func (m *memory) edit(change func(*keyring.Record)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.keys {
		change(&m.keys[i])
	}
}

// check fails the test unless the algorithm has exactly one active key, and no private half is left that must be gone.
func (m *memory) check(t interface {
	Helper()
	Fatalf(string, ...any)
}, algorithm string) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	active, upcoming := 0, 0
	for _, r := range m.keys {
		if r.State == keyring.StateActive && r.Algorithm == algorithm {
			active++
		}
		if r.State == keyring.StateUpcoming && r.Algorithm == algorithm {
			upcoming++
		}
		if signs := r.State == keyring.StateActive || r.State == keyring.StateUpcoming; signs != (r.Sealed != nil) {
			t.Fatalf("%s key %s has %d sealed bytes", r.State, r.ID, len(r.Sealed))
		}
	}
	if active != 1 || upcoming > 1 {
		t.Fatalf("%d active and %d upcoming %s keys", active, upcoming, algorithm)
	}
}

var errDown = errors.New("the database is down")

// wire stands between one replica and the store. It fails, hangs and loses answers as told.
type wire struct {
	keyring.Store
	mu     sync.Mutex
	down   bool
	calls  int           // made so far
	fail   int           // the call to fail, counted from 1
	lose   bool          // fail it after it was carried out
	frozen chan struct{} // calls hang until it is closed: the process is stopped
	slow   time.Duration // each call takes so long

	writes int // made so far
	dieAt  int // the write at which the process dies, counted from 1
	death  death
	dead   bool
}

// death is the moment at which a process dies.
type death int

const (
	beforeWrite  death = iota // the store has not done it
	beforeAnswer              // the store has done it, the process does not know
	beforeLook                // the process knows, and comes no further
)

func (w *wire) call(ctx context.Context, do func(context.Context) error) error {
	w.mu.Lock()
	frozen, slow := w.frozen, w.slow
	w.calls++
	down, fail, lose := w.down, w.calls == w.fail, w.lose
	w.mu.Unlock()
	if frozen != nil {
		<-frozen
	}
	if slow > 0 {
		select {
		case <-time.After(slow):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if down || fail && !lose {
		return errDown
	}
	if err := do(ctx); err != nil {
		return err
	}
	if fail {
		return errDown
	}
	return nil
}

func (w *wire) set(change func(*wire)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(w)
}

func (w *wire) write(ctx context.Context, do func(context.Context) error) error {
	w.mu.Lock()
	w.writes++
	dying := w.writes == w.dieAt
	if dying && w.death == beforeWrite {
		w.down, w.dead = true, true
	}
	w.mu.Unlock()
	err := w.call(ctx, do)
	if dying && w.death != beforeWrite {
		w.set(func(w *wire) { w.down, w.dead = true, true })
		if w.death == beforeAnswer {
			return errDown
		}
	}
	return err
}

func (w *wire) SigningKeys(ctx context.Context) (keys []keyring.Record, err error) {
	err = w.call(ctx, func(ctx context.Context) error {
		keys, err = w.Store.SigningKeys(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return keys, nil
}

func (w *wire) InsertSigningKey(ctx context.Context, i keyring.Insertion) error {
	return w.write(ctx, func(ctx context.Context) error { return w.Store.InsertSigningKey(ctx, i) })
}

func (w *wire) ActivateSigningKey(ctx context.Context, a keyring.Activation) error {
	return w.write(ctx, func(ctx context.Context) error { return w.Store.ActivateSigningKey(ctx, a) })
}

func (w *wire) RevokeSigningKey(ctx context.Context, r keyring.Revocation) error {
	return w.write(ctx, func(ctx context.Context) error { return w.Store.RevokeSigningKey(ctx, r) })
}

func (w *wire) DeleteSigningKeys(ctx context.Context, at time.Time) error {
	return w.write(ctx, func(ctx context.Context) error { return w.Store.DeleteSigningKeys(ctx, at) })
}
