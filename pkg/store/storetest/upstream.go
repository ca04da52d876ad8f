package storetest

import (
	"crypto/rand"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/upstream"
	"github.com/handstamp/handstamp/pkg/user"
)

// newLink returns a link to an identity that nobody has.
func (s *suite) newLink(userID, provider string) upstream.Link {
	return upstream.Link{
		UserID: userID, At: now(), Event: s.event(audit.KindIdentityLinked, userID),
		Identity: upstream.Identity{
			Provider:      provider,
			Subject:       rand.Text(),
			Email:         "Someone@example.test",
			EmailVerified: true,
			Name:          "Zoë",
		},
	}
}

// link links a user to a provider.
func (s *suite) link(userID, provider string) upstream.Identity {
	s.Helper()
	l := s.newLink(userID, provider)
	s.must(s.first.LinkIdentity(s.Context(), l, ""))
	return l.Identity
}

// adoption asks to give a user to the owner of a new identity.
func (s *suite) adoption(u user.User, at time.Time) upstream.Adoption {
	a := upstream.Adoption{Link: s.newLink(u.ID, "acme"), Email: u.Email, BlockUntil: blockUntil(at)}
	a.At, a.Event.At = at, at
	return a
}

// verified stores a user whose address is proven.
func (s *suite) verified() user.User {
	s.Helper()
	u := s.newUser()
	u.EmailVerifiedAt = now()
	s.must(s.first.CreateUser(s.Context(), u, s.event(audit.KindUserCreated, u.ID)))
	return u
}

// disabled stores a user who is kept out.
func (s *suite) disabled(u user.User) user.User {
	s.Helper()
	_, err := s.first.DisableUser(s.Context(), u.ID, s.ending(u.ID, now(), audit.KindUserDisabled, session.ReasonUserDisabled))
	s.must(err)
	return u
}

// identities lists a user's by provider and subject.
func (s *suite) identities(userID string) map[string]string {
	s.Helper()
	list, err := s.second.Identities(s.Context(), userID)
	s.must(err)
	out := map[string]string{}
	for _, i := range list {
		out[i.Provider] = i.Subject
	}
	return out
}

