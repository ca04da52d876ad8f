package api_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/oauth"
)

// Clients that others have written, unchanged, against the running service.

const clientsDir = "testdata/clients"

// installClients installs the locked client libraries, unless they are there.
var installClients = sync.OnceValue(func() error { //nolint:gochecknoglobals // done once for all tests
	lock, err := os.ReadFile(filepath.Join(clientsDir, "package-lock.json"))
	if err != nil {
		return err
	}
	mark := filepath.Join(clientsDir, "node_modules", ".installed")
	if installed, err := os.ReadFile(mark); err == nil && bytes.Equal(installed, lock) {
		return nil
	}
	install := exec.Command("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	install.Dir = clientsDir
	if out, err := install.CombinedOutput(); err != nil {
		return &exec.Error{Name: "npm ci: " + string(out), Err: err}
	}
	return os.WriteFile(mark, lock, 0o600)
})

// node runs a script of testdata/clients with a JSON argument, and returns the JSON that it prints last. A script that
// ends with an error fails the test.
func node(t *testing.T, script string, argument any, env ...string) map[string]any {
	t.Helper()
	if err := installClients(); err != nil {
		t.Fatalf("this test needs Node.js 20 or later, npm, and a registry to install %s from: %v", clientsDir, err)
	}
	text, err := json.Marshal(argument)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "--import", "./extensions.mjs", script, string(text))
	cmd.Dir = clientsDir
	cmd.Env = append(cmd.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s\n%s", script, err, stderr.String(), out)
	}
	var result map[string]any
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	if err := json.Unmarshal(lines[len(lines)-1], &result); err != nil {
		t.Fatalf("%s printed %q: %v", script, out, err)
	}
	return result
}

// chromium is the program that tests drive.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("this test drives Chromium, which is not here: apt-get install chromium")
	return ""
}

// libraryClients registers the two kinds of clients, which libraries know how to be.
func libraryClients(t *testing.T, s *servicetest.Service) {
	t.Helper()
	for _, c := range []oauth.Client{
		{ID: "public"}, {ID: "confidential", Type: oauth.Confidential, SecretHash: oauth.HashSecret(secretOf("confidential"))},
	} {
		c.PostLogoutRedirectURIs = []string{appOrigin + "/bye"}
		registerClient(t, s, c)
	}
}

func TestNodeLibraries(t *testing.T) {
	t.Parallel()
	servicetest.Each(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db)
		libraryClients(t, s)
		for _, script := range []string{"openid-client.mjs", "oauth4webapi.mjs"} {
			for _, clientID := range []string{"public", "confidential"} {
				t.Run(script+" "+clientID, func(t *testing.T) {
					email := newEmail()
					s.SignUp(t, email)
					argument := map[string]string{
						"issuer":      s.Config.Issuer,
						"clientId":    clientID,
						"redirectUri": appRedirect,
						"afterLogout": appOrigin + "/bye",
						"audience":    s.Config.Audience[0],
						"email":       email, "password": servicetest.Password,
					}
					if clientID == "confidential" {
						argument["clientSecret"] = secretOf(clientID)
					}
					node(t, script, argument)
				})
			}
		}
	})
}

