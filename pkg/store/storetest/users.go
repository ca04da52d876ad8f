package storetest

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/user"
)

func testUsers(s *suite) {
	s.run("ok/a user is read as it was created", func(s *suite) {
		u := s.newUser()
		u.Email, u.Name = "Zoë.Smith@Example.test", "Zoë \U0001F600 \u202Eright\u202C \u2028 O'Brien \"; DROP TABLE users; --"
		u.Profile = user.Profile{
			GivenName: "Zoë", FamilyName: `O'Brien "\`, PreferredUsername: "zoe", Picture: "https://cdn.example/<&>.png",
			Website: "https://zoe.example", Locale: "de-AT", Zoneinfo: "Europe/Vienna",
		}
		u.EmailVerifiedAt, u.UpdatedAt, u.DisabledAt = now().Add(time.Second), now().Add(2*time.Second), now().Add(3*time.Second)
		e := s.event(audit.KindSignedUp, u.ID)
		s.must(s.first.CreateUser(s.Context(), u, e))
		s.wantEvent(e)

		for _, t := range []*time.Time{&u.EmailVerifiedAt, &u.CreatedAt, &u.UpdatedAt, &u.DisabledAt} {
			*t = stored(*t)
		}
		got, err := s.second.UserByID(s.Context(), u.ID)
		s.must(err)
		s.same("user by ID", got, u)
		got, err = s.second.UserByEmail(s.Context(), "zoe\u0308.smith@example.TEST")
		s.must(err)
		s.same("user by e-mail", got, u)
	})

	s.run("ok/what is not set stays not set", func(s *suite) {
		u := user.User{ID: user.NewID(now()), Email: "bare@example.test", CreatedAt: stored(now()), UpdatedAt: stored(now())}
		s.must(s.first.CreateUser(s.Context(), u, s.event(audit.KindUserCreated, u.ID)))
		got, err := s.second.UserByID(s.Context(), u.ID)
		s.must(err)
		s.same("user", got, u)
	})

	s.run("ok/the longest and oddest texts", func(s *suite) {
		for _, name := range []string{strings.Repeat("\U0010FFFF", user.MaxNameLength), "\\", "%_", "\t", "null", "0x00", "\uFEFF",
			"e\u0301"} {
			u := s.newUser()
			u.Name, u.Roles = name, []string{name, ",", "{}", `"`, `\`, "NULL", ""}
			s.must(s.first.CreateUser(s.Context(), u, s.event(audit.KindUserCreated, u.ID)))
			got, err := s.second.UserByID(s.Context(), u.ID)
			s.must(err)
			s.same("name", got.Name, name)
			s.same("roles", got.Roles, u.Roles)
		}
	})

	s.run("ok/times keep their microseconds", func(s *suite) {
		for _, at := range []time.Time{
			time.Date(1970, 1, 1, 0, 0, 0, 1000, time.UTC), time.Date(2026, 12, 31, 23, 59, 59, 999_999_999, time.FixedZone("", 3600)),
			time.Date(2200, 2, 28, 1, 2, 3, 4000, time.UTC),
		} {
			u := s.newUser()
			u.CreatedAt, u.UpdatedAt = at, at
			s.must(s.first.CreateUser(s.Context(), u, s.event(audit.KindUserCreated, u.ID)))
			got, err := s.second.UserByID(s.Context(), u.ID)
			s.must(err)
			s.same("CreatedAt", got.CreatedAt, stored(at))
			if got.CreatedAt.Location() != time.UTC {
				s.Errorf("CreatedAt is in %s, want UTC", got.CreatedAt.Location())
			}
		}
	})

	for name, pair := range map[string][2]string{
		"the same":                 {"same@example.test", "same@example.test"},
		"case":                     {"case@example.test", "CASE@Example.TEST"},
		"composed and decomposed":  {"caf\u00e9@example.test", "cafe\u0301@example.test"},
		"decomposed and uppercase": {"na\u00efve@example.test", "NAI\u0308VE@example.test"},
		"sharp s":                  {"stra\u00dfe@example.test", "STRASSE@example.test"},
		"sigma":                    {"\u03c3\u03c2@example.test", "\u03a3\u03a3@example.test"},
	} {
		s.run("fail/e-mail taken/"+name, func(s *suite) {
			first, second := s.newUser(), s.newUser()
			first.Email, second.Email = pair[0], pair[1]
			s.must(s.first.CreateUser(s.Context(), first, s.event(audit.KindUserCreated, first.ID)))
			err := s.second.CreateUser(s.Context(), second, s.event(audit.KindUserCreated, second.ID))
			if !errors.Is(err, user.ErrEmailTaken) {
				s.Fatalf("CreateUser: %v, want ErrEmailTaken", err)
			}
			got, err := s.first.UserByEmail(s.Context(), pair[1])
			s.must(err)
			s.same("the one user", got.ID, first.ID)
			if n := s.countEvents(second.ID, audit.KindUserCreated); n != 0 {
				s.Errorf("%d events for a user who was not created", n)
			}
			if _, err := s.first.UserByID(s.Context(), second.ID); !errors.Is(err, user.ErrNotFound) {
				s.Errorf("UserByID: %v, want ErrNotFound", err)
			}
		})
	}

	s.run("ok/addresses that only look alike", func(s *suite) {
		for _, email := range []string{"kit@example.test", "k\u0131t@example.test", "k\u0456t@example.test", "kit @example.test",
			"kit@example.test.", "kit%@example.test", "k_t@example.test"} {
			u := s.newUser()
			u.Email = email
			s.must(s.first.CreateUser(s.Context(), u, s.event(audit.KindUserCreated, u.ID)))
		}
	})

	s.run("fail/an ID exists", func(s *suite) {
		u := s.user()
		u.Email = "another-" + u.Email
		if err := s.first.CreateUser(s.Context(), u, s.event(audit.KindUserCreated, u.ID)); err == nil ||
			errors.Is(err, user.ErrEmailTaken) {
			s.Errorf("CreateUser: %v, want a storage failure", err)
		}
	})

	s.run("fail/nobody has the ID", testUnknownUser)

	s.run("ok/listed by ID", func(s *suite) {
		var want, got []string
		for range 5 {
			want = append(want, s.user().ID)
		}
		for after := ""; ; {
			page, err := s.second.Users(s.Context(), after, 2)
			s.must(err)
			if len(page) > 2 {
				s.Fatalf("a page of 2 has %d users", len(page))
			}
			for _, u := range page {
				if u.ID <= after {
					s.Errorf("%s comes after %s", u.ID, after)
				}
				after = u.ID
				got = append(got, u.ID)
			}
			if len(page) == 0 {
				break
			}
		}
		seen := map[string]int{}
		for _, id := range got {
			seen[id]++
		}
		for _, id := range want {
			if seen[id] != 1 {
				s.Errorf("user %s is listed %d times", id, seen[id])
			}
		}
	})

	s.run("ok/name", func(s *suite) {
		u := s.user()
		got, err := s.first.UpdateUser(s.Context(), u.ID, user.Change{Name: new("Ada")}, now().Add(time.Minute))
		s.must(err)
		u.Name, u.CreatedAt, u.UpdatedAt = "Ada", stored(u.CreatedAt), stored(now().Add(time.Minute))
		s.same("returned", got, u)
		got, err = s.second.UserByID(s.Context(), u.ID)
		s.must(err)
		s.same("stored", got, u)
	})

	s.run("ok/attributes, each by itself", func(s *suite) {
		u := s.user()
		change := func(c user.Change) user.User {
			got, err := s.second.UpdateUser(s.Context(), u.ID, c, now().Add(time.Minute))
			s.must(err)
			return got
		}
		change(user.Change{Profile: map[string]*string{"given_name": new("Ada"), "locale": new("en")}})
		got := change(user.Change{Profile: map[string]*string{"locale": new(`d"e`), "picture": nil}})
		s.same("set", got.Profile, user.Profile{GivenName: "Ada", Locale: `d"e`})
		s.same("name", got.Name, u.Name)
		got = change(user.Change{Name: new(""), Profile: map[string]*string{"given_name": nil}})
		s.same("removed", got.Profile, user.Profile{Locale: `d"e`})
		s.same("name removed", got.Name, "")
		read, err := s.first.UserByID(s.Context(), u.ID)
		s.must(err)
		s.same("stored", read, got)
	})

	s.run("ok/password hash, if it is still the old one", func(s *suite) {
		u := s.user()
		row := s.session(u.ID)
		s.must(s.first.ReplacePasswordHash(s.Context(), u.ID, u.PasswordHash, "stronger", now()))
		if err := s.second.ReplacePasswordHash(s.Context(), u.ID, u.PasswordHash, "late", now()); !errors.Is(err, user.ErrChanged) {
			s.Errorf("second: %v, want ErrChanged", err)
		}
		got, err := s.second.UserByID(s.Context(), u.ID)
		s.must(err)
		s.same("hash", got.PasswordHash, "stronger")
		s.wantLive(row)
	})

	s.run("ok/disabled and enabled", func(s *suite) {
		u := s.user()
		e := s.ending(u.ID, now().Add(time.Minute), audit.KindUserDisabled, session.ReasonUserDisabled)
		for range 2 { // the second changes nothing
			_, err := s.first.DisableUser(s.Context(), u.ID, e)
			s.must(err)
			s.wantEvent(e.Event)
			got, err := s.second.UserByID(s.Context(), u.ID)
			s.must(err)
			s.same("DisabledAt", got.DisabledAt, stored(now().Add(time.Minute)))
			if n := s.countEvents(u.ID, audit.KindUserDisabled); n != 1 {
				s.Errorf("%d events, want 1", n)
			}
		}
		enabled := s.event(audit.KindUserEnabled, u.ID)
		for range 2 {
			s.must(s.first.EnableUser(s.Context(), u.ID, enabled))
			s.wantEvent(enabled)
			got, err := s.second.UserByID(s.Context(), u.ID)
			s.must(err)
			s.same("DisabledAt", got.DisabledAt, time.Time{})
			if n := s.countEvents(u.ID, audit.KindUserEnabled); n != 1 {
				s.Errorf("%d events, want 1", n)
			}
		}
	})

	s.run("ok/deleted with all that belongs to the user", func(s *suite) {
		u := s.user()
		row := s.session(u.ID)
		e := s.ending(u.ID, now(), audit.KindUserDeleted, session.ReasonUserDeleted)
		ids, err := s.first.DeleteUser(s.Context(), u.ID, e)
		s.must(err)
		s.same("ended", ids, []session.ID{row.ID})
		s.wantEvent(e.Event)
		if _, err := s.second.UserByID(s.Context(), u.ID); !errors.Is(err, user.ErrNotFound) {
			s.Errorf("UserByID: %v, want ErrNotFound", err)
		}
		if _, err := s.second.Session(s.Context(), row.ID); !errors.Is(err, session.ErrNotFound) {
			s.Errorf("Session: %v, want ErrNotFound", err)
		}
		if _, ok := s.blocked(row.ID); !ok {
			s.Error("the session's access tokens are not blocked")
		}
		again := s.newUser()
		again.Email = strings.ToUpper(u.Email)
		s.must(s.first.CreateUser(s.Context(), again, s.event(audit.KindUserCreated, again.ID)))
	})
}

