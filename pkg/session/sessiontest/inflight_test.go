package sessiontest

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// house is two replicas on one database, each with a link that can be held.
type house struct {
	t     *testing.T
	s     [2]*servicetest.Service
	link  [2]*link
	mu    sync.Mutex
	count int
}

func newHouse(t *testing.T, db servicetest.Database, change ...func(c *service.Config)) *house {
	t.Helper()
	h := &house{t: t}
	for i := range h.s {
		h.link[i] = newLink(nil)
		db.Wrap = func(s store.Store) store.Store {
			h.link[i].Store = s
			return h.link[i]
		}
		h.s[i] = servicetest.Start(t, db, append(change, func(c *service.Config) {
			if i > 0 {
				c.Issuer, c.Audience = h.s[0].Config.Issuer, h.s[0].Config.Audience
			}
			c.LoginIPFailures = 1 << 20
		})...)
	}
	return h
}

// guest is a logged-in user of the house.
type guest struct {
	email    string
	clientID string
	tokens   servicetest.Tokens
	claims   claims
}

type claims struct {
	Subject string   `json:"sub"`
	Session string   `json:"sid"`
	Roles   []string `json:"roles"`
	IAT     int64    `json:"iat"`
}

func claimsOf(t testing.TB, accessToken string) (c claims) {
	t.Helper()
	text, err := json.Marshal(servicetest.Claims(t, accessToken))
	must(t, err)
	must(t, json.Unmarshal(text, &c))
	return c
}

// guest makes a user with one session, at a client of its own if ownClient is set.
func (h *house) guest(t *testing.T, ownClient bool) *guest {
	t.Helper()
	name := session.NewID(time.Now()).String()
	g := &guest{email: name + "@example.test", clientID: oauth.DefaultClientID}
	first := h.s[0].SignUp(t, g.email)
	if !ownClient {
		g.tokens = first
	} else {
		now := time.Now()
		g.clientID = "app-" + name
		must(t, h.link[0].CreateClient(t.Context(), oauth.Client{
			ID: g.clientID, Type: oauth.Public, Grants: []string{oauth.GrantRefreshToken}, CreatedAt: now, UpdatedAt: now,
		}, audit.Event{At: now, Kind: audit.KindClientCreated, Actor: audit.ActorCLI, ClientID: g.clientID}))
		u, err := h.link[0].UserByEmail(t.Context(), g.email)
		must(t, err)
		issued, err := h.s[0].Sessions.Start(t.Context(), session.Login{
			User:     u,
			ClientID: g.clientID,
			Audience: h.s[0].Config.Audience,
		})
		must(t, err)
		g.tokens.RefreshToken = issued.RefreshToken
		for _, s := range h.s { // both know the client before anything is held
			r := h.refresh(t, s, g)
			g.tokens = r.Tokens(t)
		}
	}
	g.claims = claimsOf(t, g.tokens.AccessToken)
	return g
}

func (h *house) refresh(t testing.TB, s *servicetest.Service, g *guest) servicetest.Response {
	t.Helper()
	r, err := s.TryForm(t.Context(), "/oauth2/token", nil, "grant_type", "refresh_token", "refresh_token", g.tokens.RefreshToken,
		"client_id", g.clientID)
	if err != nil {
		t.Errorf("refresh: %v", err)
	}
	return r
}

// change is something after which the tokens of before are no good.
type change struct {
	name      string
	method    string // of the store, that writes it
	ownClient bool
	survives  bool // the session goes on, with other roles
	do        func(t testing.TB, s *servicetest.Service, g *guest)
}

func bearer(accessToken string) http.Header {
	return http.Header{"Authorization": {"Bearer " + accessToken}}
}

