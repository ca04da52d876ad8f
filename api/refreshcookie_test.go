package api_test

import (
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/store/storetest"
)

// cookiePage is a page of a client whose refresh token is in a cookie, and the part of a browser that keeps it.
type cookiePage struct {
	*servicetest.Service
	client, origin string
	cookies        map[string]string
}

// addPage registers a client with a page.
func addPage(t testing.TB, s *servicetest.Service) *cookiePage {
	t.Helper()
	n := people.Add(1)
	p := &cookiePage{
		Service: s,
		client:  fmt.Sprintf("pages-%d", n),
		origin:  fmt.Sprintf("https://app-%d.example.com", n),
		cookies: map[string]string{},
	}
	addClient(t, s, oauth.Client{
		ID:               p.client,
		Type:             oauth.Public,
		Grants:           []string{oauth.GrantAuthorizationCode, oauth.GrantRefreshToken},
		RedirectURIs:     []string{appRedirect},
		Origins:          []string{p.origin},
		Scopes:           []string{"openid", "profile"},
		RefreshTransport: oauth.TransportCookie,
	})
	return p
}

// header is what the browser says of the page's requests; pairs replace fields, and an empty value takes one away.
func (p *cookiePage) header(pairs ...string) http.Header {
	h := header("Origin", p.origin, "Sec-Fetch-Site", "same-site", "X-Handstamp-Client", p.client)
	for name, value := range p.cookies {
		h.Add("Cookie", name+"="+value)
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		h.Del(pairs[i])
		if pairs[i+1] != "" {
			h.Set(pairs[i], pairs[i+1])
		}
	}
	return h
}

// keep takes over the cookies of an answer, as a browser does.
func (p *cookiePage) keep(t testing.TB, r servicetest.Response) servicetest.Response {
	t.Helper()
	for _, line := range r.Header.Values("Set-Cookie") {
		c, err := http.ParseSetCookie(line)
		if err != nil {
			t.Fatal(err)
		}
		if p.cookies[c.Name] = c.Value; c.MaxAge < 0 {
			delete(p.cookies, c.Name)
		}
	}
	return r
}

// setRefresh is the refresh cookie that an answer sets; nil if it sets none.
func setRefresh(t testing.TB, r servicetest.Response) *http.Cookie {
	t.Helper()
	for _, line := range r.Header.Values("Set-Cookie") {
		c, err := http.ParseSetCookie(line)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(c.Name, "hs_rt_") {
			return c
		}
	}
	return nil
}

// refreshToken is the one in the page's cookie; empty for none.
func (p *cookiePage) refreshToken() string {
	for name, value := range p.cookies {
		if strings.Contains(name, "hs_rt_") {
			return value
		}
	}
	return ""
}

func (p *cookiePage) body(email string) string {
	return fmt.Sprintf(`{"email":%q,"password":%q,"client_id":%q}`, email, servicetest.Password, p.client)
}

func (p *cookiePage) json(t testing.TB, path, body string, pairs ...string) servicetest.Response {
	t.Helper()
	h := p.header(pairs...)
	h.Set("Content-Type", "application/json")
	return p.Do(t, http.MethodPost, path, h, strings.NewReader(body))
}

// logIn logs a user in at the page.
func (p *cookiePage) logIn(t testing.TB, email string) servicetest.Tokens {
	t.Helper()
	return p.keep(t, p.json(t, "/v1/login", p.body(email))).Tokens(t)
}

// refresh is the page's refresh, whose answer it does not take over.
func (p *cookiePage) refresh(t testing.TB, pairs ...string) servicetest.Response {
	t.Helper()
	return p.FormWith(t, "/oauth2/token", p.header(pairs...), "grant_type", "refresh_token", "client_id", p.client)
}

func (p *cookiePage) revoke(t testing.TB, pairs ...string) servicetest.Response {
	t.Helper()
	return p.FormWith(t, "/oauth2/revoke", p.header(pairs...), "client_id", p.client)
}

func (p *cookiePage) logOut(t testing.TB, pairs ...string) servicetest.Response {
	t.Helper()
	return p.Do(t, http.MethodPost, "/v1/logout", p.header(pairs...), nil)
}

// session asks whether there is a session.
func (p *cookiePage) session(t testing.TB, pairs ...string) servicetest.Response {
	t.Helper()
	return p.Do(t, http.MethodGet, "/v1/session", p.header(pairs...), nil)
}

