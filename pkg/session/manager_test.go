package session_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/store/sqlite"
	"github.com/handstamp/handstamp/pkg/store/sqlite/sqlitetest"
	"github.com/handstamp/handstamp/pkg/store/storetest"
	"github.com/handstamp/handstamp/pkg/user"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// deriver derives secrets as a master key does: one per label.
type deriver string

func (d deriver) Derive(label seal.Label, n int) []byte {
	sum := sha256.Sum256([]byte(string(d) + string(label)))
	return sum[:n]
}

const (
	grace    = 10 * time.Second
	idle     = time.Hour
	lifetime = 4 * time.Hour
)

// bench is a database with one user, and a manager over it.
type bench struct {
	*testing.T
	store   store.Store
	manager *session.Manager
	codec   *session.Codec
	user    user.User
}

// over runs a test in a bubble, over a database of its own.
func over(t *testing.T, name string, test func(b *bench)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		url := sqlitetest.URL(t)
		synctest.Test(t, func(t *testing.T) {
			db, err := sqlite.Open(t.Context(), url)
			b := &bench{T: t, store: db, codec: session.NewCodec(deriver("one"))}
			b.must(err)
			defer func() { b.must(db.Close()) }()
			now := time.Now()
			b.user = user.User{
				ID:           user.NewID(now),
				Email:        "ann@example.test",
				PasswordHash: "hash",
				Roles:        []string{"member"},
				CreatedAt:    now,
				UpdatedAt:    now,
			}
			b.must(db.CreateUser(t.Context(), b.user, b.event()))
			b.manager = b.on(db)
			test(b)
		})
	})
}

func (b *bench) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bench) event() audit.Event {
	return audit.Event{At: time.Now(), Kind: audit.KindUserCreated, Actor: audit.ActorCLI, UserID: b.user.ID}
}

// on returns a manager over a store, as another replica has it.
func (b *bench) on(s session.Store) *session.Manager {
	return session.NewManager(s, deriver("one"), session.Config{
		IdleLifetime: idle, Lifetime: lifetime, Grace: grace, Limit: 3, AccessTokenLifetime: 15 * time.Minute,
		ClockMargin: 2 * time.Minute,
	})
}

func (b *bench) login() session.Issued {
	b.Helper()
	issued, err := b.manager.Start(b.Context(), session.Login{
		User:     b.user,
		ClientID: oauth.DefaultClientID,
		Scope:    "openid profile",
		AMR:      []string{"pwd"},
	})
	b.must(err)
	return issued
}

func (b *bench) present(raw string) (session.Issued, error) {
	return b.manager.Refresh(b.Context(), session.Refresh{Raw: raw, ClientID: oauth.DefaultClientID})
}

// refresh presents a token that must be good.
func (b *bench) refresh(raw string) session.Issued {
	b.Helper()
	issued, err := b.present(raw)
	b.must(err)
	return issued
}

func (b *bench) row(id session.ID) session.Session {
	b.Helper()
	row, err := b.store.Session(b.Context(), id)
	b.must(err)
	return row
}

// wantRefused presents a token that must not be good any more.
func (b *bench) wantRefused(raw string, want error) {
	b.Helper()
	if issued, err := b.present(raw); !errors.Is(err, want) || issued.RefreshToken != "" {
		b.Errorf("%+v, %v; want %v", issued, err, want)
	}
}

// sentinel reports whether an error is one that a client may take for a decision.
func sentinel(err error) bool {
	return slices.ContainsFunc([]error{
		session.ErrNotFound, session.ErrMalformed, session.ErrWrongClient, session.ErrEnded, session.ErrReuse, session.ErrUserDisabled,
		session.ErrUserChanged, session.ErrClientDisabled, session.ErrScope,
	}, func(known error) bool { return errors.Is(err, known) })
}

