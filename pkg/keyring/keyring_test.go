package keyring_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/keyring"
	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/verifier"
)

const masterText = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

func masterKey(t testing.TB) seal.MasterKey {
	t.Helper()
	key, err := seal.ParseMasterKey(masterText)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func open(t testing.TB, store keyring.Store, options keyring.Options) *keyring.Keyring {
	t.Helper()
	k, err := keyring.Open(t.Context(), store, masterKey(t), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return k
}

var cli = audit.By{Actor: audit.ActorCLI, Origin: audit.Origin{RequestID: "r1"}}

// kids parses a JWKS the way a verifier does and returns its key IDs.
func kids(t testing.TB, doc keyring.JWKS) []string {
	t.Helper()
	var set verifier.JWKSet
	if err := json.Unmarshal(doc.Body, &set); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, key := range set.Keys {
		if _, err := key.Public(); err != nil {
			t.Fatalf("published key %s: %v", key.Kid, err)
		}
		ids = append(ids, key.Kid)
	}
	return ids
}

func signer(t testing.TB, k *keyring.Keyring, algorithm string) *keyring.SigningKey {
	t.Helper()
	key, err := k.Signer(t.Context(), algorithm)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func states(k *keyring.Keyring, algorithm string) string {
	var list []string
	for _, r := range k.List(context.Background()) {
		if r.Algorithm == algorithm {
			list = append(list, string(r.State))
		}
	}
	return strings.Join(list, " ")
}

func TestSigner(t *testing.T) {
	k := open(t, &memory{}, keyring.Options{Algorithms: []string{verifier.EdDSA}})
	for _, algorithm := range []string{verifier.ES256, verifier.EdDSA, verifier.RS256} {
		t.Run("ok/"+algorithm, func(t *testing.T) {
			key := signer(t, k, algorithm)
			input := []byte("header.payload")
			signature, err := key.AppendSignature([]byte("before"), input)
			if err != nil || !strings.HasPrefix(string(signature), "before") {
				t.Fatalf("%q, %v", signature, err)
			}
			public, ok := k.Public(key.ID)
			if !ok || public.Algorithm() != algorithm || key.Algorithm != algorithm {
				t.Fatalf("published: %v", ok)
			}
			verify(t, public.Public(), input, signature[len("before"):])
			if !slices.Contains(kids(t, k.JWKS(t.Context())), key.ID) {
				t.Error("not in the JWKS")
			}
		})
	}
	t.Run("ok/default", func(t *testing.T) {
		if key := signer(t, k, ""); key.Algorithm != verifier.EdDSA {
			t.Error(key.Algorithm)
		}
	})
	t.Run("fail/unknown", func(t *testing.T) {
		for _, algorithm := range []string{"HS256", "none", "es256", "PS256"} {
			if _, err := k.Signer(t.Context(), algorithm); !errors.Is(err, keyring.ErrUnknownAlgorithm) {
				t.Errorf("%s: %v", algorithm, err)
			}
		}
	})
	t.Run("ok/secret", func(t *testing.T) {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x"} {
			if text := fmt.Sprintf(verb, signer(t, k, verifier.EdDSA)); text != signer(t, k, verifier.EdDSA).ID {
				t.Errorf("%s prints %s", verb, text)
			}
		}
	})
}

func verify(t testing.TB, public crypto.PublicKey, input, signature []byte) {
	t.Helper()
	digest, ok := sha256.Sum256(input), false
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		if ok = len(signature) == 64; ok {
			ok = ecdsa.Verify(key, digest[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
		}
	case ed25519.PublicKey:
		ok = ed25519.Verify(key, input, signature)
	case *rsa.PublicKey:
		ok = key.N.BitLen() == 2048 && rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature) == nil
	}
	if !ok {
		t.Errorf("signature does not verify: %x", signature)
	}
}

// Short R and S happen once in 256 signatures each; they must come out padded.
func TestES256SignaturesHaveFixedLength(t *testing.T) {
	k := open(t, &memory{}, keyring.Options{})
	key := signer(t, k, verifier.ES256)
	public, _ := k.Public(key.ID)
	for i := range 1000 {
		input := fmt.Append(nil, i)
		signature, err := key.AppendSignature(nil, input)
		if err != nil || len(signature) != 64 {
			t.Fatalf("%d bytes, %v", len(signature), err)
		}
		verify(t, public.Public(), input, signature)
	}
}

func TestSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memory{}
		k := open(t, store, keyring.Options{SyncEvery: 15 * time.Second, RotateEvery: 48 * time.Hour})
		first := signer(t, k, "").ID
		if doc := k.JWKS(t.Context()); doc.MaxAge != 5*time.Minute || !strings.HasPrefix(doc.ETag, `"`) {
			t.Errorf("max-age %v, ETag %s", doc.MaxAge, doc.ETag)
		}

		time.Sleep(24*time.Hour - 20*time.Second)
		if got := states(k, verifier.ES256); got != "active" {
			t.Fatalf("before the successor is due: %s", got)
		}
		before := k.JWKS(t.Context())
		time.Sleep(40 * time.Second)
		if got := states(k, verifier.ES256); got != "active upcoming" {
			t.Fatalf("after the successor is due: %s", got)
		}
		if after := k.JWKS(t.Context()); after.ETag == before.ETag || len(kids(t, after)) != len(kids(t, before))+2 {
			t.Error("successors are not published")
		}
		time.Sleep(24*time.Hour - 40*time.Second)
		if key := signer(t, k, ""); key.ID != first {
			t.Fatal("successor signs too early")
		}
		time.Sleep(40 * time.Second)
		if key := signer(t, k, ""); key.ID == first {
			t.Fatal("successor does not sign")
		}
		if got := states(k, verifier.ES256); got != "retired active" {
			t.Fatal(got)
		}
		store.check(t, verifier.ES256)
		time.Sleep(16 * time.Minute)
		if !slices.Contains(kids(t, k.JWKS(t.Context())), first) {
			t.Fatal("retired key is gone before its tokens")
		}
		time.Sleep(2 * time.Minute)
		if slices.Contains(kids(t, k.JWKS(t.Context())), first) || states(k, verifier.ES256) != "active" {
			t.Fatal("retired key stays for ever")
		}
	})
}

