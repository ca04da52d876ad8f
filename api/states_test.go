package api_test

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/handstamp/handstamp/pkg/oauth"
)

// cookies are those of the browser for the service, by name.
func (b *browser) cookies() map[string]*http.Cookie {
	b.t.Helper()
	u, err := url.Parse(b.s.URL)
	if err != nil {
		b.t.Fatal(err)
	}
	out := map[string]*http.Cookie{}
	for _, c := range b.client.Jar.Cookies(u) {
		out[c.Name] = c
	}
	return out
}

func (b *browser) setCookie(c *http.Cookie) {
	b.t.Helper()
	u, err := url.Parse(b.s.URL)
	if err != nil {
		b.t.Fatal(err)
	}
	b.client.Jar.SetCookies(u, []*http.Cookie{c})
}

// What a page says about a login holds for that login only. Here another user's login takes its place in the browser,
// between the login that the client demanded and the answer.
func TestStateHoldsForItsLogin(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		registerClient(t, w.Service, oauth.Client{ID: "swapped", ThirdParty: true})
		mine, other := signUp(t, w.Service), signUp(t, w.Service)
		demanding := authorizeURL(w.Service, map[string]string{"client_id": "swapped", "prompt": "login"})

		victim := newBrowser(t, w.Service)
		victim.logIn(victim.open(authorizeURL(w.Service, map[string]string{"client_id": "swapped"})), other.email)
		stolen := victim.cookies()["handstamp_login"]

		b := newBrowser(t, w.Service)
		consent := b.logIn(b.open(demanding), mine.email)
		_, values := consent.form(t, "consent")
		b.setCookie(&http.Cookie{Name: stolen.Name, Value: stolen.Value, Path: "/"})

		direct := b.submit(consent, "consent", map[string]string{"decision": "allow"})
		if direct.location != nil || !direct.has("login") {
			t.Errorf("the answer of another login: %d %v", direct.status, direct.location)
		}
		// The login page seals the request again, now in the other login.
		again := b.open(w.URL + "/oauth2/login?request=" + url.QueryEscape(values.Get("request")))
		_, values = again.form(t, "login")
		for _, path := range []string{"/oauth2/consent", "/oauth2/continue"} {
			values.Set("decision", "allow")
			p := b.post(path, values, map[string]string{"Origin": w.URL, "Sec-Fetch-Site": "same-origin"})
			if p.location != nil || !p.has("login") {
				t.Errorf("%s goes on without the login that was demanded: %d %v", path, p.status, p.location)
			}
		}
	})
}

// A state of one purpose is none for another, also within one browser and login.
func TestStateHasOnePurpose(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		registerClient(t, w.Service, oauth.Client{ID: "purposes", ThirdParty: true})
		p := signUp(t, w.Service)
		b := newBrowser(t, w.Service)
		consent := b.logIn(b.open(authorizeURL(w.Service, map[string]string{"client_id": "purposes"})), p.email)
		_, request := consent.form(t, "consent")
		_, logout := b.open(w.URL+"/oauth2/logout").form(t, "logout")
		if request.Get("request") == "" || logout.Get("request") == "" {
			t.Fatal("a page carries no state")
		}

		header := map[string]string{"Origin": w.URL, "Sec-Fetch-Site": "same-origin"}
		foreign := url.Values{"request": {logout.Get("request")}, "decision": {"allow"}, "email": {p.email}, "password": {"x"}}
		for _, path := range []string{"/oauth2/login", "/oauth2/signup", "/oauth2/continue", "/oauth2/consent"} {
			if got := b.post(path, foreign, header); got.status != http.StatusBadRequest || got.location != nil {
				t.Errorf("%s took the state of a logout: %d", path, got.status)
			}
		}
		for _, path := range []string{"/oauth2/login", "/oauth2/signup", "/oauth2/provider/x", "/oauth2/identities"} {
			if got := b.open(w.URL + path + "?request=" + url.QueryEscape(logout.Get("request"))); got.status != http.StatusBadRequest {
				t.Errorf("%s took the state of a logout: %d", path, got.status)
			}
		}
		if got := b.post("/oauth2/logout/confirm", url.Values{"request": {request.Get("request")}},
			header); got.status != http.StatusBadRequest {
			t.Errorf("logout took the state of a request: %d", got.status)
		}
		if got := b.open(w.URL + "/oauth2/identities?request=" +
			url.QueryEscape(request.Get("request"))); got.status != http.StatusBadRequest {
			t.Errorf("the adding of an identity took the state of a request: %d", got.status)
		}
		// All of that has changed nothing: the person is still logged in, and the page still works.
		if done := b.submit(consent, "consent", map[string]string{"decision": "allow"}); done.location == nil {
			t.Errorf("consent: %d\n%s", done.status, done.body)
		}
	})
}