// An installed application: RFC 8252.
func TestAppAuth(t *testing.T) {
	t.Parallel()
	s := servicetest.Start(t, servicetest.SQLite(t))
	s.SignUp(t, "ann@example.com")
	const private = "com.example.app:/oauth2redirect"
	registerClient(t, s, oauth.Client{ID: "native", RedirectURIs: []string{"http://127.0.0.1/cb", private}})

	t.Run("AppAuth-JS, loopback with a port of its own", func(t *testing.T) {
		person, err := json.Marshal(map[string]string{"email": "ann@example.com", "password": servicetest.Password})
		if err != nil {
			t.Fatal(err)
		}
		browser, err := filepath.Abs(filepath.Join(clientsDir, "person.mjs"))
		if err != nil {
			t.Fatal(err)
		}
		out := node(t, "appauth.mjs", map[string]string{"issuer": s.Config.Issuer, "clientId": "native"}, "BROWSER="+browser,
			"PERSON="+string(person))
		if uri, _ := out["redirect_uri"].(string); !strings.HasPrefix(uri, "http://127.0.0.1:") {
			t.Errorf("redirect URI %q", uri)
		}
	})
	t.Run("private-use scheme", func(t *testing.T) { // section 7.1: with a single slash
		b := newBrowser(t, s)
		page := b.open(authorizeURL(s, map[string]string{"client_id": "native", "redirect_uri": private}))
		if policy := page.header.Get("Content-Security-Policy"); !strings.Contains(policy, "form-action 'self' com.example.app:") {
			t.Errorf("the browser would not leave the page: %s", policy)
		}
		p := b.logIn(page, "ann@example.com")
		if p.location == nil || p.location.Scheme != "com.example.app" || p.location.Path != "/oauth2redirect" {
			t.Fatalf("sent to %v", p.location)
		}
		redeem(t, s, p.code(t), "client_id", "native", "redirect_uri", private).Tokens(t)
	})
}

// A web application in Go: golang.org/x/oauth2 and coreos/go-oidc, with a browser that the application sends to and fro.
func TestGoLibraries(t *testing.T) {
	t.Parallel()
	servicetest.Each(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db)
		s.SignUp(t, "ann@example.com")
		provider, err := oidc.NewProvider(t.Context(), s.Config.Issuer)
		if err != nil {
			t.Fatal(err)
		}
		for _, style := range []oauth2.AuthStyle{oauth2.AuthStyleInHeader, oauth2.AuthStyleInParams, oauth2.AuthStyleAutoDetect} {
			id := "app" + string('0'+rune(style))
			verifier, nonce, state := oauth2.GenerateVerifier(), rand.Text(), rand.Text()
			var token *oauth2.Token
			config := oauth2.Config{
				ClientID:     id,
				ClientSecret: secretOf(id),
				Endpoint:     provider.Endpoint(),
				Scopes:       []string{oidc.ScopeOpenID, oidc.ScopeOfflineAccess, "email"},
			}
			config.Endpoint.AuthStyle = style
			app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/callback" {
					http.Redirect(w, r, config.AuthCodeURL(state, oidc.Nonce(nonce), oauth2.S256ChallengeOption(verifier)), http.StatusFound)
					return
				}
				if got := r.URL.Query(); got.Get("state") != state || got.Get("iss") != s.Config.Issuer {
					t.Errorf("callback %v", got)
				}
				if token, err = config.Exchange(r.Context(), r.URL.Query().Get("code"), oauth2.VerifierOption(verifier)); err != nil {
					t.Errorf("exchange: %v", err)
				}
			}))
			defer app.Close()
			config.RedirectURL = app.URL + "/callback"
			registerClient(t, s, oauth.Client{
				ID:           id,
				Type:         oauth.Confidential,
				SecretHash:   oauth.HashSecret(secretOf(id)),
				RedirectURIs: []string{config.RedirectURL},
			})

			b := newBrowser(t, s)
			p := b.logIn(b.open(app.URL), "ann@example.com")
			if b.open(p.location.String()); token == nil {
				t.Fatalf("no tokens, sent to %v", p.location)
			}
			raw, _ := token.Extra("id_token").(string)
			idToken, err := provider.Verifier(&oidc.Config{ClientID: id}).Verify(t.Context(), raw)
			if err != nil || idToken.Nonce != nonce || idToken.VerifyAccessToken(token.AccessToken) != nil {
				t.Fatalf("ID token %+v: %v", idToken, err)
			}
			source := config.TokenSource(t.Context(), token)
			user, err := provider.UserInfo(t.Context(), source)
			if err != nil || user.Email != "ann@example.com" || user.Subject != idToken.Subject {
				t.Errorf("userinfo %+v: %v", user, err)
			}
			token.Expiry = time.Now().Add(-time.Minute)
			next, err := config.TokenSource(t.Context(), token).Token()
			if err != nil || next.RefreshToken == token.RefreshToken || next.AccessToken == token.AccessToken {
				t.Errorf("refresh: %v", err)
			}
		}
	})
}

