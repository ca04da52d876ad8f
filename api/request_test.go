package api_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/user"
)

// jsonRoute is a route that takes a JSON object.
type jsonRoute struct {
	method, path string
	fields       []string          // all are texts
	body         map[string]string // that would be accepted, by field
	bearer       bool
}

func jsonRoutes() []jsonRoute {
	return []jsonRoute{
		{http.MethodPost, "/v1/signup", []string{"email", "password", "name", "client_id", "scope"}, map[string]string{
			"email":    "new@example.com",
			"password": servicetest.Password,
		}, false},
		{http.MethodPost, "/v1/login", []string{"email", "password", "client_id", "scope"}, map[string]string{
			"email":    "new@example.com",
			"password": servicetest.Password,
		}, false},
		{http.MethodPost, "/v1/login/nowhere/id-token", []string{"id_token", "nonce", "client_id", "scope"},
			map[string]string{"id_token": "e30.e30.e30", "nonce": "n"}, false},
		{http.MethodPost, "/v1/logout", []string{"refresh_token"}, map[string]string{"refresh_token": "hsr_"}, false},
		{http.MethodPatch, "/v1/me", []string{"name"}, map[string]string{"name": "Ann"}, true},
		{http.MethodPost, "/v1/password/change", []string{"current_password", "new_password"}, map[string]string{
			"current_password": servicetest.Password,
			"new_password":     "amber-heron-47",
		}, true},
		{http.MethodPost, "/v1/identities/nowhere", []string{"return_to"}, map[string]string{"return_to": appRedirect}, true},
	}
}

// object is a JSON object with one field as it is, in the place of what would be accepted.
func (r jsonRoute) object(field, value string) string {
	var b strings.Builder
	b.WriteByte('{')
	for name, good := range r.body {
		if name != field {
			fmt.Fprintf(&b, "%q:%q,", name, good)
		}
	}
	fmt.Fprintf(&b, "%q:%s}", field, value)
	return b.String()
}

// badBodies are bodies that no route takes, with the field that the answer names; "" where it is none's fault.
func badBodies(r jsonRoute) map[string][2]string {
	out := map[string][2]string{}
	for _, field := range r.fields {
		for name, value := range map[string]string{
			"number":                                 `1`,
			"boolean":                                `true`,
			"object":                                 `{"a":1}`,
			"list":                                   `["a"]`,
			"NUL":                                    `"a\u0000b"`,
			"half a pair":                            `"a\ud800b"`,
			"the other half":                         `"a\udc00b"`,
			"pair in the wrong order":                `"\udc00\ud800"`,
			"half a pair beside a lost character":    `"\ufffd\ud83d"`,
			"half a pair beside what looks like one": `"\\ufffd\ud83d"`,
			"two first halves":                       `"\ud83d\ud83d\ude00"`,
			"bare word":                              `nul`,
			"bad escape":                             `"\x41"`,
			"control character":                      "\"a\nb\"",
			"nothing":                                ``,
			"fraction":                               `1.`,
			"hexadecimal":                            `0x10`,
		} {
			out[field+": "+name] = [2]string{r.object(field, value), field}
		}
		if _, needed := r.body[field]; needed && r.method != http.MethodPatch { // any other null is a field that is left out
			out[field+": null"] = [2]string{r.object(field, `null`), field}
		}
		good := fmt.Sprintf("%q", r.body[field])
		out[field+": twice"] = [2]string{r.object(field, good+`,"`+field+`":`+good), field}
		escaped := fmt.Sprintf(`\u%04x%s`, field[0], field[1:])
		out[field+": twice, once escaped"] = [2]string{r.object(field, good+`,"`+escaped+`":`+good), field}
		upper := strings.ToUpper(field)
		out[field+": in upper case"] = [2]string{r.object(field, good+`,"`+upper+`":`+good), upper}
		long := "ſ" + field[1:] // which encoding/json takes for an s
		if field[0] == 's' {
			out[field+": with a long s"] = [2]string{r.object(field, good+`,"`+long+`":`+good), long}
		}
	}
	good := r.object(r.fields[0], fmt.Sprintf("%q", r.body[r.fields[0]]))
	for name, body := range map[string]string{
		"empty":              "",
		"blank":              " ",
		"list":               "[" + good + "]",
		"text":               `"a"`,
		"null":               "null",
		"number":             "1",
		"two objects":        good + good,
		"something after it": good + "x",
		"brace after it":     good + "}",
		"comma after it":     good + ",",
		"byte order mark":    "\ufeff" + good,
		"comma at the end":   strings.TrimSuffix(good, "}") + ",}",
		"comment":            "/* */" + good,
		"single quotes":      strings.ReplaceAll(good, `"`, "'"),
		"no quotes":          strings.ReplaceAll(good, `"`, ""),
		"invalid UTF-8":      strings.Replace(good, ":\"", ":\"\xff", 1),
		"overlong":           strings.Replace(good, ":\"", ":\"\xc0\xaf", 1),
		"surrogate in UTF-8": strings.Replace(good, ":\"", ":\"\xed\xa0\x80", 1),
		"UTF-16":             "\xff\xfe{\x00}\x00",
	} {
		out[name] = [2]string{body, ""}
	}
	out["unknown field"] = [2]string{r.object("admin", "true"), "admin"}
	out["prototype"] = [2]string{r.object("__proto__", `{"admin":true}`), "__proto__"}
	out["empty name"] = [2]string{r.object("", `""`), ""}
	for i := range len(good) { // cut off anywhere
		out[fmt.Sprintf("cut after %d bytes", i)] = [2]string{good[:i], "?"}
	}
	return out
}

