package api_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
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
	"github.com/handstamp/handstamp/pkg/account"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/mail"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/outbox"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/sharedsignal"
	"github.com/handstamp/handstamp/pkg/upstream/upstreamtest"
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
		forms := map[string][]byte{
			"":           []byte(secret),
			" in base64": []byte(base64.StdEncoding.EncodeToString([]byte(secret))),
			" in hex":    fmt.Appendf(nil, "%x", secret),
		}
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
	rows, err := c.Query(ctx, "SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) FROM pg_tables WHERE schemaname "+
		"NOT IN ('pg_catalog', 'information_schema') ORDER BY 1")
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

// RoundTrip implements http.RoundTripper for a browser: what the service gives it in cookies, pages and addresses is
// secret as well.
func (c *canaries) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	for _, cookie := range response.Cookies() {
		c.add("cookie "+cookie.Name, cookie.Value)
	}
	for _, m := range hidden.FindAllStringSubmatch(string(body), -1) {
		if m[1] == "method" { // of a second factor: one of two words
			continue
		}
		c.add("hidden input "+m[1], html.UnescapeString(m[2]))
	}
	if to, err := response.Location(); err == nil {
		c.add("code in an address", to.Query().Get("code"))
		c.add("page state in an address", to.Query().Get("request"))
		if to.Query().Get("nonce") != "some nonce" { // of this service at a provider
			c.add("state for a provider", to.Query().Get("state"))
		}
	}
	return response, nil
}

// leaks is a run in which everything happens that can, and goes wrong that can.
type leaks struct {
	*testing.T
	house
	canaries
	errors bytes.Buffer // every answer that is an error
}

// failed keeps an answer that is an error.
func (l *leaks) failed(r servicetest.Response) {
	l.Helper()
	if r.Status < 400 {
		l.Errorf("%d %s, want an error", r.Status, r.Body)
	}
	l.errors.WriteString(r.Body)
	fmt.Fprint(&l.errors, r.Header)
}

func (l *leaks) post(path, accessToken string, body object) servicetest.Response {
	l.Helper()
	return l.JSON(l.T, http.MethodPost, path, accessToken, body)
}

func (l *leaks) browser() *browser {
	b := newBrowser(l.T, l.Service)
	b.client.Transport = &l.canaries
	return b
}

const (
	nextPassword    = "amber-heron-47"
	wrongPassword   = "a wrong guess of mine"
	wrongSecret     = "wrong secret of a client"
	applicationsOwn = "a nonce of the application"
)

// mails leaves letters with links and codes in the outbox, which were tried and could not be sent.
func (l *leaks) mails() {
	l.Helper()
	l.add("password of the mail server", "password-of-the-mail-server")
	now := time.Now()
	proof := mail.Proof{
		Path:      "/password/reset",
		Token:     "token-of-a-mail-3kq5",
		Code:      "code-of-a-mail-4821",
		ExpiresAt: now.Add(time.Hour),
	}
	l.add("token of a mail", string(proof.Token))
	l.add("code of a mail", string(proof.Code))
	for _, letter := range []mail.Letter{
		l.Mails.Reset(now, mail.Recipient{Address: "mail@example.test"}, proof),
		l.Mails.Verify(now, mail.Recipient{Address: "mail@example.test"}, proof),
		l.Mails.LoginCode(now, mail.Recipient{Address: "mail@example.test"}, proof),
		l.Mails.Invitation(now, mail.Recipient{Address: "mail@example.test"}, proof),
		l.Mails.EmailChangedOld(now, "mail@example.test", "other@example.test", proof, audit.Origin{}),
	} {
		if err := l.Store.Post(l.Context(), letter); err != nil {
			l.Fatal(err)
		}
	}
	servicetest.Eventually(l.T, "mails are tried", func() bool {
		rows, err := l.Store.Rows(l.Context(), mail.KindMail, 0, 5)
		return err == nil && len(rows) == 5 && !slices.ContainsFunc(rows, func(e outbox.Entry) bool { return e.Reason == "" })
	})
}

