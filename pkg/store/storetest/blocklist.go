package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// newEntry returns an entry that differs from all others.
func (s *suite) newEntry(notBefore, dropAfter time.Time) blocklist.Entry {
	return blocklist.Entry{
		Key:       verifier.KeyOf(verifier.BlockJTI, fmt.Sprintf("jti-%d", s.serial.Add(1))),
		NotBefore: notBefore.UTC().Truncate(time.Second), DropAfter: dropAfter.UTC().Truncate(time.Second),
	}
}

func (s *suite) block(st store.Store, e blocklist.Entry) {
	s.Helper()
	s.must(st.Block(s.Context(), e, s.event(audit.KindTokenRevoked, "")))
}

func (s *suite) changes(st store.Store, cursor string) blocklist.Changes {
	s.Helper()
	c, err := st.BlocklistChanges(s.Context(), cursor)
	s.must(err)
	if c.Cursor == "" {
		s.Fatal("no cursor")
	}
	return c
}

func byKey(entries []blocklist.Entry) map[verifier.BlockKey]blocklist.Entry {
	out := make(map[verifier.BlockKey]blocklist.Entry, len(entries))
	for _, e := range entries {
		out[e.Key] = e
	}
	return out
}

func testBlocklist(s *suite) {
	at := now()

	s.run("ok/empty", func(s *suite) {
		c := s.changes(s.second, "")
		s.same("entries", c.Entries, []blocklist.Entry{})
		s.same("Snapshot", c.Snapshot, true)
		c = s.changes(s.second, c.Cursor)
		s.same("entries", c.Entries, []blocklist.Entry{})
		s.same("Snapshot", c.Snapshot, false)
	})

	s.run("ok/an entry is told as it was added, with its event", func(s *suite) {
		before := s.changes(s.second, "")
		entry := s.newEntry(at, at.Add(time.Hour))
		e := s.event(audit.KindTokenRevoked, "usr_blocked")
		s.must(s.first.Block(s.Context(), entry, e))
		s.wantEvent(e)
		after := s.changes(s.second, before.Cursor)
		s.same("changes", byKey(after.Entries)[entry.Key], entry)
		s.same("snapshot", byKey(s.changes(s.second, "").Entries)[entry.Key], entry)
		s.same("no news", s.changes(s.first, s.changes(s.first, after.Cursor).Cursor).Entries, []blocklist.Entry{})
	})

	s.run("ok/the largest seconds", func(s *suite) {
		entry := s.newEntry(time.Unix(1<<32-1, 0), time.Unix(1<<32-1, 0))
		s.block(s.first, entry)
		s.same("entry", byKey(s.changes(s.second, "").Entries)[entry.Key], entry)
	})

	s.run("ok/an entry that exists keeps the larger of both values, and is told again", func(s *suite) {
		entry := s.newEntry(at, at.Add(time.Hour))
		s.block(s.first, entry)
		cursor, known := s.changes(s.second, "").Cursor, entry
		for _, c := range []struct{ notBefore, dropAfter, wantNotBefore, wantDropAfter time.Duration }{
			{-time.Minute, 2 * time.Hour, 0, 2 * time.Hour},
			{time.Minute, 0, time.Minute, 2 * time.Hour},
			{-time.Hour, -time.Hour, time.Minute, 2 * time.Hour},
		} {
			change, want := entry, entry
			change.NotBefore, change.DropAfter = entry.NotBefore.Add(c.notBefore), entry.NotBefore.Add(c.dropAfter)
			want.NotBefore, want.DropAfter = entry.NotBefore.Add(c.wantNotBefore), entry.NotBefore.Add(c.wantDropAfter)
			s.block(s.first, change)
			changes := s.changes(s.second, cursor)
			if got, told := byKey(changes.Entries)[entry.Key]; told || want != known {
				s.same("told", got, want)
			}
			known = want
			s.same("stored", byKey(s.changes(s.second, "").Entries)[entry.Key], want)
			cursor = changes.Cursor
		}
	})

	s.run("ok/a cursor of one replica is good for another", func(s *suite) {
		entry := s.newEntry(at, at.Add(time.Hour))
		cursor := s.changes(s.first, "").Cursor
		s.block(s.first, entry)
		if _, ok := byKey(s.changes(s.second, cursor).Entries)[entry.Key]; !ok {
			s.Error("the entry is not told")
		}
	})

	for name, cursor := range map[string]string{
		"garbage": "garbage", "not base64": "%%%", "one byte": "AA", "a quote": "'", "number": "1", "long": string(make([]byte, 4096)),
		"zeros": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "ones": "________________________________",
	} {
		s.run("fail/cursor gone/"+name, func(s *suite) {
			if c, err := s.first.BlocklistChanges(s.Context(), cursor); !errors.Is(err, blocklist.ErrCursorGone) {
				s.Errorf("BlocklistChanges: %+v, %v, want ErrCursorGone", c, err)
			}
		})
	}

	s.run("ok/entries are dropped when they refuse nothing any more", func(s *suite) {
		dropAfter := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
		var old []blocklist.Entry
		for range 5 {
			e := s.newEntry(dropAfter, dropAfter)
			old = append(old, e)
			s.block(s.first, e)
		}
		cursor := s.changes(s.second, "").Cursor
		n, err := s.first.DropBlocklist(s.Context(), dropAfter, 10)
		s.must(err)
		s.same("dropped at its last second", n, 0)
		for _, want := range []int{2, 2, 1, 0} {
			n, err := s.second.DropBlocklist(s.Context(), dropAfter.Add(time.Second), 2)
			s.must(err)
			s.same("dropped", n, want)
		}
		left := byKey(s.changes(s.first, "").Entries)
		for _, e := range old {
			if _, ok := left[e.Key]; ok {
				s.Error("a dropped entry is still there")
			}
		}
		fresh := s.newEntry(at, at.Add(time.Hour)) // the newest entries are gone: the cursor must still work
		s.block(s.first, fresh)
		if _, ok := byKey(s.changes(s.second, cursor).Entries)[fresh.Key]; !ok {
			s.Error("an entry added after others were dropped is not told")
		}
	})

	s.run("ok/no entry is skipped, whatever the order of commits", func(s *suite) {
		const writers, each = 16, 25
		var mu sync.Mutex
		written := make(map[verifier.BlockKey]bool)
		ctx, done := context.WithCancel(s.Context())
		defer done()

		var readers sync.WaitGroup
		for _, st := range []store.Store{s.first, s.second} {
			readers.Go(func() {
				told := make(map[verifier.BlockKey]bool)
				var cursor string // begins with a snapshot
				for last := false; ; {
					c, err := st.BlocklistChanges(s.Context(), cursor)
					if err != nil {
						s.Errorf("BlocklistChanges: %v", err)
						return
					}
					cursor = c.Cursor
					for _, e := range c.Entries {
						told[e.Key] = true
					}
					if last {
						break
					}
					last = ctx.Err() != nil
				}
				mu.Lock()
				defer mu.Unlock()
				for key := range written {
					if !told[key] {
						s.Error("an entry was skipped")
					}
				}
				if len(written) != writers*each {
					s.Errorf("%d entries were written", len(written))
				}
			})
		}
		s.parallel(writers, func(i int, st store.Store) error {
			for range each {
				e := s.newEntry(at, at.Add(time.Hour))
				if err := st.Block(s.Context(), e, s.event(audit.KindTokenRevoked, "")); err != nil {
					return err
				}
				mu.Lock()
				written[e.Key] = true
				mu.Unlock()
			}
			return nil
		})
		done()
		readers.Wait()
	})

	s.run("ok/REV-05/dropped by two at once", func(s *suite) {
		dropAfter := time.Date(2019, 1, 1, 0, 0, 0, 0, time.UTC)
		for range 60 {
			s.block(s.first, s.newEntry(dropAfter, dropAfter))
		}
		var mu sync.Mutex
		dropped := 0
		s.parallel(6, func(_ int, st store.Store) error {
			for empty := 0; empty < 3; {
				n, err := st.DropBlocklist(s.Context(), dropAfter.Add(time.Second), 7)
				if err != nil {
					return err
				}
				if n == 0 {
					empty++
				}
				mu.Lock()
				dropped += n
				mu.Unlock()
			}
			return nil
		})
		n, err := s.first.DropBlocklist(s.Context(), dropAfter.Add(time.Second), 1000)
		s.must(err)
		s.same("dropped by all", dropped+n, 60)
	})
}