func TestBadJSON(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := signUp(t, w.Service)
		before := w.Get(t, "/v1/me", p.AccessToken).Body
		for _, route := range jsonRoutes() {
			h := header("Content-Type", "application/json")
			if route.bearer {
				h = bearer(p.AccessToken, "Content-Type", "application/json")
			}
			send := func(h http.Header, body io.Reader) servicetest.Response {
				return w.Do(t, route.method, route.path, h, body)
			}
			for name, c := range badBodies(route) {
				if route.path == "/v1/logout" && c[0] == "" {
					continue // a logout without a body is one without a token
				}
				r := send(h, strings.NewReader(c[0]))
				var problem struct{ Field, Detail string }
				if r.Status == http.StatusBadRequest {
					r.JSON(t, &problem)
				}
				if r.Status != http.StatusBadRequest || r.Code() != "invalid_request" || problem.Detail == "" ||
					c[1] != "?" && problem.Field != c[1] {
					t.Errorf("%s %s, %s: %d %s, want the field %q", route.method, route.path, name, r.Status, r.Body, c[1])
				}
			}
			good := route.object(route.fields[0], fmt.Sprintf("%q", route.body[route.fields[0]]))
			for _, contentType := range []string{"", "text/plain", "application/x-www-form-urlencoded",
				"multipart/form-data; boundary=a", "application/json; charset=iso-8859-1", "application/problem+json", "application/jsonp",
				"application/json, text/plain", "json", ";", "text/json"} {
				other := h.Clone()
				other.Del("Content-Type")
				if contentType != "" {
					other.Set("Content-Type", contentType)
				}
				want(t, route.path+" as "+contentType, send(other, strings.NewReader(good)), http.StatusUnsupportedMediaType,
					"unsupported_media_type")
			}
			two := h.Clone()
			two.Add("Content-Type", "text/plain")
			want(t, route.path+" with two types", send(two, strings.NewReader(good)), http.StatusUnsupportedMediaType, "")
			var small bytes.Buffer
			z := gzip.NewWriter(&small)
			_, _ = z.Write([]byte(good))
			_ = z.Close()
			for _, coding := range []string{"gzip", "br", "identity", "gzip, gzip"} {
				packed := h.Clone()
				packed.Set("Content-Encoding", coding)
				want(t, route.path+" in "+coding, send(packed, bytes.NewReader(small.Bytes())), http.StatusUnsupportedMediaType, "")
			}
			large := strings.NewReader(route.object(route.fields[0], `"`+strings.Repeat("a", 64<<10)+`"`))
			want(t, route.path+" too large", send(h, large), http.StatusRequestEntityTooLarge, "payload_too_large")
			// its length is not announced
			unknown := io.MultiReader(strings.NewReader(route.object(route.fields[0], `"`+strings.Repeat("a", 70<<10)+`"`)))
			want(t, route.path+" too large, in pieces", send(h, unknown), http.StatusRequestEntityTooLarge, "payload_too_large")
		}
		if after := w.Get(t, "/v1/me", p.AccessToken).Body; after != before {
			t.Errorf("something was stored: %s, before %s", after, before)
		}
		if _, err := w.Store.UserByEmail(t.Context(), "new@example.com"); !errors.Is(err, user.ErrNotFound) {
			t.Errorf("somebody was signed up: %v", err)
		}
		// With a charset, or in pieces, a good body is good.
		for _, h := range []http.Header{header("Content-Type", "application/json; charset=UTF-8"),
			header("Content-Type", "Application/JSON")} {
			body := io.MultiReader(strings.NewReader(`{"email":"`+p.email+`",`),
				strings.NewReader(` "password" : "`+servicetest.Password+`" } `+"\n"))
			want(t, "good", w.Do(t, http.MethodPost, "/v1/login", h, body), http.StatusOK, "")
		}
		// A form is ASCII under any label.
		for _, charset := range []string{"", "; charset=ISO-8859-1", "; charset=us-ascii", "; charset=utf8"} {
			h := header("Content-Type", "application/x-www-form-urlencoded"+charset)
			p.Tokens = w.Do(t, http.MethodPost, "/oauth2/token", h,
				strings.NewReader("grant_type=refresh_token&refresh_token="+p.RefreshToken)).Tokens(t)
		}
	})
}

