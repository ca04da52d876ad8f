package api_test

import (
	"html"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/oauth"
)

// openTabs opens addresses in one browser at the same time: no answer has come when the last request leaves, and all cookies
// arrive after that.
func (b *browser) openTabs(targets ...string) []page {
	b.t.Helper()
	u, err := url.Parse(b.s.URL)
	if err != nil {
		b.t.Fatal(err)
	}
	before := b.client.Jar.Cookies(u)
	pages := make([]page, len(targets))
	for i, target := range targets {
		tab := newBrowser(b.t, b.s)
		tab.client.Jar.SetCookies(u, before)
		pages[i] = tab.open(target)
	}
	for _, p := range pages {
		b.client.Jar.SetCookies(u, p.cookies)
	}
	return pages
}

func TestTabs(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := signUp(t, w.Service)
		b := newBrowser(t, w.Service)
		var targets []string
		for range 8 {
			targets = append(targets, authorizeURL(w.Service, map[string]string{"client_id": "web", "prompt": "login"}))
		}
		for i, tab := range b.openTabs(targets...) {
			if to := b.logIn(tab, p.email).location; to == nil || to.Query().Get("code") == "" {
				t.Errorf("tab %d ends at %v", i, to)
			}
		}
		if n := len(b.cookies()); n > 10 {
			t.Errorf("%d cookies", n)
		}
		b.open(targets[0])
		if n := len(b.cookies()); n > 10 {
			t.Errorf("%d cookies after another visit", n)
		}
	})
}

// Logins at providers are under way in several tabs, and each comes back to its own request.
func TestTabs_Providers(t *testing.T) {
	t.Parallel()
	servicetest.Each(t, func(t *testing.T, db servicetest.Database) {
		h := openHouse(t, db)
		says(h.liar, "tabs", "tabs@example.com", true)
		b := newBrowser(t, h.Service)
		backs := map[string]*url.URL{}
		for _, state := range []string{"one", "two", "three", "four", "five", "six"} {
			backs[state] = b.callback(b.follow(b.open(authorizeURL(h.Service, map[string]string{
				"state":  state,
				"prompt": "login",
			})), "liar"))
		}
		for state, back := range backs {
			if to := b.open(back.String()).location; to == nil || to.Query().Get("state") != state || to.Query().Get("code") == "" {
				t.Errorf("tab %s ends at %v", state, to)
			}
		}
		for range 30 { // begun and left; the cookies must still fit into a header
			b.follow(b.open(authorizeURL(h.Service, map[string]string{"state": strings.Repeat("s", 800), "prompt": "login"})), "liar")
		}
		size := 0
		for _, c := range b.cookies() {
			size += len(c.Name) + len(c.Value) + 3
		}
		if size > 7<<10 {
			t.Errorf("%d bytes of cookies", size)
		}
	})
}

var retryLink = regexp.MustCompile(`id="retry-link" href="([^"]*)"`)

// goOn follows the link of a page that has expired.
func (b *browser) goOn(p page) page {
	b.t.Helper()
	m := retryLink.FindStringSubmatch(p.body)
	if p.status != http.StatusBadRequest || m == nil {
		b.t.Fatalf("no way on: %d\n%s", p.status, p.body)
	}
	return b.open(b.s.URL + html.UnescapeString(m[1]))
}

