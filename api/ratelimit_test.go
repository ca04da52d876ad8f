package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/oauth"
)

// seenFrom is the address that the service takes a request with some header fields to come from: that of the session
// which it begins.
func seenFrom(t *testing.T, s *servicetest.Service, p person, h http.Header) string {
	t.Helper()
	tokens := postJSON(t, s, "/v1/login", h, fmt.Sprintf(`{"email":%q,"password":%q}`, p.email, servicetest.Password)).Tokens(t)
	var list struct {
		Sessions []struct {
			IP      string
			Current bool
		}
	}
	s.Get(t, "/v1/sessions", tokens.AccessToken).JSON(t, &list)
	for _, one := range list.Sessions {
		if one.Current {
			return one.IP
		}
	}
	t.Fatal("no current session")
	return ""
}

func TestRL01_ClientAddress(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		direct := servicetest.Start(t, db)
		behind := servicetest.Start(t, db, sameIssuer(direct),
			func(c *service.Config) { c.TrustedProxies = []string{"127.0.0.1", "10.0.0.0/8", "fd00::/8"} })
		p := signUp(t, direct)
		const peer = "127.0.0.1"
		for name, row := range map[string]struct {
			header  http.Header
			trusted string // the address behind trusted proxies; without any it is always the peer's
		}{
			"nothing":            {nil, peer},
			"one":                {header("X-Forwarded-For", "203.0.113.1"), "203.0.113.1"},
			"the nearest counts": {header("X-Forwarded-For", "1.2.3.4, 203.0.113.1"), "203.0.113.1"},
			"two headers":        {header("X-Forwarded-For", "1.2.3.4", "X-Forwarded-For", "203.0.113.1"), "203.0.113.1"},
			"through a proxy":    {header("X-Forwarded-For", "1.2.3.4, 203.0.113.1, 10.1.2.3"), "203.0.113.1"},
			"proxies only":       {header("X-Forwarded-For", "10.9.9.9, 10.1.2.3"), "10.9.9.9"},
			"through IPv6":       {header("X-Forwarded-For", "203.0.113.1, fd00::1"), "203.0.113.1"},
			"port":               {header("X-Forwarded-For", "203.0.113.1:4711"), "203.0.113.1"},
			"IPv6":               {header("X-Forwarded-For", "2001:db8::1"), "2001:db8::1"},
			"IPv6 in full":       {header("X-Forwarded-For", "2001:0DB8:0000::0001"), "2001:db8::1"},
			"IPv6 and port":      {header("X-Forwarded-For", "[2001:db8::1]:4711"), "2001:db8::1"},
			"zone":               {header("X-Forwarded-For", "fe80::1%eth0"), "fe80::1"},
			"mapped":             {header("X-Forwarded-For", "::ffff:203.0.113.1"), "203.0.113.1"},
			"mapped proxy":       {header("X-Forwarded-For", "203.0.113.1, ::ffff:10.1.2.3"), "203.0.113.1"},
			"blanks":             {header("X-Forwarded-For", "  203.0.113.1  "), "203.0.113.1"},
			"junk":               {header("X-Forwarded-For", "unknown"), peer},
			"junk before":        {header("X-Forwarded-For", "unknown, 203.0.113.1"), "203.0.113.1"},
			"junk after":         {header("X-Forwarded-For", "203.0.113.1, unknown"), peer},
			"junk between":       {header("X-Forwarded-For", "203.0.113.1, <script>, 10.1.2.3"), "10.1.2.3"},
			"empty":              {header("X-Forwarded-For", ""), peer},
			"empty at the end":   {header("X-Forwarded-For", "203.0.113.1,"), peer},
			"octal":              {header("X-Forwarded-For", "0177.0.0.1"), peer},
			"decimal":            {header("X-Forwarded-For", "2130706433"), peer},
			"name":               {header("X-Forwarded-For", "localhost"), peer},
			"long":               {header("X-Forwarded-For", strings.Repeat("1.2.3.4, ", 500)+"203.0.113.1"), "203.0.113.1"},
			"X-Real-IP":          {header("X-Real-IP", "203.0.113.1"), peer},
			"Forwarded":          {header("Forwarded", "for=203.0.113.1"), peer},
			"True-Client-IP":     {header("True-Client-IP", "203.0.113.1"), peer},
			"CF-Connecting-IP":   {header("CF-Connecting-IP", "203.0.113.1"), peer},
			"Client-IP": {header("Client-IP", "203.0.113.1", "X-Client-IP", "203.0.113.1", "X-Cluster-Client-IP",
				"203.0.113.1"), peer},
			"underscores":      {http.Header{"X_Forwarded_For": {"203.0.113.1"}}, peer},
			"RL-05/hop by hop": {header("Connection", "X-Forwarded-For, close", "X-Forwarded-For", "203.0.113.1"), "203.0.113.1"},
			"RL-05/forwarded host": {header("X-Forwarded-Host", "203.0.113.1", "X-Original-Host", "203.0.113.1",
				"X-Custom-Forward-Host", "203.0.113.1"), peer},
			"RL-05/forwarded scheme": {header("X-Forwarded-Proto", "https", "X-Forwarded-Port", "1", "X-Forwarded-Server", "a"), peer},
		} {
			if got := seenFrom(t, direct, p, row.header); got != peer {
				t.Errorf("%s: without trusted proxies: %s", name, got)
			}
			if got := seenFrom(t, behind, p, row.header); got != row.trusted {
				t.Errorf("%s: behind trusted proxies: %s, want %s", name, got, row.trusted)
			}
		}
	})
}