// testUnknownUser checks what each method says of a user who does not exist, and that it leaves nothing behind.
func testUnknownUser(s *suite) {
	id := user.NewID(now())
	e := s.ending(id, now(), audit.KindUserDisabled, session.ReasonUserDisabled)
	ctx := s.Context()
	for name, call := range map[string]func() error{
		"UserByID":    func() error { _, err := s.first.UserByID(ctx, id); return err },
		"UserByEmail": func() error { _, err := s.first.UserByEmail(ctx, "nobody@example.test"); return err },
		"UpdateUser":  func() error { _, err := s.first.UpdateUser(ctx, id, user.Change{Name: new("x")}, now()); return err },
		"EnableUser":  func() error { return s.first.EnableUser(ctx, id, e.Event) },
		"DisableUser": func() error { _, err := s.first.DisableUser(ctx, id, e); return err },
		"DeleteUser":  func() error { _, err := s.first.DeleteUser(ctx, id, e); return err },
		"SetRoles":    func() error { return s.first.SetRoles(ctx, id, []string{"x"}, e) },
	} {
		if err := call(); !errors.Is(err, user.ErrNotFound) {
			s.Errorf("%s: %v, want user.ErrNotFound", name, err)
		}
	}
	if err := s.first.ReplacePasswordHash(ctx, id, "a", "b", now()); !errors.Is(err, user.ErrChanged) {
		s.Errorf("ReplacePasswordHash: %v, want user.ErrChanged", err)
	}
	if _, err := s.first.SetPassword(ctx, id, "a", "b", e); !errors.Is(err, user.ErrChanged) {
		s.Errorf("SetPassword: %v, want user.ErrChanged", err)
	}
	ids, err := s.first.EndSessions(ctx, id, session.ID{}, e)
	s.must(err)
	s.same("ended sessions", ids, []session.ID{})
	if n := s.countEvents(id, audit.KindUserDisabled); n != 0 {
		s.Errorf("%d events of a user who does not exist", n)
	}
}

