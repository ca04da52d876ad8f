package api_test

import (
	"crypto/rand"
	"crypto/sha256"
	"html"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/account"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/mail"
	"github.com/handstamp/handstamp/pkg/mail/mailtest"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/user"
)

// received is what a person reads in a mail.
type received struct{ subject, text, link, token, code string }

// read reads a mail as a person does.
func read(t testing.TB, m mailtest.Mail) (r received) {
	t.Helper()
	parsed := m.Parse(t)
	subject, err := new(mime.WordDecoder).DecodeHeader(parsed.Header.Get("Subject"))
	if err != nil {
		t.Fatal(err)
	}
	r.subject = subject
	_, params, err := mime.ParseMediaType(parsed.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	part, err := multipart.NewReader(parsed.Body, params["boundary"]).NextRawPart()
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(quotedprintable.NewReader(part))
	if err != nil {
		t.Fatal(err)
	}
	r.text = strings.ReplaceAll(string(text), "\r\n", "\n")
	r.link = regexp.MustCompile(`https?://\S+token=\S+`).FindString(r.text)
	r.code = strings.NewReplacer(" ", "", "\u00A0", "").Replace(regexp.MustCompile(`(?m)^\d{4}.?\d{4}$`).FindString(r.text))
	if u, err := url.Parse(r.link); err == nil {
		r.token = u.Query().Get("token")
	}
	return r
}

// mailsTo waits for n mails to an address, and reads them: the oldest first.
func mailsTo(t testing.TB, server *mailtest.Server, to string, n int) (found []received) {
	t.Helper()
	servicetest.Eventually(t, strconv.Itoa(n)+" mails arrive for "+to, func() bool {
		found = nil
		for _, m := range server.Got() {
			if m.To == to {
				found = append(found, read(t, m))
			}
		}
		return len(found) >= n
	})
	return found
}

// forgets asks for a reset, and returns its flow.
func forgets(t testing.TB, s *servicetest.Service, email string) string {
	t.Helper()
	r := s.JSON(t, http.MethodPost, "/v1/password/forgot", "", object{"email": email})
	want(t, "forgot", r, http.StatusAccepted, "")
	var b struct{ Flow string }
	r.JSON(t, &b)
	return b.Flow
}

func resets(t testing.TB, s *servicetest.Service, body object) servicetest.Response {
	t.Helper()
	return s.JSON(t, http.MethodPost, "/v1/password/reset", "", body)
}

func logsIn(t testing.TB, s *servicetest.Service, email, plain string) servicetest.Response {
	t.Helper()
	return s.JSON(t, http.MethodPost, "/v1/login", "", object{"email": email, "password": plain})
}

func TestPasswordResetByLink(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s, server := mailed(t, db)
		p := signUp(t, s)
		forgets(t, s, strings.ToUpper(p.email))
		m := mailsTo(t, server, p.email, 1)[0]
		if !strings.HasPrefix(m.link, s.Config.Issuer+"/oauth2/reset?token=") || len(m.code) != 8 {
			t.Fatalf("%+v", m)
		}
		want(t, "weak", resets(t, s, object{"token": m.token, "password": p.email}), http.StatusBadRequest, "weak_password")
		want(t, "reset", resets(t, s, object{"token": m.token, "password": nextPassword}), http.StatusNoContent, "")
		want(t, "once more", resets(t, s, object{"token": m.token, "password": "copper-otter-52"}), http.StatusBadRequest,
			"invalid_link")
		want(t, "old password", logsIn(t, s, p.email, servicetest.Password), http.StatusUnauthorized, "invalid_credentials")
		want(t, "new password", logsIn(t, s, p.email, nextPassword), http.StatusOK, "")
		want(t, "session of before", s.Refresh(t, p.RefreshToken), http.StatusBadRequest, "invalid_grant")
		servicetest.Eventually(t, "its access token is refused", func() bool {
			return s.Get(t, "/v1/me", p.AccessToken).Status == http.StatusUnauthorized
		})
		told := mailsTo(t, server, p.email, 2)
		if told[1].subject != "Your password was changed" {
			t.Errorf("%+v", told)
		}
		var me struct {
			Verified bool `json:"email_verified"`
		}
		s.Get(t, "/v1/me", logsIn(t, s, p.email, nextPassword).Tokens(t).AccessToken).JSON(t, &me)
		if !me.Verified {
			t.Error("who has got the mail has shown that the address is theirs")
		}
		events, err := s.Store.Events(t.Context(), p.id, audit.Cursor{}, 100)
		if err != nil {
			t.Fatal(err)
		}
		var kinds []audit.Kind
		for _, e := range slices.Backward(events) {
			kinds = append(kinds, e.Kind)
		}
		if !slices.Equal(kinds[:4], []audit.Kind{audit.KindSignedUp, audit.KindLoggedIn, audit.KindResetAsked,
			audit.KindPasswordChanged}) {
			t.Errorf("%q", kinds)
		}
	})
}