// call sends a request that must succeed.
func call(t testing.TB, s *servicetest.Service, method, path string, header http.Header, body string, want int) {
	t.Helper()
	if body != "" {
		header = header.Clone()
		if header == nil {
			header = http.Header{}
		}
		header.Set("Content-Type", "application/json")
		if path == "/oauth2/revoke" {
			header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
	}
	r, err := s.Try(t.Context(), method, path, header, strings.NewReader(body))
	if err != nil || r.Status != want {
		t.Errorf("%s %s: %d %s, %v", method, path, r.Status, r.Body, err)
	}
}

func byCLI() session.By { return session.By{Actor: audit.ActorCLI} }

func changes() []change {
	return []change{
		{name: "logout with the access token", method: "EndSession", do: func(t testing.TB, s *servicetest.Service, g *guest) {
			call(t, s, http.MethodPost, "/v1/logout", bearer(g.tokens.AccessToken), "", http.StatusNoContent)
		}},
		{name: "logout with the refresh token", method: "EndSession", do: func(t testing.TB, s *servicetest.Service, g *guest) {
			call(t, s, http.MethodPost, "/v1/logout", nil, `{"refresh_token":"`+g.tokens.RefreshToken+`"}`, http.StatusNoContent)
		}},
		{name: "revoke", method: "EndSession", do: func(t testing.TB, s *servicetest.Service, g *guest) {
			call(t, s, http.MethodPost, "/oauth2/revoke", nil, "token="+g.tokens.RefreshToken+"&client_id="+g.clientID, http.StatusOK)
		}},
		{name: "end one session", method: "EndDevice", do: func(t testing.TB, s *servicetest.Service, g *guest) {
			call(t, s, http.MethodDelete, "/v1/sessions/"+g.claims.Session, bearer(g.tokens.AccessToken), "", http.StatusNoContent)
		}},
		{name: "log out everywhere", method: "EndSessions", do: func(t testing.TB, s *servicetest.Service, g *guest) {
			call(t, s, http.MethodDelete, "/v1/sessions", bearer(g.tokens.AccessToken), "", http.StatusNoContent)
		}},
		{name: "password change", method: "SetPassword", do: func(t testing.TB, s *servicetest.Service, g *guest) {
			call(t, s, http.MethodPost, "/v1/password/change", bearer(g.tokens.AccessToken),
				`{"current_password":"`+servicetest.Password+`","new_password":"another-`+servicetest.Password+`"}`, http.StatusOK)
		}},
		{name: "disable the user", method: "DisableUser", do: func(t testing.TB, s *servicetest.Service, g *guest) {
			must(t, s.Sessions.DisableUser(t.Context(), g.claims.Subject, byCLI()))
		}},
		{name: "delete the user", method: "DeleteUser", do: func(t testing.TB, s *servicetest.Service, g *guest) {
			must(t, s.Sessions.DeleteUser(t.Context(), g.claims.Subject, byCLI()))
		}},
		{
			name:      "disable the client",
			method:    "DisableClient",
			ownClient: true,
			do: func(t testing.TB, s *servicetest.Service, g *guest) {
				now := time.Now()
				must(t, s.Store.DisableClient(t.Context(), g.clientID, now,
					blocklist.NewEntry(verifier.BlockClient, g.clientID, s.Sessions.BlockUntil()),
					audit.Event{At: now, Kind: audit.KindClientDisabled, Actor: audit.ActorCLI, ClientID: g.clientID}))
			},
		},
		{name: "change of roles", method: "SetRoles", survives: true, do: func(t testing.TB, s *servicetest.Service, g *guest) {
			must(t, s.Sessions.SetRoles(t.Context(), g.claims.Subject, []string{"new"}, byCLI()))
		}},
	}
}

// wantDead demands that both replicas refuse an access token, within the second that is promised.
func (h *house) wantDead(t *testing.T, what, accessToken string) {
	t.Helper()
	for _, s := range h.s {
		servicetest.Eventually(t, what+" is refused",
			func() bool { return s.Get(t, "/v1/me", accessToken).Status == http.StatusUnauthorized })
	}
}

// wantRefused demands that a refresh was, or is, refused.
func wantRefused(t *testing.T, what string, r servicetest.Response) {
	t.Helper()
	if (r.Status != http.StatusBadRequest || r.Code() != "invalid_grant") &&
		(r.Status != http.StatusUnauthorized || r.Code() != "invalid_client") {
		t.Errorf("%s: %d %s, want a refusal", what, r.Status, r.Body)
	}
}

// wantCurrent demands that tokens carry the new roles and are accepted by both replicas.
func (h *house) wantCurrent(t *testing.T, what string, tokens servicetest.Tokens) {
	t.Helper()
	if c := claimsOf(t, tokens.AccessToken); !slices.Equal(c.Roles, []string{"new"}) {
		t.Errorf("%s has roles %q", what, c.Roles)
	}
	for _, s := range h.s {
		if r := s.Get(t, "/v1/me", tokens.AccessToken); r.Status != http.StatusOK {
			t.Errorf("%s: %d %s", what, r.Status, r.Body)
		}
	}
}

// settled demands that a change has happened to a guest whose refresh was answered like this. There are two results:
// the refresh was refused, or its tokens have died of the change.
func (h *house) settled(t *testing.T, c change, g *guest, answer servicetest.Response, refreshFirst bool) {
	t.Helper()
	h.wantDead(t, "the access token of before", g.tokens.AccessToken)
	if answer.Status != http.StatusOK {
		wantRefused(t, "the refresh", answer)
		if refreshFirst || c.survives {
			t.Errorf("refused: %s", answer.Body)
		}
		for _, s := range h.s {
			wantRefused(t, "the token of before", h.refresh(t, s, g))
		}
		return
	}
	next := *g
	next.tokens = answer.Tokens(t)
	switch {
	case !refreshFirst && !c.survives:
		t.Error("refreshed after the end")
	case !refreshFirst:
		h.wantCurrent(t, "the answer", next.tokens)
		return
	}
	h.wantDead(t, "the access token of the answer", next.tokens.AccessToken)
	for _, s := range h.s {
		r := h.refresh(t, s, &next)
		if !c.survives {
			wantRefused(t, "the refresh token of the answer", r)
			continue
		}
		next.tokens = r.Tokens(t)
		h.wantCurrent(t, "the token after the answer", next.tokens)
	}
}

// RT-05: after each event the next refresh is refused or, after a change of roles, carries the new ones. Access tokens
// die with it.
func TestRT05_AfterTheEvent(t *testing.T) {
	t.Parallel()
	servicetest.Each(t, func(t *testing.T, db servicetest.Database) {
		h := newHouse(t, db)
		for _, c := range changes() {
			t.Run(c.name, func(t *testing.T) {
				g := h.guest(t, c.ownClient)
				c.do(t, h.s[0], g)
				h.settled(t, c, g, h.refresh(t, h.s[1], g), false)
			})
		}
	})
}

// RT-06: the event and the refresh meet, on two replicas. One of them is held, before its statement or between the
// commit and the answer, while the other runs.
func TestRT06_InFlight(t *testing.T) {
	t.Parallel()
	servicetest.Each(t, func(t *testing.T, db servicetest.Database) {
		h := newHouse(t, db)
		for _, c := range changes() {
			for _, order := range []struct {
				name         string
				holdRefresh  bool
				after        bool
				refreshFirst bool
			}{
				{"the refresh is held before its statement", true, false, false},
				{"the refresh is held before its answer", true, true, true},
				{"the event is held before its statement", false, false, true},
				{"the event is held before its answer", false, true, false},
			} {
				t.Run(c.name+"/"+order.name, func(t *testing.T) {
					g := h.guest(t, c.ownClient)
					var answer servicetest.Response
					refresh := func() { answer = h.refresh(t, h.s[0], g) }
					event := func() { c.do(t, h.s[1], g) }
					held, other, gate := event, refresh, (*gate)(nil)
					if order.holdRefresh {
						held, other, gate = refresh, event, h.link[0].hold("Rotate", order.after)
					} else {
						gate = h.link[1].hold(c.method, order.after)
					}
					var wg sync.WaitGroup
					wg.Go(held)
					select {
					case <-gate.reached:
						other()
					case <-time.After(10 * time.Second):
						t.Error("nothing came to the gate")
					}
					close(gate.release)
					wg.Wait()
					h.settled(t, c, g, answer, order.refreshFirst)
				})
			}
		}
	})
}

// RT-06 on PostgreSQL, where statements wait for each other at the row: both wait for somebody who holds it, in both orders.
func TestRT06_WaitingForTheRow(t *testing.T) {
	db := servicetest.Postgres(t)
	plain := db.URL
	db.URL += "&lock_timeout=8000"
	h := newHouse(t, db)
	for _, c := range changes() {
		for name, refreshFirst := range map[string]bool{"the refresh first": true, "the event first": false} {
			if c.ownClient {
				continue // it does not touch the row: its entry covers what is minted meanwhile
			}
			t.Run(c.name+"/"+name, func(t *testing.T) {
				g := h.guest(t, false)
				id, err := session.ParseID(g.claims.Session)
				must(t, err)
				var answer servicetest.Response
				first, second := func() { answer = h.refresh(t, h.s[0], g) }, func() { c.do(t, h.s[1], g) }
				if !refreshFirst {
					first, second = second, first
				}
				release := holdRow(t, plain, id)
				var wg sync.WaitGroup
				wg.Go(first)
				waiting(t, plain, 1)
				wg.Go(second)
				waiting(t, plain, 2)
				release()
				wg.Wait()
				h.settled(t, c, g, answer, refreshFirst)
			})
		}
	}
}

// holdRow locks a session's row until the returned function is called.
func holdRow(t *testing.T, url string, id session.ID) (release func()) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), url)
	must(t, err)
	tx, err := c.Begin(t.Context())
	must(t, err)
	_, err = tx.Exec(t.Context(), "SELECT FROM sessions WHERE id = $1 FOR UPDATE", [16]byte(id))
	must(t, err)
	release = sync.OnceFunc(func() {
		ctx := context.WithoutCancel(t.Context())
		if err := tx.Rollback(ctx); err != nil {
			t.Error(err)
		}
		_ = c.Close(ctx)
	})
	t.Cleanup(release)
	return release
}

