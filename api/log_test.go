package api_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/oauth"
)

// canaries are the secrets of a run: what a thief could use.
type canaries struct {
	mu   sync.Mutex
	text map[string]string // by secret: what it is
}

func (c *canaries) add(what string, secrets ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range secrets {
		if s != "" {
			c.text[s] = what
		}
	}
}

func (c *canaries) tokens(what string, t servicetest.Tokens) servicetest.Tokens {
	c.add(what+": access token", t.AccessToken)
	c.add(what+": refresh token", t.RefreshToken)
	c.add(what+": ID token", t.IDToken)
	return t
}

// search fails the test for every secret in a text, in whatever form a program could have written it.
func (c *canaries) search(t *testing.T, where string, haystack []byte) {
	t.Helper()
	if len(haystack) == 0 {
		t.Errorf("%s is empty: there is nothing to search", where)
	}
	for secret, what := range c.text {
		forms := map[string][]byte{"": []byte(secret), " in base64": []byte(base64.StdEncoding.EncodeToString([]byte(secret))), " in hex": fmt.Appendf(nil, "%x", secret)}
		if rest, ok := strings.CutPrefix(secret, "hsr_"); ok {
			raw, err := base64.RawURLEncoding.DecodeString(rest)
			if err != nil {
				t.Fatal(err)
			}
			// Version, session and generation stand in the row; the tag makes it a token.
			forms[", its tag"], forms[", its tag in hex"] = raw[21:37], fmt.Appendf(nil, "%x", raw[21:37])
		}
		if i := strings.LastIndexByte(secret, '.'); strings.HasPrefix(secret, "eyJ") && i > 0 {
			forms[", its signature"] = []byte(secret[i+1:])
		}
		for form, text := range forms {
			if at := bytes.Index(haystack, text); at >= 0 {
				t.Errorf("%s has a secret (%s%s): ...%q...", where, what, form, haystack[max(0, at-60):min(len(haystack), at+len(text)+20)])
			}
		}
	}
}

