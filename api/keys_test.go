package api_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/keyring"
	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// publicMembers are all that a published key may have (RFC 7518, section 6), by its type.
func publicMembers() map[string]string {
	return map[string]string{"EC": "alg crv kid kty use x y", "OKP": "alg crv kid kty use x", "RSA": "alg e kid kty n use"}
}

// onlyPublic fails the test unless a JWKS holds at least one key and nothing but public halves.
func onlyPublic(t testing.TB, when, body string) (kids []string) {
	t.Helper()
	var set map[string][]map[string]any
	if err := json.Unmarshal([]byte(body), &set); err != nil || len(set) != 1 || len(set["keys"]) == 0 {
		t.Fatalf("%s: %v %s", when, err, body)
	}
	for _, key := range set["keys"] {
		kty, _ := key["kty"].(string)
		if got := strings.Join(slices.Sorted(maps.Keys(key)), " "); got != publicMembers()[kty] || key["use"] != "sig" {
			t.Errorf("%s: a key has %s", when, got)
		}
		kid, _ := key["kid"].(string)
		kids = append(kids, kid)
	}
	return kids
}

func TestKEY01_NothingPrivateIsPublished(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db, func(c *service.Config) { c.SigningAlgorithm = verifier.EdDSA })
		fresh := onlyPublic(t, "fresh", s.Get(t, "/.well-known/jwks.json", "").Body)
		if len(fresh) != 3 {
			t.Errorf("%d keys, want one of each algorithm", len(fresh))
		}
		upcoming, err := s.Keys.Rotate(t.Context(), "", audit.By{Actor: "cli"})
		if err != nil {
			t.Fatal(err)
		}
		if kids := onlyPublic(t, "in a rotation",
			s.Get(t, "/.well-known/jwks.json", "").Body); !slices.Contains(kids, upcoming.ID) || len(kids) != 4 {
			t.Errorf("in a rotation: %v", kids)
		}
		if err := s.Keys.Revoke(t.Context(), fresh[0], audit.By{Actor: "cli"}); err != nil {
			t.Fatal(err)
		}
		if kids := onlyPublic(t, "after a revocation", s.Get(t, "/.well-known/jwks.json", "").Body); slices.Contains(kids, fresh[0]) {
			t.Errorf("the revoked key is published")
		}
	})
}

func TestKEY02_NoSymmetricAlgorithm(t *testing.T) {
	for _, algorithm := range []string{"HS256", "HS512", "none", "ES256K", "PS256", "es256", "RS256 "} {
		db := servicetest.SQLite(t)
		c := service.DefaultConfig()
		c.Issuer, c.DatabaseURL, c.MasterKey, c.SigningAlgorithm = "http://127.0.0.1:1", seal.Secret(db.URL), seal.Secret(
			servicetest.Master), algorithm
		if s, err := start(t, c); err == nil {
			t.Errorf("the service signs with %q", algorithm)
			_ = s.Close()
		}
	}
}

// start builds a service without a listener, and closes the store if that fails.
func start(t testing.TB, c service.Config) (*service.Service, error) {
	t.Helper()
	if c.Audience == nil {
		c.Audience = []string{c.Issuer}
	}
	log := slog.New(slog.NewJSONHandler(io.Discard, nil))
	opened, err := service.OpenCurrentStore(t.Context(), c, log)
	if err != nil {
		t.Fatal(err)
	}
	s, err := service.New(context.WithoutCancel(t.Context()), c, opened, log, prometheus.NewRegistry())
	if err != nil {
		_ = opened.Close()
	}
	return s, err
}

