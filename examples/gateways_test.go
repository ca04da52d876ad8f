//go:build interop

package examples

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// The gateways, and the resource servers whose libraries take long to fetch. scripts/interop installs them and runs these tests.

func TestJava(t *testing.T) {
	jar := absolute(t, "verify-java/target/verify-java.jar")
	resourceServer{name: "java", command: func(t *testing.T, args ...string) *exec.Cmd {
		return command(t, "", find(t, "java"), append([]string{"-jar", jar}, args...)...)
	}}.test(t)
}

func TestRust(t *testing.T) {
	program := absolute(t, "verify-rust/target/debug/verify-rust")
	resourceServer{name: "rust", command: func(t *testing.T, args ...string) *exec.Cmd {
		return command(t, "", program, args...)
	}}.test(t)
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// gateway is an example that stands before an API.
type gateway struct {
	listen string // the address in its configuration
	asks   bool   // Handstamp, for each request
	roles  bool   // tells the API the user's roles

	// start writes the configuration to dir, with replace applied to it, and starts the gateway.
	start func(t *testing.T, s *service, dir string, replace *strings.Replacer)
}

func TestNginx(t *testing.T) {
	gateway{
		listen: "127.0.0.1:9095",
		asks:   true,
		roles:  true,
		start: func(t *testing.T, _ *service, dir string, replace *strings.Replacer) {
			path := configure(t, "nginx/nginx.conf", dir, replace)
			directives := fmt.Sprintf("daemon off; master_process off; pid %[1]s/nginx.pid; error_log %[1]s/error.log;", dir)
			launch(t, command(t, dir, find(t, "nginx"), "-p", dir, "-c", path, "-e", dir+"/error.log", "-g", directives))
		},
	}.test(t)
}

func TestCaddy(t *testing.T) {
	gateway{
		listen: "127.0.0.1:9096",
		asks:   true,
		roles:  true,
		start: func(t *testing.T, _ *service, dir string, replace *strings.Replacer) {
			path := configure(t, "caddy/Caddyfile", dir, replace)
			c := command(t, dir, find(t, "caddy"), "run", "--config", path, "--adapter", "caddyfile")
			c.Env = append(c.Env, "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
			launch(t, c)
		},
	}.test(t)
}

func TestTraefik(t *testing.T) {
	gateway{
		listen: "127.0.0.1:9098",
		asks:   true,
		roles:  true,
		start: func(t *testing.T, _ *service, dir string, replace *strings.Replacer) {
			configure(t, "traefik/dynamic.yaml", dir, replace)
			path := configure(t, "traefik/traefik.yaml", dir, replace)
			launch(t, command(t, dir, find(t, "traefik"), "--configFile="+path))
		},
	}.test(t)
}

func TestHAProxy(t *testing.T) {
	gateway{listen: haproxyListen, start: func(t *testing.T, s *service, dir string, replace *strings.Replacer) {
		startHAProxy(t, s.run(t, "keys", "export"), dir, replace)
	}}.test(t)
}

const haproxyListen = "127.0.0.1:9097"

func startHAProxy(t *testing.T, keys []byte, dir string, replace *strings.Replacer) {
	t.Helper()
	c := command(t, "", absolute(t, "haproxy/configure"), replace.Replace("http://127.0.0.1:8080"),
		replace.Replace("https://api.example"), dir)
	c.Stdin = bytes.NewReader(keys)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("configure: %v\n%s", err, out)
	}
	launch(t, command(t, dir, find(t, "haproxy"), "-db", "-f", configure(t, filepath.Join(dir, "haproxy.cfg"), dir, replace)))
}

// HAProxy is the one gateway that checks tokens by itself, so it gets the tokens that no library accepts, too.
func TestHAProxyWithMutatedTokens(t *testing.T) {
	c := newCorpus(t)
	var keys bytes.Buffer
	for _, s := range c.keys {
		der, err := x509.MarshalPKIXPublicKey(s.private.Public())
		if err != nil {
			t.Fatal(err)
		}
		if err := pem.Encode(&keys, &pem.Block{Type: "PUBLIC KEY", Bytes: der}); err != nil {
			t.Fatal(err)
		}
	}
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) }))
	t.Cleanup(api.Close)
	g := gateway{listen: haproxyListen, start: func(t *testing.T, _ *service, dir string, replace *strings.Replacer) {
		startHAProxy(t, keys.Bytes(), dir, replace)
	}}
	url := g.run(t, &service{url: c.Issuer}, c.Audience, api)

	// It is stricter than the libraries in few things, and has to be as strict in these.
	must := regexp.MustCompile(`^(alg|signature|damage): |^header: (other typ|no typ|typ no string)|^claim (exp: ` +
		`(passed|missing|not after iat)|(iss|aud): )|^structure: cut`)
	text := regexp.MustCompile(`^[\w.-]+$`)
	asked := 0
	for _, s := range c.Tokens {
		// A NUL ends a text in C; the iss and aud that the issuer signs have none.
		if !text.MatchString(s.Token) || strings.HasSuffix(s.Class, ": another") && nul(s.Token) ||
			!s.good && !must.MatchString(s.Class) || s.good && strings.Contains(s.Token, encode(`{"alg":"EdDSA"`)) {
			continue
		}
		asked++
		status, _, _ := ask(t.Context(), t, url, map[string]string{"Authorization": "Bearer " + s.Token})
		if !s.good && status != http.StatusUnauthorized {
			t.Errorf("%s: %d\n%s", s.Class, status, s.Token)
		}
		if s.Class == "good: mirrored" && status != http.StatusOK {
			t.Errorf("%s: %d\n%s", s.Class, status, s.Token)
		}
	}
	t.Logf("%d tokens", asked)
}

