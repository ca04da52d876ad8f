package session_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/store/storetest"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// wall is a blocklist under test.
type wall struct {
	blocked map[verifier.BlockKey]int64
	err     error
}

func (w *wall) check(_ context.Context, keys []verifier.BlockKey, iat int64) (bool, error) {
	for _, key := range keys {
		if notBefore, ok := w.blocked[key]; ok && iat <= notBefore {
			return true, w.err
		}
	}
	return false, w.err
}

// A session that its holder shows costs no statement while it is fresh, one rotation afterwards, and lives as a refreshed one
// does.
func TestHolders(t *testing.T) {
	over(t, "ok/fresh", func(b *bench) {
		counted := storetest.Fail(b.store, 0, storetest.Before)
		manager := b.on(counted)
		h := session.NewHolders(manager, (&wall{}).check)
		s := b.login()
		h.Keep(s.Session)
		show := func() (session.Session, error) { return h.Session(b.Context(), s.ID, s.Nonce, s.ClientID) }
		counted.Arm(0, storetest.Before)
		fresh := 15 * time.Minute
		for range 3 {
			time.Sleep(fresh / 4)
			if _, err := show(); err != nil {
				b.Fatal(err)
			}
		}
		if n := counted.Calls(); n != 0 {
			b.Errorf("%d statements while fresh", n)
		}
		time.Sleep(fresh / 4)
		for range 3 {
			if _, err := show(); err != nil {
				b.Fatal(err)
			}
		}
		if n := counted.Calls(); n != 2 {
			b.Errorf("%d statements to look again", n)
		}
		if row := b.row(s.ID); row.Generation != 2 || !row.IdleExpiresAt.Equal(time.Now().Add(idle)) {
			b.Errorf("generation %d, idle until %v", row.Generation, row.IdleExpiresAt)
		}
	})
	over(t, "ok/lives as long as it is used, and not longer than its end", func(b *bench) {
		h := session.NewHolders(b.manager, (&wall{}).check)
		s := b.login()
		for at := time.Duration(0); at+idle/3 < lifetime; at += idle / 3 {
			if _, err := h.Session(b.Context(), s.ID, s.Nonce, s.ClientID); err != nil {
				b.Fatalf("after %v: %v", at, err)
			}
			time.Sleep(idle / 3)
		}
		time.Sleep(time.Until(s.ExpiresAt) - time.Second)
		if _, err := h.Session(b.Context(), s.ID, s.Nonce, s.ClientID); err != nil {
			b.Fatalf("before the end: %v", err)
		}
		time.Sleep(time.Second)
		if _, err := h.Session(b.Context(), s.ID, s.Nonce, s.ClientID); !errors.Is(err, session.ErrEnded) {
			b.Errorf("at the end: %v", err)
		}
	})
	over(t, "fail/idle", func(b *bench) {
		h := session.NewHolders(b.manager, (&wall{}).check)
		s := b.login()
		h.Keep(s.Session)
		time.Sleep(idle)
		if _, err := h.Session(b.Context(), s.ID, s.Nonce, s.ClientID); !errors.Is(err, session.ErrEnded) {
			b.Errorf("%v", err)
		}
	})
	over(t, "ok/requests at once move it once", func(b *bench) {
		s := b.login()
		time.Sleep(idle / 2)
		h := session.NewHolders(b.manager, (&wall{}).check)
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if _, err := h.Session(b.Context(), s.ID, s.Nonce, s.ClientID); err != nil {
					b.Error(err)
				}
			})
		}
		all.Wait()
		synctest.Wait()
		if row := b.row(s.ID); row.Generation != 2 {
			b.Errorf("generation %d", row.Generation)
		}
	})
	over(t, "ok/an entry of the blocklist is a reason to look", func(b *bench) {
		w := &wall{blocked: map[verifier.BlockKey]int64{}}
		h := session.NewHolders(b.manager, w.check)
		s := b.login()
		h.Keep(s.Session)
		time.Sleep(time.Second)
		b.must(b.manager.SetRoles(b.Context(), s.UserID, []string{"editor"}, session.By{}))
		if got, err := h.Session(b.Context(), s.ID, s.Nonce, s.ClientID); err != nil || got.Roles[0] != "member" {
			b.Errorf("before this replica hears of it: %v, %v", got.Roles, err)
		}
		w.blocked[verifier.KeyOf(verifier.BlockSID, s.ID.String())] = time.Now().Unix()
		for range 2 {
			if got, err := h.Session(b.Context(), s.ID, s.Nonce, s.ClientID); err != nil || got.Roles[0] != "editor" {
				b.Errorf("roles %v, %v", got.Roles, err)
			}
		}
		b.must(b.manager.End(b.Context(), s.Session, session.ReasonLogout, session.By{}))
		w.blocked[verifier.KeyOf(verifier.BlockSID, s.ID.String())] = time.Now().Add(time.Hour).Unix()
		if _, err := h.Session(b.Context(), s.ID, s.Nonce, s.ClientID); !errors.Is(err, session.ErrEnded) {
			b.Errorf("after its end: %v", err)
		}
	})
	over(t, "fail/blocklist unknown", func(b *bench) {
		h := session.NewHolders(b.manager, (&wall{err: verifier.ErrUnavailable}).check)
		s := b.login()
		h.Keep(s.Session)
		if _, err := h.Session(b.Context(), s.ID, s.Nonce, s.ClientID); !errors.Is(err, verifier.ErrUnavailable) {
			b.Errorf("%v", err)
		}
	})
	over(t, "fail/not the holder", func(b *bench) {
		h := session.NewHolders(b.manager, (&wall{}).check)
		s := b.login()
		h.Keep(s.Session)
		nonce := s.Nonce
		nonce[0] ^= 1
		for what, shown := range map[string]struct {
			id     session.ID
			nonce  session.Nonce
			client string
			want   error
		}{
			"nonce":   {s.ID, nonce, s.ClientID, session.ErrEnded},
			"client":  {s.ID, s.Nonce, "another", session.ErrWrongClient},
			"unknown": {session.NewID(time.Now()), s.Nonce, s.ClientID, session.ErrEnded},
		} {
			if _, err := h.Session(b.Context(), shown.id, shown.nonce, shown.client); !errors.Is(err, shown.want) {
				b.Errorf("%s: %v", what, err)
			}
		}
		b.disableClient()
		fresh := session.NewHolders(b.manager, (&wall{}).check)
		if _, err := fresh.Session(b.Context(), s.ID, s.Nonce, s.ClientID); !errors.Is(err, session.ErrClientDisabled) {
			b.Errorf("client disabled: %v", err)
		}
	})
}
