//go:build interop

package examples

import (
	"encoding/json"
	"html"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// library is a client library of others, unchanged and set up as its guide has it.
type library struct {
	name     string
	callback string   // the path of its redirect URI
	client   []string // what its client is registered with besides
	names    bool     // it shows the name as well as the address
	api      bool     // it is a resource server too: GET /token shows the access token, and GET /hello takes it
}

func TestClientsNode(t *testing.T) {
	install(t, "clients-node", "package-lock.json", "node_modules", []string{"npm", "ci", "--no-fund", "--no-audit"})
	for _, l := range []library{
		{name: "openid-client", callback: "/callback", client: []string{"--pkce", "optional"}, names: true},
		{name: "express-openid-connect", callback: "/callback", names: true},
		{name: "auth.js", callback: "/auth/callback/handstamp", names: true},
	} {
		t.Run(l.name, func(t *testing.T) {
			l.test(t, func(args ...string) *exec.Cmd {
				return command(t, "clients-node", find(t, "node"), append([]string{"server.mjs"}, args...)...)
			})
		})
	}
}

func TestClientsPython(t *testing.T) {
	python := filepath.Join(".venv", "bin", "python")
	install(t, "clients-python", "requirements.txt", ".venv",
		[]string{"python3", "-m", "venv", "--clear", ".venv"},
		[]string{python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r",
			"requirements.txt"})
	for _, l := range []library{
		{name: "authlib", callback: "/callback", client: []string{"--pkce", "optional"}, names: true},
		{name: "mozilla-django-oidc", callback: "/oidc/callback/", client: []string{"--pkce", "optional"}},
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

// Spring Boot 3.5, as application and as API: by issuer-uri alone, and with the decoder for at+jwt.
func TestClientsJava(t *testing.T) {
	for name, typ := range map[string]string{"issuer-uri alone": "JWT", "decoder for at+jwt": "at+jwt"} {
		t.Run(name, func(t *testing.T) {
			l := library{
				name: "spring", callback: "/login/oauth2/code/handstamp", names: true, api: true,
				client: []string{"--pkce", "optional", "--access-token-typ", typ, "--audience", "https://hello.example"},
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

var hiddenState = regexp.MustCompile(`name="request" value="([^"]*)"`)

// test logs a person in at the application through the real login page.
func (l library) test(t *testing.T, application func(args ...string) *exec.Cmd) {
	t.Helper()
	s := startService(t)
	const email, name = "ann@example.com", "Ann Example"
	status, body := s.post(t, "/v1/signup", `{"email":"`+email+`","password":"`+password+`","name":"`+name+`"}`, "")
	if status != http.StatusCreated {
		t.Fatalf("signup: %d %s", status, body)
	}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	listener.Close()
	base := "http://localhost:" + port
	var client struct {
		Secret string `json:"client_secret"`
	}
	out := s.run(t, append([]string{"client", "create", "--id", "app", "--type", "confidential", "--redirect-uri", base + l.callback,
		"--grant", "authorization_code", "--grant", "refresh_token", "--scope", "openid profile email",
		"--output", "json"}, l.client...)...)
	if err := json.Unmarshal(out, &client); err != nil {
		t.Fatal(err)
	}
	start(t, application(l.name, "--issuer", s.url, "--client-id", "app", "--client-secret", client.Secret, "--port", port),
		"listening on ")

	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar}
	open := func(method, address string, form url.Values) (at *url.URL, page string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		if form != nil {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		response, err := browser.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		if response.StatusCode >= http.StatusBadRequest {
			t.Fatalf("%s: %d\n%s", response.Request.URL, response.StatusCode, body)
		}
		return response.Request.URL, string(body)
	}
	var login string
	if l.name == "auth.js" { // its login begins with a form
		_, csrf := open(http.MethodGet, base+"/auth/csrf", nil)
		var token struct{ CSRFToken string }
		if err := json.Unmarshal([]byte(csrf), &token); err != nil {
			t.Fatal(err)
		}
		_, login = open(http.MethodPost, base+"/auth/signin/handstamp", url.Values{
			"csrfToken":   {token.CSRFToken},
			"callbackUrl": {base + "/me"},
		})
	} else {
		begin := "/login"
		if l.name == "spring" {
			begin = "/oauth2/authorization/handstamp"
		}
		_, login = open(http.MethodGet, base+begin, nil)
	}
	state := hiddenState.FindStringSubmatch(login)
	if state == nil {
		t.Fatalf("no login page:\n%s", login)
	}
	open(http.MethodPost, s.url+"/oauth2/login", url.Values{
		"request":  {html.UnescapeString(state[1])},
		"email":    {email},
		"password": {password},
	})
	_, me := open(http.MethodGet, base+"/me", nil)
	if !strings.Contains(me, email) || l.names && !strings.Contains(me, name) {
		t.Errorf("the application sees %s", me)
	}
	if !l.api {
		return
	}
	_, token := open(http.MethodGet, base+"/token", nil)
	for what, raw := range map[string]string{
		"ok/access token": token, "fail/access token for another API": s.login(t), "fail/cut": token[:len(token)-4],
	} {
		status, _, body := hello(t.Context(), t, base, "Bearer "+raw)
		if wanted := strings.HasPrefix(what, "ok/"); (status == http.StatusOK) != wanted {
			t.Errorf("%s: %d %s", what, status, body)
		}
	}
}
