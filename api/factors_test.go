package api_test

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pquerna/otp/hotp"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/session"
)

// authenticator is what a person has at hand who has enrolled.
type authenticator struct {
	id, secret string
	step       int64    // that has confirmed it
	codes      []string // for recovery
}

// code is that of the n-th step after the one which has confirmed it: 1 and 2 are accepted soon after.
func (a authenticator) code(t testing.TB, n int64) string {
	t.Helper()
	code, err := hotp.GenerateCode(a.secret, uint64(a.step+n)) //nolint:gosec // not negative
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// enrol gives a user an authenticator. The code of the step before now confirms it, so that those of now and of the next step are
// left to log in with.
func enrol(t testing.TB, s *servicetest.Service, accessToken string) authenticator {
	t.Helper()
	var a authenticator
	for range 2 { // a step may go by meanwhile
		var begun struct{ ID, Secret string }
		want201(t, s.JSON(t, http.MethodPost, "/v1/factors/totp", accessToken, map[string]any{})).JSON(t, &begun)
		a = authenticator{id: begun.ID, secret: begun.Secret, step: time.Now().Unix()/30 - 1}
		r := s.JSON(t, http.MethodPost, "/v1/factors/totp/"+a.id+"/confirm", accessToken, map[string]any{"code": a.code(t, 0)})
		if r.Status == http.StatusOK {
			var body struct {
				Codes []string `json:"recovery_codes"`
			}
			r.JSON(t, &body)
			a.codes = body.Codes
			return a
		}
	}
	t.Fatal("the authenticator is not confirmed")
	return a
}

func want201(t testing.TB, r servicetest.Response) servicetest.Response {
	t.Helper()
	if r.Status != http.StatusCreated {
		t.Fatalf("%d %s, want 201", r.Status, r.Body)
	}
	return r
}

// half logs in with the password, and returns the token of the login that waits.
func half(t testing.TB, s *servicetest.Service, email string, pairs ...string) string {
	t.Helper()
	body := map[string]any{"email": email, "password": servicetest.Password}
	for i := 0; i+1 < len(pairs); i += 2 {
		body[pairs[i]] = pairs[i+1]
	}
	r := s.JSON(t, http.MethodPost, "/v1/login", "", body)
	var pending struct {
		Code    string   `json:"code"`
		Token   string   `json:"mfa_token"`
		Methods []string `json:"methods"`
	}
	r.JSON(t, &pending)
	if r.Status != http.StatusForbidden || pending.Code != "mfa_required" || pending.Token == "" ||
		!slices.Equal(pending.Methods, []string{"totp", "recovery"}) || strings.Contains(r.Body, "access_token") {
		t.Fatalf("%d %s, want mfa_required", r.Status, r.Body)
	}
	return pending.Token
}

// show completes a login.
func show(t testing.TB, s *servicetest.Service, token, method, code string) servicetest.Response {
	t.Helper()
	return s.JSON(t, http.MethodPost, "/v1/login/mfa", "", map[string]any{"mfa_token": token, "method": method, "code": code})
}

// hasAMR checks how a token says that its user has logged in.
func hasAMR(t *testing.T, accessToken string, amr ...any) {
	t.Helper()
	claims := servicetest.Claims(t, accessToken)
	acr := oauth.ACR
	if slices.Contains(amr, any("mfa")) {
		acr = oauth.ACRFactors
	}
	if got, _ := claims["amr"].([]any); !slices.Equal(got, amr) || claims["acr"] != acr {
		t.Errorf("amr %v and acr %v, want %v and %s", claims["amr"], claims["acr"], amr, acr)
	}
}

func TestFactors_JSON(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := signUp(t, w.Service)
		a := enrol(t, w.Service, p.AccessToken)
		if len(a.codes) != 10 {
			t.Fatalf("%d recovery codes", len(a.codes))
		}
		var list struct {
			Factors []struct {
				ID, Type, Name string
				LastUsedAt     *time.Time `json:"last_used_at"`
			}
			RecoveryCodes int `json:"recovery_codes"`
		}
		w.JSON(t, http.MethodGet, "/v1/factors", p.AccessToken, nil).JSON(t, &list)
		if len(list.Factors) != 1 || list.Factors[0].ID != a.id || list.Factors[0].Type != "totp" || list.RecoveryCodes != 10 {
			t.Errorf("%+v", list)
		}
		// The session in which it was confirmed has shown it, and says so once it is refreshed.
		refreshed := w.Refresh(t, p.RefreshToken).Tokens(t)
		hasAMR(t, refreshed.AccessToken, "pwd", "otp", "mfa")

		token := half(t, w.Service, p.email)
		full := show(t, w.other, token, "totp", a.code(t, 1)).Tokens(t)
		hasAMR(t, full.AccessToken, "pwd", "otp", "mfa")
		hasAMR(t, w.Refresh(t, full.RefreshToken).Tokens(t).AccessToken, "pwd", "otp", "mfa")
		want(t, "the same login again", show(t, w.Service, token, "totp", a.code(t, 2)), http.StatusUnauthorized, "invalid_code")
		recovered := show(t, w.Service, half(t, w.Service, p.email), "recovery", strings.ToUpper(a.codes[0])).Tokens(t)
		hasAMR(t, recovered.AccessToken, "pwd", "mfa")

		var codes struct{ Codes []string }
		w.JSON(t, http.MethodPost, "/v1/factors/recovery-codes", recovered.AccessToken, map[string]any{}).JSON(t, &codes)
		if len(codes.Codes) != 10 || slices.Contains(codes.Codes, a.codes[1]) {
			t.Errorf("%d new recovery codes", len(codes.Codes))
		}
		want(t, "a replaced code", show(t, w.Service, half(t, w.Service, p.email), "recovery", a.codes[1]), http.StatusUnauthorized,
			"invalid_code")
		want(t, "rename", w.JSON(t, http.MethodPatch, "/v1/factors/"+a.id, recovered.AccessToken, map[string]any{"name": "Phone"}),
			http.StatusOK, "")
		want(t, "remove", w.JSON(t, http.MethodDelete, "/v1/factors/"+a.id, recovered.AccessToken, nil), http.StatusNoContent, "")
		hasAMR(t, w.LogIn(t, p.email).AccessToken, "pwd")
	})
}

