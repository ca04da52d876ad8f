package verifier

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestJWT17_CredentialsInRequests(t *testing.T) {
	s := signers()[ES256]
	raw := s.sign(s.header(), claims(testIssuer))
	v := local(t)
	handler := v.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, ok := ClaimsFrom(r.Context())
		if !ok {
			t.Error("no claims behind the middleware")
			return
		}
		_, _ = io.WriteString(w, c.Subject)
	}))
	const invalid = `Bearer error="invalid_token", error_description="The access token is not valid"`
	const request = `Bearer error="invalid_request", error_description="One bearer token must be in one Authorization header"`
	for _, c := range []struct {
		name, query string
		headers     []string
		status      int
		challenge   string
	}{
		{"ok/Bearer", "", []string{"Bearer " + raw}, 200, ""},
		{"ok/bearer", "", []string{"bearer " + raw}, 200, ""},
		{"ok/BEARER", "", []string{"BEARER " + raw}, 200, ""},
		{"ok/two spaces", "", []string{"Bearer  " + raw}, 200, ""},
		{"ok/other query", "?x=access_token", []string{"Bearer " + raw}, 200, ""},
		{"fail/nothing", "", nil, 401, "Bearer"},
		{"fail/query", "?access_token=" + raw, nil, 401, "Bearer"},
		{"fail/another scheme", "", []string{"Basic dTpw"}, 401, "Bearer"},
		{"fail/empty header", "", []string{""}, 401, "Bearer"},
		{"fail/lookalike scheme", "", []string{"Bearerx " + raw}, 401, "Bearer"},
		{"fail/token alone", "", []string{raw}, 401, "Bearer"},
		{"fail/scheme alone", "", []string{"Bearer"}, 400, request},
		{"fail/scheme and space", "", []string{"Bearer "}, 400, request},
		{"fail/tab", "", []string{"Bearer\t" + raw}, 400, request},
		{"fail/comma behind", "", []string{"Bearer " + raw + ","}, 400, request},
		{"fail/space behind", "", []string{"Bearer " + raw + " "}, 400, request},
		{"fail/two in one header", "", []string{"Bearer " + raw + ", Bearer " + raw}, 400, request},
		{"fail/two headers", "", []string{"Bearer " + raw, "Bearer " + raw}, 400, request},
		{"fail/two schemes", "", []string{"Basic dTpw", "Bearer " + raw}, 400, request},
		{"fail/header and query", "?access_token=x", []string{"Bearer " + raw}, 400, request},
		{"fail/header and escaped query", "?a=b&access%5Ftoken=x", []string{"Bearer " + raw}, 400, request},
		{"fail/quotes", "", []string{`Bearer "` + raw + `"`}, 400, request},
		{"fail/equals signs", "", []string{"Bearer =="}, 400, request},
		{"fail/not a token", "", []string{"Bearer x"}, 401, invalid},
		{"fail/padding", "", []string{"Bearer " + raw + "="}, 401, invalid},
		{"fail/expired", "", []string{"Bearer " + s.sign(s.header(), claims(testIssuer, "exp", "2", "iat", "1"))}, 401,
			`Bearer error="invalid_token", error_description="The access token expired"`},
		{"fail/made up and expired", "", []string{"Bearer " + newSigner(s.kid).sign(s.header(),
			claims(testIssuer, "exp", "2", "iat", "1"))}, 401, invalid},
		{"fail/wrong audience", "", []string{"Bearer " + s.sign(s.header(), claims(testIssuer, "aud", `"x"`))}, 401, invalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/"+c.query, strings.NewReader("access_token="+raw))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			for _, h := range c.headers {
				r.Header.Add("Authorization", h)
			}
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			if w.Code != c.status || w.Header().Get("WWW-Authenticate") != c.challenge {
				t.Errorf("answer = %d, %s; want %d, %s", w.Code, w.Header().Get("WWW-Authenticate"), c.status, c.challenge)
			}
			if c.status == 200 {
				if w.Body.String() != "usr_1" {
					t.Errorf("body = %s", w.Body)
				}
				return
			}
			var body map[string]string
			if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || body["error"] == "" ||
				w.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("body = %s, header = %v", w.Body, w.Header())
			}
		})
	}
}

