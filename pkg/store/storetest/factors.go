package storetest

import (
	"crypto/rand"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/factor"
	"github.com/handstamp/handstamp/pkg/mail"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/user"
)

// newFactor returns an authenticator nobody has stored.
func (s *suite) newFactor(userID string) factor.Factor {
	at := now().Add(time.Duration(s.serial.Add(1)) * time.Millisecond)
	return factor.Factor{
		ID: factor.NewID(at), UserID: userID, Kind: factor.KindTOTP, Name: "Phone", Secret: []byte{1, 0, 2}, LastStep: 3, CreatedAt: at,
	}
}

// confirming asks to confirm a factor with a first code of a step.
func (s *suite) confirming(f factor.Factor, step int64) factor.Confirmation {
	return factor.Confirmation{
		UserID:        f.UserID,
		FactorID:      f.ID,
		Step:          step,
		At:            now(),
		RecoveryCodes: newHashes(),
		AMR:           []string{"pwd", "otp", "mfa"},
		ACR:           "2",
		Event:         s.event(audit.KindFactorAdded, f.UserID),
	}
}

func newHashes() [][32]byte {
	hashes := make([][32]byte, 3)
	for i := range hashes {
		rand.Read(hashes[i][:])
	}
	return hashes
}

// factor stores a confirmed authenticator of a user whose last step is 10, and returns the hashes of the recovery codes.
func (s *suite) factor(userID string) (factor.Factor, [][32]byte) {
	s.Helper()
	f := s.newFactor(userID)
	s.must(s.first.AddFactor(s.Context(), f, 10))
	c := s.confirming(f, 10)
	_, err := s.first.ConfirmFactor(s.Context(), c)
	s.must(err)
	f.LastStep, f.ConfirmedAt = 10, c.At
	return f, c.RecoveryCodes
}

// use shows a code of a step for another pending login.
func use(f factor.Factor, step int64) user.FactorUse {
	u := user.FactorUse{FactorID: f.ID, Step: step, ExpiresAt: now().Add(5 * time.Minute)}
	rand.Read(u.Login[:])
	return u
}

// storedFactor is what a database keeps of a factor.
func storedFactor(f factor.Factor) factor.Factor {
	f.CreatedAt = stored(f.CreatedAt)
	if !f.ConfirmedAt.IsZero() {
		f.ConfirmedAt = stored(f.ConfirmedAt)
	}
	return f
}

// wantFactors checks what the user has.
func (s *suite) wantFactors(userID string, codes int, want ...factor.Factor) {
	s.Helper()
	for i := range want {
		want[i] = storedFactor(want[i])
	}
	list, n, err := s.second.Factors(s.Context(), userID)
	s.must(err)
	s.same("factors", list, want)
	s.same("recovery codes", n, codes)
}