// fork starts a child session for a holder.
func (p *cookiePage) fork(t testing.TB, holder string, pairs ...string) servicetest.Response {
	t.Helper()
	return p.FormWith(t, "/v1/sessions/fork", p.header(pairs...), "client_id", p.client, "holder", holder)
}

// attributes are all of a cookie but its value and its age.
func attributes(c *http.Cookie) string {
	if c == nil {
		return "no cookie"
	}
	out := *c
	out.Value, out.MaxAge, out.Raw = "", 0, ""
	return out.String()
}

func TestRefreshCookie_Walk(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := addPage(t, w.Service)
		email := newEmail()
		answers := map[string]servicetest.Response{}
		note := func(what string, r servicetest.Response) servicetest.Response {
			answers[what] = r
			return p.keep(t, r)
		}
		tokens := note("signup", p.json(t, "/v1/signup", p.body(email))).Tokens(t)
		first := p.refreshToken()
		note("login", p.json(t, "/v1/login", p.body(email)))
		if p.refreshToken() == first {
			t.Error("a login over a cookie goes on with its session") // RT-09
		}
		note("refresh", p.refresh(t))
		note("password", p.json(t, "/v1/password/change", fmt.Sprintf(`{"current_password":%q,"new_password":"amber-heron-47"}`,
			servicetest.Password), "Authorization", "Bearer "+tokens.AccessToken))
		note("after the change of password", p.refresh(t))
		b := newBrowser(t, w.Service)
		code := b.submit(b.open(authorizeURL(w.Service, map[string]string{"client_id": p.client})), "login",
			map[string]string{"email": email, "password": "amber-heron-47"}).code(t)
		note("code", p.FormWith(t, "/oauth2/token", p.header(), "grant_type", "authorization_code", "client_id", p.client, "code", code,
			"redirect_uri", appRedirect, "code_verifier", verifierText))

		const idle = 7 * 24 * time.Hour
		want := ""
		for what, r := range answers {
			if strings.Contains(r.Body, "hsr_") || !strings.Contains(r.Body, `"refresh_token_transport":"cookie"`) || r.Status > 201 {
				t.Errorf("%s: %d %s", what, r.Status, r.Body)
			}
			c := setRefresh(t, r)
			if c == nil || !session.IsRefreshToken(c.Value) || c.MaxAge > int(idle.Seconds()) || c.MaxAge < int(idle.Seconds())-60 {
				t.Errorf("%s: cookie %v", what, c)
			}
			if want == "" {
				want = attributes(c)
			}
			if attributes(c) != want {
				t.Errorf("%s: %s, want %s", what, attributes(c), want)
			}
		}
		cleared := setRefresh(t, note("logout", p.logOut(t)))
		if cleared == nil || cleared.MaxAge >= 0 || attributes(cleared) != want { // REV-10
			t.Errorf("cleared with %v, set with %s", cleared, want)
		}
		if r := p.refresh(t); r.Status != http.StatusBadRequest || r.Code() != "invalid_grant" {
			t.Errorf("refresh after logout: %d %s", r.Status, r.Body)
		}
		body := w.LogIn(t, signUp(t, w.Service).email)
		if body.RefreshToken == "" {
			t.Error("other clients have no refresh token any more")
		}
	})
}

// Golden attributes, for the issuers there are (CK-01).
func TestCK01_RefreshCookie(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		for _, row := range []struct{ issuer, want string }{
			{"", "hs_rt_NAME=; Path=/; HttpOnly; SameSite=Lax"},
			{"https://id.example.com", "__Host-hs_rt_NAME=; Path=/; HttpOnly; Secure; SameSite=Lax"},
		} {
			s := servicetest.Start(t, db, func(c *service.Config) {
				if row.issuer != "" {
					c.Issuer, c.Audience = row.issuer, []string{row.issuer}
				}
			})
			one, two := addPage(t, s), addPage(t, s)
			email := newEmail()
			c := setRefresh(t, one.json(t, "/v1/signup", one.body(email)))
			if c == nil {
				t.Fatal("no cookie")
			}
			name := c.Name[strings.LastIndex(c.Name, "_")+1:]
			if got := strings.Replace(attributes(c), name, "NAME", 1); got != row.want || len(name) != 10 {
				t.Errorf("%q: %s, want %s", row.issuer, got, row.want)
			}
			if other := setRefresh(t, two.json(t, "/v1/login", two.body(email))); other == nil || other.Name == c.Name {
				t.Errorf("another client: %v beside %v", other, c)
			}
		}
	})
}