// dump is everything that stands in the database.
func dump(t testing.TB, db servicetest.Database) []byte {
	t.Helper()
	var out bytes.Buffer
	if path, ok := strings.CutPrefix(db.URL, "sqlite:"); ok {
		for _, suffix := range []string{"", "-wal", "-shm"} {
			content, err := os.ReadFile(path + suffix)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			out.Write(content)
		}
		return out.Bytes()
	}
	ctx := t.Context()
	c, err := pgx.Connect(ctx, db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(ctx) }()
	rows, err := c.Query(ctx, "SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1")
	if err != nil {
		t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(tables) < 8 {
		t.Fatal(err, tables)
	}
	for _, table := range tables {
		if _, err := c.PgConn().CopyTo(ctx, &out, "COPY "+table+" TO STDOUT"); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

// Every secret of a run in which everything happens that can, and goes wrong that can; then they are looked for where they must not be.
func TestLOG01_Secrets(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db)
		c := &canaries{text: map[string]string{}}
		registerClient(t, s, oauth.Client{ID: "app"})
		registerClient(t, s, oauth.Client{ID: "third", ThirdParty: true})
		for _, id := range []string{"backend", "other"} {
			addClient(t, s, oauth.Client{ID: id, Type: oauth.Confidential, SecretHash: oauth.HashSecret(secretOf(id)), Grants: []string{oauth.GrantClientCredentials}})
			c.add("client secret", secretOf(id))
		}
		c.add("master key", servicetest.Master, "a master key that only tests use")
		c.add("code verifier", verifierText)
		passwords := []string{servicetest.Password, "amber-heron-47", "a wrong guess of mine", "wrong secret of a client"}
		c.add("password", passwords...)
		var errorBodies bytes.Buffer
		failed := func(r servicetest.Response) servicetest.Response {
			if r.Status >= 400 {
				errorBodies.WriteString(r.Body)
				fmt.Fprint(&errorBodies, r.Header)
			}
			return r
		}

		// A life with passwords.
		p := signUp(t, s)
		c.tokens("sign-up", p.Tokens)
		first := c.tokens("login", s.LogIn(t, p.email))
		failed(tryLogin(t, s, p.email, passwords[2]))
		failed(tryLogin(t, s, newEmail(), passwords[2]))
		failed(s.JSON(t, http.MethodPost, "/v1/signup", "", map[string]string{"email": p.email, "password": passwords[0]}))
		second := c.tokens("refresh", s.FormWith(t, "/oauth2/token", header("Idempotency-Key", "k"), "grant_type", "refresh_token", "client_id", "default", "refresh_token", first.RefreshToken).Tokens(t))
		c.tokens("repeat", s.Refresh(t, first.RefreshToken).Tokens(t))
		c.tokens("next", s.Refresh(t, second.RefreshToken).Tokens(t))
		failed(s.Refresh(t, first.RefreshToken)) // reuse
		failed(s.JSON(t, http.MethodPost, "/v1/password/change", p.AccessToken, map[string]string{"current_password": passwords[2], "new_password": passwords[1]}))
		changed := c.tokens("change", s.JSON(t, http.MethodPost, "/v1/password/change", p.AccessToken, map[string]string{"current_password": passwords[0], "new_password": passwords[1]}).Tokens(t))
		s.JSON(t, http.MethodPatch, "/v1/me", changed.AccessToken, map[string]string{"name": "Ann"})
		s.Get(t, "/v1/sessions", changed.AccessToken)

		// Clients.
		own := c.tokens("client's own", s.FormWith(t, "/oauth2/token", basic("backend"), "grant_type", "client_credentials").Tokens(t))
		failed(s.Form(t, "/oauth2/token", "grant_type", "client_credentials", "client_id", "backend", "client_secret", passwords[3]))
		failed(s.Form(t, "/oauth2/token", "grant_type", "client_credentials", "client_id", "nobody", "client_secret", secretOf("backend")))
		for _, token := range []string{own.AccessToken, changed.AccessToken, changed.RefreshToken, "junk"} {
			introspect(t, s, "backend", token)
		}
		failed(introspect(t, s, "default", changed.AccessToken))
		s.FormWith(t, "/oauth2/revoke", basic("backend"), "token", own.AccessToken)
		failed(s.FormWith(t, "/oauth2/revoke", basic("other"), "token", changed.RefreshToken))

		// Browsers.
		for _, client := range []string{"app", "third"} {
			q := signUp(t, s)
			c.tokens("sign-up", q.Tokens)
			b := newBrowser(t, s)
			page := b.open(authorizeURL(s, map[string]string{"client_id": client}))
			wrong := b.submit(page, "login", map[string]string{"email": q.email, "password": passwords[2]})
			errorBodies.WriteString(wrong.body)
			page = b.logIn(page, q.email)
			for _, cookie := range page.cookies {
				c.add("cookie "+cookie.Name, cookie.Value)
			}
			if page.location == nil {
				page = b.submit(page, "consent", map[string]string{"decision": "allow"})
			}
			code := page.code(t)
			c.add("authorization code", code)
			failed(redeem(t, s, code, "client_id", client, "code_verifier", strings.Repeat("x", 43)))
			tokens := c.tokens(client, redeem(t, s, code, "client_id", client).Tokens(t))
			s.Get(t, "/oauth2/userinfo", tokens.AccessToken)
			failed(redeem(t, s, code, "client_id", client)) // used before
			unused := b.open(authorizeURL(s, map[string]string{"client_id": client})).code(t)
			c.add("unused authorization code", unused)
			b.open(s.URL + "/oauth2/logout?id_token_hint=" + tokens.IDToken)
		}
		var pushed struct {
			URI string `json:"request_uri"`
		}
		s.Form(t, "/oauth2/par", "client_id", "app", "redirect_uri", appRedirect, "response_type", "code", "code_challenge", challenge(), "code_challenge_method", "S256").JSON(t, &pushed)
		c.add("pushed request", pushed.URI)

		// Secrets in the wrong places.
		for _, secret := range []string{changed.AccessToken, changed.RefreshToken, passwords[1]} {
			q := strings.NewReplacer(" ", "%20").Replace(secret)
			failed(s.Get(t, "/v1/me?access_token="+q, ""))
			failed(s.Get(t, "/"+q, ""))
			failed(s.Do(t, http.MethodDelete, "/v1/sessions/"+q, bearer(changed.AccessToken), nil))
			failed(s.Do(t, http.MethodGet, "/v1/sessions", header("Authorization", "Basic "+secret), nil))
			failed(s.Do(t, http.MethodGet, "/v1/me", header("Authorization", "Bearer "+secret+"x"), nil))
			failed(postJSON(t, s, "/v1/login", nil, `{"email":"a@example.com","password":"`+secret+`"`))
			failed(postJSON(t, s, "/v1/login", nil, `{"password":"`+secret+`","password":"`+secret+`"}`))
			failed(postJSON(t, s, "/v1/login", nil, `{"email":"`+secret+`","password":"`+secret+`"}`))
			failed(s.Form(t, "/oauth2/token", "grant_type", secret))
			failed(s.Form(t, "/oauth2/token", "grant_type", "refresh_token", "refresh_token", secret+"x"))
			failed(s.Form(t, "/oauth2/token", "grant_type", "refresh_token", "client_id", secret, "refresh_token", secret))
			failed(s.Form(t, "/oauth2/token", "grant_type", "authorization_code", "code", secret, "code_verifier", secret))
			failed(s.Do(t, http.MethodPost, "/oauth2/token?refresh_token="+q, header("Content-Type", "application/x-www-form-urlencoded"), nil))
			failed(s.FormWith(t, "/oauth2/token", header("Idempotency-Key", secret), "grant_type", "refresh_token", "refresh_token", "x"))
			failed(s.Get(t, "/v1/forward-auth?token="+q, changed.AccessToken))
			failed(s.Get(t, "/v1/blocklist?after="+q, ""))
			failed(s.Get(t, "/oauth2/authorize?client_id=app&redirect_uri="+q, ""))
		}
		want(t, "logout", s.Do(t, http.MethodPost, "/v1/logout", bearer(changed.AccessToken), nil), http.StatusNoContent, "")

		families, err := s.Metrics.Gather()
		if err != nil {
			t.Fatal(err)
		}
		var metrics bytes.Buffer
		for _, f := range families {
			metrics.WriteString(f.String())
		}
		if len(c.text) < 25 {
			t.Fatalf("only %d secrets: the run was no run", len(c.text))
		}
		c.search(t, "the log", []byte(s.Log.String()))
		c.search(t, "the metrics", metrics.Bytes())
		c.search(t, "an error", errorBodies.Bytes())
		c.search(t, "the database", dump(t, db))
	})
}

