package storetest

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/user"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// testSchema migrates an empty database by both handles at once.
func testSchema(t *testing.T, open func(t *testing.T) (first, second store.Store)) {
	first, second := open(t)
	s := &suite{T: t, first: first, second: second, serial: new(atomic.Int64)}
	s.must(first.Ping(t.Context()))
	current, newest, err := first.Schema(t.Context())
	s.must(err)
	if current != 0 || newest < 1 {
		t.Fatalf("an empty database is at version %d of %d", current, newest)
	}
	if _, err := first.Session(t.Context(), session.NewID(now())); err == nil || errors.Is(err, session.ErrNotFound) {
		t.Errorf("Session in an empty database: %v, want a failure", err)
	}
	s.parallel(6, func(_ int, st store.Store) error { return st.Migrate(t.Context()) })
	for _, st := range []store.Store{first, second} {
		current, newest, err := st.Schema(t.Context())
		s.must(err)
		if current != newest {
			t.Errorf("a migrated database is at version %d of %d", current, newest)
		}
		s.must(st.Ping(t.Context()))
		s.must(st.Migrate(t.Context()))
	}
	u := s.user()
	s.session(u.ID)
}

// testRaces holds two calls against each other. Whichever comes first, there are two results only, and none lets a token
// through that should have died.
func testRaces(s *suite) {
	const runs = 40
	at := now().Add(time.Hour)

	// begin starts a session on one replica while another changes something about its user.
	begin := func(s *suite, change func(st store.Store, u user.User) error,
		check func(u user.User, start session.Start, started session.Started)) {
		for i := range runs {
			u := s.user()
			start := s.starting(s.newSession(u.ID))
			start.PasswordHash = u.PasswordHash
			var started session.Started
			s.parallel(2, func(j int, st store.Store) (err error) {
				if (i+j)%2 == 0 {
					return change(st, u)
				}
				started, err = st.Start(s.Context(), start)
				return err
			})
			check(u, start, started)
			if s.Failed() {
				return
			}
		}
	}
	// overOrNever: the session exists and is over and blocked, or was never there.
	overOrNever := func(s *suite, reason session.Reason) func(user.User, session.Start, session.Started) {
		return func(u user.User, start session.Start, started session.Started) {
			if started.Created {
				s.wantEnded(start.Session.ID, at, reason)
			} else if _, err := s.first.Session(s.Context(), start.Session.ID); !errors.Is(err, session.ErrNotFound) {
				s.Errorf("a session that was not started: %v", err)
			}
		}
	}

	s.run("ok/start against disable", func(s *suite) {
		begin(s, func(st store.Store, u user.User) error {
			_, err := st.DisableUser(s.Context(), u.ID, s.ending(u.ID, at, audit.KindUserDisabled, session.ReasonUserDisabled))
			return err
		}, overOrNever(s, session.ReasonUserDisabled))
	})

	s.run("ok/start against password change", func(s *suite) {
		begin(s, func(st store.Store, u user.User) error {
			_, err := st.SetPassword(s.Context(), u.ID, u.PasswordHash, "new",
				s.ending(u.ID, at, audit.KindPasswordChanged, session.ReasonPasswordChange))
			return err
		}, overOrNever(s, session.ReasonPasswordChange))
	})

	s.run("ok/start against delete", func(s *suite) {
		begin(s, func(st store.Store, u user.User) error {
			_, err := st.DeleteUser(s.Context(), u.ID, s.ending(u.ID, at, audit.KindUserDeleted, session.ReasonUserDeleted))
			return err
		}, func(u user.User, start session.Start, started session.Started) {
			if _, blocked := s.blocked(start.Session.ID); blocked != started.Created {
				s.Errorf("created: %v, blocked: %v", started.Created, blocked)
			}
			if _, err := s.first.Session(s.Context(), start.Session.ID); !errors.Is(err, session.ErrNotFound) {
				s.Errorf("a session of a deleted user: %v", err)
			}
		})
	})

	s.run("ok/start against disabled client", func(s *suite) {
		for i := range runs {
			u, c := s.user(), s.client()
			row := s.newSession(u.ID)
			row.ClientID = c.ID
			start := s.starting(row)
			s.parallel(2, func(j int, st store.Store) error {
				if (i+j)%2 == 0 {
					return st.DisableClient(s.Context(), c.ID, at, blocklist.NewEntry(verifier.BlockClient, c.ID, blockUntil(at)),
						s.event(audit.KindClientDisabled, ""))
				}
				_, err := st.Start(s.Context(), start)
				return err
			})
			got, err := s.first.Rotate(s.Context(), []session.Rotation{rotation(row, at)})
			s.must(err)
			s.same("rotated", got[0], (*session.Session)(nil))
		}
	})

	s.run("ok/start against role change", func(s *suite) {
		begin(s, func(st store.Store, u user.User) error {
			return st.SetRoles(s.Context(), u.ID, []string{"new"}, s.ending(u.ID, at, audit.KindRolesChanged, ""))
		}, func(u user.User, start session.Start, started session.Started) {
			if !started.Created {
				s.Fatalf("not started: %+v", started)
			}
			row := s.read(start.Session.ID)
			s.same("roles of the session", row.Roles, []string{"new"})
			s.wantCovered(start.Session.ID, started.Roles, start.Session.IATFloor)
		})
	})

	// rotate rotates a session on one replica while another changes something about its user.
	rotate := func(s *suite, change func(st store.Store, u user.User, row session.Session) error,
		check func(row session.Session, got *session.Session)) {
		for i := range runs {
			u := s.user()
			row := s.session(u.ID)
			var got []*session.Session
			s.parallel(2, func(j int, st store.Store) (err error) {
				if (i+j)%2 == 0 {
					return change(st, u, row)
				}
				got, err = st.Rotate(s.Context(), []session.Rotation{rotation(row, at)})
				return err
			})
			check(row, got[0])
			if s.Failed() {
				return
			}
		}
	}

	s.run("ok/RT-06/rotate against role change", func(s *suite) {
		rotate(s, func(st store.Store, u user.User, _ session.Session) error {
			return st.SetRoles(s.Context(), u.ID, []string{"new"}, s.ending(u.ID, at, audit.KindRolesChanged, ""))
		}, func(row session.Session, got *session.Session) {
			if got == nil {
				s.Fatal("a role change stopped a rotation")
			}
			s.same("roles of the session", s.read(row.ID).Roles, []string{"new"})
			s.wantCovered(row.ID, got.Roles, got.IATFloor)
		})
	})

	for name, change := range map[string]func(s *suite, st store.Store, u user.User, row session.Session) error{
		"disable": func(s *suite, st store.Store, u user.User, _ session.Session) error {
			_, err := st.DisableUser(s.Context(), u.ID, s.ending(u.ID, at, audit.KindUserDisabled, session.ReasonUserDisabled))
			return err
		},
		"password change": func(s *suite, st store.Store, u user.User, _ session.Session) error {
			_, err := st.SetPassword(s.Context(), u.ID, u.PasswordHash, "new",
				s.ending(u.ID, at, audit.KindPasswordChanged, session.ReasonUserDisabled))
			return err
		},
		"logout": func(s *suite, st store.Store, u user.User, row session.Session) error {
			ended, err := st.EndSession(s.Context(), row.ID, s.ending(u.ID, at, audit.KindSessionEnded, session.ReasonUserDisabled))
			if err == nil && !ended {
				err = errors.New("not ended")
			}
			return err
		},
		"logout everywhere": func(s *suite, st store.Store, u user.User, _ session.Session) error {
			_, err := st.EndSessions(s.Context(), u.ID, session.ID{},
				s.ending(u.ID, at, audit.KindSessionsEnded, session.ReasonUserDisabled))
			return err
		},
	} {
		s.run("ok/RT-06/rotate against "+name, func(s *suite) {
			rotate(s, func(st store.Store, u user.User, row session.Session) error { return change(s, st, u, row) },
				func(row session.Session, got *session.Session) {
					s.wantEnded(row.ID, at, session.ReasonUserDisabled) // covers what was minted before
					want := row.Generation
					if got != nil {
						want++
					}
					s.same("generation", s.read(row.ID).Generation, want)
				})
		})
	}

	s.run("ok/a batch against changes of many users", func(s *suite) {
		const n = 24
		users := make([]user.User, n)
		rows := make([]session.Session, 2*n)
		for i := range users {
			users[i] = s.user()
			rows[2*i], rows[2*i+1] = s.session(users[i].ID), s.session(users[i].ID)
		}
		s.parallel(40, func(i int, st store.Store) error {
			for _, j := range s.mixed(n)[:6] {
				var err error
				switch i % 4 {
				case 0:
					batch := make([]session.Rotation, len(rows))
					for k, l := range s.mixed(len(rows)) {
						batch[k] = rotation(rows[l], at)
					}
					_, err = st.Rotate(s.Context(), batch)
				case 1:
					err = st.SetRoles(s.Context(), users[j].ID, []string{"new"}, s.ending(users[j].ID, at, audit.KindRolesChanged, ""))
				case 2:
					_, err = st.EndSession(s.Context(), rows[2*j].ID, s.ending(users[j].ID, at, audit.KindSessionEnded, session.ReasonLogout))
				case 3:
					start := s.starting(s.newSession(users[j].ID))
					start.Limit = 2
					_, err = st.Start(s.Context(), start)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		for _, row := range rows {
			if got := s.read(row.ID); got.Generation > row.Generation+1 {
				s.Errorf("a session moved on by %d", got.Generation-row.Generation)
			}
		}
	})

	s.run("ok/SE-04/the limit holds among logins at once", func(s *suite) {
		u := s.user()
		const n, limit = 24, 3
		s.parallel(n, func(_ int, st store.Store) error {
			start := s.starting(s.newSession(u.ID))
			start.Limit = limit
			started, err := st.Start(s.Context(), start)
			if err == nil && !started.Created {
				err = errors.New("not started")
			}
			return err
		})
		live, err := s.first.Sessions(s.Context(), u.ID, at)
		s.must(err)
		s.same("live sessions", len(live), limit)
		s.same("logins", s.countEvents(u.ID, audit.KindLoggedIn), n)
	})

	s.run("ok/of all who sign up with an address one does", func(s *suite) {
		var won atomic.Int64
		s.parallel(20, func(i int, st store.Store) error {
			u := s.newUser()
			u.Email = []string{"contended@example.test", "CONTENDED@example.test"}[i%2]
			err := st.CreateUser(s.Context(), u, s.event(audit.KindSignedUp, u.ID))
			if err == nil {
				won.Add(1)
			}
			if errors.Is(err, user.ErrEmailTaken) {
				return nil
			}
			return err
		})
		s.same("created", won.Load(), int64(1))
	})

	s.run("ok/PW-15/of all who change a password one does", func(s *suite) {
		u := s.user()
		var mu sync.Mutex
		var won []string
		s.parallel(20, func(i int, st store.Store) error {
			hash := strings.Repeat("h", i+1)
			var err error
			if i%3 == 0 {
				_, err = st.SetPassword(s.Context(), u.ID, u.PasswordHash, hash,
					s.ending(u.ID, at, audit.KindPasswordChanged, session.ReasonPasswordChange))
			} else {
				err = st.ReplacePasswordHash(s.Context(), u.ID, u.PasswordHash, hash, at)
			}
			if errors.Is(err, user.ErrChanged) {
				return nil
			}
			mu.Lock()
			won = append(won, hash)
			mu.Unlock()
			return err
		})
		got, err := s.first.UserByID(s.Context(), u.ID)
		s.must(err)
		s.same("the one that counts", won, []string{got.PasswordHash})
	})

	s.run("ok/a session ends once", func(s *suite) {
		u := s.user()
		row := s.session(u.ID)
		var ended atomic.Int64
		s.parallel(20, func(i int, st store.Store) error {
			e := s.ending(u.ID, at, audit.KindSessionEnded, session.ReasonLogout)
			if i%4 == 0 {
				ids, err := st.EndSessions(s.Context(), u.ID, session.ID{}, e)
				ended.Add(int64(len(ids)))
				return err
			}
			ok, err := st.EndSession(s.Context(), row.ID, e)
			if ok {
				ended.Add(1)
			}
			return err
		})
		s.same("ended", ended.Load(), int64(1))
		s.same("events", s.countEvents(u.ID, audit.KindSessionEnded), 1)
	})

	s.run("ok/role changes of one user at once", func(s *suite) {
		u := s.user()
		row := s.session(u.ID)
		const n = 16
		s.parallel(n, func(i int, st store.Store) error {
			return st.SetRoles(s.Context(), u.ID, []string{strings.Repeat("r", i+1)}, s.ending(u.ID, at, audit.KindRolesChanged, ""))
		})
		got, err := s.first.UserByID(s.Context(), u.ID)
		s.must(err)
		after := s.read(row.ID)
		s.same("roles", after.Roles, got.Roles)
		s.same("iat_floor", after.IATFloor, at.Unix()+2)
		e, _ := s.blocked(row.ID)
		s.same("NotBefore", e.NotBefore.Unix(), at.Unix()+1)
	})
}

// wantCovered checks that a token with these roles and this iat is blocked if the roles are not the new ones, and passes
// if they are.
func (s *suite) wantCovered(id session.ID, roles []string, iat int64) {
	s.Helper()
	e, told := s.blocked(id)
	refused := told && iat <= e.NotBefore.Unix()
	if current := slices.Equal(roles, []string{"new"}); current == refused {
		s.Errorf("a token with roles %q and iat %d is refused: %v (entry %+v)", roles, iat, refused, e)
	}
}
