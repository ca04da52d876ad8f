package api_test

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/upstream"
	"github.com/handstamp/handstamp/pkg/upstream/upstreamtest"
)

// house is a service whose users log in through providers: "liar" lies when asked to and is trusted with addresses,
// "second" lies too and is not, "github" is a fake, "members" makes no users. With withOIDCProvider there is "op" as
// well, npm's oidc-provider.
type house struct {
	*servicetest.Service
	liar, second, members *upstreamtest.Liar
	github                *upstreamtest.GitHub
}

func openHouse(t *testing.T, db servicetest.Database, change ...func(*service.Config)) house {
	t.Helper()
	h := house{
		liar:    upstreamtest.NewPlainLiar(t),
		second:  upstreamtest.NewPlainLiar(t),
		members: upstreamtest.NewPlainLiar(t),
		github:  upstreamtest.NewGitHub(t, true),
	}
	providers := func(c *service.Config) {
		for id, l := range map[string]*upstreamtest.Liar{"liar": h.liar, "second": h.second, "members": h.members} {
			config := l.Config(upstream.OIDC)
			config.ID, config.TrustEmail, config.DisableSignup = id, new(id != "second"), id == "members"
			c.Providers = append(c.Providers, config)
		}
		config := h.github.Config()
		config.ID = "github"
		c.Providers = append(c.Providers, config)
	}
	h.Service = servicetest.Start(t, db, append([]func(*service.Config){providers}, change...)...)
	registerClient(t, h.Service, oauth.Client{ID: "app"})
	return h
}

// withOIDCProvider starts npm's oidc-provider, which knows its client's redirect URI.
func withOIDCProvider(t *testing.T) func(*service.Config) {
	return func(c *service.Config) {
		c.Providers = append(c.Providers, upstream.Config{
			ID: "op", Type: upstream.OIDC, Issuer: upstreamtest.StartOIDCProvider(t, c.Issuer+"/oauth2/callback/op"),
			ClientID:            upstreamtest.ClientID,
			ClientSecret:        upstreamtest.ClientSecret,
			AllowPrivateNetwork: true,
			KeepTokens:          true,
			TrustEmail:          new(true),
		})
	}
}

var providerLink = regexp.MustCompile(`<a[^>]*id="provider-([a-z0-9-]+)"[^>]*href="([^"]*)"`)

// follow clicks on a provider's link, and stops at the address of the provider.
func (b *browser) follow(p page, provider string) page {
	b.t.Helper()
	for _, m := range providerLink.FindAllStringSubmatch(p.body, -1) {
		if m[1] == provider {
			return b.open(b.s.URL + html.UnescapeString(m[2]))
		}
	}
	b.t.Fatalf("no link #provider-%s: %d\n%s", provider, p.status, p.body)
	return page{}
}

// callback goes through the provider's pages and returns the address at which the browser would come back.
func (b *browser) callback(p page) *url.URL {
	b.t.Helper()
	if p.location == nil {
		b.t.Fatalf("not sent to a provider: %d\n%s", p.status, p.body)
	}
	for to := p.location; ; {
		r, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, to.String(), http.NoBody)
		if err != nil {
			b.t.Fatal(err)
		}
		response, err := b.client.Do(r)
		if err != nil {
			b.t.Fatal(err)
		}
		response.Body.Close()
		if to, err = response.Location(); err != nil {
			b.t.Fatalf("%s: %d without redirect", r.URL, response.StatusCode)
		}
		if to.Scheme+"://"+to.Host == b.s.URL {
			return to
		}
	}
}

// through logs in at the provider of the login page, and comes back.
func (b *browser) through(p page, provider string) page {
	b.t.Helper()
	return b.open(b.callback(b.follow(p, provider)).String())
}

// as is an authorization request that tells the provider whom to log in.
func (h house) as(hint string) string {
	return authorizeURL(h.Service, map[string]string{"login_hint": hint, "scope": "openid email profile account"})
}

