package api_test

import (
	"encoding/json"
	"flag"
	"html"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/upstream"
)

// A person uses the pages in Chromium, with script and without. go test -artifacts takes pictures.
func TestPagesInChromium(t *testing.T) {
	t.Parallel()
	s := servicetest.Start(t, servicetest.SQLite(t), func(c *service.Config) {
		c.LoginAttempts = 1000
		for _, kind := range []upstream.Type{upstream.Google, upstream.GitHub, upstream.Microsoft} {
			c.Providers = append(c.Providers, upstream.Config{
				ID:           string(kind),
				Type:         kind,
				ClientID:     "nobody follows these links",
				ClientSecret: "x",
			})
		}
	})
	application := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/chain" { // on to another origin, as a callback does that serves several hosts
			http.Redirect(w, r, "http://"+r.Context().Value(http.LocalAddrContextKey).(net.Addr).String()+"/callback?"+r.URL.RawQuery,
				http.StatusFound)
			return
		}
		if r.URL.Path != "/callback" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		arrived := map[string]string{"method": r.Method}
		for name := range r.Form {
			arrived[name] = r.Form.Get(name)
		}
		text, _ := json.Marshal(arrived)
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte(`<!doctype html><title>Arrived</title><link rel="icon" href="data:,"><p id="arrived">` +
			html.EscapeString(string(text)) + `</p>`))
	}))
	t.Cleanup(application.Close)
	app := strings.Replace(application.URL, "127.0.0.1", "localhost", 1) // another site than the service
	callback := app + "/callback"
	registerClient(t, s, oauth.Client{ID: "app", Name: "Example Shop", RedirectURIs: []string{
		callback, app + "/chain", "com.example.app:/cb",
	}, PostLogoutRedirectURIs: []string{app + "/chain"}})
	registerClient(t, s, oauth.Client{ID: "third", Name: "Calendar by Others", RedirectURIs: []string{callback}, ThirdParty: true})
	at := func(changes ...string) string {
		values := map[string]string{"redirect_uri": callback}
		for i := 0; i+1 < len(changes); i += 2 {
			values[changes[i]] = changes[i+1]
		}
		return authorizeURL(s, values)
	}
	for name, javaScript := range map[string]bool{"with script": true, "without script": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			email, shots := newEmail(), pictures(t)
			s.SignUp(t, email)
			for check, fault := range node(t, "pages.mjs", map[string]any{
				"chromium":   chromium(t),
				"javaScript": javaScript,
				"shots":      shots,
				"app":        app,
				"email":      email,
				"password":   servicetest.Password,
				"at": map[string]string{
					"login":      at(),
					"again":      at("prompt", "login"),
					"consent":    at("client_id", "third", "prompt", "", "scope", "openid profile email orders:read"),
					"chain":      at("redirect_uri", app+"/chain"),
					"chainOut":   s.URL + "/oauth2/logout?client_id=app&state=out&post_logout_redirect_uri=" + url.QueryEscape(app+"/chain"),
					"formPost":   at("response_mode", "form_post"),
					"chainPost":  at("redirect_uri", app+"/chain", "response_mode", "form_post"),
					"privateUse": at("redirect_uri", "com.example.app:/cb"),
					"select":     at("prompt", "select_account"),
					"wrong":      at("redirect_uri", "https://evil.example/"),
					"logout":     s.URL + "/oauth2/logout",
				},
			}) {
				if fault != "" {
					t.Errorf("%s: %v", check, fault)
				}
			}
		})
	}
}

// cookieLine is a Set-Cookie header with its value left out.
var cookieLine = regexp.MustCompile(`^([^=]+)=[^;]*(.*)$`)

// severalCookies are the names of cookies of which a browser has several.
var severalCookies = regexp.MustCompile(`(handstamp_(?:browser|attempt)_).*`)

