package session_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/session"
)

// endings is a store that notes how sessions end.
type endings struct {
	got session.Ending
	err error
}

func (e *endings) EndSession(_ context.Context, _ session.ID, how session.Ending) (bool, error) {
	e.got = how
	return e.err == nil, e.err
}

func (e *endings) EndDevice(_ context.Context, _ string, _ session.ID, how session.Ending) ([]session.ID, error) {
	e.got = how
	return nil, e.err
}

func (e *endings) EndSessions(_ context.Context, _ string, _ session.ID, how session.Ending) ([]session.ID, error) {
	e.got = how
	return nil, e.err
}

// EndSessionsBefore finds two full batches and a rest.
func (e *endings) EndSessionsBefore(_ context.Context, _ time.Time, after session.ID, limit int, how session.Ending) (
	[]session.ID, int, error) {
	e.got = how
	batch := after[0] + 1
	ids := make([]session.ID, limit)
	if batch == 3 {
		ids = ids[:1]
	}
	ids[len(ids)-1] = session.ID{batch}
	return ids, 0, e.err
}

func (e *endings) SetPassword(_ context.Context, _, _, _ string, how session.Ending) ([]session.ID, error) {
	e.got = how
	return nil, e.err
}

func (e *endings) DisableUser(_ context.Context, _ string, how session.Ending) ([]session.ID, error) {
	e.got = how
	return nil, e.err
}

func (e *endings) DeleteUser(_ context.Context, _ string, how session.Ending) ([]session.ID, error) {
	e.got = how
	return nil, e.err
}

func (e *endings) SetRoles(_ context.Context, _ string, _ []string, how session.Ending) error {
	e.got = how
	return e.err
}

func TestEnder(t *testing.T) {
	by := session.By{Actor: "usr_2", ClientID: "console", Origin: audit.Origin{RequestID: "r1"}}
	id := session.ID{1}
	event := func(kind audit.Kind, sid string, reason session.Reason) audit.Event {
		return audit.Event{
			Kind:      kind,
			Actor:     "usr_2",
			UserID:    "usr_1",
			SessionID: sid,
			ClientID:  "console",
			Reason:    string(reason),
			Origin:    by.Origin,
		}
	}
	for name, test := range map[string]struct {
		end    func(ctx context.Context, n *session.Ender) error
		reason session.Reason
		event  audit.Event
	}{
		"ok/one session": {
			func(ctx context.Context, n *session.Ender) error {
				return n.End(ctx, session.Session{ID: id, UserID: "usr_1", ClientID: "shop"}, session.ReasonRevoked, by)
			},
			session.ReasonRevoked, event(audit.KindSessionEnded, id.String(), session.ReasonRevoked),
		},
		"ok/a device": {
			func(ctx context.Context, n *session.Ender) error {
				return n.EndDevice(ctx, session.Session{ID: id, UserID: "usr_1", ClientID: "shop"}, session.ReasonRevoked, by)
			},
			session.ReasonRevoked, event(audit.KindSessionEnded, id.String(), session.ReasonRevoked),
		},
		"ok/all of a user": {
			func(ctx context.Context, n *session.Ender) error {
				_, err := n.EndAll(ctx, "usr_1", session.ID{}, session.ReasonLogoutAll, by)
				return err
			},
			session.ReasonLogoutAll, event(audit.KindSessionsEnded, "", session.ReasonLogoutAll),
		},
		"ok/all that were begun before, in batches": {
			func(ctx context.Context, n *session.Ender) error {
				ended, err := n.EndBefore(ctx, time.Now(), session.ReasonRevoked, by)
				if err == nil && ended != 2001 {
					return fmt.Errorf("%d ended, want 2001", ended)
				}
				return err
			},
			session.ReasonRevoked, func() audit.Event {
				e := event(audit.KindSessionsEnded, "", session.ReasonRevoked)
				e.UserID = ""
				return e
			}(),
		},
		"ok/another password": {
			func(ctx context.Context, n *session.Ender) error {
				return n.SetPassword(ctx, "usr_1", "old", "new", by)
			},
			session.ReasonPasswordChange, event(audit.KindPasswordChanged, "", session.ReasonPasswordChange),
		},
		"ok/a user who is kept out": {
			func(ctx context.Context, n *session.Ender) error { return n.DisableUser(ctx, "usr_1", by) },
			session.ReasonUserDisabled, event(audit.KindUserDisabled, "", session.ReasonUserDisabled),
		},
		"ok/a user who is deleted": {
			func(ctx context.Context, n *session.Ender) error { return n.DeleteUser(ctx, "usr_1", by) },
			session.ReasonUserDeleted, event(audit.KindUserDeleted, "", session.ReasonUserDeleted),
		},
		"ok/other roles": {
			func(ctx context.Context, n *session.Ender) error {
				return n.SetRoles(ctx, "usr_1", []string{"editor"}, by)
			},
			"", event(audit.KindRolesChanged, "", ""),
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &endings{}
				ender := session.NewEnder(store, session.Config{AccessTokenLifetime: 15 * time.Minute, ClockMargin: 2 * time.Minute})
				if err := test.end(t.Context(), ender); err != nil {
					t.Fatal(err)
				}
				now := time.Now()
				test.event.At = now
				want := session.Ending{At: now, Reason: test.reason, BlockUntil: now.Add(17 * time.Minute), Event: test.event}
				if !reflect.DeepEqual(store.got, want) {
					t.Errorf("%+v, want %+v", store.got, want)
				}
				store.err = errors.New("broken")
				if err := test.end(t.Context(), ender); !errors.Is(err, store.err) {
					t.Errorf("%v, want %v", err, store.err)
				}
			})
		})
	}
}