// passwords is a life with passwords; it returns what is alive at its end.
func (l *leaks) passwords() servicetest.Tokens {
	p := signUp(l.T, l.Service)
	l.tokens("sign-up", p.Tokens)
	first := l.tokens("login", l.LogIn(l.T, p.email))
	l.failed(tryLogin(l.T, l.Service, p.email, wrongPassword))
	l.failed(tryLogin(l.T, l.Service, newEmail(), wrongPassword))
	l.failed(l.post("/v1/signup", "", object{"email": p.email, "password": servicetest.Password}))
	l.failed(l.post("/v1/signup", "", object{"email": newEmail(), "password": "short-1"}))
	second := l.tokens("refresh", l.FormWith(l.T, "/oauth2/token", header("Idempotency-Key", "k"), "grant_type", "refresh_token",
		"client_id", "default", "refresh_token", first.RefreshToken).Tokens(l.T))
	l.tokens("repeat", l.Refresh(l.T, first.RefreshToken).Tokens(l.T))
	l.tokens("next", l.Refresh(l.T, second.RefreshToken).Tokens(l.T))
	l.failed(l.Refresh(l.T, first.RefreshToken)) // reuse
	change := func(current string) servicetest.Response {
		return l.post("/v1/password/change", p.AccessToken, object{"current_password": current, "new_password": nextPassword})
	}
	l.failed(change(wrongPassword))
	changed := l.tokens("change", change(servicetest.Password).Tokens(l.T))
	for range 2 { // one session is ended by itself, one with all
		own := l.tokens("another login", l.post("/v1/login", "", object{"email": p.email, "password": nextPassword}).Tokens(l.T))
		l.Do(l.T, http.MethodDelete, "/v1/sessions/"+sid(l.T, own.AccessToken), bearer(changed.AccessToken), nil)
	}
	l.JSON(l.T, http.MethodPatch, "/v1/me", changed.AccessToken, object{"name": "Ann"})
	for _, path := range []string{"/v1/me", "/v1/sessions", "/v1/identities", "/v1/forward-auth"} {
		l.Get(l.T, path, changed.AccessToken)
	}
	for _, path := range []string{"/v1/me", "/v1/sessions"} {
		q := signUp(l.T, l.Service)
		l.tokens("sign-up", q.Tokens)
		l.Do(l.T, http.MethodDelete, path, bearer(q.AccessToken), nil)
	}
	return changed
}

// recovery is what people do who wait for mails. The mails cannot be sent, so that the links are of proofs that are written here.
func (l *leaks) recovery() {
	p := signUp(l.T, l.Service)
	l.tokens("sign-up", p.Tokens)
	l.add("flow of a reset", forgets(l.T, l.Service, p.email))
	var resent struct{ Flow string }
	l.post("/v1/email/verify/resend", p.AccessToken, object{}).JSON(l.T, &resent)
	l.add("flow of a verification", resent.Flow)
	token := func(purpose account.Purpose) string {
		text := proofOf(l.T, l.Service, p, purpose)
		l.add("token of a link", text)
		return text
	}
	want(l.T, "verify", verifies(l.T, l.Service, object{"token": token(account.Verify)}), http.StatusNoContent, "")
	l.failed(verifies(l.T, l.Service, object{"email": p.email, "code": "12345678", "flow": resent.Flow}))
	b := l.browser()
	b.submit(b.open(l.URL+"/oauth2/verify?token="+token(account.Verify)), "verify", nil)
	b.submit(b.open(l.URL+"/oauth2/forgot"), "forgot", map[string]string{"email": p.email})
	b.submit(b.open(l.URL+"/oauth2/reset?token="+token(account.Reset)), "reset", map[string]string{"password": nextPassword})
	q := addUser(l.T, l.Service, "")
	l.tokens("first password", l.post("/v1/password/set", sessionAt(l.T, l.Service, q, oauth.DefaultClientID, "account"),
		object{"password": nextPassword}).Tokens(l.T))
	used := token(account.Reset)
	want(l.T, "reset", resets(l.T, l.Service, object{"token": used, "password": servicetest.Password}), http.StatusNoContent, "")
	l.failed(resets(l.T, l.Service, object{"token": used, "password": nextPassword}))
	l.errors.WriteString(b.open(l.URL + "/oauth2/reset?token=" + used).body)
}

// factors is a life with a second factor, over JSON and in a browser.
func (l *leaks) factors() {
	p := signUp(l.T, l.Service)
	l.tokens("sign-up", p.Tokens)
	a := enrol(l.T, l.Service, p.AccessToken)
	l.add("secret of an authenticator", a.secret)
	l.add("code of an authenticator", a.code(l.T, 0), a.code(l.T, 1), a.code(l.T, 2))
	for _, code := range a.codes {
		l.add("recovery code", code, strings.ReplaceAll(code, "-", ""))
	}
	token := half(l.T, l.Service, p.email)
	l.add("token of a login that waits", token)
	l.failed(show(l.T, l.Service, token, "recovery", "aaaa-bbbb-cccc-dddd"))
	l.tokens("second factor", show(l.T, l.Service, token, "totp", a.code(l.T, 1)).Tokens(l.T))
	l.failed(show(l.T, l.Service, token, "totp", a.code(l.T, 1)))
	b := l.browser()
	page := b.logIn(b.open(authorizeURL(l.Service, nil)), p.email)
	page = b.open(l.URL + link(l.T, page, "method-recovery"))
	l.add("authorization code", b.submit(page, "mfa", map[string]string{"code": a.codes[0]}).code(l.T))

	var replaced struct{ Codes []string }
	l.post("/v1/factors/recovery-codes", p.AccessToken, object{}).JSON(l.T, &replaced)
	l.add("recovery code", replaced.Codes...)
	l.Get(l.T, "/v1/factors", p.AccessToken)
	l.JSON(l.T, http.MethodPatch, "/v1/factors/"+a.id, p.AccessToken, object{"name": "Phone"})
	other := enrol(l.T, l.Service, p.AccessToken) // stays, so that its secret stands in the database
	l.add("secret of an authenticator", other.secret)
	l.Do(l.T, http.MethodDelete, "/v1/factors/"+a.id, bearer(p.AccessToken), nil)
}

