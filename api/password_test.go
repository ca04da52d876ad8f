package api_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/user"
)

// addUser adds a user as the command line or an import does, with whatever hash.
func addUser(t testing.TB, s *servicetest.Service, hash string) person {
	t.Helper()
	now := time.Now()
	p := person{email: newEmail(), id: user.NewID(now)}
	u := user.User{ID: p.id, Email: p.email, PasswordHash: hash, CreatedAt: now, UpdatedAt: now}
	if err := s.Store.CreateUser(t.Context(), u, audit.Event{
		At:     now,
		Kind:   audit.KindUserCreated,
		Actor:  audit.ActorCLI,
		UserID: p.id,
	}); err != nil {
		t.Fatal(err)
	}
	return p
}

// tryLogin posts a login.
func tryLogin(t testing.TB, s *servicetest.Service, email, password string) servicetest.Response {
	t.Helper()
	return s.JSON(t, http.MethodPost, "/v1/login", "", map[string]string{"email": email, "password": password})
}

// postJSON posts a body that may be any text as JSON, with further header fields.
func postJSON(t testing.TB, s *servicetest.Service, path string, h http.Header, body string) servicetest.Response {
	t.Helper()
	all := h.Clone()
	if all == nil {
		all = http.Header{}
	}
	all.Set("Content-Type", "application/json")
	return s.Do(t, http.MethodPost, path, all, strings.NewReader(body))
}

// bcryptHash is a hash as another system would bring it along.
func bcryptHash(t testing.TB, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(hash)
}

// known are the addresses whose login must look the same to a stranger, by why it fails.
func known(t testing.TB, s *servicetest.Service) map[string]string {
	t.Helper()
	wrong, disabled := signUp(t, s), signUp(t, s)
	if err := s.Sessions.DisableUser(t.Context(), disabled.id, byOperator()); err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		"unknown": newEmail(), "wrong password": wrong.email, "disabled": disabled.email, "without a password": addUser(t, s, "").email,
		"old hash":          addUser(t, s, bcryptHash(t, servicetest.Password)).email,
		"damaged hash":      addUser(t, s, "$argon2id$v=19$m=0,t=0,p=0$$").email,
		"password in clear": addUser(t, s, "not the password").email,
	}
}

func TestPW01_SameAnswerForEveryFailure(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for _, attempt := range []string{"not the password", strings.Repeat("a", 100), servicetest.Password + "x"} {
			first := ""
			for why, email := range known(t, w.Service) {
				r := tryLogin(t, w.Service, email, attempt)
				want(t, why, r, http.StatusUnauthorized, "invalid_credentials")
				h := r.Header.Clone()
				for _, name := range []string{"Date", "X-Request-Id"} {
					h.Del(name)
				}
				answer := fmt.Sprint(h, withoutRequestID(r.Body))
				if first == "" {
					first = answer
				} else if answer != first {
					t.Errorf("%s is told apart:\n%s\n%s", why, answer, first)
				}
			}
		}
		// The right password of a disabled user is no better than a wrong one.
		p := signUp(t, w.Service)
		if err := w.Sessions.DisableUser(t.Context(), p.id, byOperator()); err != nil {
			t.Fatal(err)
		}
		right, wrong := tryLogin(t, w.Service, p.email, servicetest.Password), tryLogin(t, w.Service, p.email, "not the password")
		if right.Status != wrong.Status || withoutRequestID(right.Body) != withoutRequestID(wrong.Body) {
			t.Errorf("the right password of a disabled user: %d %s", right.Status, right.Body)
		}
		// Nor is an address told apart that has used up its attempts.
		for why, email := range map[string]string{"known": signUp(t, w.Service).email, "unknown": newEmail()} {
			var last servicetest.Response
			for range w.Config.LoginAttempts + 1 {
				last = postJSON(t, w.Service, "/v1/login", header("X-Forwarded-For", "203.0.113.9"),
					fmt.Sprintf(`{"email":%q,"password":"not the password"}`, email))
			}
			want(t, why+" address", last, http.StatusTooManyRequests, "too_many_attempts")
			if last.Header.Get("Retry-After") == "" {
				t.Errorf("%s address: no Retry-After", why)
			}
		}
	})
}

