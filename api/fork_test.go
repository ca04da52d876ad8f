package api_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/store/storetest"
)

// fork starts a child of a session of the built-in client.
func fork(t testing.TB, s *servicetest.Service, refreshToken string, pairs ...string) servicetest.Response {
	t.Helper()
	return s.FormWith(t, "/v1/sessions/fork", header(pairs...), "client_id", "default", "refresh_token", refreshToken)
}

// listed are the sessions in a user's list.
func listed(t testing.TB, s *servicetest.Service, accessToken string) []string {
	t.Helper()
	var list struct{ Sessions []struct{ ID string } }
	s.Get(t, "/v1/sessions", accessToken).JSON(t, &list)
	var ids []string
	for _, one := range list.Sessions {
		ids = append(ids, one.ID)
	}
	return ids
}

func TestFork(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := signUp(t, w.Service)
		child := fork(t, w.Service, p.RefreshToken).Tokens(t)
		parentID, childID := sid(t, p.AccessToken), sid(t, child.AccessToken)
		parent, old := servicetest.Claims(t, p.AccessToken), servicetest.Claims(t, child.AccessToken)
		if childID == parentID || old["sub"] != p.id || old["client_id"] != "default" || old["scope"] != parent["scope"] ||
			old["auth_time"] != parent["auth_time"] || child.Scope != p.Scope || child.RefreshToken == p.RefreshToken {
			t.Fatalf("child %v of %v", old, parent)
		}
		id, err := session.ParseID(parentID)
		if err != nil {
			t.Fatal(err)
		}
		row, err := w.Store.Session(t.Context(), id)
		if err != nil || row.Generation != 1 {
			t.Errorf("the fork has moved the parent to %d, %v", row.Generation, err)
		}
		if ids := listed(t, w.Service, p.AccessToken); len(ids) != 1 || ids[0] != parentID {
			t.Errorf("devices of the parent: %v", ids)
		}
		if ids := listed(t, w.Service, child.AccessToken); len(ids) != 1 || ids[0] != childID {
			t.Errorf("devices of the child: %v", ids)
		}

		// Each has a chain of its own.
		next := w.Refresh(t, p.RefreshToken).Tokens(t)
		childNext := w.Refresh(t, child.RefreshToken).Tokens(t)
		w.Refresh(t, next.RefreshToken).Tokens(t)
		w.Refresh(t, childNext.RefreshToken).Tokens(t)
		want(t, "a child cannot be forked", fork(t, w.Service, w.Refresh(t, childNext.RefreshToken).Tokens(t).RefreshToken),
			http.StatusBadRequest, "invalid_request")
		events, err := w.Store.Events(t.Context(), p.id, audit.Cursor{}, 100)
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, e := range events {
			found = found || e.Kind == audit.KindSessionForked && e.SessionID == childID && e.Reason == parentID && e.Actor == p.id
		}
		if !found {
			t.Errorf("no event of the fork: %+v", events)
		}
		if !strings.Contains(w.Log.String(), `"route":"/v1/sessions/fork","status":200`) {
			t.Error("the fork is not in the log")
		}

		for name, r := range map[string]servicetest.Response{
			"nonsense":       fork(t, w.Service, "hsr_nonsense"),
			"another client": w.Form(t, "/v1/sessions/fork", "client_id", "spa", "refresh_token", p.RefreshToken),
		} {
			want(t, name, r, http.StatusUnauthorized, "invalid_grant")
		}
		want(t, "no token", w.Form(t, "/v1/sessions/fork", "client_id", "default"), http.StatusBadRequest, "invalid_request")
		want(t, "unknown client", w.Form(t, "/v1/sessions/fork", "client_id", "nobody", "refresh_token", "x"), http.StatusBadRequest,
			"invalid_client")
		want(t, "no grant", w.FormWith(t, "/v1/sessions/fork", basic("backend"), "refresh_token", "x"), http.StatusBadRequest,
			"unauthorized_client")
	})
}

