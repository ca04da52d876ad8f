package user_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/limit"
	"github.com/handstamp/handstamp/pkg/password"
	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/store/storetest"
	"github.com/handstamp/handstamp/pkg/user"
)

// fill takes every place of the bench's hasher.
func (b *bench) fill() (empty func()) {
	b.Helper()
	var places []*password.Place
	for range 2 {
		p, err := b.hasher.Enter(b.Context(), password.ForLogin)
		b.must(err)
		places = append(places, p)
	}
	return func() {
		for _, p := range places {
			p.Leave()
		}
	}
}

// TestBusyCostsNothing refuses attempts for which there is no room. They reach no database, use up no attempts, and are held
// back.
func TestBusyCostsNothing(t *testing.T) {
	const ann = "ann@example.test"
	small := func(b *bench) {
		h, err := password.NewHasher(password.Config{Params: strong, Concurrency: 1, Queue: 1})
		b.must(err)
		b.hasher = h
	}
	busy := func(b *bench, want error) {
		b.Helper()
		watched := storetest.Fail(b.store, 0, storetest.Before)
		held := b.held
		began := time.Now()
		_, err := b.on(watched).Authenticate(b.Context(), user.Credentials{Email: ann, Password: right}, origin)
		var refused bool
		if want == nil {
			_, refused = errors.AsType[*password.BusyError](err)
		} else {
			refused = errors.Is(err, want)
		}
		if !refused || watched.Calls() != 0 || b.held != held+1 || time.Since(began) > 3*time.Second {
			b.Errorf("%v after %d calls of the store and %s, held %d times", err, watched.Calls(), time.Since(began), b.held-held)
		}
	}
	over(t, "ok/the hasher has no room", func(b *bench) {
		b.has(ann, b.hash(strong), nil)
		small(b)
		empty := b.fill()
		for range 2 * max(throttle.Burst, failures.Burst) {
			busy(b, nil)
		}
		empty()
		b.login(ann, right, nil)
		if b.failed != 0 || len(b.refused()) != 0 {
			b.Errorf("%d failures, %d events", b.failed, len(b.refused()))
		}
	})
	over(t, "ok/the address has enough under way", func(b *bench) {
		b.has(ann, b.hash(strong), nil)
		b.gate.InFlight = limit.NewInFlight(0, 1)
		b.gate.InFlight.Enter(origin.IP)
		busy(b, nil)
		b.gate.InFlight.Leave(origin.IP)
		b.login(ann, right, nil)
		b.login(ann, wrong, user.ErrInvalidCredentials) // it has left after each
	})
	over(t, "fail/an address that comes back for refusals is refused while there is room", func(b *bench) {
		b.has(ann, b.hash(strong), nil)
		b.gate.Refusals = limit.NewAddresses(limit.Rate{Burst: 3, Every: time.Minute})
		small(b)
		empty := b.fill()
		for range 3 {
			busy(b, nil)
		}
		empty()
		busy(b, user.ErrTooManyAttempts)
		if _, err := b.on(b.store).Authenticate(b.Context(), user.Credentials{Email: ann, Password: right},
			audit.Origin{IP: "198.51.100.1"}); err != nil {
			b.Errorf("another address: %v", err)
		}
		time.Sleep(time.Minute)
		b.login(ann, right, nil)
	})
	over(t, "ok/what is answered is not held", func(b *bench) {
		b.has(ann, b.hash(strong), nil)
		b.login(ann, right, nil)
		b.login(ann, wrong, user.ErrInvalidCredentials)
		if b.held != 0 {
			b.Errorf("%d were held", b.held)
		}
	})
}

// leaver is a store that knows when an attempt is counted.
type leaver struct {
	store.Store
	counted func()
}

func (s leaver) BeginLogin(ctx context.Context, t user.Try, limit user.Throttle) (user.Attempt, error) {
	a, err := s.Store.BeginLogin(ctx, t, limit)
	s.counted()
	return a, err
}

// A guess that is counted is evaluated: a caller who hangs up has neither a free guess nor a lost one.
func TestCountedIsEvaluated(t *testing.T) {
	over(t, "ok", func(b *bench) {
		ctx, cancel := context.WithCancel(b.Context())
		_, err := b.on(leaver{b.store, cancel}).Authenticate(ctx, user.Credentials{Email: "ann@example.test", Password: wrong}, origin)
		if err == nil || b.hasher.Stats().Evaluations != 1 {
			b.Errorf("%v, %d evaluations", err, b.hasher.Stats().Evaluations)
		}
	})
}