// strangePages are what browsers and others say of requests that no page of the client has sent, with the code of the refusal.
func strangePages(p *cookiePage, other string) map[string]struct {
	pairs []string
	code  string
} {
	const origin, site, client = "origin_not_allowed", "cross_site", "client_header_required"
	return map[string]struct {
		pairs []string
		code  string
	}{
		"no origin":               {[]string{"Origin", ""}, origin},
		"null":                    {[]string{"Origin", "null"}, origin},
		"another host":            {[]string{"Origin", "https://evil.example"}, origin},
		"suffix":                  {[]string{"Origin", p.origin + ".evil.example"}, origin},
		"prefix":                  {[]string{"Origin", strings.Replace(p.origin, "https://", "https://evil-", 1)}, origin},
		"sub-domain":              {[]string{"Origin", strings.Replace(p.origin, "https://", "https://sub.", 1)}, origin},
		"dots are no wildcards":   {[]string{"Origin", strings.Replace(p.origin, ".example", "xexample", 1)}, origin},
		"upper case":              {[]string{"Origin", strings.ToUpper(p.origin)}, origin},
		"http":                    {[]string{"Origin", strings.Replace(p.origin, "https", "http", 1)}, origin},
		"port":                    {[]string{"Origin", p.origin + ":8443"}, origin},
		"slash":                   {[]string{"Origin", p.origin + "/"}, origin},
		"another client's origin": {[]string{"Origin", other}, origin},
		"cross-site":              {[]string{"Sec-Fetch-Site", "cross-site"}, site},
		"typed by a person":       {[]string{"Sec-Fetch-Site", "none"}, site},
		"empty site":              {[]string{"Sec-Fetch-Site", "same-site, cross-site"}, site},
		"no client":               {[]string{"X-Handstamp-Client", ""}, client},
		"another client":          {[]string{"X-Handstamp-Client", "default"}, client},
		"client in upper case":    {[]string{"X-Handstamp-Client", strings.ToUpper(p.client)}, client},
	}
}

// Nobody but a page of the client has the cookie read, set or cleared: forged refreshes, logouts and logins (RT-14,
// CK-02, CK-03).
func TestCK03_RefreshCookie(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p, other := addPage(t, w.Service), addPage(t, w.Service)
		email := signUp(t, w.Service).email
		tokens := p.logIn(t, email)
		before := p.refreshToken()
		b := newBrowser(t, w.Service)
		code := b.logIn(b.open(authorizeURL(w.Service, map[string]string{"client_id": p.client})), email).code(t)
		redeemed := func(pairs ...string) servicetest.Response {
			return p.FormWith(t, "/oauth2/token", p.header(pairs...), "grant_type", "authorization_code", "client_id", p.client, "code",
				code, "redirect_uri", appRedirect, "code_verifier", verifierText)
		}
		careful := signUp(t, w.Service)
		enrol(t, w.Service, careful.AccessToken)
		var pending struct {
			Token string `json:"mfa_token"`
		}
		p.json(t, "/v1/login", p.body(careful.email)).JSON(t, &pending)
		waiting := pending.Token
		asks := map[string]func(pairs ...string) servicetest.Response{
			"/oauth2/token":     func(pairs ...string) servicetest.Response { return p.refresh(t, pairs...) },
			"/oauth2/token ":    redeemed,
			"/oauth2/revoke":    func(pairs ...string) servicetest.Response { return p.revoke(t, pairs...) },
			"/v1/sessions/fork": func(pairs ...string) servicetest.Response { return p.fork(t, "worker", pairs...) },
			"/v1/session":       func(pairs ...string) servicetest.Response { return p.session(t, pairs...) },
			"/v1/logout":        func(pairs ...string) servicetest.Response { return p.logOut(t, pairs...) },
			"/v1/login":         func(pairs ...string) servicetest.Response { return p.json(t, "/v1/login", p.body(email), pairs...) },
			"/v1/signup": func(pairs ...string) servicetest.Response {
				return p.json(t, "/v1/signup", p.body(newEmail()), pairs...)
			},
			"/v1/login/mfa": func(pairs ...string) servicetest.Response {
				return p.json(t, "/v1/login/mfa", `{"mfa_token":"`+waiting+`","method":"totp","code":"12345x"}`, pairs...)
			},
			"/v1/login/:provider/id-token": func(pairs ...string) servicetest.Response {
				return p.json(t, "/v1/login/corp/id-token", `{"id_token":"x","nonce":"y","client_id":"`+p.client+`"}`, pairs...)
			},
			"/v1/password/change": func(pairs ...string) servicetest.Response {
				return p.json(t, "/v1/password/change", `{"current_password":"wrong","new_password":"amber-heron-47"}`,
					append(pairs, "Authorization", "Bearer "+tokens.AccessToken)...)
			},
			"/v1/password/set": func(pairs ...string) servicetest.Response {
				return p.json(t, "/v1/password/set", `{"password":"amber-heron-47"}`,
					append(pairs, "Authorization", "Bearer "+tokens.AccessToken)...)
			},
		}
		for _, route := range service.Routes() {
			if route.Cookie && asks[route.Path] == nil {
				t.Errorf("%s is a new route of the cookie: say how to ask it", route.Path)
			}
		}
		userID, _ := servicetest.Claims(t, tokens.AccessToken)["sub"].(string)
		sessions := func() int {
			list, err := w.Store.Sessions(t.Context(), userID, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			return len(list)
		}
		begun := sessions()
		for name, row := range strangePages(p, other.origin) {
			for path, ask := range asks {
				r := ask(row.pairs...)
				refused := r.Status == http.StatusForbidden && r.Code() == row.code
				// it names no client, or one without a cookie
				if (path == "/v1/logout" || path == "/v1/session") && row.code == "client_header_required" {
					refused = r.Status >= 400
				}
				if !refused || setRefresh(t, r) != nil {
					t.Errorf("%s, %s: %d %s %v, want 403 %s", path, name, r.Status, r.Body, setRefresh(t, r), row.code)
				}
			}
		}
		if r := p.refresh(t, "Sec-Fetch-Site", "cross-site"); !strings.Contains(r.Body, "subdomain") ||
			!strings.Contains(r.Body, "back end for the front end") ||
			r.Header.Get("Access-Control-Allow-Origin") != p.origin { // the page has to be able to read the remedy
			t.Errorf("the remedy is missing: %v %s", r.Header, r.Body)
		}
		if n := sessions(); n != begun {
			t.Errorf("%d sessions were started by requests that were refused", n-begun)
		}
		want(t, "the code after all that", redeemed(), http.StatusOK, "")
		want(t, "from an old browser", p.keep(t, p.refresh(t, "Sec-Fetch-Site", "")), http.StatusOK, "")
		if p.refreshToken() == before {
			t.Error("the refresh token was used before")
		}
		want(t, "from the issuer itself", p.keep(t, p.refresh(t, "Origin", w.Config.Issuer, "Sec-Fetch-Site", "same-origin")),
			http.StatusOK, "")
	})
}