// Whatever ends the parent or a child ends the device, and blocks its access tokens.
func TestFork_EndsTogether(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		type pair struct {
			person
			child servicetest.Tokens
		}
		for name, end := range map[string]func(p pair) servicetest.Response{
			"logout of the parent": func(p pair) servicetest.Response {
				return w.JSON(t, http.MethodPost, "/v1/logout", p.AccessToken, nil)
			},
			"logout of the child": func(p pair) servicetest.Response {
				return w.JSON(t, http.MethodPost, "/v1/logout", p.child.AccessToken, nil)
			},
			"revocation of the child's refresh token": func(p pair) servicetest.Response {
				return w.Form(t, "/oauth2/revoke", "token", p.child.RefreshToken)
			},
			"the device ended from the list": func(p pair) servicetest.Response {
				other := w.LogIn(t, p.email)
				return w.JSON(t, http.MethodDelete, "/v1/sessions/"+sid(t, p.child.AccessToken), other.AccessToken, nil)
			},
			"log out everywhere": func(p pair) servicetest.Response {
				return w.JSON(t, http.MethodDelete, "/v1/sessions", p.AccessToken, nil)
			},
			"reuse in the parent": func(p pair) servicetest.Response {
				w.Refresh(t, w.Refresh(t, p.RefreshToken).Tokens(t).RefreshToken).Tokens(t)
				return w.Refresh(t, p.RefreshToken)
			},
			"reuse in the child": func(p pair) servicetest.Response {
				w.Refresh(t, w.Refresh(t, p.child.RefreshToken).Tokens(t).RefreshToken).Tokens(t)
				return w.Refresh(t, p.child.RefreshToken)
			},
			"reuse at a fork": func(p pair) servicetest.Response {
				w.Refresh(t, w.Refresh(t, p.RefreshToken).Tokens(t).RefreshToken).Tokens(t)
				return fork(t, w.Service, p.RefreshToken)
			},
		} {
			p := pair{person: signUp(t, w.Service)}
			p.child = fork(t, w.Service, p.RefreshToken).Tokens(t)
			end(p)
			for who, tokens := range map[string]servicetest.Tokens{"parent": p.Tokens, "child": p.child} {
				if r := w.Refresh(t, tokens.RefreshToken); r.Status != http.StatusBadRequest {
					t.Errorf("%s: the %s goes on: %d %s", name, who, r.Status, r.Body)
				}
				servicetest.Eventually(t, name+": access tokens of the "+who, func() bool {
					return w.Get(t, "/v1/me", tokens.AccessToken).Status == http.StatusUnauthorized
				})
			}
		}

		// All but this one: the device is spared as a whole. Roles reach it as a whole.
		p := signUp(t, w.Service)
		child := fork(t, w.Service, p.RefreshToken).Tokens(t)
		want(t, "all others", w.JSON(t, http.MethodDelete, "/v1/sessions?except=current", child.AccessToken, nil),
			http.StatusNoContent, "")
		if err := w.Sessions.SetRoles(t.Context(), p.id, []string{"editor"}, byOperator()); err != nil {
			t.Fatal(err)
		}
		for who, raw := range map[string]string{"parent": p.RefreshToken, "child": child.RefreshToken} {
			roles, _ := servicetest.Claims(t, w.Refresh(t, raw).Tokens(t).AccessToken)["roles"].([]any)
			if len(roles) != 1 || roles[0] != "editor" {
				t.Errorf("roles of the %s: %v", who, roles)
			}
		}
	})
}