// spa serves a single-page application with oidc-client-ts, on a host that is not the service's.
func spa(t *testing.T, s *servicetest.Service) (address string) {
	t.Helper()
	if err := installClients(); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/oidc-client-ts.js", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, filepath.Join(clientsDir, "node_modules/oidc-client-ts/dist/browser/oidc-client-ts.min.js"))
	})
	mux.HandleFunc("/config.json", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{"authority": s.Config.Issuer, "client_id": "spa"})
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, filepath.Join(clientsDir, "spa.html"))
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return "http://localhost:" + u.Port() // another site than 127.0.0.1
}

func TestOIDCClientTS(t *testing.T) {
	t.Parallel()
	s := servicetest.Start(t, servicetest.SQLite(t))
	s.SignUp(t, "ann@example.com")
	address := spa(t, s)
	registerClient(t, s, oauth.Client{
		ID:                     "spa",
		RedirectURIs:           []string{address + "/"},
		PostLogoutRedirectURIs: []string{address + "/"},
		Origins:                []string{address},
	})
	if err := s.Clients.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	node(t, "oidc-client-ts.mjs", map[string]string{
		"chromium": chromium(t),
		"address":  address,
		"issuer":   s.Config.Issuer,
		"email":    "ann@example.com",
		"password": servicetest.Password,
	})
}