func TestAPI01_MassAssignment(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := signUp(t, w.Service)
		before, err := w.Store.UserByID(t.Context(), p.id)
		if err != nil {
			t.Fatal(err)
		}
		for _, route := range jsonRoutes() {
			for _, field := range []string{
				"role", "roles", "is_admin", "admin", "id", "user_id", "sub", "sid", "email_verified", "email_verified_at", "tenant_id",
				"created_at", "updated_at", "disabled_at", "password_hash", "client_secret", "amr", "acr", "aud", "lifetime", "exp",
			} {
				h := header("Content-Type", "application/json")
				if route.bearer {
					h = bearer(p.AccessToken, "Content-Type", "application/json")
				}
				r := w.Do(t, route.method, route.path, h, strings.NewReader(route.object(field, `"admin"`)))
				want(t, route.path+" with "+field, r, http.StatusBadRequest, "invalid_request")
			}
		}
		want(t, "an e-mail address without proof",
			w.JSON(t, http.MethodPatch, "/v1/me", p.AccessToken, map[string]string{"email": "other@example.com"}),
			http.StatusBadRequest, "invalid_request")
		after, err := w.Store.UserByID(t.Context(), p.id)
		if err != nil || fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("%v\n%v\n%v", err, before, after)
		}
		// A form may say what it likes: the grant decides.
		tokens := w.Form(t, "/oauth2/token", "grant_type", "refresh_token", "client_id", "default", "refresh_token", p.RefreshToken,
			"roles", "admin", "sub", "usr_x", "user_id", "usr_x", "exp", "9999999999", "audience", "https://evil.example", "sid",
			"ses_x").Tokens(t)
		old, renewed := servicetest.Claims(t, p.AccessToken), servicetest.Claims(t, tokens.AccessToken)
		for _, claim := range []string{"sub", "aud", "sid", "client_id", "iss"} {
			if old[claim] != renewed[claim] {
				t.Errorf("%s became %v", claim, renewed[claim])
			}
		}
		if roles := renewed["roles"].([]any); len(roles) != 0 {
			t.Errorf("roles %v", roles)
		}
	})
}

// Echo's Bind lets a body overwrite what the path said, so nothing may use it.
func TestAPI02_NoBinding(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	forbidden := regexp.MustCompile("\\.(Bind|BindBody|FormValue|FormParams|PostFormValue|ParseForm)\\(|" +
		"`[^`]*(param|query|form|header):\"")
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if found := forbidden.Find(text); found != nil {
			t.Errorf("%s has %s", name, found)
		}
	}
}

