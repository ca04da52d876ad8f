package api_test

import (
	"bytes"
	"crypto/rand"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/account"
	"github.com/handstamp/handstamp/pkg/mail/mailtest"
	"github.com/handstamp/handstamp/pkg/oauth"
)

// kept waits for n mails of a kind to an address among those that a service keeps as files, and reads them in no order.
func kept(t testing.TB, s *servicetest.Service, kind, to string, n int) (found []received) {
	t.Helper()
	servicetest.Eventually(t, "a mail is kept", func() bool {
		found = nil
		files, err := filepath.Glob(s.Config.MailDir + "/*-" + kind + "-*.eml")
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(files)
		for _, name := range files {
			raw, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(raw, []byte("To: <"+to+">")) {
				found = append(found, read(t, mailtest.Mail{To: to, Raw: raw}))
			}
		}
		return len(found) >= n
	})
	return found
}

// recovery is what a person does who has forgotten the password.
func (c *checked) recovery(s *servicetest.Service) {
	c.t.Helper()
	p := person{email: "fay@example.com"}
	p.Tokens = s.SignUp(c.t, p.email)
	c.json(s, 400, "POST", "/v1/password/forgot", "", object{"email": "nobody"})
	c.json(s, 202, "POST", "/v1/password/forgot", "", object{"email": p.email})
	m := kept(c.t, s, "reset", p.email, 1)[0]
	c.json(s, 400, "POST", "/v1/password/reset", "", object{"token": m.token, "password": "short"})
	c.json(s, 204, "POST", "/v1/password/reset", "", object{"token": m.token, "password": nextPassword})
	c.json(s, 400, "POST", "/v1/password/reset", "", object{"token": m.token, "password": nextPassword})
	c.json(s, 400, "POST", "/v1/password/reset", "", object{"email": p.email, "code": m.code, "password": nextPassword})

	first := addUser(c.t, s, "") // who came through a provider
	token := sessionAt(c.t, s, first, oauth.DefaultClientID, "account")
	c.json(s, 400, "POST", "/v1/password/set", token, object{"password": "short"})
	c.json(s, 200, "POST", "/v1/password/set", token, object{"password": nextPassword})
	has := logsIn(c.t, s, first.email, nextPassword).Tokens(c.t)
	c.json(s, 409, "POST", "/v1/password/set", has.AccessToken, object{"password": nextPassword})
	stale := oauth.Client{ID: "no-account-" + strings.ToLower(rand.Text()[:8]), NoAccount: true}
	registerClient(c.t, s, stale)
	c.json(s, 403, "POST", "/v1/password/set", sessionAt(c.t, s, first, stale.ID, "openid"), object{"password": nextPassword})

	b := c.browse(s)
	forgot := b.click(b.open(authorizeURL(s, nil)), "forgot-link")
	b.submit(forgot, "forgot", map[string]string{"email": "nobody"})
	sent := b.submit(forgot, "forgot", map[string]string{"email": p.email})
	b.submit(sent, "reset", map[string]string{"code": "1", "password": "copper-heron-51"})
	link := kept(c.t, s, "reset", p.email, 2)
	for _, m := range link {
		b.open(m.link)
	}
	code := ""
	for _, m := range link {
		if shown := b.open(m.link); shown.status == 200 {
			code = m.code
		}
	}
	b.submit(sent, "reset", map[string]string{"code": code, "password": "copper-heron-51"})
	b.open(s.URL + "/oauth2/forgot?request=none")
	b.open(s.URL + "/oauth2/verify?token=none")
	for _, path := range []string{"/oauth2/forgot", "/oauth2/reset", "/oauth2/verify"} {
		if got := b.post(path, url.Values{}, map[string]string{"Origin": "https://evil.example"}); got.status != 403 {
			c.t.Errorf("%s from another site: %d", path, got.status)
		}
	}
}