// me is the user of an access token.
func (h house) me(t *testing.T, accessToken string) (me struct {
	ID            string `json:"sub"`
	Email         string `json:"email"`
	EmailVerified bool   `json:"email_verified"`
	Name          string `json:"name"`
}) {
	t.Helper()
	r := h.Get(t, "/oauth2/userinfo", accessToken)
	if r.Status != http.StatusOK {
		t.Fatalf("userinfo: %d %s", r.Status, r.Body)
	}
	r.JSON(t, &me)
	return me
}

// says is what a provider says of its user in ID tokens.
func says(l *upstreamtest.Liar, subject, email string, verified any) {
	l.Claims = func(c jwt.MapClaims) { c["sub"], c["email"], c["email_verified"] = subject, email, verified }
}

// users are the addresses of everybody.
func (h house) users(t *testing.T) (emails []string) {
	t.Helper()
	list, err := h.Store.Users(t.Context(), "", 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range list {
		emails = append(emails, u.Email)
	}
	return emails
}

func TestProviderLogin(t *testing.T) {
	t.Parallel()
	servicetest.Each(t, func(t *testing.T, db servicetest.Database) {
		h := openHouse(t, db, withOIDCProvider(t))
		b := newBrowser(t, h.Service)

		p := b.through(b.open(h.as("ada@example.com")), "op")
		tokens := redeem(t, h.Service, p.code(t)).Tokens(t)
		ada := h.me(t, tokens.AccessToken)
		if ada.Email != "ada@example.com" || !ada.EmailVerified || ada.Name != "Name of ada@example.com" {
			t.Fatalf("new user %+v", ada)
		}
		id := servicetest.Claims(t, tokens.IDToken)
		if amr, _ := id["amr"].([]any); len(amr) != 1 || amr[0] != "fed" || id["nonce"] != "some nonce" {
			t.Errorf("ID token %v", id)
		}

		t.Run("ok/the browser is logged in, as by password", func(t *testing.T) {
			b.open(authorizeURL(h.Service, map[string]string{"prompt": "none"})).code(t)
		})
		t.Run("ok/returning user, straight to the provider", func(t *testing.T) {
			other := newBrowser(t, h.Service)
			straight := other.open(authorizeURL(h.Service, map[string]string{
				"provider":   "op",
				"login_hint": "ada@example.com",
				"scope":      "openid email",
			}))
			tokens := redeem(t, h.Service, other.open(other.callback(straight).String()).code(t)).Tokens(t)
			if again := h.me(t, tokens.AccessToken); again.ID != ada.ID {
				t.Errorf("another user: %+v", again)
			}
		})
		t.Run("ok/another provider with the same verified address is the same user", func(t *testing.T) {
			says(h.liar, "ada-at-liar", "ada@example.com", true)
			other := newBrowser(t, h.Service)
			tokens := redeem(t, h.Service, other.through(other.open(h.as("")), "liar").code(t)).Tokens(t)
			if again := h.me(t, tokens.AccessToken); again.ID != ada.ID {
				t.Errorf("another user: %+v", again)
			}
		})
		t.Run("ok/GitHub", func(t *testing.T) {
			other := newBrowser(t, h.Service)
			tokens := redeem(t, h.Service, other.through(other.open(h.as("")), "github").code(t)).Tokens(t)
			if octocat := h.me(t, tokens.AccessToken); octocat.Email != "octocat@example.com" || !octocat.EmailVerified {
				t.Errorf("user %+v", octocat)
			}
		})
		t.Run("fail/OA-08 GitHub without a verified primary address", func(t *testing.T) {
			emails, user := h.github.Emails, h.github.User["id"]
			defer func() { h.github.Emails, h.github.User["id"] = emails, user }()
			h.github.Emails, h.github.User["id"] = []map[string]any{{
				"email":      "ada@example.com",
				"primary":    true,
				"verified":   false,
				"visibility": nil,
			}}, 4711
			other := newBrowser(t, h.Service)
			if p := other.through(other.open(h.as("")), "github"); p.location != nil || p.status != http.StatusForbidden ||
				!p.has("error") {
				t.Errorf("%d %v", p.status, p.location)
			}
		})
		t.Run("fail/denied: back on the login page, everything as it was", func(t *testing.T) {
			h.SignUp(t, "ben@example.com")
			other := newBrowser(t, h.Service)
			p := other.through(other.open(h.as("deny")), "op")
			if p.location != nil || !p.has("login") || !p.has("error") || strings.Contains(p.body, "<b>the user said no") {
				t.Fatalf("%d %v\n%s", p.status, p.location, p.body)
			}
			other.logIn(p, "ben@example.com").code(t)
		})
		t.Run("fail/a disabled user is told no more than anybody", func(t *testing.T) {
			u, err := h.Store.UserByEmail(t.Context(), "ada@example.com")
			if err != nil {
				t.Fatal(err)
			}
			if err := h.Sessions.DisableUser(t.Context(), u.ID, byOperator()); err != nil {
				t.Fatal(err)
			}
			other := newBrowser(t, h.Service)
			if p := other.through(other.open(h.as("ada@example.com")), "op"); p.location != nil || p.status != http.StatusForbidden ||
				strings.Contains(p.body, "disabled") {
				t.Errorf("%d %v\n%s", p.status, p.location, p.body)
			}
			if p := other.open(authorizeURL(h.Service,
				map[string]string{"prompt": "none"})); p.location.Query().Get("error") != "login_required" {
				t.Errorf("logged in: %v", p.location)
			}
		})
	})
}

func TestEM08_PreHijacking(t *testing.T) {
	t.Parallel()
	servicetest.Each(t, func(t *testing.T, db servicetest.Database) {
		h := openHouse(t, db, withOIDCProvider(t))
		const email = "victim@example.com"
		attacker := newBrowser(t, h.Service)
		stolen := h.SignUp(t, email)
		attacker.logIn(attacker.open(authorizeURL(h.Service, nil)), email).code(t)
		pending := attacker.open(authorizeURL(h.Service, nil)).code(t) // a code that waits to be redeemed

		says(h.second, "victim-at-second", email, true) // not trusted: proves nothing
		stranger := newBrowser(t, h.Service)
		if p := stranger.through(stranger.open(h.as("")), "second"); p.location != nil {
			t.Fatalf("a provider that is not trusted with addresses logged in: %v", p.location)
		}
		if r := h.Refresh(t, stolen.RefreshToken); r.Status != http.StatusOK {
			t.Fatalf("and changed something: %d %s", r.Status, r.Body)
		} else {
			stolen = r.Tokens(t)
		}

		victim := newBrowser(t, h.Service)
		tokens := redeem(t, h.Service, victim.through(victim.open(h.as(email)), "op").code(t)).Tokens(t)
		if me := h.me(t, tokens.AccessToken); me.Email != email || !me.EmailVerified {
			t.Fatalf("user %+v", me)
		}
		if r := h.JSON(t, http.MethodPost, "/v1/login", "",
			map[string]string{"email": email, "password": servicetest.Password}); r.Code() != "invalid_credentials" {
			t.Errorf("the attacker's password: %d %s", r.Status, r.Body)
		}
		if r := h.Refresh(t, stolen.RefreshToken); r.Code() != "invalid_grant" {
			t.Errorf("the attacker's session: %d %s", r.Status, r.Body)
		}
		servicetest.Eventually(t, "the attacker's access token is refused",
			func() bool { return h.Get(t, "/v1/me", stolen.AccessToken).Status == http.StatusUnauthorized })
		if p := attacker.open(authorizeURL(h.Service,
			map[string]string{"prompt": "none"})); p.location.Query().Get("error") != "login_required" {
			t.Errorf("the attacker's browser: %v", p.location)
		}
		if r := redeem(t, h.Service, pending); r.Code() != "invalid_grant" {
			t.Errorf("the attacker's code: %d %s", r.Status, r.Body)
		}
		if r := h.Get(t, "/v1/me", tokens.AccessToken); r.Status != http.StatusOK {
			t.Errorf("the victim's own access token: %d %s", r.Status, r.Body)
		}
	})
}

// attemptCookie is the name of the cookie that binds a login at a provider to the browser.
func attemptCookie(state seal.Secret) string {
	hash := upstream.HashSecret(state)
	return "handstamp_attempt_" + hex.EncodeToString(hash[:4])
}

func TestOA01_State(t *testing.T) {
	t.Parallel()
	servicetest.Each(t, func(t *testing.T, db servicetest.Database) {
		h := openHouse(t, db)
		says(h.liar, "ada", "ada@example.com", true)
		with := func(u *url.URL, change func(url.Values)) string {
			q := u.Query()
			change(q)
			changed := *u
			changed.RawQuery = q.Encode()
			return changed.String()
		}
		for name, attack := range map[string]func(b *browser, back *url.URL) page{
			"absent": func(b *browser, back *url.URL) page { return b.open(with(back, func(q url.Values) { q.Del("state") })) },
			"empty": func(b *browser, back *url.URL) page {
				return b.open(with(back, func(q url.Values) { q.Set("state", "") }))
			},
			"unknown": func(b *browser, back *url.URL) page {
				return b.open(with(back, func(q url.Values) { q.Set("state", "AAAABBBBCCCCDDDDEEEEFFFFGG") }))
			},
			"two of them": func(b *browser, back *url.URL) page {
				return b.open(with(back, func(q url.Values) { q.Add("state", q.Get("state")) }))
			},
			"used twice": func(b *browser, back *url.URL) page {
				b.open(back.String()).code(t)
				return b.open(back.String())
			},
			"other browser": func(_ *browser, back *url.URL) page { return newBrowser(t, h.Service).open(back.String()) },
			"other browser that is at it too": func(_ *browser, back *url.URL) page {
				other := newBrowser(t, h.Service)
				other.follow(other.open(h.as("")), "liar")
				return other.open(back.String())
			},
			"other provider": func(b *browser, back *url.URL) page {
				moved := *back
				moved.Path = "/oauth2/callback/second"
				return b.open(moved.String())
			},
		} {
			t.Run("fail/"+name, func(t *testing.T) {
				b := newBrowser(t, h.Service)
				back := b.callback(b.follow(b.open(h.as("")), "liar"))
				p := attack(b, back)
				if p.location != nil || p.status != http.StatusBadRequest || !p.has("error") {
					t.Errorf("%d %v", p.status, p.location)
				}
			})
		}
		t.Run("fail/expired", func(t *testing.T) {
			for name, c := range map[string]struct {
				expires time.Time
				status  int
			}{
				"in time": {time.Now().Add(time.Minute), http.StatusBadGateway}, // the provider is asked, and does not know the code
				"expired": {time.Now().Add(-time.Second), http.StatusBadRequest},
			} {
				state, cookie := seal.Secret(rand.Text()), seal.Secret(rand.Text())
				err := h.Store.SaveAttempt(t.Context(), upstream.Attempt{
					StateHash:   upstream.HashSecret(state),
					BrowserHash: upstream.HashSecret(cookie),
					Provider:    "liar",
					RedirectURI: h.URL + "/oauth2/callback/liar",
					Continue:    `{"p":"client_id=app"}`, ExpiresAt: c.expires,
				})
				if err != nil {
					t.Fatal(err)
				}
				r := h.Do(t, http.MethodGet, "/oauth2/callback/liar?"+url.Values{
					"code":  {"c"},
					"state": {string(state)},
					"iss":   {h.liar.Issuer()},
				}.Encode(),
					header("Cookie", attemptCookie(state)+"="+string(cookie)), nil)
				if r.Status != c.status {
					t.Errorf("%s: %d %s", name, r.Status, r.Body)
				}
			}
		})
		t.Run("fail/unknown provider", func(t *testing.T) {
			if p := newBrowser(t, h.Service).open(h.URL + "/oauth2/callback/nobody?code=c&state=s"); p.status != http.StatusNotFound ||
				!p.has("error") {
				t.Errorf("%d", p.status)
			}
		})
	})
}

// The provider, or somebody in its name, lies. What comes of it is one page, and nobody.
func TestOA_LyingProvider(t *testing.T) {
	t.Parallel()
	h := openHouse(t, servicetest.SQLite(t))
	before := len(h.users(t))
	const script = `<script>alert(1)</script>`
	for name, c := range map[string]struct {
		lie    func(l *upstreamtest.Liar)
		status int
	}{
		"OA-03 no nonce": {func(l *upstreamtest.Liar) { l.Claims = func(c jwt.MapClaims) { delete(c, "nonce") } },
			http.StatusBadGateway},
		"OA-03 another nonce": {func(l *upstreamtest.Liar) { l.Claims = func(c jwt.MapClaims) { c["nonce"] = "x" } },
			http.StatusBadGateway},
		"OA-04 iss of another": {func(l *upstreamtest.Liar) { l.Answer = func(v url.Values) { v.Set("iss", h.second.Issuer()) } },
			http.StatusBadGateway},
		"OA-04 no iss": {func(l *upstreamtest.Liar) { l.Answer = func(v url.Values) { v.Del("iss") } },
			http.StatusBadGateway},
		"OA-06 iss of the token": {func(l *upstreamtest.Liar) {
			l.Claims = func(c jwt.MapClaims) { c["iss"] = "https://evil.example" }
		}, http.StatusBadGateway},
		"OA-06 aud": {func(l *upstreamtest.Liar) { l.Claims = func(c jwt.MapClaims) { c["aud"] = "another" } },
			http.StatusBadGateway},
		"OA-06 expired": {func(l *upstreamtest.Liar) { l.Claims = func(c jwt.MapClaims) { c["exp"] = 1 } }, http.StatusBadGateway},
		"OA-06 alg none": {func(l *upstreamtest.Liar) {
			l.Sign = func(c jwt.MapClaims) string {
				return upstreamtest.Signed(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil, c)
			}
		}, http.StatusBadGateway},
		"OA-06 HS256 with the secret": {func(l *upstreamtest.Liar) {
			l.Sign = func(c jwt.MapClaims) string {
				return upstreamtest.Signed(jwt.SigningMethodHS256, []byte(upstreamtest.ClientSecret), map[string]any{"kid": "k1"}, c)
			}
		}, http.StatusBadGateway},
		"OA-07 not verified":       {func(l *upstreamtest.Liar) { says(l, "new", "new@example.com", false) }, http.StatusForbidden},
		"OA-07 verified is a text": {func(l *upstreamtest.Liar) { says(l, "new", "new@example.com", "TRUE") }, http.StatusForbidden},
		"OA-14 error with HTML": {func(l *upstreamtest.Liar) {
			l.Answer = func(v url.Values) {
				v.Del("code")
				v.Set("error", "server_error")
				v.Set("error_description", script)
			}
		}, http.StatusBadGateway},
		"OA-14 token error with HTML": {func(l *upstreamtest.Liar) {
			l.TokenAnswer = func(w http.ResponseWriter, _ *http.Request, _ func()) {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(http.StatusBadRequest)
				_, _ = w.Write([]byte(`{"error":"invalid_grant","error_description":"` + script + `"}`))
			}
		}, http.StatusBadGateway},
		"the token endpoint is down": {func(l *upstreamtest.Liar) {
			l.TokenAnswer = func(w http.ResponseWriter, _ *http.Request, _ func()) { w.WriteHeader(http.StatusInternalServerError) }
		}, http.StatusBadGateway},
	} {
		t.Run("fail/"+name, func(t *testing.T) {
			defer func() { h.liar.Claims, h.liar.Answer, h.liar.Sign, h.liar.TokenAnswer = nil, nil, nil, nil }()
			c.lie(h.liar)
			b := newBrowser(t, h.Service)
			p := b.through(b.open(h.as("")), "liar")
			if p.location != nil || p.status != c.status || !p.has("error") || strings.Contains(p.body, script) {
				t.Errorf("%d %v\n%s", p.status, p.location, p.body)
			}
			if p := b.open(authorizeURL(h.Service,
				map[string]string{"prompt": "none"})); p.location.Query().Get("error") != "login_required" {
				t.Errorf("logged in: %v", p.location)
			}
		})
	}
	t.Run("fail/OA-05 code of another browser", func(t *testing.T) {
		says(h.liar, "victim", "victim@example.com", true)
		victim, attacker := newBrowser(t, h.Service), newBrowser(t, h.Service)
		code := victim.callback(victim.follow(victim.open(h.as("")), "liar")).Query().Get("code")
		back := attacker.callback(attacker.follow(attacker.open(h.as("")), "liar"))
		q := back.Query()
		q.Set("code", code)
		back.RawQuery = q.Encode()
		if p := attacker.open(back.String()); p.location != nil || p.status != http.StatusBadGateway {
			t.Errorf("%d %v", p.status, p.location)
		}
	})
	t.Run("fail/down from the start", func(t *testing.T) {
		h.members.Close()
		b := newBrowser(t, h.Service)
		login := b.open(h.as(""))
		if p := b.follow(login, "members"); p.location != nil || p.status != http.StatusBadGateway || !p.has("error") {
			t.Errorf("%d %v", p.status, p.location)
		}
		h.SignUp(t, "ben@example.com")
		b.logIn(login, "ben@example.com").code(t) // the other ways are open
	})
	if after := h.users(t); len(after) != before+1 {
		t.Errorf("half-made users: %v", after)
	}
	if log := h.Log.String(); strings.Contains(log, upstreamtest.ClientSecret) || strings.Contains(log, script) {
		t.Error("OA-11: the log holds what it must not")
	}
}

func TestOA17_NoNewUsers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change   func(*service.Config)
		provider string
	}{
		"sign-up is off":                 {func(c *service.Config) { c.Signup = false }, "liar"},
		"the provider makes no users":    {func(*service.Config) {}, "members"},
		"neither gives a proven address": {func(*service.Config) {}, "second"},
	} {
		t.Run("fail/"+name, func(t *testing.T) {
			h := openHouse(t, servicetest.SQLite(t), c.change)
			b := newBrowser(t, h.Service)
			if p := b.through(b.open(h.as("")), c.provider); p.location != nil || p.status != http.StatusForbidden || !p.has("error") {
				t.Errorf("%d %v", p.status, p.location)
			}
			if users := h.users(t); len(users) != 0 {
				t.Errorf("users %v", users)
			}
		})
	}
	t.Run("fail/a provider that is not configured", func(t *testing.T) {
		h := openHouse(t, servicetest.SQLite(t))
		if p := newBrowser(t, h.Service).open(authorizeURL(h.Service, map[string]string{"provider": "nobody"})); p.location != nil ||
			p.status != http.StatusNotFound || !p.has("error") {
			t.Errorf("%d %v", p.status, p.location)
		}
	})
}