// cookies is what a page does whose refresh token is in a cookie.
func (l *leaks) cookies() {
	p := addPage(l.T, l.Service)
	answered := func(what string, r servicetest.Response) {
		l.tokens(what, p.keep(l.T, r).Tokens(l.T))
		l.add(what+" cookie", p.refreshToken())
	}
	answered("page's sign-up", p.json(l.T, "/v1/signup", p.body(newEmail())))
	first := p.refreshToken()
	answered("page's refresh", p.refresh(l.T))
	want(l.T, "session", p.session(l.T), http.StatusOK, "")
	forked := p.fork(l.T, "worker")
	l.tokens("child's", forked.Tokens(l.T))
	l.add("child's cookie", setRefresh(l.T, forked).Value)
	l.failed(p.refresh(l.T, "Sec-Fetch-Site", "cross-site"))
	l.failed(p.json(l.T, "/v1/logout", `{"refresh_token":"`+first+`"}`))
	want(l.T, "logout", p.logOut(l.T), http.StatusNoContent, "")
	l.failed(p.refresh(l.T))
}

// clients is what confidential clients do.
func (l *leaks) clients(user servicetest.Tokens) {
	own := l.tokens("client's own", l.FormWith(l.T, "/oauth2/token", basic("backend"), "grant_type",
		"client_credentials").Tokens(l.T))
	l.failed(l.Form(l.T, "/oauth2/token", "grant_type", "client_credentials", "client_id", "backend", "client_secret", wrongSecret))
	l.failed(l.Form(l.T, "/oauth2/token", "grant_type", "client_credentials", "client_id", "nobody", "client_secret",
		secretOf("backend")))
	for _, token := range []string{own.AccessToken, user.AccessToken, user.RefreshToken, "junk"} {
		introspect(l.T, l.Service, "backend", token)
	}
	l.failed(introspect(l.T, l.Service, "default", user.AccessToken))
	l.FormWith(l.T, "/oauth2/revoke", basic("backend"), "token", own.AccessToken)
	l.failed(l.FormWith(l.T, "/oauth2/revoke", basic("other"), "token", user.RefreshToken))
	var pushed struct {
		URI string `json:"request_uri"`
	}
	l.Form(l.T, "/oauth2/par", "client_id", "app", "redirect_uri", appRedirect, "response_type", "code", "code_challenge",
		challenge(), "code_challenge_method", "S256").JSON(l.T, &pushed)
	l.add("pushed request", pushed.URI)
}