func testAttempts(s *suite) {
	newAttempt := func() upstream.Attempt {
		return upstream.Attempt{
			StateHash: newHash(), BrowserHash: newHash(), Provider: "acme", RedirectURI: "https://id.example.test/oauth2/callback/acme",
			UserID: "usr_x", Continue: "a=b&c='%22", ExpiresAt: stored(now().Add(10 * time.Minute)),
		}
	}
	missing := func(s *suite, state [32]byte, at time.Time) {
		s.Helper()
		if _, err := s.second.TakeAttempt(s.Context(), state, at); !errors.Is(err, upstream.ErrNotFound) {
			s.Errorf("TakeAttempt: %v, want ErrNotFound", err)
		}
	}

	s.run("ok/OA-01/taken once", func(s *suite) {
		for _, userID := range []string{"usr_x", ""} {
			a := newAttempt()
			a.UserID = userID
			s.must(s.first.SaveAttempt(s.Context(), a))
			got, err := s.second.TakeAttempt(s.Context(), a.StateHash, a.ExpiresAt.Add(-time.Microsecond))
			s.must(err)
			s.same("attempt", got, a)
			missing(s, a.StateHash, now())
		}
	})
	s.run("fail/OA-01/unknown or expired", func(s *suite) {
		missing(s, newHash(), now())
		a := newAttempt()
		s.must(s.first.SaveAttempt(s.Context(), a))
		missing(s, a.StateHash, a.ExpiresAt)
	})
	s.run("ok/OA-01/of all who take one succeeds", func(s *suite) {
		for range 5 {
			a := newAttempt()
			s.must(s.first.SaveAttempt(s.Context(), a))
			var won atomic.Int64
			s.parallel(20, func(_ int, st store.Store) error {
				_, err := st.TakeAttempt(s.Context(), a.StateHash, now())
				if errors.Is(err, upstream.ErrNotFound) {
					return nil
				}
				won.Add(1)
				return err
			})
			s.same("taken", won.Load(), int64(1))
		}
	})

	s.run("fail/OA-03/an ID token is used once", func(s *suite) {
		h := newHash()
		s.must(s.first.UseIDToken(s.Context(), h, now().Add(time.Hour)))
		if err := s.second.UseIDToken(s.Context(), h, now().Add(2*time.Hour)); !errors.Is(err, upstream.ErrReplayed) {
			s.Errorf("UseIDToken: %v, want ErrReplayed", err)
		}
		s.must(s.second.UseIDToken(s.Context(), newHash(), now().Add(time.Hour)))
	})
	s.run("ok/OA-03/of all who use an ID token one succeeds", func(s *suite) {
		h := newHash()
		var won atomic.Int64
		s.parallel(20, func(_ int, st store.Store) error {
			err := st.UseIDToken(s.Context(), h, now().Add(time.Hour))
			if errors.Is(err, upstream.ErrReplayed) {
				return nil
			}
			won.Add(1)
			return err
		})
		s.same("used", won.Load(), int64(1))
	})

	s.run("ok/swept", func(s *suite) {
		before := now().Add(-48 * time.Hour)
		for i := range 15 {
			end := before.Add(-time.Duration(i+1) * time.Microsecond)
			a := newAttempt()
			a.ExpiresAt = end
			s.must(s.first.SaveAttempt(s.Context(), a))
			s.must(s.first.UseIDToken(s.Context(), newHash(), end))
		}
		a, h := newAttempt(), newHash()
		a.ExpiresAt = before
		s.must(s.first.SaveAttempt(s.Context(), a))
		s.must(s.first.UseIDToken(s.Context(), h, before))
		s.sweep(30, 4, func(st store.Store, limit int) (int, error) { return st.SweepUpstream(s.Context(), before, limit) })
		_, err := s.first.TakeAttempt(s.Context(), a.StateHash, before.Add(-time.Second))
		s.must(err)
		if err := s.first.UseIDToken(s.Context(), h, before); !errors.Is(err, upstream.ErrReplayed) {
			s.Errorf("UseIDToken: %v, want ErrReplayed", err)
		}
	})
}

