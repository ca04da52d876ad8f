package storetest

import (
	"crypto/rand"
	"errors"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/upstream"
	"github.com/handstamp/handstamp/pkg/user"
	"github.com/handstamp/handstamp/pkg/verifier"
)

func newHash() (h [32]byte) {
	rand.Read(h[:])
	return h
}

// newBrowserSession returns a browser session nobody has stored.
func (s *suite) newBrowserSession(userID string) oauth.BrowserSession {
	return oauth.BrowserSession{
		Hash: newHash(), UserID: userID, AMR: []string{"pwd", "otp"}, ACR: "2", AuthTime: stored(now().Add(-time.Second)),
		CreatedAt: stored(now()), ExpiresAt: stored(now().Add(24 * time.Hour)),
	}
}

// browserSession logs a browser in.
func (s *suite) browserSession(userID string) oauth.BrowserSession {
	s.Helper()
	b := s.newBrowserSession(userID)
	s.must(s.first.SaveBrowserSession(s.Context(), b, oauth.Hash{}))
	return b
}

// loggedIn reports whether a browser is.
func (s *suite) loggedIn(b oauth.BrowserSession) bool {
	s.Helper()
	got, err := s.second.BrowserSession(s.Context(), b.Hash, now())
	if errors.Is(err, oauth.ErrBrowserSessionNotFound) {
		return false
	}
	s.must(err)
	s.same("browser session", got, b)
	return true
}

// newCode returns a code nobody has stored, given in a browser session.
func (s *suite) newCode(b oauth.BrowserSession) oauth.Code {
	return oauth.Code{
		Hash:           newHash(),
		ClientID:       oauth.DefaultClientID,
		UserID:         b.UserID,
		RedirectURI:    "com.example.app:/cb?a=1&b='",
		Challenge:      rand.Text(),
		Scope:          "openid profile",
		Audience:       []string{"https://api.example.test", "b"},
		Nonce:          "n \"ü",
		AMR:            b.AMR,
		ACR:            b.ACR,
		AuthTime:       b.AuthTime,
		BrowserSession: b.Hash, CreatedAt: stored(now()), ExpiresAt: stored(now().Add(time.Hour)),
	}
}

// code stores a new code.
func (s *suite) code(b oauth.BrowserSession) oauth.Code {
	s.Helper()
	c := s.newCode(b)
	s.must(s.first.SaveCode(s.Context(), c))
	return c
}

// redeeming asks for the session of a code.
func (s *suite) redeeming(c oauth.Code) session.Start {
	row := s.newSession(c.UserID)
	row.ClientID = c.ClientID
	return s.starting(row)
}

// redeem starts the session of a new code.
func (s *suite) redeem(b oauth.BrowserSession) session.Session {
	s.Helper()
	c := s.code(b)
	start := s.redeeming(c)
	started, err := s.first.RedeemCode(s.Context(), c.Hash, start)
	s.must(err)
	if !started.Created {
		s.Fatalf("session was not started: %+v", started)
	}
	return s.read(start.Session.ID)
}

// wantNoCode checks that a code cannot be redeemed.
func (s *suite) wantNoCode(c oauth.Code, want error) {
	s.Helper()
	start := s.redeeming(c)
	if _, err := s.second.RedeemCode(s.Context(), c.Hash, start); !errors.Is(err, want) {
		s.Errorf("RedeemCode: %v, want %v", err, want)
	}
	s.wantNever(start)
}

// wantNever checks that a session was not started, nor recorded.
func (s *suite) wantNever(start session.Start) {
	s.Helper()
	if _, err := s.second.Session(s.Context(), start.Session.ID); !errors.Is(err, session.ErrNotFound) {
		s.Errorf("a session that was not started: %v, want ErrNotFound", err)
	}
	events, err := s.second.Events(s.Context(), start.Event.UserID, audit.Cursor{}, 1000)
	s.must(err)
	if slices.ContainsFunc(events, func(e audit.Event) bool { return e.RequestID == start.Event.RequestID }) {
		s.Error("a session that was not started was recorded")
	}
}

