package storetest

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/user"
	"github.com/handstamp/handstamp/pkg/verifier"
)

func testStart(s *suite) {
	s.run("ok/a session is read as it was started, with the user's roles", func(s *suite) {
		u := s.user()
		row := s.newSession(u.ID)
		rand.Read(row.LastRequestHash[:])
		row.Generation, row.IATFloor = 1<<32-2, 1<<40
		start := s.starting(row)
		start.PasswordHash = u.PasswordHash
		started, err := s.first.Start(s.Context(), start)
		s.must(err)
		row.StatusNumber = started.StatusNumber
		s.same("started", started, session.Started{
			Created:      true,
			UserFound:    true,
			ClientFound:  true,
			Roles:        u.Roles,
			StatusNumber: row.StatusNumber,
		})
		s.wantEvent(start.Event)

		row.Roles = u.Roles
		for _, t := range []*time.Time{&row.RotatedAt, &row.IdleExpiresAt, &row.ExpiresAt, &row.AuthTime, &row.CreatedAt} {
			*t = stored(*t)
		}
		s.wantLive(row)
	})

	s.run("ok/the facts of its client are read with it", func(s *suite) {
		u := s.user()
		for _, grace := range []*time.Duration{nil, new(time.Duration(0)), new(300 * time.Second), new(1500 * time.Millisecond)} {
			c := oauth.Client{ID: "grace-" + rand.Text(), Type: oauth.Public, RefreshGrace: grace, CreatedAt: now(), UpdatedAt: now()}
			s.must(s.first.CreateClient(s.Context(), c, s.event(audit.KindClientCreated, "")))
			row := s.newSession(u.ID)
			row.ClientID = c.ID
			got := s.start(s.starting(row))
			s.same("ClientGrace", got.ClientGrace, grace)
			s.same("ClientDisabled", got.ClientDisabled, false)
			s.must(s.first.DisableClient(s.Context(), c.ID, now(), blocklist.NewEntry(verifier.BlockClient, c.ID, blockUntil(now())),
				s.event(audit.KindClientDisabled, "")))
			s.same("ClientDisabled", s.read(row.ID).ClientDisabled, true)
		}
	})

	s.run("fail/not started", func(s *suite) {
		enabled, disabled := s.user(), s.user()
		_, err := s.first.DisableUser(s.Context(), disabled.ID,
			s.ending(disabled.ID, now(), audit.KindUserDisabled, session.ReasonUserDisabled))
		s.must(err)
		c := s.client()
		s.must(s.first.DisableClient(s.Context(), c.ID, now(), blocklist.NewEntry(verifier.BlockClient, c.ID, blockUntil(now())),
			s.event(audit.KindClientDisabled, "")))

		for name, start := range map[string]struct {
			change func(*session.Start)
			want   func(session.Started) bool
		}{
			"unknown user": {
				func(st *session.Start) { st.Session.UserID = user.NewID(now()) },
				func(got session.Started) bool { return !got.UserFound },
			},
			"disabled user": {
				func(st *session.Start) { st.Session.UserID = disabled.ID },
				func(got session.Started) bool { return got.UserFound && got.UserDisabled },
			},
			"password was changed": {
				func(st *session.Start) { st.PasswordHash = "another" },
				func(got session.Started) bool { return !got.UserDisabled && got.ClientFound && !got.ClientDisabled },
			},
			"unknown client": {
				func(st *session.Start) { st.Session.ClientID = "unknown" },
				func(got session.Started) bool { return got.UserFound && !got.ClientFound },
			},
			"disabled client": {
				func(st *session.Start) { st.Session.ClientID = c.ID },
				func(got session.Started) bool { return got.UserFound && got.ClientFound && got.ClientDisabled },
			},
		} {
			s.run(name, func(s *suite) {
				old := s.session(enabled.ID)
				st := s.starting(s.newSession(enabled.ID))
				st.Limit = 1 // nothing may make way for a session that does not begin
				start.change(&st)
				before := s.countEvents(st.Event.UserID, audit.KindLoggedIn)
				got, err := s.first.Start(s.Context(), st)
				s.must(err)
				if got.Created || len(got.Ended) > 0 || !start.want(got) {
					s.Errorf("started: %+v", got)
				}
				if _, err := s.second.Session(s.Context(), st.Session.ID); !errors.Is(err, session.ErrNotFound) {
					s.Errorf("Session: %v, want ErrNotFound", err)
				}
				if n := s.countEvents(st.Event.UserID, audit.KindLoggedIn); n != before {
					s.Errorf("%d events of a login that failed", n-before)
				}
				s.wantLive(old)
			})
		}
	})

	s.run("fail/a session ID exists", func(s *suite) {
		u := s.user()
		row := s.session(u.ID)
		if started, err := s.first.Start(s.Context(), s.starting(row)); err == nil {
			s.Errorf("Start: %+v, want a storage failure", started)
		}
		s.wantLive(row)
	})

	s.run("ok/the oldest make way", func(s *suite) {
		u, other := s.user(), s.user()
		stranger := s.session(other.ID)
		var rows []session.Session
		for range 4 {
			rows = append(rows, s.session(u.ID))
		}
		idle := s.newSession(u.ID)
		idle.CreatedAt, idle.IdleExpiresAt = now().Add(-time.Hour), now().Add(-time.Minute)
		dead := s.start(s.starting(idle)) // over already: does not count, and does not end twice

		start := s.starting(s.newSession(u.ID))
		start.Limit = 3
		got, err := s.first.Start(s.Context(), start)
		s.must(err)
		s.same("events", s.countEvents(u.ID, audit.KindSessionsEnded), 1)
		s.sameIDs("ended", got.Ended, rows[0].ID, rows[1].ID)
		for _, row := range rows[:2] {
			s.wantEnded(row.ID, start.Session.CreatedAt, session.ReasonLimit)
		}
		for _, row := range append(rows[2:], stranger, dead) {
			s.wantLive(row)
		}
		live, err := s.second.Sessions(s.Context(), u.ID, start.Session.CreatedAt)
		s.must(err)
		if len(live) != 3 || live[0].ID != start.Session.ID {
			s.Errorf("%d live sessions, want 3 with the new one first", len(live))
		}

		start = s.starting(s.newSession(u.ID))
		start.Limit = 1
		got, err = s.first.Start(s.Context(), start)
		s.must(err)
		if len(got.Ended) != 3 {
			s.Errorf("%d sessions made way, want 3", len(got.Ended))
		}
	})
}

