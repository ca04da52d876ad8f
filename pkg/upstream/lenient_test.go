package upstream_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/handstamp/handstamp/pkg/upstream"
)

// What a provider says beside what the login needs does not decide, however odd it is.
func TestOddAnswers(t *testing.T) {
	metadata := func(name string, value any) func(l liar) {
		return func(l liar) { l.Metadata = func(m map[string]any) { m[name] = value } }
	}
	tokens := func(name, value string) func(l liar) {
		return func(l liar) { l.answersTokens(t, name, value) }
	}
	claim := func(name string, value any) func(l liar) {
		return func(l liar) { l.Claims = func(c jwt.MapClaims) { c[name] = value } }
	}
	key := func(name string, value any) func(l liar) {
		return func(l liar) {
			l.JWKS = func(keys []map[string]any) any {
				keys[0][name] = value
				return map[string]any{"keys": append([]any{7, nil, "key", map[string]any{"kty": "unheard of"}}, keys[0])}
			}
		}
	}
	for name, lie := range map[string]func(l liar){
		"metadata/scopes as a text":            metadata("scopes_supported", "openid email"),
		"metadata/scopes as a number":          metadata("scopes_supported", 7),
		"metadata/ways to authenticate odd":    metadata("token_endpoint_auth_methods_supported", map[string]any{"a": 1}),
		"metadata/algorithms as a text":        metadata("id_token_signing_alg_values_supported", "RS256"),
		"metadata/iss promised by a text":      metadata("authorization_response_iss_parameter_supported", "true"),
		"metadata/userinfo in nobody's reach":  metadata("userinfo_endpoint", "https://a:b@example.com"),
		"metadata/userinfo as a list":          metadata("userinfo_endpoint", []string{"https://example.com"}),
		"tokens/expires_in with a fraction":    tokens("expires_in", `3599.98`),
		"tokens/expires_in as an empty text":   tokens("expires_in", `""`),
		"tokens/expires_in with an exponent":   tokens("expires_in", `1e10`),
		"tokens/expires_in as a text":          tokens("expires_in", `"3600"`),
		"tokens/expires_in in words":           tokens("expires_in", `"an hour"`),
		"tokens/expires_in negative":           tokens("expires_in", `-1`),
		"tokens/expires_in null":               tokens("expires_in", `null`),
		"tokens/expires_in as an object":       tokens("expires_in", `{}`),
		"tokens/expires_in beyond all numbers": tokens("expires_in", `1e999`),
		"tokens/refresh_token as a number":     tokens("refresh_token", `7`),
		"tokens/refresh_token false":           tokens("refresh_token", `false`),
		"tokens/scope as a list":               tokens("scope", `["openid","email"]`),
		"tokens/token_type as a list":          tokens("token_type", `["Bearer"]`),
		"claims/auth_time as a text":           claim("auth_time", "yesterday"),
		"claims/name as an object":             claim("name", map[string]any{"first": "Ada"}),
		"claims/picture as a number":           claim("picture", 7),
		"claims/amr as a text":                 claim("amr", "pwd"),
		"keys/certificate that is none":        key("x5c", []string{"AAAA"}),
		"keys/certificates as a text":          key("x5c", "AAAA"),
		"keys/thumbprint odd":                  key("x5t", 7),
		"keys/operations odd":                  key("key_ops", "verify"),
	} {
		t.Run("ok/"+name, func(t *testing.T) {
			l := newLiar(t, "")
			lie(l)
			id, _, err := login(t, l.provider(t))
			if err != nil || id.Subject == "" || id.Email == "" {
				t.Errorf("%+v, %v", id, err)
			}
		})
	}
	for name, lie := range map[string]func(l liar){
		"no access token":          tokens("access_token", `null`),
		"access token as a number": tokens("access_token", `7`),
		"ID token as a list":       tokens("id_token", `["e30.e30.e30"]`),
		"private key":              key("d", "AAAA"),
		"key for encryption":       key("use", "enc"),
		"key of another algorithm": key("alg", "RS512"),
		"userinfo of somebody else": func(l liar) {
			l.Claims = withoutEmail
			l.Userinfo = func(c map[string]any) {
				c["sub"] = "eve"
			}
		},
		"subject as a number":        claim("sub", 7),
		"email that is proven by 1":  func(l liar) { l.Claims = func(c jwt.MapClaims) { c["email_verified"], c["sub"] = 1, "" } },
		"metadata that is no object": func(l liar) { l.Handle = answerAll("[]") },
	} {
		t.Run("fail/"+name, func(t *testing.T) {
			l := newLiar(t, "")
			lie(l)
			p := l.provider(t)
			b, err := p.Begin(t.Context(), upstream.Request{RedirectURI: redirectURI})
			if err == nil {
				_, _, err = complete(t, p, b, browse(t, b.URL, redirectURI))
			}
			if err == nil {
				t.Error("accepted")
			}
		})
	}
}