func testCodes(s *suite) {
	s.run("ok/read as saved", func(s *suite) {
		for _, change := range []func(*oauth.Code){
			func(*oauth.Code) {},
			func(c *oauth.Code) {
				c.BrowserSession, c.Audience, c.AMR, c.Nonce, c.ACR = oauth.Hash{}, nil, nil, "", ""
			},
		} {
			c := s.newCode(s.browserSession(s.user().ID))
			change(&c)
			s.must(s.first.SaveCode(s.Context(), c))
			got, err := s.second.Code(s.Context(), c.Hash)
			s.must(err)
			s.same("code", got, c)
		}
	})

	s.run("fail/unknown", func(s *suite) {
		if _, err := s.first.Code(s.Context(), newHash()); !errors.Is(err, oauth.ErrCodeNotFound) {
			s.Errorf("Code: %v, want ErrCodeNotFound", err)
		}
		s.wantNoCode(oauth.Code{Hash: newHash(), UserID: s.user().ID, ClientID: oauth.DefaultClientID}, oauth.ErrCodeNotFound)
	})

	s.run("ok/at the limit the sessions of one browser login make way for each other, then what is used least", func(s *suite) {
		u := s.user()
		at := now()
		step := func() time.Time { at = at.Add(time.Minute); return at }
		phone := s.newSession(u.ID)
		phone.CreatedAt, phone.RotatedAt = at, at
		phone = s.start(s.starting(phone))
		tablet := s.newSession(u.ID)
		tablet.CreatedAt, tablet.RotatedAt = step(), at
		tablet = s.start(s.starting(tablet))
		b := s.browserSession(u.ID)
		open := func() (session.ID, []session.ID) { // a page that is opened again, in a browser that is logged in
			c := s.code(b)
			start := s.redeeming(c)
			start.Limit = 4
			start.Session.CreatedAt, start.Session.RotatedAt = step(), at
			started, err := s.second.RedeemCode(s.Context(), c.Hash, start)
			s.must(err)
			if !started.Created {
				s.Fatalf("not started: %+v", started)
			}
			return start.Session.ID, started.Ended
		}
		first, _ := open()
		second, _ := open()
		for _, made := range []session.ID{first, second} {
			third, ended := open()
			s.sameIDs("made way for a reload", ended, made)
			second = third
		}
		phone = s.rotate(phone, step())
		other := s.starting(s.newSession(u.ID))
		other.Limit = 4
		other.Session.CreatedAt, other.Session.RotatedAt = step(), at
		started, err := s.first.Start(s.Context(), other)
		s.must(err)
		s.sameIDs("made way for another device", started.Ended, tablet.ID)
		for _, id := range []session.ID{phone.ID, second} {
			if got := s.read(id); !got.RevokedAt.IsZero() {
				s.Errorf("a session that is in use made way: %+v", got)
			}
		}
	})

	s.run("ok/redeemed once, for a session like any other", func(s *suite) {
		u := s.user()
		oldest := s.session(u.ID)
		c := s.code(s.browserSession(u.ID))
		start := s.redeeming(c)
		start.Limit = 1
		started, err := s.first.RedeemCode(s.Context(), c.Hash, start)
		s.must(err)
		s.same("started", started, session.Started{
			Created:      true,
			UserFound:    true,
			ClientFound:  true,
			Roles:        u.Roles,
			StatusNumber: s.read(start.Session.ID).StatusNumber,
			Ended:        []session.ID{oldest.ID},
		})
		s.wantEnded(oldest.ID, start.Session.CreatedAt, session.ReasonLimit)
		s.wantEvent(start.Event, audit.KindSessionsEnded)
		row := s.read(start.Session.ID)
		s.same("scope", row.Scope, start.Session.Scope)
		s.same("roles", row.Roles, u.Roles)

		s.wantNoCode(c, oauth.ErrCodeUsed)
		s.wantLive(row)
		got, err := s.second.Code(s.Context(), c.Hash)
		s.must(err)
		c.UsedAt, c.SessionID = stored(start.Session.CreatedAt), start.Session.ID
		s.same("code", got, c)
	})

	s.run("ok/released after a redemption that nobody heard of", func(s *suite) {
		c := s.code(s.browserSession(s.user().ID))
		start := s.redeeming(c)
		_, err := s.first.RedeemCode(s.Context(), c.Hash, start)
		s.must(err)
		s.must(s.second.ReleaseCode(s.Context(), c.Hash, s.redeeming(c).Session.ID)) // another redemption's
		s.wantNoCode(c, oauth.ErrCodeUsed)
		s.must(s.second.ReleaseCode(s.Context(), c.Hash, start.Session.ID))
		if _, err := s.first.Session(s.Context(), start.Session.ID); !errors.Is(err, session.ErrNotFound) {
			s.Errorf("the session that nobody heard of: %v", err)
		}
		again := s.redeeming(c)
		started, err := s.first.RedeemCode(s.Context(), c.Hash, again)
		s.must(err)
		if !started.Created {
			s.Errorf("%+v", started)
		}
		row := s.read(again.Session.ID)
		s.rotate(row, now().Add(time.Second))
		s.must(s.second.ReleaseCode(s.Context(), c.Hash, row.ID)) // somebody has its tokens
		s.wantNoCode(c, oauth.ErrCodeUsed)
		s.read(row.ID)
	})

	s.run("ok/without a browser session", func(s *suite) {
		s.redeem(oauth.BrowserSession{UserID: s.user().ID, AuthTime: now()})
	})

	s.run("fail/expired", func(s *suite) {
		c := s.newCode(s.browserSession(s.user().ID))
		start := s.redeeming(c)
		c.ExpiresAt = stored(start.Session.CreatedAt)
		s.must(s.first.SaveCode(s.Context(), c))
		if _, err := s.first.RedeemCode(s.Context(), c.Hash, start); !errors.Is(err, oauth.ErrCodeNotFound) {
			s.Errorf("RedeemCode: %v, want ErrCodeNotFound", err)
		}
		s.wantNever(start)
	})

	s.run("fail/another user's", func(s *suite) {
		c := s.code(s.browserSession(s.user().ID))
		c.UserID = s.user().ID
		s.wantNoCode(c, oauth.ErrCodeNotFound)
	})

	s.run("fail/its browser session has ended", func(s *suite) {
		b := s.browserSession(s.user().ID)
		_, err := s.first.EndBrowserSession(s.Context(), b.Hash,
			s.ending(b.UserID, now(), audit.KindSessionsEnded, session.ReasonLogout))
		s.must(err)
		s.wantNoCode(s.code(b), oauth.ErrCodeNotFound) // saved by a request that was under way
	})

	s.run("fail/used up also if the session may not start", func(s *suite) {
		cl := s.client()
		c := s.newCode(s.browserSession(s.user().ID))
		c.ClientID = cl.ID
		s.must(s.first.SaveCode(s.Context(), c))
		s.must(s.first.DisableClient(s.Context(), cl.ID, now(), blocklist.NewEntry(verifier.BlockClient, cl.ID, blockUntil(now())),
			s.event(audit.KindClientDisabled, "")))
		start := s.redeeming(c)
		started, err := s.first.RedeemCode(s.Context(), c.Hash, start)
		s.must(err)
		s.same("started", started, session.Started{UserFound: true, ClientFound: true, ClientDisabled: true, Roles: started.Roles})
		s.wantNever(start)
		s.wantNoCode(c, oauth.ErrCodeUsed)
	})

	s.run("ok/of 50 at once one succeeds", func(s *suite) {
		for range 5 {
			c := s.code(s.browserSession(s.user().ID))
			var won atomic.Int64
			s.parallel(50, func(_ int, st store.Store) error {
				start := s.redeeming(c)
				started, err := st.RedeemCode(s.Context(), c.Hash, start)
				switch {
				case errors.Is(err, oauth.ErrCodeUsed):
					s.wantNever(start)
					return nil
				case err == nil && started.Created:
					won.Add(1)
				}
				return err
			})
			s.same("redeemed", won.Load(), int64(1))
			live, err := s.first.Sessions(s.Context(), c.UserID, now())
			s.must(err)
			s.same("sessions", len(live), 1)
		}
	})
}

