package api_test

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/handstamp/handstamp/cmd/handstamp/demo"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// The demo does what its page says, in Chromium. go test -artifacts takes pictures.
func TestDemoInChromium(t *testing.T) {
	t.Parallel()
	s := servicetest.Start(t, servicetest.SQLite(t))
	var page atomic.Pointer[demo.Demo]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { page.Load().ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	if err := demo.Register(t.Context(), s.Store, demo.Clients(server.URL), time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := s.Clients.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	tokens, err := verifier.New(t.Context(), s.Config.Issuer, verifier.WithAudience(s.Config.Issuer))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tokens.Close)
	d, err := demo.New(s.Config.Issuer, tokens)
	if err != nil {
		t.Fatal(err)
	}
	page.Store(d)
	said := node(t, "demo.mjs", map[string]any{
		"chromium": chromium(t),
		"demo":     server.URL + "/",
		"shots":    pictures(t),
	})
	t.Log(said)
}