// One code, 50 logins at once, two replicas.
func TestMF01_OneCodeOneLogin(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for _, method := range []string{"totp", "recovery"} {
			p := signUp(t, w.Service)
			a := enrol(t, w.Service, p.AccessToken)
			code := a.code(t, 1)
			if method == "recovery" { // MF-06
				code = a.codes[0]
			}
			token := half(t, w.Service, p.email)
			var group sync.WaitGroup
			var logins, refused, waits atomic.Int64
			for i := range 50 {
				s := w.Service
				if i%2 == 1 {
					s = w.other
				}
				group.Go(func() {
					switch r := show(t, s, token, method, code); r.Status {
					case http.StatusOK:
						logins.Add(1)
					case http.StatusUnauthorized:
						refused.Add(1)
					case http.StatusTooManyRequests:
						waits.Add(1)
					default:
						t.Errorf("%d %s", r.Status, r.Body)
					}
				})
			}
			group.Wait()
			if logins.Load() != 1 || logins.Load()+refused.Load()+waits.Load() != 50 {
				t.Errorf("%s: %d logins, %d refused, %d told to wait", method, logins.Load(), refused.Load(), waits.Load())
			}
		}
	})
}

func TestMF03_TriesOfAUser(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := signUp(t, w.Service)
		a := enrol(t, w.Service, p.AccessToken)
		// Spread over logins, replicas and methods, at once.
		var group sync.WaitGroup
		var evaluated atomic.Int64
		tokens := []string{half(t, w.Service, p.email), half(t, w.other, p.email), half(t, w.Service, p.email)}
		wrong := fmt.Sprintf("%06d", (atoi(a.code(t, 1))+1)%1_000_000)
		if wrong == a.code(t, 2) {
			wrong = fmt.Sprintf("%06d", (atoi(wrong)+1)%1_000_000)
		}
		for i := range 60 {
			s, method := w.Service, "totp"
			if i%2 == 1 {
				s = w.other
			}
			if i%3 == 1 {
				method = "recovery"
			}
			group.Go(func() {
				switch r := show(t, s, tokens[i%len(tokens)], method, wrong); r.Status {
				case http.StatusUnauthorized:
					evaluated.Add(1)
				case http.StatusTooManyRequests:
					if r.Header.Get("Retry-After") == "" || r.Code() != "too_many_attempts" {
						t.Errorf("%v %s", r.Header, r.Body)
					}
				default:
					t.Errorf("%d %s", r.Status, r.Body)
				}
			})
		}
		group.Wait()
		if evaluated.Load() != 5 {
			t.Errorf("%d tries were evaluated, want 5", evaluated.Load())
		}
		// Counted before they are evaluated: the right code does not pass either. It survives a restart.
		for _, s := range []*servicetest.Service{w.Service, servicetest.Start(t, w.db, sameIssuer(w.Service))} {
			want(t, "the right code", show(t, s, tokens[0], "totp", a.code(t, 1)), http.StatusTooManyRequests, "too_many_attempts")
		}
		// The tries of the password are counted apart.
		half(t, w.Service, p.email)
	})
}