func TestAPI04_Sizes(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := signUp(t, w.Service)
		many := http.Header{}
		for i := range 10_000 {
			many.Set(fmt.Sprintf("X-%d", i), "a")
		}
		for name, c := range map[string]struct {
			path   string
			header http.Header
		}{
			"a long header":  {"/v1/me", header("X-Long", strings.Repeat("a", 1<<20))},
			"a long address": {"/v1/me?a=" + strings.Repeat("a", 1<<20), nil},
			"many headers":   {"/v1/me", many},
			"a long path":    {"/v1/sessions/" + strings.Repeat("a", 1<<20), nil},
		} {
			r, err := w.Try(t.Context(), http.MethodGet, c.path, c.header, nil)
			if err == nil && r.Status != http.StatusRequestHeaderFieldsTooLarge {
				t.Errorf("%s: %d %s", name, r.Status, r.Body)
			}
		}
		form := func(body io.Reader) servicetest.Response {
			return w.Do(t, http.MethodPost, "/oauth2/token", header("Content-Type", "application/x-www-form-urlencoded"), body)
		}
		want(t, "a large form", form(strings.NewReader("grant_type="+strings.Repeat("a", 65<<10))), http.StatusRequestEntityTooLarge,
			"invalid_request")
		want(t, "a large form in pieces", form(io.MultiReader(strings.NewReader("grant_type="+strings.Repeat("a", 70<<10)))),
			http.StatusRequestEntityTooLarge, "invalid_request")
		for name, body := range map[string]string{
			"many parameters": strings.Repeat("a=&", 20_000),
			"many of one":     "grant_type=refresh_token" + strings.Repeat("&refresh_token=a", 4_000),
			"broken escape":   "grant_type=%zz",
			"semicolons":      "grant_type=a;b=c",
			"NUL":             "grant_type=a%00",
			"invalid UTF-8":   "grant_type=%ff",
			"nothing":         "",
			"twice":           "grant_type=refresh_token&grant_type=refresh_token",
			"unknown":         "grant_type=" + strings.Repeat("x", 60_000),
		} {
			if r := form(strings.NewReader(body)); r.Status != http.StatusBadRequest || r.Code() == "" || len(r.Body) > 512 {
				t.Errorf("%s: %d %s", name, r.Status, r.Body)
			}
		}
		for _, contentType := range []string{"", "application/json", "multipart/form-data; boundary=a", "text/plain"} {
			h := header("Content-Type", contentType)
			if contentType == "" {
				h = nil
			}
			for _, path := range []string{"/oauth2/token", "/oauth2/revoke", "/oauth2/introspect", "/oauth2/par"} {
				want(t, path+" as "+contentType, w.Do(t, http.MethodPost, path, h,
					strings.NewReader("grant_type=refresh_token&refresh_token="+p.RefreshToken)), http.StatusUnsupportedMediaType,
					"invalid_request")
			}
		}
		// A refresh token in the address is not taken, so that no log has it.
		r := w.Do(t, http.MethodPost, "/oauth2/token?grant_type=refresh_token&client_id=default&refresh_token="+p.RefreshToken,
			header("Content-Type", "application/x-www-form-urlencoded"), nil)
		want(t, "token in the address", r, http.StatusBadRequest, "invalid_request")
		want(t, "GET", w.Get(t, "/oauth2/token?grant_type=refresh_token&client_id=default&refresh_token="+p.RefreshToken, ""),
			http.StatusMethodNotAllowed, "")
		w.Refresh(t, p.RefreshToken).Tokens(t)
	})
}

