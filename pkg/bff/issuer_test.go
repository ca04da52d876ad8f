package bff

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/handstamp/handstamp/pkg/verifier"
)

const (
	testIssuer = "https://issuer.example"
	testURL    = "https://app.example"
)

var testKey = []byte("0123456789abcdef0123456789ABCDEF")

// fakeIssuer answers like the service does, in memory, so that tests can be in a bubble and say what goes wrong. What it says
// about sessions is proved with the real service, in e2e_test.go.
type fakeIssuer struct {
	private *ecdsa.PrivateKey
	key     *verifier.Key
	blocked *verifier.BlockSet

	mu      sync.Mutex
	fail    map[string]int // by path: the status, or -1 for no answer
	forms   []url.Values   // of the token endpoint
	headers []http.Header
	revoked []string
	claims  map[string]any // changes of ID tokens
	access  map[string]any // changes of access tokens
	nonce   string
	number  int // of the last refresh token
	hold    chan struct{}
}

func newFakeIssuer(t testing.TB) *fakeIssuer {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := verifier.NewKey("key", private.Public())
	if err != nil {
		t.Fatal(err)
	}
	return &fakeIssuer{private: private, key: key, blocked: verifier.NewBlockSet(), fail: map[string]int{}}
}

// sign returns a JWT.
func (f *fakeIssuer) sign(typ string, claims map[string]any) string {
	payload, _ := json.Marshal(claims)
	signed := encode([]byte(fmt.Sprintf(`{"alg":"ES256","kid":"key","typ":%q}`, typ))) + "." + encode(payload)
	hash := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, f.private, hash[:])
	if err != nil {
		panic(err)
	}
	sig := make([]byte, 64)
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return signed + "." + encode(sig)
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func changed(claims, changes map[string]any) map[string]any {
	maps.Copy(claims, changes)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	return claims
}

// accessToken returns an access token of 15 minutes.
func (f *fakeIssuer) accessToken() string {
	now := time.Now().Unix()
	return f.sign("at+jwt", changed(map[string]any{
		"iss": testIssuer, "aud": testIssuer, "sub": "usr_1", "client_id": "app", "jti": rand.Text(), "sid": "ses_1", "iat": now,
		"exp": now + 900, "scope": "openid orders:read", "roles": []string{"editor"}, "auth_time": now,
	}, f.access))
}

// tokens answers the token endpoint. The caller holds the lock.
func (f *fakeIssuer) tokens() map[string]any {
	f.number++
	now := time.Now().Unix()
	access := f.accessToken()
	id := f.sign("JWT", changed(map[string]any{
		"iss": testIssuer, "aud": "app", "sub": "usr_1", "sid": "ses_1", "iat": now, "exp": now + 900, "nonce": f.nonce,
		"auth_time": now, "at_hash": hashOf(access), "email": "ann@example.com",
	}, f.claims))
	return map[string]any{
		"access_token": access, "token_type": "Bearer", "expires_in": 900, "id_token": id,
		"refresh_token": fmt.Sprintf("refresh-%d", f.number),
	}
}

