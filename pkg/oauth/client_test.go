package oauth_test

import (
	"strings"
	"testing"

	"github.com/handstamp/handstamp/pkg/oauth"
)

func TestClientOrigins(t *testing.T) {
	for origin, ok := range map[string]bool{
		"https://app.example":        true,
		"http://localhost:5173":      true,
		"http://[::1]:8080":          true,
		"capacitor://localhost":      true,
		"ionic://localhost":          true,
		"tauri://localhost":          true,
		"chrome-extension://abcdefg": true,
		"moz-extension://3c6bf55e-fc8a-4b57-9d4f-31a2a2a9c1e5": true,

		"":                             false,
		"*":                            false,
		"null":                         false,
		"https://":                     false,
		"https://:8080":                false,
		"https://App.example":          false,
		"HTTPS://app.example":          false,
		"https://app.example/":         false,
		"https://app.example/path":     false,
		"https://app.example?x":        false,
		"https://user@app.example":     false,
		"https://*.app.example":        false,
		"app.example":                  false,
		"//app.example":                false,
		"file://":                      false,
		"file://host":                  false,
		"javascript://alert":           false,
		"data://x":                     false,
		"blob://x":                     false,
		"https://app.example https://": false,
	} {
		t.Run(origin, func(t *testing.T) {
			err := oauth.Client{ID: "app", Type: oauth.Public, Origins: []string{origin}}.Validate()
			if refused := err != nil && strings.Contains(err.Error(), "origin "); refused == ok {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestClientRefreshTransport(t *testing.T) {
	for name, row := range map[string]struct {
		client oauth.Client
		ok     bool
	}{
		"ok/none":      {oauth.Client{Type: oauth.Public}, true},
		"ok/body":      {oauth.Client{Type: oauth.Public, RefreshTransport: oauth.TransportBody}, true},
		"ok/cookie":    {oauth.Client{Type: oauth.Public, RefreshTransport: oauth.TransportCookie}, true},
		"fail/another": {oauth.Client{Type: oauth.Public, RefreshTransport: "Cookie"}, false},
		"fail/cookie of a back end": {oauth.Client{
			Type:             oauth.Confidential,
			SecretHash:       "x",
			RefreshTransport: oauth.TransportCookie,
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			row.client.ID = "app"
			err := row.client.Validate()
			if refused := err != nil && strings.Contains(err.Error(), "refresh-transport: "); refused == row.ok {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestClientRedirectURIs(t *testing.T) {
	for uri, ok := range map[string]bool{
		"https://app.example/callback":               true,
		"http://127.0.0.1:9999/q?flag&b=1&a=2;c=%20": true,
		"http://localhost:3000/":                     true,
		"com.example.app:/callback":                  true,
		"https://app.example/a%C3%A9":                true,

		"":                              false,
		"/callback":                     false,
		"https:///callback":             false,
		"https://app.example/#f":        false,
		"https://*.app.example/":        false,
		"https://user@app.example/":     false,
		"http://app.example/":           false,
		"app:/callback":                 false,
		"https://app.example/a b":       false,
		"https://app.example/é":         false,
		"https://äpp.example/":          false,
		"https://app.example/\u202Ecod": false,
		`https://app.example/\evil`:     false,
		`https://app.example/"><b>`:     false,
	} {
		t.Run(uri, func(t *testing.T) {
			err := oauth.Client{
				ID: "app", Type: oauth.Public, Grants: []string{oauth.GrantAuthorizationCode}, RedirectURIs: []string{uri},
			}.Validate()
			if (err == nil) != ok {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestClientName(t *testing.T) {
	for name, ok := range map[string]bool{"": true, "Shop": true, "متجر": true, "gpj\u202Eexe.pohS": false, "a\nb": false} {
		err := oauth.Client{ID: "app", Name: name, Type: oauth.Public}.Validate()
		if (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}