// Requests that two servers could read in two ways are refused, and the connection is closed.
func TestAPI07_Smuggling(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := signUp(t, w.Service)
		smuggled := "DELETE /v1/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + p.AccessToken + "\r\n\r\n"
		post := "POST /v1/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
		for name, raw := range map[string]string{
			"two lengths":              post + "Content-Length: 0\r\nContent-Length: 5\r\n\r\n" + smuggled,
			"two lengths in one":       post + "Content-Length: 0, 5\r\n\r\n" + smuggled,
			"signed length":            post + "Content-Length: +0\r\n\r\n" + smuggled,
			"negative length":          post + "Content-Length: -1\r\n\r\n" + smuggled,
			"unknown coding":           post + "Transfer-Encoding: xchunked\r\n\r\n" + smuggled,
			"coding twice":             post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled,
			"coding list":              post + "Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n" + smuggled,
			"space before the colon":   post + "Content-Length : 0\r\n\r\n" + smuggled,
			"bare CR":                  post + "X-A: b\rContent-Length: 0\r\n\r\n" + smuggled,
			"NUL":                      post + "X-A: b\x00\r\n\r\n" + smuggled,
			"no host":                  "GET /v1/me HTTP/1.1\r\n\r\n" + smuggled,
			"two hosts":                "GET /v1/me HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" + smuggled,
			"bad host":                 "GET /v1/me HTTP/1.1\r\nHost: a b\r\n\r\n" + smuggled,
			"old version":              "GET /v1/me HTTP/0.9\r\nHost: x\r\n\r\n" + smuggled,
			"no version":               "GET /v1/me\r\nHost: x\r\n\r\n" + smuggled,
			"space in the method":      "GET X /v1/me HTTP/1.1\r\nHost: x\r\n\r\n" + smuggled,
			"bad chunk size":           post + "Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n" + smuggled,
			"chunk size with a sign":   post + "Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n" + smuggled,
			"bare LF after chunk size": post + "Transfer-Encoding: chunked\r\n\r\n0;a\n\r\n" + smuggled,
		} {
			c := slowly(t, w.Service)
			if _, err := io.WriteString(c, raw); err != nil {
				t.Fatal(err)
			}
			if err := c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
				t.Fatal(err)
			}
			answer, err := io.ReadAll(c)
			if err != nil {
				t.Errorf("%s: the connection stays open: %v\n%s", name, err, answer)
			}
			if line, _, _ := strings.Cut(string(answer),
				"\r\n"); !strings.Contains(line, " 400 ") && !strings.Contains(line, " 501 ") && !strings.Contains(line, " 505 ") {
				t.Errorf("%s: %s", name, line)
			}
			if n := strings.Count(string(answer), "HTTP/1.1 "); n != 1 {
				t.Errorf("%s: %d answers:\n%s", name, n, answer)
			}
			_ = c.Close()
		}
		want(t, "after all that", w.Get(t, "/v1/me", p.AccessToken), http.StatusOK, "")
	})
}

// panicking is a store that has a bug.
type panicking struct{ store.Store }

func (panicking) UserByID(context.Context, string) (user.User, error) {
	panic("pq: relation \"users\" at /src/secret.go:17")
}

// An answer to a failure says what to do, and nothing about how the service is made.
func TestAPI10_ErrorBodies(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		db.Wrap = func(s store.Store) store.Store { return panicking{s} }
		s := servicetest.Start(t, db)
		p := signUp(t, s)
		failed := s.Get(t, "/v1/me", p.AccessToken)
		want(t, "a panic", failed, http.StatusInternalServerError, "internal")
		if !strings.Contains(s.Log.String(), "secret.go") || !strings.Contains(s.Log.String(), failed.Header.Get("X-Request-Id")) {
			t.Error("the log does not say what happened")
		}
		want(t, "the next request", s.Get(t, "/v1/sessions", p.AccessToken), http.StatusOK, "")
		telling := regexp.MustCompile(`(?i)sql|pgx|sqlite|postgres|goroutine|\.go\b|echo|panic|runtime|struct|nil ` +
			`pointer|127\.0\.0\.1|json:|unmarshal|handstamp/|verifier:|keyring:`)
		for name, r := range map[string]servicetest.Response{
			"panic":           failed,
			"not found":       s.Get(t, "/nowhere", ""),
			"no such session": s.Do(t, http.MethodDelete, "/v1/sessions/ses_aaaaaaaaaaaaaaaaaaaaaaaaaa", bearer(p.AccessToken), nil),
			"bad session":     s.Do(t, http.MethodDelete, "/v1/sessions/%00", bearer(p.AccessToken), nil),
			"bad JSON":        postJSON(t, s, "/v1/login", nil, `{"email":1}`),
			"bad type":        postJSON(t, s, "/v1/login", header("Content-Encoding", "gzip"), `{}`),
			"bad token":       s.Get(t, "/v1/me", "e30.e30.e30"),
			"bad cursor":      s.Get(t, "/v1/blocklist?after=x", ""),
			"bad form":        s.Form(t, "/oauth2/token", "grant_type", "x"),
			"bad client":      s.Form(t, "/oauth2/introspect", "token", "x"),
			"taken": s.JSON(t, http.MethodPost, "/v1/signup", "",
				map[string]string{"email": p.email, "password": servicetest.Password}),
			"method":      s.Do(t, http.MethodPut, "/v1/me", nil, nil),
			"bad address": s.Get(t, "/%2e%2e/%2e%2e/etc/passwd", ""),
			"bad query":   s.Get(t, "/v1/forward-auth?x=%zz", p.AccessToken), "page": s.Get(t, "/oauth2/authorize", ""),
		} {
			if r.Status < 400 {
				t.Errorf("%s: %d %s", name, r.Status, r.Body)
			}
			body := r.Body
			if name == "page" {
				_, body, _ = strings.Cut(body, "<main")
			}
			body = strings.ReplaceAll(body, r.Header.Get("X-Request-Id"), "") // random letters may spell anything
			if found := telling.FindString(body); found != "" {
				t.Errorf("%s tells %q: %s", name, found, body)
			}
			if r.Header.Get("X-Request-Id") == "" || name != "page" && !strings.Contains(r.Header.Get("Content-Type"), "json") {
				t.Errorf("%s: %v", name, r.Header)
			}
			for _, h := range []string{"Server", "X-Powered-By"} {
				if r.Header.Get(h) != "" {
					t.Errorf("%s: %s: %s", name, h, r.Header.Get(h))
				}
			}
		}
	})
}

