package api_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/store/postgres/pgtest"
	"github.com/handstamp/handstamp/pkg/store/storetest"
	"github.com/handstamp/handstamp/pkg/upstream"
)

// attempt is a request that is about to be made, of something that was prepared for it.
type attempt struct {
	request func() servicetest.Response
	ok      int   // the status when nothing fails
	retry   []int // further statuses of a repetition: what was asked for has happened, or cannot happen twice
	check   func()
}

// storageAttempts are requests of every route that asks the database for something.
func storageAttempts(t *testing.T, s *servicetest.Service) map[string]func() attempt {
	json := func(method, path, token string, body any) func() servicetest.Response {
		return func() servicetest.Response { return s.JSON(t, method, path, token, body) }
	}
	form := func(path string, h http.Header, pairs ...string) func() servicetest.Response {
		return func() servicetest.Response { return s.FormWith(t, path, h, pairs...) }
	}
	refresh := func(token string, pairs ...string) func() servicetest.Response {
		return form("/oauth2/token", nil, append([]string{"grant_type", "refresh_token", "client_id", "default", "refresh_token",
			token}, pairs...)...)
	}
	alive := func(token string) func() { // the session that a refresh token is of goes on
		return func() { want(t, "the session", refresh(token)(), http.StatusOK, "") }
	}
	over := func(p person) func() {
		return func() { want(t, "the session", refresh(p.RefreshToken)(), http.StatusBadRequest, "invalid_grant") }
	}
	paged := func(do func() page) func() servicetest.Response {
		return func() servicetest.Response {
			p := do()
			return servicetest.Response{Status: p.status, Header: p.header, Body: p.body}
		}
	}
	app := map[string]string{"client_id": "app"}
	credentials := func(p person) map[string]string {
		return map[string]string{"email": p.email, "password": servicetest.Password}
	}
	loggedIn := func() (*browser, person) {
		p, b := signUp(t, s), newBrowser(t, s)
		b.logIn(b.open(authorizeURL(s, app)), p.email).code(t)
		return b, p
	}
	return map[string]func() attempt{
		"POST /v1/signup": func() attempt {
			body := credentials(person{email: newEmail()})
			return attempt{
				request: json(http.MethodPost, "/v1/signup", "", body),
				ok:      201,
				retry:   []int{409},
				check:   func() { s.LogIn(t, body["email"]) },
			}
		},
		"POST /v1/login": func() attempt {
			return attempt{request: json(http.MethodPost, "/v1/login", "", credentials(signUp(t, s))), ok: 200}
		},
		"POST /v1/login, old hash": func() attempt {
			return attempt{
				request: json(http.MethodPost, "/v1/login", "", credentials(addUser(t, s, bcryptHash(t, servicetest.Password)))),
				ok:      200,
			}
		},
		"POST /v1/login, wrong password": func() attempt {
			return attempt{
				request: json(http.MethodPost, "/v1/login", "",
					map[string]string{"email": signUp(t, s).email, "password": "not the password"}),
				ok: 401,
			}
		},
		"POST /oauth2/token, refresh": func() attempt {
			p := signUp(t, s)
			return attempt{request: refresh(p.RefreshToken), ok: 200, check: alive(p.RefreshToken)}
		},
		"POST /oauth2/token, narrowed refresh": func() attempt {
			p := signUp(t, s)
			return attempt{
				request: refresh(p.RefreshToken, "scope", "", "resource", s.Config.Audience[0]),
				ok:      200,
				check:   alive(p.RefreshToken),
			}
		},
		"POST /oauth2/token, repeat": func() attempt {
			p := signUp(t, s)
			s.Refresh(t, p.RefreshToken).Tokens(t)
			return attempt{request: refresh(p.RefreshToken), ok: 200, check: alive(p.RefreshToken)}
		},
		"POST /oauth2/token, reuse": func() attempt {
			p := signUp(t, s)
			newest := s.Refresh(t, s.Refresh(t, p.RefreshToken).Tokens(t).RefreshToken).Tokens(t)
			return attempt{request: refresh(p.RefreshToken), ok: 400, check: over(person{Tokens: newest})}
		},
		"POST /oauth2/token, code": func() attempt {
			p, b := signUp(t, s), newBrowser(t, s)
			code := b.logIn(b.open(authorizeURL(s, app)), p.email).code(t)
			return attempt{request: func() servicetest.Response { return redeem(t, s, code) }, ok: 200}
		},
		"POST /oauth2/token, client's own": func() attempt {
			return attempt{request: form("/oauth2/token", basic("backend"), "grant_type", "client_credentials"), ok: 200}
		},
		"POST /oauth2/revoke, access token": func() attempt {
			p := signUp(t, s)
			return attempt{request: form("/oauth2/revoke", nil, "token", p.AccessToken), ok: 200, check: alive(p.RefreshToken)}
		},
		"POST /oauth2/revoke, refresh token": func() attempt {
			p := signUp(t, s)
			return attempt{request: form("/oauth2/revoke", nil, "token", p.RefreshToken), ok: 200, check: over(p)}
		},
		"POST /oauth2/introspect, access token": func() attempt {
			return attempt{request: form("/oauth2/introspect", basic("backend"), "token", signUp(t, s).AccessToken), ok: 200}
		},
		"POST /oauth2/introspect, client's own": func() attempt {
			return attempt{request: form("/oauth2/introspect", basic("backend"), "token", serviceToken(t, s, "backend")), ok: 200}
		},
		"POST /oauth2/introspect, refresh token": func() attempt {
			return attempt{request: form("/oauth2/introspect", basic("backend"), "token", signUp(t, s).RefreshToken), ok: 200}
		},
		"POST /v1/logout": func() attempt {
			p := signUp(t, s)
			return attempt{request: json(http.MethodPost, "/v1/logout", p.AccessToken, nil), ok: 204, retry: []int{401}, check: over(p)}
		},
		"POST /v1/logout, refresh token": func() attempt {
			p := signUp(t, s)
			return attempt{
				request: json(http.MethodPost, "/v1/logout", "", map[string]string{"refresh_token": p.RefreshToken}),
				ok:      204,
				check:   over(p),
			}
		},
		"GET /v1/me": func() attempt {
			return attempt{request: json(http.MethodGet, "/v1/me", signUp(t, s).AccessToken, nil), ok: 200}
		},
		"PATCH /v1/me": func() attempt {
			return attempt{request: json(http.MethodPatch, "/v1/me", signUp(t, s).AccessToken, map[string]string{"name": "Ann"}), ok: 200}
		},
		"DELETE /v1/me": func() attempt {
			p := signUp(t, s)
			return attempt{request: json(http.MethodDelete, "/v1/me", p.AccessToken, nil), ok: 204, retry: []int{401, 404}, check: over(p)}
		},
		"POST /v1/password/change": func() attempt {
			p := signUp(t, s)
			return attempt{
				request: json(http.MethodPost, "/v1/password/change", p.AccessToken, map[string]string{
					"current_password": servicetest.Password,
					"new_password":     "amber-heron-47",
				}),
				ok: 200, retry: []int{401, 403}, check: func() {
					want(t, "the new password", tryLogin(t, s, p.email, "amber-heron-47"), http.StatusOK, "")
				},
			}
		},
		"POST /v1/email/verify/resend": func() attempt {
			token := signUp(t, s).AccessToken
			return attempt{request: json(http.MethodPost, "/v1/email/verify/resend", token, map[string]string{}), ok: 202}
		},
		"POST /v1/password/set": func() attempt {
			p := addUser(t, s, "")
			token := sessionAt(t, s, p, oauth.DefaultClientID, "account")
			return attempt{
				request: json(http.MethodPost, "/v1/password/set", token, map[string]string{"password": "amber-heron-47"}),
				ok:      200, retry: []int{401, 409}, check: func() {
					want(t, "the new password", tryLogin(t, s, p.email, "amber-heron-47"), http.StatusOK, "")
				},
			}
		},
		"GET /v1/sessions": func() attempt {
			return attempt{request: json(http.MethodGet, "/v1/sessions", signUp(t, s).AccessToken, nil), ok: 200}
		},
		"DELETE /v1/sessions": func() attempt {
			p := signUp(t, s)
			return attempt{
				request: json(http.MethodDelete, "/v1/sessions", p.AccessToken, nil),
				ok:      204,
				retry:   []int{401},
				check:   over(p),
			}
		},
		"DELETE /v1/sessions/:sid": func() attempt {
			p := signUp(t, s)
			return attempt{
				request: json(http.MethodDelete, "/v1/sessions/"+sid(t, p.AccessToken), s.LogIn(t, p.email).AccessToken, nil),
				ok:      204,
				check:   over(p),
			}
		},
		"GET /v1/identities": func() attempt {
			return attempt{request: json(http.MethodGet, "/v1/identities", signUp(t, s).AccessToken, nil), ok: 200}
		},
		"DELETE /v1/identities/:provider": func() attempt {
			p := signUp(t, s)
			err := s.Store.LinkIdentity(t.Context(), upstream.Link{
				UserID:   p.id,
				Identity: upstream.Identity{Provider: "old", Subject: p.id},
				At:       time.Now(),
				Event:    audit.Event{At: time.Now(), Kind: audit.KindIdentityLinked, UserID: p.id},
			}, "")
			if err != nil {
				t.Fatal(err)
			}
			return attempt{request: json(http.MethodDelete, "/v1/identities/old", p.AccessToken, nil), ok: 204, retry: []int{404}}
		},
		"GET /oauth2/userinfo": func() attempt {
			return attempt{
				request: json(http.MethodGet, "/oauth2/userinfo", codeFlow(t, s, signUp(t, s).email, "app", "openid").AccessToken, nil),
				ok:      200,
			}
		},
		"POST /oauth2/par": func() attempt {
			return attempt{
				request: form("/oauth2/par", nil, "client_id", "app", "redirect_uri", appRedirect, "response_type", "code",
					"code_challenge", challenge(), "code_challenge_method", "S256"),
				ok: 201,
			}
		},
		"GET /oauth2/authorize, pushed": func() attempt {
			var pushed struct {
				URI string `json:"request_uri"`
			}
			form("/oauth2/par", nil, "client_id", "app", "redirect_uri", appRedirect, "response_type", "code", "code_challenge",
				challenge(), "code_challenge_method", "S256")().JSON(t, &pushed)
			b := newBrowser(t, s)
			target := s.URL + "/oauth2/authorize?client_id=app&request_uri=" + pushed.URI
			return attempt{request: paged(func() page { return b.open(target) }), ok: 200, retry: []int{400}}
		},
		"GET /oauth2/authorize": func() attempt {
			b, _ := loggedIn()
			return attempt{request: paged(func() page { return b.open(authorizeURL(s, app)) }), ok: 303}
		},
		"GET /oauth2/authorize, third party": func() attempt {
			b, _ := loggedIn()
			return attempt{
				request: paged(func() page { return b.open(authorizeURL(s, map[string]string{"client_id": "third"})) }),
				ok:      200,
			}
		},
		"GET /oauth2/authorize, account to choose": func() attempt {
			b, _ := loggedIn()
			return attempt{request: paged(func() page {
				return b.open(authorizeURL(s, map[string]string{"client_id": "app", "prompt": "select_account"}))
			}), ok: 200}
		},
		"POST /oauth2/login": func() attempt {
			p, b := signUp(t, s), newBrowser(t, s)
			login := b.open(authorizeURL(s, app))
			return attempt{request: paged(func() page { return b.logIn(login, p.email) }), ok: 303}
		},
		"POST /oauth2/signup": func() attempt {
			b, body := newBrowser(t, s), credentials(person{email: newEmail()})
			signup := b.open(authorizeURL(s, map[string]string{"client_id": "app", "prompt": "create"}))
			return attempt{
				request: paged(func() page { return b.submit(signup, "signup", body) }),
				ok:      303,
				retry:   []int{409},
				check:   func() { s.LogIn(t, body["email"]) },
			}
		},
		"POST /oauth2/consent": func() attempt {
			b, _ := loggedIn()
			consent := b.open(authorizeURL(s, map[string]string{"client_id": "third"}))
			return attempt{
				request: paged(func() page { return b.submit(consent, "consent", map[string]string{"decision": "allow"}) }),
				ok:      303,
			}
		},
		"POST /oauth2/continue": func() attempt {
			b, _ := loggedIn()
			choice := b.open(authorizeURL(s, map[string]string{"client_id": "app", "prompt": "select_account"}))
			return attempt{request: paged(func() page { return b.submit(choice, "continue", nil) }), ok: 303}
		},
		"GET /oauth2/logout": func() attempt {
			p, b := signUp(t, s), newBrowser(t, s)
			tokens := redeem(t, s, b.logIn(b.open(authorizeURL(s, app)), p.email).code(t)).Tokens(t)
			return attempt{
				request: paged(func() page { return b.open(s.URL + "/oauth2/logout?id_token_hint=" + tokens.IDToken) }),
				ok:      200,
				check: func() {
					want(t, "the session", s.Form(t, "/oauth2/token", "grant_type", "refresh_token", "client_id", "app", "refresh_token",
						tokens.RefreshToken), http.StatusBadRequest, "invalid_grant")
				},
			}
		},
		"POST /oauth2/logout/confirm": func() attempt {
			b, _ := loggedIn()
			confirm := b.open(s.URL + "/oauth2/logout")
			return attempt{request: paged(func() page { return b.submit(confirm, "logout", nil) }), ok: 200, retry: []int{400}}
		},
	}
}

