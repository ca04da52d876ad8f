package api_test

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/handstamp/handstamp/api"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/account"
)

// strangers are what browsers say of a post that comes from a page of somebody else.
func strangers(s *servicetest.Service) map[string]map[string]string {
	host := strings.TrimPrefix(s.URL, "http://")
	return map[string]map[string]string{
		"cross-site":            {"Sec-Fetch-Site": "cross-site"},
		"same-site":             {"Sec-Fetch-Site": "same-site"},
		"sub-domain":            {"Origin": "http://sub." + host},
		"another host":          {"Origin": "https://evil.example"},
		"our name in another":   {"Origin": s.URL + ".evil.example"},
		"another port":          {"Origin": "http://127.0.0.1:1"},
		"no origin":             {"Origin": "null"},
		"no origin, same site":  {"Origin": "null", "Sec-Fetch-Site": "same-origin"},
		"cross-site, no origin": {"Origin": "null", "Sec-Fetch-Site": "cross-site"},
	}
}

// writes are the routes that change something.
func writes(s *servicetest.Service) []api.Route {
	return slices.DeleteFunc(s.API.Answered(), func(r api.Route) bool {
		return slices.Contains([]string{http.MethodGet, http.MethodHead, http.MethodOptions, "echo_route_not_found"}, r.Method)
	})
}

// byStrangers are the posts to pages that come from elsewhere by their nature, and the routes of clients, which have
// nothing to do with cookies.
func byStrangers() []string {
	return []string{
		"/oauth2/authorize", "/oauth2/logout", "/oauth2/callback/:id", // each asks before it changes anything
		"/oauth2/token", "/oauth2/revoke", "/oauth2/introspect", "/oauth2/par", "/oauth2/userinfo",
	}
}

// Every page that changes something, posted to by a page of somebody else with everything that the browser has and even
// the state of the right page.
func TestCK02_CrossSitePosts(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		email := signUp(t, w.Service).email
		at := func(client, prompt string) string {
			return authorizeURL(w.Service, map[string]string{"client_id": client, "prompt": prompt})
		}
		b := newBrowser(t, w.Service)
		b.logIn(b.open(at("web", "")), email).code(t)
		careful, half := signUp(t, w.Service), newBrowser(t, w.Service) // logged in with the first of two factors
		half.logIn(half.open(at("web", "")), careful.email).code(t)
		enrol(t, w.Service, careful.AccessToken)
		credentials := url.Values{"email": {email}, "password": {servicetest.Password}}
		pages := map[string]struct {
			address, form string
			fields        url.Values
			by            *browser // another than b
		}{
			"/oauth2/login": {at("web", "login"), "login", credentials, nil},
			"/oauth2/signup": {at("web", "create"), "signup",
				url.Values{"email": {newEmail()}, "password": {servicetest.Password}}, nil},
			"/oauth2/continue":       {at("web", "select_account"), "continue", nil, nil},
			"/oauth2/mfa":            {at("web", ""), "mfa", url.Values{"code": {"123456"}}, half},
			"/oauth2/consent":        {at("third", "consent"), "consent", url.Values{"decision": {"allow"}}, nil},
			"/oauth2/logout/confirm": {w.URL + "/oauth2/logout", "logout", nil, nil},
			"/oauth2/forgot":         {w.URL + "/oauth2/forgot", "forgot", url.Values{"email": {newEmail()}}, nil},
			"/oauth2/reset": {w.URL + "/oauth2/reset?token=" + proofOf(t, w.Service, signUp(t, w.Service), account.Reset), "reset",
				url.Values{"password": {nextPassword}}, nil},
			"/oauth2/verify": {w.URL + "/oauth2/verify?token=" + proofOf(t, w.Service, signUp(t, w.Service), account.Verify), "verify",
				nil, nil},
		}
		for _, route := range writes(w.Service) {
			if !strings.HasPrefix(route.Path, "/oauth2/") || slices.Contains(byStrangers(), route.Path) {
				continue
			}
			row, ok := pages[route.Path]
			if !ok {
				t.Errorf("%s is a new page: say how to get there", route.Path)
				continue
			}
			by := cmp.Or(row.by, b)
			action, values := by.open(row.address).form(t, row.form)
			if action != route.Path {
				t.Fatalf("form#%s posts to %s", row.form, action)
			}
			maps.Copy(values, row.fields)
			for name, header := range strangers(w.Service) {
				for _, contentType := range []string{"application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x",
					"application/json"} {
					header := maps.Clone(header)
					header["Content-Type"] = contentType
					if p := by.post(action, values, header); p.status != http.StatusForbidden || p.location != nil || len(p.cookies) > 0 {
						t.Errorf("%s as %s, %s: %d %v %v", action, contentType, name, p.status, p.location, p.cookies)
					}
				}
			}
			for _, contentType := range []string{"text/plain", "multipart/form-data; boundary=x", "application/json", ""} {
				if p := by.post(action, values, map[string]string{"Origin": w.URL,
					"Content-Type": contentType}); p.status != http.StatusUnsupportedMediaType {
					t.Errorf("%s as %q from our own page: %d", action, contentType, p.status)
				}
			}
			// What says nothing of where it comes from has no page of this browser's either.
			for name, header := range map[string]map[string]string{"no headers": nil, "our own page": {"Origin": w.URL}} {
				_, others := newBrowser(t, w.Service).open(at("web", "")).form(t, "login")
				maps.Copy(others, row.fields)
				if p := b.post(action, others, header); p.status != http.StatusBadRequest || p.location != nil {
					t.Errorf("%s with the page of another browser, %s: %d %v", action, name, p.status, p.location)
				}
			}
		}
		b.open(at("web", "none")).code(t) // after all that: still who was logged in
		if p := b.open(at("third", "none")); p.location.Query().Get("error") != "consent_required" {
			t.Errorf("consent was given: %v", p.location)
		}
	})
}

