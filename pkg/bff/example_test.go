package bff_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"time"

	"github.com/handstamp/handstamp/pkg/bff"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// newBFF stands for bff.New at an issuer that can be reached.
func newBFF() *bff.BFF {
	key := make([]byte, bff.KeySize)
	_, _ = rand.Read(key) // never fails; an application reads its keys from where it keeps its secrets
	b, err := bff.New(context.Background(), "https://login.example.com", bff.Config{
		URL:      "https://app.example.com",
		ClientID: "app",
		Keys:     [][]byte{key},
		HTTPClient: &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) {
			w := httptest.NewRecorder()
			_ = json.NewEncoder(w).Encode(map[string]string{
				"issuer":                 "https://login.example.com",
				"authorization_endpoint": "https://login.example.com/oauth2/authorize",
				"token_endpoint":         "https://login.example.com/oauth2/token",
			})
			return w.Result(), nil
		})},
		Verifier: []verifier.Option{verifier.WithoutFeed()},
	})
	if err != nil {
		panic(err)
	}
	return b
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// An application with a page that is open to all and one for users. Who opens the latter without a session is sent to log in.
func Example() {
	b := newBFF()
	defer b.Close()

	mux := http.NewServeMux()
	mux.Handle("/auth/", b.Handler())
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		if s, ok := bff.SessionFrom(r.Context()); ok {
			fmt.Fprintf(w, "hello %s", s.Claims.Subject)
			return
		}
		fmt.Fprint(w, "hello stranger")
	})
	mux.Handle("GET /orders", b.RequireUser(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, _ := bff.SessionFrom(r.Context())
		fmt.Fprintf(w, "orders of %s", s.Claims.Subject)
	})))
	application := b.Middleware(mux)

	for _, path := range []string{"/", "/orders"} {
		r := httptest.NewRequest(http.MethodGet, "https://app.example.com"+path, nil)
		r.Header.Set("Sec-Fetch-Mode", "navigate") // as browsers do
		w := httptest.NewRecorder()
		application.ServeHTTP(w, r)
		fmt.Printf("%s: %d %q\n", path, w.Code, w.Header().Get("Location"))
	}
	// Output:
	// /: 200 ""
	// /orders: 303 "/auth/login?return_to=%2Forders"
}

// Script gets a status, not a page.
func ExampleBFF_RequireRole() {
	b := newBFF()
	defer b.Close()

	admin := b.Middleware(b.RequireRole("admin")(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "welcome")
	})))

	w := httptest.NewRecorder()
	admin.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "https://app.example.com/admin", nil))
	fmt.Println(w.Code, w.Header().Get("WWW-Authenticate"))
	// Output:
	// 401 Bearer
}

// What is dangerous wants a user who has just authenticated; a browser is sent to do so and comes back.
func ExampleBFF_RequireRecent() {
	b := newBFF()
	defer b.Close()

	mux := http.NewServeMux()
	mux.Handle("/auth/", b.Handler())
	recent := b.RequireRecent(10 * time.Minute)
	mux.Handle("POST /account/delete", recent(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, _ := bff.SessionFrom(r.Context())
		fmt.Fprintf(w, "deleted %s", s.Claims.Subject)
	})))
	_ = b.Middleware(mux)
}

// A single-page app calls its API at its own origin, and never sees a token.
func ExampleBFF_Proxy() {
	b := newBFF()
	defer b.Close()

	api, err := url.Parse("http://orders.internal:8080")
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/auth/", b.Handler())
	mux.Handle("/api/", http.StripPrefix("/api", b.Proxy(api)))
	mux.Handle("/", http.FileServer(http.Dir("dist")))
	_ = b.Middleware(mux)
}

// A handler calls an API as the user whose request it answers.
func ExampleBFF_Transport() {
	b := newBFF()
	defer b.Close()

	client := &http.Client{Transport: b.Transport(nil, "https://api.example.com")}
	_ = func(w http.ResponseWriter, r *http.Request) {
		call, err := http.NewRequestWithContext(r.Context(), http.MethodGet, "https://api.example.com/orders", nil)
		if err != nil {
			b.WriteError(w, r, err)
			return
		}
		answer, err := client.Do(call)
		if err != nil {
			b.WriteError(w, r, bff.ErrUnavailable)
			return
		}
		defer answer.Body.Close()
		fmt.Fprintln(w, answer.Status)
	}
}