func testLoginAttempts(s *suite) {
	throttle := user.Throttle{Burst: 5, Every: time.Minute}
	begin := func(s *suite, email, ip string, at time.Time) user.Attempt {
		s.Helper()
		a, err := s.first.BeginLogin(s.Context(), user.Try{Email: email, IP: ip, At: at}, throttle)
		s.must(err)
		return a
	}
	wait := func(s *suite, what, email, ip string, at time.Time, want time.Duration) {
		s.Helper()
		if got := begin(s, email, ip, at).RetryAfter; got != want {
			s.Errorf("%s: RetryAfter is %v, want %v", what, got, want)
		}
	}
	at := stored(now())
	strangers := func(email string) user.Refund {
		return user.Refund{Key: user.Try{Email: email}.Keys().Strangers, By: throttle.Every}
	}

	s.run("ok/a burst, then one at a time", func(s *suite) {
		u := s.user()
		for range throttle.Burst {
			wait(s, "burst", u.Email, "", at, 0)
		}
		wait(s, "one too many", u.Email, "", at, time.Minute)
		wait(s, "a refused attempt is not counted", u.Email, "", at.Add(20*time.Second), 40*time.Second)
		wait(s, "just too early", u.Email, "", at.Add(time.Minute-time.Microsecond), time.Microsecond)
		wait(s, "one is free again", u.Email, "", at.Add(time.Minute), 0)
		wait(s, "and not two", u.Email, "", at.Add(time.Minute), time.Minute)
		for range throttle.Burst {
			wait(s, "after a long time", u.Email, "", at.Add(time.Hour), 0)
		}
		wait(s, "a long time does not save up", u.Email, "", at.Add(time.Hour), time.Minute)
	})

	s.run("ok/the user is told with the attempt", func(s *suite) {
		u := s.user()
		u.CreatedAt, u.UpdatedAt = stored(u.CreatedAt), stored(u.UpdatedAt)
		s.same("attempt", begin(s, strings.ToUpper(u.Email), "", at), user.Attempt{User: u, Found: true, Refund: strangers(u.Email)})
	})

	s.run("ok/nobody's address is counted all the same", func(s *suite) {
		for range throttle.Burst {
			s.same("attempt", begin(s, "nobody-at-all@example.test", "", at),
				user.Attempt{Refund: strangers("nobody-at-all@example.test")})
		}
		wait(s, "one too many", "nobody-at-all@example.test", "", at, time.Minute)
	})

	s.run("ok/all spellings of an address are counted together", func(s *suite) {
		for i := range throttle.Burst {
			wait(s, "burst", []string{"caf\u00e9@example.test", "CAFE\u0301@example.test"}[i%2], "", at, 0)
		}
		wait(s, "one too many", "Caf\u00e9@Example.test", "", at, time.Minute)
	})

	s.run("ok/a stranger cannot keep the owner out", func(s *suite) {
		u := s.user()
		row := s.session(u.ID)
		for range throttle.Burst {
			wait(s, "stranger", u.Email, "203.0.113.9", at, 0)
		}
		wait(s, "stranger", u.Email, "203.0.113.9", at, time.Minute)
		wait(s, "another stranger", u.Email, "203.0.113.10", at, time.Minute)
		for range throttle.Burst {
			wait(s, "owner", u.Email, row.IP, at, 0)
		}
		wait(s, "owner", u.Email, row.IP, at, time.Minute)

		other := s.user()
		for range throttle.Burst {
			wait(s, "the IP of one user says nothing about another", other.Email, row.IP, at, 0)
		}
		wait(s, "other", other.Email, "203.0.113.9", at, time.Minute)

		_, err := s.first.EndSession(s.Context(), row.ID, s.ending(u.ID, at, audit.KindSessionEnded, session.ReasonLogout))
		s.must(err)
		wait(s, "the session is over", u.Email, row.IP, at, time.Minute)
	})

	s.run("fail/an address where no session of the user lives any more is a stranger's", func(s *suite) {
		for name, end := range map[string]func(row session.Session) time.Time{
			"ended": func(row session.Session) time.Time {
				_, err := s.first.EndSession(s.Context(), row.ID, s.ending(row.UserID, at, audit.KindSessionEnded, session.ReasonLogout))
				s.must(err)
				return at
			},
			"idle":    func(row session.Session) time.Time { return row.IdleExpiresAt },
			"expired": func(row session.Session) time.Time { return row.ExpiresAt },
		} {
			u := s.user()
			row := s.session(u.ID)
			when := end(row)
			for range throttle.Burst {
				wait(s, name, u.Email, row.IP, when, 0)
			}
			wait(s, name+", and a stranger", u.Email, "203.0.113.9", when, time.Minute)
		}
	})

	s.run("ok/a device of the user has attempts of its own", func(s *suite) {
		u, other := s.user(), s.user()
		known := user.Device{ID: [16]byte{1}, Credential: user.CredentialOf(u.PasswordHash)}
		try := func(what, email, ip string, d user.Device, want time.Duration) {
			s.Helper()
			a, err := s.first.BeginLogin(s.Context(), user.Try{Email: email, IP: ip, Device: d, At: at}, throttle)
			s.must(err)
			if a.RetryAfter != want {
				s.Errorf("%s: RetryAfter is %v, want %v", what, a.RetryAfter, want)
			}
		}
		for i := range throttle.Burst {
			try("strangers", u.Email, fmt.Sprintf("203.0.113.%d", i), user.Device{}, 0)
		}
		try("a stranger at a new address", u.Email, "203.0.113.99", user.Device{}, time.Minute)
		old := known
		old.Credential = user.CredentialOf("a password of before")
		try("a device whose password was changed", u.Email, "203.0.113.99", old, time.Minute)
		for range throttle.Burst {
			try("a known device at a new address", u.Email, "203.0.113.99", known, 0)
		}
		try("whose own guesses are limited", u.Email, "203.0.113.99", known, time.Minute)
		second := known
		second.ID = [16]byte{2}
		try("another known device", u.Email, "203.0.113.99", second, 0)
		for range throttle.Burst {
			try("another user", other.Email, "203.0.113.99", user.Device{}, 0)
		}
		try("a device of one user is none of another", other.Email, "203.0.113.99", known, time.Minute)
	})

	s.run("ok/a login gives its attempt back", func(s *suite) {
		u := s.user()
		row := s.session(u.ID)
		for name, login := range map[string]func(r user.Refund){
			"session": func(r user.Refund) {
				start := s.starting(s.newSession(u.ID))
				start.Refund, start.Session.CreatedAt = r, at
				s.start(start)
			},
			"browser session": func(r user.Refund) {
				b := oauth.BrowserSession{
					Hash:      sha256.Sum256([]byte(rand.Text())),
					UserID:    u.ID,
					AuthTime:  at,
					CreatedAt: at,
					ExpiresAt: at.Add(time.Hour),
					Proof:     oauth.Proof{Refund: r},
				}
				s.must(s.first.SaveBrowserSession(s.Context(), b, oauth.Hash{}))
			},
		} {
			stranger := begin(s, u.Email, "203.0.113.9", at)
			for range 2 * throttle.Burst { // however often it succeeds
				login(stranger.Refund)
				if stranger = begin(s, u.Email, "203.0.113.9", at); stranger.RetryAfter != 0 {
					s.Fatalf("%s: a success was not given back", name)
				}
			}
			for range throttle.Burst - 1 {
				wait(s, name+", strangers", u.Email, "203.0.113.9", at, 0)
			}
			login(stranger.Refund)
			wait(s, name+", one is given back to strangers", u.Email, "203.0.113.9", at, 0)
			wait(s, name+", and no more", u.Email, "203.0.113.9", at, time.Minute)

			var own user.Attempt
			for range throttle.Burst {
				own = begin(s, u.Email, row.IP, at)
			}
			wait(s, name+", the owner's are used up", u.Email, row.IP, at, time.Minute)
			login(own.Refund)
			for range throttle.Burst {
				wait(s, name+", all are given back to the owner", u.Email, row.IP, at, 0)
			}
			login(own.Refund)
			at = at.Add(time.Hour) // all are free again
		}
	})

	s.run("fail/a refused login gives nothing back", func(s *suite) {
		u := s.user()
		var last user.Attempt
		for range throttle.Burst {
			last = begin(s, u.Email, "", at)
		}
		start := s.starting(s.newSession(u.ID))
		start.Refund, start.PasswordHash = last.Refund, "another"
		started, err := s.first.Start(s.Context(), start)
		s.must(err)
		if started.Created {
			s.Fatal("session was started with another password")
		}
		b := oauth.BrowserSession{
			Hash:      oauth.Hash{9},
			UserID:    u.ID,
			AuthTime:  at,
			CreatedAt: at,
			ExpiresAt: at.Add(time.Hour),
			Proof:     oauth.Proof{PasswordHash: "another", Refund: last.Refund},
		}
		if err := s.first.SaveBrowserSession(s.Context(), b, oauth.Hash{}); !errors.Is(err, user.ErrNotFound) {
			s.Fatal(err)
		}
		wait(s, "still counted", u.Email, "", at, time.Minute)
	})

	s.run("ok/PW-04/100 at once on two replicas get no more than the burst", func(s *suite) {
		u := s.user()
		var allowed atomic.Int64
		s.parallel(100, func(i int, st store.Store) error {
			a, err := st.BeginLogin(s.Context(), user.Try{Email: u.Email, At: at}, throttle)
			if err == nil && a.RetryAfter == 0 {
				allowed.Add(1)
			}
			return err
		})
		if n := allowed.Load(); n != int64(throttle.Burst) {
			s.Errorf("%d attempts were allowed, want %d", n, throttle.Burst)
		}
	})

	s.run("ok/100 addresses at once", func(s *suite) {
		s.parallel(100, func(i int, st store.Store) error {
			_, err := st.BeginLogin(s.Context(), user.Try{
				Email: strings.Repeat("a", i+1) + "@many.example.test",
				At:    at.Add(time.Duration(i) * time.Hour),
			}, throttle)
			return err
		})
	})
}

// parallel runs n calls at once, half of them on each handle. Every error fails the test.
func (s *suite) parallel(n int, call func(i int, st store.Store) error) {
	s.Helper()
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		st := s.first
		if i%2 == 1 {
			st = s.second
		}
		wg.Go(func() {
			<-start
			if err := call(i, st); err != nil {
				s.Errorf("call %d: %v", i, err)
			}
		})
	}
	close(start)
	wg.Wait()
}