// pages is what happens in browsers.
func (l *leaks) pages() {
	for _, client := range []string{"app", "third"} {
		q := signUp(l.T, l.Service)
		l.tokens("sign-up", q.Tokens)
		b := l.browser()
		p := b.open(authorizeURL(l.Service, map[string]string{"client_id": client}))
		wrong := b.submit(p, "login", map[string]string{"email": q.email, "password": wrongPassword})
		_, carried := wrong.form(l.T, "login") // with which the user tries again
		l.errors.WriteString(strings.ReplaceAll(wrong.body, carried.Get("request"), ""))
		p = b.logIn(p, q.email)
		if p.location == nil {
			p = b.submit(p, "consent", map[string]string{"decision": "allow"})
		}
		code := p.code(l.T)
		l.add("authorization code", code)
		l.failed(redeem(l.T, l.Service, code, "client_id", client, "code_verifier", strings.Repeat("x", 43)))
		tokens := l.tokens(client, redeem(l.T, l.Service, code, "client_id", client).Tokens(l.T))
		l.Get(l.T, "/oauth2/userinfo", tokens.AccessToken)
		l.Do(l.T, http.MethodPost, "/oauth2/userinfo", bearer(tokens.AccessToken), nil)
		l.failed(redeem(l.T, l.Service, code, "client_id", client)) // used before
		l.add("unused authorization code", b.open(authorizeURL(l.Service, map[string]string{"client_id": client})).code(l.T))
		l.add("authorization code", b.submit(b.open(authorizeURL(l.Service,
			map[string]string{"client_id": client, "prompt": "select_account"})), "continue", nil).code(l.T))
		switch client {
		case "app":
			b.open(l.URL + "/oauth2/logout?id_token_hint=" + tokens.IDToken)
		default:
			b.submit(b.open(l.URL+"/oauth2/logout"), "logout", nil)
		}
	}
	b := l.browser()
	target, err := url.Parse(authorizeURL(l.Service, nil))
	if err != nil {
		l.Fatal(err)
	}
	p := b.post(target.Path, target.Query(), nil)
	_, state := p.form(l.T, "login")
	b.open(l.URL + "/oauth2/login?" + url.Values{"request": {state.Get("request")}}.Encode())
	p = b.open(l.URL + "/oauth2/signup?" + url.Values{"request": {state.Get("request")}}.Encode())
	code := b.submit(p, "signup", map[string]string{"email": newEmail(), "password": servicetest.Password}).code(l.T)
	tokens := l.tokens("signed up", redeem(l.T, l.Service, code).Tokens(l.T))
	b.post("/oauth2/logout", url.Values{"id_token_hint": {tokens.IDToken}}, nil)
	l.Get(l.T, regexpAsset.FindString(p.body), "")
}

// providers is what happens with a provider, whose tokens are kept.
func (l *leaks) providers() {
	l.add("secret at a provider", upstreamtest.ClientSecret)
	says(l.liar, "ada", "ada@example.com", true)
	b := l.browser()
	code := b.through(b.open(authorizeURL(l.Service, forAccount())), "liar").code(l.T)
	tokens := l.tokens("login at a provider", redeem(l.T, l.Service, code).Tokens(l.T))
	var kept, link struct {
		AccessToken string `json:"access_token"`
		URL         string
	}
	l.Get(l.T, "/v1/identities/liar/token", tokens.AccessToken).JSON(l.T, &kept)
	l.add("provider's token", kept.AccessToken)
	l.post("/v1/identities/second", tokens.AccessToken, object{"return_to": appRedirect}).JSON(l.T, &link)
	l.add("address that adds an identity", strings.TrimPrefix(link.URL, l.URL+"/oauth2/identities?request="))
	says(l.second, "ada-elsewhere", "elsewhere@example.com", true)
	back := b.callback(b.open(link.URL))
	b.open(back.String())
	l.errors.WriteString(b.open(back.String()).body)
	want(l.T, "remove", l.Do(l.T, http.MethodDelete, "/v1/identities/second", bearer(tokens.AccessToken), nil),
		http.StatusNoContent, "")
	b.post("/oauth2/callback/liar", url.Values{"state": {"a state"}, "code": {kept.AccessToken}}, nil)
	b.follow(b.open(authorizeURL(l.Service, map[string]string{"prompt": "login"})), "liar") // and never comes back

	sum := sha256.Sum256([]byte(applicationsOwn))
	token := l.liar.IDToken(hex.EncodeToString(sum[:]))
	l.add("provider's ID token", token)
	l.failed(l.post("/v1/login/liar/id-token", "", object{"id_token": token, "nonce": "another"}))
	l.failed(l.post("/v1/login/second/id-token", "", object{"id_token": token, "nonce": applicationsOwn}))
	l.tokens("native login", l.post("/v1/login/liar/id-token", "", object{"id_token": token, "nonce": applicationsOwn}).Tokens(l.T))
}

