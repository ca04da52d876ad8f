package oauth_test

import (
	"context"
	"errors"
	"testing"

	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/oauth"
)

// changing is a table of clients whose changes the test plays.
type changing struct {
	oauth.ClientStore
	changes map[string]oauth.ClientChanges // by cursor
	client  func() (oauth.Client, error)
}

func (s *changing) ClientChanges(_ context.Context, after string) (oauth.ClientChanges, error) {
	changes, ok := s.changes[after]
	if !ok {
		return oauth.ClientChanges{}, blocklist.ErrCursorGone
	}
	return changes, nil
}

func (s *changing) Client(context.Context, string) (oauth.Client, error) { return s.client() }

func TestRegistry(t *testing.T) {
	a, b := oauth.Client{ID: "a", Origins: []string{"https://a.example"}}, oauth.Client{ID: "b"}
	missing := func() (oauth.Client, error) { return oauth.Client{}, oauth.ErrClientNotFound }
	everything := oauth.ClientChanges{Cursor: "1", Complete: true, Changed: []oauth.Client{a, b}}

	t.Run("ok/a deleted client is forgotten", func(t *testing.T) {
		r := oauth.NewRegistry(&changing{client: missing, changes: map[string]oauth.ClientChanges{
			"": everything, "1": {Cursor: "2", Deleted: []string{"a"}},
		}})
		sync(t, r)
		if !r.Knows("a") || !r.AllowsOrigin("https://a.example") {
			t.Error("a is not known")
		}
		sync(t, r)
		if r.Knows("a") || r.AllowsOrigin("https://a.example") || !r.Knows("b") {
			t.Error("a was not forgotten, or b was")
		}
		if _, err := r.Client(t.Context(), "a"); !errors.Is(err, oauth.ErrClientNotFound) {
			t.Errorf("Client: %v, want ErrClientNotFound", err)
		}
	})

	t.Run("ok/after a restore all are read again, and what is no more is forgotten", func(t *testing.T) {
		s := &changing{client: missing, changes: map[string]oauth.ClientChanges{"": everything}}
		r := oauth.NewRegistry(s)
		sync(t, r)
		s.changes = map[string]oauth.ClientChanges{"": {Cursor: "restored", Complete: true, Changed: []oauth.Client{b}}}
		sync(t, r)
		if r.Knows("a") || !r.Knows("b") {
			t.Error("the copy is not the restored state")
		}
	})

	t.Run("ok/a row that was read before a change does not replace it", func(t *testing.T) {
		s := &changing{changes: map[string]oauth.ClientChanges{
			"":  {Cursor: "1", Complete: true},
			"1": {Cursor: "2", Deleted: []string{"a"}},
		}}
		r := oauth.NewRegistry(s)
		sync(t, r)
		s.client = func() (oauth.Client, error) { sync(t, r); return a, nil } // deleted while the row was on its way
		if _, err := r.Client(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if r.Knows("a") {
			t.Error("the deleted client came back")
		}
	})

	t.Run("fail/a storage failure changes nothing", func(t *testing.T) {
		r := oauth.NewRegistry(&changing{changes: map[string]oauth.ClientChanges{"": everything}})
		sync(t, r)
		r = oauth.NewRegistry(&changing{})
		if err := r.Sync(t.Context()); err == nil {
			t.Error("no error")
		}
	})
}

func sync(t *testing.T, r *oauth.Registry) {
	t.Helper()
	if err := r.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
}
