package storetest

import (
	"crypto/rand"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// forking asks to fork a session at a time.
func (s *suite) forking(parent session.Session, at time.Time) session.Fork {
	f := session.Fork{
		Parent: parent.ID, Nonce: parent.Nonce, ClientID: parent.ClientID, Generation: parent.Generation, At: at,
		ID: session.NewID(at.Add(time.Duration(s.serial.Add(1)) * time.Millisecond)), UserAgent: "worker", IP: "192.0.2.9",
		Limit: 5, BlockUntil: blockUntil(at), Event: s.event(audit.KindSessionForked, parent.UserID),
	}
	rand.Read(f.ChildNonce[:])
	f.Event.At = at
	return f
}

// fork begins a child of a session.
func (s *suite) fork(parent session.Session, at time.Time) session.Session {
	s.Helper()
	f := s.forking(parent, at)
	child, err := s.first.Fork(s.Context(), f)
	s.must(err)
	if child == nil {
		s.Fatal("the session was not forked")
	}
	return s.read(f.ID)
}

func testForks(s *suite) {
	at := now().Add(time.Hour)

	s.run("ok/a child is as its parent, but for what is its own", func(s *suite) {
		parent := s.session(s.user().ID)
		f := s.forking(parent, at)
		got, err := s.first.Fork(s.Context(), f)
		s.must(err)
		s.wantEvent(f.Event)
		want := parent
		want.ID, want.Nonce, want.Parent, want.UserAgent, want.IP = f.ID, f.ChildNonce, parent.ID, f.UserAgent, f.IP
		want.RotatedAt, want.IATFloor, want.StatusNumber = stored(at), at.Unix(), got.StatusNumber
		s.same("child", *got, want)
		if got.StatusNumber == parent.StatusNumber {
			s.Error("the child has its parent's place in the status lists")
		}
		s.wantLive(want)
		s.wantLive(parent)
	})

	s.run("fail/not exactly as presented", func(s *suite) {
		parent := s.session(s.user().ID)
		child := s.fork(parent, at)
		client := s.client()
		of := s.newSession(parent.UserID)
		of.ClientID = client.ID
		disabled := s.start(s.starting(of))
		s.must(s.first.DisableClient(s.Context(), client.ID, at, blocklist.NewEntry(verifier.BlockClient, client.ID, blockUntil(at)),
			s.event(audit.KindClientDisabled, "")))
		ended := s.session(parent.UserID)
		_, err := s.first.EndSession(s.Context(), ended.ID, s.ending(parent.UserID, at, audit.KindSessionEnded, session.ReasonLogout))
		s.must(err)
		for name, change := range map[string]func(f *session.Fork){
			"unknown":            func(f *session.Fork) { f.Parent = session.NewID(at) },
			"another nonce":      func(f *session.Fork) { f.Nonce[0]++ },
			"another client":     func(f *session.Fork) { f.ClientID = client.ID },
			"another generation": func(f *session.Fork) { f.Generation++ },
			"a child":            func(f *session.Fork) { f.Parent, f.Nonce = child.ID, child.Nonce },
			"at its idle end":    func(f *session.Fork) { f.At = parent.IdleExpiresAt },
			"at its end":         func(f *session.Fork) { f.At = parent.ExpiresAt },
			"ended":              func(f *session.Fork) { f.Parent, f.Nonce = ended.ID, ended.Nonce },
			"disabled client": func(f *session.Fork) {
				f.Parent, f.Nonce, f.ClientID = disabled.ID, disabled.Nonce, disabled.ClientID
			},
		} {
			s.run(name, func(s *suite) {
				f := s.forking(parent, at)
				change(&f)
				before := s.countEvents(parent.UserID, audit.KindSessionForked)
				got, err := s.first.Fork(s.Context(), f)
				s.must(err)
				if got != nil || s.countEvents(parent.UserID, audit.KindSessionForked) != before {
					s.Errorf("forked: %+v", got)
				}
			})
		}
	})

	s.run("ok/whatever ends one ends all", func(s *suite) {
		u := s.user()
		ending := s.ending(u.ID, at.Add(time.Minute), audit.KindSessionEnded, session.ReasonLogout)
		for name, end := range map[string]func(parent, child session.ID) error{
			"the parent": func(parent, _ session.ID) error {
				_, err := s.first.EndSession(s.Context(), parent, ending)
				return err
			},
			"a child": func(_, child session.ID) error {
				_, err := s.first.EndSession(s.Context(), child, ending)
				return err
			},
			"the device of the parent": func(parent, _ session.ID) error {
				_, err := s.first.EndDevice(s.Context(), u.ID, parent, ending)
				return err
			},
			"the device of a child": func(_, child session.ID) error {
				_, err := s.first.EndDevice(s.Context(), u.ID, child, ending)
				return err
			},
		} {
			s.run(name, func(s *suite) {
				parent, stranger := s.session(u.ID), s.session(u.ID)
				one, two := s.fork(parent, at), s.fork(parent, at)
				s.must(end(parent.ID, one.ID))
				for _, id := range []session.ID{parent.ID, one.ID, two.ID} {
					s.wantEnded(id, ending.At, session.ReasonLogout)
				}
				s.wantLive(stranger)
			})
		}
		s.run("once", func(s *suite) {
			parent := s.session(u.ID)
			child := s.fork(parent, at)
			for i, id := range []session.ID{child.ID, parent.ID, child.ID} {
				ended, err := s.first.EndSession(s.Context(), id, ending)
				s.must(err)
				s.same("ended", ended, i == 0)
			}
		})
	})

	s.run("ok/all but one device", func(s *suite) {
		u := s.user()
		spared, other := s.session(u.ID), s.session(u.ID)
		child, gone := s.fork(spared, at), s.fork(other, at)
		ending := s.ending(u.ID, at.Add(time.Minute), audit.KindSessionsEnded, session.ReasonLogoutAll)
		for _, own := range []session.ID{spared.ID, child.ID} {
			_, err := s.first.EndSessions(s.Context(), u.ID, own, ending)
			s.must(err)
			s.wantLive(spared)
			s.wantLive(child)
		}
		s.wantEnded(other.ID, ending.At, session.ReasonLogoutAll)
		s.wantEnded(gone.ID, ending.At, session.ReasonLogoutAll)
		ids, err := s.first.EndSessions(s.Context(), u.ID, session.ID{}, ending)
		s.must(err)
		s.sameIDs("ended", ids, spared.ID, child.ID)
	})

	s.run("ok/never beyond the parent's idle end", func(s *suite) {
		parent := s.session(s.user().ID)
		child := s.fork(parent, at)
		turn := func(row session.Session, idle time.Time) session.Session {
			rows, err := s.first.Rotate(s.Context(), []session.Rotation{{
				ID:            row.ID,
				Nonce:         row.Nonce,
				ClientID:      row.ClientID,
				From:          row.Generation,
				To:            row.Generation + 1,
				At:            at,
				IdleExpiresAt: idle,
			}})
			s.must(err)
			if rows[0] == nil {
				s.Fatal("not rotated")
			}
			return *rows[0]
		}
		child = turn(child, parent.IdleExpiresAt.Add(time.Hour))
		s.same("idle end of the child", child.IdleExpiresAt, parent.IdleExpiresAt)
		parent = turn(parent, parent.IdleExpiresAt.Add(2*time.Hour))
		child = turn(child, parent.IdleExpiresAt.Add(-time.Hour))
		s.same("idle end of the child", child.IdleExpiresAt, stored(parent.IdleExpiresAt.Add(-time.Hour)))
		other := s.session(parent.UserID)
		rotation := func(row session.Session) session.Rotation {
			return session.Rotation{
				ID:            row.ID,
				Nonce:         row.Nonce,
				ClientID:      row.ClientID,
				From:          row.Generation,
				To:            row.Generation + 1,
				At:            at,
				IdleExpiresAt: parent.IdleExpiresAt.Add(time.Hour),
			}
		}
		rows, err := s.first.Rotate(s.Context(), []session.Rotation{rotation(child), rotation(other)})
		s.must(err)
		s.same("idle end in a batch", rows[0].IdleExpiresAt, parent.IdleExpiresAt)
		s.same("idle end of no child", rows[1].IdleExpiresAt, stored(parent.IdleExpiresAt.Add(time.Hour)))
	})

	s.run("ok/the child that was used least recently makes way", func(s *suite) {
		parent := s.session(s.user().ID)
		var children []session.Session
		for i := range 5 {
			children = append(children, s.fork(parent, at.Add(time.Duration(i)*time.Second)))
		}
		used := s.rotate(children[0], at.Add(time.Minute))
		later := at.Add(2 * time.Minute)
		newest := s.fork(parent, later)
		s.wantEnded(children[1].ID, later, session.ReasonLimit)
		s.wantLive(s.read(used.ID))
		s.wantLive(s.read(newest.ID))
		s.wantLive(s.read(children[2].ID))
		s.same("events", s.countEvents(parent.UserID, audit.KindSessionsEnded), 1)
		s.same("events of forks", s.countEvents(parent.UserID, audit.KindSessionForked), 6)
	})

	s.run("ok/a device that makes way for a login", func(s *suite) {
		u := s.user()
		old := s.session(u.ID)
		one, two := s.fork(old, at), s.fork(old, at)
		recent := s.session(u.ID)
		start := s.starting(s.newSession(u.ID))
		start.Limit = 2
		start.Session.CreatedAt, start.Session.RotatedAt, start.BlockUntil = at, at, blockUntil(at)
		started, err := s.first.Start(s.Context(), start)
		s.must(err)
		s.sameIDs("ended", started.Ended, old.ID, one.ID, two.ID)
		for _, id := range started.Ended {
			s.wantEnded(id, at, session.ReasonLimit)
		}
		s.wantLive(recent)
	})

	s.run("ok/a change of roles reaches children", func(s *suite) {
		u := s.user()
		parent := s.session(u.ID)
		child := s.fork(parent, at)
		s.must(s.first.SetRoles(s.Context(), u.ID, []string{"admin"}, s.ending(u.ID, at, audit.KindRolesChanged, "")))
		s.same("roles", s.read(child.ID).Roles, []string{"admin"})
		if _, blocked := s.blocked(child.ID); !blocked {
			s.Error("the access tokens of the child are not blocked")
		}
		again := s.fork(s.read(parent.ID), at)
		s.same("roles of a new child", again.Roles, []string{"admin"})
		if again.IATFloor <= at.Unix() {
			s.Errorf("iat floor %d: a token of the child would be as old as the change", again.IATFloor)
		}
	})

	s.run("ok/forks at once keep the limit", func(s *suite) {
		parent := s.session(s.user().ID)
		s.parallel(12, func(_ int, st store.Store) error {
			_, err := st.Fork(s.Context(), s.forking(parent, at))
			return err
		})
		list, err := s.second.Sessions(s.Context(), parent.UserID, at)
		s.must(err)
		s.same("live sessions", len(list), 6)
	})

	s.run("ok/an end at the same time leaves no child", func(s *suite) {
		u := s.user()
		ending := s.ending(u.ID, at, audit.KindSessionEnded, session.ReasonLogout)
		for range 10 {
			parent := s.session(u.ID)
			s.parallel(6, func(i int, st store.Store) (err error) {
				switch i {
				case 2:
					_, err = st.EndSession(s.Context(), parent.ID, ending)
				case 4:
					_, err = st.EndDevice(s.Context(), u.ID, parent.ID, ending)
				default:
					_, err = st.Fork(s.Context(), s.forking(parent, at))
				}
				return err
			})
			list, err := s.second.Sessions(s.Context(), u.ID, at)
			s.must(err)
			if len(list) > 0 {
				s.Fatalf("%d sessions are left", len(list))
			}
		}
	})
}