func TestGuards(t *testing.T) {
	s, v := signers()[ES256], local(t)
	ago := func(d time.Duration) string { return strconv.FormatInt(time.Now().Add(-d).Unix(), 10) }
	const stepUp = `Bearer error="insufficient_user_authentication", error_description=`
	for _, c := range []struct {
		name      string
		guard     func(http.Handler) http.Handler
		changes   []string
		status    int
		challenge string
	}{
		{"ok/scope", RequireScope("reports:read"), nil, 200, ""},
		{"ok/scopes", RequireScope("reports:read", "openid"), nil, 200, ""},
		{"fail/scope", RequireScope("openid", "reports:write"), nil, 403,
			`Bearer error="insufficient_scope", error_description="The access token lacks a required scope", ` +
				`scope="openid reports:write"`},
		{"fail/part of a scope", RequireScope("reports"), nil, 403,
			`Bearer error="insufficient_scope", error_description="The access token lacks a required scope", scope="reports"`},
		{"fail/no scope at all", RequireScope("openid"), []string{"scope", ""}, 403,
			`Bearer error="insufficient_scope", error_description="The access token lacks a required scope", scope="openid"`},
		{"ok/one of the roles", RequireRole("owner", "admin"), nil, 200, ""},
		{"fail/role", RequireRole("owner"), nil, 403,
			`Bearer error="insufficient_scope", error_description="The user lacks a required role"`},
		{"fail/no role named", RequireRole(), nil, 403,
			`Bearer error="insufficient_scope", error_description="The user lacks a required role"`},
		{"ok/recent", RequireAuthTime(5 * time.Minute), []string{"auth_time", ago(4 * time.Minute)}, 200, ""},
		{"fail/long ago", RequireAuthTime(5 * time.Minute), []string{"auth_time", ago(6 * time.Minute)}, 401,
			stepUp + `"More recent authentication is required", max_age="300"`},
		{"fail/never said", RequireAuthTime(5 * time.Minute), []string{"auth_time", ""}, 401,
			stepUp + `"More recent authentication is required", max_age="300"`},
		{"ok/acr", RequireACR("2", "3"), []string{"acr", `"3"`}, 200, ""},
		{"fail/acr", RequireACR("2", `x"\`), []string{"acr", `"1"`}, 401,
			stepUp + `"Another way to authenticate is required", acr_values="2 x\"\\"`},
		{"fail/no acr", RequireACR(""), nil, 401, stepUp + `"Another way to authenticate is required", acr_values=""`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
			r.Header.Set("Authorization", "Bearer "+s.sign(s.header(), claims(testIssuer, c.changes...)))
			w := httptest.NewRecorder()
			v.Middleware(c.guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))).ServeHTTP(w, r)
			if w.Code != c.status || w.Header().Get("WWW-Authenticate") != c.challenge {
				t.Errorf("answer = %d, %s\nwant     %d, %s", w.Code, w.Header().Get("WWW-Authenticate"), c.status, c.challenge)
			}
			w = httptest.NewRecorder() // without Middleware around it
			c.guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("passed without a token") })).ServeHTTP(w, r)
			if w.Code != 401 {
				t.Errorf("a guard alone answers %d, want 401", w.Code)
			}
		})
	}
}

func TestChallengeOfEveryError(t *testing.T) {
	for _, err := range []error{ErrInvalid, ErrMalformed, ErrUnknownKey, ErrSignature, ErrIssuer, ErrAudience, ErrExpired,
		ErrNotYetValid, ErrLifetime, ErrBlocked} {
		if status, challenge := Challenge(err); status != 401 || !strings.Contains(challenge, `error="invalid_token"`) {
			t.Errorf("%v: %d %s", err, status, challenge)
		}
	}
	w := httptest.NewRecorder()
	WriteError(w, errors.Join(errors.New("inside"), ErrUnavailable))
	if w.Code != 503 || w.Header().Get("Retry-After") == "" || w.Header().Get("WWW-Authenticate") != "" ||
		strings.Contains(w.Body.String(), "inside") {
		t.Errorf("unavailable: %d %v %s", w.Code, w.Header(), w.Body)
	}
	w = httptest.NewRecorder()
	WriteError(w, errors.New("secret detail"))
	if w.Code != 500 || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("unknown error: %d %s", w.Code, w.Body)
	}
	for _, err := range []*InsufficientError{{Scopes: []string{"a"}}, {Roles: []string{"b"}}, {ACR: []string{"c"}},
		{MaxAge: time.Minute}} {
		if !strings.HasPrefix(err.Error(), "verifier: ") {
			t.Errorf("%q", err.Error())
		}
	}
}