// requestMethods are the methods of a store that requests call. Others belong to what goes on in the background, which
// the requests do not wait for.
func requestMethods() []string {
	var out []string
	for method := range reflect.TypeFor[store.Store]().Methods() {
		name := method.Name
		if !slices.Contains([]string{"BlocklistChanges", "Wait", "SigningKeys", "InsertSigningKey", "ActivateSigningKey",
			"ClientChanges", "DropBlocklist", "Now", "LeaseRows", "FinishRow", "LeaseStreams", "FinishPush", "DeleteSigningKeys"}, name) &&
			!strings.HasPrefix(name, "Sweep") {
			out = append(out, name)
		}
	}
	return out
}

// Every call that a request makes of the database fails once, before and after it has done its work. The caller is
// never told that the request has succeeded, nor that it was wrong: only that it can be tried again, and then it works.
func TestStorageFailures(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		var failing *storetest.Failing
		db.Wrap = func(s store.Store) store.Store {
			failing = storetest.Fail(s, 0, storetest.Before)
			return failing
		}
		s := servicetest.Start(t, db, func(c *service.Config) { c.LoginAttempts, c.LoginIPFailures = 1000, 0 })
		registerClient(t, s, oauth.Client{ID: "app"})
		registerClient(t, s, oauth.Client{ID: "third", ThirdParty: true})
		registerClient(t, s, oauth.Client{
			ID:         "backend",
			Type:       oauth.Confidential,
			SecretHash: oauth.HashSecret(secretOf("backend")),
			Grants:     []string{oauth.GrantClientCredentials},
			Scopes:     []string{"reports:read"},
			Audiences:  []string{s.Config.Issuer},
		})
		methods := requestMethods()
		for name, prepare := range storageAttempts(t, s) {
			calls := 0
			for n := 1; ; n++ {
				failed := ""
				for _, when := range []storetest.When{storetest.Before, storetest.After} {
					a := prepare()
					failing.Arm(n, when, methods...)
					r := a.request()
					failed = failing.Failed()
					failing.Arm(0, storetest.Before)
					if failed == "" {
						if r.Status != a.ok {
							t.Errorf("%s: %d %s, want %d", name, r.Status, r.Body, a.ok)
						}
						break
					}
					calls++
					where := fmt.Sprintf("%s, %s of %s", name, when, failed)
					if r.Status != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" || strings.Contains(r.Body, "injected") {
						t.Errorf("%s: %d, Retry-After %q, %s", where, r.Status, r.Header.Get("Retry-After"), r.Body)
					}
					if r.Header.Get("Location") != "" {
						t.Errorf("%s: sent on to %s", where, r.Header.Get("Location"))
					}
					if again := a.request(); again.Status != a.ok && !slices.Contains(a.retry, again.Status) {
						t.Errorf("%s: the repetition: %d %s", where, again.Status, again.Body)
					}
					if a.check != nil {
						a.check()
					}
				}
				if failed == "" {
					break
				}
			}
			if calls == 0 {
				t.Errorf("%s asks the database for nothing", name)
			}
		}
	})
}