// Nothing else reads the cookie: with it and without it, every other route answers the same (CK-02).
func TestCK02_RefreshCookie(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := addPage(t, w.Service)
		p.logIn(t, signUp(t, w.Service).email)
		cookies := map[string]bool{}
		for _, route := range service.Routes() {
			cookies[route.Path] = cookies[route.Path] || route.Cookie
		}
		for _, route := range w.API.Answered() {
			if cookies[route.Path] || route.Method == "echo_route_not_found" || strings.HasSuffix(route.Path, "/stream") {
				continue
			}
			ask := func(pairs ...string) int {
				h := p.header(append(pairs, "Content-Type", "application/x-www-form-urlencoded")...)
				return w.Do(t, route.Method, filled(route.Path, "x"), h, strings.NewReader("client_id="+p.client)).Status
			}
			if with, without := ask(), ask("Cookie", ""); with != without {
				t.Errorf("%s %s: %d with the cookie, %d without", route.Method, route.Path, with, without)
			}
		}
		want(t, "after all that", p.refresh(t), http.StatusOK, "")
	})
}

// One way for each client (RT-14).
func TestRT14_OneTransport(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := addPage(t, w.Service)
		person := signUp(t, w.Service)
		p.logIn(t, person.email)
		raw, name := p.refreshToken(), ""
		for name = range p.cookies {
			if strings.Contains(name, "hs_rt_") {
				break
			}
		}
		want(t, "cookie client, token in the form",
			p.FormWith(t, "/oauth2/token", p.header(), "grant_type", "refresh_token", "client_id",
				p.client, "refresh_token", raw), http.StatusBadRequest, "invalid_request")
		want(t, "cookie client, token to revoke in the form",
			p.FormWith(t, "/oauth2/revoke", p.header(), "client_id", p.client, "token",
				raw), http.StatusBadRequest, "invalid_request")
		want(t, "cookie client, logout in JSON", p.json(t, "/v1/logout", `{"refresh_token":"`+raw+`"}`), http.StatusBadRequest,
			"invalid_request")
		want(t, "an access token can be revoked in the form", p.FormWith(t, "/oauth2/revoke", nil, "client_id", p.client, "token",
			p.logIn(t, person.email).AccessToken), http.StatusOK, "")
		for _, cookie := range []string{name, "hs_rt_", "refresh_token"} {
			h := header("Cookie", cookie+"="+person.RefreshToken, "Origin", p.origin, "X-Handstamp-Client", "default")
			want(t, "body client, token in "+cookie, w.FormWith(t, "/oauth2/token", h, "grant_type", "refresh_token"),
				http.StatusBadRequest, "invalid_request")
			want(t, "body client, logout by "+cookie, w.Do(t, http.MethodPost, "/v1/logout", h, nil), http.StatusBadRequest,
				"invalid_request")
		}
		want(t, "body client", w.Refresh(t, person.RefreshToken), http.StatusOK, "")
		want(t, "cookie client", p.refresh(t), http.StatusOK, "")
	})
}