// A cookie gets nobody anything from the API, and a page of somebody else cannot send what the API reads without the
// browser's asking first.
func TestCK02_JSONOnly(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := signUp(t, w.Service)
		b := newBrowser(t, w.Service)
		b.logIn(b.open(authorizeURL(w.Service, map[string]string{"client_id": "web"})), p.email).code(t)
		receiver := addReceiver(t, w.Service)
		body := fmt.Sprintf(`{"email":%q,"password":%q,"current_password":%q,`+
			`"new_password":"amber-heron-47","name":"=","refresh_token":%q}`, p.email, servicetest.Password,
			servicetest.Password, p.RefreshToken)
		for _, route := range writes(w.Service) {
			if !strings.HasPrefix(route.Path, "/v1/") {
				continue
			}
			path := filled(route.Path, sid(t, p.AccessToken))
			for name, header := range strangers(w.Service) {
				r, err := http.NewRequestWithContext(t.Context(), route.Method, w.URL+path, strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Content-Type", "text/plain")
				for field, v := range header {
					r.Header.Set(field, v)
				}
				if p := b.do(r); p.status < 400 {
					t.Errorf("%s %s with a browser's cookies, %s: %d", route.Method, route.Path, name, p.status)
				}
			}
			// no body, and nobody without a token
			if route.Method == http.MethodDelete || route.Path == "/v1/logout" || route.Path == "/v1/factors/recovery-codes" ||
				route.Path == "/v1/sessions/fork" { // a form
				continue
			}
			token := p.AccessToken
			if strings.HasPrefix(route.Path, "/v1/ssf/") {
				token = receiver.token
			}
			for _, contentType := range []string{"", "text/plain", "text/json", "application/x-www-form-urlencoded",
				"multipart/form-data; boundary=x", "application/json-patch+json", "application/json; charset=utf-16",
				"application/json, text/plain"} {
				r := w.Do(t, route.Method, path, bearer(token, "Content-Type", contentType), strings.NewReader(body))
				want(t, route.Method+" "+route.Path+" as "+contentType, r, http.StatusUnsupportedMediaType, "unsupported_media_type")
			}
		}
		want(t, "logout as text", w.Do(t, http.MethodPost, "/v1/logout", header("Content-Type", "text/plain"),
			strings.NewReader(`{"refresh_token":"`+p.RefreshToken+`"}`)), http.StatusUnsupportedMediaType, "")
		want(t, "after all that", w.Refresh(t, p.RefreshToken), http.StatusOK, "")
	})
}

