package api_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/store/storetest"
	"github.com/handstamp/handstamp/pkg/user"
)

func TestWalkThrough(t *testing.T) {
	servicetest.Each(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db)
		other := servicetest.Start(t, db, sameIssuer(s))
		first := s.SignUp(t, "ann@example.com")
		tokens := s.LogIn(t, "ann@example.com")

		if r := other.Get(t, "/v1/me", tokens.AccessToken); r.Status != http.StatusOK {
			t.Fatalf("me on the other replica: %d %s", r.Status, r.Body)
		}
		second := s.Refresh(t, tokens.RefreshToken).Tokens(t)
		if again := other.Refresh(t, tokens.RefreshToken).Tokens(t); again.RefreshToken != second.RefreshToken {
			t.Fatalf("a repeat within the grace period got another successor")
		}
		third := other.Refresh(t, second.RefreshToken).Tokens(t)
		if r := s.Refresh(t, tokens.RefreshToken); r.Status != http.StatusBadRequest || r.Code() != "invalid_grant" {
			t.Fatalf("reuse: %d %s", r.Status, r.Body)
		}
		if r := s.Refresh(t, third.RefreshToken); r.Code() != "invalid_grant" {
			t.Fatalf("after reuse: %d %s", r.Status, r.Body)
		}
		servicetest.Eventually(t, "the access token is refused on the other replica", func() bool {
			return other.Get(t, "/v1/me", third.AccessToken).Status == http.StatusUnauthorized
		})
		if r := s.Get(t, "/v1/me", first.AccessToken); r.Status != http.StatusOK {
			t.Fatalf("the other session: %d %s", r.Status, r.Body)
		}
	})
}

// Logging out twice is no error, with the same access token too. A token that is blocked by itself is still refused.
func TestLogoutTwice(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := signUp(t, w.Service)
		logout := func() servicetest.Response {
			return w.Do(t, http.MethodPost, "/v1/logout", bearer(p.AccessToken), nil)
		}
		want(t, "the first time", logout(), http.StatusNoContent, "")
		servicetest.Eventually(t, "the token is refused", func() bool {
			return w.Get(t, "/v1/me", p.AccessToken).Status == http.StatusUnauthorized
		})
		want(t, "the second time", logout(), http.StatusNoContent, "")

		other := signUp(t, w.Service)
		want(t, "revoke", w.Form(t, "/oauth2/revoke", "token", other.AccessToken), http.StatusOK, "")
		servicetest.Eventually(t, "the token is refused", func() bool {
			return w.Get(t, "/v1/me", other.AccessToken).Status == http.StatusUnauthorized
		})
		r := w.Do(t, http.MethodPost, "/v1/logout", bearer(other.AccessToken), nil)
		want(t, "with a token that was revoked by itself", r, http.StatusUnauthorized, "")
		want(t, "its session", w.Refresh(t, other.RefreshToken), http.StatusOK, "")
	})
}

// A database that does not answer whether the session is over is no success.
func TestLogoutTwice_StorageDown(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		var failing *storetest.Failing
		db.Wrap = func(s store.Store) store.Store {
			failing = storetest.Fail(s, 0, storetest.Before, "none")
			return failing
		}
		s := servicetest.Start(t, db)
		p := signUp(t, s)
		logout := func() servicetest.Response {
			return s.Do(t, http.MethodPost, "/v1/logout", bearer(p.AccessToken), nil)
		}
		want(t, "the first time", logout(), http.StatusNoContent, "")
		servicetest.Eventually(t, "the token is refused", func() bool {
			return s.Get(t, "/v1/me", p.AccessToken).Status == http.StatusUnauthorized
		})
		failing.Arm(1, storetest.Before, "Session")
		want(t, "while storage fails", logout(), http.StatusServiceUnavailable, "unavailable")
		want(t, "afterwards", logout(), http.StatusNoContent, "")
	})
}

// leaving is a store whose caller leaves as soon as a code was read, or an attempt to log in was counted, while leave is set.
type leaving struct {
	store.Store
	leave context.CancelFunc
}

// Code implements oauth.CodeStore.
func (l *leaving) Code(ctx context.Context, h oauth.Hash) (oauth.Code, error) {
	if l.leave != nil {
		defer l.leave()
	}
	return l.Store.Code(ctx, h)
}

// BeginLogin implements user.LoginStore.
func (l *leaving) BeginLogin(ctx context.Context, try user.Try, limit user.Throttle) (user.Attempt, error) {
	if l.leave != nil {
		defer l.leave()
	}
	return l.Store.BeginLogin(ctx, try, limit)
}

// Who hangs up while a password is checked learns no more than others, and what was guessed stands in the audit log, right or
// wrong.
func TestWhoHangsUpAtLoginIsSeen(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		l := &leaving{}
		db.Wrap = func(s store.Store) store.Store {
			l.Store = s
			return l
		}
		s := servicetest.Start(t, db)
		p := signUp(t, s)
		for guess, want := range map[string]struct {
			status int
			kind   audit.Kind
		}{
			servicetest.Password: {http.StatusOK, audit.KindLoggedIn},
			"another password":   {http.StatusUnauthorized, audit.KindLoginFailed},
		} {
			count := func() (n int) {
				events, err := s.Store.Events(t.Context(), p.id, audit.Cursor{}, 100)
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range events {
					if e.Kind == want.kind {
						n++
					}
				}
				return n
			}
			before := count()
			gone, leave := context.WithCancel(t.Context())
			l.leave = leave
			r := httptest.NewRequestWithContext(gone, http.MethodPost, s.URL+"/v1/login",
				strings.NewReader(`{"email":"`+p.email+`","password":"`+guess+`"}`))
			r.Header.Set("Content-Type", "application/json")
			w := httptest.NewRecorder()
			s.API.ServeHTTP(w, r)
			l.leave = nil
			if n := count() - before; w.Code != want.status || n != 1 {
				t.Errorf("%s: %d, and %d events", guess, w.Code, n)
			}
		}
	})
}

// A code that is shown again ends its session, also if the connection is cut as soon as the code was looked at.
func TestRT01_ThiefOfCodeHangsUp(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		l := &leaving{}
		db.Wrap = func(s store.Store) store.Store {
			l.Store = s
			return l
		}
		s := servicetest.Start(t, db)
		registerClient(t, s, oauth.Client{ID: "app"})
		p, b := signUp(t, s), newBrowser(t, s)
		code := b.logIn(b.open(authorizeURL(s, nil)), p.email).code(t)
		tokens := redeem(t, s, code).Tokens(t)

		gone, leave := context.WithCancel(t.Context())
		l.leave = leave
		r := httptest.NewRequestWithContext(gone, http.MethodPost, s.URL+"/oauth2/token", strings.NewReader(url.Values{
			"grant_type":    {"authorization_code"},
			"client_id":     {"app"},
			"code":          {code},
			"redirect_uri":  {appRedirect},
			"code_verifier": {verifierText},
		}.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		s.API.ServeHTTP(httptest.NewRecorder(), r)
		l.leave = nil
		want(t, "the session of the code", s.Form(t, "/oauth2/token", "grant_type", "refresh_token", "client_id", "app",
			"refresh_token", tokens.RefreshToken), http.StatusBadRequest, "invalid_grant")
	})
}