// TestFailuresDoNotOverrun lets wrong passwords come from one address all at once.
func TestFailuresDoNotOverrun(t *testing.T) {
	over(t, "ok/PW-04", func(b *bench) {
		h, err := password.NewHasher(password.Config{Params: weak, Concurrency: 8, Queue: 200})
		b.must(err)
		b.hasher, b.gate.Failed = h, nil // which counts without a lock
		a := b.on(b.store)
		var group sync.WaitGroup
		for i := range 100 {
			group.Go(func() {
				_, err := a.Authenticate(b.Context(), user.Credentials{Email: fmt.Sprintf("u%d@example.test", i), Password: wrong}, origin)
				if !errors.Is(err, user.ErrInvalidCredentials) && !errors.Is(err, user.ErrTooManyAttempts) {
					b.Error(err)
				}
			})
		}
		group.Wait()
		if got := h.Stats().Evaluations; got != uint64(failures.Burst) {
			b.Errorf("%d passwords were checked, want %d", got, failures.Burst)
		}
	})
}

// TestSignupLimits makes users from one address until it has to wait.
func TestSignupLimits(t *testing.T) {
	over(t, "fail/many sign-ups from one address", func(b *bench) {
		b.gate.Signups = limit.NewAddresses(limit.Rate{Burst: 3, Every: time.Minute})
		s := &user.Signup{Store: b.store, Hasher: b.hasher, Gate: b.gate}
		up := func(i int, ip string) error {
			_, err := s.Create(b.Context(), fmt.Sprintf("u%d@example.test", i), "", right, audit.Origin{IP: ip})
			return err
		}
		for i := range 3 {
			b.must(up(i, origin.IP))
		}
		before := b.hasher.Stats().Evaluations
		refusal, ok := errors.AsType[*user.AttemptError](up(4, origin.IP))
		if !ok || refusal.RetryAfter != time.Minute || b.held != 1 || b.hasher.Stats().Evaluations != before {
			b.Errorf("%+v, held %d", refusal, b.held)
		}
		b.must(up(5, "198.51.100.1"))
		time.Sleep(time.Minute)
		b.must(up(6, origin.IP))
		if b.gate.Failures.Wait(origin.IP) != 0 {
			b.Error("sign-ups count as failures")
		}
	})
}

func TestDevices(t *testing.T) {
	key := func(text string) seal.MasterKey {
		m, err := seal.ParseMasterKey(text)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	devices := user.NewDevices(key("YSBtYXN0ZXIga2V5IHRoYXQgb25seSB0ZXN0cyB1c2U="))
	const ann, bob = "Ann@Example.test", "bob@example.test"
	now := time.Now()
	first := devices.Remember("", ann, "hash 1", now)
	both := devices.Remember(first, bob, "hash 2", now)
	known := devices.Find(first, "ann@example.test", now)
	for name, test := range map[string]struct {
		remembered, email string
		known             bool
	}{
		"ok/after a login":              {first, ann, true},
		"ok/in another case":            {first, "aNN@example.TEST", true},
		"ok/after another user's login": {both, ann, true},
		"ok/the other user":             {both, bob, true},
		"fail/who never logged in here": {first, bob, false},
		"fail/nothing remembered":       {"", ann, false},
		"fail/not ours":                 {"bm90IG91cnM", ann, false},
		"fail/changed":                  {first[:len(first)-2] + "AA", ann, false},
		"fail/of another service": {
			user.NewDevices(key("YW5vdGhlciBtYXN0ZXIga2V5IGZvciB0aGUgdGVzdHM=")).Remember("", ann, "hash 1", now), ann, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := devices.Find(test.remembered, test.email, now); (got != user.Device{}) != test.known {
				t.Errorf("device %v", got)
			}
		})
	}
	if again := devices.Find(devices.Remember(both, ann, "hash 3", now), ann, now); again.ID != known.ID ||
		again.Credential != user.CredentialOf("hash 3") || known.Credential != user.CredentialOf("hash 1") {
		t.Errorf("a login in the same browser: %v, was %v", again, known)
	}
	// A browser remembers the last few.
	if devices.Find(both, ann, now.Add(user.DeviceLifetime-time.Second)) == (user.Device{}) ||
		devices.Find(both, ann, now.Add(user.DeviceLifetime+time.Second)) != (user.Device{}) {
		t.Error("a device is known for another time than it should")
	}
	last := first
	for i := range 10 {
		last = devices.Remember(last, fmt.Sprintf("u%d@example.test", i), "hash", now)
	}
	if len(last) > 1000 || devices.Find(last, ann, now) != (user.Device{}) ||
		devices.Find(last, "u9@example.test", now) == (user.Device{}) {
		t.Errorf("%d bytes are remembered", len(last))
	}
}