// Every attempt costs one evaluation, whatever is wrong with it; one that is refused before costs none.
func TestPW02_OneEvaluationInEveryBranch(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db)
		cost := func(what string, evaluations uint64, do func() servicetest.Response) servicetest.Response {
			before := s.Hasher.Stats().Evaluations
			r := do()
			if got := s.Hasher.Stats().Evaluations - before; got != evaluations {
				t.Errorf("%s: %d evaluations, want %d (%d %s)", what, got, evaluations, r.Status, r.Body)
			}
			return r
		}
		for why, email := range known(t, s) {
			for _, attempt := range []string{"not the password", strings.Repeat("a", 100), strings.Repeat("é", 72)} {
				want(t, why, cost(why, 1, func() servicetest.Response { return tryLogin(t, s, email, attempt) }), http.StatusUnauthorized, "")
			}
		}
		// The same on the page, whose answers are about an address as well.
		registerClient(t, s, oauth.Client{ID: "app"})
		b := newBrowser(t, s)
		form := b.open(authorizeURL(s, nil))
		for why, email := range known(t, s) {
			var p page
			cost("page: "+why, 1, func() servicetest.Response {
				p = b.submit(form, "login", map[string]string{"email": email, "password": "not the password"})
				return servicetest.Response{Status: p.status}
			})
			if p.status != http.StatusUnauthorized || len(p.cookies) > 0 {
				t.Errorf("page: %s: %d %v", why, p.status, p.cookies)
			}
		}
		p := signUp(t, s)
		for who, email := range map[string]string{"new": newEmail(), "known": p.email} {
			cost("sign-up of a "+who+" address", 1, func() servicetest.Response {
				return s.JSON(t, http.MethodPost, "/v1/signup", "", map[string]string{"email": email, "password": servicetest.Password})
			})
		}
		// one of them for the new one
		for current, evaluations := range map[string]uint64{"not the password": 1, servicetest.Password: 2} {
			q := signUp(t, s)
			cost("change of "+current, evaluations, func() servicetest.Response {
				return s.JSON(t, http.MethodPost, "/v1/password/change", q.AccessToken, map[string]string{
					"current_password": current,
					"new_password":     "amber-heron-47",
				})
			})
		}
		want(t, "right", cost("right", 1, func() servicetest.Response { return tryLogin(t, s, p.email, servicetest.Password) }),
			http.StatusOK, "")
		old := addUser(t, s, bcryptHash(t, servicetest.Password))
		want(t, "old hash", cost("the first login with an old hash", 2,
			func() servicetest.Response { return tryLogin(t, s, old.email, servicetest.Password) }), http.StatusOK, "")
		want(t, "new hash", cost("the next login", 1,
			func() servicetest.Response { return tryLogin(t, s, old.email, servicetest.Password) }), http.StatusOK, "")
		for what, body := range map[string]string{
			"no password":    `{"email":"a@example.com"}`,
			"not an address": `{"email":"a","password":"violet-otter-93"}`,
			"unknown client": `{"email":"a@example.com","password":"violet-otter-93","client_id":"x"}`,
			"unknown scope":  `{"email":"a@example.com","password":"violet-otter-93","scope":"x"}`,
			"not text":       `{"email":"a@example.com","password":"\ufffd"}`,
			"too long":       `{"email":"a@example.com","password":"` + strings.Repeat("a", 257) + `"}`,
		} {
			if r := cost(what, 0, func() servicetest.Response {
				return postJSON(t, s, "/v1/login", nil,
					body)
			}); r.Status != http.StatusBadRequest && r.Status != http.StatusUnauthorized {
				t.Errorf("%s: %d %s", what, r.Status, r.Body)
			}
		}
		for why, email := range map[string]string{"known": signUp(t, s).email, "unknown": newEmail()} {
			for range s.Config.LoginAttempts {
				tryLogin(t, s, email, "not the password")
			}
			want(t, why, cost(why+" address without attempts", 0,
				func() servicetest.Response { return tryLogin(t, s, email, "not the password") }), http.StatusTooManyRequests, "")
		}
	})
}

