package api_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// Our own endpoints refuse on every replica; introspection asks the database, so that it knows at once.
func TestREV01_OnEveryReplica(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db)
		other := servicetest.Start(t, db, sameIssuer(s))
		addClient(t, s, confidential(oauth.Client{ID: "backend", Audiences: []string{s.Config.Issuer}}))
		for _, event := range revocations() {
			p := signUp(t, s)
			second := s.LogIn(t, p.email)
			want(t, event.name+": before", other.Get(t, "/v1/me", p.AccessToken), http.StatusOK, "")
			event.do(t, s, p, second)
			for where, replica := range map[string]*servicetest.Service{"this": s, "the other": other} {
				if r := introspect(t, replica, "backend", p.AccessToken); !event.alive && r.Body != inactive {
					t.Errorf("%s: introspection at once on %s replica: %d %s", event.name, where, r.Status, r.Body)
				}
				servicetest.Eventually(t, event.name+" on "+where+" replica", func() bool {
					r := replica.Get(t, "/v1/forward-auth", p.AccessToken)
					if r.Status != http.StatusOK && r.Status != http.StatusUnauthorized {
						t.Errorf("%s: %d %s", event.name, r.Status, r.Body)
					}
					return r.Status == http.StatusUnauthorized
				})
				want(t, event.name+": me", replica.Get(t, "/v1/me", p.AccessToken), http.StatusUnauthorized, "invalid_token")
				if r := introspect(t, replica, "backend", p.AccessToken); r.Body != inactive {
					t.Errorf("%s: introspection: %d %s", event.name, r.Status, r.Body)
				}
			}
		}
	})
}

// A replica that has not heard of the end of a session still knows it when it is asked about its tokens.
func TestREV01_IntrospectionAtOnce(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db)
		deaf := &deafStore{}
		db.Wrap = func(inner store.Store) store.Store { deaf.Store = inner; return deaf }
		late := servicetest.Start(t, db, sameIssuer(s))
		addClient(t, s, confidential(oauth.Client{ID: "backend", Audiences: []string{s.Config.Issuer}}))
		for _, event := range revocations() {
			if event.alive {
				continue // no session has ended; the copy of the blocklist tells
			}
			p := signUp(t, s)
			second := s.LogIn(t, p.email)
			if r := introspect(t, late, "backend", p.AccessToken); r.Body == inactive {
				t.Errorf("%s: before: %d %s", event.name, r.Status, r.Body)
			}
			deaf.old.Store(true)
			event.do(t, s, p, second)
			if r := introspect(t, late, "backend", p.AccessToken); r.Status != http.StatusOK || r.Body != inactive {
				t.Errorf("%s: %d %s", event.name, r.Status, r.Body)
			}
			deaf.old.Store(false)
		}
	})
}

// deafStore hears nothing of the blocklist: with an error if deaf, as if nothing had happened if old.
type deafStore struct {
	store.Store
	deaf, old atomic.Bool
}

var errDeaf = errors.New("the database does not answer")

func (s *deafStore) BlocklistChanges(ctx context.Context, cursor string) (blocklist.Changes, error) {
	switch {
	case s.deaf.Load():
		return blocklist.Changes{}, errDeaf
	case s.old.Load():
		return blocklist.Changes{Cursor: cursor}, nil
	}
	return s.Store.BlocklistChanges(ctx, cursor)
}

// brokenStore fails what ends something.
type brokenStore struct {
	store.Store
	broken atomic.Bool
}

var errBroken = errors.New("the commit was not confirmed")

func (s *brokenStore) Block(ctx context.Context, entry blocklist.Entry, e audit.Event) error {
	if s.broken.Load() {
		return errBroken
	}
	return s.Store.Block(ctx, entry, e)
}

func (s *brokenStore) EndSession(ctx context.Context, id session.ID, e session.Ending) (bool, error) {
	if s.broken.Load() {
		return false, errBroken
	}
	return s.Store.EndSession(ctx, id, e)
}