// A cookie that is planted from a subdomain beside ours, or in its place (RT-09, CK-05).
func TestCK05_PlantedRefreshCookies(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p, attacker := addPage(t, w.Service), signUp(t, w.Service)
		email := signUp(t, w.Service).email
		p.logIn(t, email)
		raw, name := p.refreshToken(), ""
		for name = range p.cookies {
			if strings.Contains(name, "hs_rt_") {
				break
			}
		}
		for what, cookie := range map[string]string{
			"planted after":          name + "=" + raw + "; " + name + "=" + attacker.RefreshToken,
			"planted before":         name + "=" + attacker.RefreshToken + "; " + name + "=" + raw,
			"twice the same":         name + "=" + raw + "; " + name + "=" + raw,
			"empty beside":           name + "=; " + name + "=" + raw,
			"none":                   "a=b",
			"empty":                  name + "=",
			"another client's token": name + "=" + attacker.RefreshToken,
			"cut":                    name + "=" + raw[:len(raw)-1],
			"longer":                 name + "=" + raw + "A",
			"upper-case name":        strings.ToUpper(name) + "=" + raw,
			"prefix":                 "__Host-" + name + "=" + raw,
			"controls":               name + "=\x80\xff" + raw,
		} {
			r := p.refresh(t, "Cookie", cookie)
			if r.Status != http.StatusBadRequest || r.Code() != "invalid_grant" || setRefresh(t, r) != nil {
				t.Errorf("%s: %d %s %v", what, r.Status, r.Body, setRefresh(t, r))
			}
		}
		foreign := name + "=" + attacker.RefreshToken
		want(t, "logout with another client's token", p.logOut(t, "Cookie", foreign), http.StatusUnauthorized, "invalid_grant")
		want(t, "revocation of another client's token", p.revoke(t, "Cookie", foreign), http.StatusBadRequest, "unauthorized_client")
		want(t, "nothing of the attacker's has ended", w.Refresh(t, attacker.RefreshToken), http.StatusOK, "")
		want(t, "alone", p.refresh(t, "Cookie", "a=b; "+name+"="+raw+"; c=d"), http.StatusOK, "")

		// A login starts a session of its own, whatever the browser has (RT-09).
		p.cookies[name] = attacker.RefreshToken
		tokens := p.logIn(t, email)
		if sid(t, tokens.AccessToken) == sid(t, attacker.AccessToken) || p.refreshToken() == attacker.RefreshToken {
			t.Error("the login went on with a session that was planted")
		}
	})
}

