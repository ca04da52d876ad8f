package postgres

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/user"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// change is something after which the tokens of before are no good.
type change struct {
	do func(ctx context.Context, db *DB, u user.User, s session.Session) error
	// survives says that the session goes on, with other roles.
	survives bool
}

func changes() map[string]change {
	return map[string]change{
		"EndSession": {do: func(ctx context.Context, db *DB, _ user.User, s session.Session) error {
			_, err := db.EndSession(ctx, s.ID, endFor(session.ReasonLogout))
			return err
		}},
		"EndSessions": {do: func(ctx context.Context, db *DB, u user.User, _ session.Session) error {
			_, err := db.EndSessions(ctx, u.ID, session.ID{}, endFor(session.ReasonLogoutAll))
			return err
		}},
		"SetPassword": {do: func(ctx context.Context, db *DB, u user.User, _ session.Session) error {
			_, err := db.SetPassword(ctx, u.ID, u.PasswordHash, "another", endFor(session.ReasonPasswordChange))
			return err
		}},
		"DisableUser": {do: func(ctx context.Context, db *DB, u user.User, _ session.Session) error {
			_, err := db.DisableUser(ctx, u.ID, endFor(session.ReasonUserDisabled))
			return err
		}},
		"DeleteUser": {do: func(ctx context.Context, db *DB, u user.User, _ session.Session) error {
			_, err := db.DeleteUser(ctx, u.ID, endFor(session.ReasonUserDeleted))
			return err
		}},
		"SetRoles": {survives: true, do: func(ctx context.Context, db *DB, u user.User, _ session.Session) error {
			return db.SetRoles(ctx, u.ID, []string{"new"}, endFor(""))
		}},
	}
}

// covered reports whether an access token of a session with this iat is blocked.
func covered(t *testing.T, db *DB, id session.ID, iat int64) bool {
	t.Helper()
	all, err := db.BlocklistChanges(t.Context(), "")
	must(t, err)
	for _, e := range all.Entries {
		if e.Key == verifier.KeyOf(verifier.BlockSID, id.String()) {
			return iat <= e.NotBefore.Unix()
		}
	}
	return false
}

// openPatient returns a database whose statements wait for locks as long as a slow machine needs.
func openPatient(t *testing.T) (*DB, string) {
	t.Helper()
	_, url := open(t)
	return openURL(t, url+"&lock_timeout=10000"), url
}

// inOrder holds a row, has the first call wait for it, then the second, and lets go: they happen in this order.
func inOrder(t *testing.T, url, sql string, arg any, first, second func()) {
	t.Helper()
	_, release := hold(t, url, sql, arg)
	var wg sync.WaitGroup
	wg.Go(first)
	waitForWaiting(t, url, 1)
	wg.Go(second)
	waitForWaiting(t, url, 2)
	release()
	wg.Wait()
}

// TestRT06_RefreshInFlight has a refresh and a change wait for the session's row, in both orders. Either the refresh is
// refused, or its access token is blocked; there is no third result.
func TestRT06_RefreshInFlight(t *testing.T) {
	t.Parallel()
	db, url := openPatient(t)
	refreshes := map[string]func(s, other session.Session) (*session.Session, error){
		"alone": func(s, _ session.Session) (*session.Session, error) {
			got, err := db.Rotate(t.Context(), []session.Rotation{rotation(s)})
			if err != nil {
				return nil, err
			}
			return got[0], nil
		},
		"in a batch": func(s, other session.Session) (*session.Session, error) {
			got, err := db.Rotate(t.Context(), []session.Rotation{rotation(s), rotation(other)})
			if err != nil {
				return nil, err
			}
			if got[1] == nil {
				t.Error("another session was not refreshed")
			}
			return got[0], nil
		},
		"repeated": func(s, _ session.Session) (*session.Session, error) { return db.Repeat(t.Context(), rotation(s)) },
	}
	for name, c := range changes() {
		for how, refresh := range refreshes {
			run := func(name string, check func(t *testing.T, before, row session.Session, got *session.Session), refreshFirst bool) {
				t.Run(name, func(t *testing.T) {
					u, s := login(t, db)
					_, other := login(t, db)
					var got *session.Session
					calls := []func(){
						func() {
							var err error
							if got, err = refresh(s, other); err != nil {
								t.Errorf("refresh: %v", err)
							}
						},
						func() {
							if err := c.do(t.Context(), db, u, s); err != nil {
								t.Errorf("change: %v", err)
							}
						},
					}
					if !refreshFirst {
						calls[0], calls[1] = calls[1], calls[0]
					}
					inOrder(t, url, holdSession, [16]byte(s.ID), calls[0], calls[1])

					row, err := db.Session(t.Context(), s.ID)
					if err != nil && !errors.Is(err, session.ErrNotFound) {
						t.Fatal(err)
					}
					check(t, s, row, got)
					if !c.survives && row.RevokedAt.IsZero() && err == nil {
						t.Error("the session lives on")
					}
				})
			}
			run(name+"/after a refresh "+how, func(t *testing.T, _, row session.Session, got *session.Session) {
				if got == nil {
					t.Fatal("refused, although it came first")
				}
				if !covered(t, db, got.ID, got.IATFloor) {
					t.Error("the access token of before is not blocked")
				}
				if c.survives && (row.Roles[0] != "new" || covered(t, db, row.ID, row.IATFloor)) {
					t.Errorf("the next access token has roles %q, blocked: %t", row.Roles, covered(t, db, row.ID, row.IATFloor))
				}
			}, true)
			run(name+"/before a refresh "+how, func(t *testing.T, before, _ session.Session, got *session.Session) {
				if !covered(t, db, before.ID, before.IATFloor) {
					t.Error("the access token of before is not blocked")
				}
				if !c.survives {
					if got != nil {
						t.Error("refreshed after the end")
					}
					return
				}
				if got == nil || got.Roles[0] != "new" || covered(t, db, got.ID, got.IATFloor) {
					t.Errorf("refreshed to %+v, want the new roles and a token that passes", got)
				}
			}, false)
		}
	}
}