func TestManager_Start(t *testing.T) {
	over(t, "ok/the session is as asked", func(b *bench) {
		now := time.Now()
		issued := b.login()
		row := b.row(issued.ID)
		if row.Generation != 1 || row.ClientID != oauth.DefaultClientID || row.Scope != "openid profile" || row.Roles[0] != "member" ||
			!row.CreatedAt.Equal(now) || !row.AuthTime.Equal(now) || !row.RotatedAt.Equal(now) ||
			!row.IdleExpiresAt.Equal(now.Add(idle)) || !row.ExpiresAt.Equal(now.Add(lifetime)) ||
			row.IATFloor != now.Unix() {
			b.Errorf("row: %+v", row)
		}
		if issued.Roles[0] != "member" || issued.RefreshToken == "" {
			b.Errorf("issued: %+v", issued)
		}
	})
	over(t, "ok/SE-02 RT-09/each login is a session of its own, whatever the client already holds", func(b *bench) {
		first, second := b.login(), b.login()
		if first.ID == second.ID || first.Nonce == second.Nonce || first.RefreshToken == second.RefreshToken {
			b.Error("two logins share something")
		}
	})
	over(t, "ok/the oldest makes way", func(b *bench) {
		var all []session.Issued
		for range 4 {
			all = append(all, b.login())
			time.Sleep(time.Second)
		}
		b.wantRefused(all[0].RefreshToken, session.ErrEnded)
		for _, issued := range all[1:] {
			b.refresh(issued.RefreshToken)
		}
		if reason := b.row(all[0].ID).RevokeReason; reason != session.ReasonLimit {
			b.Errorf("reason %q", reason)
		}
	})
	for name, test := range map[string]struct {
		change func(b *bench, l *session.Login)
		want   error
	}{
		"fail/unknown user":   {func(_ *bench, l *session.Login) { l.User.ID = "usr_nobody" }, session.ErrUserChanged},
		"fail/unknown client": {func(_ *bench, l *session.Login) { l.ClientID = "nobody" }, session.ErrClientDisabled},
		"fail/disabled user": {func(b *bench, _ *session.Login) {
			b.must(b.manager.DisableUser(b.Context(), b.user.ID, session.By{Actor: audit.ActorCLI}))
		}, session.ErrUserDisabled},
		"fail/deleted user": {func(b *bench, _ *session.Login) {
			b.must(b.manager.DeleteUser(b.Context(), b.user.ID, session.By{Actor: audit.ActorCLI}))
		}, session.ErrUserChanged},
		"fail/disabled client": {func(b *bench, _ *session.Login) { b.disableClient() }, session.ErrClientDisabled},
		"fail/another password meanwhile": {func(b *bench, l *session.Login) {
			l.CheckPassword = true
			b.must(b.manager.SetPassword(b.Context(), b.user.ID, "hash", "another", session.By{Actor: audit.ActorCLI}))
		}, session.ErrUserChanged},
	} {
		over(t, name, func(b *bench) {
			l := session.Login{User: b.user, ClientID: oauth.DefaultClientID}
			test.change(b, &l)
			if issued, err := b.manager.Start(b.Context(), l); !errors.Is(err, test.want) || issued.RefreshToken != "" {
				b.Errorf("%+v, %v; want %v", issued, err, test.want)
			}
			live, err := b.manager.List(b.Context(), b.user.ID)
			if err != nil || len(live) != 0 {
				b.Errorf("live sessions: %d, %v", len(live), err)
			}
		})
	}
}

func (b *bench) disableClient() {
	b.Helper()
	now := time.Now()
	b.must(b.store.DisableClient(b.Context(), oauth.DefaultClientID, now,
		blocklist.NewEntry(verifier.BlockClient, oauth.DefaultClientID, now.Add(time.Hour)), b.event()))
}