func testBrowserSessions(s *suite) {
	s.run("ok/read as saved, until it expires", func(s *suite) {
		b := s.newBrowserSession(s.user().ID)
		for _, lists := range [][]string{b.AMR, nil} {
			b.Hash, b.AMR = newHash(), lists
			s.must(s.first.SaveBrowserSession(s.Context(), b, oauth.Hash{}))
			got, err := s.second.BrowserSession(s.Context(), b.Hash, b.ExpiresAt.Add(-time.Microsecond))
			s.must(err)
			s.same("browser session", got, b)
			if _, err := s.second.BrowserSession(s.Context(), b.Hash, b.ExpiresAt); !errors.Is(err, oauth.ErrBrowserSessionNotFound) {
				s.Errorf("BrowserSession: %v, want ErrBrowserSessionNotFound", err)
			}
		}
	})

	s.run("fail/unknown", func(s *suite) {
		if s.loggedIn(s.newBrowserSession(s.user().ID)) {
			s.Error("an unknown browser is logged in")
		}
		if s.loggedIn(oauth.BrowserSession{}) {
			s.Error("a browser without a secret is logged in")
		}
	})

	disabled := s.user()
	_, err := s.first.DisableUser(s.Context(), disabled.ID,
		s.ending(disabled.ID, now(), audit.KindUserDisabled, session.ReasonUserDisabled))
	s.must(err)
	u, linked := s.user(), s.user()
	id := s.link(linked.ID, "acme")
	for name, c := range map[string]struct {
		userID string
		proof  oauth.Proof
	}{
		"unknown user":     {user.NewID(now()), oauth.Proof{}},
		"disabled user":    {disabled.ID, oauth.Proof{}},
		"another password": {u.ID, oauth.Proof{PasswordHash: "another"}},
		"no identity":      {u.ID, oauth.Proof{Provider: "acme", Subject: id.Subject}},
		"another identity": {linked.ID, oauth.Proof{Provider: "acme", Subject: "another"}},
		"another provider": {linked.ID, oauth.Proof{Provider: "another", Subject: id.Subject}},
	} {
		s.run("fail/save/"+name, func(s *suite) {
			old := s.browserSession(u.ID)
			b := s.newBrowserSession(c.userID)
			b.Proof = c.proof
			if err := s.first.SaveBrowserSession(s.Context(), b, old.Hash); !errors.Is(err, user.ErrNotFound) {
				s.Errorf("SaveBrowserSession: %v, want ErrNotFound", err)
			}
			if s.loggedIn(b) || !s.loggedIn(old) {
				s.Error("a login that failed changed something")
			}
		})
	}
	for name, b := range map[string]oauth.BrowserSession{
		"password": {UserID: u.ID, Proof: oauth.Proof{PasswordHash: u.PasswordHash}},
		"identity": {UserID: linked.ID, Proof: oauth.Proof{Provider: "acme", Subject: id.Subject}},
	} {
		s.run("ok/save/proven by "+name, func(s *suite) {
			fresh := s.newBrowserSession(b.UserID)
			fresh.Proof = b.Proof
			s.must(s.first.SaveBrowserSession(s.Context(), fresh, oauth.Hash{}))
			fresh.Proof = oauth.Proof{}
			if !s.loggedIn(fresh) {
				s.Error("not logged in")
			}
		})
	}

	end := func(s *suite, b oauth.BrowserSession, at time.Time) []session.ID {
		s.Helper()
		e := s.ending(b.UserID, at, audit.KindSessionsEnded, session.ReasonLogout)
		ids, err := s.first.EndBrowserSession(s.Context(), b.Hash, e)
		s.must(err)
		s.wantEvent(e.Event)
		return ids
	}
	at := now().Add(time.Hour)

	s.run("ok/its clients are those with a live session of its codes", func(s *suite) {
		b, other := s.browserSession(u.ID), s.browserSession(u.ID)
		give := func(from oauth.BrowserSession) session.Session {
			row := s.newSession(u.ID)
			row.ClientID = s.client().ID
			code := s.newCode(from)
			code.ClientID = row.ClientID
			s.must(s.first.SaveCode(s.Context(), code))
			started, err := s.first.RedeemCode(s.Context(), code.Hash, s.starting(row))
			s.must(err)
			if !started.Created {
				s.Fatalf("not started: %+v", started)
			}
			return row
		}
		mine, over := give(b), give(b)
		give(other)
		_, err := s.first.EndSession(s.Context(), over.ID, s.ending(u.ID, now(), audit.KindSessionEnded, session.ReasonLogout))
		s.must(err)
		got, err := s.second.BrowserClients(s.Context(), b, now())
		s.must(err)
		s.same("clients", got, []string{mine.ClientID})
		got, err = s.second.BrowserClients(s.Context(), b, mine.ExpiresAt)
		s.must(err)
		s.same("clients at the end", len(got), 0)
	})

	s.run("ok/a disabled user's counts no more", func(s *suite) {
		b := s.browserSession(s.user().ID)
		_, err := s.first.DisableUser(s.Context(), b.UserID,
			s.ending(b.UserID, now(), audit.KindUserDisabled, session.ReasonUserDisabled))
		s.must(err)
		if s.loggedIn(b) {
			s.Error("a disabled user is logged in")
		}
		s.must(s.first.EnableUser(s.Context(), b.UserID, s.event(audit.KindUserEnabled, b.UserID)))
		if s.loggedIn(b) {
			s.Error("a browser session came back with its user")
		}
	})

	s.run("ok/its end is that of the sessions that its codes gave", func(s *suite) {
		u := s.user()
		b, other := s.browserSession(u.ID), s.browserSession(u.ID)
		mine, elsewhere, direct := []session.Session{s.redeem(b), s.redeem(b)}, s.redeem(other), s.session(u.ID)
		unused, used := s.code(b), s.code(b)
		start := s.redeeming(used)
		_, err := s.first.RedeemCode(s.Context(), used.Hash, start)
		s.must(err)
		over := s.redeem(b)
		_, err = s.first.EndSession(s.Context(), over.ID, s.ending(u.ID, now(), audit.KindSessionEnded, session.ReasonRevoked))
		s.must(err)
		theirs := s.code(other)

		s.sameIDs("ended", end(s, b, at), mine[0].ID, mine[1].ID, start.Session.ID)
		for _, id := range []session.ID{mine[0].ID, mine[1].ID, start.Session.ID} {
			s.wantEnded(id, at, session.ReasonLogout)
		}
		s.wantEnded(over.ID, now(), session.ReasonRevoked)
		s.wantLive(elsewhere)
		s.wantLive(direct)
		if s.loggedIn(b) || !s.loggedIn(other) {
			s.Error("the wrong browser was logged out")
		}
		if _, err := s.second.Code(s.Context(), unused.Hash); !errors.Is(err, oauth.ErrCodeNotFound) {
			s.Errorf("an unused code of the browser session: %v, want ErrCodeNotFound", err)
		}
		s.wantNoCode(used, oauth.ErrCodeUsed)
		_, err = s.second.RedeemCode(s.Context(), theirs.Hash, s.redeeming(theirs))
		s.must(err)
	})

	s.run("ok/a browser session without sessions", func(s *suite) {
		b := s.browserSession(s.user().ID)
		s.sameIDs("ended", end(s, b, at))
		if s.loggedIn(b) {
			s.Error("still logged in")
		}
	})

	s.run("fail/the end of an unknown one changes nothing", func(s *suite) {
		u := s.user()
		row := s.session(u.ID)
		for _, h := range []oauth.Hash{newHash(), {}} {
			ids, err := s.first.EndBrowserSession(s.Context(), h, s.ending(u.ID, at, audit.KindSessionsEnded, session.ReasonLogout))
			s.must(err)
			s.sameIDs("ended", ids)
		}
		s.wantLive(row)
		s.same("events", s.countEvents(u.ID, audit.KindSessionsEnded), 0)
	})

	s.run("ok/one that replaces another of the user carries on what that gave", func(s *suite) {
		u := s.user()
		old, other := s.browserSession(u.ID), s.browserSession(u.ID)
		row, elsewhere, code := s.redeem(old), s.redeem(other), s.code(old)
		fresh := s.newBrowserSession(u.ID)
		s.must(s.first.SaveBrowserSession(s.Context(), fresh, old.Hash))
		if s.loggedIn(old) || !s.loggedIn(other) || !s.loggedIn(fresh) {
			s.Error("the wrong browsers are logged in")
		}
		s.wantLive(row)
		start := s.redeeming(code)
		_, err := s.second.RedeemCode(s.Context(), code.Hash, start)
		s.must(err)
		s.sameIDs("ended", end(s, fresh, at), row.ID, start.Session.ID)
		s.wantLive(elsewhere)
	})

	s.run("ok/one that replaces another user's leaves that user's sessions alone", func(s *suite) {
		u, next := s.user(), s.user()
		old := s.browserSession(u.ID)
		row, code := s.redeem(old), s.code(old)
		fresh := s.newBrowserSession(next.ID)
		s.must(s.first.SaveBrowserSession(s.Context(), fresh, old.Hash))
		if s.loggedIn(old) || !s.loggedIn(fresh) {
			s.Error("the wrong browsers are logged in")
		}
		s.wantNoCode(code, oauth.ErrCodeNotFound)
		s.sameIDs("ended", end(s, fresh, at))
		s.wantLive(row)
	})

	for name, c := range map[string]func(s *suite, u user.User, e session.Ending) error{
		"EndSessions": func(s *suite, u user.User, e session.Ending) error {
			_, err := s.first.EndSessions(s.Context(), u.ID, session.ID{}, e)
			return err
		},
		"SetPassword": func(s *suite, u user.User, e session.Ending) error {
			_, err := s.first.SetPassword(s.Context(), u.ID, u.PasswordHash, "new", e)
			return err
		},
		"DisableUser": func(s *suite, u user.User, e session.Ending) error {
			_, err := s.first.DisableUser(s.Context(), u.ID, e)
			return err
		},
		"DeleteUser": func(s *suite, u user.User, e session.Ending) error {
			_, err := s.first.DeleteUser(s.Context(), u.ID, e)
			return err
		},
		"AdoptUser": func(s *suite, u user.User, _ session.Ending) error {
			return s.first.AdoptUser(s.Context(), s.adoption(u, at))
		},
	} {
		for _, withSession := range []bool{true, false} {
			s.run("ok/"+name+map[bool]string{
				true:  " ends browser sessions and unused codes",
				false: " also without sessions",
			}[withSession], func(s *suite) {
				u, stranger := s.user(), s.user()
				a, b, theirs := s.browserSession(u.ID), s.browserSession(u.ID), s.browserSession(stranger.ID)
				codes, spared := []oauth.Code{s.code(a), s.code(b),
					s.code(oauth.BrowserSession{UserID: u.ID, AuthTime: now()})}, s.code(theirs)
				if withSession {
					s.redeem(a)
				}
				s.must(c(s, u, s.ending(u.ID, at, audit.KindSessionsEnded, session.ReasonLogoutAll)))
				if s.loggedIn(a) || s.loggedIn(b) || !s.loggedIn(theirs) {
					s.Error("the wrong browsers are logged in")
				}
				for _, c := range codes {
					if _, err := s.second.Code(s.Context(), c.Hash); !errors.Is(err, oauth.ErrCodeNotFound) {
						s.Errorf("an unused code: %v, want ErrCodeNotFound", err)
					}
				}
				_, err := s.second.RedeemCode(s.Context(), spared.Hash, s.redeeming(spared))
				s.must(err)
			})
		}
	}

	s.run("ok/used codes are remembered", func(s *suite) {
		u := s.user()
		b := s.browserSession(u.ID)
		c := s.code(b)
		_, err := s.first.RedeemCode(s.Context(), c.Hash, s.redeeming(c))
		s.must(err)
		_, err = s.first.EndSessions(s.Context(), u.ID, session.ID{},
			s.ending(u.ID, at, audit.KindSessionsEnded, session.ReasonLogoutAll))
		s.must(err)
		s.wantNoCode(c, oauth.ErrCodeUsed)
	})

	s.run("ok/EndSessions spares the browser session of the session that it spares", func(s *suite) {
		u := s.user()
		a, b := s.browserSession(u.ID), s.browserSession(u.ID)
		spared, ended := s.redeem(a), s.redeem(b)
		kept, gone := s.code(a), s.code(b)
		ids, err := s.first.EndSessions(s.Context(), u.ID, spared.ID,
			s.ending(u.ID, at, audit.KindSessionsEnded, session.ReasonLogoutAll))
		s.must(err)
		s.sameIDs("ended", ids, ended.ID)
		if !s.loggedIn(a) || s.loggedIn(b) {
			s.Error("the wrong browser was logged out")
		}
		s.wantNoCode(gone, oauth.ErrCodeNotFound)
		_, err = s.second.RedeemCode(s.Context(), kept.Hash, s.redeeming(kept))
		s.must(err)

		direct := s.session(u.ID)
		_, err = s.first.EndSessions(s.Context(), u.ID, direct.ID, s.ending(u.ID, at, audit.KindSessionsEnded, session.ReasonLogoutAll))
		s.must(err)
		if s.loggedIn(a) {
			s.Error("a browser stayed logged in for a session that it did not give")
		}
	})

	s.run("ok/the end of a device is that of its tabs", func(s *suite) {
		b := s.browserSession(s.user().ID)
		tabs := []session.Session{s.redeem(b), s.redeem(b), s.redeem(b)}
		elsewhere, direct := s.redeem(s.browserSession(b.UserID)), s.session(b.UserID)
		stranger := s.redeem(s.browserSession(s.user().ID))
		list, err := s.second.Sessions(s.Context(), b.UserID, at)
		s.must(err)
		for _, one := range list {
			if fromHere := oauth.Hash(one.Browser) == b.Hash; fromHere != slices.ContainsFunc(tabs, func(t session.Session) bool {
				return t.ID == one.ID
			}) || (one.ID == direct.ID) != (one.Browser == [32]byte{}) {
				s.Errorf("session %s is of browser %x", one.ID, one.Browser)
			}
		}
		end := s.ending(b.UserID, at, audit.KindSessionEnded, session.ReasonRevoked)
		ids, err := s.first.EndDevice(s.Context(), b.UserID, stranger.ID, end)
		s.must(err)
		s.sameIDs("another user's", ids)
		ids, err = s.first.EndDevice(s.Context(), b.UserID, tabs[1].ID, end)
		s.must(err)
		s.sameIDs("ended", ids, tabs[0].ID, tabs[1].ID, tabs[2].ID)
		ids, err = s.first.EndDevice(s.Context(), b.UserID, tabs[1].ID, end)
		s.must(err)
		s.sameIDs("ended again", ids)
		if n := s.countEvents(b.UserID, audit.KindSessionEnded); n != 1 {
			s.Errorf("%d events", n)
		}
		ids, err = s.first.EndDevice(s.Context(), b.UserID, direct.ID, end)
		s.must(err)
		s.sameIDs("one that no browser login gave", ids, direct.ID)
		for _, alive := range []session.Session{elsewhere, stranger} {
			if got, err := s.second.Session(s.Context(), alive.ID); err != nil || !got.RevokedAt.IsZero() {
				s.Errorf("session %s has ended, %v", alive.ID, err)
			}
		}
		for _, id := range []session.ID{tabs[0].ID, tabs[2].ID, direct.ID} {
			if got, err := s.second.Session(s.Context(), id); err != nil || got.RevokedAt.IsZero() {
				s.Errorf("session %s lives, %v", id, err)
			}
		}
	})

	s.run("ok/the end of one session is not that of its browser session", func(s *suite) {
		b := s.browserSession(s.user().ID)
		row, code := s.redeem(b), s.code(b)
		_, err := s.first.EndSession(s.Context(), row.ID, s.ending(b.UserID, at, audit.KindSessionEnded, session.ReasonLogout))
		s.must(err)
		if !s.loggedIn(b) {
			s.Error("the browser was logged out")
		}
		_, err = s.second.RedeemCode(s.Context(), code.Hash, s.redeeming(code))
		s.must(err)
	})

	s.run("fail/SetPassword with another hash logs nobody out", func(s *suite) {
		u := s.user()
		b := s.browserSession(u.ID)
		code := s.code(b)
		_, err := s.first.SetPassword(s.Context(), u.ID, "another", "new",
			s.ending(u.ID, at, audit.KindPasswordChanged, session.ReasonPasswordChange))
		if !errors.Is(err, user.ErrChanged) {
			s.Errorf("SetPassword: %v, want ErrChanged", err)
		}
		if !s.loggedIn(b) {
			s.Error("the browser was logged out")
		}
		_, err = s.second.RedeemCode(s.Context(), code.Hash, s.redeeming(code))
		s.must(err)
	})

	s.run("ok/swept", func(s *suite) {
		before := now().Add(-48 * time.Hour)
		u := s.user()
		for i := range 10 {
			end := before.Add(-time.Duration(i+1) * time.Microsecond)
			b := s.newBrowserSession(u.ID)
			b.ExpiresAt = end
			s.must(s.first.SaveBrowserSession(s.Context(), b, oauth.Hash{}))
			c := s.newCode(b)
			c.ExpiresAt = end
			s.must(s.first.SaveCode(s.Context(), c))
			s.must(s.first.SavePushedRequest(s.Context(), oauth.PushedRequest{Hash: newHash(), ClientID: "c", ExpiresAt: end}))
		}
		b := s.newBrowserSession(u.ID)
		b.ExpiresAt = before
		s.must(s.first.SaveBrowserSession(s.Context(), b, oauth.Hash{}))
		c := s.newCode(b)
		c.ExpiresAt = stored(before)
		s.must(s.first.SaveCode(s.Context(), c))
		s.sweep(20, 4, func(st store.Store, limit int) (int, error) { return st.SweepBrowser(s.Context(), before, limit) })
		s.sweep(10, 4, func(st store.Store, limit int) (int, error) {
			return st.SweepPushedRequests(s.Context(), before, limit)
		})
		_, err := s.first.Code(s.Context(), c.Hash)
		s.must(err)
		_, err = s.first.BrowserSession(s.Context(), b.Hash, before.Add(-time.Second))
		s.must(err)
	})
}