func testFactors(s *suite) {
	ctx := s.Context()
	s.run("ok/a factor counts once it is confirmed", func(s *suite) {
		u := s.user()
		f := s.newFactor(u.ID)
		s.must(s.first.AddFactor(ctx, f, 10))
		s.wantFactors(u.ID, 0, f)
		s.session(u.ID)
		row := s.session(u.ID)
		c := s.confirming(f, 10)
		c.SessionID = row.ID
		c.Mail = mail.NewNotices().FactorAdded(c.At, f.Name, audit.Origin{IP: "192.0.2.7"})
		kept, err := s.first.ConfirmFactor(ctx, c)
		s.must(err)
		s.same("kept", kept, true)
		f.LastStep, f.ConfirmedAt = 10, c.At
		s.wantFactors(u.ID, 3, f)
		s.wantEvent(c.Event)
		s.same("mails", s.mails(s.second, u.Email), []written{{mail.FactorAdded, u.Email, "", "192.0.2.7"}})
		raised, err := s.second.Session(ctx, row.ID)
		s.must(err)
		s.same("amr", raised.AMR, c.AMR)
		s.same("acr", raised.ACR, c.ACR)

		if _, err := s.first.ConfirmFactor(ctx, c); !errors.Is(err, factor.ErrNotFound) {
			s.Errorf("confirmed twice: %v", err)
		}
		s.same("mails", len(s.mails(s.second, u.Email)), 1)
		started, err := s.first.Start(ctx, s.starting(s.newSession(u.ID)))
		s.must(err)
		s.same("a session without it", [2]bool{started.Created, started.HasFactors}, [2]bool{false, true})
	})
	s.run("ok/one that waits makes way for another", func(s *suite) {
		u := s.user()
		before, after := s.newFactor(u.ID), s.newFactor(u.ID)
		s.must(s.first.AddFactor(ctx, before, 10))
		s.must(s.first.AddFactor(ctx, after, 10))
		s.wantFactors(u.ID, 0, after)
	})
	s.run("ok/a second factor keeps the recovery codes", func(s *suite) {
		u := s.user()
		one, _ := s.factor(u.ID)
		two := s.newFactor(u.ID)
		s.must(s.first.AddFactor(ctx, two, 2))
		kept, err := s.first.ConfirmFactor(ctx, s.confirming(two, 20))
		s.must(err)
		s.same("kept", kept, false)
		two.LastStep, two.ConfirmedAt = 20, now()
		s.wantFactors(u.ID, 3, one, two)
		if err := s.first.AddFactor(ctx, s.newFactor(u.ID), 2); !errors.Is(err, factor.ErrTooMany) {
			s.Errorf("a third: %v", err)
		}
	})
	s.run("fail/of nobody, of another, of a used step", func(s *suite) {
		u, other := s.user(), s.user()
		if err := s.first.AddFactor(ctx, s.newFactor("usr_nobody"), 10); !errors.Is(err, user.ErrNotFound) {
			s.Errorf("of nobody: %v", err)
		}
		f := s.newFactor(u.ID)
		s.must(s.first.AddFactor(ctx, f, 10))
		c := s.confirming(f, 10)
		c.UserID = other.ID
		if _, err := s.first.ConfirmFactor(ctx, c); !errors.Is(err, factor.ErrNotFound) {
			s.Errorf("by another: %v", err)
		}
		if _, err := s.first.ConfirmFactor(ctx, s.confirming(f, f.LastStep)); !errors.Is(err, factor.ErrNotFound) {
			s.Errorf("a used step: %v", err)
		}
		s.wantFactors(u.ID, 0, f)
		for what, err := range map[string]error{
			"rename": s.first.RenameFactor(ctx, other.ID, f.ID, "Mine"),
			"remove": s.first.RemoveFactor(ctx, factor.Removal{UserID: other.ID, FactorID: f.ID}),
			"codes":  s.first.ReplaceRecoveryCodes(ctx, u.ID, newHashes(), s.event(audit.KindRecoveryReplaced, u.ID)),
		} {
			if !errors.Is(err, factor.ErrNotFound) {
				s.Errorf("%s: %v", what, err)
			}
		}
	})
	s.run("ok/rename, replace the codes, remove", func(s *suite) {
		u := s.user()
		f, codes := s.factor(u.ID)
		s.must(s.first.RenameFactor(ctx, u.ID, f.ID, "Tablet"))
		f.Name = "Tablet"
		e := s.event(audit.KindRecoveryReplaced, u.ID)
		s.must(s.first.ReplaceRecoveryCodes(ctx, u.ID, append(newHashes(), newHashes()...), e))
		s.wantFactors(u.ID, 6, f)
		s.wantEvent(e)
		start := s.starting(s.newSession(u.ID))
		start.ShowsFactors, start.Factor = true, use(f, 0)
		start.Factor.FactorID, start.Factor.RecoveryCode = "", codes[0]
		started, err := s.first.Start(ctx, start)
		s.must(err)
		s.same("a replaced code", started.Created, false)

		r := factor.Removal{
			UserID: u.ID, FactorID: f.ID, Event: s.event(audit.KindFactorRemoved, u.ID),
			Mail: mail.NewNotices().FactorRemoved(now(), f.Name, audit.Origin{}),
		}
		s.must(s.first.RemoveFactor(ctx, r))
		s.wantFactors(u.ID, 0)
		s.wantEvent(r.Event)
		s.same("mails", s.mails(s.second, u.Email), []written{{mail.FactorRemoved, u.Email, "", ""}})
		if err := s.first.RemoveFactor(ctx, r); !errors.Is(err, factor.ErrNotFound) {
			s.Errorf("removed twice: %v", err)
		}
		s.same("mails", len(s.mails(s.second, u.Email)), 1)
		s.session(u.ID) // needs no factor any more
	})
	s.run("ok/one that is not confirmed goes without a word", func(s *suite) {
		u := s.user()
		f := s.newFactor(u.ID)
		s.must(s.first.AddFactor(ctx, f, 10))
		r := factor.Removal{
			UserID: u.ID, FactorID: f.ID, Event: s.event(audit.KindFactorRemoved, u.ID),
			Mail: mail.NewNotices().FactorRemoved(now(), f.Name, audit.Origin{}),
		}
		s.must(s.first.RemoveFactor(ctx, r))
		s.same("mails", s.mails(s.second, u.Email), []written(nil))
		s.same("events", s.countEvents(u.ID, audit.KindFactorRemoved), 0)
	})
	s.run("ok/tries are counted, and a login gives its own back", func(s *suite) {
		u := s.user()
		f, _ := s.factor(u.ID)
		at := stored(now())
		var last factor.Try
		for i := range 5 {
			try, err := s.first.BeginFactorTry(ctx, u.ID, at.Add(time.Duration(i)*time.Second), 5, 15*time.Minute)
			s.must(err)
			s.same("wait", try.RetryAfter, time.Duration(0))
			s.same("factors", try.Factors, []factor.Factor{storedFactor(f)})
			last = try
		}
		later := at.Add(15*time.Minute - time.Second)
		try, err := s.second.BeginFactorTry(ctx, u.ID, later, 5, 15*time.Minute)
		s.must(err)
		s.same("a sixth", try, factor.Try{RetryAfter: stored(at).Add(15 * time.Minute).Sub(later).Round(time.Microsecond)})
		try, err = s.second.BeginFactorTry(ctx, u.ID, at.Add(15*time.Minute), 5, 15*time.Minute)
		s.must(err)
		s.same("a sixth after the window", try.RetryAfter, time.Duration(0))

		start := s.starting(s.newSession(u.ID))
		start.ShowsFactors, start.Factor = true, use(f, 11)
		start.Factor.Try = last.ID
		s.start(start)
		try, err = s.second.BeginFactorTry(ctx, u.ID, at.Add(15*time.Minute), 5, 15*time.Minute)
		s.must(err)
		s.same("after a login", try.RetryAfter, time.Duration(0))
		try, err = s.second.BeginFactorTry(ctx, u.ID, at.Add(15*time.Minute), 5, 15*time.Minute)
		s.must(err)
		s.same("another", try.RetryAfter > 0, true)
	})
	s.run("ok/expired rows are swept", func(s *suite) {
		u := s.user()
		f, _ := s.factor(u.ID)
		start := s.starting(s.newSession(u.ID))
		start.ShowsFactors, start.Factor = true, use(f, 11)
		s.start(start)
		s.must(s.first.AddFactor(ctx, s.newFactor(u.ID), 10))
		_, err := s.first.BeginFactorTry(ctx, u.ID, now(), 5, time.Minute)
		s.must(err)
		for range 20 {
			n, err := s.first.SweepFactors(ctx, now().Add(time.Hour), 1)
			s.must(err)
			if n == 0 {
				break
			}
			s.same("swept at once", n, 1)
		}
		list, _, err := s.first.Factors(ctx, u.ID)
		s.must(err)
		s.same("factors", len(list), 1)
		n, err := s.first.SweepFactors(ctx, now().Add(time.Hour), 100)
		s.must(err)
		s.same("left", n, 0)
	})
	s.run("ok/a deleted user leaves nothing", func(s *suite) {
		u := s.user()
		s.factor(u.ID)
		_, err := s.first.DeleteUser(ctx, u.ID, s.ending(u.ID, now(), audit.KindUserDeleted, session.ReasonUserDeleted))
		s.must(err)
		s.wantFactors(u.ID, 0)
	})
	testFactorUses(s)
}