func atoi(s string) (n int) {
	for _, r := range s {
		n = n*10 + int(r-'0')
	}
	return n
}

func TestMF05_Enrolment(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := signUp(t, w.Service)
		r := want201(t, w.JSON(t, http.MethodPost, "/v1/factors/totp", p.AccessToken, map[string]any{"name": "Phone"}))
		if r.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("Cache-Control %q", r.Header.Get("Cache-Control"))
		}
		var begun struct {
			ID, Secret string
			URI        string `json:"otpauth_uri"`
			SVG        string `json:"qr_svg"`
		}
		r.JSON(t, &begun)
		if !strings.HasPrefix(begun.URI, "otpauth://totp/") || !strings.Contains(begun.SVG, "<svg") {
			t.Errorf("%+v", begun)
		}
		// Without a code it counts for nothing, and nobody sees the secret again.
		w.LogIn(t, p.email)
		if list := w.Get(t, "/v1/factors", p.AccessToken); strings.Contains(list.Body, begun.Secret) ||
			strings.Contains(list.Body, begun.ID) {
			t.Errorf("the list shows %s", list.Body)
		}
		confirm := "/v1/factors/totp/" + begun.ID + "/confirm"
		want(t, "a wrong code", w.JSON(t, http.MethodPost, confirm, p.AccessToken, map[string]any{"code": "12345x"}),
			http.StatusBadRequest, "invalid_request")
		a := authenticator{secret: begun.Secret, step: time.Now().Unix() / 30}
		other := signUp(t, w.Service)
		want(t, "another user", w.JSON(t, http.MethodPost, confirm, other.AccessToken, map[string]any{"code": a.code(t, 0)}),
			http.StatusNotFound, "not_found")
		want(t, "codes without a factor", w.JSON(t, http.MethodPost, "/v1/factors/recovery-codes", p.AccessToken, map[string]any{}),
			http.StatusNotFound, "not_found")

		// Another one besides takes a session that has shown the first (SE-03, MF-07).
		weak := w.LogIn(t, p.email)
		a = enrol(t, w.Service, p.AccessToken)
		for _, change := range []struct{ method, path string }{
			{http.MethodPost, "/v1/factors/totp"},
			{http.MethodPost, "/v1/factors/totp/" + a.id + "/confirm"},
			{http.MethodPost, "/v1/factors/recovery-codes"},
			{http.MethodPatch, "/v1/factors/" + a.id},
			{http.MethodDelete, "/v1/factors/" + a.id},
		} {
			var body any
			switch {
			case change.method == http.MethodPatch:
				body = map[string]any{"name": "x"}
			case strings.HasSuffix(change.path, "confirm"):
				body = map[string]any{"code": "123456"}
			case change.method == http.MethodPost:
				body = map[string]any{}
			}
			r := w.JSON(t, change.method, change.path, weak.AccessToken, body)
			want(t, change.method+" "+change.path, r, http.StatusForbidden, "insufficient_user_authentication")
			if !strings.Contains(r.Header.Get("Www-Authenticate"), `acr_values="`+oauth.ACRFactors+`"`) {
				t.Errorf("challenge %q", r.Header.Get("Www-Authenticate"))
			}
		}
		for range 9 {
			enrolAgain(t, w.Service, p.AccessToken)
		}
		want(t, "an eleventh", w.JSON(t, http.MethodPost, "/v1/factors/totp", p.AccessToken, map[string]any{}), http.StatusConflict,
			"too_many_factors")
	})
}