func TestCK01_CookieAttributes(t *testing.T) {
	for name, c := range map[string]struct {
		issuer string
		prefix string
		secure string
	}{
		"https":    {"https://auth.example.com", "__Host-", "; Secure"},
		"loopback": {"", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			apple := upstream.Config{ID: "liar", Type: upstream.OAuth2, ClientID: "c", ClientSecret: "s", Endpoints: upstream.Endpoints{
				Authorization: "https://p.example/authorize", Token: "https://p.example/token", Userinfo: "https://p.example/user",
			}}
			s := servicetest.Start(t, servicetest.SQLite(t), func(config *service.Config) {
				if c.issuer != "" {
					config.Issuer = c.issuer
				}
				config.Providers = []upstream.Config{apple}
			})
			registerClient(t, s, oauth.Client{ID: "app"})
			s.SignUp(t, "ann@example.com")
			jar := map[string]string{} // a Secure cookie does not come to http, so it is carried by hand
			var lines []string
			send := func(method, path string, values url.Values) servicetest.Response {
				h := header("Origin", s.Config.Issuer, "Sec-Fetch-Site", "same-origin")
				for name, v := range jar {
					h.Add("Cookie", name+"="+v)
				}
				h.Set("Cookie", strings.Join(h.Values("Cookie"), "; "))
				if method == http.MethodPost {
					h.Set("Content-Type", "application/x-www-form-urlencoded")
				}
				r := s.Do(t, method, path, h, strings.NewReader(values.Encode()))
				for _, set := range r.Header.Values("Set-Cookie") {
					m := cookieLine.FindStringSubmatch(set)
					jar[m[1]] = strings.TrimPrefix(strings.SplitN(set, ";", 2)[0], m[1]+"=")
					lines = append(lines, severalCookies.ReplaceAllString(m[1], "$1*")+m[2])
				}
				return r
			}
			path := strings.TrimPrefix(authorizeURL(s, nil), s.URL)
			form := func(r servicetest.Response, id string) (string, url.Values) {
				return page{status: r.Status, body: r.Body}.form(t, id)
			}
			login := send(http.MethodGet, path, nil)
			link := providerLink.FindStringSubmatch(login.Body)
			send(http.MethodGet, html.UnescapeString(link[2]), nil)
			action, values := form(login, "login")
			values.Set("email", "ann@example.com")
			values.Set("password", servicetest.Password)
			if r := send(http.MethodPost, action, values); r.Status != http.StatusSeeOther {
				t.Fatalf("login: %d %s", r.Status, r.Body)
			}
			action, values = form(send(http.MethodGet, "/oauth2/logout", nil), "logout")
			if r := send(http.MethodPost, action, values); r.Status != http.StatusOK || r.Header.Get("Clear-Site-Data") != `"cache"` {
				t.Fatalf("logout: %d %v", r.Status, r.Header)
			}
			wanted := []string{
				"handstamp_browser_*; Path=/; Max-Age=86400; HttpOnly%s; SameSite=Lax",
				"handstamp_attempt_*; Path=/; Max-Age=600; HttpOnly%s; SameSite=Lax",
				"handstamp_login; Path=/; Max-Age=86400; HttpOnly%s; SameSite=Lax",
				"handstamp_devices; Path=/; Max-Age=15552000; HttpOnly%s; SameSite=Lax",
				"handstamp_login; Path=/; Max-Age=0; HttpOnly%s; SameSite=Lax",
			}
			for i, w := range wanted {
				wanted[i] = c.prefix + strings.Replace(w, "%s", c.secure, 1)
			}
			if !slices.Equal(lines, wanted) {
				t.Errorf("cookies\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(wanted, "\n"))
			}
			for _, set := range jar {
				if strings.Contains(set, "ann") || strings.HasPrefix(set, "usr_") || strings.Count(set, ".") == 2 {
					t.Errorf("a cookie says something: %s", set)
				}
			}
		})
	}
}

// No token is ever in a cookie, so script finds none in one, and none in one is believed.
func TestCK07_TokensInCookies(t *testing.T) {
	s := servicetest.Start(t, servicetest.SQLite(t))
	registerClient(t, s, oauth.Client{ID: "app"})
	ann, eve := s.SignUp(t, "ann@example.com"), s.SignUp(t, "eve@example.com")
	b := newBrowser(t, s)
	b.logIn(b.open(authorizeURL(s, nil)), "ann@example.com").code(t)
	var login string
	u, _ := url.Parse(s.URL)
	for _, c := range b.client.Jar.Cookies(u) {
		login += c.Name + "=" + c.Value + "; "
	}
	for name, cookie := range map[string]string{
		"the login of a browser": login,
		"an access token": "access_token=" + ann.AccessToken + "; token=" + ann.AccessToken + "; Authorization=Bearer " +
			ann.AccessToken,
		"a refresh token": "refresh_token=" + ann.RefreshToken,
	} {
		for _, path := range []string{"/v1/me", "/v1/sessions", "/v1/identities", "/oauth2/userinfo", "/v1/forward-auth"} {
			if r := s.Do(t, http.MethodGet, path, header("Cookie", cookie), nil); r.Status != http.StatusUnauthorized {
				t.Errorf("%s at %s: %d %s", name, path, r.Status, r.Body)
			}
		}
		r := s.Do(t, http.MethodGet, "/v1/me", bearer(eve.AccessToken, "Cookie", cookie), nil)
		if r.Status != http.StatusOK || !strings.Contains(r.Body, "eve@example.com") {
			t.Errorf("%s beside another's access token: %d %s", name, r.Status, r.Body)
		}
	}
	want(t, "refresh by cookie", s.FormWith(t, "/oauth2/token", header("Cookie", "refresh_token="+ann.RefreshToken), "grant_type",
		"refresh_token", "client_id", "default"), http.StatusBadRequest, "invalid_request")
}

