package api_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/outbox"
)

// A client whose server takes connections and never answers delays no logout token of another client.
func TestLogoutTokensPassDeadReceivers(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		hung, arrived := make(chan struct{}), make(chan time.Time, 100)
		dead := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-hung:
			case <-r.Context().Done():
			}
		}))
		defer dead.Close()
		defer close(hung)
		alive := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { arrived <- time.Now() }))
		defer alive.Close()
		s := servicetest.Start(t, db)
		registerClient(t, s, oauth.Client{ID: "dead", BackchannelLogoutURI: dead.URL, RedirectURIs: []string{appRedirect}})
		registerClient(t, s, oauth.Client{ID: "app", BackchannelLogoutURI: alive.URL, RedirectURIs: []string{appRedirect}})
		s.SignUp(t, "ann@example.com")
		logIn := func(clientID string) servicetest.Tokens {
			b := newBrowser(t, s)
			page := b.open(authorizeURL(s, map[string]string{"client_id": clientID}))
			return redeem(t, s, b.logIn(page, "ann@example.com").code(t), "client_id", clientID).Tokens(t)
		}
		var deadOnes, aliveOnes []servicetest.Tokens
		for range 3 {
			deadOnes, aliveOnes = append(deadOnes, logIn("dead")), append(aliveOnes, logIn("app"))
		}
		end := func(tokens servicetest.Tokens) {
			if r := s.Do(t, http.MethodPost, "/v1/logout", bearer(tokens.AccessToken), nil); r.Status >= 300 {
				t.Fatal(r)
			}
		}
		for _, tokens := range deadOnes {
			end(tokens)
		}
		for _, tokens := range aliveOnes {
			ended := time.Now()
			end(tokens)
			select {
			case at := <-arrived:
				if d := at.Sub(ended); d > time.Second {
					t.Errorf("a logout token arrived after %v", d)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("no logout token")
			}
		}
		// The last one arrives before it is counted.
		servicetest.Eventually(t, "each delivery is counted", func() bool {
			return counter(t, s, "handstamp_delivery_attempts_total", oauth.KindLogout,
				string(outbox.Delivered)) >= float64(len(aliveOnes))
		})
	})
}