// proving is a service where addresses are proven before anything else.
func (c *checked) proving(db servicetest.Database, open *servicetest.Service) {
	c.t.Helper()
	old := open.SignUp(c.t, "gil@example.com")
	s := servicetest.Start(c.t, db, sameIssuer(open), func(cfg *service.Config) {
		cfg.EmailVerification, cfg.MailDir = "required", open.Config.MailDir // one of the replicas sends
	})
	c.json(s, 403, "POST", "/v1/login", "", object{"email": "gil@example.com", "password": servicetest.Password})
	c.json(s, 202, "POST", "/v1/email/verify/resend", old.AccessToken, object{})
	email := "hal@example.com"
	c.json(s, 202, "POST", "/v1/signup", "", object{"email": email, "password": servicetest.Password})
	m := kept(c.t, s, "verify", email, 1)[0]
	c.json(s, 400, "POST", "/v1/email/verify", "", object{"email": email, "code": "12345678"})
	c.json(s, 204, "POST", "/v1/email/verify", "", object{"token": m.token})
	b := c.browse(s)
	email = "ida@example.com"
	waiting := b.submit(b.open(authorizeURL(s, map[string]string{"prompt": "create"})), "signup",
		map[string]string{"email": email, "name": "", "password": servicetest.Password})
	m = kept(c.t, s, "verify", email, 1)[0]
	link := b.open(m.link)
	b.submit(waiting, "verify", map[string]string{"code": "12345678"})
	b.submit(waiting, "verify", map[string]string{"code": m.code}).code(c.t)
	if got := b.submit(link, "verify", nil); got.status != 400 {
		c.t.Errorf("a used link: %d", got.status)
	}
	held := servicetest.Start(c.t, db, sameIssuer(open), func(cfg *service.Config) {
		cfg.EmailVerification, cfg.MailIPLimit, cfg.MailIPEvery = "required", 1, time.Hour
		cfg.MailDir = open.Config.MailDir
	})
	b = c.browse(held)
	waiting = b.submit(b.open(authorizeURL(held, map[string]string{"prompt": "create"})), "signup",
		map[string]string{"email": newEmail(), "name": "", "password": servicetest.Password})
	b.submit(waiting, "verify", map[string]string{"code": "12345678"})
	c.json(held, 429, "POST", "/v1/email/verify", "", object{"email": email, "flow": "f", "code": "12345678"})
	c.json(held, 429, "POST", "/v1/email/verify/resend", old.AccessToken, object{})
	b = c.browse(s)
	email = "jon@example.com"
	c.json(s, 202, "POST", "/v1/signup", "", object{"email": email, "password": servicetest.Password})
	b.submit(b.open(kept(c.t, s, "verify", email, 1)[0].link), "verify", nil)
}

// withoutMail is a service that sends none.
func (c *checked) withoutMail(db servicetest.Database) {
	c.t.Helper()
	s := servicetest.Start(c.t, db, func(cfg *service.Config) { cfg.Issuer, cfg.Audience = "https://login.example", nil })
	c.json(s, 403, "POST", "/v1/password/forgot", "", object{"email": newEmail()})
	c.json(s, 403, "POST", "/v1/password/reset", "", object{"token": "t", "password": nextPassword})
	c.json(s, 403, "POST", "/v1/email/verify", "", object{"token": "t"})
	c.json(s, 403, "POST", "/v1/email/verify/resend", s.SignUp(c.t, newEmail()).AccessToken, object{})
	c.exchange(s, 404, "GET", "/oauth2/verify?token=t", nil, "")
	c.exchange(s, 404, "GET", "/oauth2/forgot", nil, "")
	c.exchange(s, 404, "GET", "/oauth2/reset?token=t", nil, "")
}

func (c *checked) recoveryThrottled(s *servicetest.Service) {
	c.t.Helper()
	b := c.browse(s)
	forgot := b.open(s.URL + "/oauth2/forgot")
	sent := b.submit(forgot, "forgot", map[string]string{"email": newEmail()})
	b.submit(forgot, "forgot", map[string]string{"email": newEmail()})
	b.submit(sent, "reset", map[string]string{"code": "12345678", "password": nextPassword})
	c.json(s, 429, "POST", "/v1/password/forgot", "", object{"email": newEmail()})
	c.json(s, 429, "POST", "/v1/password/reset", "", object{
		"email": newEmail(), "flow": "f", "code": "12345678", "password": nextPassword,
	})
}

// waiting is a browser that waits for a mail.
type waiting struct {
	*checked
	*browser
	page
	link page // that proves an address
}

func (c *checked) waits(s *servicetest.Service) waiting {
	b := c.browse(s)
	return waiting{
		checked: c,
		browser: b,
		page:    b.submit(b.open(s.URL+"/oauth2/forgot"), "forgot", map[string]string{"email": newEmail()}),
		link:    b.open(s.URL + "/oauth2/verify?token=" + proofOf(c.t, s, signUp(c.t, s), account.Verify)),
	}
}

// unavailable asks a service whose database is gone; user is a browser that was logged in, with the state of a page.
func (w waiting) unavailable(s *servicetest.Service, user *browser, state url.Values) {
	t := w.checked.t
	t.Helper()
	w.json(s, 503, "POST", "/v1/password/forgot", "", object{"email": newEmail()})
	w.json(s, 503, "POST", "/v1/password/reset", "", object{"token": "t", "password": nextPassword})
	w.json(s, 503, "POST", "/v1/email/verify", "", object{"token": "t"})
	for what, got := range map[string]page{
		"forgot page": user.open(s.URL + "/oauth2/forgot?" + url.Values{"request": state["request"]}.Encode()),
		"forgot form": w.post("/oauth2/forgot", url.Values{"email": {newEmail()}}, map[string]string{"Origin": s.URL}),
		"reset page":  w.open(s.URL + "/oauth2/reset?token=t"),
		"verify page": w.open(s.URL + "/oauth2/verify?token=t"),
		"verify form": w.submit(w.link, "verify", nil),
		"reset form":  w.submit(w.page, "reset", map[string]string{"code": "12345678", "password": nextPassword}),
	} {
		if got.status != 503 {
			t.Errorf("%s: %d %s", what, got.status, got.body)
		}
	}
}
