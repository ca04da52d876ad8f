package api_test

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/mail/mailtest"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/seal"
)

// proving runs a replica that sends mail to a real server, with a setting of email_verification.
func proving(t *testing.T, db servicetest.Database, setting string) (*servicetest.Service, *mailtest.Server) {
	t.Helper()
	server := &mailtest.Server{}
	server.Start(t)
	return servicetest.Start(t, db, func(c *service.Config) {
		c.SMTPURL, c.MailFrom = seal.Secret("smtp://"+server.Addr), "Shop <no-reply@example.test>"
		c.EmailVerification, c.MailRecipientLimit = setting, 20
	}), server
}

func verifies(t testing.TB, s *servicetest.Service, body object) servicetest.Response {
	t.Helper()
	return s.JSON(t, http.MethodPost, "/v1/email/verify", "", body)
}

func isVerified(t testing.TB, s *servicetest.Service, accessToken string) bool {
	t.Helper()
	var me struct {
		Verified bool `json:"email_verified"`
	}
	s.Get(t, "/v1/me", accessToken).JSON(t, &me)
	return me.Verified
}

func TestVerificationOptional(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s, server := proving(t, db, "")
		p := signUp(t, s)
		m := mailsTo(t, server, p.email, 1)[0]
		if m.subject != "Confirm your email address" || !strings.HasPrefix(m.link, s.Config.Issuer+"/oauth2/verify?token=") {
			t.Fatalf("%+v", m)
		}
		if isVerified(t, s, p.AccessToken) {
			t.Error("verified without a proof")
		}
		own := s.JSON(t, http.MethodPatch, "/v1/me", p.AccessToken, object{"email_verified": true})
		want(t, "TestEM09: by the user's own word", own, http.StatusBadRequest, "invalid_request")
		want(t, "prefetch", s.Get(t, strings.TrimPrefix(m.link, s.Config.Issuer), ""), http.StatusOK, "")
		b := newBrowser(t, s)
		done := b.submit(b.open(m.link), "verify", nil)
		if done.status != http.StatusOK || !isVerified(t, s, p.AccessToken) {
			t.Errorf("%d %s", done.status, done.body)
		}
		want(t, "once more", verifies(t, s, object{"token": m.token}), http.StatusBadRequest, "invalid_link")
		want(t, "the session goes on", s.Refresh(t, p.RefreshToken), http.StatusOK, "")

		q := signUp(t, s)
		first := mailsTo(t, server, q.email, 1)[0]
		r := s.JSON(t, http.MethodPost, "/v1/email/verify/resend", q.AccessToken, object{})
		want(t, "resend", r, http.StatusAccepted, "")
		var body struct{ Flow string }
		r.JSON(t, &body)
		second := mailsTo(t, server, q.email, 2)[1]
		want(t, "the older link", verifies(t, s, object{"token": first.token}), http.StatusBadRequest, "invalid_link")
		want(t, "another address", verifies(t, s, object{"email": p.email, "code": second.code, "flow": body.Flow}),
			http.StatusBadRequest, "invalid_code")
		want(t, "the code", verifies(t, s, object{"email": q.email, "code": second.code, "flow": body.Flow}), http.StatusNoContent, "")
		if !isVerified(t, s, q.AccessToken) {
			t.Error("not verified")
		}
	})
}

func TestVerificationOff(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s, server := proving(t, db, "off")
		p := signUp(t, s)
		forgets(t, s, p.email)
		if got := mailsTo(t, server, p.email, 1); got[0].subject != "Reset your password" {
			t.Errorf("%+v", got)
		}
	})
}

// signsUp signs up where the address must be proven, and returns the answer and its flow.
func signsUp(t testing.TB, s *servicetest.Service, email, plain string) (servicetest.Response, string) {
	t.Helper()
	r := s.JSON(t, http.MethodPost, "/v1/signup", "", object{"email": email, "password": plain, "name": "Ann"})
	want(t, "sign-up", r, http.StatusAccepted, "")
	var b struct{ Flow string }
	r.JSON(t, &b)
	return r, b.Flow
}

