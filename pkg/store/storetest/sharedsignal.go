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
	"github.com/handstamp/handstamp/pkg/sharedsignal"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/user"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// stream stores a stream of a new client.
func (s *suite) stream(method string) sharedsignal.Stream {
	s.Helper()
	c := oauth.Client{
		ID:         "receiver-" + rand.Text(),
		Type:       oauth.Confidential,
		SecretHash: oauth.HashSecret("x"),
		CreatedAt:  now(),
		UpdatedAt:  now(),
	}
	s.must(s.first.CreateClient(s.Context(), c, s.event(audit.KindClientCreated, "")))
	stream := sharedsignal.Stream{
		ID:              sharedsignal.NewStreamID(),
		ClientID:        c.ID,
		Method:          method,
		EndpointURL:     "https://receiver.example.test/events",
		Sealed:          []byte{1, 2, 3},
		Description:     "of 'tests'",
		EventsRequested: []string{sharedsignal.EventSessionRevoked, "urn:other"},
		Status:          sharedsignal.Enabled,
		CreatedAt:       stored(now()),
		UpdatedAt:       stored(now()),
	}
	s.must(s.first.CreateStream(s.Context(), stream))
	return stream
}

func (s *suite) signals(streamID string) []sharedsignal.Event {
	s.Helper()
	events, err := s.second.SignalEvents(s.Context(), streamID, 1000)
	s.must(err)
	return events
}

// about are the events of a stream that are about a user.
func (s *suite) about(streamID, userID string) []sharedsignal.Event {
	s.Helper()
	return slices.DeleteFunc(s.signals(streamID), func(e sharedsignal.Event) bool { return e.UserID != userID })
}

func jtis(events []sharedsignal.Event) []string {
	var out []string
	for _, e := range events {
		out = append(out, e.JTI)
	}
	return out
}

// leased reports whether a stream is among those that are due.
func (s *suite) leased(st store.Store, streamID string, at, until time.Time) (sharedsignal.Due, bool) {
	s.Helper()
	due, err := st.LeaseStreams(s.Context(), at, until, 1000)
	s.must(err)
	i := slices.IndexFunc(due, func(d sharedsignal.Due) bool { return d.ID == streamID })
	if i < 0 {
		return sharedsignal.Due{}, false
	}
	return due[i], true
}