// test holds the gateway to the contract with a real service and an API that tells what it was sent.
func (g gateway) test(t *testing.T) {
	t.Helper()
	service := startService(t)
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := json.Marshal(r.Header)
		_, _ = w.Write(body)
	}))
	t.Cleanup(api.Close)
	url := g.run(t, service, service.url, api)
	token := service.login(t)
	bearer := map[string]string{"Authorization": "Bearer " + token}

	t.Run("ok/fresh token", func(t *testing.T) {
		status, _, header := ask(t.Context(), t, url, bearer)
		if status != http.StatusOK || !strings.HasPrefix(header.Get("X-Auth-Subject"), "usr_") ||
			!strings.HasPrefix(header.Get("X-Auth-Session-Id"), "ses_") ||
			header.Get("X-Auth-Client-Id") != "default" {
			t.Errorf("%d, the API saw %v", status, header)
		}
		if header.Get("Authorization") != "" {
			t.Error("the API saw the token")
		}
	})
	t.Run("fail/forged headers", func(t *testing.T) {
		forged := map[string]string{"Authorization": "Bearer " + token}
		for _, name := range []string{"Subject", "Client-Id", "Session-Id", "Scope", "Roles"} {
			forged["X-Auth-"+name] = "forged"
			forged["X_Auth_"+name], forged["X-Auth_"+name] = "forged", "forged" // which CGI and its heirs take for the same
		}
		status, _, header := ask(t.Context(), t, url, forged)
		if status != http.StatusOK || strings.Contains(fmt.Sprint(header), "forged") {
			t.Errorf("%d, the API saw %v", status, header)
		}
		if status, _, _ := ask(t.Context(), t, url, map[string]string{"X-Auth-Subject": "forged"}); status != http.StatusUnauthorized {
			t.Errorf("without a token: %d", status)
		}
	})
	t.Run("fail/no token", func(t *testing.T) {
		if status, challenge, _ := ask(t.Context(), t, url, nil); status != http.StatusUnauthorized || challenge != "Bearer" {
			t.Errorf("%d, WWW-Authenticate: %s", status, challenge)
		}
	})
	t.Run("fail/garbage", func(t *testing.T) {
		for _, garbage := range append(forgeries(token, service.run(t, "keys", "export")), "garbage", token+"x",
			token[:len(token)-20], strings.Replace(token, ".", "..", 1)) {
			status, challenge, _ := ask(t.Context(), t, url, map[string]string{"Authorization": "Bearer " + garbage})
			if status != http.StatusUnauthorized || !strings.Contains(challenge, `error="invalid_token"`) {
				t.Errorf("%.20s...: %d, WWW-Authenticate: %s", garbage, status, challenge)
			}
		}
	})
	t.Run("fail/two tokens", func(t *testing.T) {
		status, _, _ := ask(t.Context(), t, url, map[string]string{"Authorization": "Bearer " + token + ", Bearer " + token})
		if status != http.StatusBadRequest && status != http.StatusUnauthorized {
			t.Errorf("%d", status)
		}
	})
	t.Run("fail/audience", func(t *testing.T) {
		other := g.run(t, service, "https://other.example", api)
		status, challenge, _ := ask(t.Context(), t, other, bearer)
		if status != http.StatusUnauthorized || !strings.Contains(challenge, `error="invalid_token"`) {
			t.Errorf("%d, WWW-Authenticate: %s", status, challenge)
		}
	})
	if g.roles {
		t.Run("ok/roles", func(t *testing.T) {
			service.run(t, "user", "create", "--email", "bob@example.com", "--password-stdin", "--verified", "--role", "admin",
				"--role", "editor")
			_, body := service.post(t, "/v1/login", `{"email":"bob@example.com","password":"`+password+`"}`, "")
			status, _, header := ask(t.Context(), t, url, map[string]string{"Authorization": "Bearer " + accessToken(t, body)})
			if status != http.StatusOK || header.Get("X-Auth-Roles") != "admin editor" {
				t.Errorf("%d, the API saw %v", status, header)
			}
		})
	}
	if g.asks {
		t.Run("fail/after logout", func(t *testing.T) {
			token := service.login(t)
			bearer := map[string]string{"Authorization": "Bearer " + token}
			if status, _, _ := ask(t.Context(), t, url, bearer); status != http.StatusOK {
				t.Fatalf("before: %d", status)
			}
			service.logout(t, token)
			took := within(t, time.Second, "the token is refused after logout", func(ctx context.Context) bool {
				status, _, _ := ask(ctx, t, url, bearer)
				return status == http.StatusUnauthorized
			})
			t.Logf("refused %v after the logout was answered", took.Round(time.Millisecond))
		})
	}
}