// sameIDs compares in any order.
func (s *suite) sameIDs(what string, got []session.ID, want ...session.ID) {
	s.Helper()
	compare := func(a, b session.ID) int { return slices.Compare(a[:], b[:]) }
	got, want = slices.Clone(got), slices.Clone(want)
	slices.SortFunc(got, compare)
	slices.SortFunc(want, compare)
	s.same(what, got, want)
}

// rotation asks for the step after the row's generation.
func rotation(row session.Session, at time.Time) session.Rotation {
	r := session.Rotation{
		ID: row.ID, Nonce: row.Nonce, ClientID: row.ClientID, From: row.Generation, To: row.Generation + 1,
		At: at, IdleExpiresAt: at.Add(7 * 24 * time.Hour),
	}
	rand.Read(r.RequestHash[:])
	return r
}

// rotated is the row after a rotation.
func rotated(row session.Session, r session.Rotation) session.Session {
	row.EarlierRequests = earlier(row, r)
	row.Generation, row.LastRequestHash, row.RotatedAt = r.To, r.RequestHash, stored(r.At)
	row.IATFloor = max(row.IATFloor, r.At.Unix())
	row.IdleExpiresAt = stored(r.IdleExpiresAt)
	if row.IdleExpiresAt.After(row.ExpiresAt) {
		row.IdleExpiresAt = row.ExpiresAt
	}
	return row
}

// earlier is what a row remembers of earlier requests after a rotation.
func earlier(row session.Session, r session.Rotation) []byte {
	if r.To != row.Generation+1 || row.LastRequestHash == (session.RequestHash{}) && row.EarlierRequests == nil {
		return nil
	}
	requests := slices.Concat(row.LastRequestHash[:], row.EarlierRequests)
	return requests[:min(len(requests), session.EarlierRequestsSize)]
}