func TestRotate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memory{}
		k := open(t, store, keyring.Options{})
		old := signer(t, k, "").ID
		signer(t, k, verifier.RS256)
		upcoming, err := k.Rotate(t.Context(), "", cli)
		if err != nil || upcoming.State != keyring.StateUpcoming || upcoming.Algorithm != verifier.ES256 || upcoming.Sealed != nil {
			t.Fatalf("%+v, %v", upcoming, err)
		}
		if wait := time.Until(upcoming.ActivatesAt); wait > 20*time.Minute || wait < 20*time.Minute-time.Second {
			t.Errorf("signs in %v", wait)
		}
		if !slices.Contains(kids(t, k.JWKS(t.Context())), upcoming.ID) {
			t.Error("not published at once")
		}
		if e := store.events[len(store.events)-1]; e.Kind != audit.KindKeyRotated || e.Actor != audit.ActorCLI ||
			e.Reason != upcoming.ID || e.RequestID != "r1" {
			t.Errorf("event %+v", e)
		}
		if _, err := k.Rotate(t.Context(), verifier.ES256, cli); !errors.Is(err, keyring.ErrUpcoming) {
			t.Errorf("second rotation: %v", err)
		}
		if _, err := k.Rotate(t.Context(), verifier.EdDSA, cli); !errors.Is(err, keyring.ErrUnknownAlgorithm) {
			t.Errorf("algorithm without key: %v", err)
		}
		time.Sleep(20*time.Minute - 2*time.Second)
		if key := signer(t, k, ""); key.ID != old {
			t.Error("signs before caches that fetch every 15 minutes have it")
		}
		time.Sleep(4 * time.Second)
		if key := signer(t, k, ""); key.ID != upcoming.ID {
			t.Error("upcoming key does not sign")
		}
		if _, ok := k.Public(old); !ok {
			t.Error("retired key does not verify")
		}
	})
}

func TestRotateNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memory{}
		k := open(t, store, keyring.Options{})
		other := open(t, store, keyring.Options{})
		signer(t, k, verifier.RS256)
		upcoming, err := k.RotateNow(t.Context(), "", cli)
		if err != nil {
			t.Fatal(err)
		}
		if wait := time.Until(upcoming.ActivatesAt); wait > 6*time.Minute || wait < 6*time.Minute-time.Second {
			t.Errorf("signs in %v", wait)
		}
		if _, err := k.RotateNow(t.Context(), "", cli); !errors.Is(err, keyring.ErrUpcoming) {
			t.Errorf("caches cannot have the key: %v", err)
		}
		time.Sleep(6*time.Minute + 2*time.Second)
		if key := signer(t, k, ""); key.ID != upcoming.ID {
			t.Error("does not sign")
		}
		// What is published for longer signs as soon as it may.
		if upcoming, err = k.Rotate(t.Context(), "", cli); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		if _, err := k.RotateNow(t.Context(), "", cli); !errors.Is(err, keyring.ErrUpcoming) {
			t.Errorf("five minutes: %v", err)
		}
		time.Sleep(time.Minute + time.Second)
		hastened, err := other.RotateNow(t.Context(), "", cli)
		if err != nil || hastened.ID != upcoming.ID || hastened.State != keyring.StateActive || hastened.Sealed != nil {
			t.Errorf("hastened %+v, %v", hastened, err)
		}
		if key := signer(t, other, ""); key.ID != upcoming.ID {
			t.Error("does not sign at once")
		}
		store.check(t, verifier.ES256)
	})
}

// A replica that cannot read the store stops signing in time, although the successor that it knows of is not due for a day: the
// successor may have been hastened.
func TestHastenedSuccessorAndDeafReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memory{}
		w := &wire{Store: store}
		deaf := open(t, w, keyring.Options{RotateEvery: 48 * time.Hour})
		old := signer(t, deaf, "").ID
		signer(t, deaf, verifier.RS256)
		time.Sleep(24*time.Hour + time.Minute)
		if got := states(deaf, verifier.ES256); got != "active upcoming" {
			t.Fatal(got)
		}
		k := open(t, store, keyring.Options{RotateEvery: 48 * time.Hour})
		time.Sleep(10 * time.Minute)
		w.set(func(w *wire) { w.down = true })
		if _, err := k.RotateNow(t.Context(), "", cli); err != nil {
			t.Fatal(err)
		}
		for range 60 {
			time.Sleep(time.Minute)
			key, err := deaf.Signer(t.Context(), "")
			if err == nil && key.ID == old && !slices.Contains(kids(t, k.JWKS(t.Context())), old) {
				t.Fatal("signs with a key that is not published any more")
			}
		}
		if _, err := deaf.Signer(t.Context(), ""); !errors.Is(err, keyring.ErrNotReady) {
			t.Errorf("still signs after an hour without the store: %v", err)
		}
	})
}

// A successor that was announced by a replica with other settings, or by one whose clock is wrong, is published for as
// long as our own copies are kept.
func TestSuccessorIsPublishedLongEnough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memory{}
		k := open(t, store, keyring.Options{})
		old := signer(t, k, "").ID
		signer(t, k, verifier.RS256)
		hasty := open(t, store, keyring.Options{MaxAge: time.Minute, Leeway: 4 * time.Second})
		upcoming, err := hasty.RotateNow(t.Context(), "", cli)
		if err != nil {
			t.Fatal(err)
		}
		hasty.Close()
		time.Sleep(6*time.Minute - 2*time.Second)
		if key := signer(t, k, ""); key.ID != old {
			t.Error("signs too early")
		}
		time.Sleep(4 * time.Second)
		if key := signer(t, k, ""); key.ID != upcoming.ID {
			t.Error("does not sign")
		}
	})
}

// A default algorithm that was chosen while others have long been in use waits until caches know its key.
func TestNewAlgorithmWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memory{}
		open(t, store, keyring.Options{}).JWKS(t.Context())
		k := open(t, store, keyring.Options{Algorithms: []string{verifier.EdDSA}})
		if key := signer(t, k, ""); key.Algorithm != verifier.ES256 {
			t.Errorf("signs with %s at once", key.Algorithm)
		}
		if _, err := k.Signer(t.Context(), verifier.EdDSA); !errors.Is(err, keyring.ErrNotReady) {
			t.Errorf("EdDSA: %v", err)
		}
		time.Sleep(20*time.Minute + 2*time.Second)
		if key := signer(t, k, ""); key.Algorithm != verifier.EdDSA {
			t.Errorf("still signs with %s", key.Algorithm)
		}
	})
}

