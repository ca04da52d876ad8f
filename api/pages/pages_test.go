package pages

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"
)

// everyPage returns each page at its fullest, with links, messages, providers and all.
func everyPage() map[string]Page {
	form := Form{Action: "/post", Hidden: map[string]string{"state": "s"}, Targets: []string{"https://photos.example/cb"}}
	with := func(id MessageID) Form { f := form; f.Error = id.With("min", "10", "max", "200"); return f }
	client := Client{
		Name:      "Acme Photos",
		Host:      "photos.example",
		PolicyURL: "https://photos.example/p",
		TermsURL:  "https://photos.example/t",
	}
	ada := Person{Name: "Ada Lovelace", Email: "ada@example.com"}
	providers := []Provider{{ID: "google", Type: "google", URL: "/g"}, {ID: "corp", Type: "oidc", Name: "Company", URL: "/c"}}
	many := append(slices.Clone(providers), Provider{ID: "apple", Type: "apple", URL: "/a"},
		Provider{ID: "gitea", Type: "oauth2", URL: "/o"})
	noticed := form
	noticed.Notice = PasswordChanged.With()
	return map[string]Page{
		"login": Login{Form: form, Client: client, SignupURL: "/signup", ForgotURL: "/forgot", Providers: providers},
		"login/refused": Login{
			Form:      with(InvalidCredentials),
			Client:    client,
			Email:     "ada@example.com",
			SignupURL: "/signup",
			ForgotURL: "/forgot",
			Providers: many,
		},
		"login/notice":    Login{Form: noticed},
		"login/again":     Login{Form: form, Client: client, Email: "ada@example.com", DifferentURL: "/login"},
		"signup":          Signup{Form: form, Client: client, MinPassword: 10, LoginURL: "/login", Providers: providers},
		"signup/password": Signup{Form: with(PasswordTooShort), Email: "ada@example.com", Name: "Ada", MinPassword: 10},
		"signup/email":    Signup{Form: with(EmailTaken), Email: "ada@example.com", Name: "Ada", MinPassword: 10},
		"signup/name":     Signup{Form: with(NameInvalid), Email: "ada@example.com", Name: "Ada", MinPassword: 10},
		"verify/code":     Verify{Form: noticed, Email: "ada@example.com", Code: true},
		"reset/code":      Reset{Form: noticed, Email: "ada@example.com", MinPassword: 10, Code: true},
		"mfa/totp": MFA{
			Form:         form,
			Client:       client,
			Method:       "totp",
			Alternatives: []Method{{"email", "/e"}, {"recovery", "/r"}},
			CancelURL:    "/x",
		},
		"mfa/email":    MFA{Form: with(CodeInvalid), Method: "email", Destination: "a•••@example.com", ResendURL: "/again"},
		"mfa/recovery": MFA{Form: form, Method: "recovery", Alternatives: []Method{{"totp", "/t"}}},
		"consent": Consent{
			Form:         form,
			Client:       client,
			User:         ada,
			Scopes:       []string{"openid", "offline_access", "orders:read"},
			DifferentURL: "/login",
		},
		"continue":  Continue{Form: form, Client: client, User: ada, DifferentURL: "/login"},
		"logout":    Logout{Form: form, Client: client, User: ada, CancelURL: "/back"},
		"loggedout": LoggedOut{Client: client, ContinueURL: "https://photos.example/", LoginURL: "/login"},
		"home": Home{
			Issuer:      "https://login.example.com",
			LoginURL:    "https://photos.example/",
			MetadataURL: "/.well-known/openid-configuration",
			KeysURL:     "/.well-known/jwks.json",
			ContractURL: "/openapi.yaml",
		},
		"home/nowhere":  Home{Issuer: "https://login.example.com", KeysURL: "/.well-known/jwks.json"},
		"forgot":        Forgot{Form: with(EmailInvalid), Email: "ada", LoginURL: "/login"},
		"reset":         Reset{Form: with(PasswordCommon), Email: "ada@example.com", MinPassword: 10},
		"verify":        Verify{Form: form, Email: "ada@example.com"},
		"done/mail":     Done{What: CheckMailReset.With(), Email: "ada@example.com", LoginURL: "/login"},
		"done/password": Done{What: PasswordChanged.With(), LoginURL: "/login"},
		"error":         Error{What: FaultRedirectURI.With(), Code: "invalid_request", Detail: "not registered", RequestID: "req_1"},
		"error/provider": Error{
			What:      FaultProviderAnswer.With("provider", "GitHub"),
			RequestID: "req_1",
			RetryURL:  "/again",
			ClientURL: "https://photos.example/",
			Client:    client,
		},
		"formpost": FormPost{
			RedirectURI: "https://photos.example/cb",
			Values:      map[string]string{"code": "c", "state": "s"},
			Client:      client,
		},
		"onward":           Onward{URL: "https://photos.example/cb?code=c", Client: client},
		"login/popup":      Login{Form: Form{Action: "/post", Popup: true}},
		"empty/login":      Login{},
		"empty/consent":    Consent{},
		"empty/error":      Error{},
		"empty/logged out": LoggedOut{},
	}
}

