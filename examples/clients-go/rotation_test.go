package main

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/seal"
)

// inProcess is a transport that hands requests to the service, because there is no network under a test's own clock.
type inProcess struct{ handler http.Handler }

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	in := httptest.NewRequestWithContext(r.Context(), r.Method, r.URL.String(), r.Body)
	in.Header = r.Header
	w := httptest.NewRecorder()
	p.handler.ServeHTTP(w, in)
	return w.Result(), nil
}

// The cache of jwx fetches keys no more often than every 15 minutes, whatever it sees. A key of a rotation is published for
// longer before it signs, so that the cache knows it when the first token comes.
func TestRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "handstamp.db")
	synctest.Test(t, func(t *testing.T) {
		c := service.DefaultConfig()
		c.Issuer, c.Audience = "http://127.0.0.1:1", []string{audience}
		c.DatabaseURL, c.Migrate = seal.Secret("sqlite:"+path), true
		c.KeysDir = filepath.Join(filepath.Dir(path), "keys")
		c.Argon2Memory, c.Argon2Time = 64, 1
		log := slog.New(slog.NewTextHandler(io.Discard, nil))
		store, err := service.OpenCurrentStore(t.Context(), c, log)
		if err != nil {
			t.Fatal(err)
		}
		s, err := service.New(t.Context(), c, store, log, prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		client := &http.Client{Transport: inProcess{s.API}}
		var refreshToken string
		ask := func(path, contentType, body string) (kid, raw string) {
			t.Helper()
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.Issuer+path, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", contentType)
			answer, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			raw, refreshToken = tokens(t, answer)
			token, _, err := jwt.NewParser().ParseUnverified(raw, jwt.MapClaims{})
			if err != nil {
				t.Fatal(err)
			}
			kid, _ = token.Header["kid"].(string)
			return kid, raw
		}
		refresh := func() (kid, raw string) {
			t.Helper()
			return ask("/oauth2/token", "application/x-www-form-urlencoded", url.Values{
				"grant_type": {"refresh_token"}, "refresh_token": {refreshToken}, "client_id": {"default"},
			}.Encode())
		}
		old, raw := ask("/v1/signup", "application/json", `{"email":"ann@example.com","password":"violet-otter-93"}`)
		verify, err := jwx(t.Context(), c.Issuer, client)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := verify(raw); err != nil {
			t.Fatal(err)
		}

		time.Sleep(time.Minute) // of the test's own clock
		if _, err := s.Keys.Rotate(t.Context(), "", audit.By{Actor: audit.ActorCLI}); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		for kid := old; kid == old; {
			if time.Since(begin) > time.Hour {
				t.Fatal("the new key does not sign")
			}
			time.Sleep(time.Minute)
			kid, raw = refresh()
			if _, err := verify(raw); err != nil {
				t.Fatalf("%v after the rotation, key %s (old %s): %v", time.Since(begin), kid, old, err)
			}
		}
		t.Logf("the new key signs after %v", time.Since(begin))
	})
}

// tokens reads a token response.
func tokens(t *testing.T, answer *http.Response) (access, refresh string) {
	t.Helper()
	var body struct {
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&body); err != nil || body.Access == "" {
		t.Fatalf("%s: no tokens: %v", answer.Status, err)
	}
	return body.Access, body.Refresh
}