func testRotate(s *suite) {
	u := s.user()

	cases := []struct {
		name   string
		row    func(*session.Session)
		change func(*session.Rotation)
		match  bool
	}{
		{name: "ok/as presented", match: true},
		{name: "ok/forward to where a lost history was", change: func(r *session.Rotation) { r.To = 17 }, match: true},
		{name: "ok/the last generation", row: func(r *session.Session) { r.Generation = 1<<32 - 2 }, match: true},
		{
			name:   "ok/idle end does not pass the absolute end",
			change: func(r *session.Rotation) { r.IdleExpiresAt = now().Add(365 * 24 * time.Hour) },
			match:  true,
		},
		{name: "ok/iat_floor ahead of the clock", row: func(r *session.Session) { r.IATFloor = now().Unix() + 100 }, match: true},
		{
			name:  "ok/just before the idle end",
			row:   func(r *session.Session) { r.IdleExpiresAt = now().Add(time.Hour + time.Microsecond) },
			match: true,
		},
		{
			name:  "ok/just before the absolute end",
			row:   func(r *session.Session) { r.ExpiresAt = now().Add(time.Hour + time.Microsecond) },
			match: true,
		},
		{name: "fail/unknown session", change: func(r *session.Rotation) { r.ID[15]++ }},
		{name: "fail/wrong nonce", change: func(r *session.Rotation) { r.Nonce[15]++ }},
		{name: "fail/no nonce", change: func(r *session.Rotation) { r.Nonce = session.Nonce{} }},
		{name: "fail/wrong client", change: func(r *session.Rotation) { r.ClientID = "another" }},
		{name: "fail/client in another case", change: func(r *session.Rotation) { r.ClientID = "DEFAULT" }},
		{name: "fail/no client", change: func(r *session.Rotation) { r.ClientID = "" }},
		{name: "fail/generation before", change: func(r *session.Rotation) { r.From--; r.To-- }},
		{name: "fail/generation after", change: func(r *session.Rotation) { r.From++; r.To++ }},
		{name: "fail/at the idle end", row: func(r *session.Session) { r.IdleExpiresAt = now().Add(time.Hour) }},
		{name: "fail/at the absolute end", row: func(r *session.Session) { r.ExpiresAt = now().Add(time.Hour) }},
		{name: "fail/revoked", row: func(r *session.Session) { r.RevokedAt, r.RevokeReason = now(), session.ReasonLogout }},
	}
	for _, c := range cases {
		s.run(c.name, func(s *suite) {
			row := s.newSession(u.ID)
			if c.row != nil {
				c.row(&row)
			}
			row = s.start(s.starting(row))
			r := rotation(row, now().Add(time.Hour))
			if c.change != nil {
				c.change(&r)
			}
			// Alone and among others: the two ways may be two statements.
			for _, others := range []int{0, 1} {
				var batch []session.Rotation
				for range others {
					batch = append(batch, rotation(s.session(u.ID), r.At))
				}
				batch = append(batch, r)
				got, err := s.first.Rotate(s.Context(), batch)
				s.must(err)
				if len(got) != len(batch) {
					s.Fatalf("%d rows for %d rotations", len(got), len(batch))
				}
				mine := got[others]
				if !c.match {
					if mine != nil {
						s.Fatalf("rotated: %+v", mine)
					}
					s.same("row", s.read(row.ID), row)
					continue
				}
				if mine == nil {
					s.Fatal("not rotated")
				}
				row = rotated(row, r)
				s.same("returned", *mine, row)
				s.same("stored", s.read(row.ID), row)
				if row.Generation == 1<<32-1 {
					return
				}
				r = rotation(row, r.At.Add(time.Minute))
				if row.IdleExpiresAt.Before(r.At) {
					return
				}
			}
		})
	}

	s.run("fail/client disabled", func(s *suite) {
		c := s.client()
		row := s.newSession(u.ID)
		row.ClientID = c.ID
		row = s.start(s.starting(row))
		s.must(s.first.DisableClient(s.Context(), c.ID, now(), blocklist.NewEntry(verifier.BlockClient, c.ID, blockUntil(now())),
			s.event(audit.KindClientDisabled, "")))
		for _, batch := range [][]session.Rotation{{rotation(row, now())}, {rotation(row, now()), rotation(row, now())}} {
			got, err := s.first.Rotate(s.Context(), batch)
			s.must(err)
			s.same("rows", got, make([]*session.Session, len(batch)))
		}
		got, err := s.first.Repeat(s.Context(), rotation(row, now()))
		s.must(err)
		s.same("row", got, (*session.Session)(nil))
	})

	for name, others := range map[string]int{"alone": 0, "in a batch": 1} {
		s.run("ok/the row remembers the requests of the last generations, "+name, func(s *suite) {
			row := s.newSession(u.ID)
			row.LastRequestHash = session.RequestHash{}
			row = s.start(s.starting(row))
			keyed := session.HashRequest("a key")
			for i, by := range []session.RequestHash{{}, keyed, {}, {}, {2}, {3}, {4}, {5}, {}} {
				r := rotation(row, now().Add(time.Duration(i)*time.Second))
				r.RequestHash = by
				batch := []session.Rotation{r}
				for range others {
					batch = append(batch, rotation(s.session(u.ID), r.At))
				}
				_, err := s.first.Rotate(s.Context(), batch)
				s.must(err)
				row = rotated(row, r)
				s.same("stored", s.read(row.ID), row)
				if i == 1 && row.EarlierRequests != nil {
					s.Errorf("remembers %x, but there was no key before", row.EarlierRequests)
				}
			}
			if len(row.EarlierRequests) != session.EarlierRequestsSize {
				s.Errorf("%d bytes", len(row.EarlierRequests))
			}
			jump := rotation(row, now())
			jump.To += 7
			_, err := s.first.Rotate(s.Context(), []session.Rotation{jump})
			s.must(err)
			if got := s.read(row.ID).EarlierRequests; got != nil {
				s.Errorf("after a jump the row remembers %x of generations that it does not know", got)
			}
		})
	}

	s.run("ok/none", func(s *suite) {
		got, err := s.first.Rotate(s.Context(), nil)
		s.must(err)
		s.same("rows", got, []*session.Session{})
	})

	s.run("ok/a batch answers in the order of its requests, each for itself", func(s *suite) {
		const n = 128
		at := now().Add(time.Hour)
		rows := make([]session.Session, n)
		batch := make([]session.Rotation, n)
		for i := range rows {
			rows[i] = s.session(u.ID)
			batch[i] = rotation(rows[i], at.Add(time.Duration(i)*time.Microsecond))
			if i%3 == 0 {
				batch[i].Nonce[0]++
			}
		}
		mixed := s.mixed(n)
		shuffled := make([]session.Rotation, n)
		for i, j := range mixed {
			shuffled[i] = batch[j]
		}
		got, err := s.first.Rotate(s.Context(), shuffled)
		s.must(err)
		for i, j := range mixed {
			if j%3 == 0 {
				s.same("refused", got[i], (*session.Session)(nil))
				s.same("refused row", s.read(rows[j].ID), rows[j])
				continue
			}
			if got[i] == nil {
				s.Fatalf("rotation %d was refused", i)
			}
			s.same("row", *got[i], rotated(rows[j], batch[j]))
			s.same("stored", s.read(rows[j].ID), rotated(rows[j], batch[j]))
		}
	})

	s.run("ok/of several rotations of one session one succeeds", func(s *suite) {
		row, other := s.session(u.ID), s.session(u.ID)
		at := now().Add(time.Hour)
		chain := rotation(row, at)
		chain.From, chain.To = row.Generation+1, row.Generation+2 // would follow on the others
		batch := []session.Rotation{rotation(row, at), rotation(row, at), rotation(other, at), rotation(row, at), chain}
		got, err := s.first.Rotate(s.Context(), batch)
		s.must(err)
		if got[2] == nil {
			s.Error("the other session was not rotated")
		}
		won := 0
		for i, g := range got {
			if g != nil && g.ID == row.ID {
				won++
				s.same("row", *g, rotated(row, batch[i]))
			}
		}
		if won != 1 {
			s.Errorf("%d rotations of one session succeeded, want 1", won)
		}
		s.same("generation", s.read(row.ID).Generation, row.Generation+1)
	})

	s.run("ok/repeat moves iat_floor alone", func(s *suite) {
		row := s.session(u.ID)
		for _, at := range []time.Time{now().Add(time.Hour), now()} { // back in time it stays
			got, err := s.first.Repeat(s.Context(), rotation(row, at))
			s.must(err)
			row.IATFloor = max(row.IATFloor, at.Unix())
			if got == nil {
				s.Fatal("not repeated")
			}
			s.same("returned", *got, row)
			s.same("stored", s.read(row.ID), row)
		}
	})

	for name, change := range map[string]func(*session.Rotation){
		"unknown session": func(r *session.Rotation) { r.ID[15]++ },
		"wrong nonce":     func(r *session.Rotation) { r.Nonce[0]++ },
		"wrong client":    func(r *session.Rotation) { r.ClientID = "another" },
		"moved on":        func(r *session.Rotation) { r.From-- },
		"idle end":        func(r *session.Rotation) { r.At = now().Add(7 * 24 * time.Hour) },
		"absolute end":    func(r *session.Rotation) { r.At = now().Add(30 * 24 * time.Hour) },
	} {
		s.run("fail/repeat/"+name, func(s *suite) {
			row := s.session(u.ID)
			r := rotation(row, now().Add(time.Hour))
			change(&r)
			got, err := s.first.Repeat(s.Context(), r)
			s.must(err)
			s.same("returned", got, (*session.Session)(nil))
			s.same("stored", s.read(row.ID), row)
		})
	}

	for name, c := range map[string]struct {
		scope  string
		client oauth.Client
		told   bool
	}{
		"ok/person for an ID token":            {"email openid", oauth.Client{}, true},
		"ok/person for a third party that may": {"openid", oauth.Client{ThirdParty: true, IDTokenClaims: new(true)}, true},
		"fail/person without openid":           {"openid2 xopenid", oauth.Client{}, false},
		"fail/person for a third party":        {"openid", oauth.Client{ThirdParty: true}, false},
		"fail/person for a client without":     {"openid", oauth.Client{IDTokenClaims: new(false)}, false},
	} {
		s.run(name, func(s *suite) {
			who := s.newUser()
			who.Profile, who.EmailVerifiedAt = user.Profile{Locale: "de", Picture: `https://x.example/"`}, now()
			s.must(s.first.CreateUser(s.Context(), who, s.event(audit.KindUserCreated, who.ID)))
			want := &user.User{
				ID: who.ID, Email: who.Email, EmailVerifiedAt: now().Truncate(time.Second), Name: who.Name, Profile: who.Profile,
				UpdatedAt: who.UpdatedAt.Truncate(time.Second).UTC(),
			}
			if !c.told {
				want = nil
			}
			c.client.ID, c.client.CreatedAt, c.client.UpdatedAt = s.client().ID+"x", now(), now()
			s.must(s.first.CreateClient(s.Context(), c.client, s.event(audit.KindClientCreated, "")))
			var batch []session.Rotation
			var rows []session.Session
			for range 3 {
				row := s.newSession(who.ID)
				row.ClientID, row.Scope = c.client.ID, c.scope
				row = s.start(s.starting(row))
				rows, batch = append(rows, row), append(batch, rotation(row, now().Add(time.Hour)))
			}
			got, err := s.first.Rotate(s.Context(), batch[:2])
			s.must(err)
			s.same("of many", []*user.User{got[0].Person, got[1].Person}, []*user.User{want, want})
			got, err = s.first.Rotate(s.Context(), batch[2:])
			s.must(err)
			s.same("of one", got[0].Person, want)
			again := batch[2]
			again.From = got[0].Generation
			repeated, err := s.second.Repeat(s.Context(), again)
			s.must(err)
			s.same("repeated", repeated.Person, want)
			s.same("read", s.read(rows[0].ID).Person, (*user.User)(nil))
		})
	}

	s.run("ok/100 at once rotate one token once", func(s *suite) {
		row := s.session(u.ID)
		for range 5 {
			var won atomic.Int64
			s.parallel(100, func(i int, st store.Store) error {
				r := rotation(row, now().Add(time.Duration(i)*time.Second))
				got, err := st.Rotate(s.Context(), []session.Rotation{r})
				if err == nil && got[0] != nil {
					won.Add(1)
					s.same("row", *got[0], rotated(row, r))
				}
				return err
			})
			if n := won.Load(); n != 1 {
				s.Fatalf("%d rotations succeeded, want 1", n)
			}
			after := s.read(row.ID)
			s.same("generation", after.Generation, row.Generation+1)
			row = after
		}
	})

	s.run("ok/100 at once rotate many sessions in overlapping batches", func(s *suite) {
		const sessions, size = 40, 16
		rows := make([]session.Session, sessions)
		for i := range rows {
			rows[i] = s.session(u.ID)
		}
		for range 3 {
			won := make([]atomic.Int64, sessions)
			orders := make([][]int, 100)
			for i := range orders {
				orders[i] = s.mixed(sessions)
			}
			s.parallel(100, func(i int, st store.Store) error {
				for chosen := range slices.Chunk(orders[i], size) {
					batch := make([]session.Rotation, len(chosen))
					for k, j := range chosen {
						batch[k] = rotation(rows[j], now().Add(time.Minute))
					}
					got, err := st.Rotate(s.Context(), batch)
					if err != nil {
						return err
					}
					for k, j := range chosen {
						if got[k] != nil {
							won[j].Add(1)
						}
					}
				}
				return nil
			})
			for j := range rows {
				if n := won[j].Load(); n != 1 {
					s.Fatalf("session %d was rotated %d times, want 1", j, n)
				}
				rows[j] = s.read(rows[j].ID)
			}
		}
	})
}