func testIdentities(s *suite) {
	at := now().Add(time.Hour)
	conflict := func(s *suite, err error) {
		s.Helper()
		if !errors.Is(err, upstream.ErrConflict) {
			s.Errorf("%v, want ErrConflict", err)
		}
	}

	s.run("ok/known", func(s *suite) {
		owner, candidate, self, locked := s.user(), s.verified(), s.user(), s.disabled(s.verified())
		id := s.link(owner.ID, "acme")
		s.link(self.ID, "acme")
		s.link(candidate.ID, "another")
		for name, c := range map[string]struct {
			question upstream.Question
			want     upstream.Known
		}{
			"nobody": {upstream.Question{
				Provider: "acme",
				Subject:  "unknown",
				Email:    "unknown@example.test",
				UserID:   "usr_unknown",
			}, upstream.Known{}},
			"nobody by nothing": {upstream.Question{Provider: "acme", Subject: "unknown"}, upstream.Known{}},
			"owner": {
				upstream.Question{Provider: "acme", Subject: id.Subject},
				upstream.Known{Owner: &upstream.Person{UserID: owner.ID, Email: owner.Email, HasProvider: true}},
			},
			"not at another provider": {upstream.Question{Provider: "another", Subject: id.Subject}, upstream.Known{}},
			"candidate, in any case": {
				upstream.Question{Provider: "acme", Subject: "unknown", Email: "u" + candidate.Email[1:]},
				upstream.Known{Candidates: []upstream.Person{{UserID: candidate.ID, Email: candidate.Email, EmailVerified: true}}},
			},
			"all": {
				upstream.Question{Provider: "acme", Subject: id.Subject, Email: locked.Email, UserID: self.ID},
				upstream.Known{
					Owner:      &upstream.Person{UserID: owner.ID, Email: owner.Email, HasProvider: true},
					Candidates: []upstream.Person{{UserID: locked.ID, Email: locked.Email, EmailVerified: true, Disabled: true}},
					Self:       &upstream.Person{UserID: self.ID, Email: self.Email, HasProvider: true},
				},
			},
		} {
			got, err := s.second.Known(s.Context(), c.question)
			s.must(err)
			s.same(name, got, c.want)
		}
	})

	s.run("ok/linked and listed", func(s *suite) {
		u := s.verified()
		b, a := s.newLink(u.ID, "bbb"), s.newLink(u.ID, "aaa")
		a.Identity.Email = ""
		s.must(s.first.LinkIdentity(s.Context(), b, u.Email))
		s.must(s.first.LinkIdentity(s.Context(), a, ""))
		s.wantEvent(b.Event)
		got, err := s.second.Identities(s.Context(), u.ID)
		s.must(err)
		s.same("identities", got, []upstream.LinkedIdentity{
			{Provider: "aaa", Subject: a.Identity.Subject, LinkedAt: stored(now())},
			{Provider: "bbb", Subject: b.Identity.Subject, Email: "Someone@example.test", LinkedAt: stored(now())},
		})
	})

	taken := s.link(s.user().ID, "acme")
	for name, c := range map[string]struct {
		user   user.User
		change func(l *upstream.Link)
		email  func(u user.User) string
	}{
		"unknown user":                {user: s.newUser()},
		"disabled user":               {user: s.disabled(s.user())},
		"address not proven":          {user: s.user(), email: func(u user.User) string { return u.Email }},
		"another address":             {user: s.verified(), email: func(user.User) string { return "another@example.test" }},
		"the address in another case": {user: s.verified(), email: func(u user.User) string { return strings.ToLower(u.Email) }},
		"linked to another":           {user: s.user(), change: func(l *upstream.Link) { l.Identity = taken }},
		"another is linked":           {user: func() user.User { u := s.user(); s.link(u.ID, "acme"); return u }()},
		"disabled and proven":         {user: s.disabled(s.verified()), email: func(u user.User) string { return u.Email }},
	} {
		s.run("fail/link/"+name, func(s *suite) {
			before := s.identities(c.user.ID)
			l := s.newLink(c.user.ID, "acme")
			if c.change != nil {
				c.change(&l)
			}
			email := ""
			if c.email != nil {
				email = c.email(c.user)
			}
			conflict(s, s.first.LinkIdentity(s.Context(), l, email))
			s.same("identities", s.identities(c.user.ID), before)
			if n := s.countEvents(c.user.ID, audit.KindIdentityLinked); n != len(before) {
				s.Errorf("%d events for %d identities", n, len(before))
			}
		})
	}

	s.run("ok/created with an identity", func(s *suite) {
		u := s.newUser()
		u.PasswordHash, u.EmailVerifiedAt = "", now()
		l := s.newLink(u.ID, "acme")
		s.must(s.first.CreateUserWithIdentity(s.Context(), u, l))
		s.wantEvent(l.Event)
		got, err := s.second.UserByEmail(s.Context(), u.Email)
		s.must(err)
		s.same("ID", got.ID, u.ID)
		s.same("identities", s.identities(u.ID), map[string]string{"acme": l.Identity.Subject})
	})

	s.run("ok/several users without an address", func(s *suite) {
		for range 2 {
			u := s.newUser()
			u.Email, u.PasswordHash = "", ""
			s.must(s.first.CreateUserWithIdentity(s.Context(), u, s.newLink(u.ID, "acme")))
			got, err := s.second.UserByID(s.Context(), u.ID)
			s.must(err)
			s.same("address", got.Email, "")
			if _, err := s.first.UserByEmail(s.Context(), ""); !errors.Is(err, user.ErrNotFound) {
				s.Errorf("UserByEmail: %v, want ErrNotFound", err)
			}
			defer func() {
				_, err := s.first.DeleteUser(s.Context(), u.ID, s.ending(u.ID, at, audit.KindUserDeleted, session.ReasonUserDeleted))
				s.must(err)
			}()
		}
	})

	s.run("fail/create/address or identity taken", func(s *suite) {
		owner := s.user()
		id := s.link(owner.ID, "acme")
		byEmail, byIdentity := s.newUser(), s.newUser()
		byEmail.Email = "u" + owner.Email[1:]
		conflict(s, s.first.CreateUserWithIdentity(s.Context(), byEmail, s.newLink(byEmail.ID, "acme")))
		l := s.newLink(byIdentity.ID, "acme")
		l.Identity = id
		conflict(s, s.first.CreateUserWithIdentity(s.Context(), byIdentity, l))
		for _, u := range []user.User{byEmail, byIdentity} {
			if _, err := s.second.UserByID(s.Context(), u.ID); !errors.Is(err, user.ErrNotFound) {
				s.Errorf("UserByID: %v, want ErrNotFound", err)
			}
			s.same("identities", s.identities(u.ID), map[string]string{})
			s.same("events", s.countEvents(u.ID, audit.KindIdentityLinked), 0)
		}
		s.same("identities", s.identities(owner.ID), map[string]string{"acme": id.Subject})
	})

	s.run("ok/EM-08/adopted without anything that was not proven", func(s *suite) {
		u, other := s.user(), s.user()
		stranger := s.session(other.ID)
		old := s.link(u.ID, "acme")
		s.link(u.ID, "another")
		s.must(s.first.SaveTokens(s.Context(), "acme", old.Subject, []byte("sealed")))
		rows := []session.Session{s.session(u.ID), s.redeem(s.browserSession(u.ID))}

		a := s.adoption(u, at)
		s.must(s.first.AdoptUser(s.Context(), a))
		s.wantEvent(a.Event)
		s.same("events", s.countEvents(u.ID, audit.KindIdentityLinked), 3)
		for _, row := range rows {
			s.wantEnded(row.ID, at, session.ReasonAdopted)
		}
		s.wantLive(stranger)
		got, err := s.second.UserByID(s.Context(), u.ID)
		s.must(err)
		u.PasswordHash, u.Name, u.EmailVerifiedAt, u.UpdatedAt, u.CreatedAt = "", a.Identity.Name, stored(at), stored(at), stored(
			u.CreatedAt)
		s.same("user", got, u)
		list, err := s.second.Identities(s.Context(), u.ID)
		s.must(err)
		s.same("identities", list, []upstream.LinkedIdentity{{
			Provider: "acme",
			Subject:  a.Identity.Subject,
			Email:    a.Identity.Email,
			LinkedAt: stored(at),
		}})
		if known, err := s.second.Known(s.Context(), upstream.Question{Provider: "acme", Subject: old.Subject}); err != nil ||
			known.Owner != nil {
			s.Errorf("Known: %+v, %v", known, err)
		}
	})

	for name, c := range map[string]struct {
		user   user.User
		change func(a *upstream.Adoption)
	}{
		"unknown user":       {user: s.newUser()},
		"disabled user":      {user: s.disabled(s.user())},
		"address was proven": {user: s.verified()},
		"another address":    {user: s.user(), change: func(a *upstream.Adoption) { a.Email = "another@example.test" }},
		"no address":         {user: s.user(), change: func(a *upstream.Adoption) { a.Email = "" }},
		"identity is linked": {user: s.user(), change: func(a *upstream.Adoption) { a.Identity = taken }},
	} {
		s.run("fail/adopt/"+name, func(s *suite) {
			before, _ := s.first.UserByID(s.Context(), c.user.ID)
			var row session.Session
			var b oauth.BrowserSession
			alive := before.ID != "" && !before.Disabled()
			if alive {
				row, b = s.session(c.user.ID), s.browserSession(c.user.ID)
				s.link(c.user.ID, "another")
			}
			identities := s.identities(c.user.ID)
			a := s.adoption(c.user, at)
			if c.change != nil {
				c.change(&a)
			}
			a.Event.Kind = audit.KindSignedUp // to tell it from the others
			conflict(s, s.first.AdoptUser(s.Context(), a))
			after, _ := s.first.UserByID(s.Context(), c.user.ID)
			s.same("user", after, before)
			s.same("identities", s.identities(c.user.ID), identities)
			s.same("events", s.countEvents(c.user.ID, audit.KindSignedUp), 0)
			if alive {
				s.wantLive(row)
				if !s.loggedIn(b) {
					s.Error("the browser was logged out")
				}
			}
		})
	}

	removal := func(s *suite, userID, provider string) upstream.Removal {
		return upstream.Removal{
			UserID:    userID,
			Provider:  provider,
			Providers: []string{"acme", "other"},
			Event:     s.event(audit.KindIdentityRemoved, userID),
		}
	}
	// noPassword creates a user who has no password.
	noPassword := func(s *suite) user.User {
		s.Helper()
		u := s.newUser()
		u.PasswordHash = ""
		s.must(s.first.CreateUserWithIdentity(s.Context(), u, s.newLink(u.ID, "acme")))
		return u
	}

	s.run("ok/removed", func(s *suite) {
		withPassword, without := s.user(), noPassword(s)
		s.link(withPassword.ID, "acme")
		s.link(without.ID, "other")
		for _, u := range []user.User{withPassword, without} {
			r := removal(s, u.ID, "acme")
			s.must(s.first.RemoveIdentity(s.Context(), r))
			s.wantEvent(r.Event)
			if _, linked := s.identities(u.ID)["acme"]; linked {
				s.Error("the identity is still linked")
			}
			if err := s.second.RemoveIdentity(s.Context(), removal(s, u.ID, "acme")); !errors.Is(err, upstream.ErrNotFound) {
				s.Errorf("RemoveIdentity: %v, want ErrNotFound", err)
			}
			s.same("events", s.countEvents(u.ID, audit.KindIdentityRemoved), 1)
		}
	})

	s.run("fail/OA-15/the last way in stays", func(s *suite) {
		u := noPassword(s)
		s.link(u.ID, "retired") // a provider that is not configured any more is no way in
		r := removal(s, u.ID, "acme")
		if err := s.first.RemoveIdentity(s.Context(), r); !errors.Is(err, upstream.ErrLastCredential) {
			s.Errorf("RemoveIdentity: %v, want ErrLastCredential", err)
		}
		s.same("identities", len(s.identities(u.ID)), 2)
		s.same("events", s.countEvents(u.ID, audit.KindIdentityRemoved), 0)
		s.must(s.first.RemoveIdentity(s.Context(), removal(s, u.ID, "retired")))
	})

	s.run("ok/OA-15/of two removals at once one leaves the last way in", func(s *suite) {
		for range 20 {
			u := noPassword(s)
			s.link(u.ID, "other")
			var refused atomic.Int64
			s.parallel(2, func(i int, st store.Store) error {
				err := st.RemoveIdentity(s.Context(), removal(s, u.ID, []string{"acme", "other"}[i]))
				if errors.Is(err, upstream.ErrLastCredential) {
					refused.Add(1)
					return nil
				}
				return err
			})
			s.same("refused", refused.Load(), int64(1))
			s.same("identities", len(s.identities(u.ID)), 1)
		}
	})

	s.run("ok/OA-15/of all who link an identity one does", func(s *suite) {
		for i := range 20 {
			users := []user.User{s.user(), s.user(), s.newUser(), s.user()}
			id := s.newLink("", "acme").Identity
			var won atomic.Int64
			s.parallel(len(users), func(j int, _ store.Store) (err error) {
				st := []store.Store{s.first, s.second}[(i+j)%2]
				l := s.newLink(users[j].ID, "acme")
				l.Identity = id
				switch j {
				case 2:
					err = st.CreateUserWithIdentity(s.Context(), users[j], l)
				case 3:
					err = st.AdoptUser(s.Context(), upstream.Adoption{Link: l, Email: users[j].Email, BlockUntil: blockUntil(at)})
				default:
					err = st.LinkIdentity(s.Context(), l, "")
				}
				if errors.Is(err, upstream.ErrConflict) {
					return nil
				}
				won.Add(1)
				return err
			})
			s.same("linked", won.Load(), int64(1))
			known, err := s.first.Known(s.Context(), upstream.Question{Provider: "acme", Subject: id.Subject})
			s.must(err)
			for j, u := range users {
				_, linked := s.identities(u.ID)["acme"]
				if owner := known.Owner != nil && known.Owner.UserID == u.ID; owner != linked {
					s.Errorf("user %d: owner %v, linked %v", j, owner, linked)
				}
				got, err := s.first.UserByID(s.Context(), u.ID)
				switch {
				case j == 2 && !linked && !errors.Is(err, user.ErrNotFound):
					s.Errorf("a user was created without the identity: %v", err)
				case j == 3 && !linked && got.PasswordHash != u.PasswordHash:
					s.Error("a user was wiped without the identity")
				}
			}
		}
	})

	s.run("ok/EM-08/no login of the one before survives an adoption", func(s *suite) {
		for i := range 30 {
			u := s.user()
			b := s.browserSession(u.ID)
			code := s.code(b)
			id := s.link(u.ID, "acme")
			byPassword, byIdentity, byCode := s.starting(s.newSession(u.ID)), s.starting(s.newSession(u.ID)), s.redeeming(code)
			byPassword.PasswordHash = u.PasswordHash
			byIdentity.Provider, byIdentity.Subject = "acme", id.Subject
			browsers := []oauth.BrowserSession{s.newBrowserSession(u.ID), s.newBrowserSession(u.ID)}
			browsers[0].Proof.PasswordHash = u.PasswordHash
			browsers[1].Proof.Provider, browsers[1].Proof.Subject = "acme", id.Subject
			a := s.adoption(u, at)
			s.parallel(6, func(j int, _ store.Store) (err error) {
				st := []store.Store{s.first, s.second}[(i+j)%2]
				switch (i + j) % 6 {
				case 0:
					return st.AdoptUser(s.Context(), a)
				case 1:
					_, err = st.Start(s.Context(), byPassword)
				case 2:
					_, err = st.RedeemCode(s.Context(), code.Hash, byCode)
				case 3:
					err = st.SaveBrowserSession(s.Context(), browsers[0], oauth.Hash{})
				case 4:
					err = st.SaveBrowserSession(s.Context(), browsers[1], oauth.Hash{})
				case 5:
					_, err = st.Start(s.Context(), byIdentity)
				}
				if errors.Is(err, oauth.ErrCodeNotFound) || errors.Is(err, user.ErrNotFound) {
					return nil
				}
				return err
			})
			for _, start := range []session.Start{byPassword, byIdentity, byCode} {
				if _, err := s.first.Session(s.Context(), start.Session.ID); errors.Is(err, session.ErrNotFound) {
					continue
				}
				s.wantEnded(start.Session.ID, at, session.ReasonAdopted)
			}
			for _, b := range append(browsers, b) {
				if s.loggedIn(b) {
					s.Error("a browser is logged in")
				}
			}
			live, err := s.first.Sessions(s.Context(), u.ID, now())
			s.must(err)
			s.same("live sessions", len(live), 0)
			s.same("identities", s.identities(u.ID), map[string]string{"acme": a.Identity.Subject})
			if s.Failed() {
				return
			}
		}
	})

	s.run("ok/a session starts only while the identity is linked that was checked", func(s *suite) {
		u, other := s.user(), s.user()
		id, theirs := s.link(u.ID, "acme"), s.link(other.ID, "acme")
		start := s.starting(s.newSession(u.ID))
		start.Provider, start.Subject = "acme", id.Subject
		s.start(start)
		s.must(s.first.RemoveIdentity(s.Context(), removal(s, u.ID, "acme")))
		for _, subject := range []string{id.Subject, theirs.Subject} {
			start := s.starting(s.newSession(u.ID))
			start.Provider, start.Subject = "acme", subject
			started, err := s.second.Start(s.Context(), start)
			s.must(err)
			s.same("created", started.Created, false)
			s.wantNever(start)
		}
	})

	s.run("ok/deleted with the user", func(s *suite) {
		u := s.user()
		id := s.link(u.ID, "acme")
		_, err := s.first.DeleteUser(s.Context(), u.ID, s.ending(u.ID, at, audit.KindUserDeleted, session.ReasonUserDeleted))
		s.must(err)
		known, err := s.second.Known(s.Context(), upstream.Question{Provider: "acme", Subject: id.Subject})
		s.must(err)
		s.same("known", known, upstream.Known{})
	})
}

