package keyring

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/handstamp/handstamp/pkg/verifier"
)

// view is what one reading of the store said. It never changes.
type view struct {
	at       time.Time // of the reading, or before
	records  []Record
	public   map[string]*verifier.Key // by kid: upcoming, active and retired
	past     map[string]*verifier.Key // by kid: retired, and not in the JWKS any more
	signers  map[string]crypto.Signer // by kid: upcoming and active
	signing  map[string]signing       // by algorithm; "" is the default
	body     []byte                   // the JWKS document
	etag     string
	complete bool // every configured algorithm has a published key
}

// signing is an active key and the last instant at which it can be trusted to be active still.
type signing struct {
	key   *SigningKey
	until time.Time
}

// find returns the algorithm's key in a state of which there is one at most.
func (v *view) find(algorithm string, state State) (Record, bool) {
	i := slices.IndexFunc(v.records, func(r Record) bool { return r.Algorithm == algorithm && r.State == state })
	if i < 0 {
		return Record{}, false
	}
	return v.records[i], true
}

// build turns a reading of the store into a view, taking over from the previous one what has not changed.
func (k *Keyring) build(records []Record, at time.Time, previous *view) (*view, error) {
	v := &view{
		at:      at,
		records: records,
		public:  map[string]*verifier.Key{},
		past:    map[string]*verifier.Key{},
		signers: map[string]crypto.Signer{},
	}
	unchanged := func(now, before Record) bool {
		return now.equal(before) && now.published(at) == before.published(previous.at)
	}
	if previous != nil && slices.EqualFunc(records, previous.records, unchanged) {
		same := *previous
		same.at = at
		same.signing = k.signing(&same, previous)
		return &same, nil
	}
	for _, record := range records {
		if record.State == StateRevoked {
			continue
		}
		public, err := record.PublicKey()
		if err != nil {
			return nil, err
		}
		key, err := verificationKey(record.ID, public, previous)
		if err != nil {
			return nil, err
		}
		if !record.published(at) {
			v.past[record.ID] = key
			continue
		}
		v.public[record.ID] = key
		if record.State == StateRetired {
			continue
		}
		signer, err := k.open(record, previous)
		if err != nil {
			return nil, err
		}
		v.signers[record.ID] = signer
	}
	v.signing = k.signing(v, previous)
	v.complete = !slices.ContainsFunc(k.options.Algorithms, func(algorithm string) bool {
		_, hasActive := v.find(algorithm, StateActive)
		upcoming, hasUpcoming := v.find(algorithm, StateUpcoming)
		return !hasActive && (!hasUpcoming || !k.due(upcoming, false).After(at))
	})
	return v, k.publish(v)
}

// published reports whether the JWKS holds a key at a time.
func (r Record) published(at time.Time) bool {
	return r.State != StateRevoked && (r.RemoveAt.IsZero() || at.Before(r.RemoveAt))
}

// verificationKey keeps one *verifier.Key for a key: a verifier's cache knows it by its address.
func verificationKey(id string, public crypto.PublicKey, previous *view) (*verifier.Key, error) {
	if previous != nil && previous.public[id] != nil { // a kid is a thumbprint, so it is the same key
		return previous.public[id], nil
	}
	key, err := verifier.NewKey(id, public)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, id, err)
	}
	return key, nil
}

// open opens a sealed key once in the life of the keyring.
func (k *Keyring) open(record Record, previous *view) (crypto.Signer, error) {
	if previous != nil {
		same := func(r Record) bool { return r.ID == record.ID && bytes.Equal(r.Sealed, record.Sealed) }
		if signer, ok := previous.signers[record.ID]; ok && slices.ContainsFunc(previous.records, same) {
			return signer, nil
		}
	}
	return k.sealer.open(record)
}

// signing finds the active keys, and how long each may be used before the store must have been read again: until its known
// successor takes over, or until one could that was made just after the reading. The lag is granted on top of both; the
// retired key's RemoveAt allows for it.
func (k *Keyring) signing(v, previous *view) map[string]signing {
	active := map[string]signing{}
	for _, record := range v.records {
		if record.State != StateActive {
			continue
		}
		key := &SigningKey{ID: record.ID, Algorithm: record.Algorithm, signer: v.signers[record.ID]}
		if previous != nil && previous.signing[record.Algorithm].key != nil && previous.signing[record.Algorithm].key.ID == record.ID {
			key = previous.signing[record.Algorithm].key
		}
		until := v.at.Add(k.lead)
		if upcoming, ok := v.find(record.Algorithm, StateUpcoming); ok {
			// Before its time comes it may take over by hand as soon as caches have it, or at once if this key is revoked.
			if due := k.due(upcoming, true); due.Before(v.at) { // overdue: nobody could reach the store
				until = v.at
			} else if due.Before(until) {
				until = due
			}
		}
		active[record.Algorithm] = signing{key, until.Add(k.options.lag())}
	}
	for _, algorithm := range k.options.Algorithms {
		if s, ok := active[algorithm]; ok {
			active[""] = s
			break
		}
	}
	return active
}