// A stranger who makes up addresses gets no more attempts.
func TestRL01_MadeUpAddresses(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db, func(c *service.Config) { c.LoginIPFailures, c.LoginIPFailureEvery = 5, time.Hour })
		checked := 0
		for i := range 20 {
			made := fmt.Sprintf("1.2.3.%d", i)
			h := header("X-Forwarded-For", made, "X-Real-IP", made, "Forwarded", "for="+made, "True-Client-IP", made)
			if postJSON(t, s, "/v1/login", h, `{"email":"`+newEmail()+`","password":"not the password"}`).
				Status == http.StatusUnauthorized {
				checked++
			}
		}
		if checked != 5 {
			t.Errorf("%d passwords were checked, want 5", checked)
		}
	})
}

// What must hold exactly is counted in the database: for all replicas together, and across a restart. Addresses are
// counted by each replica.
func TestRL03_SharedAndLocalLimits(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		limits := func(c *service.Config) {
			c.LoginAttempts, c.LoginAttemptEvery = 4, time.Hour
			c.LoginIPFailures, c.LoginIPFailureEvery, c.TrustedProxies = 3, time.Hour, []string{"127.0.0.1"}
		}
		s := servicetest.Start(t, db, limits)
		other := servicetest.Start(t, db, limits, sameIssuer(s))
		try := func(s *servicetest.Service, ip, email string) int {
			return postJSON(t, s, "/v1/login", header("X-Forwarded-For", ip),
				fmt.Sprintf(`{"email":%q,"password":"not the password"}`, email)).Status
		}
		email := newEmail()
		for i, replica := range []*servicetest.Service{s, other, s, other} {
			if got := try(replica, fmt.Sprintf("198.51.100.%d", i), email); got != http.StatusUnauthorized {
				t.Errorf("attempt %d at the account: %d", i+1, got)
			}
		}
		restarted := servicetest.Start(t, db, limits, sameIssuer(s))
		for name, replica := range map[string]*servicetest.Service{"one": s, "the other": other, "a new": restarted} {
			if got := try(replica, "198.51.100.99", email); got != http.StatusTooManyRequests {
				t.Errorf("the fifth attempt at the account, at %s replica: %d", name, got)
			}
		}
		for range 3 {
			try(s, "203.0.113.5", newEmail())
		}
		if got := try(s, "203.0.113.5", newEmail()); got != http.StatusTooManyRequests {
			t.Errorf("the fourth attempt from the address: %d", got)
		}
		if got := try(other, "203.0.113.5", newEmail()); got != http.StatusUnauthorized {
			t.Errorf("from the same address at the other replica: %d", got)
		}
	})
}

// The limit is the handler's, so no way to write the address of the route goes round it.
func TestRL06_WaysToWriteARoute(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db, func(c *service.Config) { c.LoginIPFailures, c.LoginIPFailureEvery = 2, time.Hour })
		body := func() string { return `{"email":"` + newEmail() + `","password":"not the password"}` }
		for range 2 {
			want(t, "allowed", postJSON(t, s, "/v1/login", nil, body()), http.StatusUnauthorized, "")
		}
		before := s.Hasher.Stats().Evaluations
		for _, path := range []string{
			"/v1/login", "/v1/login/", "//v1/login", "/v1//login", "/v1/./login", "/v1/x/../login", "/v1/%6cogin", "/v1%2flogin",
			"/V1/LOGIN", "/v1/login;a", "/v1/login%20", "/v1/login%00", "/v1/login?a", "/v1/login?", "/v1/login.json", "/v1/login%2f",
			"/v1/login/..",
		} {
			for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodHead, http.MethodPut, "post"} {
				h := header("Content-Type", "application/json", "X-HTTP-Method-Override", "POST", "X-Original-URL", "/v1/login",
					"X-Rewrite-URL", "/v1/login")
				r, err := s.Try(t.Context(), method, path, h, strings.NewReader(body()))
				if err == nil && (r.Status == http.StatusOK || r.Status == http.StatusUnauthorized) {
					t.Errorf("%s %s: %d %s", method, path, r.Status, r.Body)
				}
			}
		}
		if got := s.Hasher.Stats().Evaluations - before; got != 0 {
			t.Errorf("%d passwords were checked beyond the limit", got)
		}
		// The page has the same limit.
		registerClient(t, s, oauth.Client{ID: "app"})
		b := newBrowser(t, s)
		page := b.open(authorizeURL(s, nil))
		if refused := b.submit(page, "login", map[string]string{"email": newEmail(),
			"password": "not the password"}); refused.status != http.StatusTooManyRequests || refused.header.Get("Retry-After") == "" {
			t.Errorf("the page: %d", refused.status)
		}
		if got := s.Hasher.Stats().Evaluations - before; got != 0 {
			t.Errorf("%d passwords were checked on the page", got)
		}
		// So has the change of a password: a thief of an access token could guess the password there.
		p := signUp(t, s)
		before = s.Hasher.Stats().Evaluations
		change := `{"current_password":"not the password","new_password":"violet-otter-93-again"}`
		changed := s.Do(t, http.MethodPost, "/v1/password/change", bearer(p.AccessToken, "Content-Type", "application/json"),
			strings.NewReader(change))
		want(t, "a change of the password", changed, http.StatusTooManyRequests, "too_many_attempts")
		if changed.Header.Get("Retry-After") == "" {
			t.Error("a change of the password: no Retry-After")
		}
		if got := s.Hasher.Stats().Evaluations - before; got != 0 {
			t.Errorf("%d passwords were checked at the change of a password", got)
		}
	})
}