func testTokens(s *suite) {
	at, until := now(), now().Add(30*time.Second)
	read := func(s *suite, userID string) upstream.TokenRow {
		s.Helper()
		row, err := s.second.Tokens(s.Context(), userID, "acme")
		s.must(err)
		return row
	}
	// kept links a user and keeps tokens.
	kept := func(s *suite) (string, upstream.TokenRow) {
		s.Helper()
		u := s.user()
		id := s.link(u.ID, "acme")
		s.must(s.first.SaveTokens(s.Context(), "acme", id.Subject, []byte("sealed \x00\xff")))
		return u.ID, read(s, u.ID)
	}
	conflict := func(s *suite, err error) {
		s.Helper()
		if !errors.Is(err, upstream.ErrConflict) {
			s.Errorf("%v, want ErrConflict", err)
		}
	}

	s.run("ok/saved, leased, finished", func(s *suite) {
		userID, row := kept(s)
		s.same("row", row, upstream.TokenRow{
			Provider: "acme",
			Subject:  row.Subject,
			Sealed:   []byte("sealed \x00\xff"),
			Version:  row.Version,
		})
		version, err := s.first.LeaseTokens(s.Context(), row, at, until)
		s.must(err)
		if version <= row.Version {
			s.Errorf("version %d after %d", version, row.Version)
		}
		row.Version, row.LeasedUntil = version, stored(until)
		s.same("leased", read(s, userID), row)
		row.Sealed, row.NeedsReauth = []byte("fresh"), true
		s.must(s.second.FinishTokens(s.Context(), row))
		after := read(s, userID)
		if after.Version <= row.Version {
			s.Errorf("version %d after %d", after.Version, row.Version)
		}
		row.Version, row.LeasedUntil = after.Version, time.Time{}
		s.same("finished", after, row)
		list, err := s.second.Identities(s.Context(), userID)
		s.must(err)
		if len(list) != 1 || !list[0].HasTokens || !list[0].NeedsReauth {
			s.Errorf("identities: %+v", list)
		}

		s.must(s.first.SaveTokens(s.Context(), "acme", row.Subject, []byte("after a login")))
		if after := read(s, userID); after.NeedsReauth || after.Version <= row.Version {
			s.Errorf("after a login: %+v", after)
		}
	})

	s.run("fail/nothing kept", func(s *suite) {
		u := s.user()
		missing := func() {
			s.Helper()
			if _, err := s.first.Tokens(s.Context(), u.ID, "acme"); !errors.Is(err, upstream.ErrNotFound) {
				s.Errorf("Tokens: %v, want ErrNotFound", err)
			}
		}
		missing()
		if err := s.first.SaveTokens(s.Context(), "acme", "unknown", []byte("x")); !errors.Is(err, upstream.ErrNotFound) {
			s.Errorf("SaveTokens: %v, want ErrNotFound", err)
		}
		s.link(u.ID, "acme")
		missing()
	})

	s.run("fail/stale or leased", func(s *suite) {
		userID, row := kept(s)
		old := row
		var err error
		row.Version, err = s.first.LeaseTokens(s.Context(), row, at, until)
		s.must(err)
		for name, r := range map[string]upstream.TokenRow{
			"stale":   old,
			"leased":  row,
			"unknown": {Provider: "acme", Subject: "unknown", Version: 1},
		} {
			_, err := s.second.LeaseTokens(s.Context(), r, until.Add(-time.Microsecond), until)
			if !errors.Is(err, upstream.ErrConflict) {
				s.Errorf("LeaseTokens, %s: %v, want ErrConflict", name, err)
			}
		}
		conflict(s, s.second.FinishTokens(s.Context(), old))
		next, err := s.second.LeaseTokens(s.Context(), row, until, until.Add(time.Minute)) // the first replica died
		s.must(err)
		late := row
		late.Sealed = []byte("too late")
		conflict(s, s.first.FinishTokens(s.Context(), late))
		row.Version = next
		s.must(s.second.FinishTokens(s.Context(), row))
		s.same("sealed", read(s, userID).Sealed, row.Sealed)
		// nobody holds it, but it has changed since it was read
		_, err = s.first.LeaseTokens(s.Context(), row, until, until.Add(time.Minute))
		conflict(s, err)
	})

	s.run("fail/a lease does not outlive a login or the link", func(s *suite) {
		userID, row := kept(s)
		leased := row
		var err error
		leased.Version, err = s.first.LeaseTokens(s.Context(), row, at, until)
		s.must(err)
		s.must(s.second.SaveTokens(s.Context(), "acme", row.Subject, []byte("after a login")))
		conflict(s, s.first.FinishTokens(s.Context(), leased))
		s.same("sealed", read(s, userID).Sealed, []byte("after a login"))

		leased = read(s, userID)
		leased.Version, err = s.first.LeaseTokens(s.Context(), leased, at, until)
		s.must(err)
		s.must(s.first.RemoveIdentity(s.Context(), upstream.Removal{
			UserID:   userID,
			Provider: "acme",
			Event:    s.event(audit.KindIdentityRemoved, userID),
		}))
		conflict(s, s.first.FinishTokens(s.Context(), leased))
		l := s.newLink(userID, "acme")
		l.Identity.Subject, l.At = leased.Subject, l.At.Add(time.Minute)
		s.must(s.first.LinkIdentity(s.Context(), l, ""))
		if _, err := s.first.Tokens(s.Context(), userID, "acme"); !errors.Is(err, upstream.ErrNotFound) {
			s.Errorf("Tokens of an identity that was linked anew: %v, want ErrNotFound", err)
		}
		for range 8 { // however often it changes, its version is not that of before
			s.must(s.first.SaveTokens(s.Context(), "acme", leased.Subject, []byte("new")))
			conflict(s, s.second.FinishTokens(s.Context(), leased))
		}
	})

	s.run("ok/of all who lease one does", func(s *suite) {
		for range 5 {
			_, row := kept(s)
			var won atomic.Int64
			s.parallel(20, func(_ int, st store.Store) error {
				_, err := st.LeaseTokens(s.Context(), row, at, until)
				if errors.Is(err, upstream.ErrConflict) {
					return nil
				}
				won.Add(1)
				return err
			})
			s.same("leased", won.Load(), int64(1))
		}
	})
}