// due is when an upcoming key may take over. The first key of an algorithm may do so as soon as it says; a successor must
// have been published for the lead time, whatever it says.
func (k *Keyring) due(upcoming Record, successor bool) time.Time {
	if published := upcoming.CreatedAt.Add(k.lead); successor && published.After(upcoming.ActivatesAt) {
		return published
	}
	return upcoming.ActivatesAt
}

// publish writes the JWKS document: active keys first and those of the default algorithm before others, for the sake of
// clients that take the first key they find.
func (k *Keyring) publish(v *view) error {
	states := []State{StateActive, StateUpcoming, StateRetired}
	order := slices.DeleteFunc(slices.Clone(v.records), func(r Record) bool { return v.public[r.ID] == nil })
	slices.SortStableFunc(order, func(a, b Record) int {
		return cmp.Or(
			cmp.Compare(slices.Index(states, a.State), slices.Index(states, b.State)),
			cmp.Compare(slices.Index(k.options.Algorithms, a.Algorithm), slices.Index(k.options.Algorithms, b.Algorithm)),
		)
	})
	set := verifier.JWKSet{Keys: []verifier.JWK{}}
	for _, record := range order {
		key, err := verifier.NewJWK(record.ID, v.public[record.ID].Public())
		if err != nil {
			return fmt.Errorf("publish signing key %s: %w", record.ID, err)
		}
		set.Keys = append(set.Keys, key)
	}
	body, err := json.Marshal(set)
	if err != nil {
		return fmt.Errorf("publish signing keys: %w", err)
	}
	sum := sha256.Sum256(body)
	v.body, v.etag = body, `"`+base64.RawURLEncoding.EncodeToString(sum[:16])+`"`
	return nil
}

// JWKS is the document that verifiers fetch (RFC 7517, section 5).
type JWKS struct {
	// Body is the JSON text; it must not be changed.
	Body []byte
	// ETag is its strong entity tag, quotes included.
	ETag string
	// MaxAge is how long a cache may keep the document, in whole seconds; 0 means that it must ask every time.
	MaxAge time.Duration
}

// JWKS returns the published keys from memory: also while the store is down, and never an empty set because of that. Right
// after the first start it waits a little until each algorithm has its first key.
func (k *Keyring) JWKS(ctx context.Context) JWKS {
	v := k.current(ctx)
	if !v.complete {
		v = k.awaitComplete(ctx)
	}
	return JWKS{Body: v.body, ETag: v.etag, MaxAge: k.maxAge(v, k.now())}
}

// maxAge is how long a copy of the view stays good: a key that is not in it was made after its reading at the earliest and
// does not sign before the lead time is over. Half of the leeway is kept back for clocks that differ.
func (k *Keyring) maxAge(v *view, at time.Time) time.Duration {
	if !v.complete { // a missing first key signs as soon as it exists
		return 0
	}
	left := v.at.Add(k.lead - k.options.Leeway/2).Sub(at)
	return max(0, min(k.options.MaxAge, left)).Truncate(time.Second)
}

// Public returns the key that verifies tokens with the kid; false if there is none: it is unknown, revoked, or removed. It
// answers from memory and has the form that verifier.WithKeys takes.
func (k *Keyring) Public(kid string) (*verifier.Key, bool) {
	key, ok := k.current(context.Background()).public[kid]
	return key, ok
}

// Hint returns the key that verifies an ID token with the kid which is shown as a hint: like Public, and for as long as
// sessions last also of a key whose tokens have all expired. An ID token names its session after it has expired (OpenID Connect
// RP-Initiated Logout 1.0, section 2). Nothing else may be verified with it.
func (k *Keyring) Hint(kid string) (*verifier.Key, bool) {
	v := k.current(context.Background())
	if key, ok := v.public[kid]; ok {
		return key, true
	}
	key, ok := v.past[kid]
	return key, ok
}