func TestPW03_StuffingAndSpraying(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db, func(c *service.Config) {
			c.TrustedProxies, c.LoginIPFailures, c.LoginIPFailureEvery = []string{"127.0.0.1"}, 5, time.Hour
			c.LoginAttempts, c.LoginAttemptEvery = 3, time.Hour
		})
		from := func(ip, email, password string) servicetest.Response {
			return postJSON(t, s, "/v1/login", header("X-Forwarded-For", ip), fmt.Sprintf(`{"email":%q,"password":%q}`, email, password))
		}
		// Many users from one address, or from one customer's network.
		for _, network := range []string{"203.0.113.7", "2001:db8:1:2::%d"} {
			refused := 0
			for i := range 10 {
				ip := network
				if strings.Contains(ip, "%d") {
					ip = fmt.Sprintf(network, i+1)
				}
				if from(ip, newEmail(), "not the password").Status == http.StatusTooManyRequests {
					refused++
				}
			}
			if refused != 5 {
				t.Errorf("%s: %d of 10 attempts were refused, want 5", network, refused)
			}
		}
		// One user from many addresses.
		victim, refused := signUp(t, s), 0
		for i := range 10 {
			if from(fmt.Sprintf("198.51.100.%d", i+1), victim.email, "not the password").Status == http.StatusTooManyRequests {
				refused++
			}
		}
		if refused != 7 {
			t.Errorf("%d of 10 attempts at one user were refused, want 7", refused)
		}
		// Logins that succeed cost their address nothing.
		happy := signUp(t, s)
		for range 12 {
			want(t, "happy", from("192.0.2.1", happy.email, servicetest.Password), http.StatusOK, "")
		}
		if got := counter(t, s, "handstamp_login_failures_total"); got != 13 {
			t.Errorf("%v failures are counted, want 13", got)
		}
		// A breached password cannot be chosen.
		want(t, "common password", s.JSON(t, http.MethodPost, "/v1/signup", "",
			map[string]string{"email": newEmail(), "password": "password123"}), http.StatusBadRequest, "weak_password")
	})
}

// counter is the value of a counter of a replica that has the labels, given by their values.
func counter(t testing.TB, s *servicetest.Service, name string, labels ...string) float64 {
	t.Helper()
	families, err := s.Metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var values []string
			for _, l := range m.GetLabel() {
				values = append(values, l.GetValue())
			}
			missing := func(want string) bool { return !slices.Contains(values, want) }
			if f.GetName() == name && !slices.ContainsFunc(labels, missing) {
				return m.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("no figure %s", name)
	return 0
}

func TestPW04_ParallelGuesses(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		few := func(c *service.Config) {
			c.LoginAttempts, c.LoginAttemptEvery, c.TrustedProxies = 5, time.Hour, []string{"127.0.0.1"}
			c.PasswordQueue = 1000
		}
		s := servicetest.Start(t, db, few)
		replicas := []*servicetest.Service{s, servicetest.Start(t, db, few, sameIssuer(s))}
		for why, email := range map[string]string{"known": signUp(t, s).email, "unknown": newEmail()} {
			before := replicas[0].Hasher.Stats().Evaluations + replicas[1].Hasher.Stats().Evaluations
			var group sync.WaitGroup
			for i := range 100 {
				group.Go(func() {
					body := fmt.Sprintf(`{"email":%q,"password":"guess number %d"}`, email, i)
					r, err := replicas[i%2].Try(context.Background(), http.MethodPost, "/v1/login",
						header("Content-Type", "application/json", "X-Forwarded-For", fmt.Sprintf("198.51.100.%d", i+1)), strings.NewReader(body))
					if err != nil || r.Status != http.StatusUnauthorized && r.Status != http.StatusTooManyRequests {
						t.Errorf("%v %d %s", err, r.Status, r.Body)
					}
				})
			}
			group.Wait()
			if got := replicas[0].Hasher.Stats().Evaluations + replicas[1].Hasher.Stats().Evaluations - before; got != 5 {
				t.Errorf("%s: %d guesses were evaluated, want 5", why, got)
			}
		}
	})
}

// attemptStore fails what comes after the password was checked.
type attemptStore struct {
	store.Store
	fail bool
}

func (s *attemptStore) Record(ctx context.Context, e audit.Event) error {
	if s.fail {
		return context.DeadlineExceeded
	}
	return s.Store.Record(ctx, e)
}