// What clears the cookie, and what leaves it alone.
func TestRefreshCookie_Cleared(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := addPage(t, w.Service)
		email := signUp(t, w.Service).email
		cleared := func(what string, r servicetest.Response, status int) {
			t.Helper()
			if c := setRefresh(t, r); r.Status != status || c == nil || c.MaxAge >= 0 || c.Value != "" {
				t.Errorf("%s: %d %s, cookie %v; want %d and the cookie cleared", what, r.Status, r.Body, c, status)
			}
		}
		left := func(what string, r servicetest.Response, status int) {
			t.Helper()
			if c := setRefresh(t, r); r.Status != status || c != nil {
				t.Errorf("%s: %d %s, cookie %v; want %d and no cookie", what, r.Status, r.Body, c, status)
			}
		}
		tokens := p.logIn(t, email)
		cleared("logout by cookie", p.logOut(t), http.StatusNoContent)
		cleared("logout by the stale cookie", p.logOut(t), http.StatusNoContent)
		cleared("refresh of an ended session", p.refresh(t), http.StatusBadRequest)
		cleared("revocation of an ended session", p.revoke(t), http.StatusOK)
		cleared("logout by the access token that is over", p.logOut(t, "Authorization", "Bearer "+tokens.AccessToken),
			http.StatusNoContent)

		tokens = p.logIn(t, email)
		cleared("logout by access token", p.logOut(t, "Authorization", "Bearer "+tokens.AccessToken), http.StatusNoContent)
		p.logIn(t, email)
		cleared("revocation", p.revoke(t), http.StatusOK)

		first := p.logIn(t, email)
		p.logIn(t, email)
		left("logout by the access token of an earlier login", p.logOut(t, "Authorization", "Bearer "+first.AccessToken),
			http.StatusNoContent)
		want(t, "the later login", p.keep(t, p.refresh(t)), http.StatusOK, "")

		// A repeat sets the same successor again; the losers of a race, too.
		tokens = p.logIn(t, email)
		old := p.refreshToken()
		successor := setRefresh(t, p.refresh(t)).Value
		if again := setRefresh(t, p.refresh(t)); again == nil || again.Value != successor {
			t.Errorf("the repeat sets %v, want %s", again, successor)
		}
		p.cookies = map[string]string{setRefresh(t, p.refresh(t)).Name: successor}
		p.keep(t, p.refresh(t, "Idempotency-Key", "first key"))
		p.keep(t, p.refresh(t, "Idempotency-Key", "second key"))
		newest := p.refreshToken()
		p.cookies = map[string]string{setRefresh(t, p.refresh(t)).Name: successor}
		left("a late copy", p.refresh(t, "Idempotency-Key", "first key"), http.StatusBadRequest)

		// Reuse ends the session for both parties.
		p.cookies = map[string]string{setRefresh(t, p.logInAgain(t, email)).Name: old}
		cleared("reuse", p.refresh(t), http.StatusBadRequest)
		for name := range p.cookies {
			p.cookies[name] = newest
		}
		cleared("the other party", p.refresh(t), http.StatusBadRequest)

		// Log out everywhere, elsewhere: this browser finds out at its next use.
		p.cookies = map[string]string{}
		p.logIn(t, email)
		elsewhere := w.LogIn(t, email)
		want(t, "log out everywhere", w.JSON(t, http.MethodDelete, "/v1/sessions", elsewhere.AccessToken, nil), http.StatusNoContent,
			"")
		cleared("after a logout everywhere", p.refresh(t), http.StatusBadRequest)
	})
}

// logInAgain logs in without taking the cookie over.
func (p *cookiePage) logInAgain(t testing.TB, email string) servicetest.Response {
	t.Helper()
	return p.json(t, "/v1/login", p.body(email))
}

// Neither a failure of the service, before its work is done or after, nor a caller who leaves touches the cookie, and
// the token in it goes on.
func TestRefreshCookie_Failures(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		var failing *storetest.Failing
		db.Wrap = func(s store.Store) store.Store { failing = storetest.Fail(s, 0, storetest.Before); return failing }
		s := servicetest.Start(t, db)
		p := addPage(t, s)
		email := newEmail()
		p.keep(t, p.json(t, "/v1/signup", p.body(email)))
		for _, when := range []storetest.When{storetest.Before, storetest.After} {
			for what, do := range map[string]func() servicetest.Response{
				"refresh": func() servicetest.Response { return p.refresh(t) },
				"revoke":  func() servicetest.Response { return p.revoke(t) },
				"logout":  func() servicetest.Response { return p.logOut(t) },
			} {
				p.logIn(t, email)
				for n := 1; ; n++ {
					failing.Arm(n, when, "Rotate", "Repeat", "Session", "EndSession")
					r := do()
					if failing.Failed() == "" {
						want(t, fmt.Sprintf("%s, nothing failed", what), r, r.Status, "")
						if n == 1 || r.Status >= 400 {
							t.Errorf("%s, call %d: %d %s", what, n, r.Status, r.Body)
						}
						break
					}
					if r.Status != http.StatusServiceUnavailable || setRefresh(t, r) != nil {
						t.Errorf("%s, %s call %d: %d %s, cookie %v", what, when, n, r.Status, r.Body, setRefresh(t, r))
					}
				}
			}
		}
		failing.Arm(0, storetest.Before)
		p.logIn(t, email)
		gone, leave := context.WithCancel(t.Context())
		leave()
		if _, err := p.TryForm(gone, "/oauth2/token", p.header(), "grant_type", "refresh_token", "client_id", p.client); err == nil {
			t.Error("somebody who has left was answered")
		}
		want(t, "afterwards", p.keep(t, p.refresh(t)), http.StatusOK, "")
		want(t, "and again", p.keep(t, p.refresh(t)), http.StatusOK, "")
	})
}