func newRenderer(t *testing.T, b Branding) *Renderer {
	t.Helper()
	r, err := New(b, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func branded() Branding {
	return Branding{SupportURL: "mailto:help@acme.example", PrivacyURL: "https://acme.example/privacy", TermsURL: "/terms"}
}

func render(t *testing.T, r *Renderer, lang string, p Page) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	if err := r.Render(w, http.StatusOK, lang, p); err != nil {
		t.Fatal(err)
	}
	return w
}

func parse(t *testing.T, body string) *html.Node {
	t.Helper()
	root, err := html.Parse(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func attr(n *html.Node, key string) (string, bool) {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val, true
		}
	}
	return "", false
}

func elements(root *html.Node, names ...string) []*html.Node {
	var found []*html.Node
	for n := range root.Descendants() {
		if n.Type == html.ElementNode && (len(names) == 0 || slices.Contains(names, n.Data)) {
			found = append(found, n)
		}
	}
	return found
}

func text(n *html.Node) string {
	var b strings.Builder
	for c := range n.Descendants() {
		if c.Type == html.TextNode {
			b.WriteString(c.Data)
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// byID also fails for IDs that stand twice.
func byID(t *testing.T, root *html.Node) map[string]*html.Node {
	t.Helper()
	ids := map[string]*html.Node{}
	for _, n := range elements(root) {
		if id, ok := attr(n, "id"); ok {
			if ids[id] != nil || id == "" {
				t.Errorf("id %q is empty or stands twice", id)
			}
			ids[id] = n
		}
	}
	return ids
}

func TestEveryPageIsAccessibleAndSelfContained(t *testing.T) {
	autocomplete := map[string]string{"email": "username", "name": "name", "code": "one-time-code"}
	r := newRenderer(t, branded())
	for name, page := range everyPage() {
		for _, lang := range []string{"en", "de"} {
			t.Run("ok/"+name+"/"+lang, func(t *testing.T) {
				w := render(t, r, lang, page)
				body := w.Body.String()
				root := parse(t, body)
				ids := byID(t, root)

				if got, _ := attr(elements(root, "html")[0], "lang"); got != lang || w.Header().Get("Content-Language") != lang {
					t.Errorf("language %q, want %q", got, lang)
				}
				if title := text(elements(root, "title")[0]); len(title) <= len(" · Handstamp") {
					t.Errorf("title %q", title)
				}
				if n := len(elements(root, "h1")); n != 1 {
					t.Errorf("%d h1, want 1", n)
				}
				if strings.Contains(body, "ZgotmplZ") {
					t.Error("a value was refused by html/template instead of by us")
				}
				focus := 0
				for _, n := range elements(root) {
					for _, a := range n.Attr {
						if strings.HasPrefix(a.Key, "on") || a.Key == "style" {
							t.Errorf("<%s> has the attribute %s, which the policy forbids", n.Data, a.Key)
						}
						if a.Key == "autofocus" {
							focus++
						}
						if a.Key == "aria-describedby" || a.Key == "aria-labelledby" || a.Key == "for" {
							for id := range strings.FieldsSeq(a.Val) {
								if ids[id] == nil {
									t.Errorf("%s names %q, which is not on the page", a.Key, id)
								}
							}
						}
						if a.Key == "tabindex" {
							t.Error("tabindex: the order of the page is the order of the keyboard")
						}
					}
					switch n.Data {
					case "script":
						if text := n.FirstChild.Data; text != submitScript && text != revealScript {
							t.Errorf("script %q", text)
						}
					case "style", "iframe", "object", "base":
						t.Errorf("<%s>", n.Data)
					case "link", "img":
						for _, key := range []string{"href", "src"} {
							if u, ok := attr(n, key); ok && !strings.HasPrefix(u, "/assets/") {
								t.Errorf("loads %q", u)
							}
						}
					case "a", "button":
						if text(n) == "" {
							t.Errorf("<%s> without text", n.Data)
						}
						if _, ok := attr(n, "id"); !ok && n.Parent.Data != "footer" {
							t.Errorf("<%s> without an ID: %s", n.Data, text(n))
						}
					case "form":
						if method, _ := attr(n, "method"); method != "post" {
							t.Errorf("form method %q", method)
						}
					case "input":
						checkInput(t, root, n, autocomplete)
					}
				}
				if focus > 1 {
					t.Errorf("%d elements with autofocus", focus)
				}
			})
		}
	}
}

func checkInput(t *testing.T, root, n *html.Node, autocomplete map[string]string) {
	t.Helper()
	if kind, _ := attr(n, "type"); kind == "hidden" {
		return
	}
	name, _ := attr(n, "name")
	got, _ := attr(n, "autocomplete")
	if want := autocomplete[name]; name != "" && want != "" && got != want {
		t.Errorf("input %s: autocomplete %q, want %q", name, got, want)
	}
	if name == "password" && got != "current-password" && got != "new-password" {
		t.Errorf("password: autocomplete %q", got)
	}
	if _, ok := attr(n, "aria-label"); ok {
		return
	}
	id, _ := attr(n, "id")
	for _, label := range elements(root, "label") {
		if target, _ := attr(label, "for"); target == id && text(label) != "" {
			return
		}
	}
	t.Errorf("input %s has no label", name)
}

func TestFixedNames(t *testing.T) {
	tests := map[string]struct {
		form   string
		inputs []string
		ids    []string
	}{
		"login": {"login", []string{"email", "password"},
			[]string{"login-submit", "provider-google", "provider-corp", "signup-link", "forgot-link"}},
		"login/refused":  {"login", []string{"email", "password"}, []string{"error", "provider-gitea"}},
		"login/notice":   {"login", nil, []string{"notice"}},
		"login/again":    {"login", []string{"email", "password"}, []string{"different-account"}},
		"signup":         {"signup", []string{"email", "password", "name"}, []string{"signup-submit", "login-link", "provider-google"}},
		"mfa/totp":       {"mfa", []string{"code"}, []string{"mfa-submit", "method-email", "method-recovery", "cancel-link"}},
		"mfa/email":      {"mfa", []string{"code"}, []string{"error", "resend-link"}},
		"consent":        {"consent", nil, []string{"allow", "deny", "different-account", "client-policy", "client-terms"}},
		"continue":       {"continue", nil, []string{"continue-submit", "different-account"}},
		"logout":         {"logout", nil, []string{"logout-submit", "logout-cancel"}},
		"loggedout":      {"", nil, []string{"back-link", "login-link"}},
		"home":           {"", nil, []string{"login-link", "issuer", "metadata-link", "keys-link", "contract-link"}},
		"home/nowhere":   {"", nil, []string{"issuer", "keys-link"}},
		"forgot":         {"forgot", []string{"email"}, []string{"error", "forgot-submit", "login-link"}},
		"reset":          {"reset", []string{"password"}, []string{"error", "reset-submit"}},
		"verify":         {"verify", nil, []string{"verify-submit"}},
		"done/password":  {"", nil, []string{"notice", "login-link"}},
		"error":          {"", nil, []string{"error", "request-id", "error-code", "error-detail"}},
		"error/provider": {"", nil, []string{"error", "retry-link", "back-link"}},
		"formpost":       {"form-post", nil, []string{"form-post-submit"}},
		"onward":         {"", nil, []string{"onward-link"}},
	}
	pages := everyPage()
	for name, tt := range tests {
		t.Run("ok/"+name, func(t *testing.T) {
			root := parse(t, render(t, newRenderer(t, Branding{}), "en", pages[name]).Body.String())
			ids := byID(t, root)
			for _, id := range tt.ids {
				if ids[id] == nil {
					t.Errorf("#%s is missing", id)
				}
			}
			if tt.form == "" {
				return
			}
			form := ids[tt.form]
			if form == nil || form.Data != "form" {
				t.Fatalf("form#%s is missing", tt.form)
			}
			names := map[string]string{}
			for _, n := range elements(form, "input") {
				key, _ := attr(n, "name")
				names[key], _ = attr(n, "value")
			}
			for _, input := range tt.inputs {
				if _, ok := names[input]; !ok {
					t.Errorf("input %q is missing", input)
				}
			}
			if names["state"] != "s" {
				t.Errorf("the page's state is missing: %v", names)
			}
		})
	}
}

func TestErrorsPointAtTheirInputs(t *testing.T) {
	tests := map[string]struct {
		page    string
		invalid []string
		focus   string
	}{
		"ok/credentials": {"login/refused", []string{"email", "password"}, "password"},
		"ok/none":        {"login", nil, "email"},
		"ok/again":       {"login/again", nil, "password"},
		"ok/short":       {"signup/password", []string{"password"}, "password"},
		"ok/taken":       {"signup/email", []string{"email"}, "email"},
		"ok/name":        {"signup/name", []string{"name"}, "name"},
		"ok/code":        {"mfa/email", []string{"code"}, "code"},
		"ok/address":     {"forgot", []string{"email"}, "email"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			root := parse(t, render(t, newRenderer(t, Branding{}), "en", everyPage()[tt.page]).Body.String())
			var invalid []string
			for _, n := range elements(root, "input") {
				id, _ := attr(n, "id")
				described, _ := attr(n, "aria-describedby")
				if v, _ := attr(n, "aria-invalid"); v == "true" {
					invalid = append(invalid, id)
					if !slices.Contains(strings.Fields(described), "error") {
						t.Errorf("%s is invalid but not described by #error", id)
					}
				}
				if _, ok := attr(n, "autofocus"); ok && id != tt.focus {
					t.Errorf("focus on %q, want %q", id, tt.focus)
				}
			}
			slices.Sort(invalid)
			if diff := cmp.Diff(tt.invalid, invalid); diff != "" {
				t.Error(diff)
			}
			title := text(elements(root, "title")[0])
			if failed := tt.invalid != nil; failed != strings.HasPrefix(title, "Error: ") {
				t.Errorf("title %q", title)
			}
		})
	}
}

// hostile fills every string of a page by the kind of field it is.
func hostile(v reflect.Value, field, value, url string) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && f.Type != reflect.TypeFor[Message]() {
				hostile(v.Field(i), f.Name, value, url)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			hostile(v.Index(i), field, value, url)
		}
	case reflect.Map:
		filled := reflect.MakeMap(v.Type())
		if v.Len() > 0 {
			filled.SetMapIndex(reflect.ValueOf(value), reflect.ValueOf(value))
		}
		v.Set(filled)
	case reflect.String:
		switch {
		case field == "Method" || field == "Type", v.String() == "":
		case strings.HasSuffix(field, "URL") || field == "RedirectURI" || field == "Action" || field == "Targets":
			v.SetString(url)
		default:
			v.SetString(value)
		}
	}
}

// skeleton is a page's elements and attribute names: what markup can do, without what it says.
func skeleton(root *html.Node) []string {
	var out []string
	for _, n := range elements(root) {
		line := n.Data
		for _, a := range n.Attr {
			line += " " + a.Key
		}
		out = append(out, line)
	}
	return out
}

func copyPage(p Page, change func(reflect.Value)) Page {
	v := reflect.New(reflect.TypeOf(p)).Elem()
	v.Set(reflect.ValueOf(p))
	for _, f := range v.Fields() { // slices are shared with the original
		if f.Kind() == reflect.Slice {
			f.Set(reflect.AppendSlice(reflect.MakeSlice(f.Type(), 0, f.Len()), f))
		}
	}
	change(v)
	return v.Interface().(Page)
}

func TestCK09_PagesEscapeWhatStrangersChoose(t *testing.T) {
	values := []string{
		`"><script>alert(1)</script>`, `'><img src=x onerror=alert(1)>`, `</title><svg onload=alert(1)>`,
		`x" autofocus onfocus="alert(1)`,
		`</script><script>alert(1)</script>`, "{{.}}{client}", `&lt;b&gt;`, "<!--", "a\x00b\u202ec", "\xff\xfe<b>",
	}
	r := newRenderer(t, branded())
	for name, page := range everyPage() {
		for _, value := range values {
			t.Run(fmt.Sprintf("ok/%s/%q", name, value), func(t *testing.T) {
				benign := copyPage(page, func(v reflect.Value) { hostile(v, "", "word", "/link") })
				evil := copyPage(page, func(v reflect.Value) { hostile(v, "", value, "/link") })
				want := skeleton(parse(t, render(t, r, "en", benign).Body.String()))
				body := render(t, r, "en", evil).Body.String()
				if diff := cmp.Diff(want, skeleton(parse(t, body))); diff != "" {
					t.Errorf("markup changed:\n%s", diff)
				}
				if strings.ContainsAny(body, "\x00\u202e") {
					// Inputs keep a value as it is; only text is cleaned.
					for _, n := range elements(parse(t, body)) {
						if n.Data != "input" && strings.Contains(text(n), "\u202e") {
							t.Errorf("<%s> shows a bidirectional override", n.Data)
						}
					}
				}
			})
		}
	}
}

func TestCK09_PagesLinkNowhereStrange(t *testing.T) {
	urls := []string{
		"javascript:alert(1)", "JaVaScRiPt:alert(1)", " javascript:alert(1)", "java\nscript:alert(1)", "\x01javascript:alert(1)",
		"data:text/html,<script>alert(1)</script>", "vbscript:x", "//evil.example/", `/\evil.example/`, `\\evil.example`,
		"https:///evil.example", "file:///etc/passwd", "blob:https://a/b",
	}
	r := newRenderer(t, Branding{})
	for name, page := range everyPage() {
		for _, url := range urls {
			t.Run(fmt.Sprintf("fail/%s/%q", name, url), func(t *testing.T) {
				evil := copyPage(page, func(v reflect.Value) { hostile(v, "", "word", url) })
				w := render(t, r, "en", evil)
				for _, n := range elements(parse(t, w.Body.String()), "a") {
					if href, _ := attr(n, "href"); true {
						t.Errorf("a link to %q", href)
					}
				}
				for _, n := range elements(parse(t, w.Body.String()), "form") {
					action, _ := attr(n, "action")
					for _, scheme := range []string{"javascript:", "data:", "vbscript:", "blob:", "file:"} {
						if strings.Contains(strings.ToLower(action), scheme) {
							t.Errorf("a form that posts to %q", action)
						}
					}
				}
				if csp := w.Header().Get("Content-Security-Policy"); strings.Contains(csp, "script:") || strings.Contains(csp, "data:") ||
					strings.Contains(csp, "blob:") || strings.Contains(csp, "file:") {
					t.Errorf("policy %q", csp)
				}
			})
		}
	}
}

func TestOA14_ProviderErrorDescriptionIsEscaped(t *testing.T) {
	const evil = `denied<script>alert(1)</script><a href="javascript:alert(1)">click</a>`
	body := render(t, newRenderer(t, Branding{}), "en", Error{
		What:      FaultProviderDenied.With("provider", "<b>GitHub</b>"),
		Code:      "<i>access_denied</i>",
		Detail:    evil,
		RequestID: "req_1",
	}).Body.String()
	root := parse(t, body)
	if got := text(byID(t, root)["error-detail"]); got != evil {
		t.Errorf("shown as %q", got)
	}
	if len(elements(root, "script", "b", "i", "a")) > 0 {
		t.Error("the provider wrote markup into our page")
	}
	if !strings.Contains(text(root), "Login with <b>GitHub</b> stopped") {
		t.Errorf("name of the provider: %s", text(root))
	}
}

func TestClean(t *testing.T) {
	tests := map[string]struct{ in, want string }{
		"ok/plain":           {"Acme Photos", "Acme Photos"},
		"ok/other script":    {"アクメ عكا", "アクメ عكا"},
		"ok/controls":        {"a\x00\x1b[31mb\u0085c", "a[31mbc"},
		"ok/bidi":            {"a\u202eb\u2066c\u200fd", "abcd"},
		"ok/invisible":       {"pay\u200bpal\u00ad\ufeff", "paypal"},
		"ok/spaces":          {"  a \t\n b\u00a0 c ", "a b c"},
		"ok/not UTF-8":       {"a\xffb", "a\ufffdb"},
		"ok/long":            {strings.Repeat("ä", 300), strings.Repeat("ä", 199) + "…"},
		"ok/combining stays": {"e\u0301", "e\u0301"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := clean(tt.in); got != tt.want {
				t.Errorf("clean(%q) = %q, want %q", tt.in, got, tt.want)
			}
		})
	}
}