// TestRT06_ClientDisabledInFlight disables the client while a refresh waits for its row. The refresh does not see it; the
// client's entry covers its token.
func TestRT06_ClientDisabledInFlight(t *testing.T) {
	db, url := open(t)
	_, s := login(t, db)
	_, release := hold(t, url, holdSession, [16]byte(s.ID))
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := db.Rotate(t.Context(), []session.Rotation{rotation(s)}); err != nil {
			t.Error(err)
		}
	})
	waitForWaiting(t, url, 1)
	entry := blocklist.NewEntry(verifier.BlockClient, "default", noon().Add(3600e9))
	must(t, db.DisableClient(t.Context(), "default", noon(), entry, event()))
	release()
	wg.Wait()
	all, err := db.BlocklistChanges(t.Context(), "")
	must(t, err)
	if len(all.Entries) != 1 || all.Entries[0] != entry {
		t.Errorf("blocklist: %+v", all.Entries)
	}
	s.Generation = 2
	got, err := db.Rotate(t.Context(), []session.Rotation{rotation(s)})
	if err != nil || got[0] != nil {
		t.Errorf("refreshed for a disabled client: %+v, %v", got[0], err)
	}
}

// TestRT06_LoginInFlight has a login and a change wait for the user's row, in both orders.
func TestRT06_LoginInFlight(t *testing.T) {
	t.Parallel()
	db, url := openPatient(t)
	for name, c := range changes() {
		if name == "EndSession" || name == "EndSessions" {
			continue // they are about sessions that exist; who logs in meanwhile has logged in afterwards
		}
		for order, loginFirst := range map[string]bool{"after a login": true, "before a login": false} {
			t.Run(name+"/"+order, func(t *testing.T) {
				u, _ := login(t, db)
				start := startFor(u, session.NewID(noon()))
				var started session.Started
				calls := []func(){
					func() {
						var err error
						if started, err = db.Start(t.Context(), start); err != nil {
							t.Errorf("start: %v", err)
						}
					},
					func() {
						if err := c.do(t.Context(), db, u, start.Session); err != nil {
							t.Errorf("change: %v", err)
						}
					},
				}
				if !loginFirst {
					calls[0], calls[1] = calls[1], calls[0]
				}
				inOrder(t, url, holdUser, u.ID, calls[0], calls[1])

				if started.Created != (loginFirst || c.survives) {
					t.Fatalf("started: %+v", started)
				}
				if !started.Created {
					return
				}
				row, err := db.Session(t.Context(), start.Session.ID)
				if err != nil && !errors.Is(err, session.ErrNotFound) {
					t.Fatal(err)
				}
				if loginFirst != covered(t, db, start.Session.ID, start.Session.IATFloor) {
					t.Errorf("the access token of the login is blocked: %t", !loginFirst)
				}
				switch {
				case c.survives && row.Roles[0] != "new":
					t.Errorf("the session has roles %q", row.Roles)
				case c.survives && !loginFirst && started.Roles[0] != "new":
					t.Errorf("the login has roles %q", started.Roles)
				case !c.survives && err == nil && row.RevokedAt.IsZero():
					t.Error("the session lives on")
				}
			})
		}
	}
}
