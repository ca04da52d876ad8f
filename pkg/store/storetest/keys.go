package storetest

import (
	"crypto/rand"
	"errors"
	"sync/atomic"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/keyring"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// signingKey returns an upcoming key nobody has stored.
func (s *suite) signingKey(algorithm string, at time.Time) keyring.Record {
	public := make([]byte, 91)
	rand.Read(public)
	at = at.UTC().Truncate(time.Millisecond)
	return keyring.Record{
		ID:        rand.Text(),
		Algorithm: algorithm,
		State:     keyring.StateUpcoming,
		Sealed:    append([]byte{0, 0xff}, rand.Text()...),
		Public:    public,
		CreatedAt: at, ActivatesAt: at.Add(time.Hour),
	}
}

func (s *suite) insertion(key keyring.Record, active string) keyring.Insertion {
	return keyring.Insertion{Key: key, Active: active, Event: s.event(audit.KindKeyRotated, "usr_"+key.ID)}
}

func (s *suite) insert(key keyring.Record, active string) {
	s.Helper()
	s.must(s.first.InsertSigningKey(s.Context(), s.insertion(key, active)))
}

func (s *suite) activation(key keyring.Record, at time.Time) keyring.Activation {
	at = at.UTC().Truncate(time.Millisecond)
	return keyring.Activation{ID: key.ID, At: at, RemoveAt: at.Add(2 * time.Hour)}
}

func (s *suite) revocation(id string, at time.Time) keyring.Revocation {
	at = at.UTC().Truncate(time.Second)
	return keyring.Revocation{ID: id, At: at, RemoveAt: at.Add(time.Hour), Event: s.event(audit.KindKeyRevoked, "usr_"+id)}
}

// keys returns the keys of one algorithm.
func (s *suite) keys(algorithm string) (keys []keyring.Record) {
	s.Helper()
	all, err := s.second.SigningKeys(s.Context())
	s.must(err)
	for _, k := range all {
		if k.Algorithm == algorithm {
			keys = append(keys, k)
		}
	}
	return keys
}

func testKeys(s *suite) {
	at := now()

	s.run("ok/the life of two keys", func(s *suite) {
		first := s.signingKey("life", at)
		insertion := s.insertion(first, "")
		s.must(s.first.InsertSigningKey(s.Context(), insertion))
		s.wantEvent(insertion.Event)
		s.same("inserted", s.keys("life"), []keyring.Record{first})

		a := s.activation(first, at.Add(time.Hour))
		s.must(s.first.ActivateSigningKey(s.Context(), a))
		first.State, first.ActivatedAt = keyring.StateActive, a.At
		s.same("activated", s.keys("life"), []keyring.Record{first})

		second := s.signingKey("life", at.Add(time.Millisecond))
		s.insert(second, first.ID)
		a = s.activation(second, at.Add(3*time.Hour))
		s.must(s.second.ActivateSigningKey(s.Context(), a))
		first.State, first.RetiredAt, first.RemoveAt, first.Sealed = keyring.StateRetired, a.At, a.RemoveAt, nil
		second.State, second.ActivatedAt = keyring.StateActive, a.At
		s.same("succeeded", s.keys("life"), []keyring.Record{first, second})

		s.must(s.first.DeleteSigningKeys(s.Context(), first.RemoveAt.Add(-time.Millisecond)))
		s.same("not yet removed", s.keys("life"), []keyring.Record{first, second})
		s.must(s.first.DeleteSigningKeys(s.Context(), first.RemoveAt))
		s.same("removed", s.keys("life"), []keyring.Record{second})
		s.must(s.first.DeleteSigningKeys(s.Context(), at.Add(1000*time.Hour)))
		s.same("an active key stays", s.keys("life"), []keyring.Record{second})
	})

	s.run("ok/ordered by creation, then ID", func(s *suite) {
		var want []string
		for i, algorithm := range []string{"order-a", "order-b", "order-c"} {
			k := s.signingKey(algorithm, at.Add(-time.Hour).Add(time.Duration(i/2)*time.Second))
			k.ID = []string{"b", "a", "0"}[i] // a is as old as b
			s.insert(k, "")
			want = []string{"a", "b", "0"}
		}
		all, err := s.second.SigningKeys(s.Context())
		s.must(err)
		var got []string
		for _, k := range all[:3] {
			got = append(got, k.ID)
		}
		s.same("order", got, want)
	})

	s.run("fail/insert", func(s *suite) {
		active := s.signingKey("insert", at)
		s.insert(active, "")
		s.must(s.first.ActivateSigningKey(s.Context(), s.activation(active, at)))
		upcoming := s.signingKey("insert", at)
		same := upcoming
		same.ID = active.ID
		lonely := s.signingKey("insert-lonely", at)
		elsewhere := lonely
		elsewhere.ID = active.ID
		for name, i := range map[string]keyring.Insertion{
			"another is active":        s.insertion(upcoming, "another"),
			"one is active":            s.insertion(upcoming, ""),
			"none is active":           s.insertion(lonely, "another"),
			"the ID exists":            s.insertion(same, active.ID),
			"the ID exists, elsewhere": s.insertion(elsewhere, ""),
		} {
			i.Event.UserID = "usr_refused"
			if err := s.first.InsertSigningKey(s.Context(), i); !errors.Is(err, keyring.ErrConflict) {
				s.Errorf("%s: %v, want ErrConflict", name, err)
			}
		}
		s.same("events", s.countEvents("usr_refused", audit.KindKeyRotated), 0)
		s.insert(upcoming, active.ID)
		another := s.insertion(s.signingKey("insert", at), active.ID)
		if err := s.first.InsertSigningKey(s.Context(), another); !errors.Is(err, keyring.ErrConflict) {
			s.Errorf("one is upcoming: %v, want ErrConflict", err)
		}
		s.same("keys", len(s.keys("insert")), 2)
		s.same("keys", len(s.keys("insert-lonely")), 0)
	})

	s.run("fail/activate", func(s *suite) {
		k := s.signingKey("activate", at)
		if err := s.first.ActivateSigningKey(s.Context(), s.activation(k, at)); !errors.Is(err, keyring.ErrConflict) {
			s.Errorf("unknown: %v, want ErrConflict", err)
		}
		s.insert(k, "")
		s.must(s.first.ActivateSigningKey(s.Context(), s.activation(k, at)))
		before := s.keys("activate")
		if err := s.first.ActivateSigningKey(s.Context(), s.activation(k, at.Add(time.Hour))); !errors.Is(err, keyring.ErrConflict) {
			s.Errorf("active already: %v, want ErrConflict", err)
		}
		s.same("keys", s.keys("activate"), before)
	})

	s.run("ok/revoke a retired and an upcoming key", func(s *suite) {
		old, active, upcoming := s.signingKey("revoke", at), s.signingKey("revoke", at.Add(time.Second)), s.signingKey("revoke",
			at.Add(2*time.Second))
		s.insert(old, "")
		s.must(s.first.ActivateSigningKey(s.Context(), s.activation(old, at)))
		s.insert(active, old.ID)
		s.must(s.first.ActivateSigningKey(s.Context(), s.activation(active, at)))
		s.insert(upcoming, active.ID)
		before := s.keys("revoke")

		for i, k := range []keyring.Record{old, upcoming} {
			r := s.revocation(k.ID, at.Add(time.Hour))
			s.must(s.first.RevokeSigningKey(s.Context(), r))
			s.wantEvent(r.Event)
			want := before[i*2]
			want.State, want.RevokedAt, want.RemoveAt, want.Sealed = keyring.StateRevoked, r.At, r.RemoveAt, nil
			s.same("revoked", s.keys("revoke")[i*2], want)
			entry, ok := s.entry(verifier.KeyOf(verifier.BlockKID, k.ID))
			if !ok {
				s.Fatal("the kid is not blocked")
			}
			s.same("entry", entry, blocklist.Entry{Key: entry.Key, NotBefore: r.RemoveAt, DropAfter: r.RemoveAt})

			s.must(s.second.RevokeSigningKey(s.Context(), s.revocation(k.ID, at.Add(5*time.Hour))))
			s.same("revoked again", s.keys("revoke")[i*2], want)
			s.same("events", s.countEvents(r.Event.UserID, audit.KindKeyRevoked), 1)
		}
		s.same("the active key", s.keys("revoke")[1], before[1])

		r := s.revocation(active.ID, at)
		if err := s.first.RevokeSigningKey(s.Context(), r); !errors.Is(err, keyring.ErrConflict) {
			s.Errorf("revoke the active key: %v, want ErrConflict", err)
		}
		if _, ok := s.entry(verifier.KeyOf(verifier.BlockKID, active.ID)); ok {
			s.Error("the active key is blocked")
		}
		r = s.revocation("unknown", at)
		if err := s.first.RevokeSigningKey(s.Context(), r); !errors.Is(err, keyring.ErrNotFound) {
			s.Errorf("revoke an unknown key: %v, want ErrNotFound", err)
		}
		s.insert(s.signingKey("revoke", at), active.ID) // a revoked upcoming key makes room
		s.must(s.first.DeleteSigningKeys(s.Context(), at.Add(3*time.Hour)))
		s.same("left", len(s.keys("revoke")), 2)
	})

	s.run("ok/KEY-04/of all who add one upcoming key, one does", func(s *suite) {
		var won atomic.Int64
		s.parallel(20, func(_ int, st store.Store) error {
			err := st.InsertSigningKey(s.Context(), s.insertion(s.signingKey("add", at), ""))
			if err == nil {
				won.Add(1)
			}
			if errors.Is(err, keyring.ErrConflict) {
				return nil
			}
			return err
		})
		s.same("added", won.Load(), int64(1))
		s.same("keys", len(s.keys("add")), 1)
	})

	s.run("ok/KEY-04/of all who activate a key, one does", func(s *suite) {
		previous := s.signingKey("race", at)
		s.insert(previous, "")
		s.must(s.first.ActivateSigningKey(s.Context(), s.activation(previous, at)))
		for i := range 10 {
			next := s.signingKey("race", at.Add(time.Duration(i+1)*time.Second))
			s.insert(next, previous.ID)
			var won atomic.Int64
			s.parallel(10, func(_ int, st store.Store) error {
				err := st.ActivateSigningKey(s.Context(), s.activation(next, at.Add(time.Duration(i)*time.Hour)))
				if err == nil {
					won.Add(1)
				}
				if errors.Is(err, keyring.ErrConflict) {
					return nil
				}
				return err
			})
			s.same("activated", won.Load(), int64(1))
			active := 0
			for _, k := range s.keys("race") {
				if k.State == keyring.StateActive {
					active++
					s.same("active", k.ID, next.ID)
				}
			}
			s.same("active keys", active, 1)
			previous = next
		}
	})
}