func TestOA15_Identities(t *testing.T) {
	t.Parallel()
	servicetest.Each(t, func(t *testing.T, db servicetest.Database) {
		h := openHouse(t, db, withOIDCProvider(t))
		ada := newBrowser(t, h.Service)
		tokens := redeem(t, h.Service, ada.through(ada.open(h.as("ada@example.com")), "op").code(t)).Tokens(t)
		list := func(accessToken string) (out []string) {
			var body struct {
				Identities []struct {
					Provider, Subject string
				}
			}
			h.Get(t, "/v1/identities", accessToken).JSON(t, &body)
			for _, one := range body.Identities {
				out = append(out, one.Provider+" "+one.Subject)
			}
			return out
		}
		link := func(accessToken, provider string) string {
			r := h.JSON(t, http.MethodPost, "/v1/identities/"+provider, accessToken, map[string]string{"return_to": appRedirect})
			var body struct{ URL string }
			if r.JSON(t, &body); r.Status != http.StatusOK {
				t.Fatalf("%d %s", r.Status, r.Body)
			}
			return body.URL
		}
		add := func(b *browser, accessToken, provider string) page {
			p := b.open(link(accessToken, provider))
			if p.location == nil {
				return p
			}
			return b.open(b.callback(p).String())
		}
		remove := func(accessToken, provider string) servicetest.Response {
			return h.JSON(t, http.MethodDelete, "/v1/identities/"+provider, accessToken, nil)
		}

		if got := list(tokens.AccessToken); len(got) != 1 || got[0] != "op ada@example.com" {
			t.Fatalf("identities %v", got)
		}
		want(t, "the last way in", remove(tokens.AccessToken, "op"), http.StatusConflict, "last_credential")
		want(t, "no such identity", remove(tokens.AccessToken, "github"), http.StatusNotFound, "not_found")
		want(t, "return address of a stranger",
			h.JSON(t, http.MethodPost, "/v1/identities/liar", tokens.AccessToken,
				map[string]string{"return_to": "https://evil.example/"}), http.StatusBadRequest, "invalid_request")

		says(h.liar, "ada-elsewhere", "elsewhere@example.com", true)
		t.Run("fail/another browser", func(t *testing.T) {
			eve := newBrowser(t, h.Service)
			if p := add(eve, tokens.AccessToken, "liar"); p.location != nil || p.status != http.StatusForbidden {
				t.Errorf("not logged in: %d %v", p.status, p.location)
			}
			h.SignUp(t, "eve@example.com")
			eve.logIn(eve.open(authorizeURL(h.Service, nil)), "eve@example.com").code(t)
			if p := add(eve, tokens.AccessToken, "liar"); p.location != nil || p.status != http.StatusForbidden {
				t.Errorf("logged in as another: %d %v", p.status, p.location)
			}
		})
		t.Run("fail/logged out meanwhile", func(t *testing.T) {
			b := newBrowser(t, h.Service)
			mine := redeem(t, h.Service, b.through(b.open(h.as("ada@example.com")), "op").code(t)).Tokens(t)
			back := b.callback(b.open(link(mine.AccessToken, "liar")))
			b.open(h.URL + "/oauth2/logout?" + url.Values{"id_token_hint": {mine.IDToken}}.Encode())
			if p := b.open(back.String()); p.location != nil || p.status != http.StatusBadRequest {
				t.Errorf("%d %v", p.status, p.location)
			}
		})
		if p := add(ada, tokens.AccessToken, "liar"); p.location == nil || p.location.String() != appRedirect {
			t.Fatalf("add: %d %v\n%s", p.status, p.location, p.body)
		}
		if got := list(tokens.AccessToken); len(got) != 2 {
			t.Fatalf("identities %v", got)
		}
		t.Run("fail/an identity of another user", func(t *testing.T) {
			eve := newBrowser(t, h.Service)
			hers := redeem(t, h.Service, eve.logIn(eve.open(authorizeURL(h.Service, forAccount())), "eve@example.com").code(t)).Tokens(t)
			if p := add(eve, hers.AccessToken, "liar"); p.location != nil || p.status != http.StatusConflict {
				t.Errorf("%d %v", p.status, p.location)
			}
			if got := list(hers.AccessToken); len(got) != 0 {
				t.Errorf("identities %v", got)
			}
		})
		t.Run("fail/a second identity at one provider", func(t *testing.T) {
			says(h.liar, "ada-third", "third@example.com", true)
			defer says(h.liar, "ada-elsewhere", "elsewhere@example.com", true)
			if p := add(ada, tokens.AccessToken, "liar"); p.location != nil || p.status != http.StatusConflict {
				t.Errorf("%d %v", p.status, p.location)
			}
		})
		t.Run("ok/provider tokens", func(t *testing.T) {
			r := h.Get(t, "/v1/identities/op/token", tokens.AccessToken)
			var body struct {
				AccessToken string `json:"access_token"`
				TokenType   string `json:"token_type"`
			}
			if r.JSON(t, &body); r.Status != http.StatusOK || body.AccessToken == "" || body.TokenType != "Bearer" ||
				r.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("%d %s", r.Status, r.Body)
			}
			want(t, "not kept", h.Get(t, "/v1/identities/liar/token", tokens.AccessToken), http.StatusNotFound, "not_found")
		})
		want(t, "remove", remove(tokens.AccessToken, "op"), http.StatusNoContent, "")
		want(t, "the last way in, now", remove(tokens.AccessToken, "liar"), http.StatusConflict, "last_credential")
		t.Run("ok/the new one logs in the same user", func(t *testing.T) {
			b := newBrowser(t, h.Service)
			again := redeem(t, h.Service, b.through(b.open(h.as("")), "liar").code(t)).Tokens(t)
			if h.me(t, again.AccessToken).ID != h.me(t, tokens.AccessToken).ID {
				t.Error("another user")
			}
		})
	})
}