func TestManager_Refresh(t *testing.T) {
	over(t, "ok/one statement on the honest path", func(b *bench) {
		issued := b.login()
		counted := storetest.Fail(b.store, 0, storetest.Before)
		next, err := b.on(counted).Refresh(b.Context(), session.Refresh{Raw: issued.RefreshToken, ClientID: oauth.DefaultClientID})
		if err != nil || next.Generation != 2 || counted.Calls() != 1 {
			b.Errorf("generation %d, %d calls, %v", next.Generation, counted.Calls(), err)
		}
	})
	over(t, "ok/the idle end moves and stays within the absolute end, which does not", func(b *bench) {
		issued := b.login()
		end := issued.ExpiresAt
		for time.Now().Add(idle / 2).Before(end) {
			time.Sleep(idle / 2)
			issued = b.refresh(issued.RefreshToken)
			row := b.row(issued.ID)
			want := time.Now().Add(idle)
			if want.After(end) {
				want = end
			}
			if !row.ExpiresAt.Equal(end) || !row.IdleExpiresAt.Equal(want) {
				b.Fatalf("idle end %v, want %v; end %v, want %v", row.IdleExpiresAt, want, row.ExpiresAt, end)
			}
		}
	})
	over(t, "RT-10/ok/the last moment before the idle end", func(b *bench) {
		issued := b.login()
		time.Sleep(idle - time.Microsecond)
		b.refresh(issued.RefreshToken)
	})
	over(t, "RT-10/fail/at the idle end", func(b *bench) {
		issued := b.login()
		time.Sleep(idle)
		b.wantRefused(issued.RefreshToken, session.ErrEnded)
	})
	over(t, "RT-10/fail/at the absolute end, however often it was refreshed", func(b *bench) {
		issued := b.login()
		for range 7 {
			time.Sleep(idle / 2)
			issued = b.refresh(issued.RefreshToken)
		}
		time.Sleep(idle/2 - time.Microsecond)
		issued = b.refresh(issued.RefreshToken)
		time.Sleep(time.Microsecond)
		b.wantRefused(issued.RefreshToken, session.ErrEnded)
	})
	over(t, "RT-08/ok/a narrowed scope narrows nothing that stays", func(b *bench) {
		issued := b.login()
		narrow, err := b.manager.Refresh(b.Context(), session.Refresh{
			Raw:      issued.RefreshToken,
			ClientID: oauth.DefaultClientID,
			Scope:    "profile",
		})
		if err != nil || narrow.Scope != "openid profile" {
			b.Fatalf("%+v, %v", narrow, err)
		}
		b.refresh(narrow.RefreshToken)
	})
	over(t, "RT-08/fail/more than was granted moves nothing", func(b *bench) {
		issued := b.login()
		_, err := b.manager.Refresh(b.Context(), session.Refresh{
			Raw:      issued.RefreshToken,
			ClientID: oauth.DefaultClientID,
			Scope:    "openid admin",
		})
		if !errors.Is(err, session.ErrScope) || b.row(issued.ID).Generation != 1 {
			b.Fatalf("%v, generation %d", err, b.row(issued.ID).Generation)
		}
		b.refresh(issued.RefreshToken)
	})
	over(t, "fail/disabled client", func(b *bench) {
		issued := b.login()
		b.disableClient()
		b.wantRefused(issued.RefreshToken, session.ErrClientDisabled)
		if row := b.row(issued.ID); row.Generation != 1 || !row.RevokedAt.IsZero() {
			b.Errorf("row: %+v", row)
		}
	})
	over(t, "RT-07/fail/another client changes nothing, with whatever token", func(b *bench) {
		first := b.login()
		second := b.refresh(first.RefreshToken)
		third := b.refresh(second.RefreshToken)
		before := b.row(first.ID)
		for _, raw := range []string{first.RefreshToken, second.RefreshToken, third.RefreshToken} {
			_, err := b.manager.Refresh(b.Context(), session.Refresh{Raw: raw, ClientID: "another"})
			if !errors.Is(err, session.ErrWrongClient) {
				b.Errorf("got %v", err)
			}
		}
		if after := b.row(first.ID); after.Generation != before.Generation || !after.RevokedAt.IsZero() {
			b.Errorf("row: %+v", after)
		}
		b.refresh(third.RefreshToken)
	})
	over(t, "RT-01/fail/reuse ends the session, blocks it and leaves one event", func(b *bench) {
		first := b.login()
		second := b.refresh(first.RefreshToken)
		third := b.refresh(second.RefreshToken)
		b.wantRefused(first.RefreshToken, session.ErrReuse)
		b.wantRefused(third.RefreshToken, session.ErrEnded)
		b.wantRefused(second.RefreshToken, session.ErrEnded)
		b.wantRefused(first.RefreshToken, session.ErrEnded)
		b.wantEndedForReuse(first.ID)
	})
	over(t, "RT-01/fail/reuse by somebody who hangs up ends the session all the same", func(b *bench) {
		first := b.login()
		second := b.refresh(first.RefreshToken)
		b.refresh(second.RefreshToken)
		ctx, cancel := context.WithCancel(b.Context())
		m := b.on(&hangUp{Store: b.store, cancel: cancel})
		if _, err := m.Refresh(ctx, session.Refresh{Raw: first.RefreshToken, ClientID: oauth.DefaultClientID}); !errors.Is(err,
			session.ErrReuse) {
			b.Errorf("got %v", err)
		}
		b.wantEndedForReuse(first.ID)
	})
	over(t, "fail/the nonce is another: the database holds another history", func(b *bench) {
		issued := b.login()
		forged := session.Presented{ID: issued.ID, Generation: issued.Generation, Nonce: issued.Nonce}
		forged.Nonce[0] ^= 1
		b.wantRefused(b.codec.Format(forged), session.ErrEnded)
		b.refresh(issued.RefreshToken)
	})
	over(t, "fail/unknown session", func(b *bench) {
		b.wantRefused(b.codec.Format(session.Presented{ID: session.NewID(time.Now()), Generation: 1}), session.ErrEnded)
	})
	over(t, "fail/a token that was never made costs no statement", func(b *bench) {
		issued := b.login()
		counted := storetest.Fail(b.store, 0, storetest.Before)
		m := b.on(counted)
		elsewhere := session.NewCodec(deriver("two")).Format(session.Presented{ID: issued.ID, Generation: 1, Nonce: issued.Nonce})
		mistyped := []byte(issued.RefreshToken)
		mistyped[len(mistyped)-1] ^= 'a' ^ 'b'
		for _, raw := range []string{"", "x", elsewhere, issued.RefreshToken[1:], issued.RefreshToken + "A", string(mistyped)} {
			if _, err := m.Refresh(b.Context(), session.Refresh{Raw: raw, ClientID: oauth.DefaultClientID}); !errors.Is(err,
				session.ErrMalformed) {
				b.Errorf("%q: %v", raw, err)
			}
		}
		if counted.Calls() != 0 {
			b.Errorf("%d calls", counted.Calls())
		}
	})
	over(t, "fail/after 2^32 rotations", func(b *bench) {
		issued := b.login()
		last := session.Presented{ID: issued.ID, Generation: math.MaxUint32 - 1, Nonce: issued.Nonce}
		next := b.refresh(b.codec.Format(last)) // a database that came back in a much older state
		if next.Generation != math.MaxUint32 {
			b.Fatalf("generation %d", next.Generation)
		}
		b.wantRefused(next.RefreshToken, session.ErrEnded)
		if row := b.row(issued.ID); row.Generation != math.MaxUint32 {
			b.Errorf("generation %d", row.Generation)
		}
	})
	over(t, "fail/a row that never holds still", func(b *bench) {
		issued := b.login()
		_, err := b.on(&restless{b.store}).Refresh(b.Context(),
			session.Refresh{Raw: issued.RefreshToken, ClientID: oauth.DefaultClientID})
		if err == nil || sentinel(err) {
			b.Errorf("got %v, want what can be tried again", err)
		}
		b.refresh(issued.RefreshToken)
	})
}