func TestCK09_ReflectedScript(t *testing.T) {
	h := openHouse(t, servicetest.SQLite(t))
	s := h.Service
	s.SignUp(t, "ann@example.com")
	const marker = "zqz"
	payloads := []string{
		`"><script>alert("` + marker + `")</script>`, `'><img src=x onerror=alert(1) class=` + marker + `>`,
		`javascript:alert("` + marker + `")`,
		`</title><svg onload=alert(1)>` + marker, `{{.}}` + marker, "\u202e" + marker + "\" autofocus onfocus=\"alert(1)",
	}
	live := regexp.MustCompile(`(?i)<script>alert|<img|<svg|(href|src|action|formaction)="?\s*javascript:|"\s+autofocus onfocus=`)
	inspect := func(t *testing.T, what string, p page) {
		t.Helper()
		if strings.HasPrefix(p.header.Get("Content-Type"), "text/html") {
			if found := live.FindString(p.body); found != "" {
				t.Errorf("%s: live markup %q", what, found)
			}
			policy := p.header.Get("Content-Security-Policy")
			if !strings.HasPrefix(policy, "default-src 'none'; ") || strings.Contains(policy, "unsafe") ||
				strings.Contains(policy, marker) {
				t.Errorf("%s: policy %s", what, policy)
			}
			if p.header.Get("Cache-Control") != "no-store" || p.header.Get("X-Content-Type-Options") != "nosniff" ||
				p.header.Get("Cross-Origin-Opener-Policy") == "" {
				t.Errorf("%s: headers %v", what, p.header)
			}
		}
		if p.location != nil && p.location.Scheme == "javascript" {
			t.Errorf("%s: sent to %v", what, p.location)
		}
	}
	for _, payload := range payloads {
		b := newBrowser(t, s)
		for _, name := range []string{
			"client_id", "redirect_uri", "response_type", "response_mode", "scope", "state", "nonce", "prompt", "max_age", "login_hint",
			"ui_locales", "acr_values",
			"display", "id_token_hint", "provider", "resource", "code_challenge", "code_challenge_method", "request", "request_uri",
			payload,
		} {
			inspect(t, "authorize "+name, b.open(authorizeURL(s, map[string]string{name: payload})))
		}
		inspect(t, "form_post", b.logIn(b.open(authorizeURL(s, map[string]string{"response_mode": "form_post", "state": payload})),
			"ann@example.com"))
		fresh := newBrowser(t, s)
		login := fresh.open(authorizeURL(s, nil))
		inspect(t, "login", fresh.submit(login, "login", map[string]string{"email": payload, "password": payload}))
		create := fresh.open(authorizeURL(s, map[string]string{"prompt": "create"}))
		inspect(t, "sign-up", fresh.submit(create, "signup", map[string]string{"email": payload, "name": payload, "password": "short"}))
		inspect(t, "login state", fresh.submit(login, "login", map[string]string{"request": payload}))
		inspect(t, "login twice", fresh.post("/oauth2/login", url.Values{payload: {payload, payload}},
			map[string]string{"Origin": s.URL}))
		for _, name := range []string{"id_token_hint", "post_logout_redirect_uri", "state", "client_id", "logout_hint", "ui_locales"} {
			inspect(t, "logout "+name, b.open(s.URL+"/oauth2/logout?"+url.Values{name: {payload}}.Encode()))
		}
		for _, path := range []string{"/oauth2/callback/liar", "/oauth2/callback/" + url.PathEscape(payload),
			"/oauth2/provider/" + url.PathEscape(payload), "/oauth2/identities", "/oauth2/login", "/oauth2/signup"} {
			for _, name := range []string{"state", "code", "error", "error_description", "iss", "request"} {
				inspect(t, path+" "+name, b.open(s.URL+path+"?"+url.Values{name: {payload}}.Encode()))
			}
		}
		// The names that people and clients give themselves.
		registerClient(t, s, oauth.Client{
			ID:         "c" + strings.ToLower(newEmail()[:8]) + string('a'+rune(slices.Index(payloads, payload))),
			Name:       strings.TrimPrefix(payload, "\u202e"), // which no client may have in its name
			ThirdParty: true,
		})
		clients, err := s.Store.Clients(t.Context(), "c", 1)
		if err != nil {
			t.Fatal(err)
		}
		consent := b.open(authorizeURL(s, map[string]string{"client_id": clients[0].ID}))
		if !consent.has("consent") {
			t.Fatalf("no consent page: %d\n%s", consent.status, consent.body)
		}
		inspect(t, "client name", consent)
	}
}

// pictures is the directory for pictures of pages; empty if nobody wants them.
func pictures(t *testing.T) string {
	t.Helper()
	if keep := flag.Lookup("test.artifacts"); keep != nil && keep.Value.String() == "true" {
		return t.ArtifactDir()
	}
	return ""
}