func TestNativeIDToken(t *testing.T) {
	t.Parallel()
	servicetest.Each(t, func(t *testing.T, db servicetest.Database) {
		h := openHouse(t, db)
		says(h.liar, "ada", "ada@example.com", true)
		const nonce = "a nonce of the application"
		sum := sha256.Sum256([]byte(nonce))
		logIn := func(provider, token, nonce string) servicetest.Response {
			return h.JSON(t, http.MethodPost, "/v1/login/"+provider+"/id-token", "", map[string]string{"id_token": token, "nonce": nonce})
		}
		token := h.liar.IDToken(hex.EncodeToString(sum[:]))
		want(t, "another nonce", logIn("liar", token, "another"), http.StatusUnauthorized, "invalid_credentials")
		want(t, "another provider", logIn("second", token, nonce), http.StatusUnauthorized, "invalid_credentials")
		want(t, "no ID tokens there", logIn("github", token, nonce), http.StatusBadRequest, "not_supported")
		want(t, "no such provider", logIn("nobody", token, nonce), http.StatusNotFound, "unknown_provider")
		want(t, "no nonce", logIn("liar", token, ""), http.StatusBadRequest, "invalid_request")
		want(t, "an access token of ours", logIn("liar", h.SignUp(t, "eve@example.com").AccessToken, nonce), http.StatusUnauthorized,
			"invalid_credentials")

		tokens := logIn("liar", token, nonce).Tokens(t)
		if tokens.RefreshToken == "" || h.Refresh(t, tokens.RefreshToken).Status != http.StatusOK {
			t.Error("no session")
		}
		want(t, "OA-03 the same token again", logIn("liar", token, nonce), http.StatusUnauthorized, "invalid_credentials")

		yesterday := time.Now().Add(-24 * time.Hour).Unix()
		h.liar.Claims = func(c jwt.MapClaims) { c["sub"], c["email"], c["auth_time"] = "ada", "ada@example.com", yesterday }
		old := servicetest.Claims(t, logIn("liar", h.liar.IDToken(nonce), nonce).Tokens(t).AccessToken)
		if at, _ := old["auth_time"].(float64); at != float64(yesterday) {
			t.Errorf("auth_time %v, but the provider states %d", old["auth_time"], yesterday)
		}

		sub, _ := servicetest.Claims(t, tokens.AccessToken)["sub"].(string)
		if err := h.Sessions.DisableUser(t.Context(), sub, session.By{Actor: audit.ActorCLI}); err != nil {
			t.Fatal(err)
		}
		h.liar.Claims = func(c jwt.MapClaims) { c["sub"], c["jti"] = "ada", "another" }
		want(t, "disabled user", logIn("liar", h.liar.IDToken(nonce), nonce), http.StatusUnauthorized, "invalid_credentials")
	})
}