// misplaced are secrets in the wrong places.
func (l *leaks) misplaced(secret, accessToken string) {
	form, q := header("Content-Type", "application/x-www-form-urlencoded"), url.QueryEscape(secret)
	for _, r := range []servicetest.Response{
		l.Get(l.T, "/v1/me?access_token="+q, ""),
		l.Get(l.T, "/"+q, ""),
		l.Do(l.T, http.MethodDelete, "/v1/sessions/"+q, bearer(accessToken), nil),
		l.Do(l.T, http.MethodDelete, "/v1/identities/"+q, bearer(accessToken), nil),
		l.Do(l.T, http.MethodGet, "/v1/sessions", header("Authorization", "Basic "+secret), nil),
		l.Do(l.T, http.MethodGet, "/v1/me", header("Authorization", "Bearer "+secret+"x"), nil),
		postJSON(l.T, l.Service, "/v1/login", nil, `{"email":"a@example.com","password":"`+secret+`"`),
		postJSON(l.T, l.Service, "/v1/login", nil, `{"password":"`+secret+`","password":"`+secret+`"}`),
		postJSON(l.T, l.Service, "/v1/login", nil, `{"email":"`+secret+`","password":"`+secret+`"}`),
		postJSON(l.T, l.Service, "/v1/login", nil,
			`{"email":"a@example.com","password":"x","client_id":"`+secret+`","scope":"`+secret+`"}`),
		l.Form(l.T, "/oauth2/token", "grant_type", secret, "client_id", secret),
		l.Form(l.T, "/oauth2/token", "grant_type", "refresh_token", "refresh_token", secret+"x"),
		l.Form(l.T, "/oauth2/token", "grant_type", "refresh_token", "client_id", secret, "refresh_token", secret),
		l.Form(l.T, "/oauth2/token", "grant_type", "refresh_token", "client_id", secret, "client_id", "default", "refresh_token",
			secret),
		l.Form(l.T, "/oauth2/token", "grant_type", "authorization_code", "code", secret, "code_verifier", secret),
		l.Do(l.T, http.MethodPost, "/oauth2/token?refresh_token="+q, form, nil),
		l.FormWith(l.T, "/oauth2/token", header("Idempotency-Key", secret), "grant_type", "refresh_token", "refresh_token", "x"),
		l.Form(l.T, "/oauth2/revoke", "client_id", secret, "token", secret),
		l.FormWith(l.T, "/oauth2/introspect", header("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(q+":"+q))),
			"token", secret),
		l.Get(l.T, "/v1/forward-auth?token="+q, accessToken),
		l.Get(l.T, "/v1/blocklist?after="+q, ""),
		l.Get(l.T, "/oauth2/authorize?client_id="+q, ""),
		l.Get(l.T, "/oauth2/authorize?client_id=app&redirect_uri="+q, ""),
		l.Get(l.T, "/oauth2/login?request="+q, ""),
		l.Get(l.T, "/oauth2/provider/"+q+"?request="+q, ""),
		l.Get(l.T, "/oauth2/callback/liar?code="+q+"&state="+q, ""),
		l.Get(l.T, "/oauth2/logout?client_id="+q, ""),
		l.Form(l.T, "/oauth2/login", "client_id", secret, "request", secret, "password", secret),
		l.Form(l.T, "/oauth2/logout/confirm", "client_id", secret, "request", secret),
	} {
		l.failed(r)
	}
	l.Get(l.T, "/oauth2/logout?id_token_hint="+q, "") // proves nothing, and is no error
	l.Form(l.T, "/oauth2/revoke", "token", secret+"x")
}

// TestLOG01_Secrets looks for every secret of a run where none must be. A new route has to take part.
func TestLOG01_Secrets(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		l := &leaks{T: t, canaries: canaries{text: map[string]string{}}}
		l.house = openHouse(t, db, func(c *service.Config) {
			withStatusList(c)
			c.SMTPURL, c.MailFrom = "smtp://ann:password-of-the-mail-server@127.0.0.1:1", "no-reply@example.test" // nothing listens
			for i := range c.Providers {
				c.Providers[i].KeepTokens = c.Providers[i].ID == "liar"
			}
		})
		registerClient(t, l.Service, oauth.Client{ID: "third", ThirdParty: true})
		for _, id := range []string{"backend", "other"} {
			addClient(t, l.Service, oauth.Client{
				ID:         id,
				Type:       oauth.Confidential,
				SecretHash: oauth.HashSecret(secretOf(id)),
				Grants:     []string{oauth.GrantClientCredentials},
			})
			l.add("client secret", secretOf(id))
		}
		l.add("wrong client secret", wrongSecret)
		l.add("master key", servicetest.Master, "a master key that only tests use")
		l.add("code verifier", verifierText)
		l.add("password", servicetest.Password, nextPassword, wrongPassword)

		for _, path := range []string{"/.well-known/jwks.json", "/.well-known/openid-configuration",
			"/.well-known/oauth-authorization-server", "/openapi.yaml", "/healthz", "/readyz", "/v1/blocklist", "/",
			"/favicon.ico", "/.well-known/change-password"} {
			l.Get(t, path, "")
		}
		l.Do(t, http.MethodGet, "/v1/blocklist/stream", header("Last-Event-ID", "nonsense"), nil)
		user := l.passwords()
		l.cookies()
		l.recovery()
		var lists struct {
			URIs []string `json:"status_lists"`
		}
		l.Get(t, "/v1/status-lists", "").JSON(t, &lists)
		l.Get(t, strings.TrimPrefix(lists.URIs[0], l.URL), "")
		l.signals()
		l.clients(user)
		l.pages()
		l.factors()
		l.providers()
		l.mails()
		for _, secret := range []string{user.AccessToken, user.RefreshToken, nextPassword} {
			l.misplaced(secret, user.AccessToken)
		}
		want(t, "logout", l.Do(t, http.MethodPost, "/v1/logout", bearer(user.AccessToken), nil), http.StatusNoContent, "")

		succeeded := map[string]bool{}
		families, err := l.Metrics.Gather()
		if err != nil {
			t.Fatal(err)
		}
		var metrics bytes.Buffer
		for _, f := range families {
			metrics.WriteString(f.String())
			for _, m := range f.GetMetric() {
				label := map[string]string{}
				for _, one := range m.GetLabel() {
					label[one.GetName()] = one.GetValue()
				}
				if label["status"] < "400" {
					succeeded[label["method"]+" "+label["route"]] = true
				}
			}
		}
		for _, r := range l.API.Answered() {
			name := r.Method + " " + r.Path
			if r.Method == http.MethodHead || r.Method == http.MethodOptions || r.Method == "echo_route_not_found" || succeeded[name] {
				continue
			}
			if name != "POST /oauth2/callback/:id" { // of a provider that answers with a form
				t.Errorf("%s takes no part in the run: add it, with every secret that it takes and gives", name)
			}
		}
		l.search(t, "the log", []byte(l.Service.Log.String()))
		l.search(t, "the metrics", metrics.Bytes())
		l.search(t, "an error", l.errors.Bytes())
		l.search(t, "RT-13 the database", dump(t, db))
	})
}