// sweep checks that two replicas delete all rows in parts of at most limit.
func (s *suite) sweep(rows, limit int, sweep func(st store.Store, limit int) (int, error)) {
	s.Helper()
	n, err := sweep(s.first, limit)
	s.must(err)
	s.same("swept first", n, limit)
	var swept atomic.Int64
	s.parallel(6, func(_ int, st store.Store) error {
		for empty := 0; empty < 3; {
			n, err := sweep(st, limit)
			if err != nil {
				return err
			}
			if n > limit {
				s.Errorf("swept %d, the limit is %d", n, limit)
			}
			if n == 0 {
				empty++
			}
			swept.Add(int64(n))
		}
		return nil
	})
	rest, err := sweep(s.second, 1000)
	s.must(err)
	s.same("swept by all", n+int(swept.Load())+rest, rows)
}

func testPushedRequests(s *suite) {
	newRequest := func() oauth.PushedRequest {
		return oauth.PushedRequest{
			Hash:       newHash(),
			ClientID:   "client",
			Parameters: "scope=openid+a&state='%22%C3%BC",
			ExpiresAt:  stored(now().Add(time.Minute)),
		}
	}
	missing := func(s *suite, h oauth.Hash, at time.Time) {
		s.Helper()
		if _, err := s.second.VisitPushedRequest(s.Context(), h, at, at.Add(time.Hour)); !errors.Is(err, oauth.ErrRequestNotFound) {
			s.Errorf("VisitPushedRequest: %v, want ErrRequestNotFound", err)
		}
	}
	answer := func(st store.Store, r oauth.PushedRequest) (oauth.Code, error) {
		c := s.newCode(s.newBrowserSession(user.NewID(now())))
		c.Pushed = r.Hash
		return c, st.SaveCode(s.Context(), c)
	}

	s.run("ok/visited until it is answered", func(s *suite) {
		r := newRequest()
		s.must(s.first.SavePushedRequest(s.Context(), r))
		late := r.ExpiresAt.Add(-time.Microsecond)
		want := r
		want.ExpiresAt = stored(late.Add(time.Hour))
		for _, st := range []store.Store{s.first, s.second} {
			got, err := st.VisitPushedRequest(s.Context(), r.Hash, late, late.Add(time.Hour))
			s.must(err)
			s.same("request", got, want)
		}
		got, err := s.first.VisitPushedRequest(s.Context(), r.Hash, now(), now().Add(time.Second))
		s.must(err)
		s.same("not shortened", got, want)
		c, err := answer(s.second, r)
		s.must(err)
		if _, err := s.first.Code(s.Context(), c.Hash); err != nil {
			s.Errorf("Code: %v", err)
		}
		missing(s, r.Hash, now())
	})
	s.run("fail/unknown or expired", func(s *suite) {
		missing(s, newHash(), now())
		r := newRequest()
		s.must(s.first.SavePushedRequest(s.Context(), r))
		missing(s, r.Hash, r.ExpiresAt)
	})
	s.run("ok/AS-12/of all who answer one succeeds", func(s *suite) {
		for range 5 {
			r := newRequest()
			s.must(s.first.SavePushedRequest(s.Context(), r))
			var won atomic.Int64
			s.parallel(20, func(_ int, st store.Store) error {
				c, err := answer(st, r)
				if errors.Is(err, oauth.ErrRequestNotFound) {
					if _, err := st.Code(s.Context(), c.Hash); !errors.Is(err, oauth.ErrCodeNotFound) {
						s.Errorf("a code for a request that was used up: %v", err)
					}
					return nil
				}
				if err == nil {
					won.Add(1)
				}
				return err
			})
			s.same("answered", won.Load(), int64(1))
		}
	})
}