// untilReady waits for the service to be all there again, for the five seconds that it promises.
func untilReady(t testing.TB, s *servicetest.Service) {
	t.Helper()
	began := time.Now()
	servicetest.Eventually(t, "the service is ready again", func() bool { return s.Get(t, "/readyz", "").Status == http.StatusOK })
	t.Logf("ready after %s", time.Since(began).Round(time.Millisecond))
}

// duringOutage fails the test unless the service says of everything that needs the database that it can be tried again.
func duringOutage(t *testing.T, s *servicetest.Service, p person) {
	t.Helper()
	for name, r := range map[string]servicetest.Response{
		"me":         s.Get(t, "/v1/me", p.AccessToken),
		"refresh":    s.Refresh(t, p.RefreshToken),
		"login":      tryLogin(t, s, p.email, servicetest.Password),
		"logout":     s.Do(t, http.MethodPost, "/v1/logout", bearer(p.AccessToken), nil),
		"revocation": s.Form(t, "/oauth2/revoke", "token", p.RefreshToken),
		"sign-up": s.JSON(t, http.MethodPost, "/v1/signup", "",
			map[string]string{"email": newEmail(), "password": servicetest.Password}),
	} {
		if r.Status != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %d, Retry-After %q, %s", name, r.Status, r.Header.Get("Retry-After"), r.Body)
		}
	}
	began := time.Now()
	for path, status := range map[string]int{
		"/.well-known/jwks.json":            200,
		"/.well-known/openid-configuration": 200,
		"/healthz":                          200,
		"/readyz":                           503,
	} {
		r := s.Get(t, path, "")
		want(t, path, r, status, "")
		if path == "/.well-known/jwks.json" {
			onlyPublic(t, "without a database", r.Body)
			if !strings.HasPrefix(r.Header.Get("Cache-Control"), "public, max-age=") || r.Header.Get("Etag") == "" {
				t.Errorf("JWKS: %v", r.Header)
			}
		}
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("what needs no database took %s without one", took)
	}
}