// A guess counts before it is checked: neither a failure after the check nor a restart gives it back.
func TestPW05_GuessesStayCounted(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		few := func(c *service.Config) { c.LoginAttempts, c.LoginAttemptEvery = 3, time.Hour }
		email := newEmail()
		failing := &attemptStore{fail: true}
		db.Wrap = func(s store.Store) store.Store { failing.Store = s; return failing }
		s := servicetest.Start(t, db, few)
		for range 2 {
			want(t, "a failure after the check", tryLogin(t, s, email, "not the password"), http.StatusServiceUnavailable, "unavailable")
		}
		s.Stop()
		db.Wrap = nil
		again := servicetest.Start(t, db, few, sameIssuer(s))
		want(t, "the third guess", tryLogin(t, again, email, "not the password"), http.StatusUnauthorized, "")
		want(t, "the fourth guess", tryLogin(t, again, email, "not the password"), http.StatusTooManyRequests, "")
	})
}

// A stranger who uses up the attempts at an address does not keep its owner out, who comes from where a session of theirs is.
func TestPW07_StrangersDoNotLockOut(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		from := func(ip, path, body string) servicetest.Response {
			return postJSON(t, w.Service, path, header("X-Forwarded-For", ip), body)
		}
		email := newEmail()
		right := fmt.Sprintf(`{"email":%q,"password":%q}`, email, servicetest.Password)
		want(t, "sign-up", from("192.0.2.77", "/v1/signup", right), http.StatusCreated, "")
		for i := range w.Config.LoginAttempts + 3 {
			from(fmt.Sprintf("203.0.113.%d", i), "/v1/login", fmt.Sprintf(`{"email":%q,"password":"not the password"}`, email))
		}
		r := from("198.51.100.1", "/v1/login", right)
		want(t, "a stranger with the right password, for a while", r, http.StatusTooManyRequests, "")
		if wait := r.Header.Get("Retry-After"); wait == "" || len(wait) > 2 {
			t.Errorf("Retry-After %q: the delay is long", wait)
		}
		want(t, "the owner", from("192.0.2.77", "/v1/login", right), http.StatusOK, "")
		// Whose own guesses are limited, too.
		var last servicetest.Response
		for range w.Config.LoginAttempts + 1 {
			last = from("192.0.2.77", "/v1/login", fmt.Sprintf(`{"email":%q,"password":"not the password"}`, email))
		}
		want(t, "guesses from a known address", last, http.StatusTooManyRequests, "")
	})
}

func TestPW10_Unicode(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		email := newEmail()
		composed, decomposed := "caf\u00e9 au lait", "cafe\u0301 au lait"
		want(t, "sign-up", w.JSON(t, http.MethodPost, "/v1/signup", "", map[string]string{"email": email, "password": decomposed}),
			http.StatusCreated, "")
		want(t, "composed", tryLogin(t, w.Service, email, composed), http.StatusOK, "")
		want(t, "without the accent", tryLogin(t, w.Service, email, "cafe au lait"), http.StatusUnauthorized, "")
		for name, password := range map[string]string{
			"invalid UTF-8":  "caf\xe9 au lait",
			"half a pair":    `caf\ud800 au lait`,
			"the other half": `caf\udc00 au lait`,
			"NUL":            `caf\u0000 au lait`,
			"lost character": `caf\ufffd au lait`,
		} {
			for _, path := range []string{"/v1/signup", "/v1/login"} {
				r := postJSON(t, w.Service, path, nil, fmt.Sprintf(`{"email":%q,"password":"%s"}`, newEmail(), password))
				want(t, path+" "+name, r, http.StatusBadRequest, "invalid_request")
			}
		}
		// Eight characters of four bytes are enough, seven are not.
		for n, status := range map[int]int{7: http.StatusBadRequest, 8: http.StatusCreated} {
			password := strings.Repeat("\U0001F98A\U0001F426", 4)
			want(t, fmt.Sprint(n, " characters"), w.JSON(t, http.MethodPost, "/v1/signup", "", map[string]string{
				"email":    newEmail(),
				"password": string([]rune(password)[:n]),
			}), status, "")
		}
	})
}

