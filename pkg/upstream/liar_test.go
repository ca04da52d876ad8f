package upstream_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/handstamp/handstamp/pkg/keyring"
	"github.com/handstamp/handstamp/pkg/upstream"
)

const (
	redirectURI  = "https://auth.example.com/oauth2/callback/up"
	clientID     = "handstamp-at-provider"
	clientSecret = "s3cret of the client+/%"
)

// liar is an OpenID provider that really speaks the protocol, over TLS, with PKCE, one-use codes and client
// authentication, and that tells a lie wherever a test asks it to.
type liar struct {
	*httptest.Server
	path string // of the issuer
	key  *rsa.PrivateKey

	mu       sync.Mutex
	codes    map[string]url.Values // authorization request by code
	accesses map[string]string     // subject by access token
	refresh  string                // the refresh token that is good now
	hits     map[string]int        // requests by path

	// The lies. Nil means the truth.
	metadata   func(m map[string]any)
	answer     func(callback url.Values)                                   // of the authorization endpoint
	claims     func(c jwt.MapClaims)                                       // of the ID token
	sign       func(c jwt.MapClaims) string                                // the ID token as a whole
	jwks       func(keys []map[string]any) any                             // the document
	userinfo   func(c map[string]any)                                      // of the UserInfo endpoint
	token      func(w http.ResponseWriter, r *http.Request, honest func()) // the token endpoint
	handle     func(w http.ResponseWriter, r *http.Request) bool           // everything
	ignorePKCE bool
}

// honestKey is made once: it takes longer than most of the tests.
var honestKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func newLiar(t *testing.T, path string) *liar {
	t.Helper()
	l := &liar{path: path, key: honestKey(), codes: map[string]url.Values{}, accesses: map[string]string{}, hits: map[string]int{}}
	l.Server = httptest.NewTLSServer(l)
	t.Cleanup(l.Close)
	return l
}

func (l *liar) issuer() string { return l.URL + l.path }

// config is a provider configuration for the liar.
func (l *liar) config(kind upstream.Type) upstream.Config {
	return upstream.Config{ID: "up", Type: kind, Issuer: l.issuer(), ClientID: clientID, ClientSecret: clientSecret, AllowPrivateNetwork: true}
}

func (l *liar) hit(path string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hits[path]
}