// A page's second holder has a cookie of its own, and the page's stays as it is.
func TestFork_ByCookie(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := addPage(t, w.Service)
		p.logIn(t, signUp(t, w.Service).email)
		own := p.refreshToken()
		for name, holder := range map[string]string{"none": "", "a space": "a b", "a cookie": "a=b;", "long": strings.Repeat("a", 65)} {
			if r := p.fork(t, holder); r.Status != http.StatusBadRequest || setRefresh(t, r) != nil {
				t.Errorf("holder %s: %d %s", name, r.Status, r.Body)
			}
		}
		r := p.fork(t, "worker")
		c := setRefresh(t, r)
		if r.Status != http.StatusOK || strings.Contains(r.Body, "hsr_") || c == nil || p.cookies[c.Name] != "" || c.Value == own {
			t.Fatalf("%d %s, cookie %v", r.Status, r.Body, c)
		}
		p.keep(t, r)
		for range 2 {
			refreshed := p.keep(t, p.refresh(t, "X-Handstamp-Holder", "worker"))
			if got := setRefresh(t, refreshed); refreshed.Status != http.StatusOK || got == nil || got.Name != c.Name {
				t.Fatalf("the holder's refresh: %d %s %v", refreshed.Status, refreshed.Body, got)
			}
		}
		want(t, "fork of a child", p.fork(t, "another", "X-Handstamp-Holder", "worker"), http.StatusBadRequest, "invalid_request")
		want(t, "no such holder", p.refresh(t, "X-Handstamp-Holder", "nobody"), http.StatusBadRequest, "invalid_grant")
		want(t, "no name of a holder", p.refresh(t, "X-Handstamp-Holder", "a b"), http.StatusBadRequest, "invalid_request")
		want(t, "the page", p.keep(t, p.refresh(t)), http.StatusOK, "")
		gone := p.logOut(t, "X-Handstamp-Holder", "worker")
		if got := setRefresh(t, gone); gone.Status != http.StatusNoContent || got == nil || got.Name != c.Name || got.MaxAge >= 0 {
			t.Errorf("logout of the holder: %d %v", gone.Status, got)
		}
		if r := p.refresh(t); r.Status != http.StatusBadRequest || setRefresh(t, r) == nil {
			t.Errorf("the page goes on: %d %s", r.Status, r.Body)
		}
	})
}

// The child's ends are its parent's, whatever it does.
func TestFork_Ends(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		var failing *storetest.Failing
		db.Wrap = func(s store.Store) store.Store { failing = storetest.Fail(s, 0, storetest.Before); return failing }
		s := servicetest.Start(t, db, func(c *service.Config) { c.RefreshIdleLifetime = time.Hour })
		p := signUp(t, s)
		for _, when := range []storetest.When{storetest.Before, storetest.After} {
			for n := 1; ; n++ {
				failing.Arm(n, when, "Session", "Fork", "Repeat", "EndSession")
				r := fork(t, s, p.RefreshToken)
				if failing.Failed() == "" {
					want(t, "nothing failed", r, http.StatusOK, "")
					break
				}
				want(t, failing.Failed()+" "+when.String(), r, http.StatusServiceUnavailable, "temporarily_unavailable")
			}
		}
		failing.Arm(0, storetest.Before)
		child := fork(t, s, p.RefreshToken).Tokens(t)
		find := func(raw string) session.Session {
			row, _, err := s.Sessions.Find(t.Context(), raw)
			if err != nil {
				t.Fatal(err)
			}
			return row
		}
		parent := find(p.RefreshToken)
		row := find(s.Refresh(t, child.RefreshToken).Tokens(t).RefreshToken)
		if !row.ExpiresAt.Equal(parent.ExpiresAt) || row.IdleExpiresAt.After(parent.IdleExpiresAt) || row.Parent != parent.ID {
			t.Errorf("child until %v, %v; parent until %v, %v", row.ExpiresAt, row.IdleExpiresAt, parent.ExpiresAt, parent.IdleExpiresAt)
		}
		gone, leave := context.WithCancel(t.Context())
		leave()
		if _, err := s.TryForm(gone, "/v1/sessions/fork", nil, "client_id", "default", "refresh_token", p.RefreshToken); err == nil {
			t.Error("somebody who has left was answered")
		}
		for range 7 {
			fork(t, s, p.RefreshToken).Tokens(t)
		}
		list, err := s.Store.Sessions(t.Context(), p.id, time.Now())
		if err != nil || len(list) != 6 {
			t.Errorf("%d sessions, %v; want the parent and five children", len(list), err)
		}
	})
}