// answersTokens replaces a member of the token answer.
func (l liar) answersTokens(t *testing.T, name, value string) {
	whole := l.Server.Config.Handler
	l.Server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/token" {
			whole.ServeHTTP(w, r)
			return
		}
		recorded := httptest.NewRecorder()
		whole.ServeHTTP(recorded, r)
		var answer map[string]json.RawMessage
		if err := json.Unmarshal(recorded.Body.Bytes(), &answer); err != nil {
			t.Error(err)
		}
		answer[name] = json.RawMessage(value)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, "{")
		for member, raw := range answer {
			_, _ = io.WriteString(w, `"`+member+`":`+string(raw)+",") // as it is: some are no JSON that an encoder would write
		}
		_, _ = io.WriteString(w, `"":0}`)
	})
}

func withoutEmail(c jwt.MapClaims) { delete(c, "email") }

func answerAll(body string) func(w http.ResponseWriter, _ *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		_, _ = io.WriteString(w, body)
		return true
	}
}

// How long the tokens last is kept where it can be understood.
func TestOddExpiry(t *testing.T) {
	for answer, want := range map[string]time.Duration{"3599.98": 3599 * time.Second, `"60"`: time.Minute, "0": 0, `"soon"`: 0} {
		l := newLiar(t, "")
		l.answersTokens(t, "expires_in", answer)
		_, tokens, err := login(t, l.provider(t, func(c *upstream.Config) { c.KeepTokens = true }))
		if err != nil {
			t.Fatal(err)
		}
		left := time.Until(tokens.ExpiresAt)
		if tokens.ExpiresAt.IsZero() != (want == 0) || want > 0 && (left > want || left < want-10*time.Second) {
			t.Errorf("%s: expires in %v, want %v", answer, left, want)
		}
	}
}

// A GitHub App without the permission to read addresses logs known users in, and tells the operator what is missing.
func TestGitHubWithoutAddresses(t *testing.T) {
	for status, want := range map[int]error{
		http.StatusForbidden:           upstream.ErrMisconfigured,
		http.StatusNotFound:            upstream.ErrMisconfigured,
		http.StatusServiceUnavailable:  upstream.ErrUnavailable,
		http.StatusUnprocessableEntity: upstream.ErrInvalidAnswer,
	} {
		g := newFakeGitHub(t)
		whole := g.Server.Config.Handler
		g.Server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/user/emails" {
				w.WriteHeader(status)
				return
			}
			whole.ServeHTTP(w, r)
		})
		var log bytes.Buffer
		config := g.Config()
		all, err := upstream.NewProviders([]upstream.Config{config}, upstream.Options{
			Key:     masterKey(t),
			RootCAs: trusted(g.Server),
			Log:     slog.New(slog.NewTextHandler(&log, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		p, err := all.Provider("up")
		if err != nil {
			t.Fatal(err)
		}
		id, _, err := login(t, p)
		if err != nil || id.Subject != "583231" || id.Email != "" || !errors.Is(id.EmailFault, want) {
			t.Fatalf("%d: %+v, %v", status, id, err)
		}
		if !strings.Contains(log.String(), "addresses of the user") || strings.Contains(log.String(), g.Token) {
			t.Errorf("%d: logged %s", status, &log)
		}
	}
}