// Whatever a stranger writes into a request, the log has one line for it, in JSON, with nothing in it that drives a terminal.
func TestLOG02_Injection(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := signUp(t, w.Service)
		percent := regexp.MustCompile("..")
		asked := map[string]bool{} // by request ID
		send := func(method, path string, h http.Header, body string) {
			t.Helper()
			if r, err := w.Try(t.Context(), method, path, h, strings.NewReader(body)); err == nil && r.Header.Get("X-Request-Id") != "" {
				asked[r.Header.Get("X-Request-Id")] = true
			}
		}
		form := header("Content-Type", "application/x-www-form-urlencoded")
		for _, text := range []string{
			"\x1b[2J\x1b]0;owned\x07", "\u2028\u2029\u0085", `"},{"level":"ERROR","msg":"forged`, "a\\u000ab", "\u202e\u200f",
			strings.Repeat("é", 6000), "\xff\xfe", "%0d%0aX: y", "a\tb\r\nc", "${jndi:ldap://127.0.0.1/a}",
		} {
			escaped := percent.ReplaceAllString(hex.EncodeToString([]byte(text)), "%$0")
			short := escaped[:min(len(escaped), 6000)]
			inHeader := strings.Map(func(r rune) rune {
				if r < ' ' && r != '\t' || r == 0x7f {
					return '?' // which net/http does not send
				}
				return r
			}, text)
			if !utf8.ValidString(text) {
				inHeader = text
			}
			inHeader = inHeader[:min(len(inHeader), 12000)]
			name, err := json.Marshal(text)
			if err != nil {
				t.Fatal(err)
			}
			before := len(asked)
			send(http.MethodGet, "/v1/me", bearer(p.AccessToken, "User-Agent", inHeader), "")
			send(http.MethodPost, "/v1/login", header("Content-Type", "application/json", "User-Agent", inHeader),
				`{"email":"`+p.email+`","password":"a wrong guess"}`)
			send(http.MethodGet, "/"+short, header("X-Forwarded-For", inHeader, "X-Request-Id", inHeader, "Referer", inHeader, "Origin",
				inHeader), "")
			send(http.MethodPost, "/oauth2/token", form, "grant_type=refresh_token&client_id="+escaped[:min(len(escaped), 30000)])
			send(http.MethodPost, "/oauth2/token", form, "grant_type=refresh_token&"+escaped[:min(len(escaped), 30000)]+"=a%00")
			send(http.MethodPost, "/oauth2/token", extended(form, "Idempotency-Key", inHeader),
				"grant_type="+escaped[:min(len(escaped), 30000)])
			send(http.MethodDelete, "/v1/sessions/"+short, bearer(p.AccessToken), "")
			send(http.MethodGet, "/v1/forward-auth?"+short+"=a", bearer(p.AccessToken), "")
			send(http.MethodPost, "/v1/login", header("Content-Type", "application/json"), "{"+string(name)+":1}")
			send(http.MethodGet, "/oauth2/callback/"+short+"?error="+short+"&error_description="+short, nil, "")
			send("X"+strings.Repeat("Y", 3000), "/v1/me", nil, "")
			if len(asked)-before < 9 {
				t.Errorf("%.40q: only %d requests were answered", text, len(asked)-before)
			}
		}
		log, seen := "", map[string]int{}
		servicetest.Eventually(t, "every request is logged", func() bool {
			log = w.Log.String()
			for id := range asked {
				if seen[id] = strings.Count(log, id); seen[id] == 0 {
					return false
				}
			}
			return true
		})
		for line := range strings.Lines(log) {
			var fields map[string]any
			if err := json.Unmarshal([]byte(line), &fields); err != nil {
				t.Errorf("%v: %s", err, line)
			}
			for name, v := range fields {
				text, ok := v.(string)
				if ok && (len(text) > 256 || strings.ContainsFunc(text,
					func(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' })) {
					t.Errorf("%s has %d bytes: %q", name, len(text), text)
				}
			}
		}
		for id, n := range seen {
			if n != 1 {
				t.Errorf("%s is in %d lines", id, n)
			}
		}
		events, err := w.Store.Events(t.Context(), p.id, audit.Cursor{}, 1000)
		if err != nil || len(events) < 6 {
			t.Fatal(len(events), err)
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

// What happens to users, sessions and clients leaves one row each, which says who did what to whom, through which
// client, why and from where.
func TestLOG03_Audit(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		s := w.Service
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
			"wrong password": {func(p person) servicetest.Response { return jsonAs("", "/v1/login", credentials(p, "a wrong guess")) },
				[]row{{"login_failed", "system", "USER", "", "", "wrong_password"}}},
			"wrong current password": {func(p person) servicetest.Response {
				return jsonAs(p.AccessToken, "/v1/password/change", map[string]string{
					"current_password": "a wrong guess",
					"new_password":     "amber-heron-47",
				})
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
				return jsonAs(p.AccessToken, "/v1/password/change", map[string]string{
					"current_password": servicetest.Password,
					"new_password":     "amber-heron-47",
				})
			}, []row{{"login_succeeded", "USER", "USER", "NEW", "default", ""},
				{"password_changed", "USER", "USER", "", "default", "password_change"}}},
			"delete": {func(p person) servicetest.Response {
				return s.Do(t, http.MethodDelete, "/v1/me", with(p.AccessToken), nil)
			}, []row{{"user_deleted", "USER", "USER", "", "default", "user_deleted"}}},
			"reuse": {func(p person) servicetest.Response {
				s.Refresh(t, s.Refresh(t, p.RefreshToken).Tokens(t).RefreshToken).Tokens(t)
				return s.FormWith(t, "/oauth2/token", from, "grant_type", "refresh_token", "client_id", "default", "refresh_token",
					p.RefreshToken)
			}, []row{{"refresh_token_reuse", "system", "USER", "SID", "default", "reuse"}}},
			"refresh": {func(p person) servicetest.Response {
				return s.FormWith(t, "/oauth2/token", from, "grant_type", "refresh_token", "client_id", "default", "refresh_token",
					p.RefreshToken)
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
			"code reuse": {func(p person) servicetest.Response {
				b := newBrowser(t, s)
				code := b.logIn(b.open(authorizeURL(s, map[string]string{"client_id": "web"})), p.email).code(t)
				redeem(t, s, code, "client_id", "web").Tokens(t)
				return s.FormWith(t, "/oauth2/token", from, "grant_type", "authorization_code", "client_id", "web", "code", code,
					"redirect_uri", appRedirect, "code_verifier", verifierText)
			}, []row{{"session_ended", "system", "USER", "*", "web", "code_reuse"}, {"login_succeeded", "USER", "USER", "*", "web", ""}}},
		} {
			p := signUp(t, s)
			began, err := s.Store.Events(t.Context(), p.id, audit.Cursor{}, 100)
			if err != nil || len(began) != 2 || began[1].Kind != audit.KindSignedUp || began[0].Kind != audit.KindLoggedIn {
				t.Fatalf("a sign-up left %+v %v", began, err)
			}
			r := c.do(p)
			events, err := s.Store.Events(t.Context(), p.id, audit.Cursor{}, 100)
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
			if r.Status != 0 && len(events) > 0 &&
				(events[0].IP != "203.0.113.7" || events[0].UserAgent != "the tests" || events[0].RequestID != r.Header.Get("X-Request-Id")) {
				t.Errorf("%s: from %+v, request %s", name, events[0].Origin, r.Header.Get("X-Request-Id"))
			}
		}
		// A failed login at an address that nobody has is somebody's guess, too.
		id := jsonAs("", "/v1/login", map[string]string{"email": newEmail(), "password": "a wrong guess"}).Header.Get("X-Request-Id")
		all, err := s.Store.Events(t.Context(), "", audit.Cursor{}, 1000)
		guess := slices.IndexFunc(all, func(e audit.Event) bool { return e.RequestID == id })
		if err != nil || guess < 0 || all[guess].Kind != audit.KindLoginFailed || all[guess].Reason != "unknown_user" ||
			all[guess].UserID != "" {
			t.Errorf("row %d of %d: %v", guess, len(all), err)
		}
	})
}

// The same of identities at providers.
func TestLOG03_Identities(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		h := openHouse(t, db)
		says(h.liar, "ada", "ada@example.com", true)
		b := newBrowser(t, h.Service)
		tokens := redeem(t, h.Service, b.through(b.open(authorizeURL(h.Service, forAccount())), "liar").code(t)).Tokens(t)
		me, _ := servicetest.Claims(t, tokens.AccessToken)["sub"].(string)
		seen := 0
		rows := func(what string, wanted ...string) {
			t.Helper()
			events, err := h.Store.Events(t.Context(), me, audit.Cursor{}, 100)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range events[:len(events)-seen] {
				if e.UserID != me || e.IP == "" || e.RequestID == "" {
					t.Errorf("%s: %+v", what, e)
				}
				got = append(got, strings.TrimSpace(fmt.Sprintf("%s by %s: %s", e.Kind, strings.Replace(e.Actor, me, "the user", 1),
					e.Reason)))
			}
			seen = len(events)
			slices.Sort(got)
			if !slices.Equal(got, wanted) {
				t.Errorf("%s left %q, want %q", what, got, wanted)
			}
		}
		rows("the first login", "login_succeeded by the user:", "user_signed_up by the user: liar")
		again := newBrowser(t, h.Service)
		again.through(again.open(authorizeURL(h.Service, nil)), "liar").code(t)
		rows("a login of the browser alone")
		var link struct{ URL string }
		h.JSON(t, http.MethodPost, "/v1/identities/second", tokens.AccessToken, object{"return_to": appRedirect}).JSON(t, &link)
		says(h.second, "ada-elsewhere", "elsewhere@example.com", true)
		b.open(b.callback(b.open(link.URL)).String())
		rows("one more", "identity_linked by the user: second")
		want(t, "remove", h.Do(t, http.MethodDelete, "/v1/identities/second", bearer(tokens.AccessToken), nil), http.StatusNoContent,
			"")
		rows("one less", "identity_removed by the user: second")
		want(t, "remove again", h.Do(t, http.MethodDelete, "/v1/identities/second", bearer(tokens.AccessToken), nil),
			http.StatusNotFound, "")
		want(t, "remove the last", h.Do(t, http.MethodDelete, "/v1/identities/liar", bearer(tokens.AccessToken), nil),
			http.StatusConflict, "")
		rows("what is refused")
	})
}

// No caller makes a new label: routes are their templates, methods those that are known.
func TestLOG04_MetricLabels(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		s := w.Service
		p := signUp(t, s)
		for i := range 5 {
			s.Get(t, fmt.Sprintf("/nowhere/%d", i), "")
			s.Do(t, http.MethodDelete, fmt.Sprintf("/v1/sessions/ses_%d", i), bearer(p.AccessToken), nil)
			s.Do(t, fmt.Sprintf("METHOD%d", i), "/v1/me", nil, nil)
			s.Get(t, fmt.Sprintf("/assets/%d.css", i), "")
			s.Form(t, "/oauth2/token", "grant_type", fmt.Sprint("g", i), "client_id", fmt.Sprint("c", i))
			s.Get(t, fmt.Sprintf("/oauth2/callback/p%d", i), "")
		}
		routes := map[string]bool{"unmatched": true}
		for _, r := range s.API.Answered() {
			routes[r.Path] = true
		}
		families, err := s.Metrics.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
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
					case "kind":
						if !slices.Contains([]string{oauth.KindLogout, sharedsignal.KindPush, mail.KindMail}, label.GetValue()) {
							t.Errorf("%s has the kind %s", f.GetName(), label.GetValue())
						}
					case "outcome":
						if !slices.Contains(session.Outcomes(), session.Outcome(label.GetValue())) {
							t.Errorf("%s has the outcome %s", f.GetName(), label.GetValue())
						}
					case "reason":
						if strings.Trim(label.GetValue(), "abcdefghijklmnopqrstuvwxyz_") != "" {
							t.Errorf("%s has the reason %s", f.GetName(), label.GetValue())
						}
					case "result":
						results := []outbox.Result{outbox.Delivered, outbox.PutOff, outbox.Dead}
						if !slices.Contains(results, outbox.Result(label.GetValue())) {
							t.Errorf("%s has the result %s", f.GetName(), label.GetValue())
						}
					default:
						t.Errorf("%s has a label %s, of which nothing is known here", f.GetName(), label.GetName())
					}
				}
			}
		}
	})
}