func TestREV02_FailedRevocation(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		failing := &brokenStore{}
		db.Wrap = func(s store.Store) store.Store { failing.Store = s; return failing }
		s := servicetest.Start(t, db)
		for what, revoke := range map[string]func(p person) servicetest.Response{
			"access token":  func(p person) servicetest.Response { return s.Form(t, "/oauth2/revoke", "token", p.AccessToken) },
			"refresh token": func(p person) servicetest.Response { return s.Form(t, "/oauth2/revoke", "token", p.RefreshToken) },
			"logout": func(p person) servicetest.Response {
				return s.Do(t, http.MethodPost, "/v1/logout", bearer(p.AccessToken), nil)
			},
		} {
			p := signUp(t, s)
			failing.broken.Store(true)
			r := revoke(p)
			if r.Status != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" ||
				strings.Contains(r.Body, errBroken.Error()) {
				t.Errorf("%s: %d, Retry-After %q, %s", what, r.Status, r.Header.Get("Retry-After"), r.Body)
			}
			want(t, what+": nothing has ended", s.Get(t, "/v1/me", p.AccessToken), http.StatusOK, "")
			failing.broken.Store(false)
			if r := revoke(p); r.Status >= 300 {
				t.Errorf("%s: the retry: %d %s", what, r.Status, r.Body)
			}
			servicetest.Eventually(t, what+" is refused",
				func() bool { return s.Get(t, "/v1/me", p.AccessToken).Status == http.StatusUnauthorized })
		}
	})
}

// Entries for the session, its client and the token itself: none of them weakens another.
func TestREV04_TheStrictestWins(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db)
		addClient(t, s, oauth.Client{ID: "app", Type: oauth.Public, Grants: []string{oauth.GrantRefreshToken}})
		refused := func(what, token string, yes bool) {
			t.Helper()
			if err := s.Blocklist.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			if r := s.Get(t, "/v1/me", token); (r.Status == http.StatusUnauthorized) != yes {
				t.Errorf("%s: %d %s", what, r.Status, r.Body)
			}
		}
		roles := func(p person, roles ...string) {
			t.Helper()
			if err := s.Sessions.SetRoles(t.Context(), p.id, roles, byOperator()); err != nil {
				t.Fatal(err)
			}
		}
		// An ended session stays ended when the roles of its user are changed after it.
		p := signUp(t, s)
		want(t, "logout", s.Do(t, http.MethodPost, "/v1/logout", bearer(p.AccessToken), nil), http.StatusNoContent, "")
		roles(p, "editor")
		refused("after logout and new roles", p.AccessToken, true)
		// A token that was minted after a change of roles is refused when its client is disabled, whichever entry came first.
		q := signUp(t, s)
		tokens := s.JSON(t, http.MethodPost, "/v1/login", "", map[string]string{
			"email":     q.email,
			"password":  servicetest.Password,
			"client_id": "app",
		}).Tokens(t)
		roles(q, "editor")
		refused("before the change of roles", tokens.AccessToken, true)
		fresh := s.Form(t, "/oauth2/token", "grant_type", "refresh_token", "client_id", "app", "refresh_token",
			tokens.RefreshToken).Tokens(t)
		refused("after the change of roles", fresh.AccessToken, false)
		now := time.Now()
		entry := blocklist.NewEntry(verifier.BlockClient, "app", now.Add(time.Hour))
		if err := s.Store.DisableClient(t.Context(), "app", now, entry, audit.Event{
			At:       now,
			Kind:     audit.KindClientDisabled,
			Actor:    audit.ActorCLI,
			ClientID: "app",
		}); err != nil {
			t.Fatal(err)
		}
		refused("after its client was disabled", fresh.AccessToken, true)
		roles(q, "viewer")
		refused("after that and new roles", fresh.AccessToken, true)
		if err := s.Clients.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		want(t, "refresh of a disabled client",
			s.Form(t, "/oauth2/token", "grant_type", "refresh_token", "client_id", "app", "refresh_token", fresh.RefreshToken),
			http.StatusUnauthorized, "invalid_client")
		want(t, "login at a disabled client", s.JSON(t, http.MethodPost, "/v1/login", "", map[string]string{
			"email":     q.email,
			"password":  servicetest.Password,
			"client_id": "app",
		}), http.StatusBadRequest, "invalid_client")
	})
}

