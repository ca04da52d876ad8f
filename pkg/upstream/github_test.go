package upstream_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/handstamp/handstamp/pkg/upstream"
	"github.com/handstamp/handstamp/pkg/upstream/upstreamtest"
	"github.com/handstamp/handstamp/pkg/user"
)

const githubPublished = "testdata/github/openapi.json"

// fakegithub is not GitHub. What it answers for the REST API is held against GitHub's published description
// (testdata/github/openapi.json, cut from @octokit/openapi).
type fakegithub struct{ *upstreamtest.GitHub }

func newFakeGitHub(t *testing.T) fakegithub { return fakegithub{upstreamtest.NewGitHub(t, false)} }

func (g fakegithub) provider(t *testing.T) *upstream.Provider {
	t.Helper()
	p, err := trusting(t, []*httptest.Server{g.Server}, g.Config()).Provider("up")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The fake is only worth something as long as GitHub would say the same.
func TestFakeGitHubSpeaksAsPublished(t *testing.T) {
	published, err := openapi3.NewLoader().LoadFromFile(githubPublished)
	if err != nil {
		t.Fatal(err)
	}
	g := newFakeGitHub(t)
	for _, path := range []string{"/user", "/user/emails"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+g.Token)
		r.Header.Set("User-Agent", "test")
		response, err := g.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		var body any
		if err := json.NewDecoder(response.Body).Decode(&body); err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		schema := published.Paths.Value(path).Get.Responses.Status(200).Value.Content["application/json"].Schema.Value
		if err := schema.VisitJSON(body); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		// And the checker would notice.
		switch b := body.(type) {
		case map[string]any:
			b["id"] = "583231"
		case []any:
			delete(b[0].(map[string]any), "verified")
		}
		if schema.VisitJSON(body) == nil {
			t.Errorf("%s: a wrong answer passes", path)
		}
	}
}

func TestOA08_GitHub(t *testing.T) {
	email := func(address string, primary, verified bool) map[string]any {
		return map[string]any{"email": address, "primary": primary, "verified": verified, "visibility": nil}
	}
	for name, c := range map[string]struct {
		emails []map[string]any
		want   string
	}{
		"ok/primary and verified": {[]map[string]any{email("b@example.com", false, true),
			email("a@example.com", true, true)}, "a@example.com"},
		"fail/primary unverified": {[]map[string]any{email("a@example.com", true, false),
			email("b@example.com", false, true)}, ""},
		"fail/only the one that is shown": {[]map[string]any{}, ""},
		"fail/verified is a text":         {[]map[string]any{{"email": "a@example.com", "primary": true, "verified": "true"}}, ""},
		"fail/PRIMARY":                    {[]map[string]any{{"email": "a@example.com", "PRIMARY": true, "verified": true}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			g := newFakeGitHub(t)
			g.Emails = c.emails
			id, _, err := login(t, g.provider(t))
			if err != nil {
				t.Fatal(err)
			}
			want := upstream.Identity{Provider: "up", Subject: "583231", Email: c.want, EmailVerified: c.want != "", Name: "The Octocat"}
			want.Profile = user.Profile{PreferredUsername: "octocat", Picture: "https://api.github.com/users/octocat"}
			if *id != want {
				t.Errorf("identity %+v, want %+v", *id, want)
			}
		})
	}
	t.Run("ok/a renamed user is the same, another with the name is not", func(t *testing.T) {
		g := newFakeGitHub(t)
		g.User["login"] = "renamed"
		if id, _, err := login(t, g.provider(t)); err != nil || id.Subject != "583231" {
			t.Errorf("%+v, %v", id, err)
		}
		g.User["id"] = 7
		if id, _, err := login(t, g.provider(t)); err != nil || id.Subject != "7" {
			t.Errorf("%+v, %v", id, err)
		}
	})
	for name, id := range map[string]any{"text": "583231", "zero": 0, "negative": -1, "fraction": 1.5, "absent": nil, "huge": 1e30} {
		t.Run("fail/id is "+name, func(t *testing.T) {
			g := newFakeGitHub(t)
			g.User["id"] = id
			if _, _, err := login(t, g.provider(t)); !errors.Is(err, upstream.ErrInvalidAnswer) {
				t.Errorf("error %v", err)
			}
		})
	}
	t.Run("fail/iss of another", func(t *testing.T) { // GitHub sends iss since 2026
		g := newFakeGitHub(t)
		p := g.provider(t)
		g.Issuer = "https://evil.example"
		if _, _, err := login(t, p); !errors.Is(err, upstream.ErrInvalidAnswer) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("fail/errors with status 200", func(t *testing.T) {
		g := newFakeGitHub(t)
		for code, want := range map[string]error{
			"bad_verification_code":        upstream.ErrInvalidAnswer,
			"incorrect_client_credentials": upstream.ErrMisconfigured,
			"redirect_uri_mismatch":        upstream.ErrMisconfigured,
		} {
			g.Fail = code
			_, _, err := login(t, g.provider(t))
			if e, ok := errors.AsType[*upstream.Error](err); !errors.Is(err, want) || !ok || e.Code != code {
				t.Errorf("%s: %v", code, err)
			}
		}
		g.Fail = "bad_refresh_token"
		if _, err := g.provider(t).Refresh(t.Context(), "r", ""); !errors.Is(err, upstream.ErrReauthNeeded) {
			t.Errorf("refresh: %v", err)
		}
	})
	t.Run("fail/ID tokens", func(t *testing.T) {
		g := newFakeGitHub(t)
		if _, err := g.provider(t).VerifyIDToken(t.Context(), "a.b.c", "n"); !errors.Is(err, upstream.ErrNotSupported) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("ok/scopes and no OpenID", func(t *testing.T) {
		g := newFakeGitHub(t)
		b, _ := begin(t, g.provider(t), upstream.Request{LoginHint: "octocat"})
		u, _ := url.Parse(b.URL)
		q := u.Query()
		if q.Get("scope") != "read:user user:email" || q.Has("nonce") || q.Get("login") != "octocat" ||
			q.Get("code_challenge_method") != "S256" {
			t.Errorf("query %v", q)
		}
	})
}

func TestGenericOAuth2(t *testing.T) {
	g := newFakeGitHub(t)
	g.User = map[string]any{"uid": 42, "mail": "ada@example.com", "confirmed": true, "label": "Ada", "email_verified": true}
	config := g.Config()
	config.Type, config.TokenAuth, config.Endpoints.Emails = upstream.OAuth2, "client_secret_post", ""
	config.Claims = upstream.Claims{Subject: "uid", Email: "mail", EmailVerified: "confirmed", Name: "label"}
	try := func() (*upstream.Identity, error) {
		p, err := trusting(t, []*httptest.Server{g.Server}, config).Provider("up")
		if err != nil {
			t.Fatal(err)
		}
		id, _, err := login(t, p)
		return id, err
	}
	id, err := try()
	if want := (upstream.Identity{
		Provider:      "up",
		Subject:       "42",
		Email:         "ada@example.com",
		EmailVerified: true,
		Name:          "Ada",
	}); err != nil || *id != want {
		t.Errorf("%+v, %v", id, err)
	}
	config.Claims.EmailVerified = "" // a member that happens to be called so proves nothing
	if id, err := try(); err != nil || id.EmailVerified {
		t.Errorf("%+v, %v", id, err)
	}
	config.Claims.Subject = "nowhere"
	if _, err := try(); !errors.Is(err, upstream.ErrInvalidAnswer) {
		t.Errorf("error %v", err)
	}
}