// The database goes in the middle of requests and comes back: nobody is told that a token is wrong, nothing that was
// acknowledged is lost, and nobody has to start anything again.
func TestTM04_DatabaseCutOff(t *testing.T) {
	t.Parallel()
	db := servicetest.Postgres(t)
	through, direct := db, db.URL
	var p *proxy
	p, through.URL = newProxy(t, db.URL)
	s := servicetest.Start(t, through)
	gone, ann := signUp(t, s), signUp(t, s)
	want(t, "logout", s.Do(t, http.MethodPost, "/v1/logout", bearer(gone.AccessToken), nil), http.StatusNoContent, "")
	s.Get(t, "/.well-known/jwks.json", "") // waits for the first keys

	// Somebody refreshes all the time, as a client does: with the newest token that it was given, again if it was told to try again.
	busy, stop := signUp(t, s), make(chan struct{})
	var clients sync.WaitGroup
	clients.Go(func() {
		tokens := busy.Tokens
		for {
			select {
			case <-stop:
				busy.Tokens = tokens
				return
			default:
			}
			r, err := s.TryForm(context.Background(), "/oauth2/token", nil, "grant_type", "refresh_token", "client_id", "default",
				"refresh_token", tokens.RefreshToken)
			switch {
			case err != nil:
				t.Error(err)
				return
			case r.Status == http.StatusOK:
				tokens = r.Tokens(t)
			case r.Status != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "":
				t.Errorf("a client in the middle of it: %d %s", r.Status, r.Body)
				return
			}
		}
	})
	p.Cut()
	duringOutage(t, s, ann)
	p.Restore()
	untilReady(t, s)
	want(t, "me", s.Get(t, "/v1/me", ann.AccessToken), http.StatusOK, "")
	want(t, "the token that was logged out", s.Get(t, "/v1/me", gone.AccessToken), http.StatusUnauthorized, "")

	// The server ends all connections, as at a restart or a failover.
	for range 3 {
		onDatabase(t, direct, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> "+
			"pg_backend_pid()")
		untilReady(t, s)
	}
	ann.Tokens = s.Refresh(t, ann.RefreshToken).Tokens(t)

	// The server takes no writes any more, as one that has become a standby.
	name := strings.Trim(direct[strings.LastIndex(direct, "/"):strings.LastIndex(direct, "?")], "/")
	server := os.Getenv(pgtest.Variable)
	onDatabase(t, server, "ALTER DATABASE "+name+" SET default_transaction_read_only = on")
	onDatabase(t, direct, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> "+
		"pg_backend_pid()")
	servicetest.Eventually(t, "the service is not ready",
		func() bool { return s.Get(t, "/readyz", "").Status == http.StatusServiceUnavailable })
	for name, r := range map[string]servicetest.Response{
		"refresh": s.Refresh(t, ann.RefreshToken),
		"logout":  s.Do(t, http.MethodPost, "/v1/logout", bearer(ann.AccessToken), nil),
	} {
		want(t, name+" without writes", r, http.StatusServiceUnavailable, "")
	}
	want(t, "JWKS", s.Get(t, "/.well-known/jwks.json", ""), http.StatusOK, "")
	onDatabase(t, server, "ALTER DATABASE "+name+" RESET default_transaction_read_only")
	untilReady(t, s)
	close(stop)
	clients.Wait()
	for who, p := range map[string]person{"ann": ann, "the busy client": busy} {
		want(t, who, s.Refresh(t, p.RefreshToken), http.StatusOK, "")
	}
}