// Tabs that refresh at once, on two replicas, all get the one successor.
func TestRefreshCookie_Race(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := addPage(t, w.Service)
		p.logIn(t, signUp(t, w.Service).email)
		if err := w.other.Clients.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		const tabs = 20
		got := make(chan servicetest.Response, tabs)
		for i := range tabs {
			s := []*servicetest.Service{w.Service, w.other}[i%2]
			go func() {
				r, _ := s.TryForm(context.WithoutCancel(t.Context()), "/oauth2/token", p.header(), "grant_type", "refresh_token",
					"client_id", p.client)
				got <- r
			}()
		}
		successors := map[string]bool{}
		for range tabs {
			r := <-got
			c := setRefresh(t, r)
			if r.Status != http.StatusOK || c == nil {
				t.Fatalf("%d %s", r.Status, r.Body)
			}
			successors[c.Value] = true
		}
		if len(successors) != 1 {
			t.Errorf("%d successors", len(successors))
		}
	})
}

// CORS with credentials: for exactly the origins of clients with a cookie, on exactly the routes of the cookie. keycloak-js sends
// each token request with credentials, so that the routes of every client allow all registered origins.
func TestCK06_Credentials(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := addPage(t, w.Service)
		ofAll := []string{"/oauth2/token", "/oauth2/revoke", "/v1/logout", "/v1/session", "/v1/sessions/fork"}
		with := append([]string{"/v1/login", "/v1/login/mfa", "/v1/signup", "/v1/password/change", "/v1/password/set",
			"/v1/login/:provider/id-token"},
			ofAll...)
		paths := map[string]bool{}
		for _, r := range w.API.Answered() {
			paths[r.Path] = true
		}
		for path := range paths {
			for _, origin := range []string{p.origin, "https://app.example.com", "https://evil.example", "null",
				p.origin + ".evil.example",
				strings.ToUpper(p.origin)} {
				r := w.Do(t, http.MethodOptions, filled(path, "x"), header("Origin", origin, "Access-Control-Request-Method", "POST",
					"Access-Control-Request-Headers", "x-handstamp-client"), nil)
				allowed := r.Header.Get("Access-Control-Allow-Credentials")
				ok := origin == p.origin && slices.Contains(with, path) ||
					origin == "https://app.example.com" && slices.Contains(ofAll, path)
				if (allowed == "true") != ok || allowed != "" && !ok {
					t.Errorf("%s from %s: credentials %q", path, origin, allowed)
				}
				if allowed == "" {
					continue
				}
				if r.Header.Get("Access-Control-Allow-Origin") != origin || !slices.Contains(r.Header.Values("Vary"), "Origin") ||
					!strings.Contains(r.Header.Get("Access-Control-Allow-Headers"), "X-Handstamp-Client") {
					t.Errorf("%s from %s: %v", path, origin, r.Header)
				}
			}
		}
		for _, path := range []string{"/oauth2/token", "/oauth2/revoke", "/v1/login", "/v1/logout"} {
			r := w.Do(t, http.MethodPost, path, header("Origin", p.origin), nil)
			if r.Header.Get("Access-Control-Allow-Credentials") != "true" || r.Header.Get("Access-Control-Allow-Origin") != p.origin {
				t.Errorf("%s: the page cannot read its answer: %v", path, r.Header)
			}
		}
	})
}

// Answers with a refresh token have one writer, and one place where the cookie is known: nobody can forget the transport of a
// client.
func TestRefreshTokensHaveOneWriter(t *testing.T) {
	names, err := filepath.Glob("*/*.go")
	if err != nil || len(names) == 0 {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.Field:
				if n.Tag != nil && strings.Contains(n.Tag.Value, `json:"refresh_token`) {
					found[name+": a field"] = true
				}
			case *ast.SelectorExpr:
				if n.Sel.Name == "RefreshToken" {
					found[name+": reads one"] = true
				}
			case *ast.BasicLit:
				if strings.Contains(n.Value, "hs_rt_") {
					found[name+": names the cookie"] = true
				}
			}
			return true
		})
	}
	for _, allowed := range []string{
		"door/refreshcookie.go: a field", "door/refreshcookie.go: reads one", "door/refreshcookie.go: names the cookie",
		"firstparty/logout.go: a field", "firstparty/logout.go: reads one", // of a request
	} {
		if !found[allowed] {
			t.Errorf("%s: not there any more", allowed)
		}
		delete(found, allowed)
	}
	for where := range found {
		t.Errorf("%s: use door.WriteTokens and door.Presents", where)
	}
}