// Two replicas rotate while tokens are minted, verified, and copies of the JWKS are kept as long as they allow. At no
// time is there a token whose key a copy lacks.
func TestKEY03_EveryTokenVerifiesAgainstEveryCopy(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "handstamp.db")
	synctest.Test(t, func(t *testing.T) {
		c := service.DefaultConfig()
		c.Issuer, c.DatabaseURL, c.MasterKey = "http://127.0.0.1:1", seal.Secret("sqlite:"+path), seal.Secret(servicetest.Master)
		c.Argon2Memory, c.Argon2Time, c.JWKSMaxAge, c.AccessTokenLifetime = 64, 1, 30*time.Second, time.Minute
		c.KeyRotation = 3 * time.Minute
		var replicas []*service.Service
		for range 2 {
			s, err := start(t, c)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = s.Close() }()
			replicas = append(replicas, s)
		}
		do := func(s *service.Service, method, path, accessToken, body string) *httptest.ResponseRecorder {
			r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
			r.Header = bearer(accessToken, "Content-Type", "application/json")
			w := httptest.NewRecorder()
			s.API.ServeHTTP(w, r)
			return w
		}
		if w := do(replicas[0], http.MethodPost, "/v1/signup", "",
			`{"email":"ann@example.com","password":"`+servicetest.Password+`"}`); w.Code != http.StatusCreated {
			t.Fatal(w.Body)
		}
		type copied struct {
			kids  []string
			until time.Time
		}
		type minted struct {
			raw, kid string
			until    time.Time
		}
		var copies []copied
		var tokens []minted
		seen := map[string]bool{}
		for range 50 { // of 10 s
			now := time.Now()
			for i, s := range replicas {
				w := do(s, http.MethodGet, "/.well-known/jwks.json", "", "")
				age, err := strconv.Atoi(strings.TrimPrefix(w.Header().Get("Cache-Control"), "public, max-age="))
				if err != nil || w.Code != http.StatusOK || age > 30 {
					t.Fatalf("%d %v %q", w.Code, err, w.Header().Get("Cache-Control"))
				}
				kids := onlyPublic(t, "at some time", w.Body.String())
				copies = append(copies, copied{kids, now.Add(time.Duration(age) * time.Second)})

				w = do(replicas[1-i], http.MethodPost, "/v1/login", "", `{"email":"ann@example.com","password":"`+servicetest.Password+`"}`)
				var token servicetest.Tokens
				if err := json.Unmarshal(w.Body.Bytes(), &token); err != nil || w.Code != http.StatusOK {
					t.Fatal(w.Code, w.Body)
				}
				kid := jwtHeader(t, token.AccessToken)["kid"].(string)
				seen[kid] = true
				tokens = append(tokens, minted{token.AccessToken, kid, now.Add(time.Duration(token.ExpiresIn) * time.Second)})
			}
			copies = slices.DeleteFunc(copies, func(c copied) bool { return !now.Before(c.until) })
			tokens = slices.DeleteFunc(tokens, func(m minted) bool { return !now.Before(m.until) })
			for _, m := range tokens {
				for _, c := range copies {
					if !slices.Contains(c.kids, m.kid) {
						t.Fatalf("a copy of the JWKS that is good until %v lacks the key of a token", c.until)
					}
				}
			}
			for _, s := range replicas {
				if w := do(s, http.MethodGet, "/v1/me", tokens[0].raw, ""); w.Code != http.StatusOK {
					t.Fatalf("the oldest token: %d %s", w.Code, w.Body)
				}
			}
			time.Sleep(10 * time.Second)
		}
		if len(seen) < 3 {
			t.Errorf("%d keys have signed in 500 s of rotations every 180 s", len(seen))
		}
	})
}