// patience is how long a test waits for what should take a fraction of a second.
const patience = 20 * time.Second

func testWait(s *suite) {
	client := s.client()
	key := s.signingKey("ES256", now())
	for name, change := range map[string]func(st store.Store) error{
		"block": func(st store.Store) error {
			return st.Block(s.Context(), s.newEntry(now(), now().Add(time.Hour)), s.event(audit.KindTokenRevoked, ""))
		},
		"client created": func(st store.Store) error {
			return st.CreateClient(s.Context(), oauth.Client{
				ID:        "waited",
				Type:      oauth.Public,
				CreatedAt: now(),
				UpdatedAt: now(),
			}, s.event(audit.KindClientCreated, ""))
		},
		"client disabled": func(st store.Store) error {
			return st.DisableClient(s.Context(), client.ID, now(),
				blocklist.NewEntry(verifier.BlockClient, client.ID, now().Add(time.Hour)), s.event(audit.KindClientDisabled, ""))
		},
		"key": func(st store.Store) error { return st.InsertSigningKey(s.Context(), s.insertion(key, "")) },
	} {
		s.run("ok/every replica wakes/"+name, func(s *suite) {
			ctx, cancel := context.WithTimeout(s.Context(), patience)
			defer cancel()
			errs := make(chan error, 2)
			waiting := make(chan struct{}, 2)
			var waiters sync.WaitGroup
			for _, st := range []store.Store{s.first, s.second} {
				waiters.Go(func() {
					// The first return may be about something older; what is written after it must bring another.
					_ = s.quiet(ctx, st)
					waiting <- struct{}{}
					errs <- st.Wait(ctx)
				})
			}
			<-waiting
			<-waiting
			s.must(change(s.first))
			for range 2 {
				if err := <-errs; err != nil {
					s.Errorf("Wait: %v", err)
				}
			}
			waiters.Wait()
		})
	}

	s.run("fail/the context ends", func(s *suite) {
		ctx, cancel := context.WithCancel(s.Context())
		_ = s.quiet(ctx, s.first)
		result := make(chan error, 1)
		go func() {
			for {
				if err := s.first.Wait(ctx); err != nil {
					result <- err
					return
				}
			}
		}()
		cancel()
		select {
		case err := <-result:
			if !errors.Is(err, context.Canceled) {
				s.Errorf("Wait: %v, want context.Canceled", err)
			}
		case <-time.After(patience):
			s.Error("Wait does not end with its context")
		}
	})
}

// quiet takes in what a handle may still have to tell about the past.
func (s *suite) quiet(ctx context.Context, st store.Store) error {
	for {
		short, cancel := context.WithTimeout(ctx, 600*time.Millisecond)
		err := st.Wait(short)
		cancel()
		if err != nil {
			return err
		}
	}
}