// mixed returns 0 to n-1 in random order.
func (s *suite) mixed(n int) []int {
	order := make([]int, n)
	key := make([]string, n)
	for i := range order {
		order[i], key[i] = i, rand.Text()
	}
	slices.SortFunc(order, func(a, b int) int { return slices.Compare([]byte(key[a]), []byte(key[b])) })
	return order
}

func testSessions(s *suite) {
	s.run("fail/unknown", func(s *suite) {
		id := session.NewID(now())
		if _, err := s.first.Session(s.Context(), id); !errors.Is(err, session.ErrNotFound) {
			s.Errorf("Session: %v, want ErrNotFound", err)
		}
		u := user.NewID(now())
		ended, err := s.first.EndSession(s.Context(), id, s.ending(u, now(), audit.KindSessionEnded, session.ReasonLogout))
		s.must(err)
		s.same("ended", ended, false)
		if _, ok := s.blocked(id); ok {
			s.Error("an unknown sid was blocked")
		}
		s.same("events", s.countEvents(u, audit.KindSessionEnded), 0)
		live, err := s.first.Sessions(s.Context(), u, now())
		s.must(err)
		s.same("sessions", live, []session.Session{})
	})

	s.run("ok/the live ones are listed, newest first", func(s *suite) {
		u, other := s.user(), s.user()
		s.session(other.ID)
		var want []session.Session
		for range 3 {
			want = append([]session.Session{s.session(u.ID)}, want...)
		}
		at := now().Add(time.Hour)
		for _, change := range []func(*session.Session){
			func(r *session.Session) { r.IdleExpiresAt = at },
			func(r *session.Session) { r.ExpiresAt = at },
			func(r *session.Session) { r.RevokedAt = now() },
		} {
			row := s.newSession(u.ID)
			change(&row)
			s.start(s.starting(row))
		}
		got, err := s.second.Sessions(s.Context(), u.ID, at)
		s.must(err)
		s.same("sessions", got, want)
	})

	s.run("ok/end one, once", func(s *suite) {
		u := s.user()
		row, other := s.session(u.ID), s.session(u.ID)
		e := s.ending(u.ID, now().Add(time.Hour), audit.KindSessionEnded, session.ReasonLogout)
		ended, err := s.first.EndSession(s.Context(), row.ID, e)
		s.must(err)
		s.same("ended", ended, true)
		s.wantEnded(row.ID, e.At, session.ReasonLogout)
		s.wantEvent(e.Event)
		s.wantLive(other)

		again := s.ending(u.ID, now().Add(2*time.Hour), audit.KindSessionEnded, session.ReasonReuse)
		ended, err = s.second.EndSession(s.Context(), row.ID, again)
		s.must(err)
		s.same("ended again", ended, false)
		s.wantEnded(row.ID, e.At, session.ReasonLogout)
		s.same("events", s.countEvents(u.ID, audit.KindSessionEnded), 1)
	})

	s.run("fail/end one that is over", func(s *suite) {
		u := s.user()
		row := s.session(u.ID)
		ended, err := s.first.EndSession(s.Context(), row.ID,
			s.ending(u.ID, row.IdleExpiresAt, audit.KindSessionEnded, session.ReasonLogout))
		s.must(err)
		s.same("ended", ended, false)
		s.wantLive(row)
		s.same("events", s.countEvents(u.ID, audit.KindSessionEnded), 0)
	})

	at := now().Add(time.Hour)
	for name, c := range map[string]struct {
		reason session.Reason
		kind   audit.Kind
		call   func(s *suite, u user.User, e session.Ending) ([]session.ID, error)
		check  func(s *suite, before, after user.User)
	}{
		"EndSessions": {
			session.ReasonLogoutAll, audit.KindSessionsEnded,
			func(s *suite, u user.User, e session.Ending) ([]session.ID, error) {
				return s.first.EndSessions(s.Context(), u.ID, session.ID{}, e)
			},
			func(s *suite, before, after user.User) { s.same("user", after, before) },
		},
		"SetPassword": {
			session.ReasonPasswordChange, audit.KindPasswordChanged,
			func(s *suite, u user.User, e session.Ending) ([]session.ID, error) {
				return s.first.SetPassword(s.Context(), u.ID, u.PasswordHash, "new hash", e)
			},
			func(s *suite, before, after user.User) {
				before.PasswordHash, before.UpdatedAt = "new hash", stored(at)
				s.same("user", after, before)
			},
		},
		"DisableUser": {
			session.ReasonUserDisabled, audit.KindUserDisabled,
			func(s *suite, u user.User, e session.Ending) ([]session.ID, error) {
				return s.first.DisableUser(s.Context(), u.ID, e)
			},
			func(s *suite, before, after user.User) {
				before.DisabledAt, before.UpdatedAt = stored(at), stored(at)
				s.same("user", after, before)
			},
		},
	} {
		s.run("ok/"+name+" ends all", func(s *suite) {
			u, other := s.user(), s.user()
			stranger := s.session(other.ID)
			rows := []session.Session{s.session(u.ID), s.session(u.ID), s.session(u.ID)}
			over := s.newSession(u.ID)
			over.IdleExpiresAt = at
			over = s.start(s.starting(over))

			before, err := s.first.UserByID(s.Context(), u.ID)
			s.must(err)
			e := s.ending(u.ID, at, c.kind, c.reason)
			ids, err := c.call(s, u, e)
			s.must(err)
			s.sameIDs("ended", ids, rows[0].ID, rows[1].ID, rows[2].ID)
			for _, row := range rows {
				s.wantEnded(row.ID, at, c.reason)
			}
			s.wantLive(stranger)
			s.wantLive(over)
			s.wantEvent(e.Event)
			after, err := s.first.UserByID(s.Context(), u.ID)
			s.must(err)
			c.check(s, before, after)
		})
	}

	s.run("ok/EndSessions spares one", func(s *suite) {
		u := s.user()
		ended, spared := s.session(u.ID), s.session(u.ID)
		e := s.ending(u.ID, at, audit.KindSessionsEnded, session.ReasonLogoutAll)
		ids, err := s.first.EndSessions(s.Context(), u.ID, spared.ID, e)
		s.must(err)
		s.same("ended", ids, []session.ID{ended.ID})
		s.wantLive(spared)
		s.wantEvent(e.Event)
	})

	s.run("ok/EndSessionsBefore ends what was begun before, in batches", func(s *suite) {
		u := s.user()
		then := now().Add(-1000 * 24 * time.Hour) // no other test has sessions of that time
		begun := func(at time.Time) session.Session {
			row := s.newSession(u.ID)
			row.ID, row.CreatedAt = session.NewID(at), at
			return s.start(s.starting(row))
		}
		var old []session.ID
		for i := range 3 {
			old = append(old, begun(then.Add(time.Duration(i-3)*time.Second)).ID)
		}
		spared := begun(then)
		browser := func(at time.Time) oauth.BrowserSession {
			b := s.newBrowserSession(u.ID)
			b.CreatedAt = stored(at)
			s.must(s.first.SaveBrowserSession(s.Context(), b, oauth.Hash{}))
			return b
		}
		before, after := browser(then.Add(-time.Second)), browser(then)

		e := s.ending("", at, audit.KindSessionsEnded, session.ReasonRevoked)
		ids, forgotten, err := s.first.EndSessionsBefore(s.Context(), then, session.ID{}, 2, e)
		s.must(err)
		s.same("ended", ids, old[:2])
		s.same("forgotten", forgotten, 1)
		s.wantEvent(e.Event)
		e = s.ending("", at, audit.KindSessionsEnded, session.ReasonRevoked)
		ids, forgotten, err = s.first.EndSessionsBefore(s.Context(), then, ids[1], 2, e)
		s.must(err)
		s.same("ended", ids, old[2:])
		s.same("forgotten", forgotten, 0)
		for _, id := range old {
			s.wantEnded(id, at, session.ReasonRevoked)
		}
		s.wantLive(spared)
		s.wantEvent(e.Event)
		s.same("the browser is logged in", []bool{s.loggedIn(before), s.loggedIn(after)}, []bool{false, true})
		ids, _, err = s.first.EndSessionsBefore(s.Context(), then, session.ID{}, 2, e)
		s.must(err)
		s.same("ended again", len(ids), 0)
	})

	s.run("fail/SetPassword with another hash changes nothing", func(s *suite) {
		u := s.user()
		row := s.session(u.ID)
		_, err := s.first.SetPassword(s.Context(), u.ID, "another", "new",
			s.ending(u.ID, at, audit.KindPasswordChanged, session.ReasonPasswordChange))
		if !errors.Is(err, user.ErrChanged) {
			s.Errorf("SetPassword: %v, want ErrChanged", err)
		}
		got, err := s.second.UserByID(s.Context(), u.ID)
		s.must(err)
		s.same("hash", got.PasswordHash, u.PasswordHash)
		s.wantLive(row)
		s.same("events", s.countEvents(u.ID, audit.KindPasswordChanged), 0)
	})

	s.run("ok/swept in small parts by two at once", func(s *suite) {
		u := s.user()
		before := now().Add(-24 * time.Hour)
		const old = 200
		for i := range old {
			row := s.newSession(u.ID)
			row.ExpiresAt = before.Add(-time.Duration(i+1) * time.Microsecond)
			s.start(s.starting(row))
		}
		row := s.newSession(u.ID)
		row.ExpiresAt = before
		spared := s.start(s.starting(row))

		n, err := s.first.SweepSessions(s.Context(), before, 7)
		s.must(err)
		s.same("swept", n, 7)
		var swept atomic.Int64
		s.parallel(8, func(_ int, st store.Store) error {
			// A sweeper may find that others hold all that is left.
			for empty := 0; empty < 3; {
				n, err := st.SweepSessions(s.Context(), before, 10)
				if err != nil {
					return err
				}
				if n > 10 {
					s.Errorf("swept %d, the limit is 10", n)
				}
				if n == 0 {
					empty++
				}
				swept.Add(int64(n))
			}
			return nil
		})
		n, err = s.second.SweepSessions(s.Context(), before, 1000)
		s.must(err)
		s.same("swept by all", int(swept.Load())+n, old-7)
		s.wantLive(spared)
	})
}

