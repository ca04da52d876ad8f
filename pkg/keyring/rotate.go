package keyring

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
)

// anyKey stands for the key that create has made.
const anyKey = "*"

// step is one write to the store, whose errors say what was being done. It returns ErrConflict if another replica was faster.
type step func(context.Context) error

// next returns what is due, one thing at a time, or nil. It is the whole schedule: every state in which a crash can leave
// the keys is a state that next goes on from.
func (k *Keyring) next(v *view, at time.Time, algorithms []string) step {
	system := audit.By{Actor: audit.ActorSystem}
	for _, algorithm := range algorithms {
		active, hasActive := v.find(algorithm, StateActive)
		upcoming, hasUpcoming := v.find(algorithm, StateUpcoming)
		switch {
		case hasUpcoming:
			if !at.Before(k.due(upcoming, hasActive)) {
				return k.activate(upcoming.ID)
			}
		case !hasActive && (len(v.records) == 0 || slices.Contains(always(), algorithm)):
			// No copy of the JWKS can lack this key: until it exists, no replica allows anybody to keep one.
			return k.create(algorithm, "", 0, system)
		case !hasActive:
			return k.create(algorithm, "", max(k.lead, byHand), system)
		case !at.Before(active.ActivatedAt.Add(k.options.RotateEvery - k.ahead)):
			return k.create(algorithm, active.ID, k.ahead, system)
		}
	}
	over := at.Add(-k.options.HintLifetime)
	if slices.ContainsFunc(v.records, func(r Record) bool { return !r.RemoveAt.IsZero() && !over.Before(r.RemoveAt) }) {
		return func(ctx context.Context) error {
			return k.store.DeleteSigningKeys(ctx, over)
		}
	}
	return nil
}

// create makes a key that may sign after the given time.
func (k *Keyring) create(algorithm, active string, after time.Duration, by audit.By) step {
	return func(ctx context.Context) error {
		key, err := k.sealer.newRecord(algorithm)
		if err != nil {
			return fmt.Errorf("make signing key: %w", err)
		}
		key.State, key.CreatedAt = StateUpcoming, k.now()
		key.ActivatesAt = key.CreatedAt.Add(after)
		return k.store.InsertSigningKey(ctx, Insertion{
			Key: key, Active: active, Event: audit.KeyRotated(key.CreatedAt, key.ID, by),
		})
	}
}

func (k *Keyring) activate(id string) step {
	return func(ctx context.Context) error {
		at := k.now()
		return k.store.ActivateSigningKey(ctx, Activation{
			ID: id, At: at,
			// One leeway for a replica that goes on signing because it has not heard, one for the clocks of verifiers.
			RemoveAt: at.Add(k.options.TokenLifetime + 2*k.options.Leeway),
		})
	}
}

// Rotate makes an upcoming key that takes over from the algorithm's active key ("" for the default algorithm) at the returned
// record's ActivatesAt, 20 minutes later, when every cache has it. ErrUpcoming if there is one already, ErrUnknownAlgorithm if
// the algorithm has no active key.
func (k *Keyring) Rotate(ctx context.Context, algorithm string, by audit.By) (Record, error) {
	return k.rotate(ctx, algorithm, max(k.lead, byHand), by, func(upcoming Record) (step, error) {
		return nil, fmt.Errorf("%w: %s signs from %s", ErrUpcoming, upcoming.ID, k.due(upcoming, true).Format(time.RFC3339))
	})
}

// RotateNow is Rotate for an operator who cannot wait: the new key signs as soon as the caches have it that honour
// Cache-Control. A key that is upcoming already and has been published for so long signs at once; if it has not, the error is
// ErrUpcoming, and says when.
func (k *Keyring) RotateNow(ctx context.Context, algorithm string, by audit.By) (Record, error) {
	return k.rotate(ctx, algorithm, k.lead, by, func(upcoming Record) (step, error) {
		if ready := upcoming.CreatedAt.Add(k.lead); k.now().Before(ready) {
			return nil, fmt.Errorf("%w: %s can sign from %s; rotate it again then", ErrUpcoming, upcoming.ID, ready.Format(time.RFC3339))
		}
		return k.activate(upcoming.ID), nil
	})
}

// rotate makes an upcoming key, or does with the one that there is what the caller says.
func (k *Keyring) rotate(ctx context.Context, algorithm string, after time.Duration, by audit.By,
	instead func(upcoming Record) (step, error)) (Record, error) {
	unlock, err := k.lock(ctx)
	if err != nil {
		return Record{}, err
	}
	defer unlock()
	var made string // ID of the key that is to sign
	for range maxSteps {
		v, err := k.reload(ctx)
		if err != nil {
			return Record{}, err
		}
		if algorithm == "" {
			algorithm = v.signing[""].key.Algorithm
		}
		active, hasActive := v.find(algorithm, StateActive)
		upcoming, hasUpcoming := v.find(algorithm, StateUpcoming)
		upcoming.Sealed = nil
		switch {
		case !hasActive:
			return Record{}, fmt.Errorf("%w: %q has no active key", ErrUnknownAlgorithm, algorithm)
		case hasUpcoming && made == anyKey:
			return upcoming, nil
		case active.ID == made:
			active.Sealed, active.ActivatesAt = nil, active.ActivatedAt
			return active, nil
		}
		step, becomes := k.create(algorithm, active.ID, after, by), anyKey
		if hasUpcoming {
			if step, err = instead(upcoming); err != nil {
				return Record{}, err
			}
			becomes = upcoming.ID
		}
		err = k.do(ctx, step)
		if err != nil && !errors.Is(err, ErrConflict) {
			return Record{}, err
		}
		if err == nil {
			made = becomes
		}
	}
	return Record{}, fmt.Errorf("rotate signing key: %w", ErrConflict)
}

// Revoke takes a key out of the JWKS at once and announces it in the feed of blocked tokens; an active key is replaced
// first. Tokens signed with it are refused from then on: here at once, on other replicas after their next look at the
// store, by verifiers when they hear the feed or fetch the JWKS. Tokens of a replacement that no cache has yet make
// verifiers fetch. Revoking a revoked key does nothing. ErrNotFound. After a failure the key may be replaced but not
// revoked; call again.
func (k *Keyring) Revoke(ctx context.Context, id string, by audit.By) error {
	unlock, err := k.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	for range maxSteps {
		v, err := k.reload(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(v.records, func(r Record) bool { return r.ID == id })
		switch {
		case i < 0:
			return fmt.Errorf("%w: %q", ErrNotFound, id)
		case v.records[i].State == StateRevoked:
			return nil
		}
		if err := k.do(ctx, k.retreat(v, v.records[i], by)); err != nil && !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("revoke signing key: %w", ErrConflict)
}

// retreat is the next step on the way to a revoked key. At no time between the steps is an algorithm without active key.
func (k *Keyring) retreat(v *view, key Record, by audit.By) step {
	if key.State != StateActive {
		return func(ctx context.Context) error {
			at := k.now()
			return k.store.RevokeSigningKey(ctx, Revocation{
				ID: key.ID, At: at, RemoveAt: at.Add(revocationLifetime), Event: audit.KeyRevoked(at, key.ID, by),
			})
		}
	}
	if upcoming, ok := v.find(key.Algorithm, StateUpcoming); ok { // some caches have it already
		return k.activate(upcoming.ID)
	}
	return k.create(key.Algorithm, key.ID, k.lead, by)
}