// testFactorUses holds both ways to begin a session to the same rules.
func testFactorUses(s *suite) {
	ctx := s.Context()
	// Each starts something with a factor, and reports why not.
	ways := map[string]func(s *suite, st store.Store, u user.User, shows bool, f user.FactorUse) error{
		"session": func(s *suite, st store.Store, u user.User, shows bool, f user.FactorUse) error {
			start := s.starting(s.newSession(u.ID))
			start.ShowsFactors, start.Factor = shows, f
			started, err := st.Start(ctx, start)
			switch {
			case err != nil || started.Created:
				return err
			case started.HasFactors && !shows:
				return user.ErrFactorNeeded
			case !f.IsZero() && !started.FactorUsed:
				return user.ErrFactorUsed
			}
			return errors.New("not created")
		},
		"browser session": func(_ *suite, st store.Store, u user.User, shows bool, f user.FactorUse) error {
			b := oauth.BrowserSession{UserID: u.ID, AuthTime: now(), CreatedAt: now(), ExpiresAt: now().Add(time.Hour)}
			rand.Read(b.Hash[:])
			b.Proof = oauth.Proof{PasswordHash: u.PasswordHash, ShowsFactors: shows, Factor: f}
			return st.SaveBrowserSession(ctx, b, oauth.Hash{})
		},
	}
	for name, begin := range ways {
		s.run("ok/a "+name+" uses a step up", func(s *suite) {
			u := s.user()
			f, codes := s.factor(u.ID)
			want := func(what string, err, want error) {
				s.Helper()
				if !errors.Is(err, want) {
					s.Errorf("%s: %v, want %v", what, err, want)
				}
			}
			want("nothing shown", begin(s, s.first, u, false, user.FactorUse{}), user.ErrFactorNeeded)
			want("the step of the enrolment", begin(s, s.first, u, true, use(f, 10)), user.ErrFactorUsed)
			first := use(f, 12)
			want("a step", begin(s, s.first, u, true, first), nil)
			want("the same step", begin(s, s.second, u, true, use(f, 12)), user.ErrFactorUsed)
			want("an older step", begin(s, s.second, u, true, use(f, 11)), user.ErrFactorUsed)
			again := first
			again.Step = 13
			want("the same pending login", begin(s, s.second, u, true, again), user.ErrFactorUsed)
			want("another's factor", begin(s, s.first, s.user(), true, use(f, 20)), user.ErrFactorUsed)
			code := use(factor.Factor{}, 0)
			code.RecoveryCode = codes[0]
			want("a recovery code", begin(s, s.first, u, true, code), nil)
			rand.Read(code.Login[:])
			want("the same recovery code", begin(s, s.second, u, true, code), user.ErrFactorUsed)
			code.RecoveryCode = codes[1]
			want("another's recovery code", begin(s, s.second, s.user(), true, code), user.ErrFactorUsed)
			want("as shown before", begin(s, s.first, u, true, user.FactorUse{}), nil)
			list, n, err := s.second.Factors(ctx, u.ID)
			s.must(err)
			s.same("recovery codes", n, len(codes)-1)
			s.same("last use", list[0].LastUsedAt.IsZero(), false)
		})
		for kind, of := range map[string]func(f factor.Factor, codes [][32]byte) user.FactorUse{
			"step": func(f factor.Factor, _ [][32]byte) user.FactorUse { return use(f, 30) },
			"recovery code": func(_ factor.Factor, codes [][32]byte) user.FactorUse {
				u := use(factor.Factor{}, 0)
				u.RecoveryCode = codes[0]
				return u
			},
		} {
			s.run("ok/of 50 "+name+"s with one "+kind+" one begins", func(s *suite) {
				u := s.user()
				f, codes := s.factor(u.ID)
				var group sync.WaitGroup
				var began atomic.Int64
				for i := range 50 {
					st := s.first
					if i%2 == 1 {
						st = s.second
					}
					group.Go(func() {
						err := begin(s, st, u, true, of(f, codes))
						if err == nil {
							began.Add(1)
						} else if !errors.Is(err, user.ErrFactorUsed) {
							s.Error(err)
						}
					})
				}
				group.Wait()
				s.same("began", began.Load(), int64(1))
			})
		}
	}
	s.run("ok/a browser session from before says that a factor is needed", func(s *suite) {
		u := s.user()
		b := oauth.BrowserSession{
			UserID:    u.ID,
			AMR:       []string{"pwd"},
			AuthTime:  now(),
			CreatedAt: now(),
			ExpiresAt: now().Add(time.Hour),
		}
		rand.Read(b.Hash[:])
		s.must(s.first.SaveBrowserSession(ctx, b, oauth.Hash{}))
		read, err := s.second.BrowserSession(ctx, b.Hash, now())
		s.must(err)
		s.same("without a factor", read.FactorNeeded, false)
		f, _ := s.factor(u.ID)
		read, err = s.second.BrowserSession(ctx, b.Hash, now())
		s.must(err)
		s.same("with one", read.FactorNeeded, true)
		b.AMR, b.Proof = []string{"pwd", "otp", "mfa"}, oauth.Proof{ShowsFactors: true, Factor: use(f, 11)}
		rand.Read(b.Hash[:])
		s.must(s.first.SaveBrowserSession(ctx, b, oauth.Hash{}))
		read, err = s.second.BrowserSession(ctx, b.Hash, now())
		s.must(err)
		s.same("with one that was shown", read.FactorNeeded, false)
	})
	s.run("ok/50 tries at once", func(s *suite) {
		u := s.user()
		s.factor(u.ID)
		var group sync.WaitGroup
		var allowed atomic.Int64
		for i := range 50 {
			st := s.first
			if i%2 == 1 {
				st = s.second
			}
			group.Go(func() {
				try, err := st.BeginFactorTry(ctx, u.ID, now(), 5, 15*time.Minute)
				if err != nil {
					s.Error(err)
				} else if try.RetryAfter == 0 {
					allowed.Add(1)
				}
			})
		}
		group.Wait()
		s.same("allowed", allowed.Load(), int64(5))
	})
}

