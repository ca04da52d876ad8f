//go:build interop

package examples

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/handstamp/handstamp/pkg/upstream/upstreamtest"
)

// People use the Nuxt application in Chromium, started by its one command. go test -artifacts takes pictures.
func TestNuxt(t *testing.T) {
	t.Run("with a service and a provider to play with", func(t *testing.T) {
		dir, listen, service := t.TempDir(), "127.0.0.1:"+freePort(t), "127.0.0.1:"+freePort(t)
		startNuxt(t, command(t, "..", build(t, "./nuxt"), "-listen", listen, "-service", service, "-data", dir))
		useNuxt(t, map[string]any{
			"app":    "http://" + listen,
			"issuer": "http://" + service,
			"roles": []string{filepath.Join(dir, "handstamp"), "user", "roles", "set", "--config", filepath.Join(dir, "handstamp.yaml"),
				"--email", "ann@example.com"},
			"page": true,
		})
	})
	t.Run("with a service that runs, and oidc-provider as provider", func(t *testing.T) {
		address, listen, config := "127.0.0.1:"+freePort(t), "127.0.0.1:"+freePort(t), filepath.Join(t.TempDir(), "handstamp.yaml")
		provider := upstreamtest.StartOIDCProvider(t, "http://"+address+"/oauth2/callback/up")
		text, err := json.Marshal(map[string]any{"providers": []any{map[string]any{
			"id": "up", "type": "oidc", "name": "Provider", "issuer": provider, "client_id": upstreamtest.ClientID,
			"client_secret": upstreamtest.ClientSecret, "allow_private_network": true, "trust_email": true,
		}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(config, text, 0o600); err != nil {
			t.Fatal(err)
		}
		s := startService(t, "--config", config, "--issuer", "http://"+address, "--listen", address)
		var client struct {
			Secret string `json:"client_secret"`
		}
		if err := json.Unmarshal(s.run(t, "client", "create", "--id", "shop", "--type", "confidential",
			"--redirect-uri", "http://"+listen+"/auth/callback", "--post-logout-redirect-uri", "http://"+listen+"/",
			"--backchannel-logout-uri", "http://"+listen+"/auth/backchannel-logout", "--grant", "authorization_code",
			"--grant", "refresh_token", "--scope", "openid profile email", "--output", "json"), &client); err != nil {
			t.Fatal(err)
		}
		nuxt := command(t, "..", build(t, "./nuxt"), "-issuer", s.url, "-client-id", "shop", "-listen", listen, "-provider",
			"up=Provider",
			"-data", t.TempDir())
		nuxt.Env = append(nuxt.Env, "CLIENT_SECRET="+client.Secret)
		startNuxt(t, nuxt)
		useNuxt(t, map[string]any{"app": "http://" + listen, "issuer": s.url})
	})
}

// startNuxt starts the application, after npm has installed and built what it needs.
func startNuxt(t *testing.T, c *exec.Cmd) {
	t.Helper()
	install(t, "nuxt", "package-lock.json", "node_modules", []string{"npm", "ci", "--no-fund", "--no-audit"})
	start(t, c, "nuxt is ready at ")
}

// useNuxt runs api/testdata/clients/nuxt.mjs.
func useNuxt(t *testing.T, argument map[string]any) {
	t.Helper()
	clients := filepath.Join("..", "api", "testdata", "clients")
	install(t, clients, "package-lock.json", "node_modules", []string{"npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"})
	argument["chromium"], argument["shots"] = findFirst(t, "chromium", "chromium-browser", "google-chrome",
		"google-chrome-stable"), ""
	if keep := flag.Lookup("test.artifacts"); keep != nil && keep.Value.String() == "true" {
		argument["shots"] = t.ArtifactDir()
	}
	text, err := json.Marshal(argument)
	if err != nil {
		t.Fatal(err)
	}
	cmd := command(t, clients, find(t, "node"), "nuxt.mjs", string(text))
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, &said)
	}
	t.Logf("%s", &said)
	var checks map[string]string
	if err := json.Unmarshal(out, &checks); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for check, fault := range checks {
		if fault != "" {
			t.Errorf("%s: %s", check, fault)
		}
	}
}