// waiting returns when so many statements wait for a lock.
func waiting(t *testing.T, url string, n int) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), url)
	must(t, err)
	defer func() { _ = c.Close(t.Context()) }()
	servicetest.Eventually(t, "statements wait for the row", func() bool {
		var got int
		must(t, c.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND "+
			"wait_event_type = 'Lock'").Scan(&got))
		return got == n
	})
}

// REV-08: a token is minted and the roles change within one second, in both orders. What was minted before is refused,
// what was minted after is not, and says the new roles.
func TestREV08_WithinOneSecond(t *testing.T) {
	t.Parallel()
	servicetest.Each(t, func(t *testing.T, db servicetest.Database) {
		h := newHouse(t, db)
		// The clock goes on; a few attempts fall into one second, be the machine as slow as it may.
		for range 50 {
			g := h.guest(t, false)
			second := time.Now().Unix()
			next := *g
			next.tokens = h.refresh(t, h.s[0], g).Tokens(t)
			before := claimsOf(t, next.tokens.AccessToken)
			must(t, h.s[1].Sessions.SetRoles(t.Context(), g.claims.Subject, []string{"new"}, byCLI()))
			if time.Now().Unix() != second {
				continue
			}
			last := next
			last.tokens = h.refresh(t, h.s[0], &next).Tokens(t)
			after := claimsOf(t, last.tokens.AccessToken)
			if before.IAT < second || after.IAT <= before.IAT || after.IAT > time.Now().Unix() {
				t.Errorf("iat before %d, after %d, in second %d", before.IAT, after.IAT, second)
			}
			h.wantDead(t, "the token of before", next.tokens.AccessToken)
			h.wantCurrent(t, "the token of after", last.tokens)
			return
		}
		t.Fatal("the machine is too slow for two requests in one second")
	})
}
