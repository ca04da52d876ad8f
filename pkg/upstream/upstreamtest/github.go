package upstreamtest

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/handstamp/handstamp/pkg/upstream"
)

// GitHub is not GitHub. It answers the four requests that a login makes as GitHub's documentation says, and what it
// answers for the REST API is held against GitHub's published description (testdata/github/openapi.json, cut from
// @octokit/openapi).
type GitHub struct {
	*httptest.Server
	User   map[string]any   // what /user answers
	Emails []map[string]any // what /user/emails answers
	Token  string           // the access token that it gives and takes
	Fail   string           // an error that the token endpoint answers with status 200, as GitHub does
	Issuer string           // the iss of its callbacks

	mu    sync.Mutex
	codes map[string]url.Values
}

// NewGitHub starts one, with TLS or without, until the test ends.
func NewGitHub(t testing.TB, plain bool) *GitHub {
	t.Helper()
	g := &GitHub{
		codes: map[string]url.Values{}, Token: "gho_" + rand.Text(), Issuer: "https://github.com/login/oauth",
		User: githubUser(), Emails: []map[string]any{
			{"email": "octocat@example.com", "primary": true, "verified": true, "visibility": "private"},
			{"email": "1+octocat@users.noreply.github.com", "primary": false, "verified": true, "visibility": nil},
		},
	}
	if plain {
		g.Server = httptest.NewServer(g)
	} else {
		g.Server = httptest.NewTLSServer(g)
	}
	t.Cleanup(g.Close)
	return g
}

// githubUser is a user as the REST API shows it to itself.
func githubUser() map[string]any {
	u := map[string]any{
		"login": "octocat", "id": 583231, "node_id": "MDQ6VXNlcjU4MzIzMQ==", "gravatar_id": "", "type": "User", "site_admin": false,
		"name": "The Octocat", "company": nil, "blog": "", "location": nil, "email": "shown@example.com", "hireable": nil, "bio": nil,
		"twitter_username": nil, "public_repos": 2, "public_gists": 1, "followers": 20, "following": 0,
		"created_at": "2008-01-14T04:33:35Z", "updated_at": "2008-01-14T04:33:35Z", "user_view_type": "private",
		"private_gists": 81, "total_private_repos": 100, "owned_private_repos": 100, "disk_usage": 10000, "collaborators": 8,
		"two_factor_authentication": true,
	}
	for _, name := range []string{"avatar_url", "url", "html_url", "followers_url", "following_url", "gists_url", "starred_url",
		"subscriptions_url", "organizations_url", "repos_url", "events_url", "received_events_url"} {
		u[name] = "https://api.github.com/users/octocat"
	}
	return u
}

// Config is a provider configuration for it.
func (g *GitHub) Config() upstream.Config {
	return upstream.Config{
		ID:                  "up",
		Type:                upstream.GitHub,
		Issuer:              g.Issuer,
		ClientID:            ClientID,
		ClientSecret:        ClientSecret,
		AllowPrivateNetwork: true,
		Endpoints: upstream.Endpoints{
			Authorization: g.URL + "/login/oauth/authorize", Token: g.URL + "/login/oauth/access_token",
			Userinfo: g.URL + "/user", Emails: g.URL + "/user/emails",
		},
	}
}

// ServeHTTP implements http.Handler.
func (g *GitHub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch r.URL.Path {
	case "/login/oauth/authorize":
		q, code := r.URL.Query(), rand.Text()
		g.codes[code] = q
		callback := url.Values{"code": {code}, "state": {q.Get("state")}, "iss": {g.Issuer}}
		//nolint:gosec // a fake for tests on loopback
		http.Redirect(w, r, q.Get("redirect_uri")+"?"+callback.Encode(), http.StatusFound)
	case "/login/oauth/access_token":
		code := r.PostFormValue("code")
		asked, ok := g.codes[code]
		delete(g.codes, code)
		sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
		answer := url.Values{"access_token": {g.Token}, "scope": {"read:user,user:email"}, "token_type": {"bearer"}}
		switch {
		case g.Fail != "":
			answer = url.Values{"error": {g.Fail}, "error_description": {"<b>no</b>"}}
		case r.PostFormValue("client_id") != ClientID || r.PostFormValue("client_secret") != ClientSecret:
			answer = url.Values{"error": {"incorrect_client_credentials"}}
		case !ok || base64.RawURLEncoding.EncodeToString(sum[:]) != asked.Get("code_challenge"):
			answer = url.Values{"error": {"bad_verification_code"}}
		}
		if !strings.Contains(r.Header.Get("Accept"), "application/json") {
			w.Header().Set("Content-Type", "application/x-www-form-urlencoded")
			_, _ = io.WriteString(w, answer.Encode())
			return
		}
		flat := map[string]string{}
		for name := range answer {
			flat[name] = answer.Get(name)
		}
		writeJSON(w, flat)
	case "/user", "/user/emails":
		switch {
		case r.Header.Get("User-Agent") == "" || strings.HasPrefix(r.Header.Get("User-Agent"), "Go-"):
			http.Error(w, "Request forbidden by administrative rules. Please make sure your request has a User-Agent header",
				http.StatusForbidden)
		case r.Header.Get("Authorization") != "Bearer "+g.Token:
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/user":
			writeJSON(w, g.User)
		default:
			writeJSON(w, g.Emails)
		}
	default:
		http.NotFound(w, r)
	}
}