func TestOptions(t *testing.T) {
	for name, options := range map[string]keyring.Options{
		"fail/negative":        {MaxAge: -1},
		"fail/rotate too soon": {RotateEvery: time.Minute},
		"fail/sync too seldom": {SyncEvery: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			if k, err := keyring.Open(t.Context(), &memory{}, masterKey(t), options); err == nil {
				k.Close()
				t.Error("accepted")
			}
		})
	}
}

func TestKEY01_NothingPrivateIsPublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memory{}
		k := open(t, store, keyring.Options{Algorithms: []string{verifier.ES256, verifier.EdDSA, verifier.RS256}})
		allowed := map[string][]string{
			"EC":  {"alg", "crv", "kid", "kty", "use", "x", "y"},
			"OKP": {"alg", "crv", "kid", "kty", "use", "x"},
			"RSA": {"alg", "e", "kid", "kty", "n", "use"},
		}
		look := func(state string, count int) {
			t.Helper()
			doc := k.JWKS(t.Context())
			var set struct{ Keys []map[string]string }
			if err := json.Unmarshal(doc.Body, &set); err != nil || len(set.Keys) != count {
				t.Fatalf("%s: %d keys, %v", state, len(set.Keys), err)
			}
			for _, key := range set.Keys {
				var members []string
				for name := range key {
					members = append(members, name)
				}
				if slices.Sort(members); !slices.Equal(members, allowed[key["kty"]]) || key["use"] != "sig" {
					t.Errorf("%s: members %v", state, members)
				}
			}
			for _, record := range k.List(t.Context()) {
				block, rest := pem.Decode(record.PEM())
				if record.Sealed != nil || block == nil || block.Type != "PUBLIC KEY" || len(rest) != 0 {
					t.Fatalf("%s: list shows more than the public half", state)
				}
				if _, err := x509.ParsePKIXPublicKey(block.Bytes); err != nil {
					t.Errorf("%s: %v", state, err)
				}
			}
		}
		time.Sleep(25 * time.Minute) // EdDSA, too
		look("fresh", 3)
		for _, algorithm := range k.Algorithms() {
			if _, err := k.RotateNow(t.Context(), algorithm, cli); err != nil {
				t.Fatal(err)
			}
		}
		look("upcoming", 6)
		time.Sleep(7 * time.Minute)
		look("retired", 6)
		if err := k.Revoke(t.Context(), k.List(t.Context())[0].ID, cli); err != nil {
			t.Fatal(err)
		}
		look("revoked", 5)
		time.Sleep(20 * time.Minute)
		look("removed", 3)
	})
}

func TestKEY02_WeakOrSymmetricKeysAreRefused(t *testing.T) {
	for _, algorithm := range []string{"HS256", "HS512", "none", "", "RS512", "PS256", "ES384", "Ed25519"} {
		if k, err := keyring.Open(t.Context(), &memory{}, masterKey(t),
			keyring.Options{Algorithms: []string{algorithm}}); !errors.Is(err, keyring.ErrUnknownAlgorithm) {
			if err == nil {
				k.Close()
			}
			t.Errorf("%q: %v", algorithm, err)
		}
	}
}

func TestKEY04_ReplicasStartAndRotateAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memory{}
		replicas := make([]*keyring.Keyring, 4)
		var group sync.WaitGroup
		for i := range replicas {
			group.Go(func() {
				slow := &wire{Store: store, slow: time.Duration(i+1) * 37 * time.Millisecond}
				k, err := keyring.Open(t.Context(), slow, masterKey(t), keyring.Options{})
				if err != nil {
					t.Error(err)
					return
				}
				replicas[i] = k
				t.Cleanup(k.Close)
			})
		}
		group.Wait()
		time.Sleep(5 * time.Second)
		for _, k := range replicas {
			if got := states(k, verifier.ES256) + ", " + states(k, verifier.RS256); got != "active, active" {
				t.Fatalf("after the start: %s", got)
			}
		}
		if len(store.events) != 2 {
			t.Errorf("%d events for two first keys", len(store.events))
		}
		for round := range 50 {
			var made, refused int
			var mu sync.Mutex
			for _, k := range replicas {
				group.Go(func() {
					_, err := k.RotateNow(t.Context(), "", cli)
					mu.Lock()
					defer mu.Unlock()
					switch {
					case err == nil:
						made++
					case errors.Is(err, keyring.ErrUpcoming):
						refused++
					default:
						t.Error(err)
					}
				})
			}
			group.Wait()
			if store.check(t, verifier.ES256); made+refused != 4 || made > 1 || (round == 0) != (made == 1) {
				t.Fatalf("round %d: %d made, %d refused", round, made, refused)
			}
		}
		time.Sleep(6*time.Minute + 5*time.Second)
		store.check(t, verifier.ES256)
		for _, k := range replicas {
			if got := states(k, verifier.ES256); got != "retired active" {
				t.Errorf("after the rotation: %s", got)
			}
		}
	})
}

// A process dies at its n-th write to the store: before the store has done it, before the answer, or before it looks at
// the store again. Another process takes over.
func TestKEY04_DeathAtEveryStep(t *testing.T) {
	rsaKey := seed(t)
	run := func(t *testing.T, n int, death death) (died bool) {
		synctest.Test(t, func(t *testing.T) {
			store := &memory{keys: slices.Clone(rsaKey)}
			w := &wire{Store: store, dieAt: n, death: death}
			signed := map[string]time.Time{} // kid → end of its last token
			sign := func(k *keyring.Keyring) {
				if key, err := k.Signer(t.Context(), ""); err == nil {
					signed[key.ID] = time.Now().Add(15 * time.Minute)
					if !slices.Contains(kids(t, k.JWKS(t.Context())), key.ID) {
						t.Errorf("signs with a key that is not published: %s", key.ID)
					}
				}
			}
			life := func(k *keyring.Keyring) error { // a rotation and an emergency, start to end
				sign(k)
				if _, err := k.RotateNow(t.Context(), "", cli); err != nil && !errors.Is(err, keyring.ErrUpcoming) {
					return err
				}
				time.Sleep(6*time.Minute + time.Second)
				if err := k.Sync(t.Context()); err != nil {
					return err
				}
				sign(k)
				emergency := signer(t, k, "").ID
				if err := k.Revoke(t.Context(), emergency, cli); err != nil {
					return err
				}
				delete(signed, emergency)
				sign(k)
				time.Sleep(20 * time.Minute)
				return k.Sync(t.Context())
			}
			options := keyring.Options{SyncEvery: 15 * time.Second}
			first, err := keyring.Open(t.Context(), w, masterKey(t), options)
			if err == nil {
				err = life(first)
				first.Close()
			}
			w.mu.Lock()
			died = w.dead
			w.mu.Unlock()

			second := open(t, store, options)
			store.check(t, verifier.ES256)
			for kid, end := range signed {
				if time.Now().Before(end) && !slices.Contains(kids(t, second.JWKS(t.Context())), kid) {
					if record := store.id(kid); record == nil || record.State != keyring.StateRevoked {
						t.Errorf("tokens of %s do not verify any more", kid)
					}
				}
			}
			if err := life(second); err != nil {
				t.Errorf("the second process fails: %v", err)
			}
			store.check(t, verifier.ES256)
			if err != nil && !errors.Is(err, errDown) {
				t.Errorf("the first process fails with %v", err)
			}
		})
		return died
	}
	for _, death := range []death{beforeWrite, beforeAnswer, beforeLook} {
		n := 1
		for run(t, n, death) {
			n++
		}
		if n <= 8 { // three keys made and activated, one revoked, one deleted
			t.Errorf("only %d writes were made", n-1)
		}
	}
}

// seed returns an active RS256 key that never rotates, for tests that would else spend their time on prime numbers.
func seed(t testing.TB) []keyring.Record {
	t.Helper()
	store := &memory{}
	k := open(t, store, keyring.Options{Algorithms: []string{verifier.RS256}})
	k.Close()
	for _, record := range store.keys {
		if record.Algorithm == verifier.RS256 {
			record.CreatedAt = time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)
			record.ActivatedAt = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
			return []keyring.Record{record}
		}
	}
	t.Fatal("no key")
	return nil
}