// A page that has expired leads on to the same request, with everything that the client sent along.
func TestExpiredPageLeadsOn(t *testing.T) {
	t.Parallel()
	servicetest.Each(t, func(t *testing.T, db servicetest.Database) {
		h := openHouse(t, db)
		says(h.liar, "again", "again@example.com", true)
		ann := signUp(t, h.Service)
		target := authorizeURL(h.Service, map[string]string{"state": "keep & me"})
		arrive := func(t *testing.T, p page) {
			t.Helper()
			if p.code(t); p.location.Query().Get("state") != "keep & me" {
				t.Errorf("arrived with %v", p.location)
			}
		}
		t.Run("the cookies are gone", func(t *testing.T) {
			shown := newBrowser(t, h.Service).open(target)
			b := newBrowser(t, h.Service)
			arrive(t, b.logIn(b.goOn(b.logIn(shown, ann.email)), ann.email))
		})
		t.Run("back to a provider, and forth again", func(t *testing.T) {
			b := newBrowser(t, h.Service)
			back := b.callback(b.follow(b.open(target), "liar"))
			arrive(t, b.open(back.String()))
			arrive(t, b.goOn(b.open(back.String()))) // logged in, so without another form
		})
		t.Run("logout", func(t *testing.T) {
			b := newBrowser(t, h.Service)
			arrive(t, b.logIn(b.open(target), ann.email))
			shown := b.open(h.URL + "/oauth2/logout?ui_locales=de")
			b.logIn(b.open(authorizeURL(h.Service, map[string]string{"prompt": "login"})), ann.email)
			if p := b.goOn(b.submit(shown, "logout", nil)); !p.has("logout") || !strings.Contains(p.body, `lang="de"`) {
				t.Errorf("%d\n%s", p.status, p.body)
			}
		})
	})
}

// A page that asked one login is answered in another: the other one is asked.
func TestConsentIsAskedOfTheOtherLogin(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		registerClient(t, w.Service, oauth.Client{ID: "asks", ThirdParty: true})
		ann, ben := signUp(t, w.Service), signUp(t, w.Service)
		b := newBrowser(t, w.Service)
		target := authorizeURL(w.Service, map[string]string{"client_id": "asks"})
		consent := b.logIn(b.open(target), ann.email)
		b.logIn(b.open(authorizeURL(w.Service, map[string]string{"client_id": "web", "prompt": "login"})), ben.email).code(t)
		asked := b.submit(consent, "consent", map[string]string{"decision": "allow"})
		if asked.location != nil || !asked.has("consent") || !strings.Contains(asked.body, ben.email) {
			t.Fatalf("%d %v\n%s", asked.status, asked.location, asked.body)
		}
		b.submit(asked, "consent", map[string]string{"decision": "allow"}).code(t)
	})
}

// The query that a client has registered stays as it is, to the letter (RFC 6749, section 3.1.2).
func TestRegisteredQueryStays(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		const query = "?flag&b=1&a=2;c=3&x=a%20b&empty="
		registerClient(t, w.Service, oauth.Client{
			ID:                     "query",
			RedirectURIs:           []string{appRedirect + query},
			PostLogoutRedirectURIs: []string{appRedirect + query},
		})
		p := signUp(t, w.Service)
		b := newBrowser(t, w.Service)
		to := b.logIn(b.open(authorizeURL(w.Service, map[string]string{
			"client_id":    "query",
			"redirect_uri": appRedirect + query,
		})), p.email).location
		if to == nil || !strings.HasPrefix(to.String(), appRedirect+query+"&code=") {
			t.Fatalf("sent to %v", to)
		}
		confirm := b.open(w.URL + "/oauth2/logout?" + url.Values{
			"client_id":                {"query"},
			"post_logout_redirect_uri": {appRedirect + query},
			"state":                    {"s"},
		}.Encode())
		if to := b.submit(confirm, "logout", nil).location; to == nil || to.String() != appRedirect+query+"&state=s" {
			t.Errorf("after logout, sent to %v", to)
		}
	})
}