// enrolAgain gives a user one more authenticator.
func enrolAgain(t testing.TB, s *servicetest.Service, accessToken string) {
	t.Helper()
	if a := enrol(t, s, accessToken); len(a.codes) != 0 {
		t.Error("recovery codes are shown again")
	}
}

// JWT-14, SE-05: a login that has shown its first factor is worth nothing but its second.
func TestJWT14_PendingLoginIsNoToken(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := signUp(t, w.Service)
		a := enrol(t, w.Service, p.AccessToken)
		token := half(t, w.Service, p.email)
		for _, route := range bearerRoutes() {
			if r := ask(t, w.Service, route, p, token); r.Status != http.StatusUnauthorized {
				t.Errorf("%s %s: %d %s", route.Method, route.Path, r.Status, r.Body)
			}
		}
		if r := w.Refresh(t, token); r.Status != http.StatusBadRequest || r.Code() != "invalid_grant" {
			t.Errorf("refresh: %d %s", r.Status, r.Body)
		}
		for name, form := range map[string][]string{
			"/oauth2/token":  {"grant_type", "authorization_code", "code", token, "code_verifier", strings.Repeat("a", 43)},
			"/oauth2/revoke": {"token", token},
		} {
			if r := w.Form(t, name, form...); strings.Contains(r.Body, "access_token") {
				t.Errorf("%s: %d %s", name, r.Status, r.Body)
			}
		}
		if r := w.FormWith(t, "/oauth2/introspect", basic("backend"), "token", token); !strings.Contains(r.Body, `"active":false`) {
			t.Errorf("introspect: %d %s", r.Status, r.Body)
		}
		for name, wrong := range map[string]string{
			"an access token":        p.AccessToken,
			"a refresh token":        p.RefreshToken,
			"nothing that we sealed": "AAAA",
			"changed":                token[:40] + "A" + token[41:],
		} {
			want(t, name, show(t, w.Service, wrong, "totp", a.code(t, 1)), http.StatusUnauthorized, "invalid_mfa_token")
		}
		want(t, "an unknown method", show(t, w.Service, token, "sms", a.code(t, 1)), http.StatusBadRequest, "invalid_request")
		if r := show(t, w.Service, token, "totp", a.code(t, 1)); r.Status != http.StatusOK {
			t.Errorf("%d %s", r.Status, r.Body)
		}
	})
}

func TestFactors_PendingLoginEnds(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for name, end := range map[string]func(p person){
			"fail/another password": func(p person) {
				r := w.JSON(t, http.MethodPost, "/v1/password/change", p.AccessToken, map[string]any{
					"current_password": servicetest.Password, "new_password": "amber-heron-47",
				})
				hasAMR(t, r.Tokens(t).AccessToken, "pwd", "otp", "mfa") // the caller's own session goes on as it was
			},
			"fail/a disabled user": func(p person) {
				if err := w.Sessions.DisableUser(t.Context(), p.id, byOperator()); err != nil {
					t.Fatal(err)
				}
			},
			"fail/a deleted user": func(p person) {
				if err := w.Sessions.DeleteUser(t.Context(), p.id, byOperator()); err != nil {
					t.Fatal(err)
				}
			},
		} {
			t.Run(name, func(t *testing.T) {
				p := signUp(t, w.Service)
				a := enrol(t, w.Service, p.AccessToken)
				p.Tokens = w.Refresh(t, p.RefreshToken).Tokens(t)
				token := half(t, w.Service, p.email)
				end(p)
				if r := show(t, w.Service, token, "totp", a.code(t, 1)); r.Status != http.StatusUnauthorized {
					t.Errorf("%d %s", r.Status, r.Body)
				}
			})
		}
	})
}