func TestVerificationRequired(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s, server := proving(t, db, "required")
		email := newEmail()
		first, flow := signsUp(t, s, email, servicetest.Password)
		m := mailsTo(t, server, email, 1)[0]
		want(t, "login before the proof", logsIn(t, s, email, servicetest.Password), http.StatusUnauthorized, "invalid_credentials")
		want(t, "code", verifies(t, s, object{"email": email, "code": m.code, "flow": flow}), http.StatusNoContent, "")
		tokens := logsIn(t, s, email, servicetest.Password).Tokens(t)
		if !isVerified(t, s, tokens.AccessToken) {
			t.Error("not verified")
		}
		// TestPW01: the answer for an address that has an account is the same but for what is random.
		again, _ := signsUp(t, s, email, nextPassword)
		random := regexp.MustCompile(`[A-Z2-7]{26}`)
		if a, b := random.ReplaceAllString(first.Body, ""), random.ReplaceAllString(again.Body, ""); a != b ||
			len(first.Header) != len(again.Header) {
			t.Errorf("%s %s", a, b)
		}
		if got := mailsTo(t, server, email, 3); !strings.Contains(got[1].subject+got[2].subject, "You already have an account") {
			t.Errorf("%+v", got)
		}
		want(t, "the password is as before", logsIn(t, s, email, nextPassword), http.StatusUnauthorized, "invalid_credentials")
	})
}

// TestEM08_SignUpAgain: who has signed up with another's address before loses the account to whoever proves the address.
func TestEM08_SignUpAgain(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		open, server := proving(t, db, "off")
		thief := signUp(t, open)
		s := servicetest.Start(t, db, sameIssuer(open), func(c *service.Config) {
			c.SMTPURL, c.MailFrom, c.EmailVerification = open.Config.SMTPURL, open.Config.MailFrom, "required"
		})
		r := logsIn(t, s, thief.email, servicetest.Password)
		want(t, "the thief's login", r, http.StatusForbidden, "email_verification_required")
		signsUp(t, s, thief.email, nextPassword) // the owner of the address
		got := mailsTo(t, server, thief.email, 2)
		want(t, "proof", verifies(t, s, object{"token": got[1].token}), http.StatusNoContent, "")
		want(t, "the thief's password", logsIn(t, s, thief.email, servicetest.Password), http.StatusUnauthorized, "invalid_credentials")
		want(t, "the thief's session", s.Refresh(t, thief.RefreshToken), http.StatusBadRequest, "invalid_grant")
		want(t, "the owner's password", logsIn(t, s, thief.email, nextPassword), http.StatusOK, "")
	})
}

// A person signs up at the hosted pages, types the code into the page that waits for it, and is logged in.
func TestHostedVerificationRequired(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s, server := proving(t, db, "required")
		registerClient(t, s, oauth.Client{ID: "app"})
		b := newBrowser(t, s)
		email := newEmail()
		fields := map[string]string{"email": email, "name": "Ann", "password": servicetest.Password}
		waiting := b.submit(b.open(authorizeURL(s, map[string]string{"client_id": "app", "prompt": "create"})), "signup", fields)
		m := mailsTo(t, server, email, 1)[0]
		wrong := b.submit(waiting, "verify", map[string]string{"code": "00000000"})
		if wrong.status != http.StatusBadRequest || !strings.Contains(wrong.body, "This code is wrong") {
			t.Fatalf("%d %s", wrong.status, wrong.body)
		}
		b.submit(wrong, "verify", map[string]string{"code": m.code[:4] + "-" + m.code[4:]}).code(t)

		other := newBrowser(t, s)
		again := other.submit(other.open(authorizeURL(s, map[string]string{"client_id": "app", "prompt": "create"})), "signup", fields)
		hiddenInputs := regexp.MustCompile(`value="[^"]{40,}"`)
		if a, c := hiddenInputs.ReplaceAllString(waiting.body, ""), hiddenInputs.ReplaceAllString(again.body, ""); a != c ||
			again.status != waiting.status {
			t.Errorf("TestPW01: %s\n%s", a, c)
		}
		hash, err := s.Hasher.Hash(t.Context(), servicetest.Password)
		if err != nil {
			t.Fatal(err)
		}
		p := addUser(t, s, hash) // by the operator, with an address that nobody has proven
		third := newBrowser(t, s)
		waiting = third.logIn(third.open(authorizeURL(s, map[string]string{"client_id": "app"})), p.email)
		code := mailsTo(t, server, p.email, 1)[0].code
		if len(code) != 8 {
			t.Fatal(strconv.Quote(code))
		}
		third.submit(waiting, "verify", map[string]string{"code": code}).code(t)
	})
}