func TestPasswordResetByCode(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s, server := mailed(t, db)
		p, q := signUp(t, s), signUp(t, s)
		flow := forgets(t, s, p.email)
		m := mailsTo(t, server, p.email, 1)[0]
		code := m.code[:4] + " " + m.code[4:]
		other := forgets(t, s, q.email)
		refused := func(what string, body object) {
			t.Helper()
			body["password"] = nextPassword
			want(t, what, resets(t, s, body), http.StatusBadRequest, "invalid_code")
		}
		refused("without the flow", object{"email": p.email, "code": m.code})
		refused("in another flow", object{"email": p.email, "code": m.code, "flow": other})
		refused("of another address", object{"email": q.email, "code": m.code, "flow": flow})
		refused("a slip", object{"email": p.email, "code": m.code[:7], "flow": flow})
		want(t, "reset", resets(t, s, object{"email": p.email, "code": code, "flow": flow, "password": nextPassword}),
			http.StatusNoContent, "")
		refused("once more", object{"email": p.email, "code": m.code, "flow": flow})
		want(t, "new password", logsIn(t, s, p.email, nextPassword), http.StatusOK, "")
		want(t, "the link of the same mail", resets(t, s, object{"token": m.token, "password": "copper-otter-52"}),
			http.StatusBadRequest, "invalid_link")
	})
}

// TestEM03_TriesOfACode: no more than five, right or wrong, whatever replica is asked.
func TestEM03_TriesOfACode(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s, server := mailed(t, db)
		other := servicetest.Start(t, db, sameIssuer(s), func(c *service.Config) {
			c.SMTPURL, c.MailFrom = s.Config.SMTPURL, s.Config.MailFrom
		})
		p := signUp(t, s)
		flow := forgets(t, s, p.email)
		code := mailsTo(t, server, p.email, 1)[0].code
		wrong := func(i int) string { return strconv.Itoa(10_000_000 + i) }
		for i := range account.MaxTries {
			want(t, "wrong", resets(t, []*servicetest.Service{s, other}[i%2],
				object{"email": p.email, "code": wrong(i), "flow": flow, "password": nextPassword}), http.StatusBadRequest, "invalid_code")
		}
		want(t, "the right one", resets(t, s, object{"email": p.email, "code": code, "flow": flow, "password": nextPassword}),
			http.StatusBadRequest, "invalid_code")
		want(t, "old password", logsIn(t, s, p.email, servicetest.Password), http.StatusOK, "")
	})
}

// TestEM03_VoidLinks: a link dies with the password and the address that it was made for.
func TestEM03_VoidLinks(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s, server := mailed(t, db)
		p := signUp(t, s)
		forgets(t, s, p.email)
		m := mailsTo(t, server, p.email, 1)[0]
		want(t, "change", s.JSON(t, http.MethodPost, "/v1/password/change", p.AccessToken, object{
			"current_password": servicetest.Password, "new_password": nextPassword,
		}), http.StatusOK, "")
		want(t, "after a change", resets(t, s, object{"token": m.token, "password": "copper-otter-52"}), http.StatusBadRequest,
			"invalid_link")
		q := signUp(t, s)
		forgets(t, s, q.email)
		m = mailsTo(t, server, q.email, 1)[0]
		if err := s.Sessions.DisableUser(t.Context(), q.id, byOperator()); err != nil {
			t.Fatal(err)
		}
		want(t, "TestEM04: disabled", resets(t, s, object{"token": m.token, "password": "copper-otter-52"}), http.StatusBadRequest,
			"invalid_link")
	})
}

// TestPW01_Forgot: the answers for known, unknown and disabled addresses differ in what is random only, and the mails in what
// they say to the reader of the mailbox.
func TestPW01_Forgot(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s, server := mailed(t, db)
		p, q := signUp(t, s), signUp(t, s)
		if err := s.Sessions.DisableUser(t.Context(), q.id, byOperator()); err != nil {
			t.Fatal(err)
		}
		nobody := newEmail()
		random := regexp.MustCompile(`[A-Z2-7]{26}`)
		var first string
		for _, email := range []string{p.email, q.email, nobody} {
			r := s.JSON(t, http.MethodPost, "/v1/password/forgot", "", object{"email": email})
			r.Header.Del("X-Request-Id")
			r.Header.Del("Date")
			text := strconv.Itoa(r.Status) + random.ReplaceAllString(r.Body+r.Header.Get("Set-Cookie"), "RANDOM") +
				strconv.Itoa(len(r.Header))
			if first == "" {
				first = text
			}
			if text != first {
				t.Errorf("%s\n%s", text, first)
			}
			b := newBrowser(t, s)
			shown := b.submit(b.open(s.Config.Issuer+"/oauth2/forgot"), "forgot", map[string]string{"email": email})
			if shown.status != http.StatusOK || !strings.Contains(shown.body, "If there is an account with this address") {
				t.Errorf("%d %s", shown.status, shown.body)
			}
		}
		for email, subject := range map[string]string{
			p.email: "Reset your password",
			q.email: mailsTo(t, server, nobody, 2)[0].subject,
			nobody:  mailsTo(t, server, nobody, 2)[1].subject,
		} {
			if got := mailsTo(t, server, email, 2)[0]; got.subject != subject || (got.token == "") != (email != p.email) {
				t.Errorf("%s: %+v, want %q", email, got, subject)
			}
		}
	})
}

