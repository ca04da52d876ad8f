package storetest

import (
	"crypto/rand"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/handstamp/handstamp/pkg/account"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/mail"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/upstream"
	"github.com/handstamp/handstamp/pkg/user"
)

// proof returns a proof nobody has stored, for a user or for nobody.
func (s *suite) proof(u user.User, purpose account.Purpose, at time.Time) account.Proof {
	p := account.Proof{
		Purpose: purpose, UserID: u.ID, Email: u.Email, Credential: user.CredentialOf(u.PasswordHash), Data: "d",
		CreatedAt: stored(at), ExpiresAt: stored(at.Add(time.Hour)),
	}
	rand.Read(p.Hash[:])
	rand.Read(p.Flow[:])
	rand.Read(p.CodeHash[:])
	return p
}

func testProofs(s *suite) {
	at := now().Add(time.Hour)
	writer := s.mailWriter(3, 20*time.Minute)

	asked := func(s *suite, u user.User, p account.Proof) account.Asked {
		a := account.Asked{Proof: p, Event: s.event(audit.KindResetAsked, u.ID)}
		a.Event.At = at
		if u.ID == "" {
			to := fmt.Sprintf("nobody-%d@example.test", s.serial.Add(1))
			a.Letter = writer.NoAccount(at, mail.Recipient{Address: to})
		} else {
			a.Letter = writer.Reset(at, mail.Recipient{}, mail.Proof{Token: "t", Code: "12345678"})
		}
		return a
	}
	ask := func(s *suite, u user.User) account.Proof {
		s.Helper()
		p := s.proof(u, account.Reset, at)
		s.must(s.first.AskProof(s.Context(), asked(s, u, p)))
		return p
	}
	find := func(s *suite, p account.Proof) account.Found {
		s.Helper()
		f, err := s.second.ProofByLink(s.Context(), p.Hash, p.Purpose, at)
		s.must(err)
		return f
	}
	gone := func(s *suite, p account.Proof) {
		s.Helper()
		if _, err := s.second.ProofByLink(s.Context(), p.Hash, p.Purpose, at); !errors.Is(err, account.ErrLink) {
			s.Errorf("a proof that should be gone: %v", err)
		}
	}
	reset := func(s *suite, st store.Store, f account.Found, hash string) error {
		e := s.ending(f.User.ID, at, audit.KindPasswordChanged, session.ReasonPasswordReset)
		e.Mail = writer.PasswordChanged(at, audit.Origin{})
		_, err := st.ResetPassword(s.Context(), f, hash, e)
		return err
	}

	s.run("ok/a proof is read as it was written, with its user, its letter and its event", func(s *suite) {
		u := s.user()
		p := s.proof(u, account.Reset, at)
		a := asked(s, u, p)
		s.must(s.first.AskProof(s.Context(), a))
		s.wantEvent(a.Event)
		want, err := s.second.UserByID(s.Context(), u.ID)
		s.must(err)
		s.same("proof", find(s, p), account.Found{Proof: p, User: want})
		s.same("mails", s.mails(s.second, u.Email), []written{{mail.Reset, u.Email, "", ""}})
	})

	s.run("ok/an address without a user gets a letter and a proof of nothing", func(s *suite) {
		p := s.proof(user.User{}, account.Reset, at)
		a := asked(s, user.User{}, p)
		s.must(s.first.AskProof(s.Context(), a))
		s.same("mails", s.mails(s.second, a.Letter.To), []written{{mail.NoAccount, a.Letter.To, "", ""}})
		s.same("proof", find(s, p), account.Found{Proof: p})
	})

	s.run("fail/of another purpose, after its end, of another token", func(s *suite) {
		p := ask(s, s.user())
		for what, call := range map[string]func() error{
			"purpose": func() error { _, err := s.first.ProofByLink(s.Context(), p.Hash, "other", at); return err },
			"time":    func() error { _, err := s.first.ProofByLink(s.Context(), p.Hash, p.Purpose, p.ExpiresAt); return err },
			"token":   func() error { _, err := s.first.ProofByLink(s.Context(), p.Flow, p.Purpose, at); return err },
		} {
			if err := call(); !errors.Is(err, account.ErrLink) {
				s.Errorf("%s: %v", what, err)
			}
		}
		for what, call := range map[string]func() error{
			"purpose": func() error { _, err := s.first.TryCode(s.Context(), p.Flow, "other", at); return err },
			"time":    func() error { _, err := s.first.TryCode(s.Context(), p.Flow, p.Purpose, p.ExpiresAt); return err },
			"flow":    func() error { _, err := s.first.TryCode(s.Context(), p.Hash, p.Purpose, at); return err },
		} {
			if err := call(); !errors.Is(err, account.ErrCode) {
				s.Errorf("code, %s: %v", what, err)
			}
		}
	})

	s.run("fail/TestEM03 an older proof is dead once a newer one is on its way", func(s *suite) {
		u := s.user()
		older := ask(s, u)
		newer := ask(s, u)
		gone(s, older)
		find(s, newer)
	})

	s.run("fail/a mail of a login does not void that of somebody who has signed up with the address", func(s *suite) {
		u := s.user()
		signedUp, login := s.proof(u, account.Verify, at), s.proof(u, account.Verify, at)
		login.Data = ""
		for _, p := range []account.Proof{signedUp, login} {
			s.must(s.first.AskProof(s.Context(), asked(s, u, p)))
		}
		find(s, signedUp)
		find(s, login)
	})

	s.run("ok/a letter beyond its budget leaves the older proof alive", func(s *suite) {
		u := s.user()
		var last account.Proof
		for range 3 {
			last = ask(s, u)
		}
		beyond := s.proof(u, account.Reset, at)
		a := asked(s, u, beyond)
		s.must(s.first.AskProof(s.Context(), a))
		find(s, last)
		gone(s, beyond)
		s.same("events", s.countEvents(u.ID, audit.KindResetAsked), 3)
	})

	s.run("ok/asked for at once on two replicas: one is left", func(s *suite) {
		for range 20 {
			u := s.user()
			proofs := []account.Proof{s.proof(u, account.Reset, at), s.proof(u, account.Reset, at)}
			s.parallel(2, func(i int, st store.Store) error { return st.AskProof(s.Context(), asked(s, u, proofs[i])) })
			left := 0
			for _, p := range proofs {
				if _, err := s.second.ProofByLink(s.Context(), p.Hash, p.Purpose, at); err == nil {
					left++
				}
			}
			s.same("proofs", left, 1)
		}
	})

	s.run("fail/TestEM03 five tries of a code, also in parallel on two replicas", func(s *suite) {
		p := ask(s, s.user())
		var counted atomic.Int64
		s.parallel(20, func(_ int, st store.Store) error {
			_, err := st.TryCode(s.Context(), p.Flow, p.Purpose, at)
			if errors.Is(err, account.ErrCode) {
				return nil
			}
			counted.Add(1)
			return err
		})
		s.same("tries", counted.Load(), int64(account.MaxTries))
	})

	s.run("ok/a try brings the proof", func(s *suite) {
		u := s.user()
		p := ask(s, u)
		f, err := s.second.TryCode(s.Context(), p.Flow, p.Purpose, at)
		s.must(err)
		s.same("proof", f, find(s, p))
	})

	s.run("ok/a reset replaces the password, proves the address, ends sessions and tells the user", func(s *suite) {
		u := s.user()
		row := s.session(u.ID)
		f := find(s, ask(s, u))
		e := s.ending(u.ID, at, audit.KindPasswordChanged, session.ReasonPasswordReset)
		e.Mail = writer.PasswordChanged(at, audit.Origin{})
		ended, err := s.first.ResetPassword(s.Context(), f, "new", e)
		s.must(err)
		s.same("ended", ended, []session.ID{row.ID})
		s.wantEnded(row.ID, at, session.ReasonPasswordReset)
		s.wantEvent(e.Event)
		got, err := s.second.UserByID(s.Context(), u.ID)
		s.must(err)
		s.same("password", got.PasswordHash, "new")
		s.same("verified", got.EmailVerifiedAt, stored(at))
		s.same("mails", s.mails(s.second, u.Email)[1], written{mail.PasswordChanged, u.Email, "", ""})
		gone(s, f.Proof)
	})

	s.run("fail/TestEM03 ten uses of a link at once on two replicas: one succeeds", func(s *suite) {
		for range 10 {
			u := s.user()
			f := find(s, ask(s, u))
			var succeeded atomic.Int64
			s.parallel(10, func(i int, st store.Store) error {
				err := reset(s, st, f, fmt.Sprintf("new %d", i))
				if errors.Is(err, account.ErrLink) {
					return nil
				}
				succeeded.Add(1)
				return err
			})
			s.same("successes", succeeded.Load(), int64(1))
			s.same("events", s.countEvents(u.ID, audit.KindPasswordChanged), 1)
		}
	})

	s.run("fail/TestEM04 no reset once the user has another password, or is disabled, or the link's time is over", func(s *suite) {
		for what, change := range map[string]func(u user.User) error{
			"password": func(u user.User) error {
				return s.first.ReplacePasswordHash(s.Context(), u.ID, u.PasswordHash, "another", at)
			},
			"disabled": func(u user.User) error {
				_, err := s.first.DisableUser(s.Context(), u.ID, s.ending(u.ID, at, audit.KindUserDisabled, session.ReasonUserDisabled))
				return err
			},
			"deleted": func(u user.User) error {
				_, err := s.first.DeleteUser(s.Context(), u.ID, s.ending(u.ID, at, audit.KindUserDeleted, session.ReasonUserDeleted))
				return err
			},
		} {
			u := s.user()
			f := find(s, ask(s, u))
			s.must(change(u))
			if err := reset(s, s.first, f, "new"); !errors.Is(err, account.ErrLink) {
				s.Errorf("%s: %v", what, err)
			}
		}
		f := find(s, ask(s, s.user()))
		e := s.ending(f.User.ID, f.ExpiresAt, audit.KindPasswordChanged, session.ReasonPasswordReset)
		if _, err := s.first.ResetPassword(s.Context(), f, "new", e); !errors.Is(err, account.ErrLink) {
			s.Errorf("after its end: %v", err)
		}
	})

	s.run("fail/TestEM08 the first proof of an address removes identities and factors that were added before", func(s *suite) {
		for _, proven := range []bool{false, true} {
			u := s.newUser()
			if proven {
				u.EmailVerifiedAt = now()
			}
			s.must(s.first.CreateUser(s.Context(), u, s.event(audit.KindUserCreated, u.ID)))
			s.must(s.first.LinkIdentity(s.Context(), upstream.Link{
				UserID:   u.ID,
				Identity: upstream.Identity{Provider: "google", Subject: u.ID},
				At:       now(),
				Event:    s.event(audit.KindIdentityLinked, u.ID),
			}, ""))
			f, codes := s.factor(u.ID)
			s.must(reset(s, s.first, find(s, ask(s, u)), "new"))
			if proven {
				s.wantFactors(u.ID, len(codes), f)
			} else {
				s.wantFactors(u.ID, 0)
			}
			left, err := s.second.Identities(s.Context(), u.ID)
			s.must(err)
			s.same(fmt.Sprintf("identities of a user whose address was proven before: %t", proven), len(left) == 1, proven)
		}
	})

	verifying := func(s *suite, u user.User, data string) account.Proof {
		s.Helper()
		p := s.proof(u, account.Verify, at)
		p.Data = data
		a := asked(s, u, p)
		a.Event.Kind = audit.KindVerifyAsked
		s.must(s.first.AskProof(s.Context(), a))
		return p
	}

	s.run("ok/an address is proven once, and what else there is stays", func(s *suite) {
		u := s.user()
		row := s.session(u.ID)
		f := find(s, verifying(s, u, ""))
		e := s.event(audit.KindEmailVerified, u.ID)
		e.At = at
		var succeeded atomic.Int64
		s.parallel(6, func(_ int, st store.Store) error {
			err := st.VerifyEmail(s.Context(), f, e)
			if errors.Is(err, account.ErrLink) {
				return nil
			}
			succeeded.Add(1)
			return err
		})
		s.same("successes", succeeded.Load(), int64(1))
		s.wantEvent(e)
		got, err := s.second.UserByID(s.Context(), u.ID)
		s.must(err)
		s.same("verified", got.EmailVerifiedAt, stored(at))
		s.same("password", got.PasswordHash, u.PasswordHash)
		s.wantLive(row)
	})

	s.run("fail/no proof of an address for another password, or a disabled user", func(s *suite) {
		e := s.event(audit.KindEmailVerified, "")
		e.At = at
		u := s.user()
		f := find(s, verifying(s, u, ""))
		s.must(s.first.ReplacePasswordHash(s.Context(), u.ID, u.PasswordHash, "another", at))
		if err := s.first.VerifyEmail(s.Context(), f, e); !errors.Is(err, account.ErrLink) {
			s.Errorf("password: %v", err)
		}
		u = s.user()
		f = find(s, verifying(s, u, ""))
		_, err := s.first.DisableUser(s.Context(), u.ID, s.ending(u.ID, at, audit.KindUserDisabled, session.ReasonUserDisabled))
		s.must(err)
		if err := s.first.VerifyEmail(s.Context(), f, e); !errors.Is(err, account.ErrLink) {
			s.Errorf("disabled: %v", err)
		}
	})

	s.run("ok/a user who has signed up begins with the proof, once", func(s *suite) {
		u := s.newUser()
		u.EmailVerifiedAt = at
		f := find(s, verifying(s, user.User{}, "d"))
		e := s.event(audit.KindSignedUp, u.ID)
		e.At = at
		var succeeded atomic.Int64
		s.parallel(6, func(_ int, st store.Store) error {
			err := st.FinishSignup(s.Context(), f, u, e)
			if errors.Is(err, account.ErrLink) {
				return nil
			}
			succeeded.Add(1)
			return err
		})
		s.same("successes", succeeded.Load(), int64(1))
		s.wantEvent(e)
		got, err := s.second.UserByEmail(s.Context(), u.Email)
		s.must(err)
		s.same("user", got.ID, u.ID)
		s.same("verified", got.EmailVerifiedAt, stored(at))
		f = find(s, verifying(s, user.User{}, "d"))
		u.ID = user.NewID(at)
		if err := s.first.FinishSignup(s.Context(), f, u, e); !errors.Is(err, account.ErrLink) {
			s.Errorf("an address that has a user: %v", err)
		}
	})

	s.run("ok/expired proofs are swept in batches", func(s *suite) {
		var last account.Proof
		for range 3 {
			last = ask(s, s.user())
		}
		n, err := s.first.SweepProofs(s.Context(), last.ExpiresAt, 1000)
		s.must(err)
		s.same("before their end", n, 0)
		n, err = s.first.SweepProofs(s.Context(), last.ExpiresAt.Add(time.Second), 2)
		s.must(err)
		s.same("a batch", n, 2)
		_, err = s.first.SweepProofs(s.Context(), last.ExpiresAt.Add(time.Second), 1000)
		s.must(err)
		gone(s, last)
	})
}
