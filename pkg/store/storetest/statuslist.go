package storetest

import (
	"maps"
	"slices"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/statuslist"
	"github.com/handstamp/handstamp/pkg/store"
)

// wantRevokedStatus checks whether a number is revoked.
func (s *suite) wantRevokedStatus(number int64, want bool) {
	s.Helper()
	got, err := s.second.RevokedStatuses(s.Context(), number, number)
	s.must(err)
	if revoked := slices.Equal(got, []int64{number}); revoked != want || (!revoked && len(got) > 0) {
		s.Errorf("revoked statuses from %d to %[1]d are %d, want it among them: %t", number, got, want)
	}
}

func testStatuses(s *suite) {
	at := now().Add(time.Hour)

	s.run("ok/no session, no range", func(s *suite) {
		least, greatest, err := s.first.StatusRange(s.Context())
		s.must(err)
		s.same("range", []int64{least, greatest}, []int64{0, 0})
	})

	s.run("ok/each session has a number of its own, above those of clients' own tokens", func(s *suite) {
		u := s.user()
		a, b := s.session(u.ID), s.session(u.ID)
		if a.StatusNumber < statuslist.Size || b.StatusNumber <= a.StatusNumber {
			s.Errorf("numbers %d, %d", a.StatusNumber, b.StatusNumber)
		}
		least, greatest, err := s.second.StatusRange(s.Context())
		s.must(err)
		if least > a.StatusNumber || greatest < b.StatusNumber || least < statuslist.Size {
			s.Errorf("range %d to %d, but there are %d and %d", least, greatest, a.StatusNumber, b.StatusNumber)
		}
	})

	s.run("ok/a rotation and a repeat leave the number", func(s *suite) {
		row := s.session(s.user().ID)
		rotated := s.rotate(row, now())
		s.same("number", rotated.StatusNumber, row.StatusNumber)
		repeated, err := s.first.Repeat(s.Context(), rotation(s.read(row.ID), now()))
		s.must(err)
		s.same("number", repeated.StatusNumber, row.StatusNumber)
		s.wantRevokedStatus(row.StatusNumber, false)
	})

	ways := waysToEnd(at)
	for _, name := range slices.Sorted(maps.Keys(ways)) {
		s.run("ok/"+name+" revokes the number", func(s *suite) {
			u := s.user()
			row, stranger := s.session(u.ID), s.session(s.user().ID)
			s.must(ways[name](s, u, row, s.ending(u.ID, at, audit.KindSessionsEnded, session.ReasonLogout)))
			s.wantRevokedStatus(row.StatusNumber, true)
			s.wantRevokedStatus(stranger.StatusNumber, false)
		})
	}

	s.run("ok/a session that is over keeps its number out of a role change", func(s *suite) {
		u := s.user()
		row := s.session(u.ID)
		_, err := s.first.EndSession(s.Context(), row.ID, s.ending(u.ID, at, audit.KindSessionEnded, session.ReasonLogout))
		s.must(err)
		s.must(s.first.SetRoles(s.Context(), u.ID, []string{"new"}, s.ending(u.ID, at, audit.KindRolesChanged, "")))
		s.same("number", s.read(row.ID).StatusNumber, row.StatusNumber)
		s.wantRevokedStatus(row.StatusNumber, true)
	})

	s.run("ok/one token of a session: the session goes on with another number", func(s *suite) {
		row := s.session(s.user().ID)
		e, entry := s.event(audit.KindTokenRevoked, row.UserID), s.newEntry(now(), now().Add(time.Hour))
		s.must(s.first.BlockToken(s.Context(), row.StatusNumber, time.Unix(row.IATFloor, 0), entry, e))
		s.wantEvent(e)
		if got, ok := s.entry(entry.Key); !ok || got != entry {
			s.Errorf("entry %+v, %t", got, ok)
		}
		s.wantRevokedStatus(row.StatusNumber, true)
		rotated := s.rotate(row, now())
		s.wantRevokedStatus(rotated.StatusNumber, false)
		if rotated.StatusNumber <= row.StatusNumber {
			s.Errorf("number %d after %d", rotated.StatusNumber, row.StatusNumber)
		}

		again := s.newEntry(now(), now().Add(time.Hour)) // an older token, which carries the old number
		s.must(s.first.BlockToken(s.Context(), row.StatusNumber, time.Unix(row.IATFloor, 0), again,
			s.event(audit.KindTokenRevoked, row.UserID)))
		s.same("number", s.read(row.ID).StatusNumber, rotated.StatusNumber)
	})

	s.run("ok/one token of a client's own, or without a number", func(s *suite) {
		s.must(s.first.BlockToken(s.Context(), 77, now(), s.newEntry(now(), now().Add(time.Hour)),
			s.event(audit.KindTokenRevoked, oauth.DefaultClientID)))
		s.wantRevokedStatus(77, true)
		entry := s.newEntry(now(), now().Add(time.Hour))
		s.must(s.first.BlockToken(s.Context(), 0, now(), entry, s.event(audit.KindTokenRevoked, oauth.DefaultClientID)))
		s.wantRevokedStatus(0, false)
		if _, ok := s.entry(entry.Key); !ok {
			s.Error("the token is not blocked")
		}
	})

	s.run("ok/swept when the newest token is old enough", func(s *suite) {
		u := s.user()
		row := s.session(u.ID)
		minted := s.rotate(row, at)
		_, err := s.first.EndSession(s.Context(), row.ID, s.ending(u.ID, at, audit.KindSessionEnded, session.ReasonLogout))
		s.must(err)
		_, err = s.first.SweepStatuses(s.Context(), time.Unix(minted.IATFloor, 0), 10_000)
		s.must(err)
		s.wantRevokedStatus(row.StatusNumber, true)
		for {
			n, err := s.second.SweepStatuses(s.Context(), time.Unix(minted.IATFloor+1, 0), 2)
			s.must(err)
			if n > 2 {
				s.Fatalf("swept %d, the limit is 2", n)
			}
			if n == 0 {
				break
			}
		}
		s.wantRevokedStatus(row.StatusNumber, false)
	})

	s.run("ok/a token that a refresh mints beside a role change carries a number that counts", func(s *suite) {
		for range 20 {
			u := s.user()
			row := s.session(u.ID)
			var rotated *session.Session
			s.parallel(2, func(i int, st store.Store) error {
				if i == 0 {
					return st.SetRoles(s.Context(), u.ID, []string{"new"}, s.ending(u.ID, now(), audit.KindRolesChanged, ""))
				}
				got, err := st.Rotate(s.Context(), []session.Rotation{rotation(row, now())})
				if err == nil {
					rotated = got[0]
				}
				return err
			})
			if rotated == nil {
				s.Fatal("not rotated")
			}
			s.wantRevokedStatus(rotated.StatusNumber, !slices.Equal(rotated.Roles, []string{"new"}))
			s.wantRevokedStatus(s.read(row.ID).StatusNumber, false)
		}
	})
}
