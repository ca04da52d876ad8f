package storetest

import (
	"crypto/rand"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/outbox"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/user"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// lease returns the row for a client that is due, and puts those for all others off.
func (s *suite) lease(st store.Store, clientID string, at, until time.Time) []outbox.Row {
	s.Helper()
	all, err := st.LeaseRows(s.Context(), oauth.KindLogout, at, until, 1000)
	s.must(err)
	return slices.DeleteFunc(all, func(r outbox.Row) bool { return r.Destination != clientID })
}

func (s *suite) logout(r outbox.Row) oauth.Logout {
	s.Helper()
	l, err := oauth.LogoutOf(r)
	s.must(err)
	return l
}

func testOutbox(s *suite) {
	const uri = "https://app.example.test/logout?a=1&b='"
	at := now().Add(time.Hour)
	client := func(s *suite) oauth.Client {
		s.Helper()
		c := oauth.Client{
			ID:                   "logout-" + rand.Text(),
			Type:                 oauth.Public,
			BackchannelLogoutURI: uri,
			CreatedAt:            now(),
			UpdatedAt:            now(),
		}
		s.must(s.first.CreateClient(s.Context(), c, s.event(audit.KindClientCreated, "")))
		return c
	}
	begin := func(s *suite, c oauth.Client, u user.User) session.Session {
		s.Helper()
		row := s.newSession(u.ID)
		row.ClientID = c.ID
		return s.start(s.starting(row))
	}

	ways := waysToEnd(at)
	for _, name := range slices.Sorted(maps.Keys(ways)) {
		s.run("ok/"+name+" leaves a delivery", func(s *suite) {
			c, u := client(s), s.user()
			row := begin(s, c, u)
			s.must(ways[name](s, u, row, s.ending(u.ID, at, audit.KindSessionsEnded, session.ReasonLogout)))
			got := s.lease(s.second, c.ID, at, at.Add(time.Minute))
			if len(got) != 1 {
				s.Fatalf("%d deliveries, want 1", len(got))
			}
			s.same("row", got[0], outbox.Row{
				ID:          got[0].ID,
				Kind:        oauth.KindLogout,
				Destination: c.ID,
				Payload:     got[0].Payload,
				CreatedAt:   stored(at),
				LeasedUntil: stored(at.Add(time.Minute)),
			})
			s.same("logout", s.logout(got[0]), oauth.Logout{ClientID: c.ID, URI: uri, UserID: u.ID, SessionID: row.ID})
			s.must(ways["EndSession"](s, u, row, s.ending(u.ID, at.Add(time.Second), audit.KindSessionsEnded, session.ReasonLogout)))
			s.same("deliveries for a session that was over", len(s.lease(s.second, c.ID, at.Add(time.Second), at.Add(time.Minute))), 0)
		})
	}

	s.run("ok/EndBrowserSession leaves a delivery for each client", func(s *suite) {
		u := s.user()
		b := s.browserSession(u.ID)
		for _, c := range []oauth.Client{client(s), client(s)} {
			code := s.newCode(b)
			code.ClientID = c.ID
			s.must(s.first.SaveCode(s.Context(), code))
			start := s.redeeming(code)
			_, err := s.first.RedeemCode(s.Context(), code.Hash, start)
			s.must(err)
			defer func() {
				got := s.lease(s.second, c.ID, at, at)
				if len(got) != 1 || s.logout(got[0]).SessionID != start.Session.ID {
					s.Errorf("deliveries: %+v", got)
				}
			}()
		}
		s.redeem(b) // of a client that does not want to know
		_, err := s.first.EndBrowserSession(s.Context(), b.Hash, s.ending(u.ID, at, audit.KindSessionsEnded, session.ReasonLogout))
		s.must(err)
	})

	s.run("ok/a rotation and a role change leave none", func(s *suite) {
		c, u := client(s), s.user()
		s.rotate(begin(s, c, u), now())
		s.must(s.first.SetRoles(s.Context(), u.ID, []string{"new"}, s.ending(u.ID, at, audit.KindRolesChanged, "")))
		s.same("deliveries", len(s.lease(s.second, c.ID, at.Add(time.Hour), at.Add(2*time.Hour))), 0)
	})

	ended := func(s *suite, n int) oauth.Client {
		s.Helper()
		c, u := client(s), s.user()
		for range n {
			row := begin(s, c, u)
			s.must(ways["EndSession"](s, u, row, s.ending(u.ID, at, audit.KindSessionEnded, session.ReasonLogout)))
		}
		return c
	}

	s.run("ok/leased, put off, made", func(s *suite) {
		c := ended(s, 1)
		until := at.Add(time.Minute)
		s.same("before it is due", len(s.lease(s.first, c.ID, at.Add(-time.Microsecond), until)), 0)
		first := s.lease(s.first, c.ID, at, until)
		if len(first) != 1 {
			s.Fatalf("%d rows, want 1", len(first))
		}
		others, err := s.first.LeaseRows(s.Context(), "other", until, until, 1000)
		s.must(err)
		s.same("of another kind", len(others), 0)
		s.same("while it is leased", len(s.lease(s.second, c.ID, until.Add(-time.Microsecond), until)), 0)
		again := s.lease(s.second, c.ID, until, until.Add(time.Minute)) // the first replica died
		if len(again) != 1 || again[0].ID != first[0].ID || again[0].Attempts != 1 {
			s.Fatalf("leased again: %+v", again)
		}
		s.must(s.first.FinishRow(s.Context(), first[0], outbox.Outcome{})) // it was only slow: the row is not its own any more
		retryAt := until.Add(time.Hour)
		s.must(s.second.FinishRow(s.Context(), again[0], outbox.Outcome{RetryAt: retryAt, Reason: "not there"}))
		s.same("before the time to which it was put off", len(s.lease(s.second, c.ID, retryAt.Add(-time.Microsecond), retryAt)), 0)
		last := s.lease(s.second, c.ID, retryAt, retryAt.Add(time.Minute))
		if len(last) != 1 || last[0].Attempts != 2 {
			s.Fatalf("leased after the time to which it was put off: %+v", last)
		}
		s.must(s.first.FinishRow(s.Context(), last[0], outbox.Outcome{}))
		s.must(s.first.FinishRow(s.Context(), last[0], outbox.Outcome{RetryAt: retryAt}))
		s.same("after it was made", len(s.lease(s.first, c.ID, retryAt.Add(time.Hour), retryAt)), 0)
	})

	s.run("ok/a destination gets its oldest row, and the next once that is over", func(s *suite) {
		c := ended(s, 3)
		var ids []int64
		for i := range 3 {
			until := at.Add(time.Duration(i+1) * time.Minute)
			got := s.lease(s.first, c.ID, until.Add(-time.Minute), until)
			if len(got) != 1 {
				s.Fatalf("%d rows, want 1", len(got))
			}
			s.same("the next while one is leased", len(s.lease(s.second, c.ID, until.Add(-time.Minute), until)), 0)
			o := outbox.Outcome{}
			if i == 1 {
				o = outbox.Outcome{DeadAt: until, Reason: "given up"}
			}
			s.must(s.first.FinishRow(s.Context(), got[0], o))
			ids = append(ids, got[0].ID)
		}
		if !slices.IsSorted(ids) || len(slices.Compact(ids)) != 3 {
			s.Errorf("in the order %v", ids)
		}
	})

	s.run("ok/a row that is put off lets the next pass, and has its turn again", func(s *suite) {
		c := ended(s, 2)
		retryAt := at.Add(time.Hour)
		refused := s.lease(s.first, c.ID, at, at.Add(time.Minute))
		s.must(s.first.FinishRow(s.Context(), refused[0], outbox.Outcome{RetryAt: retryAt, Reason: "refused"}))
		next := s.lease(s.second, c.ID, at, at.Add(time.Minute))
		if len(next) != 1 || next[0].ID == refused[0].ID {
			s.Fatalf("behind a row that is put off: %+v", next)
		}
		s.same("while that is leased", len(s.lease(s.first, c.ID, at, at.Add(time.Minute))), 0)
		s.must(s.second.FinishRow(s.Context(), next[0], outbox.Outcome{}))
		again := s.lease(s.first, c.ID, retryAt, retryAt.Add(time.Minute))
		if len(again) != 1 || again[0].ID != refused[0].ID {
			s.Fatalf("at its time: %+v", again)
		}
		late := s.lease(s.second, c.ID, retryAt.Add(time.Second), retryAt.Add(time.Minute))
		s.same("while it is leased again", len(late), 0)
	})

	s.run("ok/a deleted client is told nothing more", func(s *suite) {
		c, other := ended(s, 2), ended(s, 1)
		entry := blocklist.NewEntry(verifier.BlockClient, c.ID, blockUntil(at))
		s.must(s.first.DeleteClient(s.Context(), c.ID, at, entry, s.event(audit.KindClientDeleted, "")))
		s.same("rows of the client", len(s.lease(s.second, c.ID, at, at)), 0)
		s.same("rows of another", len(s.lease(s.second, other.ID, at, at)), 1)
	})

	s.run("ok/a dead letter is kept until it is swept, and not delivered", func(s *suite) {
		c := ended(s, 1)
		got := s.lease(s.first, c.ID, at, at.Add(time.Minute))
		s.must(s.first.FinishRow(s.Context(), got[0], outbox.Outcome{DeadAt: at.Add(-1000 * time.Hour), Reason: "given up"}))
		s.same("due", len(s.lease(s.first, c.ID, at.Add(1000*time.Hour), at.Add(1001*time.Hour))), 0)
		for _, sweep := range []struct {
			before time.Time
			want   int
		}{{at.Add(-1000 * time.Hour), 0}, {at.Add(-999 * time.Hour), 1}, {at.Add(-999 * time.Hour), 0}} {
			n, err := s.second.SweepRows(s.Context(), sweep.before, 10)
			s.must(err)
			s.same("swept", n, sweep.want)
		}
	})

	s.run("ok/shared by replicas, each row once and in order", func(s *suite) {
		const n = 20
		clients := map[string][]int64{}
		for range 4 {
			clients[ended(s, n).ID] = nil
		}
		var mu sync.Mutex
		s.parallel(6, func(_ int, st store.Store) error {
			for empty := 0; empty < 3; {
				got, err := st.LeaseRows(s.Context(), oauth.KindLogout, at, at.Add(time.Hour), 2)
				if err != nil {
					return err
				}
				if len(got) > 2 {
					s.Errorf("leased %d, the limit is 2", len(got))
				}
				if len(got) == 0 {
					empty++
				}
				for _, r := range got {
					mu.Lock()
					if ids, ours := clients[r.Destination]; ours {
						clients[r.Destination] = append(ids, r.ID)
					}
					mu.Unlock()
					if err := st.FinishRow(s.Context(), r, outbox.Outcome{}); err != nil {
						return err
					}
				}
			}
			return nil
		})
		for id := range clients {
			for { // replicas that found all of it leased went home
				got := s.lease(s.first, id, at, at.Add(time.Hour))
				if len(got) == 0 {
					break
				}
				clients[id] = append(clients[id], got[0].ID)
				s.must(s.first.FinishRow(s.Context(), got[0], outbox.Outcome{}))
			}
		}
		for id, ids := range clients {
			if !slices.IsSorted(ids) || len(slices.Compact(ids)) != n {
				s.Errorf("%s got %v", id, ids)
			}
		}
	})
}
