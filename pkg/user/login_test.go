package user_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/limit"
	"github.com/handstamp/handstamp/pkg/password"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/store/sqlite"
	"github.com/handstamp/handstamp/pkg/store/sqlite/sqlitetest"
	"github.com/handstamp/handstamp/pkg/store/storetest"
	"github.com/handstamp/handstamp/pkg/user"
)

const (
	right = "correct horse battery"
	wrong = "wrong horse battery"
	// imported is a bcrypt hash of right, brought along from elsewhere.
	imported = "$2a$04$eZToocG5.yywxzjLAJ8eee8npdGGPufFaA2UUZc2oHZKuNUsZDjGC"
)

// weak and strong are costs of hashes: of those that are stored, and of new ones.
var (
	weak   = password.Params{Memory: 8, Time: 1, Threads: 1}
	strong = password.Params{Memory: 16, Time: 1, Threads: 1}
)

// throttle is the limit of every address, failures that of every network.
var (
	throttle = user.Throttle{Burst: 3, Every: time.Minute}
	failures = limit.Rate{Burst: 5, Every: time.Second}
)

// origin is where attempts come from.
var origin = audit.Origin{IP: "192.0.2.1", UserAgent: "test", RequestID: "r1"}

// bench is a database without users, and what logs users in over it.
type bench struct {
	*testing.T
	store  store.Store
	hasher *password.Hasher
	gate   *user.Gate
	failed int // wrong passwords that were counted
	mu     sync.Mutex
	held   int // refusals that were held back; guarded by mu
}

// Hold implements the pacer of the gate.
func (b *bench) Hold(context.Context) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held++
}

// over runs a test in a bubble, over a database of its own.
func over(t *testing.T, name string, test func(b *bench)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		url := sqlitetest.URL(t)
		synctest.Test(t, func(t *testing.T) {
			b := &bench{T: t, hasher: hasher(t, strong)}
			b.gate = &user.Gate{Failures: limit.NewAddresses(failures), Failed: func() { b.failed++ }, Pacer: b}
			db, err := sqlite.Open(t.Context(), url)
			b.must(err)
			defer func() { b.must(db.Close()) }()
			b.store = db
			test(b)
		})
	})
}

