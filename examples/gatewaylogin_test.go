package examples

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"html"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The login at a gateway, in Chromium, over TLS, at neighbours of the issuer. Here the gateway is one of ours that does what
// Traefik's ForwardAuth does; scripts/interop runs the same before nginx, Caddy and Traefik.

// estate is what a gateway stands before: an application that knows nothing of logins, and the service.
type estate struct {
	*service
	listen string // where the gateway listens
	app    *httptest.Server
	dir    string // with cert.pem and key.pem
}

func (e *estate) at(host string) string {
	_, port, _ := net.SplitHostPort(e.listen)
	return "https://" + host + ".x.test:" + port
}

// knowsNothing answers every request with what it was told, as a page or, below /api, as JSON.
func knowsNothing(w http.ResponseWriter, r *http.Request) {
	seen, _ := json.Marshal(map[string]string{
		"method": r.Method, "subject": r.Header.Get("X-Auth-Subject"), "client": r.Header.Get("X-Auth-Client-Id"),
		"session": r.Header.Get("X-Auth-Session-Id"),
	})
	if strings.HasPrefix(r.URL.Path, "/api") {
		_, _ = w.Write(seen)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = fmt.Fprintf(w, `<!doctype html><title>Application</title><link rel="icon" href="data:,"><p id="seen">%s</p>`+
		`<form method="post" action="/posted"><button id="post">Post</button></form>`, html.EscapeString(string(seen)))
}

// writePair writes the certificate and the key of httptest to a directory: it is for example.com and 127.0.0.1, and its own
// authority, which the client knows.
func writePair(t *testing.T, dir string) *http.Client {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS()
	server.Close()
	pair := server.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, "key.pem": {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return server.Client()
}

// newEstate starts application and service, for a gateway that is going to listen at an address.
func newEstate(t *testing.T, listen string) *estate {
	t.Helper()
	e := &estate{listen: listen, app: httptest.NewServer(http.HandlerFunc(knowsNothing)), dir: t.TempDir()}
	t.Cleanup(e.app.Close)
	writePair(t, e.dir)
	address := "127.0.0.1:" + freePort(t)
	e.service = startService(t, "--issuer", e.at("id"), "--listen", address, "--trusted-proxies", "127.0.0.1")
	e.url = "http://" + address
	e.run(t, "client", "create", "--id", "app", "--type", "public", "--grant", "authorization_code", "--origin", e.at("app"))
	e.run(t, "user", "create", "--email", "ann@example.com", "--password-stdin", "--verified")
	return e
}

// browse lets a person use the application in Chromium.
func (e *estate) browse(t *testing.T) {
	t.Helper()
	clients := filepath.Join("..", "api", "testdata", "clients")
	if _, err := os.Stat(filepath.Join(clients, "node_modules", "playwright-core")); err != nil {
		if out, err := command(t, clients, "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts").CombinedOutput(); err != nil {
			t.Fatalf("npm ci: %v\n%s", err, out)
		}
	}
	neighbour := httptest.NewTLSServer(http.HandlerFunc(knowsNothing))
	t.Cleanup(neighbour.Close)
	_, port, _ := net.SplitHostPort(neighbour.Listener.Addr().String())
	argument, err := json.Marshal(map[string]string{
		"chromium":  anyOf(t, "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
		"app":       e.at("app"),
		"issuer":    e.at("id"),
		"neighbour": "https://other.x.test:" + port,
		"hosts":     "127.0.0.1",
		"email":     "ann@example.com",
		"password":  password,
	})
	if err != nil {
		t.Fatal(err)
	}
	out, err := command(t, clients, find(t, "node"), "gateway.mjs", string(argument)).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

func anyOf(t *testing.T, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatalf("one of %v must be installed", names)
	return ""
}

// forwardAuth does what Traefik does: it asks about each request, passes on what is answered otherwise than with 2xx, and lets
// the rest pass with the headers of the answer.
type forwardAuth struct {
	ask  string
	to   http.Handler
	copy []string
}

func (f forwardAuth) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ask, err := http.NewRequestWithContext(r.Context(), http.MethodGet, f.ask, http.NoBody)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	ask.Header = r.Header.Clone()
	for _, name := range []string{"Connection", "Upgrade", "Content-Length", "Transfer-Encoding"} {
		ask.Header.Del(name)
	}
	address, _, _ := net.SplitHostPort(r.RemoteAddr)
	for name, value := range map[string]string{
		"For": address, "Method": r.Method, "Proto": "https", "Host": r.Host, "Uri": r.URL.RequestURI(),
	} {
		ask.Header.Set("X-Forwarded-"+name, value)
	}
	answer, err := http.DefaultTransport.RoundTrip(ask)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer answer.Body.Close()
	if answer.StatusCode/100 != 2 {
		maps.Copy(w.Header(), answer.Header)
		w.WriteHeader(answer.StatusCode)
		return
	}
	for _, name := range f.copy {
		r.Header.Del(name)
		if values := answer.Header.Values(name); len(values) > 0 {
			r.Header[name] = slices.Clone(values)
		}
	}
	f.to.ServeHTTP(w, r)
}

func TestGatewayInChromium(t *testing.T) {
	gateway := httptest.NewUnstartedServer(nil)
	e := newEstate(t, gateway.Listener.Addr().String())
	to := func(address string) http.Handler {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		return &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(u)
			r.SetXForwarded()
			r.Out.Host = r.In.Host
		}}
	}
	issuer, app := to(e.url), forwardAuth{
		ask:  e.url + "/v1/forward-auth?client_id=app",
		to:   to(e.app.URL),
		copy: []string{"X-Auth-Subject", "X-Auth-Client-Id", "X-Auth-Session-Id", "X-Auth-Scope", "X-Auth-Roles"},
	}
	gateway.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Host, "id.") {
			issuer.ServeHTTP(w, r)
			return
		}
		app.ServeHTTP(w, r)
	})
	gateway.StartTLS()
	t.Cleanup(gateway.Close)
	e.browse(t)
}

// What docs/gateway.md shows of the configurations is in them, and they are run.
func TestGatewayGuide(t *testing.T) {
	read := func(path ...string) string {
		text, err := os.ReadFile(filepath.Join(path...))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	guide := read("..", "docs", "gateway.md")
	for kind, file := range map[string]string{
		"nginx": "nginx/login.conf", "caddyfile": "caddy/login.Caddyfile", "yaml": "traefik/login.yaml",
	} {
		_, rest, found := strings.Cut(guide, "\n```"+kind+"\n")
		block, _, ended := strings.Cut(rest, "```\n")
		if !found || !ended || !strings.Contains(read(file), block) {
			t.Errorf("the block %q is not in %s", kind, file)
		}
	}
}