type brokenWriter struct {
	http.ResponseWriter
	wrote bool
}

func (w *brokenWriter) Write([]byte) (int, error) { w.wrote = true; return 0, errors.New("gone") }

func TestRender(t *testing.T) {
	r := newRenderer(t, Branding{})
	t.Run("ok/status and length", func(t *testing.T) {
		w := httptest.NewRecorder()
		if err := r.Render(w, http.StatusServiceUnavailable, "en", Error{What: FaultUnavailable.With()}); err != nil {
			t.Fatal(err)
		}
		if w.Code != http.StatusServiceUnavailable || w.Header().Get("Content-Length") != fmt.Sprint(w.Body.Len()) {
			t.Errorf("status %d, length %s of %d", w.Code, w.Header().Get("Content-Length"), w.Body.Len())
		}
	})
	t.Run("ok/unknown language is English", func(t *testing.T) {
		if got := render(t, r, "tlh", Login{}).Header().Get("Content-Language"); got != "en" {
			t.Errorf("language %q", got)
		}
	})
	t.Run("ok/unknown message is a general failure", func(t *testing.T) {
		body := render(t, r, "en", Error{What: MessageID("fault.nonsense").With()}).Body.String()
		if !strings.Contains(body, "Something went wrong") {
			t.Error(body)
		}
		body = render(t, r, "en", Login{Form: Form{Error: MessageID("nonsense").With("odd")}}).Body.String()
		if !strings.Contains(body, "That didn’t work") {
			t.Error(body)
		}
	})
	t.Run("fail/connection gone", func(t *testing.T) {
		if err := r.Render(&brokenWriter{ResponseWriter: httptest.NewRecorder()}, http.StatusOK, "en", Login{}); err == nil {
			t.Error("no error")
		}
	})
	t.Run("ok/same page, same bytes", func(t *testing.T) {
		p := everyPage()["consent"]
		if !bytes.Equal(render(t, r, "en", p).Body.Bytes(), render(t, r, "en", p).Body.Bytes()) {
			t.Error("pages differ")
		}
	})
	t.Run("ok/another replica, same assets", func(t *testing.T) {
		other := newRenderer(t, Branding{})
		if !reflect.DeepEqual(r.brand, other.brand) {
			t.Errorf("%v and %v", r.brand, other.brand)
		}
	})
}