// hangUp is a store whose caller gives up after the first read.
type hangUp struct {
	session.Store
	cancel func()
}

func (h *hangUp) Session(ctx context.Context, id session.ID) (session.Session, error) {
	defer h.cancel()
	return h.Store.Session(ctx, id)
}

// restless is a store in which somebody else is always first.
type restless struct{ session.Store }

func (*restless) Rotate(_ context.Context, r []session.Rotation) ([]*session.Session, error) {
	return make([]*session.Session, len(r)), nil
}

func (b *bench) wantEndedForReuse(id session.ID) {
	b.Helper()
	row := b.row(id)
	if row.RevokedAt.IsZero() || row.RevokeReason != session.ReasonReuse {
		b.Errorf("row: %+v", row)
	}
	changes, err := b.store.BlocklistChanges(b.Context(), "")
	b.must(err)
	key := verifier.KeyOf(verifier.BlockSID, id.String())
	if !slices.ContainsFunc(changes.Entries, func(e blocklist.Entry) bool {
		return e.Key == key && e.NotBefore.After(time.Now().Add(15*time.Minute)) && !e.DropAfter.Before(e.NotBefore)
	}) {
		b.Errorf("entries: %+v", changes.Entries)
	}
	events, err := b.store.Events(b.Context(), b.user.ID, audit.Cursor{}, 100)
	b.must(err)
	n := 0
	for _, e := range events {
		if e.Kind == audit.KindRefreshTokenReuse {
			n++
			if e.SessionID != id.String() || e.Reason != string(session.ReasonReuse) || e.ClientID != oauth.DefaultClientID {
				b.Errorf("event: %+v", e)
			}
		}
	}
	if n != 1 {
		b.Errorf("%d events of reuse", n)
	}
}