// A user who came through a provider gets a password, once; the sessions of before end.
func TestSetPassword(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := addUser(t, w.Service, "")
		token := sessionAt(t, w.Service, p, oauth.DefaultClientID, "account")
		set := func(accessToken, plain string) servicetest.Response {
			return w.JSON(t, http.MethodPost, "/v1/password/set", accessToken, object{"password": plain})
		}
		want(t, "about the user", set(token, p.email), http.StatusBadRequest, "weak_password")
		r := set(token, nextPassword)
		want(t, "set", r, http.StatusOK, "")
		want(t, "login", logsIn(t, w.Service, p.email, nextPassword), http.StatusOK, "")
		servicetest.Eventually(t, "the session of before has ended", func() bool {
			return w.Get(t, "/v1/me", token).Status == http.StatusUnauthorized
		})
		want(t, "once more", set(r.Tokens(t).AccessToken, "copper-otter-52"), http.StatusConflict, "password_exists")
		want(t, "as before", logsIn(t, w.Service, p.email, nextPassword), http.StatusOK, "")
		var failed atomic.Int32
		q := addUser(t, w.Service, "")
		token = sessionAt(t, w.Service, q, oauth.DefaultClientID, "account")
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() {
				if set(token, nextPassword+strconv.Itoa(i)).Status != http.StatusOK {
					failed.Add(1)
				}
			})
		}
		if wg.Wait(); failed.Load() != 4 {
			t.Errorf("%d of 5 at once failed, want 4", failed.Load())
		}
	})
}

// TestMailPage runs the commands of docs/mail.md by which a person gets back in.
func TestMailPage(t *testing.T) {
	page, err := os.ReadFile("../docs/mail.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(page), "## Getting back in\n")
	blocks := regexp.MustCompile("(?s)```\n(.*?)```").FindAllStringSubmatch(section, -1)
	if !found || len(blocks) != 2 {
		t.Fatalf("%d commands", len(blocks))
	}
	alone(t, func(t *testing.T, db servicetest.Database) {
		s, server := mailed(t, db)
		s.SignUp(t, "ann@example.com")
		run := func(command string, values ...string) []byte {
			t.Helper()
			shell := exec.CommandContext(t.Context(), "bash", "-c", strings.NewReplacer(values...).Replace(command))
			shell.Env = append(os.Environ(), "ISSUER="+s.Config.Issuer)
			out, err := shell.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			return out
		}
		var asked struct{ Flow string }
		if err := json.Unmarshal(run(blocks[0][1]), &asked); err != nil {
			t.Fatal(err)
		}
		code := mailsTo(t, server, "ann@example.com", 1)[0].code
		if out := run(blocks[1][1], "FLOW", asked.Flow, "CODE", code); len(out) > 0 {
			t.Errorf("%s", out)
		}
		want(t, "the new password", logsIn(t, s, "ann@example.com", "copper-heron-51"), http.StatusOK, "")
	})
}