func TestPW11_LongPasswords(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db)
		p := signUp(t, s)
		before := s.Hasher.Stats().Evaluations
		for size, status := range map[int]int{257: 400, 1<<10 + 1: 400, 60 << 10: 400, 1 << 20: 413} {
			long := strings.Repeat("a", size)
			for path, body := range map[string]string{
				"/v1/login":           `{"email":"` + p.email + `","password":"` + long + `"}`,
				"/v1/signup":          `{"email":"` + newEmail() + `","password":"` + long + `"}`,
				"/v1/password/change": `{"current_password":"` + long + `","new_password":"amber-heron-47"}`,
			} {
				// The server may have hung up before all of a body is sent that it does not want.
				r, err := s.Try(t.Context(), http.MethodPost, path, bearer(p.AccessToken, "Content-Type", "application/json"),
					strings.NewReader(body))
				if err == nil {
					want(t, fmt.Sprint(path, " ", size), r, status, "")
				} else if status != http.StatusRequestEntityTooLarge {
					t.Error(err)
				}
			}
		}
		// Nothing is read of a body that says how long it is.
		c := slowly(t, s)
		fmt.Fprintf(c, "POST /v1/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", 100<<20)
		if line := firstLine(t, c); !strings.Contains(line, "413") {
			t.Errorf("100 MiB: %s", line)
		}
		// Small things that could grow.
		for name, body := range map[string]string{
			"deep":      strings.Repeat(`{"email":`, 6000),
			"deep list": `{"email":` + strings.Repeat("[", 60000),
			"wide":      `{"email":[` + strings.Repeat("0,", 30000) + `0]}`,
			"number":    `{"email":` + strings.Repeat("9", 60000) + `}`, "escapes": `{"email":"` + strings.Repeat(`\u0041`, 10000) + `"}`,
		} {
			want(t, name, postJSON(t, s, "/v1/login", nil, body), http.StatusBadRequest, "invalid_request")
		}
		if got := s.Hasher.Stats().Evaluations - before; got != 0 {
			t.Errorf("%d passwords were hashed", got)
		}
	})
}

// A flood of logins gets a quick refusal; who holds tokens does not notice.
func TestPW12_FloodOfLogins(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db, func(c *service.Config) {
			c.Argon2Memory, c.Argon2Time, c.PasswordConcurrency, c.PasswordQueue = 8<<10, 2, 1, 4
		})
		p := signUp(t, s)
		flood, statuses := sync.WaitGroup{}, make(chan int, 60)
		for range cap(statuses) {
			flood.Go(func() {
				r, err := s.Try(context.Background(), http.MethodPost, "/v1/login", header("Content-Type", "application/json"),
					strings.NewReader(`{"email":"`+newEmail()+`","password":"not the password"}`))
				if err == nil && r.Status == http.StatusServiceUnavailable && (r.Code() != "busy" || r.Header.Get("Retry-After") == "") {
					t.Errorf("%s, Retry-After %q", r.Body, r.Header.Get("Retry-After"))
				}
				statuses <- r.Status
			})
		}
		for range 10 {
			want(t, "JWKS", s.Get(t, "/.well-known/jwks.json", ""), http.StatusOK, "")
			p.Tokens = s.Refresh(t, p.RefreshToken).Tokens(t)
		}
		flood.Wait()
		close(statuses)
		count := map[int]int{}
		for status := range statuses {
			count[status]++
		}
		if count[http.StatusUnauthorized]+count[http.StatusServiceUnavailable] != cap(statuses) ||
			count[http.StatusUnauthorized] == 0 || count[http.StatusServiceUnavailable] == 0 {
			t.Errorf("answers %v", count)
		}
		if most := s.Hasher.Stats(); most.Running != 0 || most.Waiting != 0 {
			t.Errorf("left behind: %+v", most)
		}
	})
}

func TestPW13_Whitespace(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		email, password := newEmail(), "  violet otter\t"
		want(t, "sign-up", w.JSON(t, http.MethodPost, "/v1/signup", "", map[string]string{"email": email, "password": password}),
			http.StatusCreated, "")
		want(t, "as typed", tryLogin(t, w.Service, email, password), http.StatusOK, "")
		want(t, "trimmed", tryLogin(t, w.Service, email, strings.TrimSpace(password)), http.StatusUnauthorized, "")
	})
}

