package api_test

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/mail"
	"github.com/handstamp/handstamp/pkg/mail/mailtest"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/seal"
)

// mailed runs a replica that sends mail to a real server.
func mailed(t *testing.T, db servicetest.Database) (*servicetest.Service, *mailtest.Server) {
	t.Helper()
	server := &mailtest.Server{User: "shop", Password: "violet"}
	server.Start(t)
	return servicetest.Start(t, db, func(c *service.Config) {
		c.SMTPURL, c.MailFrom = seal.Secret("smtp://shop:violet@"+server.Addr), "Shop <no-reply@example.test>"
		c.MailReplyTo, c.BrandName = "help@example.test", "Acme"
		c.EmailVerification = "off" // the mail for that has tests of its own
	}), server
}

// subjects are those of the mails to an address, once there are n.
func subjects(t *testing.T, server *mailtest.Server, to string, n int) []string {
	t.Helper()
	var found []string
	servicetest.Eventually(t, "mails arrive", func() bool {
		found = nil
		for _, m := range server.Got() {
			if m.To == to {
				found = append(found, m.Parse(t).Header.Get("Subject"))
			}
		}
		return len(found) >= n
	})
	slices.Sort(found)
	return found
}

// TestMailsOfCauses reads at the mail server what users are told.
func TestMailsOfCauses(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s, server := mailed(t, db)
		p := signUp(t, s)
		german := bearer(p.AccessToken, "Accept-Language", "de-CH, en;q=0.5", "X-Forwarded-Host", "evil.example")
		changed := postJSON(t, s, "/v1/password/change", german,
			`{"current_password":"`+servicetest.Password+`","new_password":"amber-heron-47"}`)
		want(t, "change", changed, http.StatusOK, "")
		tokens := changed.Tokens(t)
		if got := subjects(t, server, p.email, 1); !slices.Equal(got, []string{"=?UTF-8?q?Ihr_Passwort_wurde_ge=C3=A4ndert?="}) {
			t.Errorf("%q", got)
		}
		m := server.Got()[0]
		head := m.Parse(t).Header
		if m.User != "shop" || head.Get("From") != `"Shop" <no-reply@example.test>` || head.Get("Reply-To") != "<help@example.test>" ||
			!strings.Contains(string(m.Raw), "127.0.0.1") || strings.Contains(string(m.Raw), "evil.example") {
			t.Errorf("%s", m.Raw)
		}

		body := `{"email":"` + p.email + `","password":"amber-heron-47"}`
		first := postJSON(t, s, "/v1/login", nil, body) // without the cookie of the sign-up
		want(t, "login on a new device", first, http.StatusOK, "")
		cookies := header()
		for _, c := range (&http.Response{Header: first.Header}).Cookies() {
			cookies.Add("Cookie", c.Name+"="+c.Value)
		}
		want(t, "login on the same device", postJSON(t, s, "/v1/login", cookies, body), http.StatusOK, "")
		want(t, "failed login", postJSON(t, s, "/v1/login", nil, `{"email":"`+p.email+`","password":"wrong"}`),
			http.StatusUnauthorized, "invalid_credentials")
		want(t, "deletion", s.Do(t, http.MethodDelete, "/v1/me", bearer(tokens.AccessToken), nil), http.StatusNoContent, "")
		got := subjects(t, server, p.email, 3)
		if !slices.Equal(got, []string{"=?UTF-8?q?Ihr_Passwort_wurde_ge=C3=A4ndert?=", "New login to your account",
			"Your account was deleted"}) {
			t.Errorf("%q", got)
		}
		ids := map[string]bool{}
		for _, m := range server.Got() {
			ids[m.Parse(t).Header.Get("Message-Id")] = true
		}
		if len(ids) != 3 {
			t.Errorf("Message-IDs %v", ids)
		}
	})
}

// Logins of a client that keeps no cookies do not fill the user's mailbox.
func TestMailsOfLoginsAreBounded(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db)
		p := signUp(t, s)
		for range 12 {
			s.LogIn(t, p.email)
		}
		servicetest.Eventually(t, "mails are kept", func() bool {
			backlog, err := s.Store.Backlog(t.Context(), mail.KindMail)
			return err == nil && backlog.Waiting == 0
		})
		files, err := filepath.Glob(s.Config.MailDir + "/*-new_device-*.eml")
		if err != nil || len(files) != 5 {
			t.Errorf("%d mails, %v; want 5", len(files), err)
		}
		for _, name := range files {
			if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%v %v", info, err)
			}
		}
	})
}

// A browser at the hosted pages is a new device once.
func TestMailOfAHostedLogin(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s, server := mailed(t, db)
		p := signUp(t, s)
		registerClient(t, s, oauth.Client{ID: "app"})
		b := newBrowser(t, s)
		for range 2 { // the second time it is known, also in a new login
			b.logIn(b.open(authorizeURL(s, map[string]string{"client_id": "app", "prompt": "login"})), p.email).code(t)
		}
		other := newBrowser(t, s)
		other.logIn(other.open(authorizeURL(s, map[string]string{"client_id": "app"})), p.email).code(t)
		servicetest.Eventually(t, "all mails are sent", func() bool {
			backlog, err := s.Store.Backlog(t.Context(), mail.KindMail)
			return err == nil && backlog.Waiting == 0
		})
		if got := subjects(t, server, p.email, 2); len(got) != 2 || got[0] != "New login to your account" || got[1] != got[0] {
			t.Errorf("%q", got)
		}
	})
}