// TestEM05_OpeningALinkUsesNothingUp: neither GET and HEAD, nor a program that sends the page's form without cookies.
func TestEM05_OpeningALinkUsesNothingUp(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s, server := mailed(t, db)
		p := signUp(t, s)
		registerClient(t, s, oauth.Client{ID: "app"})
		b := newBrowser(t, s)
		forgot := b.click(b.open(authorizeURL(s, map[string]string{"client_id": "app"})), "forgot-link")
		b.submit(forgot, "forgot", map[string]string{"email": p.email})
		link := mailsTo(t, server, p.email, 1)[0].link
		path := strings.TrimPrefix(link, s.Config.Issuer)
		for range 3 {
			want(t, "prefetch", s.Do(t, http.MethodGet, path, header("Purpose", "prefetch", "Sec-Purpose", "prefetch"), nil),
				http.StatusOK, "")
			s.Do(t, http.MethodHead, path, nil, nil)
		}
		scanner := newBrowser(t, s)
		opened := scanner.open(link)
		for name := range scanner.cookies() {
			scanner.setCookie(&http.Cookie{Name: name, MaxAge: -1, Path: "/"})
		}
		if r := scanner.submit(opened, "reset", map[string]string{"password": "copper-otter-52"}); r.status != http.StatusBadRequest {
			t.Errorf("a form without cookies: %d %s", r.status, r.body)
		}
		human := newBrowser(t, s)
		shown := human.open(link)
		if policy := shown.header.Get("Referrer-Policy"); policy != "same-origin" && policy != "no-referrer" {
			t.Errorf("TestEM06: Referrer-Policy %q", policy)
		}
		again := human.submit(shown, "reset", map[string]string{"password": "short"})
		if again.status != http.StatusBadRequest {
			t.Errorf("short: %d %s", again.status, again.body)
		}
		done := human.submit(again, "reset", map[string]string{"password": nextPassword})
		if done.status != http.StatusOK || !strings.Contains(done.body, "Your new password is saved") {
			t.Errorf("%d %s", done.status, done.body)
		}
		if r := human.open(link); r.status != http.StatusBadRequest {
			t.Errorf("used up: %d %s", r.status, r.body)
		}
		want(t, "new password", logsIn(t, s, p.email, nextPassword), http.StatusOK, "")
	})
}

// A person types the code into the page that waits for it, and goes on to the application.
func TestHostedResetByCode(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s, server := mailed(t, db)
		p := signUp(t, s)
		registerClient(t, s, oauth.Client{ID: "app"})
		b := newBrowser(t, s)
		forgot := b.click(b.open(authorizeURL(s, map[string]string{"client_id": "app"})), "forgot-link")
		sent := b.submit(forgot, "forgot", map[string]string{"email": p.email})
		code := mailsTo(t, server, p.email, 1)[0].code
		wrong := b.submit(sent, "reset", map[string]string{"code": "00000000", "password": nextPassword})
		if wrong.status != http.StatusBadRequest || !strings.Contains(wrong.body, "This code is wrong") {
			t.Errorf("%d %s", wrong.status, wrong.body)
		}
		other := newBrowser(t, s)
		if r := other.submit(wrong, "reset", map[string]string{"code": code, "password": nextPassword}); r.status != 400 {
			t.Errorf("another browser: %d", r.status)
		}
		done := b.submit(wrong, "reset", map[string]string{"code": code, "password": nextPassword})
		login := b.click(done, "login-link")
		b.submit(login, "login", map[string]string{"email": p.email, "password": nextPassword}).code(t)
	})
}

// TestEM01_LinksOfMails begin with the issuer, whatever host a request names.
func TestEM01_LinksOfMails(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s, server := mailed(t, db)
		p := signUp(t, s)
		h := header("Content-Type", "application/json", "X-Forwarded-Host", "evil.example", "Forwarded", "host=evil.example",
			"X-Forwarded-Proto", "https", "X-Original-Host", "evil.example")
		r := s.Do(t, http.MethodPost, "/v1/password/forgot", h, strings.NewReader(`{"email":"`+p.email+`"}`))
		want(t, "forgot", r, http.StatusAccepted, "")
		if m := mailsTo(t, server, p.email, 1)[0]; !strings.HasPrefix(m.link, s.Config.Issuer+"/") || strings.Contains(m.text, "evil") {
			t.Errorf("%+v", m)
		}
	})
}

