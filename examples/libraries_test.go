//go:build interop

package examples

import (
	"cmp"
	"context"
	"encoding/json"
	"html"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// library is a client library of others, unchanged and set up as its guide has it.
type library struct {
	name      string
	callback  string   // the path of its redirect URI
	client    []string // what its client is registered with besides; {base} is the application's origin
	begin     string   // the path at which its login begins, unless it is /login
	forms     string   // the path below which its login and logout begin with a form: those of Auth.js
	names     bool     // it shows the name as well as the address
	api       bool     // it is a resource server too: GET /token shows the access token, and GET /hello takes it
	refreshes bool     // GET /refresh makes it refresh
	logout    string   // the path at which it logs out
	everyone  bool     // its logout ends the login at the service as well
	told      bool     // the service tells it of a logout (Back-Channel Logout 1.0)
	grouped   bool     // it shows the user's roles as groups
	tls       bool     // it wants an issuer with https
	remembers bool     // in a browser: it knows its user when the page is loaded again
	asked     bool     // its logout has no hint, so that the service asks
}

var optionalPKCE = []string{"--pkce", "optional"}

func TestClientsNode(t *testing.T) {
	installClientsNode(t)
	for _, l := range []library{
		{name: "openid-client", callback: "/callback", client: optionalPKCE, names: true, logout: "/logout", everyone: true},
		{name: "express-openid-connect", callback: "/callback", names: true,
			refreshes: true, logout: "/logout", everyone: true},
		{name: "auth.js", callback: "/auth/callback/handstamp", forms: "/auth", names: true},
		{name: "next-auth", callback: "/api/auth/callback/handstamp", forms: "/api/auth", names: true},
		{name: "passport-openidconnect", callback: "/callback", client: optionalPKCE, names: true, logout: "/logout"},
		{name: "simple-oauth2", callback: "/callback", client: optionalPKCE, names: true, refreshes: true, logout: "/logout"},
	} {
		t.Run(l.name, func(t *testing.T) { l.test(t, nodeServer(t)) })
	}
}

// Libraries for browsers run in Chromium.
func TestClientsBrowser(t *testing.T) {
	installClientsNode(t)
	public := []string{"--type", "public", "--origin", "{base}"}
	offline := append(slices.Clone(public), "--scope", "openid profile email offline_access")
	for _, l := range []library{
		{name: "keycloak-js", callback: "/", client: append(slices.Clone(public), "--grant", "authorization_code"),
			everyone: true},
		{name: "msal-browser", callback: "/", client: offline,
			refreshes: true, everyone: true, remembers: true, asked: true, tls: true},
		{name: "axa-oidc-client", callback: "/authentication/callback", client: public,
			refreshes: true, everyone: true, remembers: true},
		{name: "angular-oauth2-oidc", callback: "/index.html", client: offline,
			refreshes: true, everyone: true, remembers: true, tls: true},
	} {
		t.Run(l.name, func(t *testing.T) {
			s, base := l.start(t, nodeServer(t))
			argument, err := json.Marshal(map[string]any{
				"chromium":  findFirst(t, "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
				"address":   base,
				"issuer":    s.url,
				"email":     annEmail,
				"name":      annName,
				"password":  password,
				"refreshes": l.refreshes,
				"remembers": l.remembers,
				"asks":      l.asked,
			})
			if err != nil {
				t.Fatal(err)
			}
			if out, err := command(t, "clients-node", find(t, "node"), "browser.mjs", string(argument)).CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// findFirst finds the first program that is there.
func findFirst(t *testing.T, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatalf("one of %v must be installed", names)
	return ""
}

func installClientsNode(t *testing.T) {
	t.Helper()
	install(t, "clients-node", "package-lock.json", "node_modules", []string{"npm", "ci", "--no-fund", "--no-audit"})
}

func nodeServer(t *testing.T) application {
	return func(args ...string) *exec.Cmd {
		return command(t, "clients-node", find(t, "node"), append([]string{"server.mjs"}, args...)...)
	}
}

func TestClientsPython(t *testing.T) {
	python := filepath.Join(".venv", "bin", "python")
	install(t, "clients-python", "requirements.txt", ".venv",
		[]string{"python3", "-m", "venv", "--clear", ".venv"},
		[]string{python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r",
			"requirements.txt"})
	for _, l := range []library{
		{name: "authlib-flask", callback: "/callback", client: optionalPKCE, names: true,
			refreshes: true, logout: "/logout", everyone: true},
		{name: "authlib-starlette", callback: "/callback", names: true, refreshes: true, logout: "/logout", everyone: true},
		{name: "flask-oidc", callback: "/authorize", client: optionalPKCE, names: true, refreshes: true, logout: "/logout"},
		{name: "requests-oauthlib", callback: "/callback", client: optionalPKCE, names: true,
			refreshes: true, logout: "/logout", everyone: true},
		{name: "mozilla-django-oidc", callback: "/oidc/callback/", client: optionalPKCE,
			refreshes: true, logout: "/logout", everyone: true},
		{name: "django-allauth", callback: "/accounts/oidc/handstamp/login/callback/", names: true, logout: "/logout"},
	} {
		t.Run(l.name, func(t *testing.T) {
			l.test(t, func(args ...string) *exec.Cmd {
				c := command(t, "clients-python", python, append([]string{"server.py"}, args...)...)
				c.Env = append(c.Env, "DATABASE="+filepath.Join(t.TempDir(), "django.sqlite3"))
				return c
			})
		})
	}
}

// Go libraries are a module of their own, so that ours does not depend on them.
func TestClientsGo(t *testing.T) {
	program := filepath.Join(t.TempDir(), "clients-go")
	if out, err := command(t, "clients-go", "go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	api := append(slices.Clone(optionalPKCE), "--audience", "https://hello.example")
	for _, l := range []library{
		{name: "goth", callback: "/callback", client: optionalPKCE, names: true,
			refreshes: true, logout: "/logout", everyone: true},
		{name: "keyfunc", callback: "/callback", client: api, names: true, api: true, refreshes: true},
		{name: "jwx", callback: "/callback", client: api, names: true, api: true, refreshes: true},
		{name: "kubernetes", callback: "/callback", client: []string{"--groups-claim", "groups"},
			names: true, grouped: true, tls: true},
	} {
		t.Run(l.name, func(t *testing.T) {
			l.test(t, func(args ...string) *exec.Cmd { return command(t, "", program, args...) })
		})
	}
}

// Spring Boot 3.5, as application and as API: by issuer-uri alone, and with the decoder for at+jwt.
func TestClientsJava(t *testing.T) {
	for name, typ := range map[string]string{"issuer-uri alone": "JWT", "decoder for at+jwt": "at+jwt"} {
		t.Run(name, func(t *testing.T) {
			l := library{
				name: "spring", callback: "/login/oauth2/code/handstamp", begin: "/oauth2/authorization/handstamp",
				names: true, api: true, told: true,
				client: []string{"--pkce", "optional", "--access-token-typ", typ, "--audience", "https://hello.example",
					"--backchannel-logout-uri", "{base}/logout/connect/back-channel/handstamp"},
			}
			l.test(t, func(args ...string) *exec.Cmd {
				flags := map[string]string{}
				for i := 1; i+1 < len(args); i += 2 {
					flags[args[i]] = args[i+1]
				}
				const registration, provider, api = "--spring.security.oauth2.client.registration.handstamp.",
					"--spring.security.oauth2.client.provider.handstamp.", "--spring.security.oauth2.resourceserver.jwt."
				return command(t, "clients-java", find(t, "java"), "-jar", "target/clients-java-1.jar", "--server.port="+flags["--port"],
					registration+"client-id="+flags["--client-id"], registration+"client-secret="+flags["--client-secret"],
					registration+"scope=openid,profile,email", provider+"issuer-uri="+flags["--issuer"],
					api+"issuer-uri="+flags["--issuer"], api+"audiences=https://hello.example", "--access-token-typ="+typ)
			})
		})
	}
}

// application is a program with a library: NAME --issuer URL --client-id ID --client-secret SECRET --port PORT. It prints
// "listening on URL".
type application func(args ...string) *exec.Cmd

const (
	annEmail = "ann@example.com"
	annName  = "Ann Example"
	annRole  = "friends-of-the-house"
)

// start starts the service and the application, which is registered as the library needs it, and returns the application's
// origin.
func (l library) start(t *testing.T, a application) (s *service, base string) {
	t.Helper()
	var trust []string
	if l.tls {
		var authority string
		s, authority = startTLS(t)
		trust = []string{"SSL_CERT_FILE=" + authority}
	} else {
		s = startService(t)
	}
	status, body := s.post(t, "/v1/signup", `{"email":"`+annEmail+`","password":"`+password+`","name":"`+annName+`"}`, "")
	if status != http.StatusCreated {
		t.Fatalf("signup: %d %s", status, body)
	}
	s.run(t, "user", "roles", "set", "--email", annEmail, annRole)
	port := freePort(t)
	base = "http://localhost:" + port
	args := []string{
		"client", "create", "--id", "app", "--redirect-uri", base + l.callback, "--scope", "openid profile email", "--output", "json",
	}
	for _, path := range []string{"", "/", "/me", l.callback} {
		args = append(args, "--post-logout-redirect-uri", base+path)
	}
	if !slices.Contains(l.client, "--type") {
		args = append(args, "--type", "confidential")
	}
	if !slices.Contains(l.client, "--grant") {
		args = append(args, "--grant", "authorization_code", "--grant", "refresh_token")
	}
	for _, flag := range l.client {
		args = append(args, strings.ReplaceAll(flag, "{base}", base))
	}
	var client struct {
		Secret string `json:"client_secret"`
	}
	if err := json.Unmarshal(s.run(t, args...), &client); err != nil {
		t.Fatal(err)
	}
	c := a(l.name, "--issuer", s.url, "--client-id", "app", "--client-secret", client.Secret, "--port", port)
	c.Env = append(c.Env, trust...)
	start(t, c, "listening on ")
	return s, base
}

// person is somebody at a browser without scripts.
type person struct {
	t      *testing.T
	client *http.Client
}

func newPerson(t *testing.T, s *service) person {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return person{t, &http.Client{Jar: jar, Transport: s.client.Transport}}
}

// open opens an address, by POST if there is a form, and follows where it leads.
func (p person) open(address string, form url.Values) (at *url.URL, page string) {
	p.t.Helper()
	method := http.MethodGet
	if form != nil {
		method = http.MethodPost
	}
	r, err := http.NewRequestWithContext(p.t.Context(), method, address, strings.NewReader(form.Encode()))
	if err != nil {
		p.t.Fatal(err)
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	response, err := p.client.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	if response.StatusCode >= http.StatusBadRequest {
		p.t.Fatalf("%s: %d\n%s", response.Request.URL, response.StatusCode, body)
	}
	return response.Request.URL, string(body)
}

var pageForm = regexp.MustCompile(`(?s)<form id="(login|logout)"[^>]* action="([^"]*)".*?name="request" value="([^"]*)"`)

// submit sends the form of a page of the service.
func (p person) submit(at *url.URL, page, id string, fields url.Values) (*url.URL, string) {
	p.t.Helper()
	m := pageForm.FindStringSubmatch(page)
	if m == nil || m[1] != id {
		p.t.Fatalf("no %s form at %s:\n%s", id, at, page)
	}
	action, err := at.Parse(html.UnescapeString(m[2]))
	if err != nil {
		p.t.Fatal(err)
	}
	form := url.Values{"request": {html.UnescapeString(m[3])}}
	maps.Copy(form, fields)
	return p.open(action.String(), form)
}

// begin begins a login or logout of the library.
func (l library) begins(p person, base, what string) (*url.URL, string) {
	if l.forms == "" {
		return p.open(base+map[string]string{"signin": cmp.Or(l.begin, "/login"), "signout": l.logout}[what], nil)
	}
	_, csrf := p.open(base+l.forms+"/csrf", nil)
	var token struct{ CSRFToken string }
	if err := json.Unmarshal([]byte(csrf), &token); err != nil {
		p.t.Fatal(err)
	}
	path := l.forms + "/" + what
	if what == "signin" {
		path += "/handstamp"
	}
	return p.open(base+path, url.Values{"csrfToken": {token.CSRFToken}, "callbackUrl": {base + "/me"}})
}

// test logs a person in at the application through the real login page, refreshes, and logs out.
func (l library) test(t *testing.T, a application) {
	t.Helper()
	s, base := l.start(t, a)
	p := newPerson(t, s)
	l.logIn(p, s, base)
	if l.refreshes {
		p.open(base+"/refresh", nil)
		l.shows(p, base, "after the refresh")
	}
	if l.api {
		_, token := p.open(base+"/token", nil)
		for what, raw := range map[string]string{
			"ok/access token": token, "fail/access token for another API": s.login(t), "fail/cut": token[:len(token)-4],
		} {
			status, _, body := hello(t.Context(), t, base, "Bearer "+raw)
			if wanted := strings.HasPrefix(what, "ok/"); (status == http.StatusOK) != wanted {
				t.Errorf("%s: %d %s", what, status, body)
			}
		}
	}
	if l.told {
		at, page := p.open(s.url+"/oauth2/logout", nil)
		p.submit(at, page, "logout", nil)
		within(t, 10*time.Second, "the application has heard of the logout", func(context.Context) bool {
			_, me := p.open(base+"/me", nil)
			return !strings.Contains(me, annEmail)
		})
		l.logIn(p, s, base)
	}
	if l.logout == "" && l.forms == "" {
		return
	}
	if at, page := l.begins(p, base, "signout"); pageForm.MatchString(page) { // the service asks
		p.submit(at, page, "logout", nil)
	}
	if !l.everyone {
		if _, me := p.open(base+"/me", nil); strings.Contains(me, annEmail) {
			t.Errorf("after logout the application sees %s", me)
		}
		return
	}
	if at, page := l.begins(p, base, "signin"); !strings.HasPrefix(at.String(), s.url) || !strings.Contains(page, `id="login"`) {
		t.Errorf("after logout a login leads to %s:\n%s", at, page)
	}
}

func (l library) logIn(p person, s *service, base string) {
	p.t.Helper()
	at, page := l.begins(p, base, "signin")
	p.submit(at, page, "login", url.Values{"email": {annEmail}, "password": {password}})
	l.shows(p, base, "after the login")
}

func (l library) shows(p person, base, when string) {
	p.t.Helper()
	if _, me := p.open(base+"/me", nil); !strings.Contains(me, annEmail) || l.names && !strings.Contains(me, annName) ||
		l.grouped && !strings.Contains(me, annRole) {
		p.t.Errorf("%s the application sees %s", when, me)
	}
}