// forgeries returns tokens with the claims of a good one, unsigned and signed with what is public.
func forgeries(token string, keys []byte) []string {
	claims := strings.Split(token, ".")[1]
	none := encode(`{"alg":"none","typ":"at+jwt"}`) + "." + claims
	signed := encode(`{"alg":"HS256","typ":"at+jwt"}`) + "." + claims
	mac := hmac.New(sha256.New, keys)
	mac.Write([]byte(signed))
	return []string{none + ".", none + ".AAAA", signed + "." + encode(string(mac.Sum(nil)))}
}

// run starts the gateway before api, with a configuration for these addresses, and returns its address.
func (g gateway) run(t *testing.T, s *service, audience string, api *httptest.Server) string {
	t.Helper()
	address := freeAddress(t)
	dir := t.TempDir()
	g.start(t, s, dir, strings.NewReplacer(
		"http://127.0.0.1:8080", s.url,
		"127.0.0.1:8080", strings.TrimPrefix(s.url, "http://"),
		"127.0.0.1:9090", api.Listener.Addr().String(),
		g.listen, address,
		"https://api.example", audience,
	))
	within(t, 60*time.Second, "the gateway listens", func(ctx context.Context) bool {
		connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err != nil {
			return false
		}
		_ = connection.Close()
		status, _, _ := get(ctx, t, "http://"+address, "")
		return status == http.StatusUnauthorized // Traefik listens before it has read its routes
	})
	return "http://" + address
}

