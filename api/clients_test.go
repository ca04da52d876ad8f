package api_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
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

// node runs a script of testdata/clients with a JSON argument, and returns the JSON that it prints last. A script that ends with an error fails the test.
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
						"issuer": s.Config.Issuer, "clientId": clientID, "redirectUri": appRedirect, "afterLogout": appOrigin + "/bye", "audience": s.Config.Audience[0],
						"email": email, "password": servicetest.Password,
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
		out := node(t, "appauth.mjs", map[string]string{"issuer": s.Config.Issuer, "clientId": "native"}, "BROWSER="+browser, "PERSON="+string(person))
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
			config := oauth2.Config{ClientID: id, ClientSecret: secretOf(id), Endpoint: provider.Endpoint(), Scopes: []string{oidc.ScopeOpenID, oidc.ScopeOfflineAccess, "email"}}
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
			registerClient(t, s, oauth.Client{ID: id, Type: oauth.Confidential, SecretHash: oauth.HashSecret(secretOf(id)), RedirectURIs: []string{config.RedirectURL}})

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
	registerClient(t, s, oauth.Client{ID: "spa", RedirectURIs: []string{address + "/"}, PostLogoutRedirectURIs: []string{address + "/"}, Origins: []string{address}})
	if err := s.Clients.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	node(t, "oidc-client-ts.mjs", map[string]string{
		"chromium": chromium(t), "address": address, "issuer": s.Config.Issuer, "email": "ann@example.com", "password": servicetest.Password,
	})
}
