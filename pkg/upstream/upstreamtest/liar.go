// Package upstreamtest has the providers at which tests log in: a real one (npm's oidc-provider), one that lies, and a
// fake GitHub.
package upstreamtest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
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

	"github.com/handstamp/handstamp/pkg/upstream"
)

// ClientID and ClientSecret are how Handstamp is registered at each of the providers.
const (
	ClientID     = "handstamp-at-provider"
	ClientSecret = "s3cret of the client+/%"
)

// Liar is an OpenID provider that really speaks the protocol, over TLS, with PKCE, one-use codes and client
// authentication, and that tells a lie wherever a test asks it to.
type Liar struct {
	*httptest.Server
	path string          // of the issuer
	Key  *rsa.PrivateKey // that ID tokens are signed with

	mu       sync.Mutex
	codes    map[string]url.Values // authorization request by code
	accesses map[string]string     // subject by access token
	refresh  string                // the refresh token that is good now
	hits     map[string]int        // requests by path

	// The lies. Nil means the truth.
	Metadata    func(m map[string]any)
	Answer      func(callback url.Values)                                   // of the authorization endpoint
	Claims      func(c jwt.MapClaims)                                       // of the ID token
	Sign        func(c jwt.MapClaims) string                                // the ID token as a whole
	JWKS        func(keys []map[string]any) any                             // the document
	Userinfo    func(c map[string]any)                                      // of the UserInfo endpoint
	TokenAnswer func(w http.ResponseWriter, r *http.Request, honest func()) // the token endpoint
	Handle      func(w http.ResponseWriter, r *http.Request) bool           // everything
	IgnorePKCE  bool
}

// honestKey is made once: it takes longer than most of the tests.
var honestKey = sync.OnceValue(func() *rsa.PrivateKey { //nolint:gochecknoglobals // constant
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// NewLiar starts a liar with TLS, whose issuer has a path (may be empty), until the test ends.
func NewLiar(t testing.TB, path string) *Liar {
	t.Helper()
	l := newLiar(path)
	l.Server = httptest.NewTLSServer(l)
	t.Cleanup(l.Close)
	return l
}

// NewPlainLiar starts one on loopback without TLS.
func NewPlainLiar(t testing.TB) *Liar {
	t.Helper()
	l := newLiar("")
	l.Server = httptest.NewServer(l)
	t.Cleanup(l.Close)
	return l
}

func newLiar(path string) *Liar {
	return &Liar{path: path, Key: honestKey(), codes: map[string]url.Values{}, accesses: map[string]string{}, hits: map[string]int{}}
}

// Issuer is the liar's issuer.
func (l *Liar) Issuer() string { return l.URL + l.path }

// Config is a provider configuration for the liar.
func (l *Liar) Config(kind upstream.Type) upstream.Config {
	return upstream.Config{
		ID:                  "up",
		Type:                kind,
		Issuer:              l.Issuer(),
		ClientID:            ClientID,
		ClientSecret:        ClientSecret,
		AllowPrivateNetwork: true,
	}
}

// Hits is the number of requests for a path of the issuer.
func (l *Liar) Hits(path string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hits[path]
}

// WithdrawRefreshToken makes the refresh token that was given last worthless.
func (l *Liar) WithdrawRefreshToken() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refresh = "withdrawn"
}

// ServeHTTP implements http.Handler.
func (l *Liar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, l.path)
	l.hits[path]++
	if l.Handle != nil && l.Handle(w, r) {
		return
	}
	switch path {
	case "/.well-known/openid-configuration":
		m := map[string]any{
			"issuer": l.Issuer(), "authorization_endpoint": l.Issuer() + "/authorize", "token_endpoint": l.Issuer() + "/token",
			"jwks_uri": l.Issuer() + "/jwks", "userinfo_endpoint": l.Issuer() + "/userinfo",
			"id_token_signing_alg_values_supported": []string{"RS256"}, "scopes_supported": []string{"openid", "offline_access"},
			"authorization_response_iss_parameter_supported": true,
		}
		if l.Metadata != nil {
			l.Metadata(m)
		}
		writeJSON(w, m)
	case "/authorize":
		q, code := r.URL.Query(), rand.Text()
		l.codes[code] = q
		callback := url.Values{"code": {code}, "state": {q.Get("state")}, "iss": {l.Issuer()}}
		if l.Answer != nil {
			l.Answer(callback)
		}
		//nolint:gosec // a liar for tests on loopback
		http.Redirect(w, r, q.Get("redirect_uri")+"?"+callback.Encode(), http.StatusSeeOther)
	case "/token":
		honest := func() { l.serveToken(w, r) }
		if l.TokenAnswer != nil {
			l.TokenAnswer(w, r, honest)
		} else {
			honest()
		}
	case "/jwks":
		keys := []map[string]any{{
			"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "k1",
			"n": base64.RawURLEncoding.EncodeToString(l.Key.N.Bytes()),
			"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(l.Key.E)).Bytes()),
		}}
		if l.JWKS != nil {
			writeJSON(w, l.JWKS(keys))
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
		if l.Userinfo != nil {
			l.Userinfo(c)
		}
		writeJSON(w, c)
	default:
		http.NotFound(w, r)
	}
}

func (l *Liar) serveToken(w http.ResponseWriter, r *http.Request) {
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
	if id != ClientID || secret != ClientSecret {
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
		challenged := base64.RawURLEncoding.EncodeToString(sum[:]) == asked.Get("code_challenge") &&
			asked.Get("code_challenge_method") == "S256"
		if !ok || asked.Get("redirect_uri") != r.PostFormValue("redirect_uri") || !challenged && !l.IgnorePKCE {
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
		"scope": "openid email", "id_token": l.IDToken(nonce),
	})
}

// IDToken makes the token of subject-1, with the lies.
func (l *Liar) IDToken(nonce string) string {
	now := time.Now()
	c := jwt.MapClaims{
		"iss": l.Issuer(), "sub": "subject-1", "aud": ClientID, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		"nonce": nonce, "email": "ada@example.com", "email_verified": true, "name": "Ada",
	}
	if l.Claims != nil {
		l.Claims(c)
	}
	if l.Sign != nil {
		return l.Sign(c)
	}
	return Signed(jwt.SigningMethodRS256, l.Key, map[string]any{"kid": "k1"}, c)
}

// Signed makes a JWT; header members that are nil are left out.
func Signed(method jwt.SigningMethod, key any, header map[string]any, c jwt.MapClaims) string {
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
