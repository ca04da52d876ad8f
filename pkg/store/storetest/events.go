package storetest

import (
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
)

func testEvents(s *suite) {
	s.run("ok/an event is read as it was recorded", func(s *suite) {
		for _, e := range []audit.Event{
			s.event(audit.KindLoginFailed, "usr_1"),
			{At: now().Add(time.Hour), Kind: audit.KindSignedUp, Actor: "", UserID: "usr_1"},
		} {
			s.must(s.first.Record(s.Context(), e))
			s.wantEvent(e)
		}
	})

	s.run("ok/newest first, in pages", func(s *suite) {
		const n = 5
		for i := range n {
			e := s.event(audit.KindLoginFailed, "usr_2")
			e.At = now().Add(time.Duration([]int{3, 1, 4, 2, 0}[i]) * time.Second)
			s.must(s.first.Record(s.Context(), e))
		}
		s.must(s.first.Record(s.Context(), s.event(audit.KindLoginFailed, "usr_3")))
		var got []time.Time
		for before := (time.Time{}); ; {
			page, err := s.second.Events(s.Context(), "usr_2", before, 2)
			s.must(err)
			if len(page) == 0 {
				break
			}
			if len(page) > 2 {
				s.Fatalf("a page of 2 has %d events", len(page))
			}
			for _, e := range page {
				s.same("UserID", e.UserID, "usr_2")
				got = append(got, e.At)
			}
			before = page[len(page)-1].At
		}
		var want []time.Time
		for i := range n {
			want = append(want, stored(now().Add(time.Duration(n-1-i)*time.Second)))
		}
		s.same("times", got, want)
	})

	s.run("ok/of the same instant, the last recorded first", func(s *suite) {
		var want []string
		for range 4 {
			e := s.event(audit.KindLoginFailed, "usr_4")
			s.must(s.first.Record(s.Context(), e))
			want = append([]string{e.Reason}, want...)
		}
		events, err := s.second.Events(s.Context(), "usr_4", time.Time{}, 10)
		s.must(err)
		var got []string
		for _, e := range events {
			got = append(got, e.Reason)
		}
		s.same("order", got, want)
	})

	s.run("ok/of everybody", func(s *suite) {
		e := s.event(audit.KindKeyRotated, "")
		e.At = now().Add(100 * time.Hour)
		s.must(s.first.Record(s.Context(), e))
		e.At = stored(e.At)
		newest, err := s.second.Events(s.Context(), "", time.Time{}, 1)
		s.must(err)
		s.same("newest", newest, []audit.Event{e})
		older, err := s.second.Events(s.Context(), "", e.At, 1000)
		s.must(err)
		users := map[string]bool{}
		for _, o := range older {
			users[o.UserID] = true
			if !o.At.Before(e.At) {
				s.Errorf("event at %s is not older than %s", o.At, e.At)
			}
		}
		if len(users) < 4 {
			s.Errorf("events of %d users", len(users))
		}
	})
}