func testConsents(s *suite) {
	at := now().Add(time.Hour)

	s.run("ok/saved, replaced, listed", func(s *suite) {
		u, other := s.user(), s.user()
		want := oauth.Consent{UserID: u.ID, ClientID: "b", Scope: "openid", GrantedAt: stored(now())}
		none, err := s.first.Consent(s.Context(), u.ID, "b")
		s.must(err)
		s.same("consent", none, oauth.Consent{})
		for _, scope := range []string{"openid", "openid profile"} {
			want.Scope, want.GrantedAt = scope, want.GrantedAt.Add(time.Second)
			e := s.event(audit.KindConsentGranted, u.ID)
			s.must(s.first.SaveConsent(s.Context(), want, e))
			s.wantEvent(e)
			got, err := s.second.Consent(s.Context(), u.ID, "b")
			s.must(err)
			s.same("consent", got, want)
		}
		first := oauth.Consent{UserID: u.ID, ClientID: "a", GrantedAt: stored(now())}
		s.must(s.first.SaveConsent(s.Context(), first, s.event(audit.KindConsentGranted, u.ID)))
		s.must(s.first.SaveConsent(s.Context(), oauth.Consent{UserID: other.ID, ClientID: "a", GrantedAt: now()},
			s.event(audit.KindConsentGranted, other.ID)))
		list, err := s.second.Consents(s.Context(), u.ID)
		s.must(err)
		s.same("consents", list, []oauth.Consent{first, want})
	})

	s.run("fail/unknown user", func(s *suite) {
		id := user.NewID(now())
		err := s.first.SaveConsent(s.Context(), oauth.Consent{UserID: id, ClientID: "a", GrantedAt: now()},
			s.event(audit.KindConsentGranted, id))
		if !errors.Is(err, user.ErrNotFound) {
			s.Errorf("SaveConsent: %v, want ErrNotFound", err)
		}
		s.same("events", s.countEvents(id, audit.KindConsentGranted), 0)
	})

	s.run("ok/AS-20/revoked with the sessions at the client", func(s *suite) {
		u, other, c := s.user(), s.user(), s.client()
		at1 := func(userID string) session.Session {
			row := s.newSession(userID)
			row.ClientID = c.ID
			return s.start(s.starting(row))
		}
		mine, elsewhere, theirs := at1(u.ID), s.session(u.ID), at1(other.ID)
		b := s.browserSession(u.ID)
		code := s.newCode(b)
		code.ClientID = c.ID
		s.must(s.first.SaveCode(s.Context(), code))
		kept := s.code(b)
		for _, id := range []string{u.ID, other.ID} {
			s.must(s.first.SaveConsent(s.Context(), oauth.Consent{UserID: id, ClientID: c.ID, Scope: "a", GrantedAt: now()},
				s.event(audit.KindConsentGranted, id)))
		}
		e := s.ending(u.ID, at, audit.KindSessionsEnded, session.ReasonRevoked)
		ids, err := s.first.RevokeConsent(s.Context(), u.ID, c.ID, e)
		s.must(err)
		s.sameIDs("ended", ids, mine.ID)
		s.wantEnded(mine.ID, at, session.ReasonRevoked)
		s.wantEvent(e.Event)
		s.wantLive(elsewhere)
		s.wantLive(theirs)
		s.wantNoCode(code, oauth.ErrCodeNotFound)
		if !s.loggedIn(b) {
			s.Error("the browser was logged out")
		}
		_, err = s.second.RedeemCode(s.Context(), kept.Hash, s.redeeming(kept))
		s.must(err)
		for id, want := range map[string]string{u.ID: "", other.ID: "a"} {
			got, err := s.second.Consent(s.Context(), id, c.ID)
			s.must(err)
			s.same("scope", got.Scope, want)
		}
	})

	s.run("ok/revoked without sessions", func(s *suite) {
		u := s.user()
		s.must(s.first.SaveConsent(s.Context(), oauth.Consent{UserID: u.ID, ClientID: "a", GrantedAt: now()},
			s.event(audit.KindConsentGranted, u.ID)))
		e := s.ending(u.ID, at, audit.KindSessionsEnded, session.ReasonRevoked)
		_, err := s.first.RevokeConsent(s.Context(), u.ID, "a", e)
		s.must(err)
		s.wantEvent(e.Event)
		// nothing is left to revoke
		_, err = s.first.RevokeConsent(s.Context(), u.ID, "a", s.ending(u.ID, at, audit.KindSessionsEnded, session.ReasonRevoked))
		s.must(err)
		s.same("events", s.countEvents(u.ID, audit.KindSessionsEnded), 1)
	})
}

