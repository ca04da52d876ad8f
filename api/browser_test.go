package api_test

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"html"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/oauth"
)

// browser is a person's browser without scripts: it keeps cookies, follows redirects within the service, and stops
// where one leads elsewhere.
type browser struct {
	t      *testing.T
	s      *servicetest.Service
	client *http.Client
}

// page is where a browser has arrived: a page of the service, or the address elsewhere that it was sent to.
type page struct {
	status   int
	header   http.Header
	body     string
	location *url.URL // elsewhere; nil on a page
	cookies  []*http.Cookie
}

func newBrowser(t *testing.T, s *servicetest.Service) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{t: t, s: s, client: &http.Client{
		Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (b *browser) open(target string) page {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, target, http.NoBody)
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Sec-Fetch-Site", "none")
	r.Header.Set("Accept", "text/html")
	return b.do(r)
}

func (b *browser) do(r *http.Request) page {
	b.t.Helper()
	response, err := b.client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	p := page{status: response.StatusCode, header: response.Header, body: string(body), cookies: response.Cookies()}
	if to, err := response.Location(); err == nil {
		if to.Scheme+"://"+to.Host == b.s.URL {
			return b.open(to.String())
		}
		p.location = to
	}
	return p
}

var (
	formTag = regexp.MustCompile(`(?s)<form[^>]*id="([a-z-]+)"[^>]*action="([^"]*)"[^>]*>(.*?)</form>|` +
		`<form[^>]*action="([^"]*)"[^>]*id="([a-z-]+)"[^>]*>(.*?)</form>`)
	hidden   = regexp.MustCompile(`<input[^>]*type="hidden"[^>]*name="([^"]*)"[^>]*value="([^"]*)"`)
	errorTag = regexp.MustCompile(`(?s)id="error"[^>]*>(.*?)</`)
)

// form finds a form of the page and what it carries.
func (p page) form(t *testing.T, id string) (action string, values url.Values) {
	t.Helper()
	for _, m := range formTag.FindAllStringSubmatch(p.body, -1) {
		formID, formAction, content := m[1], m[2], m[3]
		if formID == "" {
			formID, formAction, content = m[5], m[4], m[6]
		}
		if formID != id {
			continue
		}
		values = url.Values{}
		for _, h := range hidden.FindAllStringSubmatch(content, -1) {
			values.Set(html.UnescapeString(h[1]), html.UnescapeString(h[2]))
		}
		return html.UnescapeString(formAction), values
	}
	t.Fatalf("no form#%s on the page (%d):\n%s", id, p.status, p.body)
	return "", nil
}

func (p page) has(id string) bool { return strings.Contains(p.body, `id="`+id+`"`) }

// submit fills in a form and posts it as a browser would from the page.
func (b *browser) submit(p page, id string, fields map[string]string) page {
	b.t.Helper()
	action, values := p.form(b.t, id)
	for name, v := range fields {
		values.Set(name, v)
	}
	return b.post(action, values, map[string]string{"Origin": b.s.URL, "Sec-Fetch-Site": "same-origin"})
}

func (b *browser) post(path string, values url.Values, header map[string]string) page {
	b.t.Helper()
	target := path
	if strings.HasPrefix(path, "/") {
		target = b.s.URL + path
	}
	r, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, target, strings.NewReader(values.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for name, v := range header {
		r.Header.Set(name, v)
	}
	return b.do(r)
}

// logIn fills in the login page.
func (b *browser) logIn(p page, email string) page {
	b.t.Helper()
	return b.submit(p, "login", map[string]string{"email": email, "password": servicetest.Password})
}

const (
	appRedirect = "https://app.example/callback"
	appOrigin   = "https://app.example"
)

// registerClient adds a client, with sensible values for what a test does not care about.
func registerClient(t *testing.T, s *servicetest.Service, c oauth.Client) oauth.Client {
	t.Helper()
	if c.Type == "" {
		c.Type = oauth.Public
	}
	if c.RedirectURIs == nil {
		c.RedirectURIs = []string{appRedirect}
	}
	if c.Grants == nil {
		c.Grants = []string{oauth.GrantAuthorizationCode, oauth.GrantRefreshToken}
	}
	if c.Scopes == nil {
		c.Scopes = []string{"openid", "profile", "email", "offline_access", "orders:read"}
	}
	c.CreatedAt, c.UpdatedAt = time.Now(), time.Now()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	if err := s.Store.CreateClient(t.Context(), c, audit.Event{
		At:       time.Now(),
		Kind:     audit.KindClientCreated,
		Actor:    audit.ActorCLI,
		ClientID: c.ID,
	}); err != nil {
		t.Fatal(err)
	}
	return c
}

// verifier is the code verifier of every request of these tests, challenge its S256 challenge.
var verifierText = strings.Repeat("v", 43)

func challenge() string {
	sum := sha256.Sum256([]byte(verifierText))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// authorizeURL is an authorization request of client "app"; changes replace parameters, and leave out those that are empty.
func authorizeURL(s *servicetest.Service, changes map[string]string) string {
	values := map[string]string{
		"response_type":  "code",
		"client_id":      "app",
		"redirect_uri":   appRedirect,
		"scope":          "openid",
		"state":          "some state",
		"nonce":          "some nonce",
		"code_challenge": challenge(), "code_challenge_method": "S256",
	}
	maps.Copy(values, changes)
	query := url.Values{}
	for name, v := range values {
		if v != "" {
			query.Set(name, v)
		}
	}
	return s.URL + "/oauth2/authorize?" + query.Encode()
}

// forAccount asks for the account API too.
func forAccount() map[string]string {
	return map[string]string{"scope": "openid " + oauth.ScopeAccount}
}

// code is the code that a browser was sent to the client with.
func (p page) code(t *testing.T) string {
	t.Helper()
	if p.location == nil || p.location.Query().Get("code") == "" {
		t.Fatalf("no code: %d %v\n%s", p.status, p.location, p.body)
	}
	return p.location.Query().Get("code")
}

// redeem exchanges a code as client "app".
func redeem(t *testing.T, s *servicetest.Service, code string, changes ...string) servicetest.Response {
	t.Helper()
	values := map[string]string{
		"grant_type":    "authorization_code",
		"client_id":     "app",
		"code":          code,
		"redirect_uri":  appRedirect,
		"code_verifier": verifierText,
	}
	for i := 0; i+1 < len(changes); i += 2 {
		values[changes[i]] = changes[i+1]
	}
	var pairs []string
	for name, v := range values {
		if v != "" {
			pairs = append(pairs, name, v)
		}
	}
	return s.Form(t, "/oauth2/token", pairs...)
}

func TestBrowserLogin(t *testing.T) {
	servicetest.Each(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db)
		registerClient(t, s, oauth.Client{ID: "app"})
		s.SignUp(t, "ann@example.com")
		b := newBrowser(t, s)

		p := b.open(authorizeURL(s, nil))
		if wrong := b.submit(p, "login", map[string]string{"email": "ann@example.com",
			"password": "not the password"}); wrong.status != http.StatusUnauthorized || !wrong.has("error") || !wrong.has("login") {
			t.Fatalf("wrong password: %d\n%s", wrong.status, wrong.body)
		}
		p = b.logIn(p, "ann@example.com")
		code := p.code(t)
		if got := p.location.Query(); got.Get("state") != "some state" || got.Get("iss") != s.Config.Issuer {
			t.Fatalf("answer %v", got)
		}
		tokens := redeem(t, s, code).Tokens(t)
		id := servicetest.Claims(t, tokens.IDToken)
		access := servicetest.Claims(t, tokens.AccessToken)
		if id["nonce"] != "some nonce" || id["aud"] != "app" || id["sub"] != access["sub"] || id["sid"] != access["sid"] ||
			access["client_id"] != "app" {
			t.Fatalf("ID token %v, access token %v", id, access)
		}
		next := s.Form(t, "/oauth2/token", "grant_type", "refresh_token", "client_id", "app", "refresh_token",
			tokens.RefreshToken).Tokens(t)
		if next.RefreshToken == tokens.RefreshToken {
			t.Fatal("not rotated")
		}

		t.Run("the next client finds the browser logged in", func(t *testing.T) {
			registerClient(t, s, oauth.Client{ID: "second", RedirectURIs: []string{"https://second.example/cb"}})
			p := b.open(authorizeURL(s, map[string]string{
				"client_id":    "second",
				"redirect_uri": "https://second.example/cb",
				"prompt":       "none",
			}))
			p.code(t)
		})
		t.Run("a used code ends the session that it gave", func(t *testing.T) {
			if r := redeem(t, s, code); r.Code() != "invalid_grant" {
				t.Fatalf("%d %s", r.Status, r.Body)
			}
			if r := s.Form(t, "/oauth2/token", "grant_type", "refresh_token", "client_id", "app", "refresh_token",
				next.RefreshToken); r.Code() != "invalid_grant" {
				t.Fatalf("refresh: %d %s", r.Status, r.Body)
			}
			servicetest.Eventually(t, "the access token is refused", func() bool {
				return s.Get(t, "/oauth2/userinfo", tokens.AccessToken).Status == http.StatusUnauthorized
			})
		})
		t.Run("sign-up leads to the client as well", func(t *testing.T) {
			b := newBrowser(t, s)
			p := b.open(authorizeURL(s, map[string]string{"prompt": "create"}))
			if again := b.submit(p, "signup", map[string]string{
				"email":    "ann@example.com",
				"password": servicetest.Password,
			}); again.status != http.StatusConflict {
				t.Fatalf("taken address: %d", again.status)
			}
			if short := b.submit(p, "signup", map[string]string{"email": "ben@example.com",
				"password": "short"}); short.status != http.StatusBadRequest || !short.has("error") {
				t.Fatalf("short password: %d", short.status)
			}
			b.submit(p, "signup", map[string]string{"email": "ben@example.com", "password": servicetest.Password, "name": "Ben"}).code(t)
		})
	})
}

func TestAS01_RedirectURI(t *testing.T) {
	s := servicetest.Start(t, servicetest.SQLite(t))
	registerClient(t, s, oauth.Client{
		ID:           "app",
		RedirectURIs: []string{appRedirect, "http://127.0.0.1/cb", "http://[::1]/cb", "com.example.app:/cb"},
	})
	registerClient(t, s, oauth.Client{ID: "one"})
	for name, uri := range map[string]string{
		"case":              "https://APP.example/callback",
		"trailing slash":    appRedirect + "/",
		"query":             appRedirect + "?a=b",
		"fragment":          appRedirect + "#f",
		"traversal":         "https://app.example/x/../callback",
		"port":              "https://app.example:8443/callback",
		"sub-domain":        "https://evil.app.example/callback",
		"userinfo":          "https://app.example@evil.example/callback",
		"other":             "https://evil.example/callback",
		"prefix":            "https://app.example/callbackevil",
		"localhost":         "http://localhost/cb",
		"loopback path":     "http://127.0.0.1:4711/other",
		"loopback host":     "http://127.0.0.1.evil.example/cb",
		"loopback https":    "https://127.0.0.1:4711/cb",
		"scheme":            "com.example.evil:/cb",
		"javascript":        "javascript:alert(1)",
		"absent":            "",
		"loopback userinfo": "http://127.0.0.1@evil.example/cb",
	} {
		t.Run("fail/"+name, func(t *testing.T) {
			p := newBrowser(t, s).open(authorizeURL(s, map[string]string{"redirect_uri": uri}))
			if p.location != nil || p.status != http.StatusBadRequest || !p.has("error") {
				t.Fatalf("%d, sent to %v", p.status, p.location)
			}
		})
	}
	t.Run("fail/twice", func(t *testing.T) {
		p := newBrowser(t, s).open(authorizeURL(s, nil) + "&redirect_uri=https%3A%2F%2Fapp.example%2Fcallback")
		if p.location != nil || p.status != http.StatusBadRequest {
			t.Fatalf("%d, sent to %v", p.status, p.location)
		}
	})
	for name, change := range map[string]map[string]string{
		"loopback with any port":      {"redirect_uri": "http://127.0.0.1:4711/cb"},
		"IPv6 loopback with any port": {"redirect_uri": "http://[::1]:4711/cb"},
		"private-use scheme":          {"redirect_uri": "com.example.app:/cb"},
		"the only one is the default": {"client_id": "one", "redirect_uri": ""},
	} {
		t.Run("ok/"+name, func(t *testing.T) {
			if p := newBrowser(t, s).open(authorizeURL(s, change)); !p.has("login") {
				t.Fatalf("%d, sent to %v\n%s", p.status, p.location, p.body)
			}
		})
	}
}

func TestAS04_PagesBelongToTheirBrowser(t *testing.T) {
	s := servicetest.Start(t, servicetest.SQLite(t))
	registerClient(t, s, oauth.Client{ID: "app", ThirdParty: true})
	s.SignUp(t, "ann@example.com")
	s.SignUp(t, "eve@example.com")
	ann, eve := newBrowser(t, s), newBrowser(t, s)
	consent := ann.logIn(ann.open(authorizeURL(s, nil)), "ann@example.com")
	if !consent.has("consent") || !consent.has("allow") || !consent.has("deny") {
		t.Fatalf("no consent page: %d %v", consent.status, consent.location)
	}
	action, values := consent.form(t, "consent")
	values.Set("decision", "allow")
	same := map[string]string{"Origin": s.URL, "Sec-Fetch-Site": "same-origin"}

	t.Run("fail/another browser", func(t *testing.T) {
		eve.logIn(eve.open(authorizeURL(s, nil)), "eve@example.com")
		if p := eve.post(action, values, same); p.location != nil || p.status != http.StatusBadRequest {
			t.Fatalf("%d, sent to %v", p.status, p.location)
		}
	})
	t.Run("fail/forged state", func(t *testing.T) {
		forged := maps.Clone(values)
		forged.Set("request", rand.Text()+values.Get("request"))
		if p := ann.post(action, forged, same); p.location != nil || p.status != http.StatusBadRequest {
			t.Fatalf("%d, sent to %v", p.status, p.location)
		}
	})
	for name, header := range map[string]map[string]string{
		"cross-site":  {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
		"same-site":   {"Origin": "http://sub.127.0.0.1", "Sec-Fetch-Site": "same-site"},
		"null origin": {"Origin": "null"}, "other origin": {"Origin": "https://evil.example"},
	} {
		t.Run("fail/"+name, func(t *testing.T) {
			if p := ann.post(action, values, header); p.location != nil || p.status != http.StatusForbidden {
				t.Fatalf("%d, sent to %v", p.status, p.location)
			}
		})
	}
	t.Run("fail/after the login of another user", func(t *testing.T) {
		other := newBrowser(t, s)
		first := other.logIn(other.open(authorizeURL(s, nil)), "ann@example.com")
		other.logIn(other.open(authorizeURL(s, map[string]string{"prompt": "login"})), "eve@example.com")
		if p := other.submit(first, "consent", map[string]string{"decision": "allow"}); p.location != nil {
			t.Fatalf("sent to %v", p.location)
		}
	})
	t.Run("ok/deny", func(t *testing.T) {
		if p := ann.submit(consent, "consent",
			map[string]string{"decision": "deny"}); p.location.Query().Get("error") != "access_denied" ||
			p.location.Query().Get("iss") == "" {
			t.Fatalf("sent to %v", p.location)
		}
	})
	t.Run("ok/allow, and not asked again", func(t *testing.T) {
		ann.submit(consent, "consent", map[string]string{"decision": "allow"}).code(t)
		ann.open(authorizeURL(s, map[string]string{"prompt": "none"})).code(t)
		if p := ann.open(authorizeURL(s, map[string]string{"prompt": "none",
			"scope": "openid email"})); p.location.Query().Get("error") != "consent_required" {
			t.Fatalf("more scope: %v", p.location)
		}
	})
	if got := consent.header.Get("Content-Security-Policy"); !strings.Contains(got, "frame-ancestors 'none'") {
		t.Errorf("may be framed: %s", got)
	}
}

func TestAS05_Prompt(t *testing.T) {
	s := servicetest.Start(t, servicetest.SQLite(t))
	registerClient(t, s, oauth.Client{ID: "app"})
	s.SignUp(t, "ann@example.com")
	b := newBrowser(t, s)
	if p := b.open(authorizeURL(s, map[string]string{"prompt": "none"})); p.location.Query().Get("error") != "login_required" {
		t.Fatalf("nobody is logged in: %v", p.location)
	}
	b.logIn(b.open(authorizeURL(s, nil)), "ann@example.com").code(t)
	for name, c := range map[string]struct {
		change map[string]string
		want   string // an element of the page, or "code" or an error at the client
	}{
		"logged in":          {nil, "code"},
		"prompt=login":       {map[string]string{"prompt": "login"}, "#login"},
		"max_age=0":          {map[string]string{"max_age": "0"}, "#login"},
		"max_age=1000":       {map[string]string{"max_age": "1000"}, "code"},
		"max_age=-1":         {map[string]string{"max_age": "-1"}, "invalid_request"},
		"select_account":     {map[string]string{"prompt": "select_account"}, "#continue"},
		"consent":            {map[string]string{"prompt": "consent"}, "code"}, // a first-party client asks for none
		"none and login":     {map[string]string{"prompt": "none login"}, "invalid_request"},
		"none and max_age=0": {map[string]string{"prompt": "none", "max_age": "0"}, "login_required"},
		"unknown":            {map[string]string{"prompt": "rubbish"}, "invalid_request"},
	} {
		t.Run(name, func(t *testing.T) {
			p := b.open(authorizeURL(s, c.change))
			if id, ok := strings.CutPrefix(c.want, "#"); ok {
				if !p.has(id) {
					t.Fatalf("%d %v", p.status, p.location)
				}
			} else if c.want == "code" {
				p.code(t)
			} else if p.location == nil || p.location.Query().Get("error") != c.want {
				t.Fatalf("%d %v", p.status, p.location)
			}
		})
	}
	t.Run("prompt=login is met by logging in, and only so", func(t *testing.T) {
		p := b.open(authorizeURL(s, map[string]string{"prompt": "login"}))
		b.logIn(p, "ann@example.com").code(t)
	})
	t.Run("continue as", func(t *testing.T) {
		b.submit(b.open(authorizeURL(s, map[string]string{"prompt": "select_account"})), "continue", nil).code(t)
	})
}

func TestAS06_ResponseTypesAndGrants(t *testing.T) {
	s := servicetest.Start(t, servicetest.SQLite(t))
	registerClient(t, s, oauth.Client{ID: "app"})
	for _, kind := range []string{"token", "id_token", "id_token token", "code token", "code id_token", "none"} {
		if p := newBrowser(t, s).open(authorizeURL(s, map[string]string{"response_type": kind})); p.location == nil ||
			p.location.Query().Get("error") != "unsupported_response_type" {
			t.Errorf("%q: %d %v", kind, p.status, p.location)
		}
	}
	s.SignUp(t, "ann@example.com")
	if r := s.Form(t, "/oauth2/token", "grant_type", "password", "username", "ann@example.com", "password", servicetest.Password,
		"client_id", "default"); r.Code() != "unsupported_grant_type" {
		t.Errorf("password grant: %d %s", r.Status, r.Body)
	}
	for name, change := range map[string]map[string]string{
		"no challenge": {"code_challenge": ""},
		"plain":        {"code_challenge_method": "plain"},
		"no method":    {"code_challenge_method": ""},
		"short":        {"code_challenge": "abc"},
	} {
		if p := newBrowser(t, s).open(authorizeURL(s, change)); p.location == nil ||
			p.location.Query().Get("error") != "invalid_request" {
			t.Errorf("PKCE %s: %d %v", name, p.status, p.location)
		}
	}
}

func TestCodeRedemption(t *testing.T) {
	servicetest.Each(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db)
		registerClient(t, s, oauth.Client{ID: "app"})
		registerClient(t, s, oauth.Client{ID: "other"})
		s.SignUp(t, "ann@example.com")
		b := newBrowser(t, s)
		code := b.logIn(b.open(authorizeURL(s, nil)), "ann@example.com").code(t)
		for name, change := range map[string][]string{
			"another verifier":          {"code_verifier", strings.Repeat("w", 43)},
			"no verifier":               {"code_verifier", ""},
			"the challenge as verifier": {"code_verifier", challenge()},
			"another redirect URI":      {"redirect_uri", "https://evil.example/"},
			"another client":            {"client_id", "other"},
			"another code":              {"code", "hsa_" + rand.Text()},
			"another resource":          {"resource", "https://elsewhere.example"},
		} {
			r := redeem(t, s, code, change...)
			if r.Status == http.StatusOK || strings.HasSuffix(name, "verifier") && r.Code() != "invalid_grant" {
				t.Errorf("%s: %s", name, r.Body)
			}
		}
		redeem(t, s, code).Tokens(t) // none of that has spoiled it
	})
}

