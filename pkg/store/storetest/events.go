package storetest

import (
	"strconv"
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
		for before := (audit.Cursor{}); ; {
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
			before = page[len(page)-1].Cursor()
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
		events, err := s.second.Events(s.Context(), "usr_4", audit.Cursor{}, 10)
		s.must(err)
		var got []string
		for _, e := range events {
			got = append(got, e.Reason)
		}
		s.same("order", got, want)
	})

	s.run("ok/many of the same instant, in pages: none is lost and none comes twice", func(s *suite) {
		const n = 23
		var want []string
		for i := range n {
			e := s.event(audit.KindLoginFailed, "usr_5")
			e.Reason = strconv.Itoa(i)
			s.must(s.first.Record(s.Context(), e))
			want = append([]string{e.Reason}, want...)
		}
		for _, size := range []int{1, 2, 7, n - 1, n, n + 1} {
			var got []string
			for before := (audit.Cursor{}); ; {
				page, err := s.second.Events(s.Context(), "usr_5", before, size)
				s.must(err)
				for _, e := range page {
					got = append(got, e.Reason)
				}
				if len(page) < size {
					break
				}
				before = page[len(page)-1].Cursor()
			}
			s.same("pages of "+strconv.Itoa(size), got, want)
		}
	})

	s.run("ok/the old are swept in batches, the oldest first", func(s *suite) {
		past := time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
		for i := range 5 {
			e := s.event(audit.KindLoginFailed, "usr_old")
			e.At = past.Add(time.Duration([]int{3, 1, 4, 2, 0}[i]) * time.Second)
			s.must(s.first.Record(s.Context(), e))
		}
		s.must(s.first.Record(s.Context(), s.event(audit.KindLoginFailed, "usr_old")))
		wantLeft := func(want ...time.Time) {
			s.Helper()
			events, err := s.second.Events(s.Context(), "usr_old", audit.Cursor{}, 10)
			s.must(err)
			var got []time.Time
			for _, e := range events {
				got = append(got, e.At)
			}
			s.same("times", got, want)
		}
		end := past.Add(3 * time.Second) // what is exactly so old stays
		three, four := stored(end), stored(end.Add(time.Second))
		for _, step := range []struct {
			swept int
			left  []time.Time
		}{
			{2, []time.Time{stored(now()), four, three, stored(past.Add(2 * time.Second))}},
			{1, []time.Time{stored(now()), four, three}},
			{0, []time.Time{stored(now()), four, three}},
		} {
			n, err := s.first.SweepEvents(s.Context(), end, 2)
			s.must(err)
			s.same("swept", n, step.swept)
			wantLeft(step.left...)
		}
	})

	s.run("ok/of everybody", func(s *suite) {
		e := s.event(audit.KindKeyRotated, "")
		e.At = now().Add(100 * time.Hour)
		s.must(s.first.Record(s.Context(), e))
		e.At = stored(e.At)
		newest, err := s.second.Events(s.Context(), "", audit.Cursor{}, 1)
		s.must(err)
		if len(newest) == 1 {
			e.ID = newest[0].ID // the store gave it
		}
		s.same("newest", newest, []audit.Event{e})
		older, err := s.second.Events(s.Context(), "", audit.Cursor{At: e.At}, 1000)
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