// waysToEnd are the ways in which a session ends, at a time.
func waysToEnd(at time.Time) map[string]func(s *suite, u user.User, row session.Session, e session.Ending) error {
	return map[string]func(s *suite, u user.User, row session.Session, e session.Ending) error{
		"EndSession": func(s *suite, _ user.User, row session.Session, e session.Ending) error {
			_, err := s.first.EndSession(s.Context(), row.ID, e)
			return err
		},
		"EndSessions": func(s *suite, u user.User, _ session.Session, e session.Ending) error {
			_, err := s.first.EndSessions(s.Context(), u.ID, session.ID{}, e)
			return err
		},
		"SetPassword": func(s *suite, u user.User, _ session.Session, e session.Ending) error {
			_, err := s.first.SetPassword(s.Context(), u.ID, u.PasswordHash, "new", e)
			return err
		},
		"DisableUser": func(s *suite, u user.User, _ session.Session, e session.Ending) error {
			_, err := s.first.DisableUser(s.Context(), u.ID, e)
			return err
		},
		"DeleteUser": func(s *suite, u user.User, _ session.Session, e session.Ending) error {
			_, err := s.first.DeleteUser(s.Context(), u.ID, e)
			return err
		},
		"AdoptUser": func(s *suite, u user.User, _ session.Session, _ session.Ending) error {
			return s.first.AdoptUser(s.Context(), s.adoption(u, at))
		},
		"RevokeConsent": func(s *suite, u user.User, row session.Session, e session.Ending) error {
			_, err := s.first.RevokeConsent(s.Context(), u.ID, row.ClientID, e)
			return err
		},
		"limit at Start": func(s *suite, u user.User, _ session.Session, _ session.Ending) error {
			start := s.starting(s.newSession(u.ID))
			start.Limit, start.Session.CreatedAt = 1, at
			_, err := s.first.Start(s.Context(), start)
			return err
		},
		"limit at RedeemCode": func(s *suite, u user.User, _ session.Session, _ session.Ending) error {
			c := s.newCode(s.browserSession(u.ID))
			c.ExpiresAt = at.Add(time.Minute)
			s.must(s.first.SaveCode(s.Context(), c))
			start := s.redeeming(c)
			start.Limit, start.Session.CreatedAt = 1, at
			_, err := s.first.RedeemCode(s.Context(), c.Hash, start)
			return err
		},
	}
}