// TestEM07_Floods: 200 requests for one address from 200 addresses get the same answer, and a few mails; one address that asks
// for many is held up.
func TestEM07_Floods(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		server := &mailtest.Server{}
		server.Start(t)
		s := servicetest.Start(t, db, func(c *service.Config) {
			c.SMTPURL, c.MailFrom = seal.Secret("smtp://"+server.Addr), "Shop <no-reply@example.test>"
			c.TrustedProxies = []string{"127.0.0.1"}
		})
		p := signUp(t, s)
		ask := func(email, from string) servicetest.Response {
			return s.Do(t, http.MethodPost, "/v1/password/forgot", header("Content-Type", "application/json", "X-Forwarded-For", from),
				strings.NewReader(`{"email":"`+email+`"}`))
		}
		nobody := newEmail()
		for i := range 200 {
			from := "198.51.100." + strconv.Itoa(i)
			want(t, "known", ask(p.email, from), http.StatusAccepted, "")
			want(t, "unknown", ask(nobody, from), http.StatusAccepted, "")
		}
		servicetest.Eventually(t, "all mails are sent", func() bool {
			backlog, err := s.Store.Backlog(t.Context(), mail.KindMail)
			return err == nil && backlog.Waiting == 0
		})
		known, unknown := mailsTo(t, server, p.email, 1), mailsTo(t, server, nobody, 1)
		if len(known) != s.Config.MailRecipientLimit || len(unknown) != len(known) {
			t.Errorf("%d and %d mails, want %d", len(known), len(unknown), s.Config.MailRecipientLimit)
		}
		want(t, "the last link works", resets(t, s, object{"token": known[len(known)-1].token, "password": nextPassword}),
			http.StatusNoContent, "")
		var held servicetest.Response
		for range s.Config.MailIPLimit + 1 {
			held = ask(newEmail(), "203.0.113.7")
		}
		want(t, "one asker", held, http.StatusTooManyRequests, "too_many_attempts")
		if wait, err := strconv.Atoi(held.Header.Get("Retry-After")); err != nil || wait < 1 ||
			time.Duration(wait)*time.Second > s.Config.MailIPEvery {
			t.Errorf("Retry-After %q", held.Header.Get("Retry-After"))
		}
	})
}

// Without mail there is no way back in by mail, and no link to one.
func TestWithoutMail(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db, func(c *service.Config) { c.Issuer, c.Audience = "https://login.example", nil })
		want(t, "forgot", s.JSON(t, http.MethodPost, "/v1/password/forgot", "", object{"email": newEmail()}), http.StatusForbidden,
			"not_allowed")
		want(t, "reset", resets(t, s, object{"token": "t", "password": nextPassword}), http.StatusForbidden, "not_allowed")
		want(t, "page", s.Get(t, "/oauth2/forgot", ""), http.StatusNotFound, "")
	})
}

// click follows the link of a page that has an ID.
func (b *browser) click(p page, id string) page {
	b.t.Helper()
	m := regexp.MustCompile(`<a[^>]*id="` + id + `"[^>]*href="([^"]*)"`).FindStringSubmatch(p.body)
	if m == nil {
		b.t.Fatalf("no link #%s on the page (%d):\n%s", id, p.status, p.body)
	}
	return b.open(b.s.URL + html.UnescapeString(m[1]))
}

// proofOf writes a proof for a user as if a mail had brought it, and returns the token of its link.
func proofOf(t testing.TB, s *servicetest.Service, p person, purpose account.Purpose) string {
	t.Helper()
	u, err := s.Store.UserByID(t.Context(), p.id)
	if err != nil {
		t.Fatal(err)
	}
	token, now := rand.Text(), time.Now()
	proof := account.Proof{
		Hash: sha256.Sum256([]byte(token)), Flow: sha256.Sum256([]byte(rand.Text())), Purpose: purpose, UserID: u.ID, Email: u.Email,
		Credential: user.CredentialOf(u.PasswordHash), CreatedAt: now, ExpiresAt: now.Add(time.Minute),
	}
	err = s.Store.AskProof(t.Context(), account.Asked{
		Proof:  proof,
		Letter: mail.NewNotices().PasswordChanged(now, audit.Origin{}),
		Event:  audit.PasswordResetAsked(now, u.ID, audit.Origin{}),
	})
	if err != nil {
		t.Fatal(err)
	}
	return token
}