func (l *liar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, l.path)
	l.hits[path]++
	if l.handle != nil && l.handle(w, r) {
		return
	}
	switch path {
	case "/.well-known/openid-configuration":
		m := map[string]any{
			"issuer": l.issuer(), "authorization_endpoint": l.issuer() + "/authorize", "token_endpoint": l.issuer() + "/token",
			"jwks_uri": l.issuer() + "/jwks", "userinfo_endpoint": l.issuer() + "/userinfo",
			"id_token_signing_alg_values_supported": []string{"RS256"}, "scopes_supported": []string{"openid", "offline_access"},
			"authorization_response_iss_parameter_supported": true,
		}
		if l.metadata != nil {
			l.metadata(m)
		}
		writeJSON(w, m)
	case "/authorize":
		q, code := r.URL.Query(), rand.Text()
		l.codes[code] = q
		callback := url.Values{"code": {code}, "state": {q.Get("state")}, "iss": {l.issuer()}}
		if l.answer != nil {
			l.answer(callback)
		}
		http.Redirect(w, r, q.Get("redirect_uri")+"?"+callback.Encode(), http.StatusSeeOther)
	case "/token":
		honest := func() { l.serveToken(w, r) }
		if l.token != nil {
			l.token(w, r, honest)
		} else {
			honest()
		}
	case "/jwks":
		keys := []map[string]any{{
			"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "k1",
			"n": base64.RawURLEncoding.EncodeToString(l.key.N.Bytes()),
			"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(l.key.E)).Bytes()),
		}}
		if l.jwks != nil {
			writeJSON(w, l.jwks(keys))
		} else {
			writeJSON(w, map[string]any{"keys": keys})
		}
	case "/userinfo":
		subject, ok := l.accesses[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
		if !ok {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		c := map[string]any{"sub": subject, "email": "from-userinfo@example.com", "email_verified": true, "name": "From Userinfo"}
		if l.userinfo != nil {
			l.userinfo(c)
		}
		writeJSON(w, c)
	default:
		http.NotFound(w, r)
	}
}

func (l *liar) serveToken(w http.ResponseWriter, r *http.Request) {
	refuse := func(status int, code string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": code, "error_description": "<script>alert(1)</script>"})
	}
	id, secret, basic := r.BasicAuth()
	if basic {
		id, _ = url.QueryUnescape(id)
		secret, _ = url.QueryUnescape(secret)
	} else {
		id, secret = r.PostFormValue("client_id"), r.PostFormValue("client_secret")
	}
	if id != clientID || secret != clientSecret {
		refuse(http.StatusUnauthorized, "invalid_client")
		return
	}
	nonce := ""
	switch r.PostFormValue("grant_type") {
	case "authorization_code":
		code := r.PostFormValue("code")
		asked, ok := l.codes[code]
		delete(l.codes, code)
		sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
		challenged := base64.RawURLEncoding.EncodeToString(sum[:]) == asked.Get("code_challenge") && asked.Get("code_challenge_method") == "S256"
		if !ok || asked.Get("redirect_uri") != r.PostFormValue("redirect_uri") || !challenged && !l.ignorePKCE {
			refuse(http.StatusBadRequest, "invalid_grant")
			return
		}
		nonce = asked.Get("nonce")
	case "refresh_token":
		if l.refresh == "" || r.PostFormValue("refresh_token") != l.refresh {
			refuse(http.StatusBadRequest, "invalid_grant")
			return
		}
	default:
		refuse(http.StatusBadRequest, "unsupported_grant_type")
		return
	}
	access := rand.Text()
	l.refresh, l.accesses[access] = rand.Text(), "subject-1"
	writeJSON(w, map[string]any{
		"access_token": access, "token_type": "Bearer", "expires_in": 3600, "refresh_token": l.refresh,
		"scope": "openid email", "id_token": l.idToken(nonce),
	})
}

// idToken makes the token of subject-1, with the lies.
func (l *liar) idToken(nonce string) string {
	now := time.Now()
	c := jwt.MapClaims{
		"iss": l.issuer(), "sub": "subject-1", "aud": clientID, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		"nonce": nonce, "email": "ada@example.com", "email_verified": true, "name": "Ada",
	}
	if l.claims != nil {
		l.claims(c)
	}
	if l.sign != nil {
		return l.sign(c)
	}
	return signed(jwt.SigningMethodRS256, l.key, map[string]any{"kid": "k1"}, c)
}

// signed makes a JWT; header members that are nil are left out.
func signed(method jwt.SigningMethod, key any, header map[string]any, c jwt.MapClaims) string {
	token := jwt.NewWithClaims(method, c)
	maps.Copy(token.Header, header)
	maps.DeleteFunc(token.Header, func(_ string, v any) bool { return v == nil })
	raw, err := token.SignedString(key)
	if err != nil {
		panic(err)
	}
	return raw
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func masterKey(t *testing.T) keyring.MasterKey {
	t.Helper()
	key, err := keyring.ParseMasterKey(base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789ABCDEF")))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// trusting makes the providers of a configuration, which trust the certificates of the test servers.
func trusting(t *testing.T, servers []*httptest.Server, configs ...upstream.Config) *upstream.Providers {
	t.Helper()
	pool := x509.NewCertPool()
	for _, s := range servers {
		if s.Certificate() != nil {
			pool.AddCert(s.Certificate())
		}
	}
	all, err := upstream.NewProviders(configs, upstream.Options{Key: masterKey(t), RootCAs: pool})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// provider makes the one provider that talks to the liar.
func (l *liar) provider(t *testing.T, change ...func(*upstream.Config)) *upstream.Provider {
	t.Helper()
	c := l.config(upstream.OIDC)
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

func complete(t *testing.T, p *upstream.Provider, b upstream.Begun, values url.Values) (*upstream.Identity, *upstream.Tokens, error) {
	t.Helper()
	cb, err := upstream.ParseCallback(values)
	if err != nil {
		return nil, nil, err
	}
	return p.Complete(t.Context(), b.Attempt, b.Browser, cb)
}