// Whatever a stranger writes into a request, the log has one line for it, in JSON, with nothing in it that drives a terminal.
func TestLOG02_Injection(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db, func(c *service.Config) { c.TrustedProxies = []string{"127.0.0.1"} })
		p := signUp(t, s)
		nasty := []string{
			"\x1b[2J\x1b]0;owned\x07", "\u2028\u2029\u0085", `"},{"level":"ERROR","msg":"forged`, "a\\u000ab", "\u202e\u200f", strings.Repeat("é", 6000), "\xff\xfe", "%0d%0aX: y", "a\tb", "${jndi:ldap://127.0.0.1/a}",
		}
		before := strings.Count(s.Log.String(), "\n")
		requests := 0
		send := func(method, path string, h http.Header, body string) {
			t.Helper()
			if _, err := s.Try(t.Context(), method, path, h, strings.NewReader(body)); err == nil {
				requests++
			}
		}
		for _, text := range nasty {
			escaped := fmt.Sprintf("%x", text)
			escaped = regexp.MustCompile("..").ReplaceAllString(escaped, "%$0")
			inHeader := strings.Map(func(r rune) rune {
				if r < ' ' && r != '\t' || r == 0x7f {
					return '?'
				}
				return r
			}, text)
			if !utf8.ValidString(text) {
				inHeader = text
			}
			inHeader = inHeader[:min(len(inHeader), 12000)]
			send(http.MethodGet, "/v1/me", bearer(p.AccessToken, "User-Agent", inHeader), "")
			send(http.MethodPost, "/v1/login", header("Content-Type", "application/json", "User-Agent", inHeader), `{"email":"`+p.email+`","password":"a wrong guess"}`)
			send(http.MethodGet, "/"+escaped[:min(len(escaped), 6000)], header("X-Forwarded-For", inHeader, "X-Request-Id", inHeader, "Referer", inHeader, "Origin", inHeader), "")
			send(http.MethodPost, "/oauth2/token", header("Content-Type", "application/x-www-form-urlencoded"), "grant_type=refresh_token&client_id="+escaped[:min(len(escaped), 30000)])
			send(http.MethodPost, "/oauth2/token", header("Content-Type", "application/x-www-form-urlencoded"), "grant_type=refresh_token&"+escaped[:min(len(escaped), 30000)]+"=a%00")
			send(http.MethodPost, "/oauth2/token", header("Content-Type", "application/x-www-form-urlencoded", "Idempotency-Key", inHeader), "grant_type="+escaped[:min(len(escaped), 30000)])
			send(http.MethodDelete, "/v1/sessions/"+escaped[:min(len(escaped), 6000)], bearer(p.AccessToken), "")
			send(http.MethodGet, "/v1/forward-auth?"+escaped[:min(len(escaped), 6000)]+"=a", bearer(p.AccessToken), "")
			name, _ := json.Marshal(text)
			send(http.MethodPost, "/v1/login", header("Content-Type", "application/json"), "{"+string(name)+":1}")
			send("X"+strings.Repeat("Y", 3000), "/v1/me", nil, "")
		}
		var lines []string
		servicetest.Eventually(t, "every request is logged", func() bool {
			lines = strings.Split(strings.TrimSuffix(s.Log.String(), "\n"), "\n")[before:]
			return len(lines) >= requests
		})
		if len(lines) != requests {
			t.Errorf("%d lines for %d requests", len(lines), requests)
		}
		for _, line := range lines {
			var fields map[string]any
			if err := json.Unmarshal([]byte(line), &fields); err != nil || fields["msg"] != "request" || fields["request_id"] == "" {
				t.Errorf("%v: %s", err, line)
			}
			for name, v := range fields {
				text, ok := v.(string)
				if ok && (len(text) > 256 || strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' })) {
					t.Errorf("%s has %d bytes: %q", name, len(text), text)
				}
			}
		}
		events, err := s.Store.Events(t.Context(), "", time.Time{}, 1000)
		if err != nil || len(events) == 0 {
			t.Fatal(err)
		}
		for _, e := range events {
			for _, text := range []string{e.UserAgent, e.IP, e.Reason, e.Actor, e.RequestID, e.ClientID} {
				if len(text) > 256 || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
					t.Errorf("an audit row has %q", text)
				}
			}
		}
	})
}

