package upstream_test

import (
	"crypto/x509"
	"encoding/base64"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/upstream"
	"github.com/handstamp/handstamp/pkg/upstream/upstreamtest"
)

const (
	redirectURI  = "https://auth.example.com/oauth2/callback/up"
	clientID     = upstreamtest.ClientID
	clientSecret = upstreamtest.ClientSecret
)

// liar is a provider that lies where it is asked to.
type liar struct{ *upstreamtest.Liar }

func newLiar(t *testing.T, path string) liar { return liar{upstreamtest.NewLiar(t, path)} }

func masterKey(t *testing.T) seal.MasterKey {
	t.Helper()
	key, err := seal.ParseMasterKey(base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789ABCDEF")))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// trusting makes the providers of a configuration, which trust the certificates of the test servers.
func trusting(t *testing.T, servers []*httptest.Server, configs ...upstream.Config) *upstream.Providers {
	t.Helper()
	all, err := upstream.NewProviders(configs, upstream.Options{Key: masterKey(t), RootCAs: trusted(servers...)})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// trusted are the certificates of test servers.
func trusted(servers ...*httptest.Server) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, s := range servers {
		if s.Certificate() != nil {
			pool.AddCert(s.Certificate())
		}
	}
	return pool
}

// provider makes the one provider that talks to the liar.
func (l liar) provider(t *testing.T, change ...func(*upstream.Config)) *upstream.Provider {
	t.Helper()
	c := l.Config(upstream.OIDC)
	for _, f := range change {
		f(&c)
	}
	p, err := trusting(t, []*httptest.Server{l.Server}, c).Provider(c.ID)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// begin starts a login and goes to the provider as a browser would; it returns what the browser comes back with.
func begin(t *testing.T, p *upstream.Provider, r upstream.Request) (upstream.Begun, url.Values) {
	t.Helper()
	if r.RedirectURI == "" {
		r.RedirectURI = redirectURI
	}
	b, err := p.Begin(t.Context(), r)
	if err != nil {
		t.Fatalf("begin: %v", err)
	}
	return b, browse(t, b.URL, r.RedirectURI)
}

// browse follows redirects and cookies until it is sent to our callback.
func browse(t *testing.T, address, until string) url.Values {
	t.Helper()
	browser := newBrowser()
	for range 10 {
		response, err := browser.Get(address)
		if err != nil {
			t.Fatalf("browse: %v", err)
		}
		response.Body.Close()
		location, err := response.Location()
		if err != nil {
			t.Fatalf("browse %s: status %d without redirect", address, response.StatusCode)
		}
		if strings.HasPrefix(location.String(), until) {
			return location.Query()
		}
		address = location.String()
	}
	t.Fatal("browse: too many redirects")
	return nil
}

// login does both halves.
func login(t *testing.T, p *upstream.Provider) (*upstream.Identity, *upstream.Tokens, error) {
	t.Helper()
	b, values := begin(t, p, upstream.Request{})
	return complete(t, p, b, values)
}

func complete(t *testing.T, p *upstream.Provider, b upstream.Begun, values url.Values) (*upstream.Identity, *upstream.Tokens,
	error) {
	t.Helper()
	cb, err := upstream.ParseCallback(values)
	if err != nil {
		return nil, nil, err
	}
	return p.Complete(t.Context(), b.Attempt, b.Browser, cb)
}