// A browser holds what follows on a form's answer to the policy of the form's page. So its answer is a page from which the way
// begins anew; anything else is redirected.
func TestFormAnswersBrowsersWithAPage(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		registerClient(t, w.Service, oauth.Client{ID: "native", RedirectURIs: []string{"com.example.app:/cb"}})
		p := signUp(t, w.Service)
		post := func(target string, fetch map[string]string) page {
			b := newBrowser(t, w.Service)
			action, values := b.open(target).form(t, "login")
			values.Set("email", p.email)
			values.Set("password", servicetest.Password)
			header := map[string]string{"Origin": w.URL, "Sec-Fetch-Site": "same-origin"}
			maps.Copy(header, fetch)
			return b.post(action, values, header)
		}
		navigates := map[string]string{"Sec-Fetch-Mode": "navigate"}
		got := post(authorizeURL(w.Service, map[string]string{"client_id": "web"}), navigates)
		refresh, found := strings.CutPrefix(got.header.Get("Refresh"), "0; url="+appRedirect+"?code=")
		if got.status != http.StatusOK || !found || refresh == "" || !got.has("onward-link") ||
			!strings.Contains(got.body, "app.example") {
			t.Errorf("%d %v\n%s", got.status, got.header, got.body)
		}
		post(authorizeURL(w.Service, map[string]string{"client_id": "web"}), nil).code(t)
		native := authorizeURL(w.Service, map[string]string{"client_id": "native", "redirect_uri": "com.example.app:/cb"})
		post(native, navigates).code(t)
	})
}

// What a client demands of a login holds for logins at providers as well.
func TestProviderLoginIsRecent(t *testing.T) {
	t.Parallel()
	servicetest.Each(t, func(t *testing.T, db servicetest.Database) {
		h := openHouse(t, db)
		at := func(stated any) {
			h.liar.Claims = func(c jwt.MapClaims) {
				c["sub"], c["email"], c["email_verified"] = "recent", "recent@example.com", true
				if stated != nil {
					c["auth_time"] = stated
				}
			}
		}
		ago := func(d time.Duration) int64 { return time.Now().Add(-d).Unix() }
		for name, c := range map[string]struct {
			stated  any
			demands map[string]string
			ok      bool
			asked   string // of the provider, in the end
		}{
			"ok/nothing is demanded":          {ago(24 * time.Hour), nil, true, ""},
			"ok/recent enough":                {ago(time.Minute), map[string]string{"max_age": "3600"}, true, "max_age=3600"},
			"fail/too old":                    {ago(2 * time.Hour), map[string]string{"max_age": "3600"}, false, "prompt=login"},
			"fail/of next year":               {ago(-365 * 24 * time.Hour), map[string]string{"max_age": "3600"}, false, "prompt=login"},
			"fail/not stated":                 {nil, map[string]string{"max_age": "3600"}, false, "max_age=3600"},
			"ok/prompt=login, now":            {ago(0), map[string]string{"prompt": "login"}, true, "prompt=login"},
			"ok/prompt=login, not stated":     {nil, map[string]string{"prompt": "login"}, true, "prompt=login"},
			"fail/prompt=login, of yesterday": {ago(24 * time.Hour), map[string]string{"prompt": "login"}, false, "prompt=login"},
			"fail/max_age=0, of an hour ago":  {ago(time.Hour), map[string]string{"max_age": "0"}, false, "prompt=login"},
			"ok/max_age=0, now":               {ago(0), map[string]string{"max_age": "0"}, true, "max_age=0"},
			"fail/both, older than one of them": {ago(10 * time.Second), map[string]string{"max_age": "1", "prompt": "login"}, false,
				"max_age=1"},
		} {
			t.Run(name, func(t *testing.T) {
				at(c.stated)
				b := newBrowser(t, h.Service)
				to := b.follow(b.open(authorizeURL(h.Service, c.demands)), "liar")
				p := b.open(b.callback(to).String())
				for p.location != nil && p.location.Query().Get("code") == "" { // sent there once more
					to = p
					p = b.open(b.callback(to).String())
				}
				if !strings.Contains(to.location.RawQuery, c.asked) {
					t.Errorf("the provider was asked %s", to.location.RawQuery)
				}
				if !c.ok {
					if p.location != nil || !p.has("login") || !p.has("error") {
						t.Errorf("%d %v", p.status, p.location)
					}
					return
				}
				claims := servicetest.Claims(t, redeem(t, h.Service, p.code(t)).Tokens(t).IDToken)
				got, _ := claims["auth_time"].(float64)
				want := float64(time.Now().Unix())
				if stated, ok := c.stated.(int64); ok {
					want = float64(stated)
				}
				if got < want-30 || got > want+30 {
					t.Errorf("auth_time %v, want about %v", got, want)
				}
			})
		}
	})
}
