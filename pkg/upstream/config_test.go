package upstream_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/handstamp/handstamp/pkg/upstream"
)

func TestValidate(t *testing.T) {
	base := func(kind upstream.Type, change ...func(*upstream.Config)) []upstream.Config {
		c := upstream.Config{ID: "up", Type: kind, ClientID: "c", ClientSecret: "s"}
		switch kind {
		case upstream.OIDC:
			c.Issuer = "https://login.example.com"
		case upstream.OAuth2:
			c.Endpoints = upstream.Endpoints{
				Authorization: "https://a.example/",
				Token:         "https://a.example/t",
				Userinfo:      "https://a.example/u",
			}
		}
		for _, f := range change {
			f(&c)
		}
		return []upstream.Config{c}
	}
	apple := func(c *upstream.Config) { appleConfig(t, c) }
	for name, c := range map[string]struct {
		configs []upstream.Config
		faults  []string // settings
	}{
		"ok/none":          {nil, nil},
		"ok/google":        {base(upstream.Google), nil},
		"ok/github":        {base(upstream.GitHub), nil},
		"ok/microsoft":     {base(upstream.Microsoft), nil},
		"ok/apple":         {base(upstream.Apple, apple), nil},
		"ok/oidc":          {base(upstream.OIDC), nil},
		"ok/oauth2":        {base(upstream.OAuth2), nil},
		"ok/public client": {base(upstream.OIDC, func(c *upstream.Config) { c.ClientSecret = "" }), nil},
		"ok/one tenant": {base(upstream.Microsoft, func(c *upstream.Config) {
			c.Issuer = "https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555/v2.0"
		}), nil},
		"ok/loopback": {base(upstream.OIDC, func(c *upstream.Config) {
			c.Issuer, c.AllowPrivateNetwork = "http://127.0.0.1:8080", true
		}), nil},
		"fail/type": {base("facebook"), []string{"type"}},
		"fail/all together": {
			[]upstream.Config{{ID: "A B", Type: upstream.Google, Issuer: "http://x", Tenants: []string{"x"}}},
			[]string{"id", "client_id", "client_secret", "issuer", "tenants", "tenants"},
		},
		"fail/same ID twice": {append(base(upstream.Google), base(upstream.GitHub)...), []string{"id"}},
		"fail/two faulty": {append(base(upstream.Google, func(c *upstream.Config) { c.ClientID = "" }),
			upstream.Config{ID: "x", Type: upstream.OIDC, ClientID: "c"}), []string{"client_id", "issuer"}},
		"fail/loopback": {base(upstream.OIDC, func(c *upstream.Config) { c.Issuer = "http://127.0.0.1:8080" }),
			[]string{"issuer"}},
		"fail/plain": {base(upstream.OIDC,
			func(c *upstream.Config) { c.Issuer, c.AllowPrivateNetwork = "http://example.com", true }), []string{"issuer"}},
		"fail/apple secret": {base(upstream.Apple),
			[]string{"client_secret", "apple.team_id", "apple.key_id", "apple.private_key"}},
		"fail/half an enterprise": {base(upstream.GitHub, func(c *upstream.Config) { c.Endpoints.Token = "https://ghe.example/t" }),
			[]string{"endpoints.authorization", "endpoints.userinfo", "endpoints.emails"}},
		"fail/endpoints": {base(upstream.OIDC, func(c *upstream.Config) { c.Endpoints.Token = "https://x.example" }),
			[]string{"endpoints"}},
		"fail/emails": {base(upstream.OAuth2, func(c *upstream.Config) { c.Endpoints.Emails = "https://x.example" }),
			[]string{"endpoints.emails"}},
		"fail/claims": {base(upstream.OIDC, func(c *upstream.Config) { c.Claims.Subject = "x" }), []string{"claims"}},
		"fail/hosted domain": {base(upstream.Google, func(c *upstream.Config) { c.HostedDomain = "@Example.com" }),
			[]string{"hosted_domain"}},
		"fail/whose domain": {base(upstream.GitHub, func(c *upstream.Config) { c.HostedDomain = "example.com" }),
			[]string{"hosted_domain"}},
		"fail/tenant name": {base(upstream.Microsoft, func(c *upstream.Config) { c.Tenants = []string{"contoso.com"} }),
			[]string{"tenants"}},
		"fail/microsoft issuer": {base(upstream.Microsoft,
			func(c *upstream.Config) { c.Issuer = "https://login.microsoftonline.com/common" }), []string{"issuer"}},
		"fail/microsoft scopes": {base(upstream.Microsoft, func(c *upstream.Config) { c.Scopes = []string{"email"} }),
			[]string{"scopes"}},
		"fail/scopes in one": {base(upstream.OIDC, func(c *upstream.Config) { c.Scopes = []string{"openid email"} }),
			[]string{"scopes"}},
		"fail/native": {base(upstream.GitHub, func(c *upstream.Config) { c.NativeClientIDs = []string{"x"} }),
			[]string{"native_client_ids"}},
		"fail/native empty": {base(upstream.Google, func(c *upstream.Config) { c.NativeClientIDs = []string{""} }),
			[]string{"native_client_ids"}},
		"fail/token auth": {base(upstream.OIDC, func(c *upstream.Config) { c.TokenAuth = "none" }),
			[]string{"token_endpoint_auth_method"}},
		"fail/apple key elsewhere": {base(upstream.Google, func(c *upstream.Config) { c.Apple.TeamID = "x" }), []string{"apple"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := upstream.Validate(c.configs)
			var got []string
			if err != nil {
				for line := range strings.SplitSeq(err.Error(), "\n") {
					setting, remedy, ok := strings.Cut(strings.TrimPrefix(line[strings.Index(line, "]")+1:], "."), " ")
					if !ok || len(remedy) < 20 || !strings.HasPrefix(line, "providers[") {
						t.Errorf("fault %q", line)
					}
					got = append(got, setting)
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(c.faults) {
				t.Errorf("faults %v, want %v\n%v", got, c.faults, err)
			}
			if _, newErr := upstream.NewProviders(c.configs, upstream.Options{Key: masterKey(t)}); (newErr == nil) != (err == nil) {
				t.Errorf("NewProviders: %v", newErr)
			}
		})
	}
}

func TestReadFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "secret")
	if err := os.WriteFile(path, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := upstream.Config{ID: "up", ClientSecretFile: path}
	if err := c.ReadFiles(); err != nil || c.ClientSecret != "s3cret" {
		t.Errorf("%v, %q", err, string(c.ClientSecret))
	}
	c = upstream.Config{ID: "up", ClientSecretFile: path, ClientSecret: "x"}
	c.Apple.PrivateKeyFile = filepath.Join(dir, "absent")
	if err := c.ReadFiles(); err == nil || !strings.Contains(err.Error(), "client_secret is given twice") ||
		!strings.Contains(err.Error(), "apple.private_key_file") {
		t.Errorf("error %v", err)
	}
}

func TestConfigIsRead(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	if err != nil {
		t.Fatal(err)
	}
	decoder := yaml.NewDecoder(strings.NewReader(`
- {id: google, type: google, client_id: c, client_secret: s, hosted_domain: example.com, native_client_ids: [ios]}
- {id: github, type: github, client_id: c, client_secret: s, endpoints: {authorization: "https://g.example/a",
   token: "https://g.example/t", userinfo: "https://g.example/u", emails: "https://g.example/e"}}
- {id: entra, type: microsoft, client_id: c, client_secret: s, tenants: [11111111-2222-3333-4444-555555555555],
   trust_email: false, keep_tokens: true}
- {id: apple, type: apple, client_id: c, apple: {team_id: t, key_id: k, private_key: ` + string(text) + `}}
- {id: own, type: oidc, name: Our own, issuer: "https://login.example.com", client_id: c, scopes: [email],
   trust_email: true, disable_signup: true}
- {id: old, type: oauth2, client_id: c, endpoints: {authorization: "https://o.example/a",
   token: "https://o.example/t", userinfo: "https://o.example/u"}, claims: {subject: id, email_verified: ok},
   token_endpoint_auth_method: client_secret_post}
`))
	decoder.KnownFields(true)
	var configs []upstream.Config
	if err := decoder.Decode(&configs); err != nil {
		t.Fatal(err)
	}
	all, err := upstream.NewProviders(configs, upstream.Options{Key: masterKey(t)})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for p := range all.All() {
		got = append(got, fmt.Sprintf("%s=%s,%t,%t,%t", p.ID(), p.Name(), p.TrustsEmail(), p.SignupAllowed(), p.KeepsTokens()))
	}
	want := "[google=Google,true,true,false github=GitHub,true,true,false entra=Microsoft,false,true,true " +
		"apple=Apple,true,true,false own=Our own,true,false,false old=old,false,true,false]"
	if fmt.Sprint(got) != want {
		t.Errorf("%v", got)
	}
	out, err := yaml.Marshal(configs)
	if err != nil || strings.Contains(string(out), "PRIVATE KEY") || strings.Contains(string(out), "client_secret: s\n") {
		t.Errorf("secrets are to be seen:\n%s", out)
	}
}
