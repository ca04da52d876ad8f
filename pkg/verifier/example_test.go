package verifier_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/handstamp/handstamp/pkg/verifier"
)

// An API that lets its callers in with an access token, and deletes only for those with the scope for it.
func Example() {
	issuer, mint := startIssuer() // in real life: handstamp serve
	defer issuer.Close()

	v, err := verifier.New(context.Background(), issuer.URL, verifier.WithAudience("https://api.example.com"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer v.Close()
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		claims, _ := verifier.ClaimsFrom(r.Context())
		fmt.Fprint(w, "hello ", claims.Subject)
	})
	mux := http.NewServeMux()
	mux.Handle("GET /", v.Middleware(hello))
	mux.Handle("DELETE /", v.Middleware(verifier.RequireScope("reports:write")(hello)))

	for _, request := range []struct{ method, token string }{{"GET", mint()}, {"DELETE", mint()}, {"GET", ""}} {
		r := httptest.NewRequest(request.method, "/", nil)
		if request.token != "" {
			r.Header.Set("Authorization", "Bearer "+request.token)
		}
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		if w.Code == http.StatusOK {
			fmt.Println(w.Code, w.Body)
		} else {
			fmt.Println(w.Code, w.Header().Get("WWW-Authenticate"))
		}
	}
	// Output:
	// 200 hello usr_alice
	// 403 Bearer error="insufficient_scope", error_description="The access token lacks a required scope", scope="reports:write"
	// 401 Bearer
}

// Without net/http, for example in a gRPC interceptor.
func ExampleVerifier_Verify() {
	issuer, mint := startIssuer()
	defer issuer.Close()
	v, err := verifier.New(context.Background(), issuer.URL, verifier.WithAudience("https://api.example.com"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer v.Close()

	for _, raw := range []string{mint(), "not a token"} {
		claims, err := v.Verify(context.Background(), raw)
		switch {
		case errors.Is(err, verifier.ErrUnavailable):
			fmt.Println("try again later")
		case err != nil:
			fmt.Println("get another token")
		default:
			fmt.Println(claims.Subject, claims.HasScope("openid"))
		}
	}
	// Output:
	// usr_alice true
	// get another token
}

// What a health check and a dashboard want to know.
func ExampleVerifier_Status() {
	issuer, _ := startIssuer()
	defer issuer.Close()
	v, err := verifier.New(context.Background(), issuer.URL,
		verifier.WithAudience("https://api.example.com"),
		verifier.WithMaxStaleness(30*time.Second, verifier.FailClosed),
		verifier.WithHooks(verifier.Hooks{FeedMode: func(mode verifier.FeedMode) { _ = mode /* count it */ }}))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer v.Close()
	s := v.Status()
	fmt.Println(v.Ready(), s.Keys, s.Entries, s.Staleness < time.Minute)
	// Output: true 1 0 true
}

// startIssuer starts as much of an issuer as the examples need, with a function that mints a token.
func startIssuer() (*httptest.Server, func() string) {
	public, private, _ := ed25519.GenerateKey(nil)
	jwk, _ := verifier.NewJWK("k1", public)
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	mux.HandleFunc("GET /.well-known/oauth-authorization-server", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, server.URL, server.URL+"/jwks")
	})
	mux.HandleFunc("GET /jwks", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"keys":[{"kty":%q,"crv":%q,"x":%q,"kid":%q,"alg":%q,"use":"sig"}]}`, jwk.Kty, jwk.Crv, jwk.X, jwk.Kid, jwk.Alg)
	})
	mux.HandleFunc("GET /v1/blocklist", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"iss":%q,"cursor":"1","as_of":%q,"entries":""}`, server.URL, time.Now().Format(time.RFC3339Nano))
	})
	return server, func() string {
		token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{
			"iss": server.URL, "aud": "https://api.example.com", "sub": "usr_alice", "client_id": "app", "jti": "1", "scope": "openid",
			"iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix(),
		})
		token.Header["kid"], token.Header["typ"] = "k1", "at+jwt"
		raw, _ := token.SignedString(private)
		return raw
	}
}