// Nobody is logged in as somebody else, or logged out, by a page that they look at.
func TestCK03_LoginAndLogout(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		victim, attacker := signUp(t, w.Service), signUp(t, w.Service)
		at := func(prompt string) string {
			return authorizeURL(w.Service, map[string]string{"client_id": "web", "prompt": prompt})
		}
		// The attacker's own page, with the attacker's password, posted by the browser of the victim.
		action, values := newBrowser(t, w.Service).open(at("")).form(t, "login")
		values.Set("email", attacker.email)
		values.Set("password", servicetest.Password)
		b := newBrowser(t, w.Service)
		b.open(at(""))
		for name, header := range map[string]map[string]string{
			"cross-site":     {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
			"an old browser": nil,
		} {
			if p := b.post(action, values, header); p.status < 400 || p.location != nil {
				t.Errorf("login, %s: %d %v", name, p.status, p.location)
			}
		}
		if p := b.open(at("none")); p.location.Query().Get("error") != "login_required" {
			t.Fatalf("logged in as somebody: %v", p.location)
		}
		b.logIn(b.open(at("")), victim.email).code(t)
		for _, path := range []string{"/oauth2/logout", "/oauth2/logout/confirm"} {
			b.post(path, url.Values{}, map[string]string{"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"})
		}
		b.open(w.URL + "/oauth2/logout") // an image's address, say
		b.open(at("none")).code(t)
	})
}

// A cookie that is not one of ours, or not one cookie, is nobody's login.
func TestCK05_MalformedCookies(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := signUp(t, w.Service)
		b := newBrowser(t, w.Service)
		b.logIn(b.open(authorizeURL(w.Service, map[string]string{"client_id": "web"})), p.email).code(t)
		u, err := url.Parse(w.URL)
		if err != nil {
			t.Fatal(err)
		}
		login := cookieNamed(t, b.client.Jar.Cookies(u), "handstamp_login").Value
		path := strings.TrimPrefix(authorizeURL(w.Service, map[string]string{"client_id": "web", "prompt": "none"}), w.URL)
		for name, c := range map[string]struct {
			cookie string
			ok     bool
		}{
			"ok/alone":               {"handstamp_login=" + login, true},
			"ok/among others":        {"a=b; handstamp_login=" + login + "; c=d", true},
			"fail/empty":             {"handstamp_login=", false},
			"fail/no value":          {"handstamp_login", false},
			"fail/cut":               {"handstamp_login=" + login[:len(login)-1], false},
			"fail/longer":            {"handstamp_login=" + login + "A", false},
			"fail/lower case":        {"handstamp_login=" + strings.ToLower(login), false},
			"fail/twice":             {"handstamp_login=" + login + "; handstamp_login=" + login, false},
			"fail/another first":     {"handstamp_login=x; handstamp_login=" + login, false},
			"fail/upper-case name":   {"Handstamp_Login=" + login, false},
			"fail/prefix":            {"__Host-handstamp_login=" + login, false},
			"fail/another cookie":    {"handstamp_browser=" + login, false},
			"fail/a user's ID":       {"handstamp_login=" + p.id, false},
			"fail/an access token":   {"handstamp_login=" + p.AccessToken, false},
			"fail/a refresh token":   {"handstamp_login=" + p.RefreshToken, false},
			"fail/in a comma's list": {"a=b, handstamp_login=" + login, false},
			"fail/controls":          {"handstamp_login=\x80\xff" + login, false},
			"fail/long":              {"handstamp_login=" + strings.Repeat(login, 100), false},
			"fail/many":              {strings.Repeat("handstamp_login=x; ", 300), false},
			"fail/SQL":               {"handstamp_login=' OR 1=1--", false},
		} {
			r := w.Do(t, http.MethodGet, path, header("Cookie", c.cookie), nil)
			to, err := url.Parse(r.Header.Get("Location"))
			if err != nil || r.Status != http.StatusSeeOther {
				t.Fatalf("%s: %d %v %s", name, r.Status, err, r.Body)
			}
			if got := to.Query().Get("code") != ""; got != c.ok || !c.ok && to.Query().Get("error") != "login_required" {
				t.Errorf("%s: %v", name, to)
			}
		}
	})
}