// RT-03: the answer is lost, and the same token comes again.
func TestRT03_LostAnswer(t *testing.T) {
	key := func(b *bench, raw, key string) (session.Issued, error) {
		return b.manager.Refresh(b.Context(), session.Refresh{Raw: raw, ClientID: oauth.DefaultClientID, IdempotencyKey: key})
	}
	for name, test := range map[string]struct {
		first, second string // Idempotency-Keys
		after         time.Duration
		want          error
	}{
		"ok/within the grace period, without a key":        {"", "", grace, nil},
		"ok/within the grace period, by another request":   {"a", "b", grace, nil},
		"ok/much later, by the same request":               {"a", "a", idle - time.Microsecond, nil},
		"fail/after the grace period, without a key":       {"", "", grace + time.Microsecond, session.ErrReuse},
		"fail/after the grace period, by another request":  {"a", "b", grace + time.Microsecond, session.ErrReuse},
		"fail/after the grace period, with a key too late": {"", "a", grace + time.Microsecond, session.ErrReuse},
		"fail/after the grace period, with the key gone":   {"a", "", grace + time.Microsecond, session.ErrReuse},
	} {
		over(t, name, func(b *bench) {
			issued := b.login()
			lost, err := key(b, issued.RefreshToken, test.first)
			b.must(err)
			before := b.row(issued.ID)
			time.Sleep(test.after)
			for range 3 { // a repeat changes nothing for the next one
				again, err := key(b, issued.RefreshToken, test.second)
				if test.want != nil {
					if !errors.Is(err, test.want) && !errors.Is(err, session.ErrEnded) {
						b.Fatalf("got %v, want %v", err, test.want)
					}
					continue
				}
				if err != nil || again.RefreshToken != lost.RefreshToken {
					b.Fatalf("got %+v, %v; want the token that was lost", again, err)
				}
				after := b.row(issued.ID)
				if after.Generation != 2 || !after.RotatedAt.Equal(before.RotatedAt) || !after.IdleExpiresAt.Equal(before.IdleExpiresAt) ||
					after.LastRequestHash != before.LastRequestHash {
					b.Fatalf("a repeat changed the row to %+v", after)
				}
			}
			if test.want != nil {
				b.wantEndedForReuse(issued.ID)
				b.wantRefused(lost.RefreshToken, session.ErrEnded)
			}
		})
	}
	over(t, "fail/a key gives nothing once the successor was used, and ends nothing", func(b *bench) {
		first := b.login()
		second, err := key(b, first.RefreshToken, "a")
		b.must(err)
		third, err := key(b, second.RefreshToken, "b")
		b.must(err)
		time.Sleep(2 * grace)
		if _, err := key(b, first.RefreshToken, "a"); !errors.Is(err, session.ErrLate) {
			b.Fatalf("got %v", err)
		}
		fourth, err := key(b, third.RefreshToken, "c")
		b.must(err)
		for raw, by := range map[string]string{first.RefreshToken: "b", second.RefreshToken: "a"} {
			if _, err := key(b, raw, by); !errors.Is(err, session.ErrReuse) && !errors.Is(err, session.ErrEnded) {
				b.Fatalf("another generation's key: got %v", err)
			}
		}
		b.wantRefused(fourth.RefreshToken, session.ErrEnded)
	})
	for name, test := range map[string]struct {
		grace, after time.Duration
		want         error
	}{
		"ok/the client's longer period":   {time.Minute, time.Minute, nil},
		"fail/the client's shorter one":   {time.Second, 2 * time.Second, session.ErrReuse},
		"fail/the client has none at all": {0, 0, session.ErrReuse},
	} {
		over(t, name, func(b *bench) {
			now := time.Now()
			b.must(b.store.CreateClient(b.Context(), oauth.Client{
				ID:           "app",
				Type:         oauth.Public,
				RefreshGrace: &test.grace,
				CreatedAt:    now,
				UpdatedAt:    now,
			}, b.event()))
			issued, err := b.manager.Start(b.Context(), session.Login{User: b.user, ClientID: "app"})
			b.must(err)
			r := session.Refresh{Raw: issued.RefreshToken, ClientID: "app"}
			_, err = b.manager.Refresh(b.Context(), r)
			b.must(err)
			time.Sleep(test.after)
			if _, err := b.manager.Refresh(b.Context(), r); !errors.Is(err, test.want) {
				b.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

// RT-11: each call to the store fails in turn, before and after its work. No failure is answered with tokens or as a
// decision, and the request can be repeated.
func TestRT11_StorageFailures(t *testing.T) {
	type request struct {
		prepare func(b *bench) session.Refresh
		want    error  // of the request when nothing fails
		ends    uint32 // at this generation
	}
	refresh := func(raw string) session.Refresh {
		return session.Refresh{Raw: raw, ClientID: oauth.DefaultClientID}
	}
	for name, test := range map[string]request{
		"advance": {func(b *bench) session.Refresh { return refresh(b.login().RefreshToken) }, nil, 2},
		"advance with a key": {func(b *bench) session.Refresh {
			r := refresh(b.login().RefreshToken)
			r.IdempotencyKey = "a"
			return r
		}, nil, 2},
		"advance with a narrowed scope": {func(b *bench) session.Refresh {
			r := refresh(b.login().RefreshToken)
			r.Scope = "openid"
			return r
		}, nil, 2},
		"advance from the future": {func(b *bench) session.Refresh {
			issued := b.login()
			return refresh(b.codec.Format(session.Presented{ID: issued.ID, Generation: 8, Nonce: issued.Nonce}))
		}, nil, 9},
		"repeat": {func(b *bench) session.Refresh {
			issued := b.login()
			b.refresh(issued.RefreshToken)
			return refresh(issued.RefreshToken)
		}, nil, 2},
		"reuse": {func(b *bench) session.Refresh {
			issued := b.login()
			b.refresh(b.refresh(issued.RefreshToken).RefreshToken)
			return refresh(issued.RefreshToken)
		}, session.ErrReuse, 3},
		"another client": {func(b *bench) session.Refresh {
			return session.Refresh{Raw: b.login().RefreshToken, ClientID: "another"}
		}, session.ErrWrongClient, 1},
	} {
		for _, when := range []storetest.When{storetest.Before, storetest.After} {
			over(t, name+"/"+when.String(), func(b *bench) {
				for n := 1; ; n++ {
					r := test.prepare(b)
					p, err := b.codec.Parse(r.Raw)
					b.must(err)
					failing := storetest.Fail(b.store, n, when)
					_, err = b.on(failing).Refresh(b.Context(), r)
					if failing.Failed() == "" {
						if !errors.Is(err, test.want) {
							b.Errorf("without a failure: %v, want %v", err, test.want)
						}
						return
					}
					if !errors.Is(err, storetest.ErrInjected) || sentinel(err) {
						b.Errorf("%s failed: %v", failing.Failed(), err)
					}
					time.Sleep(time.Second)
					issued, err := b.manager.Refresh(b.Context(), r)
					// What has ended the session for reuse may have done so before its answer was lost.
					if !errors.Is(err, test.want) && (!errors.Is(test.want, session.ErrReuse) || !errors.Is(err, session.ErrEnded)) {
						b.Errorf("repeated after %s had failed: %v, want %v", failing.Failed(), err, test.want)
					}
					if row := b.row(p.ID); row.Generation != test.ends || (err == nil && issued.Generation != row.Generation) {
						b.Errorf("repeated after %s had failed: generation %d, answered %d; want %d", failing.Failed(), row.Generation,
							issued.Generation, test.ends)
					}
					if errors.Is(test.want, session.ErrReuse) && b.row(p.ID).RevokedAt.IsZero() {
						b.Errorf("repeated after %s had failed: the session lives", failing.Failed())
					}
				}
			})
		}
	}
	for _, when := range []storetest.When{storetest.Before, storetest.After} {
		over(t, "login/"+when.String(), func(b *bench) {
			m := b.on(storetest.Fail(b.store, 1, when))
			if issued, err := m.Start(b.Context(),
				session.Login{User: b.user, ClientID: oauth.DefaultClientID}); !errors.Is(err, storetest.ErrInjected) || sentinel(err) ||
				issued.RefreshToken != "" {
				b.Errorf("%+v, %v", issued, err)
			}
			b.refresh(b.login().RefreshToken)
		})
		over(t, "ends/"+when.String(), func(b *bench) {
			by := session.By{Actor: audit.ActorCLI}
			for name, end := range map[string]func(m *session.Manager, s session.Session) error{
				"End": func(m *session.Manager, s session.Session) error {
					return m.End(b.Context(), s, session.ReasonLogout, by)
				},
				"EndAll": func(m *session.Manager, s session.Session) error {
					_, err := m.EndAll(b.Context(), s.UserID, session.ID{}, session.ReasonLogoutAll, by)
					return err
				},
				"SetRoles": func(m *session.Manager, s session.Session) error {
					return m.SetRoles(b.Context(), s.UserID, []string{"other"}, by)
				},
				"DisableUser": func(m *session.Manager, s session.Session) error {
					err := m.DisableUser(b.Context(), s.UserID, by)
					return errors.Join(err, b.store.EnableUser(b.Context(), s.UserID, b.event()))
				},
			} {
				s := b.login().Session
				if err := end(b.on(storetest.Fail(b.store, 1, when)), s); !errors.Is(err, storetest.ErrInjected) || sentinel(err) {
					b.Errorf("%s: %v", name, err)
				}
				b.must(end(b.manager, s)) // whether it was done or not
				if row := b.row(s.ID); (name == "SetRoles") != row.RevokedAt.IsZero() {
					b.Errorf("%s: %+v", name, row)
				}
			}
		})
	}
}

func TestManager_Find(t *testing.T) {
	over(t, "ok/of any generation, for logout", func(b *bench) {
		first := b.login()
		second := b.refresh(first.RefreshToken)
		third := b.refresh(second.RefreshToken)
		for raw, want := range map[string]bool{first.RefreshToken: false, second.RefreshToken: false, third.RefreshToken: true} {
			s, current, err := b.manager.Find(b.Context(), raw)
			if err != nil || s.ID != first.ID || current != want {
				b.Errorf("%v, current %v, %v; want current %v", s.ID, current, err, want)
			}
		}
		b.must(b.manager.End(b.Context(), third.Session, session.ReasonLogout, session.By{Actor: b.user.ID}))
		if _, current, err := b.manager.Find(b.Context(), third.RefreshToken); err != nil || current {
			b.Errorf("ended: current %v, %v", current, err)
		}
	})
	over(t, "fail/not a token, and a token of nobody", func(b *bench) {
		if _, _, err := b.manager.Find(b.Context(), "hsr_x"); !errors.Is(err, session.ErrMalformed) {
			b.Errorf("got %v", err)
		}
		if _, _, err := b.manager.Find(b.Context(),
			b.codec.Format(session.Presented{ID: session.NewID(time.Now()), Generation: 1})); !errors.Is(err, session.ErrEnded) {
			b.Errorf("got %v", err)
		}
	})
	over(t, "fail/a storage failure is no verdict", func(b *bench) {
		issued := b.login()
		if _, _, err := b.on(storetest.Fail(b.store, 1, storetest.Before)).Find(b.Context(), issued.RefreshToken); err == nil ||
			sentinel(err) {
			b.Errorf("got %v", err)
		}
	})
}

// outage is a store that answers nothing while it is down.
type outage struct {
	store.Store
	down bool
}

var errDown = errors.New("down")

func (o *outage) Rotate(ctx context.Context, r []session.Rotation) ([]*session.Session, error) {
	rows, err := o.Store.Rotate(ctx, r)
	if o.down { // it was done, and the answer is lost
		return nil, errDown
	}
	return rows, err
}

func (o *outage) Session(ctx context.Context, id session.ID) (session.Session, error) {
	if o.down {
		return session.Session{}, errDown
	}
	return o.Store.Session(ctx, id)
}

// RT-03: the commit happened, its answer was lost, and nobody could be answered until the grace period was over. A client
// without a key comes back as soon as it can, and keeps its session. The time is bounded, and a thief is found afterwards.
func TestRT03_Outage(t *testing.T) {
	for name, test := range map[string]struct {
		lasts, after time.Duration // after: how long after the end of the outage the client comes
		restart      bool          // another process takes over at the end
		want         error
	}{
		"ok/at its end":                          {4 * time.Minute, 0, false, nil},
		"ok/within the grace period after it":    {4 * time.Minute, grace, false, nil},
		"fail/after that":                        {4 * time.Minute, grace + time.Second, false, session.ErrReuse},
		"ok/a process that has just started":     {4 * time.Minute, grace, true, nil},
		"fail/it started some time ago":          {4 * time.Minute, grace + time.Second, true, session.ErrReuse},
		"fail/longer than is left out":           {10 * time.Minute, 0, false, session.ErrReuse},
		"fail/the process before ended long ago": {10 * time.Minute, 0, true, session.ErrReuse},
	} {
		over(t, name, func(b *bench) {
			db := &outage{Store: b.store}
			m := b.on(db)
			begun, err := m.Start(b.Context(), session.Login{User: b.user, ClientID: oauth.DefaultClientID})
			b.must(err)
			refresh := func() (session.Issued, error) {
				return m.Refresh(b.Context(), session.Refresh{Raw: begun.RefreshToken, ClientID: oauth.DefaultClientID})
			}
			db.down = true
			if _, err := refresh(); !errors.Is(err, errDown) {
				b.Fatalf("got %v", err)
			}
			time.Sleep(test.lasts)
			db.down = false
			if test.restart {
				m = b.on(db)
			} else if _, err := m.Refresh(b.Context(), session.Refresh{
				Raw: b.login().RefreshToken, ClientID: oauth.DefaultClientID,
			}); err != nil { // somebody else is the first to be answered
				b.Fatal(err)
			}
			time.Sleep(test.after)
			again, err := refresh()
			if !errors.Is(err, test.want) || test.want == nil && again.Generation != 2 {
				b.Errorf("got generation %d, %v; want %v", again.Generation, err, test.want)
			}
		})
	}
}

// Who hangs up makes no grace period longer: that is no failure of storage.
func TestRT03_HangingUpIsNoOutage(t *testing.T) {
	over(t, "fail", func(b *bench) {
		db := &outage{Store: b.store}
		m := b.on(db)
		begun, err := m.Start(b.Context(), session.Login{User: b.user, ClientID: oauth.DefaultClientID})
		b.must(err)
		old := session.Refresh{Raw: begun.RefreshToken, ClientID: oauth.DefaultClientID}
		_, err = m.Refresh(b.Context(), old)
		b.must(err)
		time.Sleep(grace + time.Second)
		gone, leave := context.WithCancel(b.Context())
		leave()
		if _, err := m.Refresh(gone, old); !errors.Is(err, context.Canceled) {
			b.Fatalf("got %v", err)
		}
		narrowed := old
		narrowed.Scope = "openid" // read before anything moves
		if _, err := m.Refresh(gone, narrowed); !errors.Is(err, context.Canceled) {
			b.Fatalf("got %v", err)
		}
		if _, err := m.Refresh(b.Context(), old); !errors.Is(err, session.ErrReuse) {
			b.Errorf("got %v, want ErrReuse", err)
		}
	})
}

// leaving is a store whose caller leaves as soon as its first statement is done.
type leaving struct {
	store.Store
	leave context.CancelFunc
}

// Rotate implements session.Store.
func (s leaving) Rotate(ctx context.Context, r []session.Rotation) ([]*session.Session, error) {
	defer s.leave()
	return s.Store.Rotate(ctx, r)
}

// A thief is found also if the connection is cut as soon as the token was looked at.
func TestRT01_ThiefHangsUp(t *testing.T) {
	over(t, "fail", func(b *bench) {
		m := b.on(b.store)
		begun, err := m.Start(b.Context(), session.Login{User: b.user, ClientID: oauth.DefaultClientID})
		b.must(err)
		old := session.Refresh{Raw: begun.RefreshToken, ClientID: oauth.DefaultClientID}
		next, err := m.Refresh(b.Context(), old)
		b.must(err)
		next, err = m.Refresh(b.Context(), session.Refresh{Raw: next.RefreshToken, ClientID: oauth.DefaultClientID})
		b.must(err)
		time.Sleep(grace + time.Second)
		gone, leave := context.WithCancel(b.Context())
		if _, err := b.on(leaving{b.store, leave}).Refresh(gone, old); !errors.Is(err, session.ErrReuse) {
			b.Errorf("the thief: %v, want ErrReuse", err)
		}
		if _, err := m.Refresh(b.Context(), session.Refresh{
			Raw: next.RefreshToken, ClientID: oauth.DefaultClientID,
		}); !errors.Is(err, session.ErrEnded) {
			b.Errorf("the session lives: %v", err)
		}
	})
}