func TestKEY05_Revoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memory{}
		k, other := open(t, store, keyring.Options{}), open(t, store, keyring.Options{})
		stolen := signer(t, k, "").ID
		signer(t, k, verifier.RS256)
		if err := k.Revoke(t.Context(), stolen, cli); err != nil {
			t.Fatal(err)
		}
		store.check(t, verifier.ES256)
		if _, ok := k.Public(stolen); ok || slices.Contains(kids(t, k.JWKS(t.Context())), stolen) {
			t.Error("still published here")
		}
		if key := signer(t, k, ""); key.ID == stolen || !slices.Contains(kids(t, k.JWKS(t.Context())), key.ID) {
			t.Error("no published replacement")
		}
		if end, ok := store.blocked[stolen]; !ok || time.Until(end) < 29*24*time.Hour {
			t.Errorf("announced until %v", end)
		}
		if e := store.events[len(store.events)-1]; e.Kind != audit.KindKeyRevoked || e.Reason != stolen || e.Actor != audit.ActorCLI {
			t.Errorf("event %+v", e)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if _, ok := other.Public(stolen); ok || slices.Contains(kids(t, other.JWKS(t.Context())), stolen) ||
			signer(t, other, "").ID == stolen {
			t.Error("another replica has not heard within a second")
		}
		events := len(store.events)
		if err := k.Revoke(t.Context(), stolen, cli); err != nil || len(store.events) != events {
			t.Errorf("again: %v, %d events", err, len(store.events)-events)
		}
		if err := k.Revoke(t.Context(), "nobody", cli); !errors.Is(err, keyring.ErrNotFound) {
			t.Errorf("unknown: %v", err)
		}

		upcoming, err := k.RotateNow(t.Context(), "", cli)
		if err != nil {
			t.Fatal(err)
		}
		if err := k.Revoke(t.Context(), signer(t, k, "").ID, cli); err != nil {
			t.Fatal(err)
		}
		if signer(t, k, "").ID != upcoming.ID {
			t.Error("the upcoming key, which some caches have, was not preferred as the replacement")
		}
		if upcoming, err = k.RotateNow(t.Context(), "", cli); err != nil {
			t.Fatal(err)
		}
		if err := k.Revoke(t.Context(), upcoming.ID, cli); err != nil || slices.Contains(kids(t, k.JWKS(t.Context())), upcoming.ID) {
			t.Errorf("upcoming key: %v", err)
		}
		time.Sleep(time.Hour)
		if store.check(t, verifier.ES256); signer(t, k, "").ID == upcoming.ID {
			t.Error("a revoked key came back")
		}
	})
}