// before runs the same before a gateway of others, whose example is in a file.
func (e *estate) before(t *testing.T, start func(t *testing.T, e *estate, replace *strings.Replacer)) {
	t.Helper()
	start(t, e, strings.NewReplacer(
		"127.0.0.1:8080", strings.TrimPrefix(e.url, "http://"),
		"127.0.0.1:9090", e.app.Listener.Addr().String(),
		"127.0.0.1:9443", e.listen,
		".x.test:9443", strings.TrimPrefix(e.at(""), "https://"),
	))
	within(t, 60*time.Second, "the gateway listens", func(ctx context.Context) bool {
		connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", e.listen)
		if err == nil {
			_ = connection.Close()
		}
		return err == nil
	})
	e.browse(t)
}

func TestNginxLogin(t *testing.T) {
	newEstate(t, freeAddress(t)).before(t, func(t *testing.T, e *estate, replace *strings.Replacer) {
		path := configure(t, "nginx/login.conf", e.dir, replace)
		directives := fmt.Sprintf("daemon off; master_process off; pid %[1]s/nginx.pid; error_log %[1]s/error.log;", e.dir)
		launch(t, command(t, e.dir, find(t, "nginx"), "-p", e.dir, "-c", path, "-e", e.dir+"/error.log", "-g", directives))
	})
}

func TestCaddyLogin(t *testing.T) {
	newEstate(t, freeAddress(t)).before(t, func(t *testing.T, e *estate, replace *strings.Replacer) {
		path := configure(t, "caddy/login.Caddyfile", e.dir, replace)
		c := command(t, e.dir, find(t, "caddy"), "run", "--config", path, "--adapter", "caddyfile")
		c.Env = append(c.Env, "HOME="+e.dir, "XDG_DATA_HOME="+e.dir, "XDG_CONFIG_HOME="+e.dir)
		launch(t, c)
	})
}

func TestTraefikLogin(t *testing.T) {
	newEstate(t, freeAddress(t)).before(t, func(t *testing.T, e *estate, replace *strings.Replacer) {
		configure(t, "traefik/login.yaml", e.dir, replace)
		path := configure(t, "traefik/login-traefik.yaml", e.dir, replace)
		launch(t, command(t, e.dir, find(t, "traefik"), "--configFile="+path))
	})
}

// freeAddress returns an address that nobody listens on: a gateway cannot tell which port it was given.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// configure copies a configuration to dir and returns its path there.
func configure(t *testing.T, path, dir string, replace *strings.Replacer) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, filepath.Base(path))
	if err := os.WriteFile(path, []byte(replace.Replace(string(text))), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// launch starts a program that does not say when it is ready.
func launch(t *testing.T, c *exec.Cmd) {
	t.Helper()
	var output tail
	c.Stdout, c.Stderr = &output, &output
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Cancel() // it may have ended
		_ = c.Wait()
		if t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(c.Path), output.String())
		}
	})
}

// ask sends a request through a gateway and returns what the API saw of it.
func ask(ctx context.Context, t *testing.T, url string, headers map[string]string) (status int, challenge string,
	seen http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/things", strings.NewReader(`{"name":"x"}`))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range headers {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return 0, "", nil
		}
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		if err := json.NewDecoder(resp.Body).Decode(&seen); err != nil {
			t.Fatal(err)
		}
	}
	return resp.StatusCode, resp.Header.Get("WWW-Authenticate"), seen
}

// nul reports whether the claims of a token hold an escaped NUL.
func nul(token string) bool {
	_, rest, _ := strings.Cut(token, ".")
	claims, _, _ := strings.Cut(rest, ".")
	return strings.Contains(string(decode(claims)), `\u0000`)
}