func TestAPI11_NothingElseOnThePublicPort(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for _, path := range []string{
			"/metrics", "/debug/pprof/", "/debug/pprof/profile", "/debug/pprof/cmdline", "/debug/vars", "/debug/requests", "/swagger",
			"/swagger/index.html", "/docs", "/admin", "/.env", "/.git/config", "/keys/master.key", "/data/handstamp.db",
			"/assets/", "/assets/../keys/master.key", "/assets/%2e%2e/api.go", "/assets/..%2f..%2fetc/passwd", "/assets//etc/passwd",
		} {
			for _, method := range []string{http.MethodGet, http.MethodPost} {
				if r := w.Do(t, method, path, nil, nil); r.Status != http.StatusNotFound && r.Status != http.StatusMethodNotAllowed {
					t.Errorf("%s %s: %d %s", method, path, r.Status, r.Body)
				}
			}
		}
	})
}

func TestAPI13_NothingToBeginWith(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db)
		if n := users(t, s); n != 0 {
			t.Errorf("%d users", n)
		}
		clients, err := s.Store.Clients(t.Context(), "", 10)
		if err != nil || len(clients) != 1 || clients[0].ID != "default" || clients[0].SecretHash != "" ||
			len(clients[0].Origins)+len(clients[0].RedirectURIs) != 0 || strings.Join(clients[0].Grants, " ") != "refresh_token" {
			t.Errorf("clients %+v %v", clients, err)
		}
		for _, password := range []string{"admin", "password", "changeme", "handstamp"} {
			want(t, "admin with "+password, tryLogin(t, s, "admin@example.com", password), http.StatusUnauthorized, "")
		}
		for _, weak := range []string{"changeme", "secret", "c2VjcmV0", strings.Repeat("A", 43), "0", " "} {
			if _, err := seal.ParseMasterKey(weak); err == nil && weak != strings.Repeat("A", 43) {
				t.Errorf("the master key may be %q", weak)
			}
			c := s.Config
			c.MasterKey = seal.Secret(weak)
			if started, err := start(t, c); err == nil {
				_ = started.Close()
				t.Errorf("the service starts with the master key %q", weak)
			} else if strings.Contains(err.Error(), weak) && len(weak) > 1 {
				t.Errorf("the error tells the master key: %v", err)
			}
		}
	})
}

