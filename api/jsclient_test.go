package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/oauth"
)

// The client for browsers, pkg/jsclient.

const jsclientDir = "../pkg/jsclient"

// npm runs a script of pkg/jsclient.
func npm(args ...string) error {
	cmd := exec.Command("npm", args...) //nolint:gosec // the arguments are in this file
	cmd.Dir = jsclientDir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("npm %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// buildJSClient installs what pkg/jsclient is built with, unless it is there, and builds it.
var buildJSClient = sync.OnceValue(func() error { //nolint:gochecknoglobals // done once for all tests
	lock, err := os.ReadFile(filepath.Join(jsclientDir, "package-lock.json"))
	if err != nil {
		return err
	}
	mark := filepath.Join(jsclientDir, "node_modules", ".installed")
	if installed, err := os.ReadFile(mark); err != nil || !bytes.Equal(installed, lock) {
		if err := npm("ci", "--no-audit", "--no-fund", "--ignore-scripts"); err != nil {
			return fmt.Errorf("this needs Node.js 20 or later, npm, and a registry to install from: %w", err)
		}
		if err := os.WriteFile(mark, lock, 0o600); err != nil {
			return err
		}
	}
	return npm("run", "build")
})

func TestJSClient(t *testing.T) {
	t.Parallel()
	if err := buildJSClient(); err != nil {
		t.Fatal(err)
	}
	for _, script := range []string{"check", "lint", "test"} {
		t.Run(script, func(t *testing.T) {
			t.Parallel()
			if err := npm("run", script); err != nil {
				t.Fatal(err)
			}
		})
	}
	if err := sameFile("../LICENSE", filepath.Join(jsclientDir, "LICENSE")); err != nil {
		t.Error(err)
	}
	// The demo embeds what was built, without the line that names its source map.
	built, err := os.ReadFile(filepath.Join(jsclientDir, "dist/index.js"))
	if err != nil {
		t.Fatal(err)
	}
	embedded, err := os.ReadFile("../cmd/handstamp/demo/page/handstamp.js")
	if err != nil {
		t.Fatal(err)
	}
	code, _, _ := bytes.Cut(built, []byte("//# sourceMappingURL"))
	if !bytes.Equal(bytes.TrimSpace(code), bytes.TrimSpace(embedded)) {
		t.Error("the demo's handstamp.js is not the client as it is built: copy dist/index.js there, without its last line")
	}
}

func sameFile(a, b string) error {
	one, err := os.ReadFile(a)
	if err != nil {
		return err
	}
	two, err := os.ReadFile(b)
	if err == nil && !bytes.Equal(one, two) {
		err = fmt.Errorf("%s differs from %s", b, a)
	}
	return err
}

// site is a site with TLS on subdomains: www.shop.test is the application, auth.shop.test the service. Chromium finds them on
// loopback. www.other.test is another site.
type site struct {
	*servicetest.Service
	port string

	mu   sync.Mutex
	hold chan struct{} // answers of the token endpoint wait for it; nil for none
	lose bool          // answers of the token endpoint are lost
	held int           // how many wait, or have been lost
}

func (s *site) at(host string) string { return "https://" + host + ".test:" + s.port }

// serveSite starts the service and the application in front of it.
func serveSite(t *testing.T, app http.Handler) *site {
	t.Helper()
	s := &site{}
	front := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := strings.Cut(r.Host, ":")
		switch {
		case host == "auth.shop.test":
			s.auth(w, r)
		case strings.HasPrefix(r.URL.Path, "/control/"):
			s.control(w, r)
		default:
			app.ServeHTTP(w, r)
		}
	}))
	front.StartTLS()
	t.Cleanup(func() {
		front.CloseClientConnections()
		front.Close()
	})
	u, err := url.Parse(front.URL)
	if err != nil {
		t.Fatal(err)
	}
	s.port = u.Port()
	s.Service = servicetest.Start(t, servicetest.SQLite(t), func(c *service.Config) {
		c.Issuer = s.at("auth.shop")
		c.LoginAttempts = 1000
	})
	return s
}

// auth passes a request on to the service, and does to the answer of a refresh what a test wants.
func (s *site) auth(w http.ResponseWriter, r *http.Request) {
	target, err := url.Parse(s.URL)
	if err != nil {
		panic(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(target) },
		ModifyResponse: func(response *http.Response) error {
			if r.URL.Path != "/oauth2/token" || r.Method != http.MethodPost {
				return nil
			}
			s.mu.Lock()
			hold, lose := s.hold, s.lose
			if hold != nil || lose {
				s.held++
			}
			s.mu.Unlock()
			if lose {
				_ = response.Body.Close()
				panic(http.ErrAbortHandler)
			}
			if hold != nil {
				<-hold
			}
			return nil
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	proxy.ServeHTTP(w, r)
}

// control is how the script in Node says what becomes of the answers of refreshes.
func (s *site) control(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch strings.TrimPrefix(r.URL.Path, "/control/") {
	case "hold":
		s.hold, s.held = make(chan struct{}), 0
	case "lose":
		s.lose, s.held = true, 0
	case "release":
		if s.hold != nil {
			close(s.hold)
		}
		s.hold, s.lose = nil, false
	}
	_ = json.NewEncoder(w).Encode(map[string]int{"held": s.held})
}

// jsclientApp serves a page with the client.
func jsclientApp(s func() *site, transport oauth.RefreshTransport) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/client.js", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, filepath.Join(jsclientDir, "dist/index.js"))
	})
	mux.HandleFunc("/config.json", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{
			"issuer":    s().Config.Issuer,
			"clientId":  "spa-" + string(transport),
			"scope":     "openid email account",
			"transport": string(transport),
		})
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, filepath.Join(clientsDir, "jsclient.html"))
	})
	return mux
}

func TestJSClientInChromium(t *testing.T) {
	t.Parallel()
	if err := buildJSClient(); err != nil {
		t.Fatal(err)
	}
	for _, transport := range []oauth.RefreshTransport{oauth.TransportBody, oauth.TransportCookie} {
		t.Run(string(transport), func(t *testing.T) {
			t.Parallel()
			var s *site
			s = serveSite(t, jsclientApp(func() *site { return s }, transport))
			registerClient(t, s.Service, oauth.Client{
				ID:               "spa-" + string(transport),
				RedirectURIs:     []string{s.at("www.shop") + "/"},
				Origins:          []string{s.at("www.shop")},
				Scopes:           []string{"openid", "email", "account"},
				RefreshTransport: transport,
			})
			if err := s.Clients.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.SignUp(t, "ann@example.com")
			for check, fault := range node(t, "jsclient.mjs", map[string]any{
				"chromium":  chromium(t),
				"app":       s.at("www.shop"),
				"other":     s.at("www.other"),
				"issuer":    s.Config.Issuer,
				"control":   "https://127.0.0.1:" + s.port + "/control/",
				"transport": transport,
				"email":     "ann@example.com",
				"password":  servicetest.Password,
			}, "NODE_TLS_REJECT_UNAUTHORIZED=0") {
				if fault != "" {
					t.Errorf("%s: %v", check, fault)
				}
			}
			if strings.Contains(s.Log.String(), "refresh_token_reuse") {
				t.Error("the service took a refresh for a thief's")
			}
		})
	}
}