// atWeb asks for a code for a client of the shared service.
func atWeb() map[string]string { return map[string]string{"client_id": "web"} }

func TestFactors_Page(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := signUp(t, w.Service)
		b := newBrowser(t, w.Service)
		before := b.logIn(b.open(authorizeURL(w.Service, atWeb())), p.email)
		before.code(t)
		a := enrol(t, w.Service, p.AccessToken)

		// The login of the browser is from before: the next request asks for the factor, and says nothing without a page.
		silent := b.open(authorizeURL(w.Service, map[string]string{"client_id": "web", "prompt": "none"}))
		if silent.location == nil || silent.location.Query().Get("error") != "login_required" {
			t.Errorf("prompt=none: %d %v", silent.status, silent.location)
		}
		mfa := b.open(authorizeURL(w.Service, atWeb()))
		if !mfa.has("mfa") || mfa.has("login") {
			t.Fatalf("%d %s", mfa.status, mfa.body)
		}
		wrong := b.submit(mfa, "mfa", map[string]string{"code": "12345x"})
		if wrong.status != http.StatusBadRequest && wrong.status != http.StatusUnauthorized || !wrong.has("error") ||
			!wrong.has("mfa") {
			t.Errorf("a wrong code: %d %s", wrong.status, wrong.body)
		}
		done := b.submit(wrong, "mfa", map[string]string{"code": a.code(t, 1)})
		tokens := redeem(t, w.Service, done.code(t), "client_id", "web").Tokens(t)
		hasAMR(t, tokens.AccessToken, "pwd", "otp", "mfa")
		refreshed := w.Form(t, "/oauth2/token", "grant_type", "refresh_token", "client_id", "web", "refresh_token", tokens.RefreshToken)
		hasAMR(t, refreshed.Tokens(t).AccessToken, "pwd", "otp", "mfa")
		b.open(authorizeURL(w.Service, atWeb())).code(t) // single sign-on asks no more

		// Another browser: password, then a recovery code.
		c := newBrowser(t, w.Service)
		mfa = c.logIn(c.open(authorizeURL(w.Service, atWeb())), p.email)
		if !mfa.has("mfa") {
			t.Fatalf("%d %s", mfa.status, mfa.body)
		}
		if again := c.open(authorizeURL(w.Service, atWeb())); !again.has("login") {
			t.Error("the first factor alone has logged the browser in (SE-05)")
		}
		recovery := c.open(w.URL + link(t, mfa, "method-recovery"))
		_, state := recovery.form(t, "mfa")
		if state.Get("method") != "recovery" {
			t.Fatalf("%v", state)
		}
		used := c.submit(recovery, "mfa", map[string]string{"code": a.codes[3]})
		hasAMR(t, redeem(t, w.Service, used.code(t), "client_id", "web").Tokens(t).AccessToken, "pwd", "mfa")
		// The page is used up, and the code too.
		if r := c.submit(recovery, "mfa", map[string]string{"code": a.codes[4]}); !r.has("mfa") {
			t.Errorf("the same page again: %d %v", r.status, r.location)
		}
		d := newBrowser(t, w.Service)
		mfa = d.logIn(d.open(authorizeURL(w.Service, atWeb())), p.email)
		if r := d.submit(mfa, "mfa", map[string]string{"method": "recovery", "code": a.codes[3]}); !r.has("mfa") {
			t.Errorf("a used code: %d %v", r.status, r.location)
		}
		if login := d.open(w.URL + link(t, mfa, "cancel-link")); !login.has("login") {
			t.Errorf("%d %s", login.status, login.body)
		}
	})
}