// A refresh token counts in the body of a form that is posted, and nowhere else.
func TestRT14_WaysToSendARefreshToken(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := signUp(t, w.Service)
		form := url.Values{"grant_type": {"refresh_token"}, "client_id": {"default"}, "refresh_token": {p.RefreshToken}}
		q := "/oauth2/token?" + form.Encode()
		without := "grant_type=refresh_token&client_id=default"
		posted := header("Content-Type", "application/x-www-form-urlencoded")
		for name, c := range map[string]struct {
			method, path string
			header       http.Header
			body         string
			status       int
		}{
			"GET":                {http.MethodGet, q, nil, "", 405},
			"HEAD":               {http.MethodHead, q, nil, "", 405},
			"PUT":                {http.MethodPut, "/oauth2/token", posted, form.Encode(), 405},
			"query":              {http.MethodPost, q, posted, "", 400},
			"token in the query": {http.MethodPost, "/oauth2/token?refresh_token=" + p.RefreshToken, posted, without, 400},
			"JSON": {http.MethodPost, "/oauth2/token", header("Content-Type", "application/json"),
				`{"grant_type":"refresh_token","client_id":"default","refresh_token":"` + p.RefreshToken + `"}`, 415},
			"JSON and query": {http.MethodPost, q, header("Content-Type", "application/json"), `{}`, 415},
			"cookie": {http.MethodPost, "/oauth2/token", extended(posted, "Cookie", "refresh_token="+p.RefreshToken),
				without, 400},
			"Bearer": {http.MethodPost, "/oauth2/token", extended(posted, "Authorization", "Bearer "+p.RefreshToken),
				without, 401},
			"header": {http.MethodPost, "/oauth2/token", extended(posted, "Refresh-Token", p.RefreshToken), without,
				400},
			"twice": {http.MethodPost, "/oauth2/token", posted, form.Encode() + "&refresh_token=" + p.RefreshToken,
				400},
			"no content type": {http.MethodPost, "/oauth2/token", header("Content-Type", ""), form.Encode(), 415},
			"multipart": {http.MethodPost, "/oauth2/token", header("Content-Type", "multipart/form-data; boundary=x"),
				"--x\r\nContent-Disposition: form-data; name=\"refresh_token\"\r\n\r\n" + p.RefreshToken + "\r\n--x--\r\n", 415},
			"another grant": {http.MethodPost, "/oauth2/token", posted,
				"grant_type=client_credentials&client_id=default&refresh_token=" + p.RefreshToken, 400},
			"space before the token": {http.MethodPost, "/oauth2/token", posted, without + "&refresh_token=+" + p.RefreshToken, 400},
			"newline after the token": {http.MethodPost, "/oauth2/token", posted, without + "&refresh_token=" + p.RefreshToken + "%0A",
				400},
			"padding after the token": {http.MethodPost, "/oauth2/token", posted, without + "&refresh_token=" + p.RefreshToken + "%3D",
				400},
			"another prefix": {http.MethodPost, "/oauth2/token", posted,
				without + "&refresh_token=HSR_" + strings.TrimPrefix(p.RefreshToken, "hsr_"), 400},
			"token of another version": {http.MethodPost, "/oauth2/token", posted,
				without + "&refresh_token=hsr_Ag" + strings.TrimPrefix(p.RefreshToken, "hsr_AQ"), 400},
		} {
			r := w.Do(t, c.method, c.path, c.header, strings.NewReader(c.body))
			if r.Status != c.status || strings.Contains(r.Body, "access_token\"") {
				t.Errorf("%s: %d %s, want %d", name, r.Status, r.Body, c.status)
			}
		}
		w.Refresh(t, p.RefreshToken).Tokens(t) // none of that has used it
	})
}