// A hash that cannot be evaluated lets nobody in, and breaks nothing.
func TestPW14_DamagedHashes(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for _, hash := range []string{
			"", " ", servicetest.Password, "$argon2id$v=19$m=4294967295,t=1,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
			"$argon2id$v=19$m=64,t=0,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
			"$argon2id$v=19$m=64,t=1,p=0$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA", "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$",
			"$2y$99$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "$2x$04$abc", "$$$$$",
		} {
			p := addUser(t, w.Service, hash)
			for _, attempt := range []string{servicetest.Password, " ", hash} {
				if attempt != "" {
					want(t, fmt.Sprintf("%q with %q", hash, attempt), tryLogin(t, w.Service, p.email, attempt), http.StatusUnauthorized,
						"invalid_credentials")
				}
			}
		}
	})
}

// rehashRace changes the password of a user just before its older form is written with a stronger hash.
type rehashRace struct {
	store.Store
	before func(id string)
}

func (s rehashRace) ReplacePasswordHash(ctx context.Context, id, old, replacement string, at time.Time) error {
	s.before(id)
	return s.Store.ReplacePasswordHash(ctx, id, old, replacement, at)
}

func TestPW15_RehashRacesWithChange(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		var s *servicetest.Service
		db.Wrap = func(inner store.Store) store.Store {
			return rehashRace{inner, func(id string) {
				u, err := inner.UserByID(t.Context(), id)
				if err != nil {
					t.Error(err)
				}
				stronger, err := s.Hasher.Hash(t.Context(), "amber-heron-47")
				if err != nil {
					t.Error(err)
				}
				if err := s.Sessions.SetPassword(t.Context(), id, u.PasswordHash, stronger, byOperator()); err != nil {
					t.Error(err)
				}
			}}
		}
		s = servicetest.Start(t, db)
		p := addUser(t, s, bcryptHash(t, servicetest.Password))
		want(t, "the login that was overtaken", tryLogin(t, s, p.email, servicetest.Password), http.StatusUnauthorized,
			"invalid_credentials")
		want(t, "the old password", tryLogin(t, s, p.email, servicetest.Password), http.StatusUnauthorized, "")
		want(t, "the new password", tryLogin(t, s, p.email, "amber-heron-47"), http.StatusOK, "")
	})
}

func TestPW16_ClosedSignupAndPolicy(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db, func(c *service.Config) { c.PasswordMinLength = 15 })
		registerClient(t, s, oauth.Client{ID: "app"})
		p := signUp(t, s)
		for _, weak := range []string{"short", "fourteen chars", "password", "aaaaaaaaaaaaaaaaaaaa", p.email} {
			body := map[string]string{"email": newEmail(), "password": weak}
			if weak == p.email {
				body["email"] = "x" + weak
				body["password"] = body["email"]
			}
			want(t, "sign-up with "+weak, s.JSON(t, http.MethodPost, "/v1/signup", "", body), http.StatusBadRequest, "weak_password")
			r := s.JSON(t, http.MethodPost, "/v1/password/change", p.AccessToken, map[string]string{
				"current_password": servicetest.Password,
				"new_password":     weak,
			})
			want(t, "change to "+weak, r, http.StatusBadRequest, "weak_password")
			if !strings.Contains(r.Body, `"field":"new_password"`) {
				t.Errorf("the field is not named: %s", r.Body)
			}
			b := newBrowser(t, s)
			page := b.open(authorizeURL(s, map[string]string{"prompt": "create"}))
			if made := b.submit(page, "signup", body); made.location != nil || !made.has("error") {
				t.Errorf("the page takes %s: %d %v", weak, made.status, made.location)
			}
		}
		closed := servicetest.Start(t, db, sameIssuer(s), func(c *service.Config) { c.Signup = false })
		before := users(t, s)
		want(t, "closed", closed.JSON(t, http.MethodPost, "/v1/signup", "",
			map[string]string{"email": newEmail(), "password": servicetest.Password}), http.StatusForbidden, "signup_disabled")
		b, open := newBrowser(t, closed), newBrowser(t, s)
		action, values := open.open(authorizeURL(s, map[string]string{"prompt": "create"})).form(t, "signup")
		values.Set("email", newEmail())
		values.Set("password", servicetest.Password)
		b.client.Jar = open.client.Jar // the same browser, at another replica
		if page := b.post(action, values, nil); page.status != http.StatusForbidden || page.location != nil {
			t.Errorf("the page of a closed service: %d %v", page.status, page.location)
		}
		if after := users(t, s); after != before {
			t.Errorf("%d users, %d before", after, before)
		}
	})
}