func (b *bench) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func hasher(t *testing.T, cost password.Params) *password.Hasher {
	t.Helper()
	h, err := password.NewHasher(password.Config{Params: cost, Concurrency: 1})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// hash makes a hash of the right password.
func (b *bench) hash(cost password.Params) string {
	b.Helper()
	hash, err := hasher(b.T, cost).Hash(b.Context(), right)
	b.must(err)
	return hash
}

// has makes a user with an address and a stored hash. If change is given, it changes what is stored.
func (b *bench) has(email, hash string, change func(*user.User)) user.User {
	b.Helper()
	now := time.Now()
	u := user.User{ID: user.NewID(now), Email: email, PasswordHash: hash, CreatedAt: now, UpdatedAt: now}
	if change != nil {
		change(&u)
	}
	b.must(b.store.CreateUser(b.Context(), u, audit.UserCreated(now, u.ID, audit.By{Actor: audit.ActorCLI})))
	return u
}

// on returns an authenticator over a store.
func (b *bench) on(s user.LoginStore) *user.Authenticator {
	return user.NewAuthenticator(s, b.hasher, throttle, b.gate, nil)
}

// login tries a password once, and fails the test unless the error is as wanted and comes without a user.
func (b *bench) login(email, plain string, want error) user.Authenticated {
	b.Helper()
	u, err := b.on(b.store).Authenticate(b.Context(), user.Credentials{Email: email, Password: plain}, origin)
	if !errors.Is(err, want) || (err == nil) != (want == nil) || (err == nil) != (u.ID != "") {
		b.Errorf("%q got %q, %v; want error %v", email, u.ID, err, want)
	}
	return u
}

// refused are the failed logins in the audit log, the newest first.
func (b *bench) refused() []audit.Event {
	b.Helper()
	events, err := b.store.Events(b.Context(), "", audit.Cursor{}, 100)
	b.must(err)
	var failed []audit.Event
	for _, e := range events {
		if e.Kind == audit.KindLoginFailed {
			failed = append(failed, e)
		}
	}
	return failed
}

func disabled(u *user.User) { u.DisabledAt = time.Now() }

func TestAuthenticate(t *testing.T) {
	const ann, nobody = "Änne@example.test", "bob@example.test"
	type state struct {
		hash   string // "strong" stands for a hash of the right password
		change func(*user.User)
	}
	withoutEmail := func(u *user.User) { u.Email = "" }
	long := strings.Repeat("a", password.MaxLength+1)
	normal := state{hash: "strong"}
	for name, test := range map[string]struct {
		user   state
		email  string
		plain  string
		want   error  // unless there is a reason
		reason string // of the event; the error is ErrInvalidCredentials
	}{
		"ok/right password":       {user: normal, email: ann, plain: right},
		"ok/another case":         {user: normal, email: "äNNE@EXAMPLE.test", plain: right},
		"ok/address as NFD":       {user: normal, email: "A\u0308nne@example.test", plain: right},
		"fail/wrong password":     {user: normal, email: ann, plain: wrong, reason: "wrong_password"},
		"fail/empty password":     {user: normal, email: ann, reason: "wrong_password"},
		"fail/password and space": {user: normal, email: ann, plain: right + " ", reason: "wrong_password"},
		"fail/unknown address":    {user: normal, email: nobody, plain: right, reason: "unknown_user"},
		"fail/no address":         {user: normal, plain: right, reason: "unknown_user"},
		"fail/no address, and the user has none": {
			user: state{hash: "strong", change: withoutEmail}, plain: right, reason: "unknown_user",
		},
		"fail/disabled user": {user: state{hash: "strong", change: disabled}, email: ann, plain: right, reason: "user_disabled"},
		// Only the holder of the password is told apart, and only in the log.
		"fail/disabled user, wrong password": {
			user: state{hash: "strong", change: disabled}, email: ann, plain: wrong, reason: "wrong_password",
		},
		"fail/user without a password":         {email: ann, plain: right, reason: "wrong_password"},
		"fail/user without a password, empty":  {email: ann, reason: "wrong_password"},
		"fail/stored hash of an unknown kind":  {user: state{hash: "{SSHA}x"}, email: ann, plain: right, reason: "wrong_password"},
		"fail/stored in clear":                 {user: state{hash: right}, email: ann, plain: right, reason: "wrong_password"},
		"fail/invalid UTF-8":                   {user: normal, email: ann, plain: "a\xff", want: password.ErrMalformed},
		"fail/invalid UTF-8, unknown address":  {user: normal, email: nobody, plain: "a\xff", want: password.ErrMalformed},
		"fail/257 characters":                  {user: normal, email: ann, plain: long, want: password.ErrTooLong},
		"fail/257 characters, unknown address": {user: normal, email: nobody, plain: long, want: password.ErrTooLong},
	} {
		over(t, name, func(b *bench) {
			if test.user.hash == "strong" {
				test.user.hash = b.hash(strong)
			}
			if test.reason != "" {
				test.want = user.ErrInvalidCredentials
			}
			known := b.has(ann, test.user.hash, test.user.change)
			u := b.login(test.email, test.plain, test.want)
			if test.want == nil && (u.ID != known.ID || u.PasswordHash != known.PasswordHash) {
				b.Errorf("got %q, want %q", u.ID, known.ID)
			}

			// Every attempt that is checked costs one hash.
			evaluations := uint64(1)
			if test.reason == "" && test.want != nil {
				evaluations = 0 // no hash can be of such a password
			}
			if n := b.hasher.Stats().Evaluations; n != evaluations {
				b.Errorf("%d hashes were evaluated, want %d", n, evaluations)
			}

			events := b.refused()
			if test.reason == "" {
				if len(events) != 0 || b.failed != 0 {
					b.Errorf("%d failures were counted and recorded: %+v", b.failed, events)
				}
				return
			}
			want := audit.LoginFailed(time.Now(), known.ID, test.reason, origin)
			if test.reason == "unknown_user" {
				want.UserID = ""
			}
			if len(events) != 1 || b.failed != 1 {
				b.Fatalf("%d failures were counted, and recorded: %+v", b.failed, events)
			}
			got := events[0]
			got.ID, got.At, want.At = 0, time.Time{}, time.Time{}
			if got != want {
				b.Errorf("recorded %+v, want %+v", got, want)
			}
		})
	}
}

// TestAuthenticateThrottle uses up the attempts of an address. What it answers must not tell whether somebody has the address.
func TestAuthenticateThrottle(t *testing.T) {
	const ann, nobody = "ann@example.test", "nobody@example.test"
	// spend uses up an address's attempts.
	spend := func(b *bench, email, plain string, want error) {
		b.Helper()
		for range throttle.Burst {
			b.login(email, plain, want)
		}
	}
	// wait is how long an attempt with the right password is told to wait.
	wait := func(b *bench, email string) time.Duration {
		b.Helper()
		before, counted := b.hasher.Stats().Evaluations, b.failed
		u, err := b.on(b.store).Authenticate(b.Context(), user.Credentials{Email: email, Password: right}, origin)
		refusal, ok := errors.AsType[*user.AttemptError](err)
		if !ok || !errors.Is(err, user.ErrTooManyAttempts) || err.Error() != user.ErrTooManyAttempts.Error() || u.ID != "" {
			b.Fatalf("%q, %v; want an AttemptError", u.ID, err)
		}
		if errors.Is(err, user.ErrInvalidCredentials) {
			b.Error("the refusal says that the password is wrong, and nobody has looked at it")
		}
		if b.hasher.Stats().Evaluations != before {
			b.Error("a refused attempt cost a hash")
		}
		if b.failed != counted {
			b.Error("a refused attempt counts against the network, and its password may have been right")
		}
		return refusal.RetryAfter
	}
	for name, email := range map[string]string{"fail/somebody's": ann, "fail/nobody's": nobody} {
		over(t, name, func(b *bench) {
			b.has(ann, b.hash(strong), nil)
			spend(b, email, wrong, user.ErrInvalidCredentials)
			if got := wait(b, email); got != throttle.Every {
				b.Errorf("wait %s, want %s", got, throttle.Every)
			}
			if n := len(b.refused()); n != throttle.Burst {
				b.Errorf("%d events, want one for each of %d attempts that were checked", n, throttle.Burst)
			}
		})
	}
	over(t, "fail/another spelling of the address", func(b *bench) {
		spend(b, ann, wrong, user.ErrInvalidCredentials)
		wait(b, "ANN@Example.test")
	})
	over(t, "fail/right passwords count until their login is done", func(b *bench) {
		b.has(ann, b.hash(strong), nil)
		spend(b, ann, right, nil)
		wait(b, ann)
	})
	over(t, "ok/what cannot be a password is not counted", func(b *bench) {
		for range 2 * throttle.Burst {
			b.login(ann, "a\xff", password.ErrMalformed)
		}
		b.has(ann, b.hash(strong), nil)
		b.login(ann, right, nil)
	})
	over(t, "ok/another address is free", func(b *bench) {
		b.has(ann, b.hash(strong), nil)
		spend(b, nobody, wrong, user.ErrInvalidCredentials)
		b.login(ann, right, nil)
	})
	over(t, "ok/one more when the wait is over, however often it was tried meanwhile", func(b *bench) {
		b.has(ann, b.hash(strong), nil)
		spend(b, ann, wrong, user.ErrInvalidCredentials)
		wait(b, ann)
		time.Sleep(throttle.Every - time.Second) // of the bubble's clock
		if got := wait(b, ann); got != time.Second {
			b.Errorf("wait %s, want %s", got, time.Second)
		}
		time.Sleep(time.Second)
		b.login(ann, right, nil)
		wait(b, ann)
	})
}

// TestAuthenticateFailures lets wrong passwords come from one network until it has to wait.
func TestAuthenticateFailures(t *testing.T) {
	const ann = "ann@example.test"
	// spend lets a network fail at as many addresses as it may.
	spend := func(b *bench) {
		b.Helper()
		for n := range failures.Burst {
			b.login(string(rune('a'+n))+"@example.test", wrong, user.ErrInvalidCredentials)
		}
	}
	over(t, "fail/right password from a network that has failed too often", func(b *bench) {
		b.has(ann, b.hash(strong), nil)
		spend(b)
		watched := storetest.Fail(b.store, 0, storetest.Before)
		before := b.hasher.Stats().Evaluations
		u, err := b.on(watched).Authenticate(b.Context(), user.Credentials{Email: ann, Password: right}, origin)
		refusal, ok := errors.AsType[*user.AttemptError](err)
		if !ok || refusal.RetryAfter != failures.Every || u.ID != "" {
			b.Errorf("%q, %v; want an AttemptError with %s", u.ID, err, failures.Every)
		}
		if watched.Calls() != 0 || b.hasher.Stats().Evaluations != before {
			b.Error("the attempt cost a statement or a hash")
		}
		if b.failed != failures.Burst {
			b.Error("the refusal counts as a failure")
		}
	})
	over(t, "ok/another network", func(b *bench) {
		b.has(ann, b.hash(strong), nil)
		spend(b)
		if _, err := b.on(b.store).Authenticate(b.Context(), user.Credentials{Email: ann, Password: right},
			audit.Origin{IP: "198.51.100.1"}); err != nil {
			b.Error(err)
		}
	})
	over(t, "ok/when the wait is over", func(b *bench) {
		b.has(ann, b.hash(strong), nil)
		spend(b)
		time.Sleep(failures.Every)
		b.login(ann, right, nil)
	})
	over(t, "ok/many who log in from one network", func(b *bench) {
		hash := b.hash(strong)
		for n := range 2 * failures.Burst {
			email := string(rune('a'+n)) + "@example.test"
			b.has(email, hash, nil)
			b.login(email, right, nil)
		}
	})
}

// TestAuthenticateStorageFailure fails each call of a login in turn, before and after its work is done. Nobody is told then that
// the password is wrong, and the next attempt is decided as if nothing had been.
func TestAuthenticateStorageFailure(t *testing.T) {
	const ann = "ann@example.test"
	for name, test := range map[string]struct {
		plain string
		want  error
		calls int
	}{
		"fail/right password, to be hashed anew": {plain: right, calls: 2},
		"fail/wrong password":                    {plain: wrong, want: user.ErrInvalidCredentials, calls: 2},
	} {
		for _, when := range []storetest.When{storetest.Before, storetest.After} {
			for n := 1; n <= test.calls; n++ {
				over(t, name+"/"+when.String()+"/"+string(rune('0'+n)), func(b *bench) {
					b.has(ann, b.hash(weak), nil)
					failing := storetest.Fail(b.store, n, when)
					u, err := b.on(failing).Authenticate(b.Context(), user.Credentials{Email: ann, Password: test.plain}, origin)
					if !errors.Is(err, storetest.ErrInjected) || errors.Is(err, user.ErrInvalidCredentials) ||
						errors.Is(err, user.ErrTooManyAttempts) || u.ID != "" {
						b.Errorf("%s failed: %q, %v", failing.Failed(), u.ID, err)
					}
					evaluated := 0 // the password was wrong, whether or not that is recorded
					if failing.Failed() == "Record" {
						evaluated = 1
					}
					if b.failed != evaluated {
						b.Errorf("%s failed, and %d wrong passwords were counted", failing.Failed(), b.failed)
					}
					b.login(ann, test.plain, test.want)
				})
			}
			over(t, name+"/"+when.String()+"/all pass", func(b *bench) {
				b.has(ann, b.hash(weak), nil)
				failing := storetest.Fail(b.store, 0, when)
				if _, err := b.on(failing).Authenticate(b.Context(), user.Credentials{Email: ann, Password: test.plain},
					origin); !errors.Is(err, test.want) {
					b.Error(err)
				}
				if failing.Calls() != test.calls {
					b.Errorf("%d calls, and %d of them were failed above", failing.Calls(), test.calls)
				}
			})
		}
	}
	over(t, "fail/the caller has gone", func(b *bench) {
		b.has(ann, b.hash(strong), nil)
		ctx, cancel := context.WithCancel(b.Context())
		cancel()
		u, err := b.on(b.store).Authenticate(ctx, user.Credentials{Email: ann, Password: right}, origin)
		if err == nil || errors.Is(err, user.ErrInvalidCredentials) || u.ID != "" || b.failed != 0 {
			b.Errorf("%q, %v", u.ID, err)
		}
	})
}

// changing is a store in which the password is changed while a login is on its way.
type changing struct {
	store.Store
	now string
}

func (s changing) ReplacePasswordHash(ctx context.Context, id, old, replacement string, at time.Time) error {
	if err := s.Store.ReplacePasswordHash(ctx, id, old, s.now, at); err != nil {
		return err
	}
	return s.Store.ReplacePasswordHash(ctx, id, old, replacement, at)
}

// leaving is the context of a caller who goes once the hasher has evaluated a hash.
type leaving struct {
	context.Context
	hasher *password.Hasher
}

func (c leaving) Err() error {
	if c.hasher.Stats().Evaluations > 0 {
		return context.Canceled
	}
	return nil
}

func TestAuthenticateRehash(t *testing.T) {
	const ann = "ann@example.test"
	stored := func(b *bench) string {
		b.Helper()
		u, err := b.store.UserByEmail(b.Context(), ann)
		b.must(err)
		return u.PasswordHash
	}
	for name, hash := range map[string]func(b *bench) string{
		"ok/a hash of a lower cost": func(b *bench) string { return b.hash(weak) },
		"ok/a hash of a higher cost": func(b *bench) string {
			return b.hash(password.Params{Memory: 32, Time: 1, Threads: 1})
		},
		"ok/a hash from elsewhere": func(*bench) string { return imported },
	} {
		over(t, name, func(b *bench) {
			old := hash(b)
			b.has(ann, old, nil)
			u := b.login(ann, right, nil)
			replaced := stored(b)
			if replaced == old || b.hasher.NeedsRehash(replaced) || u.PasswordHash != replaced {
				b.Errorf("%q became %q, and the user came with %q", old, replaced, u.PasswordHash)
			}
			b.login(ann, right, nil)
			if stored(b) != replaced {
				b.Error("the new hash was replaced too")
			}
			b.login(ann, wrong, user.ErrInvalidCredentials)
		})
	}
	for name, test := range map[string]struct {
		cost   password.Params
		plain  string
		want   error
		change func(*user.User)
	}{
		"ok/a hash of today's cost stays":                  {cost: strong, plain: right},
		"fail/a wrong password replaces nothing":           {cost: weak, plain: wrong, want: user.ErrInvalidCredentials},
		"fail/a disabled user's hash is not replaced":      {weak, right, user.ErrInvalidCredentials, disabled},
		"fail/a password that is too long changes nothing": {cost: weak, plain: strings.Repeat("a", 257), want: password.ErrTooLong},
	} {
		over(t, name, func(b *bench) {
			u := b.has(ann, b.hash(test.cost), test.change)
			b.login(ann, test.plain, test.want)
			if now := stored(b); now != u.PasswordHash {
				b.Errorf("%q became %q", u.PasswordHash, now)
			}
		})
	}
	over(t, "ok/no turn for a stronger hash", func(b *bench) {
		known := b.has(ann, b.hash(weak), nil)
		ctx := leaving{context.WithoutCancel(b.Context()), b.hasher}
		u, err := b.on(b.store).Authenticate(ctx, user.Credentials{Email: ann, Password: right}, origin)
		if err != nil || u.ID != known.ID || u.PasswordHash != known.PasswordHash || stored(b) != known.PasswordHash {
			b.Errorf("%q, %v", u.ID, err)
		}
	})
	over(t, "fail/the password is changed meanwhile", func(b *bench) {
		b.has(ann, b.hash(weak), nil)
		chosen := b.hash(strong)
		u, err := b.on(changing{b.store, chosen}).Authenticate(b.Context(), user.Credentials{Email: ann, Password: right}, origin)
		if !errors.Is(err, user.ErrInvalidCredentials) || u.ID != "" {
			b.Errorf("%q, %v; want ErrInvalidCredentials", u.ID, err)
		}
		if stored(b) != chosen {
			b.Error("the chosen password is no longer stored")
		}
	})
}

// hangsUp is a store whose caller leaves as soon as an attempt is counted.
type hangsUp struct {
	user.LoginStore
	leave context.CancelFunc
}

// BeginLogin implements user.LoginStore.
func (s hangsUp) BeginLogin(ctx context.Context, t user.Try, limit user.Throttle) (user.Attempt, error) {
	defer s.leave()
	return s.LoginStore.BeginLogin(ctx, t, limit)
}

// Who hangs up while the password is checked has guessed all the same: the failure is recorded, counts against the address, and
// looks like any other.
func TestWhoHangsUpIsSeen(t *testing.T) {
	over(t, "wrong", func(b *bench) {
		b.has("ann@example.test", b.hash(strong), nil)
		for n := range failures.Burst {
			ctx, leave := context.WithCancel(b.Context())
			_, err := b.on(hangsUp{b.store, leave}).Authenticate(ctx, user.Credentials{
				Email:    fmt.Sprintf("somebody%d@example.test", n),
				Password: wrong,
			}, origin)
			if !errors.Is(err, user.ErrInvalidCredentials) {
				b.Errorf("%v", err)
			}
		}
		if got := len(b.refused()); got != failures.Burst || b.failed != failures.Burst {
			b.Errorf("%d recorded and %d counted of %d", got, b.failed, failures.Burst)
		}
		b.login("ann@example.test", right, user.ErrTooManyAttempts)
	})
}