func TestAS12_PushedRequests(t *testing.T) {
	servicetest.Each(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db)
		registerClient(t, s, oauth.Client{ID: "app"})
		registerClient(t, s, oauth.Client{ID: "other"})
		push := func(change ...string) servicetest.Response {
			u, err := url.Parse(authorizeURL(s, nil))
			if err != nil {
				t.Fatal(err)
			}
			pairs := []string{}
			for name, v := range u.Query() {
				pairs = append(pairs, name, v[0])
			}
			return s.Form(t, "/oauth2/par", append(pairs, change...)...)
		}
		var pushed struct {
			RequestURI string `json:"request_uri"`
			ExpiresIn  int    `json:"expires_in"`
		}
		r := push()
		if r.JSON(t, &pushed); r.Status != http.StatusCreated || pushed.ExpiresIn <= 0 {
			t.Fatalf("%d %s", r.Status, r.Body)
		}
		at := func(client string) string {
			return s.URL + "/oauth2/authorize?" + url.Values{"client_id": {client}, "request_uri": {pushed.RequestURI}}.Encode()
		}
		// A prefetch, a reload and a second tab begin with it; one of them gets the code (FAPI 2.0, section 5.3.2.2).
		s.SignUp(t, "ann@example.com")
		newBrowser(t, s).open(at("app"))
		b := newBrowser(t, s)
		first, second := b.open(at("app")), b.open(at("app"))
		if !first.has("login") || !second.has("login") {
			t.Fatalf("%d %s", second.status, second.body)
		}
		code := b.logIn(second, "ann@example.com").code(t)
		want(t, "the code", redeem(t, s, code), http.StatusOK, "")
		if p := b.logIn(first, "ann@example.com"); p.location != nil || p.status != http.StatusBadRequest ||
			!strings.Contains(p.body, "request_uri") {
			t.Fatalf("answered twice: %d %v", p.status, p.location)
		}
		if p := newBrowser(t, s).open(at("app")); p.has("login") || p.location != nil {
			t.Fatal("used again")
		}
		push().JSON(t, &pushed)
		if p := newBrowser(t, s).open(at("other")); p.has("login") || p.location != nil {
			t.Fatal("used by another client")
		}
		for name, change := range map[string]map[string]string{
			"request":      {"request": "e30.e30."},
			"request_uri":  {"request_uri": "https://evil.example/r"},
			"registration": {"registration": "{}"},
		} {
			p := newBrowser(t, s).open(authorizeURL(s, change))
			if want := name + "_not_supported"; p.location == nil || p.location.Query().Get("error") != want {
				t.Errorf("%s: %d %v", name, p.status, p.location)
			}
		}
	})
}