// exerciseFactors runs each statement of second factors.
func exerciseFactors(t *testing.T, st store.Store, userID string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, event, later := t.Context(), audit.Event{At: now(), UserID: userID}, now().Add(time.Hour)
	letter := mail.NewNotices().FactorAdded(now(), "Phone", audit.Origin{})
	f := factor.Factor{ID: "fac_exercise", UserID: userID, Kind: factor.KindTOTP, Secret: []byte{1}, CreatedAt: now()}
	must(st.AddFactor(ctx, f, 5))
	codes := newHashes()
	_, err := st.ConfirmFactor(ctx, factor.Confirmation{
		UserID: userID, FactorID: f.ID, Step: 1, At: now(), RecoveryCodes: codes, Event: event, Mail: letter,
	})
	must(err)
	_, _, err = st.Factors(ctx, userID)
	must(err)
	must(st.RenameFactor(ctx, userID, f.ID, "Tablet"))
	try, err := st.BeginFactorTry(ctx, userID, now(), 5, time.Minute)
	must(err)
	b := oauth.BrowserSession{Hash: oauth.Hash{9}, UserID: userID, AuthTime: now(), CreatedAt: now(), ExpiresAt: later}
	b.Proof = oauth.Proof{ShowsFactors: true, Factor: user.FactorUse{FactorID: f.ID, Step: 2, ExpiresAt: later, Try: try.ID}}
	rand.Read(b.Proof.Factor.Login[:])
	must(st.SaveBrowserSession(ctx, b, oauth.Hash{}))
	row := session.Session{
		ID: session.NewID(now()), UserID: userID, ClientID: oauth.DefaultClientID, RotatedAt: now(), IdleExpiresAt: later,
		ExpiresAt: later, AuthTime: now(), CreatedAt: now(),
	}
	start := session.Start{Session: row, Limit: 5, BlockUntil: now(), Event: event, ShowsFactors: true, Factor: b.Proof.Factor}
	start.Factor.FactorID, start.Factor.RecoveryCode = "", codes[0]
	rand.Read(start.Factor.Login[:])
	started, err := st.Start(ctx, start)
	must(err)
	if !started.Created {
		t.Fatal("no session")
	}
	must(st.ReplaceRecoveryCodes(ctx, userID, newHashes(), event))
	must(st.RemoveFactor(ctx, factor.Removal{UserID: userID, FactorID: f.ID, Event: event, Mail: letter}))
	_, err = st.SweepFactors(ctx, later.Add(time.Hour), 5)
	must(err)
}
