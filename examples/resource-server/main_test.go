package main

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/handstamp/handstamp/pkg/verifier"
)

func TestResourceServer(t *testing.T) {
	issuer, mint := startIssuer(t)
	ctx, stop := context.WithCancel(t.Context())
	stdout, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, []string{"-issuer", issuer, "-listen", "127.0.0.1:0"}, w)
		w.Close()
	}()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	address, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if !ok {
		t.Fatalf("printed %q, %v", line, err)
	}
	for _, c := range []struct {
		name, path, token, want string
		status                  int
	}{
		{"ok/hello", "/hello", mint("openid"), `"subject":"usr_alice"`, 200},
		{"ok/scope", "/reports", mint("openid reports:read"), `"reader":"usr_alice"`, 200},
		{"fail/no token", "/hello", "", `Bearer`, 401},
		{"fail/no valid token", "/hello", mint("openid") + "x", `Bearer error="invalid_token"`, 401},
		{"fail/no scope", "/reports", mint("openid"), `scope="reports:read"`, 403},
		{"ok/ready", "/readyz", "", "", 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, address+c.path, nil)
			if c.token != "" {
				r.Header.Set("Authorization", "Bearer "+c.token)
			}
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != c.status || !strings.Contains(string(body)+resp.Header.Get("WWW-Authenticate"), c.want) {
				t.Errorf("answer = %d %s %s", resp.StatusCode, resp.Header.Get("WWW-Authenticate"), body)
			}
		})
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("after the stop: %v", err)
	}
}

func TestWrongArguments(t *testing.T) {
	for _, args := range [][]string{{"-nonsense"}, {"-issuer", "http://issuer.example"}, {"-listen", "nowhere:x"}} {
		if err := run(t.Context(), args, io.Discard); err == nil {
			t.Errorf("%v: accepted", args)
		}
	}
}

// startIssuer starts as much of an issuer as a resource server talks to.
func startIssuer(t *testing.T) (string, func(scope string) string) {
	public, private, _ := ed25519.GenerateKey(nil)
	jwk, err := verifier.NewJWK("k1", public)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	answer := func(path string, v func() any) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(v()) })
	}
	answer("/.well-known/oauth-authorization-server",
		func() any { return map[string]string{"issuer": server.URL, "jwks_uri": server.URL + "/jwks"} })
	answer("/jwks", func() any { return verifier.JWKSet{Keys: []verifier.JWK{jwk}} })
	answer("/v1/blocklist", func() any { return verifier.Feed{Issuer: server.URL, Cursor: "1", AsOf: time.Now()} })
	n := 0
	return server.URL, func(scope string) string {
		n++
		token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{
			"iss": server.URL, "aud": server.URL, "sub": "usr_alice", "client_id": "app", "jti": fmt.Sprint(n), "scope": scope,
			"iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix(),
		})
		token.Header["kid"], token.Header["typ"] = "k1", "at+jwt"
		raw, err := token.SignedString(private)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
}