// What happens to users, sessions and clients leaves one row each, which says who did what to whom, through which client, why and from where.
func TestLOG03_Audit(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db, func(c *service.Config) { c.TrustedProxies, c.SessionLimit = []string{"127.0.0.1"}, 2 })
		registerClient(t, s, oauth.Client{ID: "app"})
		registerClient(t, s, oauth.Client{ID: "third", ThirdParty: true})
		from := header("X-Forwarded-For", "203.0.113.7", "User-Agent", "the tests")
		with := func(token string) http.Header {
			h := from.Clone()
			if token != "" {
				h.Set("Authorization", "Bearer "+token)
			}
			return h
		}
		jsonAs := func(token, path string, body any) servicetest.Response {
			text, err := json.Marshal(body)
			if err != nil {
				t.Fatal(err)
			}
			return postJSON(t, s, path, with(token), string(text))
		}
		credentials := func(p person, password string) map[string]string {
			return map[string]string{"email": p.email, "password": password}
		}
		type row struct{ kind, actor, user, session, client, reason string }
		for name, c := range map[string]struct {
			do   func(p person) servicetest.Response
			rows []row // newest first; USER, SID and NEW stand for the user, the session of its first login and that of the answer
		}{
			"login": {func(p person) servicetest.Response {
				return jsonAs("", "/v1/login", credentials(p, servicetest.Password))
			}, []row{{"login_succeeded", "USER", "USER", "NEW", "default", ""}}},
			"wrong password": {func(p person) servicetest.Response { return jsonAs("", "/v1/login", credentials(p, "a wrong guess")) }, []row{{"login_failed", "system", "USER", "", "", "wrong_password"}}},
			"wrong current password": {func(p person) servicetest.Response {
				return jsonAs(p.AccessToken, "/v1/password/change", map[string]string{"current_password": "a wrong guess", "new_password": "amber-heron-47"})
			}, []row{{"login_failed", "system", "USER", "", "", "wrong_password"}}},
			"logout": {func(p person) servicetest.Response {
				return s.Do(t, http.MethodPost, "/v1/logout", with(p.AccessToken), nil)
			}, []row{{"session_ended", "USER", "USER", "SID", "default", "logout"}}},
			"logout by refresh token": {func(p person) servicetest.Response {
				return jsonAs("", "/v1/logout", map[string]string{"refresh_token": p.RefreshToken})
			}, []row{{"session_ended", "USER", "USER", "SID", "default", "logout"}}},
			"end session": {func(p person) servicetest.Response {
				return s.Do(t, http.MethodDelete, "/v1/sessions/"+sid(t, p.AccessToken), with(p.AccessToken), nil)
			}, []row{{"session_ended", "USER", "USER", "SID", "default", "revoked"}}},
			"everywhere": {func(p person) servicetest.Response {
				return s.Do(t, http.MethodDelete, "/v1/sessions", with(p.AccessToken), nil)
			}, []row{{"sessions_ended", "USER", "USER", "", "default", "logout_all"}}},
			"revoke refresh token": {func(p person) servicetest.Response {
				return s.FormWith(t, "/oauth2/revoke", from, "token", p.RefreshToken)
			}, []row{{"session_ended", "default", "USER", "SID", "default", "revoked"}}},
			"revoke access token": {func(p person) servicetest.Response {
				return s.FormWith(t, "/oauth2/revoke", from, "token", p.AccessToken)
			}, []row{{"access_token_revoked", "default", "USER", "SID", "default", "revoked"}}},
			"password": {func(p person) servicetest.Response {
				return jsonAs(p.AccessToken, "/v1/password/change", map[string]string{"current_password": servicetest.Password, "new_password": "amber-heron-47"})
			}, []row{{"login_succeeded", "USER", "USER", "NEW", "default", ""}, {"password_changed", "USER", "USER", "", "default", "password_change"}}},
			"delete": {func(p person) servicetest.Response {
				return s.Do(t, http.MethodDelete, "/v1/me", with(p.AccessToken), nil)
			}, []row{{"user_deleted", "USER", "USER", "", "default", "user_deleted"}}},
			"reuse": {func(p person) servicetest.Response {
				s.Refresh(t, s.Refresh(t, p.RefreshToken).Tokens(t).RefreshToken).Tokens(t)
				return s.FormWith(t, "/oauth2/token", from, "grant_type", "refresh_token", "client_id", "default", "refresh_token", p.RefreshToken)
			}, []row{{"refresh_token_reuse", "system", "USER", "SID", "default", "reuse"}}},
			"refresh": {func(p person) servicetest.Response {
				return s.FormWith(t, "/oauth2/token", from, "grant_type", "refresh_token", "client_id", "default", "refresh_token", p.RefreshToken)
			}, nil},
			"reading": {func(p person) servicetest.Response {
				return s.Do(t, http.MethodGet, "/v1/sessions", with(p.AccessToken), nil)
			}, nil},
			"disable": {func(p person) servicetest.Response {
				if err := s.Sessions.DisableUser(t.Context(), p.id, byOperator()); err != nil {
					t.Fatal(err)
				}
				return servicetest.Response{}
			}, []row{{"user_disabled", "cli", "USER", "", "", "user_disabled"}}},
			"roles": {func(p person) servicetest.Response {
				if err := s.Sessions.SetRoles(t.Context(), p.id, []string{"admin"}, byOperator()); err != nil {
					t.Fatal(err)
				}
				return servicetest.Response{}
			}, []row{{"user_roles_changed", "cli", "USER", "", "", ""}}},
			"consent": {func(p person) servicetest.Response {
				codeFlow(t, s, p.email, "third", "openid")
				return servicetest.Response{}
			}, []row{{"login_succeeded", "USER", "USER", "*", "third", ""}, {"consent_granted", "USER", "USER", "", "third", ""}}},
			"one session too many": {func(p person) servicetest.Response {
				s.LogIn(t, p.email)
				return jsonAs("", "/v1/login", credentials(p, servicetest.Password))
			}, []row{{"login_succeeded", "USER", "USER", "NEW", "default", ""}, {"session_ended", "system", "USER", "SID", "default", "session_limit"}, {"login_succeeded", "USER", "USER", "*", "default", ""}}},
		} {
			p := signUp(t, s)
			began, err := s.Store.Events(t.Context(), p.id, time.Time{}, 100)
			if err != nil || len(began) != 2 || began[1].Kind != audit.KindSignedUp || began[0].Kind != audit.KindLoggedIn {
				t.Fatalf("a sign-up left %+v %v", began, err)
			}
			r := c.do(p)
			events, err := s.Store.Events(t.Context(), p.id, time.Time{}, 100)
			if err != nil {
				t.Fatal(err)
			}
			events = events[:len(events)-2]
			var got []row
			for i, e := range events {
				one := row{string(e.Kind), e.Actor, e.UserID, e.SessionID, e.ClientID, e.Reason}
				if i < len(c.rows) && c.rows[i].session == "*" && e.SessionID != "" {
					one.session = "*"
				}
				got = append(got, one)
			}
			wanted := slices.Clone(c.rows)
			for i := range wanted {
				for _, field := range []*string{&wanted[i].actor, &wanted[i].user, &wanted[i].session} {
					switch *field {
					case "USER":
						*field = p.id
					case "SID":
						*field = sid(t, p.AccessToken)
					case "NEW":
						*field = sid(t, r.Tokens(t).AccessToken)
					}
				}
			}
			if !slices.Equal(got, wanted) {
				t.Errorf("%s (%d) left\n%+v\nwant\n%+v", name, r.Status, got, wanted)
			}
			if r.Status != 0 && len(events) > 0 && (events[0].IP != "203.0.113.7" || events[0].UserAgent != "the tests" || events[0].RequestID != r.Header.Get("X-Request-Id")) {
				t.Errorf("%s: from %+v, request %s", name, events[0].Origin, r.Header.Get("X-Request-Id"))
			}
		}
		// A failed login at an address that nobody has is somebody's guess, too.
		tryLogin(t, s, newEmail(), "a wrong guess")
		all, err := s.Store.Events(t.Context(), "", time.Time{}, 1)
		if err != nil || len(all) != 1 || all[0].Kind != audit.KindLoginFailed || all[0].Reason != "unknown_user" || all[0].UserID != "" {
			t.Errorf("%+v %v", all, err)
		}
	})
}