func TestKEY06_ExchangedRowsAreRefused(t *testing.T) {
	rsaKey := seed(t)
	filled := func(t *testing.T) *memory {
		store := &memory{keys: slices.Clone(rsaKey)}
		k := open(t, store, keyring.Options{})
		if _, err := k.RotateNow(t.Context(), "", cli); err != nil {
			t.Fatal(err)
		}
		k.Close()
		return store
	}
	for name, c := range map[string]struct {
		change func(r *keyring.Record, other keyring.Record)
		want   error
	}{
		"fail/public half": {func(r *keyring.Record, o keyring.Record) { r.Public = o.Public }, keyring.ErrCorrupt},
		"fail/kid":         {func(r *keyring.Record, o keyring.Record) { r.ID += "x" }, keyring.ErrCorrupt},
		"fail/algorithm":   {func(r *keyring.Record, o keyring.Record) { r.Algorithm = verifier.EdDSA }, keyring.ErrCorrupt},
		"fail/both halves": {func(r *keyring.Record, o keyring.Record) { r.Public, r.Sealed = o.Public, o.Sealed },
			keyring.ErrCorrupt},
		"fail/sealed half":          {func(r *keyring.Record, o keyring.Record) { r.Sealed = o.Sealed }, keyring.ErrSealed},
		"fail/no public half":       {func(r *keyring.Record, o keyring.Record) { r.Public = nil }, keyring.ErrCorrupt},
		"fail/garbled public half":  {func(r *keyring.Record, o keyring.Record) { r.Public = r.Public[1:] }, keyring.ErrCorrupt},
		"fail/sealed bit":           {func(r *keyring.Record, o keyring.Record) { r.Sealed[len(r.Sealed)-1] ^= 1 }, keyring.ErrSealed},
		"fail/sealed cut":           {func(r *keyring.Record, o keyring.Record) { r.Sealed = r.Sealed[:9] }, keyring.ErrSealed},
		"fail/sealed empty":         {func(r *keyring.Record, o keyring.Record) { r.Sealed = nil }, keyring.ErrSealed},
		"fail/sealed by the future": {func(r *keyring.Record, o keyring.Record) { r.Sealed[0]++ }, keyring.ErrSealed},
	} {
		t.Run(name, func(t *testing.T) {
			store := filled(t)
			before := len(store.keys)
			other := *store.in(verifier.ES256, keyring.StateUpcoming)
			store.edit(func(r *keyring.Record) {
				if r.Algorithm == verifier.ES256 && r.State == keyring.StateActive {
					c.change(r, other)
				}
			})
			k, err := keyring.Open(t.Context(), store, masterKey(t), keyring.Options{})
			if err == nil {
				k.Close()
			}
			if !errors.Is(err, c.want) || len(store.keys) != before {
				t.Errorf("%v; %d keys became %d", err, before, len(store.keys))
			}
		})
	}
}

func TestKEY07_WrongMasterKeyIsAStartUpError(t *testing.T) {
	store := &memory{keys: seed(t)}
	open(t, store, keyring.Options{}).Close()
	before := len(store.keys)
	wrong, err := seal.ParseMasterKey("//79/Pv6+fj39vX08/Lx8O/u7ezr6uno5+bl5OPi4eA=")
	if err != nil {
		t.Fatal(err)
	}
	_, err = keyring.Open(t.Context(), store, wrong, keyring.Options{})
	if !errors.Is(err, keyring.ErrSealed) || !strings.Contains(err.Error(), "HANDSTAMP_MASTER_KEY") || len(store.keys) != before {
		t.Errorf("%v; %d keys became %d", err, before, len(store.keys))
	}
}

func TestKEY08_JWKSWhileTheStoreIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &wire{Store: &memory{}}
		k := open(t, w, keyring.Options{})
		up := k.JWKS(t.Context())
		w.set(func(w *wire) { w.down = true })
		for _, c := range []struct{ after, maxAge time.Duration }{
			{29 * time.Second, 5 * time.Minute}, {time.Minute, 4*time.Minute + 1*time.Second}, {10 * time.Minute, 0}, {24 * time.Hour, 0},
		} {
			time.Sleep(c.after)
			begin := time.Now()
			down := k.JWKS(t.Context())
			if string(down.Body) != string(up.Body) || down.ETag != up.ETag || time.Since(begin) > 0 {
				t.Errorf("after %v: %s (took %v)", c.after, down.Body, time.Since(begin))
			}
			if diff := down.MaxAge - c.maxAge; diff < -2*time.Second || diff > 2*time.Second {
				t.Errorf("after %v: max-age %v", c.after, down.MaxAge)
			}
		}
		if _, ok := k.Public(kids(t, up)[0]); !ok {
			t.Error("keys verify nothing any more")
		}
		if _, err := k.Signer(t.Context(), ""); !errors.Is(err, keyring.ErrNotReady) {
			t.Errorf("signs with a key that may long have been replaced: %v", err)
		}
		if age := time.Since(k.SyncedAt()); age < 24*time.Hour {
			t.Errorf("claims to be %v old", age)
		}
		w.set(func(w *wire) { w.down = false })
		time.Sleep(2 * time.Second)
		if signer(t, k, ""); k.JWKS(t.Context()).MaxAge != 5*time.Minute {
			t.Error("does not recover")
		}
	})
}