// users is how many there are, up to a thousand.
func users(t testing.TB, s *servicetest.Service) int {
	t.Helper()
	list, err := s.Store.Users(t.Context(), "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func TestPW17_DisabledUser(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := signUp(t, w.Service)
		b := newBrowser(t, w.Service)
		page := b.logIn(b.open(authorizeURL(w.Service, map[string]string{"client_id": "web"})), p.email)
		unused := page.code(t)
		viaCode := codeFlow(t, w.Service, p.email, "web", "openid")
		if err := w.Sessions.DisableUser(t.Context(), p.id, byOperator()); err != nil {
			t.Fatal(err)
		}
		want(t, "password", tryLogin(t, w.Service, p.email, servicetest.Password), http.StatusUnauthorized, "invalid_credentials")
		want(t, "refresh", w.Refresh(t, p.RefreshToken), http.StatusBadRequest, "invalid_grant")
		want(t, "refresh of the other client",
			w.Form(t, "/oauth2/token", "grant_type", "refresh_token", "client_id", "web", "refresh_token", viaCode.RefreshToken),
			http.StatusBadRequest, "invalid_grant")
		want(t, "code", redeem(t, w.Service, unused, "client_id", "web"), http.StatusBadRequest, "invalid_grant")
		if again := b.open(authorizeURL(w.Service, map[string]string{"client_id": "web"})); !again.has("login") {
			t.Errorf("the browser is still logged in: %d %v", again.status, again.location)
		}
		other := newBrowser(t, w.Service)
		form := other.open(authorizeURL(w.Service, map[string]string{"client_id": "web"}))
		if refused := other.logIn(form, p.email); refused.status != http.StatusUnauthorized || refused.location != nil {
			t.Errorf("the page: %d %v", refused.status, refused.location)
		}
		want(t, "session at another client", w.JSON(t, http.MethodPost, "/v1/login", "", map[string]string{
			"email":     p.email,
			"password":  servicetest.Password,
			"client_id": "spa",
		}), http.StatusUnauthorized, "invalid_credentials")
	})
}

// Who changes the password goes on in a new session, at the same client; every other one ends.
func TestPasswordChange(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		change := func(accessToken, current, replacement string) servicetest.Response {
			return w.JSON(t, http.MethodPost, "/v1/password/change", accessToken,
				map[string]string{"current_password": current, "new_password": replacement})
		}
		p := signUp(t, w.Service)
		other := w.LogIn(t, p.email)
		want(t, "wrong password", change(p.AccessToken, "not the password", "amber-heron-47"), http.StatusForbidden,
			"invalid_credentials")
		renewed := change(p.AccessToken, servicetest.Password, "amber-heron-47").Tokens(t)
		if sid(t, renewed.AccessToken) == sid(t, p.AccessToken) {
			t.Error("the session is the old one")
		}
		want(t, "new session", w.Get(t, "/v1/me", renewed.AccessToken), http.StatusOK, "")
		for _, old := range []servicetest.Tokens{p.Tokens, other} {
			want(t, "old session", w.Refresh(t, old.RefreshToken), http.StatusBadRequest, "invalid_grant")
			servicetest.Eventually(t, "the old access token is refused", func() bool {
				return w.Get(t, "/v1/me", old.AccessToken).Status == http.StatusUnauthorized &&
					w.other.Get(t, "/v1/me", old.AccessToken).Status == http.StatusUnauthorized
			})
		}
		// A confidential client of the operator's logs users in by codes only; its users can change their password all the same.
		q := signUp(t, w.Service)
		token := sessionAt(t, w.Service, q, "server", oauth.ScopeAccount)
		renewed = change(token, servicetest.Password, "amber-heron-47").Tokens(t)
		if claims := servicetest.Claims(t, renewed.AccessToken); claims["client_id"] != "server" {
			t.Errorf("the new session is %v's", claims["client_id"])
		}
	})
}

// firstLine is the first line of what a connection answers.
func firstLine(t testing.TB, c net.Conn) string {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return line
}