func TestAS13_Logout(t *testing.T) {
	servicetest.Each(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db)
		const after = "https://app.example/bye"
		registerClient(t, s, oauth.Client{ID: "app", PostLogoutRedirectURIs: []string{after}})
		s.SignUp(t, "ann@example.com")
		logIn := func() (*browser, servicetest.Tokens) {
			b := newBrowser(t, s)
			return b, redeem(t, s, b.logIn(b.open(authorizeURL(s, nil)), "ann@example.com").code(t)).Tokens(t)
		}
		loggedOut := func(b *browser) bool {
			return b.open(authorizeURL(s, map[string]string{"prompt": "none"})).location.Query().Get("error") == "login_required"
		}
		at := func(values url.Values) string { return s.URL + "/oauth2/logout?" + values.Encode() }

		t.Run("ok/with the ID token", func(t *testing.T) {
			b, tokens := logIn()
			p := b.open(at(url.Values{"id_token_hint": {tokens.IDToken}, "post_logout_redirect_uri": {after}, "state": {"x"}}))
			if p.location == nil || p.location.String() != after+"?state=x" {
				t.Fatalf("%d %v", p.status, p.location)
			}
			if !loggedOut(b) {
				t.Fatal("still logged in")
			}
			if r := s.Form(t, "/oauth2/token", "grant_type", "refresh_token", "client_id", "app", "refresh_token",
				tokens.RefreshToken); r.Code() != "invalid_grant" {
				t.Fatalf("the session goes on: %d %s", r.Status, r.Body)
			}
		})
		t.Run("ok/asked without one", func(t *testing.T) {
			b, _ := logIn()
			p := b.open(at(url.Values{"client_id": {"app"}, "post_logout_redirect_uri": {after}}))
			if !p.has("logout") || loggedOut(b) {
				t.Fatalf("%d %v", p.status, p.location)
			}
			if p = b.submit(p, "logout", nil); p.location == nil || p.location.String() != after || !loggedOut(b) {
				t.Fatalf("%d %v", p.status, p.location)
			}
		})
		t.Run("fail/addresses that are not registered", func(t *testing.T) {
			b, tokens := logIn()
			for _, uri := range []string{"https://evil.example/", after + "/", appRedirect} {
				p := b.open(at(url.Values{"id_token_hint": {tokens.IDToken}, "post_logout_redirect_uri": {uri}}))
				if p.location != nil || p.status != http.StatusBadRequest {
					t.Errorf("%s: %d %v", uri, p.status, p.location)
				}
			}
		})
		t.Run("fail/hints that prove nothing", func(t *testing.T) {
			b, tokens := logIn()
			s.SignUp(t, "eve@example.com")
			eve := newBrowser(t, s)
			others := redeem(t, s, eve.logIn(eve.open(authorizeURL(s, nil)), "eve@example.com").code(t)).Tokens(t)
			for name, hint := range map[string]string{
				"another user's":  others.IDToken,
				"an access token": tokens.AccessToken,
				"forged":          tokens.IDToken[:len(tokens.IDToken)-4] + "AAAA",
				"rubbish":         "x.y.z",
			} {
				p := b.open(at(url.Values{"id_token_hint": {hint}}))
				if p.location != nil || !p.has("logout") {
					t.Errorf("%s: %d %v", name, p.status, p.location)
				}
			}
			if loggedOut(b) {
				t.Error("logged out")
			}
		})
	})
}

func TestAS18_SeeOther(t *testing.T) {
	s := servicetest.Start(t, servicetest.SQLite(t))
	registerClient(t, s, oauth.Client{ID: "app"})
	s.SignUp(t, "ann@example.com")
	b := newBrowser(t, s)
	if p := b.logIn(b.open(authorizeURL(s, nil)), "ann@example.com"); p.status != http.StatusSeeOther {
		t.Fatalf("status %d would repeat the post with the password", p.status)
	}
}