func testRoles(s *suite) {
	set := func(s *suite, u user.User, at time.Time, roles ...string) {
		s.Helper()
		e := s.ending(u.ID, at, audit.KindRolesChanged, "")
		s.must(s.first.SetRoles(s.Context(), u.ID, roles, e))
		s.wantEvent(e.Event)
		got, err := s.second.UserByID(s.Context(), u.ID)
		s.must(err)
		s.same("roles of the user", got.Roles, roles)
		s.same("UpdatedAt", got.UpdatedAt, stored(at))
	}
	// block checks the entry, and that the session lives on with the roles and floor.
	block := func(s *suite, row session.Session, at time.Time, notBefore int64, roles ...string) session.Session {
		s.Helper()
		e, ok := s.blocked(row.ID)
		if !ok {
			s.Fatal("the sid is not blocked")
		}
		s.same("entry", e, blocklist.Entry{Key: e.Key, NotBefore: time.Unix(notBefore, 0).UTC(), DropAfter: blockUntil(at)})
		row.Roles, row.IATFloor = roles, notBefore+1
		got := s.read(row.ID)
		s.wantRevokedStatus(row.StatusNumber, true)
		s.wantRevokedStatus(got.StatusNumber, false)
		row.StatusNumber = got.StatusNumber
		s.same("session", got, row)
		return row
	}

	s.run("ok/live sessions carry the roles, and only tokens minted before are blocked", func(s *suite) {
		u, other := s.user(), s.user()
		stranger := s.session(other.ID)
		a, b := s.session(u.ID), s.session(u.ID)
		at := now().Add(time.Hour)
		row := s.newSession(u.ID)
		row.IdleExpiresAt = at
		over := s.start(s.starting(row))

		set(s, u, at, "admin")
		block(s, a, at, at.Unix(), "admin")
		block(s, b, at, at.Unix(), "admin")
		s.wantLive(stranger)
		s.wantLive(over)
		if fresh := s.session(u.ID); !slices.Equal(fresh.Roles, []string{"admin"}) {
			s.Errorf("a new session has roles %q", fresh.Roles)
		}
	})

	s.run("ok/no roles at all", func(s *suite) {
		u := s.user()
		row := s.session(u.ID)
		set(s, u, now())
		block(s, row, now(), now().Unix())
	})

	// REV-08: whatever happens within one second, a token minted before the change has iat <= not_before and one minted
	// after has not.
	s.run("ok/REV-08/mint, change, mint within one second", func(s *suite) {
		u := s.user()
		row := s.session(u.ID)
		at := now().Add(time.Hour)
		minted := s.rotate(row, at)
		s.same("iat before", minted.IATFloor, at.Unix())
		set(s, u, at.Add(time.Millisecond), "admin")
		row = block(s, minted, at.Add(time.Millisecond), at.Unix(), "admin")
		minted = s.rotate(row, at.Add(2*time.Millisecond))
		s.same("iat after", minted.IATFloor, at.Unix()+1)

		set(s, u, at.Add(3*time.Millisecond), "auditor") // the token minted just now is blocked, too
		row = block(s, minted, at.Add(3*time.Millisecond), at.Unix()+1, "auditor")
		minted = s.rotate(row, at.Add(4*time.Millisecond))
		s.same("iat after", minted.IATFloor, at.Unix()+2)
	})

	s.run("ok/REV-08/two changes, then mint within one second", func(s *suite) {
		u := s.user()
		row := s.session(u.ID)
		at := now().Add(time.Hour)
		set(s, u, at, "admin")
		row = block(s, row, at, at.Unix(), "admin")
		set(s, u, at, "auditor")
		row = block(s, row, at, at.Unix()+1, "auditor")
		s.same("iat after", s.rotate(row, at).IATFloor, at.Unix()+2)
		repeated, err := s.first.Repeat(s.Context(), rotation(s.read(row.ID), at))
		s.must(err)
		s.same("iat of a repeat", repeated.IATFloor, at.Unix()+2)
	})

	s.run("ok/REV-08/by a replica whose clock is a second behind", func(s *suite) {
		u := s.user()
		row := s.session(u.ID)
		at := now().Add(time.Hour)
		minted := s.rotate(row, at)
		set(s, u, at.Add(-time.Second), "admin")
		row = block(s, minted, at.Add(-time.Second), at.Unix(), "admin")
		s.same("iat after", s.rotate(row, at.Add(-time.Second)).IATFloor, at.Unix()+1)
	})

	s.run("ok/iat_floor does not run away, however many changes there are", func(s *suite) {
		u := s.user()
		row := s.session(u.ID)
		at := now().Add(time.Hour)
		for i := range 50 {
			set(s, u, at, fmt.Sprintf("role-%d", i))
		}
		s.same("iat_floor", s.read(row.ID).IATFloor, at.Unix()+2)
		e, _ := s.blocked(row.ID)
		s.same("NotBefore", e.NotBefore.Unix(), at.Unix()+1)
		set(s, u, at.Add(5*time.Second), "later")
		s.same("iat_floor later", s.read(row.ID).IATFloor, at.Unix()+6)
	})

	s.run("ok/the same roles in any order change nothing", func(s *suite) {
		u := s.user()
		row := s.session(u.ID)
		at := now().Add(time.Hour)
		set(s, u, at, "admin", "auditor")
		before, events := s.read(row.ID), s.countEvents(u.ID, audit.KindRolesChanged)
		s.must(s.second.SetRoles(s.Context(), u.ID, []string{"auditor", "admin"},
			s.ending(u.ID, at.Add(time.Minute), audit.KindRolesChanged, "")))
		s.same("row", s.read(row.ID), before)
		s.same("events", s.countEvents(u.ID, audit.KindRolesChanged), events)
		e, _ := s.blocked(row.ID)
		s.same("NotBefore", e.NotBefore.Unix(), at.Unix())
	})

	s.run("ok/a block for good stays for good", func(s *suite) {
		u := s.user()
		row := s.session(u.ID)
		_, err := s.first.EndSession(s.Context(), row.ID, s.ending(u.ID, now(), audit.KindSessionEnded, session.ReasonLogout))
		s.must(err)
		set(s, u, now(), "admin")
		s.wantEnded(row.ID, now(), session.ReasonLogout)
	})

	s.run("ok/ended after its roles changed", func(s *suite) {
		u := s.user()
		row := s.session(u.ID)
		set(s, u, now(), "admin")
		_, err := s.first.EndSession(s.Context(), row.ID, s.ending(u.ID, now(), audit.KindSessionEnded, session.ReasonLogout))
		s.must(err)
		s.wantEnded(row.ID, now(), session.ReasonLogout)
	})
}

// rotate rotates and reads.
func (s *suite) rotate(row session.Session, at time.Time) session.Session {
	s.Helper()
	got, err := s.first.Rotate(s.Context(), []session.Rotation{rotation(row, at)})
	s.must(err)
	if got[0] == nil {
		s.Fatal("not rotated")
	}
	return *got[0]
}