// While an algorithm has no key at all, the one that it gets will sign at once; so nobody may keep a copy without it.
func TestIncompleteJWKSIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &wire{Store: &memory{}, dieAt: 3} // the first RS256 key
		k := open(t, w, keyring.Options{})
		begin := time.Now()
		doc := k.JWKS(t.Context())
		if len(kids(t, doc)) != 1 || doc.MaxAge != 0 || time.Since(begin) != 10*time.Second {
			t.Errorf("%s for %v after %v", doc.Body, doc.MaxAge, time.Since(begin))
		}
		if _, err := k.Signer(t.Context(), verifier.RS256); !errors.Is(err, keyring.ErrNotReady) {
			t.Error(err)
		}
		signer(t, k, verifier.ES256)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin = time.Now()
		if k.JWKS(ctx); time.Since(begin) != time.Second {
			t.Errorf("a caller who leaves is kept for %v", time.Since(begin))
		}
		w.set(func(w *wire) { w.down = false })
		signer(t, k, verifier.RS256)
		if doc := k.JWKS(t.Context()); len(kids(t, doc)) != 2 || doc.MaxAge != 5*time.Minute {
			t.Errorf("%s for %v", doc.Body, doc.MaxAge)
		}
	})
}

// A process that was stopped looks at the store before it answers from what it knew.
func TestSuspendedProcessLooksFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memory{}
		w := &wire{Store: store}
		k, other := open(t, w, keyring.Options{}), open(t, store, keyring.Options{})
		old := signer(t, k, "").ID
		frozen := make(chan struct{})
		w.set(func(w *wire) { w.frozen = frozen })
		time.Sleep(time.Minute)
		if err := other.Revoke(t.Context(), old, cli); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		w.set(func(w *wire) { w.frozen = nil })
		close(frozen)
		if _, ok := k.Public(old); ok || slices.Contains(kids(t, k.JWKS(t.Context())), old) {
			t.Error("answers from before the revocation")
		}
	})
}

func TestWake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memory{}
		k, other := open(t, store, keyring.Options{SyncEvery: 10 * time.Second}), open(t, store, keyring.Options{})
		k.JWKS(t.Context())
		time.Sleep(time.Second)
		upcoming, err := other.RotateNow(t.Context(), "", cli)
		if err != nil {
			t.Fatal(err)
		}
		k.Wake()
		k.Wake()
		synctest.Wait()
		if _, ok := k.Public(upcoming.ID); !ok {
			t.Error("slept on")
		}
	})
}

// A user logs out with the ID token of the login, weeks after the key that signed it has left the JWKS.
func TestHint(t *testing.T) {
	const session = 6 * time.Hour
	synctest.Test(t, func(t *testing.T) {
		store := &memory{}
		k := open(t, store, keyring.Options{RotateEvery: 365 * 24 * time.Hour, HintLifetime: session, SyncEvery: 15 * time.Second})
		key, err := k.Signer(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.RotateNow(t.Context(), "", cli); err != nil {
			t.Fatal(err)
		}
		want := func(when string, published, known bool) {
			t.Helper()
			_, verifies := k.Public(key.ID)
			listed := slices.Contains(kids(t, k.JWKS(t.Context())), key.ID)
			_, hint := k.Hint(key.ID)
			if verifies != published || listed != published || hint != known {
				t.Errorf("%s: verifies tokens %v, in the JWKS %v, known for hints %v", when, verifies, listed, hint)
			}
		}
		want("before the rotation", true, true)
		time.Sleep(15 * time.Minute)
		want("retired", true, true)
		time.Sleep(15 * time.Minute) // the last token and both leeways are over
		want("not published any more", false, true)
		time.Sleep(session - 15*time.Minute)
		want("as long as a session lasts", false, true)
		time.Sleep(15 * time.Minute)
		want("longer", false, false)
		if n := len(store.keys); n != 2 { // of ES256 and of RS256
			t.Errorf("%d rows are left", n)
		}

		if _, ok := k.Hint("unknown"); ok {
			t.Error("an unknown kid is known")
		}
	})
	t.Run("fail/revoked", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k := open(t, &memory{}, keyring.Options{HintLifetime: session})
			key, err := k.Signer(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			if err := k.Revoke(t.Context(), key.ID, cli); err != nil {
				t.Fatal(err)
			}
			if _, ok := k.Hint(key.ID); ok {
				t.Error("a revoked key is believed for hints")
			}
		})
	})
}