// set changes the issuer while it runs.
func (f *fakeIssuer) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// RoundTrip implements http.RoundTripper.
func (f *fakeIssuer) RoundTrip(r *http.Request) (*http.Response, error) {
	form := url.Values{}
	if r.Body != nil {
		text, _ := io.ReadAll(r.Body)
		form, _ = url.ParseQuery(string(text))
	}
	f.mu.Lock()
	hold := f.hold
	f.mu.Unlock()
	if hold != nil && r.URL.Path == "/token" {
		select {
		case <-hold:
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	status := f.fail[r.URL.Path]
	if status < 0 {
		return nil, io.ErrUnexpectedEOF
	}
	recorder := httptest.NewRecorder()
	var answer any = map[string]any{}
	switch r.URL.Path {
	case "/.well-known/oauth-authorization-server":
		answer = map[string]any{
			"issuer": testIssuer, "authorization_endpoint": testIssuer + "/authorize", "token_endpoint": testIssuer + "/token",
			"revocation_endpoint": testIssuer + "/revoke", "end_session_endpoint": testIssuer + "/logout",
		}
	case "/token":
		f.forms, f.headers = append(f.forms, form), append(f.headers, r.Header)
		switch status {
		case 0:
			answer = f.tokens()
		case http.StatusBadRequest:
			answer = map[string]any{"error": "invalid_grant"}
		}
	case "/revoke":
		if status == 0 {
			f.revoked = append(f.revoked, form.Get("token"))
		}
	}
	recorder.Header().Set("Content-Type", "application/json")
	if status != 0 {
		recorder.WriteHeader(status)
	}
	_ = json.NewEncoder(recorder).Encode(answer)
	response := recorder.Result()
	response.Request = r
	return response, nil
}

// block refuses the access tokens of a session that were minted until now.
func (f *fakeIssuer) block(sid string) {
	now := time.Now()
	f.blocked.Add(verifier.Entry{
		Key:       verifier.KeyOf(verifier.BlockSID, sid),
		NotBefore: uint32(now.Unix()),
		DropAfter: uint32(now.Add(time.Hour).Unix()),
	})
}

// open returns a BFF of this issuer.
func (f *fakeIssuer) open(t testing.TB, change ...func(*Config)) *BFF {
	t.Helper()
	config := Config{
		URL:          testURL,
		ClientID:     "app",
		ClientSecret: "secret",
		Keys:         [][]byte{testKey},
		HTTPClient:   &http.Client{Transport: f},
		Verifier: []verifier.Option{
			verifier.WithKeys(func(kid string) (*verifier.Key, bool) { return f.key, kid == f.key.ID() }),
			verifier.WithBlocklist(func(_ context.Context, keys []verifier.BlockKey, iat int64) (bool, error) {
				return f.blocked.Blocked(keys, iat), nil
			}),
		},
	}
	for _, c := range change {
		c(&config)
	}
	b, err := New(context.Background(), testIssuer, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// visitor is a browser that keeps the cookies of the application.
type visitor struct {
	t       testing.TB
	handler http.Handler
	cookies map[string]string
}

// reply is an answer, with the names of http.Response.
type reply struct {
	StatusCode int
	Header     http.Header
	Body       *bytes.Buffer
}

// Location is where a redirect leads, seen from the application.
func (r reply) Location() (*url.URL, error) {
	base, err := url.Parse(testURL)
	if err != nil {
		return nil, err
	}
	to := r.Header.Get("Location")
	if to == "" {
		return nil, http.ErrNoLocation
	}
	return base.Parse(to)
}

// application returns a browser at an application with one page for users, "/page".
func application(t testing.TB, b *BFF) *visitor {
	mux := http.NewServeMux()
	mux.Handle("/auth/", b.Handler())
	mux.Handle("/page", b.RequireUser(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, _ := SessionFrom(r.Context())
		fmt.Fprintf(w, "%s %v", s.Claims.Subject, s.Claims.Roles)
	})))
	mux.Handle("/recent", b.RequireRecent(5*time.Minute)(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "recent")
	})))
	return &visitor{t, b.Middleware(mux), map[string]string{}}
}

func (v *visitor) send(r *http.Request) reply {
	v.t.Helper()
	var pairs []string
	for name, value := range v.cookies { // as it is: net/http would leave out what it takes for wrong
		pairs = append(pairs, name+"="+value)
	}
	if len(pairs) > 0 {
		r.Header.Set("Cookie", strings.Join(pairs, "; "))
	}
	recorder := httptest.NewRecorder()
	v.handler.ServeHTTP(recorder, r)
	response := reply{recorder.Code, recorder.Header(), recorder.Body}
	for _, c := range (&http.Response{Header: response.Header}).Cookies() {
		if c.MaxAge < 0 {
			delete(v.cookies, c.Name)
		} else {
			v.cookies[c.Name] = c.Value
		}
	}
	if response.StatusCode == http.StatusInternalServerError {
		v.t.Errorf("%s %s: 500", r.Method, r.URL)
	}
	return response
}

func (v *visitor) get(target string, header ...string) reply {
	v.t.Helper()
	r := httptest.NewRequest(http.MethodGet, testURL+target, nil)
	r.Header.Set("Accept", "text/html")
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return v.send(r)
}

// logIn goes through a login, whose authorization request it returns.
func (v *visitor) logIn(f *fakeIssuer) url.Values {
	v.t.Helper()
	asked := v.authorize("/auth/login?return_to=/page")
	response := v.arrive(f, asked)
	if response.StatusCode != http.StatusSeeOther || response.Header.Get("Location") != "/page" {
		body, _ := io.ReadAll(response.Body)
		v.t.Fatalf("login: %d %s %s", response.StatusCode, response.Header.Get("Location"), body)
	}
	return asked
}

func (v *visitor) authorize(path string) url.Values {
	v.t.Helper()
	to, err := v.get(path).Location()
	if err != nil || !strings.HasPrefix(to.String(), testIssuer+"/authorize?") {
		v.t.Fatal(to, err)
	}
	return to.Query()
}

// arrive comes back from the issuer with a code. changes replace parameters.
func (v *visitor) arrive(f *fakeIssuer, asked url.Values, changes ...string) reply {
	v.t.Helper()
	f.set(func() { f.nonce = asked.Get("nonce") })
	query := url.Values{"state": {asked.Get("state")}, "code": {"code"}, "iss": {testIssuer}}
	for i := 0; i+1 < len(changes); i += 2 {
		query.Del(changes[i])
		if changes[i+1] != "" {
			query.Set(changes[i], changes[i+1])
		}
	}
	return v.get("/auth/callback?" + query.Encode())
}

// at returns the status of the page for users.
func (v *visitor) at() int { v.t.Helper(); return v.get("/page").StatusCode }