func testSignals(s *suite) {
	at := now().Add(time.Hour)
	end := func(s *suite, u user.User) {
		s.Helper()
		_, err := s.first.EndSessions(s.Context(), u.ID, session.ID{},
			s.ending(u.ID, at, audit.KindSessionsEnded, session.ReasonLogoutAll))
		s.must(err)
	}

	s.run("ok/a stream is read as created and as updated, and one client has one", func(s *suite) {
		stream := s.stream(sharedsignal.MethodPush)
		got, err := s.second.Stream(s.Context(), stream.ClientID)
		s.must(err)
		s.same("stream", got, stream)
		another := stream
		another.ID = sharedsignal.NewStreamID()
		if err := s.first.CreateStream(s.Context(), another); !errors.Is(err, sharedsignal.ErrStreamExists) {
			s.Errorf("CreateStream: %v, want ErrStreamExists", err)
		}
		stream.Method, stream.EndpointURL, stream.Sealed = sharedsignal.MethodPoll, "", nil
		stream.Description, stream.EventsRequested, stream.UpdatedAt = "", nil, stored(at)
		s.must(s.first.UpdateStream(s.Context(), stream))
		got, err = s.second.Stream(s.Context(), stream.ClientID)
		s.must(err)
		s.same("stream", got, stream)
	})

	s.run("fail/no such stream, or another client's", func(s *suite) {
		stream := s.stream(sharedsignal.MethodPoll)
		for _, of := range []sharedsignal.Stream{{
			ID:       stream.ID,
			ClientID: "other",
			Method:   sharedsignal.MethodPoll,
		}, {ID: "stm_none", ClientID: stream.ClientID, Method: sharedsignal.MethodPoll}} {
			for name, err := range map[string]error{
				"UpdateStream":    s.first.UpdateStream(s.Context(), of),
				"SetStreamStatus": s.first.SetStreamStatus(s.Context(), of.ID, of.ClientID, sharedsignal.Paused, "", at),
				"DeleteStream":    s.first.DeleteStream(s.Context(), of.ID, of.ClientID),
			} {
				if !errors.Is(err, sharedsignal.ErrStreamNotFound) {
					s.Errorf("%s: %v, want ErrStreamNotFound", name, err)
				}
			}
		}
		for name, err := range map[string]error{
			"Verify":   s.first.Verify(s.Context(), "stm_none", "", at, time.Second),
			"LeaveOut": s.first.LeaveOut(s.Context(), "stm_none", sharedsignal.Subject{UserID: "usr_x"}, 5),
		} {
			if !errors.Is(err, sharedsignal.ErrStreamNotFound) {
				s.Errorf("%s: %v, want ErrStreamNotFound", name, err)
			}
		}
		if _, err := s.first.Stream(s.Context(), "nobody"); !errors.Is(err, sharedsignal.ErrStreamNotFound) {
			s.Errorf("Stream: %v, want ErrStreamNotFound", err)
		}
	})

	ways := waysToEnd(at)
	for _, name := range slices.Sorted(maps.Keys(ways)) {
		s.run("ok/"+name+" leaves one event for each stream", func(s *suite) {
			push, poll := s.stream(sharedsignal.MethodPush), s.stream(sharedsignal.MethodPoll)
			u := s.user()
			row := s.session(u.ID)
			s.must(ways[name](s, u, row, s.ending(u.ID, at, audit.KindSessionsEnded, session.ReasonLogout)))
			for _, stream := range []sharedsignal.Stream{push, poll} {
				got := s.about(stream.ID, u.ID)
				if len(got) != 1 {
					s.Fatalf("%d events, want 1", len(got))
				}
				if len(got[0].JTI) != 32 || got[0].Reason == "" {
					s.Errorf("event %+v", got[0])
				}
				s.same("event", got[0], sharedsignal.Event{
					ID:        got[0].ID,
					JTI:       got[0].JTI,
					Kind:      sharedsignal.KindSessionRevoked,
					UserID:    u.ID,
					SessionID: row.ID,
					Reason:    got[0].Reason,
					At:        stored(at),
				})
			}
			s.must(ways["EndSession"](s, u, row, s.ending(u.ID, at.Add(time.Second), audit.KindSessionsEnded, session.ReasonLogout)))
			s.same("events once it was over", len(s.about(push.ID, u.ID)), 1)
		})
	}

	s.run("ok/no event for a rotation, a role change, a subject that is left out, an event that was not asked for", func(s *suite) {
		stream := s.stream(sharedsignal.MethodPoll)
		u := s.user()
		row := s.session(u.ID)
		s.rotate(row, now())
		s.must(s.first.SetRoles(s.Context(), u.ID, []string{"new"}, s.ending(u.ID, at, audit.KindRolesChanged, "")))
		s.must(s.first.LeaveOut(s.Context(), stream.ID, sharedsignal.Subject{UserID: u.ID}, 10))
		end(s, u)
		other := s.user()
		left := s.session(other.ID)
		told := s.session(other.ID)
		s.must(s.first.LeaveOut(s.Context(), stream.ID, sharedsignal.Subject{SessionID: left.ID}, 10))
		end(s, other)
		s.same("events of the user", len(s.about(stream.ID, u.ID)), 0)
		if got := s.about(stream.ID, other.ID); len(got) != 1 || got[0].SessionID != told.ID {
			s.Errorf("events of the other user: %+v", got)
		}
		err := s.first.LeaveOut(s.Context(), stream.ID, sharedsignal.Subject{UserID: "usr_more"}, 2)
		if !errors.Is(err, sharedsignal.ErrTooManySubjects) {
			s.Errorf("LeaveOut: %v, want ErrTooManySubjects", err)
		}
		s.must(s.first.LeaveOut(s.Context(), stream.ID, sharedsignal.Subject{UserID: u.ID}, 2)) // once more
		s.must(s.first.TakeIn(s.Context(), stream.ID, sharedsignal.Subject{UserID: u.ID}))
		s.session(u.ID)
		end(s, u)
		s.same("events after it was taken in", len(s.about(stream.ID, u.ID)), 1)

		stream.EventsRequested = []string{"urn:other"}
		s.must(s.first.UpdateStream(s.Context(), stream))
		third := s.user()
		s.session(third.ID)
		end(s, third)
		s.same("events that were not asked for", len(s.about(stream.ID, third.ID)), 0)
	})

	s.run("ok/kept until acknowledged, in order; by this stream only", func(s *suite) {
		stream, other := s.stream(sharedsignal.MethodPoll), s.stream(sharedsignal.MethodPoll)
		u := s.user()
		for range 3 {
			s.session(u.ID)
		}
		end(s, u)
		all := s.about(stream.ID, u.ID)
		s.same("again", s.about(stream.ID, u.ID), all)
		if len(all) != 3 || !slices.IsSortedFunc(all, func(a, b sharedsignal.Event) int { return int(a.ID - b.ID) }) {
			s.Fatalf("events %+v", all)
		}
		s.must(s.first.Acknowledge(s.Context(), stream.ID, append(jtis(all[:2]), "unknown")))
		s.same("left", s.about(stream.ID, u.ID), all[2:])
		s.must(s.first.Acknowledge(s.Context(), stream.ID, jtis(s.about(other.ID, u.ID))))
		s.same("left", s.about(stream.ID, u.ID), all[2:])
		limited, err := s.first.SignalEvents(s.Context(), other.ID, 2)
		s.must(err)
		s.same("limited", len(limited), 2)
	})

	s.run("ok/paused keeps events, disabled does not", func(s *suite) {
		stream := s.stream(sharedsignal.MethodPoll)
		status := func(to sharedsignal.Status) {
			s.Helper()
			s.must(s.first.SetStreamStatus(s.Context(), stream.ID, stream.ClientID, to, "because", at))
			got, err := s.second.Stream(s.Context(), stream.ClientID)
			s.must(err)
			s.same("status", []string{string(got.Status), got.StatusReason}, []string{string(to), "because"})
		}
		status(sharedsignal.Paused)
		u := s.user()
		s.session(u.ID)
		end(s, u)
		s.same("while paused", len(s.signals(stream.ID)), 0)
		status(sharedsignal.Enabled)
		s.same("after", len(s.about(stream.ID, u.ID)), 1)
		status(sharedsignal.Disabled)
		s.session(u.ID)
		end(s, u)
		status(sharedsignal.Enabled)
		s.same("after it was disabled", len(s.about(stream.ID, u.ID)), 0)
	})

	s.run("ok/verification, not too often", func(s *suite) {
		stream := s.stream(sharedsignal.MethodPoll)
		s.must(s.first.Verify(s.Context(), stream.ID, "state '1'", at, 10*time.Second))
		err := s.second.Verify(s.Context(), stream.ID, "2", at.Add(9*time.Second), 10*time.Second)
		if !errors.Is(err, sharedsignal.ErrTooSoon) {
			s.Errorf("Verify: %v, want ErrTooSoon", err)
		}
		s.must(s.second.Verify(s.Context(), stream.ID, "3", at.Add(10*time.Second), 10*time.Second))
		var states []string
		for _, e := range slices.DeleteFunc(s.signals(stream.ID),
			func(e sharedsignal.Event) bool { return e.Kind != sharedsignal.KindVerification }) {
			states = append(states, e.State)
		}
		s.same("states", states, []string{"state '1'", "3"})
	})

	s.run("ok/leased by one, refused, delivered", func(s *suite) {
		stream := s.stream(sharedsignal.MethodPush)
		if _, ok := s.leased(s.first, stream.ID, at, at.Add(time.Second)); ok {
			s.Error("a stream without events is due")
		}
		u := s.user()
		s.session(u.ID)
		s.session(u.ID)
		end(s, u)
		events := s.about(stream.ID, u.ID)
		var leases atomic.Int64
		first := at.Add(30 * time.Second)
		s.parallel(8, func(_ int, st store.Store) error {
			if got, ok := s.leased(st, stream.ID, at, first); ok {
				leases.Add(1)
				s.same("leased", got, sharedsignal.Due{Stream: stream, Since: events[0].At})
			}
			return nil
		})
		s.same("leases", leases.Load(), int64(1))
		if _, ok := s.leased(s.first, stream.ID, at.Add(29*time.Second), at.Add(time.Minute)); ok {
			s.Error("leased twice")
		}
		for refusal := range sharedsignal.MaxRefusals {
			s.same("left", len(s.about(stream.ID, u.ID)), 2)
			s.must(s.first.FinishPush(s.Context(), sharedsignal.Push{
				StreamID:    stream.ID,
				LeasedUntil: first,
				Refused:     jtis(events[:1]),
				Attempts:    refusal + 1,
				DueAt:       first,
			}))
		}
		s.same("left", s.about(stream.ID, u.ID), events[1:])
		second := first.Add(time.Second)
		got, ok := s.leased(s.second, stream.ID, first, second)
		s.same("attempts", []any{ok, got.Attempts}, []any{true, sharedsignal.MaxRefusals})
		s.must(s.first.FinishPush(s.Context(), sharedsignal.Push{
			StreamID:    stream.ID,
			LeasedUntil: second,
			Delivered:   jtis(events[1:]),
			DueAt:       at,
		}))
		s.same("left", len(s.about(stream.ID, u.ID)), 0)
	})

	s.run("ok/a late finish leaves the lease of another alone, and what it has delivered is gone", func(s *suite) {
		stream := s.stream(sharedsignal.MethodPush)
		u := s.user()
		s.session(u.ID)
		s.session(u.ID)
		end(s, u)
		events := s.about(stream.ID, u.ID)
		first, second := at.Add(time.Second), at.Add(time.Minute)
		s.leased(s.first, stream.ID, at, first)
		if _, ok := s.leased(s.second, stream.ID, first, second); !ok {
			s.Fatal("not due after the first lease")
		}
		s.must(s.first.FinishPush(s.Context(), sharedsignal.Push{
			StreamID:    stream.ID,
			LeasedUntil: first,
			Delivered:   jtis(events[:1]),
			Attempts:    7,
			DueAt:       first,
		}))
		s.same("left", s.about(stream.ID, u.ID), events[1:])
		if _, ok := s.leased(s.first, stream.ID, second.Add(-time.Second), second); ok {
			s.Error("the late finish ended the lease of another")
		}
		got, ok := s.leased(s.first, stream.ID, second, second.Add(time.Second))
		s.same("attempts", []any{ok, got.Attempts, got.Since}, []any{true, 0, events[1].At})
	})

	s.run("fail/nothing to push: polled, paused, or of a disabled client", func(s *suite) {
		poll, paused, gone := s.stream(sharedsignal.MethodPoll), s.stream(sharedsignal.MethodPush), s.stream(sharedsignal.MethodPush)
		s.must(s.first.SetStreamStatus(s.Context(), paused.ID, paused.ClientID, sharedsignal.Paused, "", at))
		s.must(s.first.DisableClient(s.Context(), gone.ClientID, now(),
			blocklist.NewEntry(verifier.BlockClient, gone.ClientID, blockUntil(now())), s.event(audit.KindClientDisabled, "")))
		u := s.user()
		s.session(u.ID)
		end(s, u)
		for _, stream := range []sharedsignal.Stream{poll, paused, gone} {
			if _, ok := s.leased(s.first, stream.ID, at.Add(time.Hour), at.Add(time.Hour)); ok {
				s.Errorf("stream of %s is leased", stream.ClientID)
			}
		}
	})

	s.run("ok/deleted with its events", func(s *suite) {
		stream := s.stream(sharedsignal.MethodPoll)
		u := s.user()
		s.session(u.ID)
		end(s, u)
		s.must(s.first.LeaveOut(s.Context(), stream.ID, sharedsignal.Subject{UserID: u.ID}, 10))
		s.must(s.first.DeleteStream(s.Context(), stream.ID, stream.ClientID))
		stream.ID = sharedsignal.NewStreamID()
		s.must(s.first.CreateStream(s.Context(), stream))
		s.same("events", len(s.signals(stream.ID)), 0)
	})

	s.run("ok/swept: a stream that nobody reads is disabled, and says so", func(s *suite) {
		stream := s.stream(sharedsignal.MethodPush)
		u := s.user()
		s.session(u.ID)
		end(s, u)
		for n := 1; n > 0; {
			var err error
			n, err = s.first.SweepSignals(s.Context(), at.Add(time.Second), at.Add(time.Minute), 2)
			s.must(err)
			if n > 2 {
				s.Fatalf("swept %d, the limit is 2", n)
			}
		}
		got, err := s.second.Stream(s.Context(), stream.ClientID)
		s.must(err)
		s.same("status", []string{string(got.Status), got.StatusReason}, []string{"disabled", sharedsignal.ReasonNotFetched})
		left := s.signals(stream.ID)
		if len(left) != 1 || left[0].Kind != sharedsignal.KindStreamUpdated || left[0].State != "disabled" {
			s.Fatalf("left %+v", left)
		}
		if _, ok := s.leased(s.first, stream.ID, at.Add(time.Hour), at.Add(time.Hour)); !ok {
			s.Error("the event that says so is not due")
		}
		for n := 1; n > 0; {
			n, err = s.first.SweepSignals(s.Context(), at.Add(time.Hour), at.Add(time.Hour), 1000)
			s.must(err)
		}
		s.same("left", len(s.signals(stream.ID)), 0)
	})
}