// A replica that cannot read the blocklist answers for no token whose signature is right; what needs no blocklist is
// answered as ever.
func TestREV06_CutOff(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		deaf := &deafStore{}
		db.Wrap = func(inner store.Store) store.Store { deaf.Store = inner; return deaf }
		s := servicetest.Start(t, db)
		p, alive := signUp(t, s), signUp(t, s)
		want(t, "logout", s.Do(t, http.MethodPost, "/v1/logout", bearer(p.AccessToken), nil), http.StatusNoContent, "")
		deaf.deaf.Store(true)
		servicetest.Eventually(t, "the replica says that it cannot know", func() bool {
			r := s.Get(t, "/v1/me", alive.AccessToken)
			if r.Status == http.StatusServiceUnavailable && r.Header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
			return r.Status == http.StatusServiceUnavailable
		})
		want(t, "a revoked token", s.Get(t, "/v1/me", p.AccessToken), http.StatusServiceUnavailable, "unavailable")
		want(t, "gateway", s.Get(t, "/v1/forward-auth", alive.AccessToken), http.StatusServiceUnavailable, "")
		want(t, "userinfo", s.Get(t, "/oauth2/userinfo", alive.AccessToken), http.StatusServiceUnavailable, "temporarily_unavailable")
		want(t, "revocation", s.Form(t, "/oauth2/revoke", "token", alive.AccessToken), http.StatusServiceUnavailable,
			"temporarily_unavailable")
		want(t, "a forged token", s.Get(t, "/v1/me", "e30.e30.e30"), http.StatusUnauthorized, "invalid_token")
		want(t, "no token", s.Get(t, "/v1/me", ""), http.StatusUnauthorized, "unauthorized")
		want(t, "JWKS", s.Get(t, "/.well-known/jwks.json", ""), http.StatusOK, "")
		want(t, "health", s.Get(t, "/healthz", ""), http.StatusOK, "")
		servicetest.Eventually(t, "it is not ready",
			func() bool { return s.Get(t, "/readyz", "").Status == http.StatusServiceUnavailable })
		deaf.deaf.Store(false)
		want(t, "at once when it can ask again", s.Get(t, "/v1/me", alive.AccessToken), http.StatusOK, "")
		servicetest.Eventually(t, "it is ready again", func() bool { return s.Get(t, "/readyz", "").Status == http.StatusOK })
	})
}

// One user who logs in and out without end leaves one entry for each session, and those are bounded in number and size.
func TestREV09_OneEntryForEachSession(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db, func(c *service.Config) { c.SessionLimit = 3 })
		p := signUp(t, s)
		for range 20 {
			s.LogIn(t, p.email)
		}
		last := s.LogIn(t, p.email)
		count := func() int {
			t.Helper()
			if err := s.Blocklist.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			return len(feedEntries(t, s))
		}
		if got := count(); got != 19 { // 22 sessions, 3 are alive
			t.Errorf("%d entries, want 19", got)
		}
		for range 5 { // refreshing adds none
			last = s.Refresh(t, last.RefreshToken).Tokens(t)
		}
		want(t, "everywhere", s.Do(t, http.MethodDelete, "/v1/sessions", bearer(last.AccessToken), nil), http.StatusNoContent, "")
		if got := count(); got != 22 {
			t.Errorf("%d entries, want 22", got)
		}
		// Ending again what is over adds none either.
		for range 3 {
			s.Form(t, "/oauth2/revoke", "token", last.RefreshToken)
			s.JSON(t, http.MethodPost, "/v1/logout", "", map[string]string{"refresh_token": last.RefreshToken})
		}
		if got := count(); got != 22 {
			t.Errorf("%d entries, want 22", got)
		}
		for _, e := range feedEntries(t, s) {
			if left := time.Until(time.Unix(int64(e.DropAfter), 0)); left > s.Config.AccessTokenLifetime+5*time.Minute ||
				left < s.Config.AccessTokenLifetime {
				t.Errorf("an entry is kept for %s", left)
			}
		}
	})
}

// Logging out takes away the cookie that logging in has set, with the same attributes: a browser keeps what differs.
func TestREV10_LogoutTakesTheCookies(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := signUp(t, w.Service)
		b := newBrowser(t, w.Service)
		in := b.logIn(b.open(authorizeURL(w.Service, map[string]string{"client_id": "web"})), p.email)
		tokens := redeem(t, w.Service, in.code(t), "client_id", "web").Tokens(t)
		out := b.open(w.URL + "/oauth2/logout?id_token_hint=" + tokens.IDToken)
		set, taken := cookieNamed(t, in.cookies, "handstamp_login"), cookieNamed(t, out.cookies, "handstamp_login")
		if taken.MaxAge >= 0 || taken.Value != "" {
			t.Errorf("the cookie stays: %s", taken.Raw)
		}
		if taken.Path != set.Path || taken.Domain != set.Domain || taken.Secure != set.Secure || taken.HttpOnly != set.HttpOnly ||
			taken.SameSite != set.SameSite {
			t.Errorf("set as %s, taken as %s", set.Raw, taken.Raw)
		}
		if out.header.Get("Clear-Site-Data") == "" {
			t.Error("no Clear-Site-Data")
		}
		if again := b.open(authorizeURL(w.Service, map[string]string{"client_id": "web"})); !again.has("login") {
			t.Errorf("still logged in: %d %v", again.status, again.location)
		}
	})
}

func cookieNamed(t testing.TB, cookies []*http.Cookie, name string) *http.Cookie {
	t.Helper()
	for _, c := range cookies {
		if strings.HasSuffix(c.Name, name) {
			return c
		}
	}
	t.Fatalf("no cookie %s in %v", name, cookies)
	return nil
}