// No caller makes a new label: routes are their templates, methods those that are known.
func TestLOG04_MetricLabels(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db)
		p := signUp(t, s)
		for i := range 50 {
			s.Get(t, fmt.Sprintf("/nowhere/%d", i), "")
			s.Do(t, http.MethodDelete, fmt.Sprintf("/v1/sessions/ses_%d", i), bearer(p.AccessToken), nil)
			s.Do(t, fmt.Sprintf("METHOD%d", i), "/v1/me", nil, nil)
			s.Get(t, fmt.Sprintf("/assets/%d.css", i), "")
			s.Form(t, "/oauth2/token", "grant_type", fmt.Sprint("g", i), "client_id", fmt.Sprint("c", i))
			s.Get(t, fmt.Sprintf("/oauth2/callback/p%d", i), "")
		}
		routes := map[string]bool{"unmatched": true}
		for _, r := range s.API.Routes() {
			routes[r.Path] = true
		}
		families, err := s.Metrics.Gather()
		if err != nil {
			t.Fatal(err)
		}
		series := 0
		for _, f := range families {
			for _, m := range f.GetMetric() {
				series++
				for _, label := range m.GetLabel() {
					switch label.GetName() {
					case "route":
						if !routes[label.GetValue()] {
							t.Errorf("%s has the route %s", f.GetName(), label.GetValue())
						}
					case "method":
						if !slices.Contains([]string{"GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS", "other"}, label.GetValue()) {
							t.Errorf("%s has the method %s", f.GetName(), label.GetValue())
						}
					case "status":
						if len(label.GetValue()) != 3 {
							t.Errorf("%s has the status %s", f.GetName(), label.GetValue())
						}
					default:
						t.Errorf("%s has a label %s, of which nothing is known here", f.GetName(), label.GetName())
					}
				}
			}
		}
		if series > 40 {
			t.Errorf("%d series after 300 different requests", series)
		}
	})
}