// Both databases compare addresses in the same way, which is the program's.
func TestDB06_Addresses(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		base := newEmail()
		for _, pair := range [][2]string{
			{"Ann." + base, "ann." + base}, {"ÄNN." + base, "änn." + base}, {"a\u0308." + base, "\u00e4." + base},
			{"straße." + base, "STRASSE." + base}, {"ΣΊΣΥΦΟΣ." + base, "σίσυφος." + base},
			{"ﬀ." + base, "ff." + base}, {"K." + base, "k." + base},
		} {
			body := func(email string) map[string]string {
				return map[string]string{"email": email, "password": servicetest.Password}
			}
			want(t, pair[0], w.JSON(t, http.MethodPost, "/v1/signup", "", body(pair[0])), http.StatusCreated, "")
			want(t, pair[1]+" is taken", w.JSON(t, http.MethodPost, "/v1/signup", "", body(pair[1])), http.StatusConflict, "email_taken")
			want(t, pair[1]+" logs in", w.JSON(t, http.MethodPost, "/v1/login", "", body(pair[1])), http.StatusOK, "")
		}
		for _, other := range []string{"ı." + base, "i." + base} { // a dotless i is another letter
			want(t, other, w.JSON(t, http.MethodPost, "/v1/signup", "",
				map[string]string{"email": other, "password": servicetest.Password}), http.StatusCreated, "")
		}
		for _, bad := range []string{"", "a", "@example.com", "a@", "a@b@c.d", "a b@example.com", "a\u00a0@example.com",
			"a\u200b@example.com", "\"a\"@example.com", "a@[127.0.0.1]", "Ann <a@example.com>", "a@example.com\u0000",
			"a,b@example.com", strings.Repeat("a", 65) + "@example.com", "a@" + strings.Repeat("b", 260) + ".com",
			"a@example.com\nBcc: b@example.com"} {
			want(t, fmt.Sprintf("%q", bad), w.JSON(t, http.MethodPost, "/v1/signup", "",
				map[string]string{"email": bad, "password": servicetest.Password}), http.StatusBadRequest, "invalid_request")
		}
	})
}

// What clients in Kotlin and Swift write for a member that they leave out.
func TestNullIsLeftOut(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for _, r := range jsonRoutes()[:2] {
			body := map[string]any{"email": "null@example.com", "password": servicetest.Password}
			for _, field := range r.fields {
				if _, needed := body[field]; !needed {
					body[field] = nil
				}
			}
			if got := w.JSON(t, r.method, r.path, "", body); got.Status >= 300 {
				t.Errorf("%s: %d %s", r.path, got.Status, got.Body)
			}
		}
	})
}

// What cannot be stored, or is no text, is refused in each place where a caller writes, and on both databases alike.
func TestParametersAreText(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := signUp(t, w.Service)
		valid := strings.TrimPrefix(authorizeURL(w.Service, map[string]string{"client_id": "web"}), w.URL)
		if r := w.Get(t, valid, ""); r.Status != http.StatusOK {
			t.Fatalf("%d %s", r.Status, r.Body)
		}
		for _, bad := range []string{"%00", "%ff", "a%00b", "%ed%a0%80", "%zz", "a;b=1"} {
			var addresses []string
			for _, name := range []string{"client_id", "nonce", "state", "login_hint", "scope", "redirect_uri", "x"} {
				changed := regexp.MustCompile(`([?&])`+name+`=[^&]*`).ReplaceAllString(valid, "${1}"+name+"="+bad)
				if changed == valid {
					changed += "&" + name + "=" + bad
				}
				addresses = append(addresses, changed)
			}
			addresses = append(addresses,
				valid+"&"+bad+"=x",
				"/oauth2/logout?client_id="+bad,
				"/oauth2/logout?state="+bad,
				"/oauth2/callback/github?state="+bad)
			for _, address := range addresses {
				if r := w.Get(t, address, ""); r.Status != http.StatusBadRequest && r.Status != http.StatusNotFound {
					t.Errorf("GET %s: %d", address, r.Status)
				}
			}
			if strings.Contains(bad, ";") || strings.HasPrefix(bad, "%z") {
				continue // no escape in a path
			}
			for _, row := range service.Routes() {
				if !strings.Contains(row.Path, ":") || row.Path == "/assets/*" {
					continue
				}
				path := regexp.MustCompile(`:[a-z]+`).ReplaceAllString(row.Path, bad)
				r := w.Do(t, row.Method, path, header("Authorization", "Bearer "+p.AccessToken, "Content-Type", "application/json"),
					strings.NewReader("{}"))
				if r.Status < 400 || r.Status >= 500 {
					t.Errorf("%s %s: %d %s", row.Method, path, r.Status, r.Body)
				}
			}
		}
	})
}