func TestKEY05_RevokedKey(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db)
		other := servicetest.Start(t, db, sameIssuer(s))
		p := signUp(t, s)
		kid := jwtHeader(t, p.AccessToken)["kid"].(string)
		if err := s.Keys.Revoke(t.Context(), kid, audit.By{Actor: "cli"}); err != nil {
			t.Fatal(err)
		}
		if slices.Contains(onlyPublic(t, "at once", s.Get(t, "/.well-known/jwks.json", "").Body), kid) {
			t.Error("the revoked key is still published")
		}
		want(t, "its token at once", s.Get(t, "/v1/me", p.AccessToken), http.StatusUnauthorized, "invalid_token")
		servicetest.Eventually(t, "the other replica has heard", func() bool {
			return other.Get(t, "/v1/me", p.AccessToken).Status == http.StatusUnauthorized &&
				!slices.Contains(onlyPublic(t, "later", other.Get(t, "/.well-known/jwks.json", "").Body), kid)
		})
		servicetest.Eventually(t, "the feed says so", func() bool {
			return slices.ContainsFunc(feedEntries(t, other),
				func(e verifier.Entry) bool { return e.Key == verifier.KeyOf(verifier.BlockKID, kid) })
		})
		// The session is not to blame.
		for _, replica := range []*servicetest.Service{s, other} {
			tokens := replica.Refresh(t, p.RefreshToken).Tokens(t)
			p.RefreshToken = tokens.RefreshToken
			if got := jwtHeader(t, tokens.AccessToken)["kid"]; got == kid {
				t.Error("the revoked key signs")
			}
			want(t, "the next token", s.Get(t, "/v1/me", tokens.AccessToken), http.StatusOK, "")
			want(t, "the next token at the other replica", other.Get(t, "/v1/me", tokens.AccessToken), http.StatusOK, "")
		}
	})
}

// feedEntries are those that a replica tells its followers.
func feedEntries(t testing.TB, s *servicetest.Service) []verifier.Entry {
	t.Helper()
	var feed verifier.Feed
	s.Get(t, "/v1/blocklist", "").JSON(t, &feed)
	var out []verifier.Entry
	for e := range feed.Entries.All() {
		out = append(out, e)
	}
	return out
}

// Another master key is no reason to make new signing keys: the service says what is wrong, and does not start.
func TestKEY06_AnotherMasterKey(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db)
		p := signUp(t, s)
		var before []keyring.Record
		servicetest.Eventually(t, "there are keys of both algorithms", func() bool {
			var err error
			if before, err = s.Store.SigningKeys(t.Context()); err != nil {
				t.Fatal(err)
			}
			return len(before) == 2
		})
		c := s.Config
		c.MasterKey = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
		if wrong, err := start(t, c); err == nil {
			_ = wrong.Close()
			t.Error("the service starts with a master key that opens nothing")
		} else if !strings.Contains(err.Error(), "master key") {
			t.Errorf("the error does not say what to do: %v", err)
		}
		after, err := s.Store.SigningKeys(t.Context())
		if err != nil || len(after) != len(before) {
			t.Errorf("%d keys, %d before (%v)", len(after), len(before), err)
		}
		want(t, "meanwhile", s.Get(t, "/v1/me", p.AccessToken), http.StatusOK, "")
	})
}

// A cache is told how long it may keep the keys, and can ask whether they have changed.
func TestKEY08_Caching(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		r := w.Get(t, "/.well-known/jwks.json", "")
		age, ok := strings.CutPrefix(r.Header.Get("Cache-Control"), "public, max-age=")
		if seconds, err := strconv.Atoi(age); !ok || err != nil || seconds < 1 || seconds > 300 {
			t.Errorf("Cache-Control %q", r.Header.Get("Cache-Control"))
		}
		etag := r.Header.Get("Etag")
		for _, tag := range []string{etag, "W/" + etag, `"other", ` + etag, "*"} {
			again := w.Do(t, http.MethodGet, "/.well-known/jwks.json", header("If-None-Match", tag), nil)
			if again.Status != http.StatusNotModified || again.Body != "" || again.Header.Get("Etag") != etag ||
				again.Header.Get("Cache-Control") == "" {
				t.Errorf("If-None-Match %s: %d %v", tag, again.Status, again.Header)
			}
		}
		want(t, "another tag", w.Do(t, http.MethodGet, "/.well-known/jwks.json", header("If-None-Match", `"other"`), nil),
			http.StatusOK, "")
		if other := w.other.Get(t, "/.well-known/jwks.json", ""); other.Header.Get("Etag") != etag || other.Body != r.Body {
			t.Errorf("the replicas publish different documents: %s %s", r.Body, other.Body)
		}
	})
}