// A start page asks whether there is a session. It learns what a refresh would find, and nothing moves or ends.
func TestSessionOfCookie(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		var failing *storetest.Failing
		db.Wrap = func(s store.Store) store.Store { failing = storetest.Fail(s, 0, storetest.Before); return failing }
		s := servicetest.Start(t, db)
		p := addPage(t, s)
		email := newEmail()
		none := func(what string, r servicetest.Response, cleared bool) {
			t.Helper()
			if c := setRefresh(t, r); r.Status != http.StatusNoContent || r.Body != "" || (c != nil) != cleared ||
				c != nil && c.MaxAge >= 0 {
				t.Errorf("%s: %d %s, cookie %v", what, r.Status, r.Body, c)
			}
		}
		none("no cookie", p.session(t), false)
		tokens := p.keep(t, p.json(t, "/v1/signup", p.body(email))).Tokens(t)
		first := p.refreshToken()
		id, err := session.ParseID(sid(t, tokens.AccessToken))
		if err != nil {
			t.Fatal(err)
		}
		some := func(what string, pairs ...string) {
			t.Helper()
			before, err := s.Store.Session(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			failing.Arm(0, storetest.Before)
			r := p.session(t, pairs...)
			var got struct {
				UserID        string    `json:"user_id"`
				ClientID      string    `json:"client_id"`
				SessionID     string    `json:"session_id"`
				ExpiresAt     time.Time `json:"expires_at"`
				IdleExpiresAt time.Time `json:"idle_expires_at"`
			}
			if want(t, what, r, http.StatusOK, ""); r.Status != http.StatusOK {
				return
			}
			r.JSON(t, &got)
			after, err := s.Store.Session(t.Context(), id)
			if err != nil || !reflect.DeepEqual(before, after) || setRefresh(t, r) != nil {
				t.Errorf("%s: the row was\n%+v and is\n%+v, %v", what, before, after, err)
			}
			if got.UserID != before.UserID || got.ClientID != p.client || got.SessionID != id.String() ||
				!got.ExpiresAt.Equal(before.ExpiresAt) || !got.IdleExpiresAt.Equal(before.IdleExpiresAt) {
				t.Errorf("%s: %s", what, r.Body)
			}
		}
		some("logged in")
		some("at the issuer's own origin, which a GET does not name", "Origin", "", "Sec-Fetch-Site", "same-origin")
		want(t, "no origin from elsewhere", p.session(t, "Origin", ""), http.StatusForbidden, "origin_not_allowed")
		name := setRefresh(t, p.keep(t, p.refresh(t, "Idempotency-Key", "a"))).Name
		second := p.refreshToken()
		p.cookies[name] = first
		some("the answer of another tab is on its way")
		p.cookies[name] = second
		p.keep(t, p.refresh(t, "Idempotency-Key", "b"))
		third := p.refreshToken()
		p.cookies[name] = first
		none("an old token", p.session(t), false)
		p.cookies[name] = third
		some("after an old token was seen")

		for n, when := range []storetest.When{storetest.Before, storetest.After} {
			failing.Arm(1, when, "Session")
			if r := p.session(t); r.Status != http.StatusServiceUnavailable || setRefresh(t, r) != nil {
				t.Errorf("storage failure %d: %d %s", n, r.Status, r.Body)
			}
		}
		failing.Arm(0, storetest.Before)
		none("two cookies", p.session(t, "Cookie", name+"="+third+"; "+name+"="+first), false)
		none("garbage", p.session(t, "Cookie", name+"=garbage"), false)
		none("another client's token", p.session(t, "Cookie", name+"="+s.LogIn(t, email).RefreshToken), false)
		want(t, "an unknown client", p.session(t, "X-Handstamp-Client", "nobody"), http.StatusBadRequest, "invalid_client")
		want(t, "a client without cookie", p.session(t, "X-Handstamp-Client", "default"), http.StatusBadRequest, "invalid_request")
		some("after all that")
		elsewhere := s.LogIn(t, email)
		want(t, "log out everywhere", s.JSON(t, http.MethodDelete, "/v1/sessions", elsewhere.AccessToken, nil), http.StatusNoContent,
			"")
		none("after a logout everywhere", p.session(t), true)
	})
}