// link is the address of a link of the page.
func link(t *testing.T, p page, id string) string {
	t.Helper()
	_, rest, ok := strings.Cut(p.body, `id="`+id+`"`)
	_, rest, found := strings.Cut(rest, `href="`)
	if !ok || !found {
		t.Fatalf("no link %s on the page:\n%s", id, p.body)
	}
	href, _, _ := strings.Cut(rest, `"`)
	return strings.ReplaceAll(href, "&amp;", "&")
}

// What ends with a code that was given before the user had a factor.
func TestFactors_CodeFromBefore(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := signUp(t, w.Service)
		b := newBrowser(t, w.Service)
		code := b.logIn(b.open(authorizeURL(w.Service, atWeb())), p.email).code(t)
		enrol(t, w.Service, p.AccessToken)
		if r := redeem(t, w.Service, code, "client_id", "web"); r.Status != http.StatusBadRequest || r.Code() != "invalid_grant" {
			t.Errorf("%d %s", r.Status, r.Body)
		}
	})
}

// Each way to begin a session passes the one rule: also one that is added later and knows nothing of factors.
func TestMF07_NoWayRound(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := signUp(t, w.Service)
		enrol(t, w.Service, p.AccessToken)
		u, err := w.Store.UserByID(t.Context(), p.id)
		if err != nil {
			t.Fatal(err)
		}
		for _, amr := range [][]string{nil, {"pwd"}, {"fed"}, {"otp"}, {"hwk"}} {
			_, err := w.Sessions.Start(t.Context(), session.Login{User: u, ClientID: oauth.DefaultClientID, AMR: amr})
			if err == nil {
				t.Errorf("amr %v began a session", amr)
			}
		}
	})
}

// Each change is told: once in the log, by mail, and nowhere a secret.
func TestFactors_Told(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db, func(*service.Config) {})
		p := signUp(t, s)
		a := enrol(t, s, p.AccessToken)
		want(t, "codes", s.JSON(t, http.MethodPost, "/v1/factors/recovery-codes", p.AccessToken, map[string]any{}), http.StatusOK, "")
		want(t, "a wrong code", show(t, s, half(t, s, p.email), "totp", "000-00x"), http.StatusUnauthorized, "invalid_code")
		want(t, "remove", s.JSON(t, http.MethodDelete, "/v1/factors/"+a.id, p.AccessToken, nil), http.StatusNoContent, "")
		events, err := s.Store.Events(t.Context(), p.id, audit.Cursor{}, 100)
		if err != nil {
			t.Fatal(err)
		}
		got := map[audit.Kind]int{}
		for _, e := range events {
			got[e.Kind]++
		}
		if wanted := map[audit.Kind]int{
			audit.KindSignedUp: 1, audit.KindLoggedIn: 1, audit.KindFactorAdded: 1, audit.KindRecoveryReplaced: 1,
			audit.KindLoginFailed: 1, audit.KindFactorRemoved: 1,
		}; !maps.Equal(got, wanted) {
			t.Errorf("events %v, want %v", got, wanted)
		}
	})
}

// signedUpWithFactor is the access token of a new user with a second factor.
func signedUpWithFactor(t *testing.T, s *servicetest.Service) string {
	t.Helper()
	p := signUp(t, s)
	enrol(t, s, p.AccessToken)
	return p.AccessToken
}