// Apache with mod_auth_openidc, as Debian has them, in front of a page that only Ann may read.
func TestApache(t *testing.T) {
	t.Parallel()
	apache, module := "/usr/sbin/apache2", "/usr/lib/apache2/modules/mod_auth_openidc.so"
	for _, file := range []string{apache, module} {
		if _, err := os.Stat(file); err != nil {
			t.Fatalf("this test runs Apache, which is not here: apt-get install apache2-bin libapache2-mod-auth-openidc (%v)", err)
		}
	}
	s := servicetest.Start(t, servicetest.SQLite(t))
	ann := s.SignUp(t, "ann@example.com")
	s.SignUp(t, "eve@example.com")

	dir := t.TempDir()
	if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755),
		os.Chmod(dir, 0o755)); err != nil { //nolint:gosec // as above the files below
		t.Fatal(err)
	}
	for name, text := range map[string]string{"www/index.html": "for Ann only", "www/bye.html": "goodbye"} {
		if err := errors.Join(os.MkdirAll(filepath.Join(dir, "www"), 0o755),
			os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)); err != nil { //nolint:gosec // Apache reads it as another user
			t.Fatal(err)
		}
	}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	listener.Close()
	at := "http://localhost:" + port
	config := strings.NewReplacer("{dir}", dir, "{port}", port, "{at}", at, "{issuer}", s.Config.Issuer, "{secret}",
		secretOf("apache")).Replace(`
ServerRoot {dir}
ServerName localhost
Listen 127.0.0.1:{port}
PidFile {dir}/pid
ErrorLog {dir}/error.log
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authn_core_module /usr/lib/apache2/modules/mod_authn_core.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule authz_user_module /usr/lib/apache2/modules/mod_authz_user.so
LoadModule headers_module /usr/lib/apache2/modules/mod_headers.so
LoadModule auth_openidc_module /usr/lib/apache2/modules/mod_auth_openidc.so
User www-data
Group www-data
DocumentRoot {dir}/www
OIDCProviderMetadataURL {issuer}/.well-known/openid-configuration
OIDCClientID apache
OIDCClientSecret {secret}
OIDCRedirectURI {at}/callback
OIDCCryptoPassphrase of-the-test-0123456789
OIDCPKCEMethod S256
OIDCScope "openid email offline_access"
OIDCDefaultLoggedOutURL {at}/bye.html
<Location />
	AuthType openid-connect
	Require claim email:ann@example.com
	Header always set X-Subject "expr=%{REMOTE_USER}"
</Location>
<Location /callback>
	Require valid-user
</Location>
<Location /bye.html>
	AuthType None
	Require all granted
</Location>
`)
	if err := os.WriteFile(filepath.Join(dir, "apache.conf"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	registerClient(t, s, oauth.Client{
		ID:                     "apache",
		Type:                   oauth.Confidential,
		SecretHash:             oauth.HashSecret(secretOf("apache")),
		RedirectURIs:           []string{at + "/callback"},
		PostLogoutRedirectURIs: []string{at + "/bye.html"}, BackchannelLogoutURI: at + "/callback?logout=backchannel",
	})
	if err := s.Clients.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	server := exec.Command(apache, "-f", filepath.Join(dir, "apache.conf"), "-D", "FOREGROUND")
	var output bytes.Buffer
	server.Stdout, server.Stderr = &output, &output
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGTERM)
		_ = server.Wait()
		if log, err := os.ReadFile(filepath.Join(dir, "error.log")); t.Failed() {
			t.Logf("Apache: %s\n%s %v", output.String(), log, err)
		}
	})
	servicetest.Eventually(t, "Apache listens", func() bool {
		connection, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", "127.0.0.1:"+port)
		if err == nil {
			connection.Close()
		}
		return err == nil
	})
	// browse goes to and fro between Apache and the service until there is a page.
	browse := func(b *browser, p page) page {
		t.Helper()
		for range 8 {
			if p.location == nil {
				return p
			}
			p = b.open(p.location.String())
		}
		t.Fatalf("sent on and on, at last to %v", p.location)
		return page{}
	}
	subject, _ := servicetest.Claims(t, ann.AccessToken)["sub"].(string)

	b := newBrowser(t, s)
	login := browse(b, b.open(at+"/index.html"))
	p := browse(b, b.logIn(login, "ann@example.com"))
	if p.status != http.StatusOK || p.body != "for Ann only" || !strings.HasPrefix(p.header.Get("X-Subject"), subject) {
		t.Fatalf("%d %v\n%s", p.status, p.header, p.body)
	}
	t.Run("fail/another user", func(t *testing.T) {
		eve := newBrowser(t, s)
		if p := browse(eve, eve.logIn(browse(eve, eve.open(at+"/index.html")),
			"eve@example.com")); p.status != http.StatusUnauthorized && p.status != http.StatusForbidden {
			t.Errorf("%d %s", p.status, p.body)
		}
	})
	t.Run("ok/back-channel logout", func(t *testing.T) {
		other := newBrowser(t, s)
		if p := browse(other, other.logIn(browse(other, other.open(at+"/index.html")), "ann@example.com")); p.body != "for Ann only" {
			t.Fatalf("%d %s", p.status, p.body)
		}
		if r := s.Do(t, http.MethodDelete, "/v1/sessions?except=current", bearer(ann.AccessToken), nil); r.Status >= 300 {
			t.Fatalf("%d %s", r.Status, r.Body)
		}
		servicetest.Eventually(t, "Apache has forgotten the user",
			func() bool { return other.open(at+"/index.html").body != "for Ann only" })
	})
	t.Run("ok/logout by the application", func(t *testing.T) {
		b := newBrowser(t, s)
		browse(b, b.logIn(browse(b, b.open(at+"/index.html")), "ann@example.com"))
		if p := browse(b, b.open(at+"/callback?logout="+url.QueryEscape(at+"/bye.html"))); p.body != "goodbye" {
			t.Errorf("%d %s", p.status, p.body)
		}
		if p := b.open(authorizeURL(s, map[string]string{
			"client_id":    "apache",
			"redirect_uri": at + "/callback",
			"prompt":       "none",
		})); p.refused(t) != "login_required" {
			t.Error("still logged in at the service")
		}
	})
}