// testBrowserRaces holds the browser flow against what ends it. Whichever comes first, nobody is logged in afterwards.
func testBrowserRaces(s *suite) {
	const runs = 30
	at := now().Add(time.Hour)
	ends := map[string]func(s *suite, st store.Store, u user.User, b oauth.BrowserSession) error{
		"disable": func(s *suite, st store.Store, u user.User, _ oauth.BrowserSession) error {
			_, err := st.DisableUser(s.Context(), u.ID, s.ending(u.ID, at, audit.KindUserDisabled, session.ReasonLogout))
			return err
		},
		"password change": func(s *suite, st store.Store, u user.User, _ oauth.BrowserSession) error {
			_, err := st.SetPassword(s.Context(), u.ID, u.PasswordHash, "new",
				s.ending(u.ID, at, audit.KindPasswordChanged, session.ReasonLogout))
			return err
		},
		"logout everywhere": func(s *suite, st store.Store, u user.User, _ oauth.BrowserSession) error {
			_, err := st.EndSessions(s.Context(), u.ID, session.ID{}, s.ending(u.ID, at, audit.KindSessionsEnded, session.ReasonLogout))
			return err
		},
		"logout": func(s *suite, st store.Store, u user.User, b oauth.BrowserSession) error {
			_, err := st.EndBrowserSession(s.Context(), b.Hash, s.ending(u.ID, at, audit.KindSessionsEnded, session.ReasonLogout))
			return err
		},
		"delete": func(s *suite, st store.Store, u user.User, _ oauth.BrowserSession) error {
			_, err := st.DeleteUser(s.Context(), u.ID, s.ending(u.ID, at, audit.KindUserDeleted, session.ReasonLogout))
			return err
		},
	}
	for _, name := range slices.Sorted(maps.Keys(ends)) {
		s.run("ok/redeem against "+name, func(s *suite) {
			for i := range runs {
				u := s.user()
				b := s.browserSession(u.ID)
				c := s.code(b)
				start := s.redeeming(c)
				var started session.Started
				s.parallel(2, func(j int, st store.Store) (err error) {
					if (i+j)%2 == 0 {
						return ends[name](s, st, u, b)
					}
					started, err = st.RedeemCode(s.Context(), c.Hash, start)
					if errors.Is(err, oauth.ErrCodeNotFound) {
						return nil
					}
					return err
				})
				switch {
				case !started.Created:
					s.wantNever(start)
				case name == "delete":
					if _, blocked := s.blocked(start.Session.ID); !blocked {
						s.Error("the session of a deleted user is not blocked")
					}
				default:
					s.wantEnded(start.Session.ID, at, session.ReasonLogout)
				}
				if s.loggedIn(b) {
					s.Error("the browser is logged in")
				}
				if s.Failed() {
					return
				}
			}
		})

		if name == "logout" || name == "logout everywhere" {
			continue // a login that comes after is a login
		}
		s.run("ok/login against "+name, func(s *suite) {
			for i := range runs {
				u := s.user()
				b := s.newBrowserSession(u.ID)
				b.Proof.PasswordHash = u.PasswordHash
				s.parallel(2, func(j int, st store.Store) error {
					if (i+j)%2 == 0 {
						return ends[name](s, st, u, b)
					}
					err := st.SaveBrowserSession(s.Context(), b, oauth.Hash{})
					if errors.Is(err, user.ErrNotFound) {
						return nil
					}
					return err
				})
				if s.loggedIn(b) {
					s.Fatal("the browser is logged in")
				}
			}
		})
	}

	s.run("ok/redeem against a disabled client", func(s *suite) {
		for i := range runs {
			u, c := s.user(), s.client()
			code := s.newCode(s.browserSession(u.ID))
			code.ClientID = c.ID
			s.must(s.first.SaveCode(s.Context(), code))
			start := s.redeeming(code)
			s.parallel(2, func(j int, st store.Store) error {
				if (i+j)%2 == 0 {
					return st.DisableClient(s.Context(), c.ID, at, blocklist.NewEntry(verifier.BlockClient, c.ID, blockUntil(at)),
						s.event(audit.KindClientDisabled, ""))
				}
				_, err := st.RedeemCode(s.Context(), code.Hash, start)
				return err
			})
			got, err := s.first.Rotate(s.Context(), []session.Rotation{rotation(start.Session, at)})
			s.must(err)
			s.same("rotated", got[0], (*session.Session)(nil))
			s.wantNoCode(code, oauth.ErrCodeUsed)
		}
	})

	s.run("ok/redeem against a new login in the same browser, then logout", func(s *suite) {
		for i := range runs {
			u := s.user()
			old, fresh := s.browserSession(u.ID), s.newBrowserSession(u.ID)
			c := s.code(old)
			start := s.redeeming(c)
			s.parallel(2, func(j int, st store.Store) error {
				if (i+j)%2 == 0 {
					return st.SaveBrowserSession(s.Context(), fresh, old.Hash)
				}
				_, err := st.RedeemCode(s.Context(), c.Hash, start)
				return err
			})
			ids, err := s.first.EndBrowserSession(s.Context(), fresh.Hash,
				s.ending(u.ID, at, audit.KindSessionsEnded, session.ReasonLogout))
			s.must(err)
			s.sameIDs("ended", ids, start.Session.ID)
			if s.Failed() {
				return
			}
		}
	})

	s.run("ok/everything of one user at once", func(s *suite) {
		u := s.user()
		b := s.browserSession(u.ID)
		s.parallel(40, func(i int, st store.Store) error {
			var err error
			switch i % 5 {
			case 0:
				c := s.newCode(b)
				if err := st.SaveCode(s.Context(), c); err != nil {
					return err
				}
				_, err = st.RedeemCode(s.Context(), c.Hash, s.redeeming(c))
				if errors.Is(err, oauth.ErrCodeNotFound) {
					err = nil
				}
			case 1:
				err = st.SaveBrowserSession(s.Context(), s.newBrowserSession(u.ID), b.Hash)
			case 2:
				_, err = st.EndSessions(s.Context(), u.ID, session.ID{}, s.ending(u.ID, at, audit.KindSessionsEnded, session.ReasonLogoutAll))
			case 3:
				_, err = st.RevokeConsent(s.Context(), u.ID, oauth.DefaultClientID,
					s.ending(u.ID, at, audit.KindSessionsEnded, session.ReasonRevoked))
			case 4:
				link := s.newLink(u.ID, "acme")
				if err = st.LinkIdentity(s.Context(), link, ""); errors.Is(err, upstream.ErrConflict) {
					err = nil
				}
			}
			return err
		})
	})
}