// factors asks for every answer about second factors. What it returns asks for those of a service whose database is gone.
func (c *checked) factors(s *servicetest.Service) func() {
	t := c.t
	t.Helper()
	p := signUp(t, s)
	c.json(s, 404, "POST", "/v1/factors/recovery-codes", p.AccessToken, nil)
	var begun struct{ ID, Secret string }
	c.json(s, 201, "POST", "/v1/factors/totp", p.AccessToken, object{"name": "Phone"}).JSON(t, &begun)
	c.json(s, 400, "POST", "/v1/factors/totp", p.AccessToken, object{"name": "a\nb"})
	c.json(s, 400, "POST", "/v1/factors/totp/"+begun.ID+"/confirm", p.AccessToken, object{"code": "12345x"})
	c.json(s, 404, "POST", "/v1/factors/totp/fac_nothing/confirm", p.AccessToken, object{"code": "123456"})
	code, err := hotp.GenerateCode(begun.Secret, uint64(time.Now().Unix()/30)) //nolint:gosec // not negative
	if err != nil {
		t.Fatal(err)
	}
	var confirmed struct {
		Codes []string `json:"recovery_codes"`
	}
	c.json(s, 200, "POST", "/v1/factors/totp/"+begun.ID+"/confirm", p.AccessToken, object{"code": code}).JSON(t, &confirmed)
	for range 9 {
		enrol(t, s, p.AccessToken)
	}
	c.json(s, 409, "POST", "/v1/factors/totp", p.AccessToken, object{})
	c.json(s, 200, "GET", "/v1/factors", p.AccessToken, nil)
	c.json(s, 200, "POST", "/v1/factors/recovery-codes", signedUpWithFactor(t, s), nil)
	q := signUp(t, s)
	c.json(s, 204, "DELETE", "/v1/factors/"+enrol(t, s, q.AccessToken).id, q.AccessToken, nil)
	c.json(s, 200, "PATCH", "/v1/factors/"+begun.ID, p.AccessToken, object{"name": "Tablet"})
	c.json(s, 404, "PATCH", "/v1/factors/fac_nothing", p.AccessToken, object{"name": "Tablet"})
	c.json(s, 404, "DELETE", "/v1/factors/fac_nothing", p.AccessToken, nil)

	login := func(client string, h http.Header) string {
		var pending struct {
			Token string `json:"mfa_token"`
		}
		body := `{"email":"` + p.email + `","password":"` + servicetest.Password + `","client_id":"` + client + `"}`
		c.exchange(s, 403, "POST", "/v1/login", extended(h, "Content-Type", "application/json"), body).JSON(t, &pending)
		return pending.Token
	}
	token := login("default", nil)
	show := func(status int, token, method, code string) {
		t.Helper()
		c.json(s, status, "POST", "/v1/login/mfa", "", object{"mfa_token": token, "method": method, "code": code})
	}
	show(200, token, "recovery", confirmed.Codes[0])
	show(400, token, "sms", confirmed.Codes[0])
	show(401, "nonsense", "totp", "123456")

	ofPages := login("pages", header("Origin", s.Config.Issuer, "X-Handstamp-Client", "pages"))
	show(403, ofPages, "totp", "123456")

	b := c.browse(s)
	page := b.logIn(b.open(authorizeURL(s, nil)), p.email)
	_, state := page.form(t, "mfa")
	other := s.URL + link(t, page, "method-recovery")
	if recovery := b.open(other); !recovery.has("mfa") {
		t.Errorf("%d %s", recovery.status, recovery.body)
	}
	for address, status := range map[string]int{"/oauth2/mfa": 303, "/oauth2/mfa?request=nonsense": 400} {
		c.exchange(s, status, "GET", address, nil, "")
	}
	fields := map[string]string{"method": "recovery", "code": confirmed.Codes[1]}
	if done := b.submit(page, "mfa", fields); done.location == nil {
		t.Errorf("%d %s", done.status, done.body)
	}
	third := c.browse(s)
	consent := third.logIn(third.open(authorizeURL(s, map[string]string{"client_id": "other"})), p.email)
	if consent = third.submit(consent, "mfa",
		map[string]string{"method": "recovery", "code": confirmed.Codes[2]}); !consent.has("consent") {
		t.Errorf("%d %s", consent.status, consent.body)
	}
	for range 6 { // two are told that it is wrong, and the last one to wait
		if wrong := b.submit(page, "mfa", map[string]string{"code": "12345x"}); !wrong.has("mfa") {
			t.Errorf("%d %s", wrong.status, wrong.body)
		}
	}
	show(429, login("default", nil), "totp", "123456")
	return func() {
		c.t.Helper()
		c.json(s, 503, "POST", "/v1/login/mfa", "", object{"mfa_token": token, "method": "totp", "code": "123456"})
		b.post("/oauth2/mfa", url.Values{"request": state["request"], "method": {"totp"}, "code": {"123456"}},
			map[string]string{"Origin": s.URL})
		b.open(other)
	}
}