// onDatabase runs statements on a database, past the service.
func onDatabase(t testing.TB, databaseURL, statements string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	c, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(ctx) }()
	if _, err := c.Exec(ctx, statements, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatalf("%s: %v", statements, err)
	}
}

// Another process holds the SQLite file for itself.
func TestTM04_LockedFile(t *testing.T) {
	t.Parallel()
	db := servicetest.SQLite(t)
	s := servicetest.Start(t, db)
	p := signUp(t, s)
	s.Get(t, "/.well-known/jwks.json", "") // waits for the first keys
	other, err := sql.Open("sqlite", "file:"+strings.TrimPrefix(db.URL, "sqlite:")+"?_txlock=exclusive")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	tx, err := other.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(t.Context(), "UPDATE users SET name = name"); err != nil {
		t.Fatal(err)
	}
	answers := make(chan servicetest.Response, 2)
	for _, pairs := range [][]string{
		{"/oauth2/token", "grant_type", "refresh_token", "client_id", "default", "refresh_token", p.RefreshToken},
		{"/oauth2/revoke", "token", p.RefreshToken},
	} {
		go func() {
			r, err := s.TryForm(context.Background(), pairs[0], nil, pairs[1:]...)
			if err != nil {
				t.Error(err)
			}
			answers <- r
		}()
	}
	began := time.Now()
	for range 20 {
		want(t, "JWKS", s.Get(t, "/.well-known/jwks.json", ""), http.StatusOK, "")
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("20 requests for the JWKS took %s", took)
	}
	for range cap(answers) {
		if r := <-answers; r.Status != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" {
			t.Errorf("%d, Retry-After %q, %s", r.Status, r.Header.Get("Retry-After"), r.Body)
		}
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	untilReady(t, s)
	want(t, "refresh", s.Refresh(t, p.RefreshToken), http.StatusOK, "")
}
