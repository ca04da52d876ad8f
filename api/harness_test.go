package api_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/session"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if err := errors.Join(worlds["sqlite"].end(), worlds["postgres"].end()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// sameIssuer makes a replica of a service.
func sameIssuer(s *servicetest.Service) func(*service.Config) {
	return func(c *service.Config) { c.Issuer, c.Audience = s.Config.Issuer, s.Config.Audience }
}

// world is a service that tests share: two replicas on one database, with a client for each purpose. A test makes users
// of its own, and leaves alone what others use.
type world struct {
	*servicetest.Service
	other *servicetest.Service
	db    servicetest.Database

	keeper keeper
	once   sync.Once
}

var worlds = map[string]*world{"sqlite": {}, "postgres": {}}

// each runs a test in the shared world of each kind of database.
func each(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	t.Parallel()
	for name, open := range map[string]func(testing.TB) servicetest.Database{
		"sqlite":   servicetest.SQLite,
		"postgres": servicetest.Postgres,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := worlds[name]
			w.once.Do(func() { w.begin(t, open) })
			if w.Service == nil || w.other == nil {
				t.Fatal("the shared service did not start")
			}
			test(t, w)
		})
	}
}

// alone runs a test on an empty database of each kind, beside other tests.
func alone(t *testing.T, test func(t *testing.T, db servicetest.Database)) {
	t.Helper()
	t.Parallel()
	servicetest.Each(t, test)
}

// begin starts the replicas for the first test that needs them.
func (w *world) begin(t *testing.T, open func(testing.TB) servicetest.Database) {
	w.keeper.TB = t
	w.db = open(&w.keeper)
	plenty := func(c *service.Config) {
		c.LoginIPFailures, c.MailIPLimit = 0, 0 // all tests come from one address
		c.TrustedProxies = []string{"127.0.0.1"}
	}
	w.Service = servicetest.Start(&w.keeper, w.db, plenty)
	w.other = servicetest.Start(&w.keeper, w.db, plenty, sameIssuer(w.Service))
	for _, c := range []oauth.Client{
		{
			ID:         "backend",
			Type:       oauth.Confidential,
			SecretHash: oauth.HashSecret(secretOf("backend")),
			Grants:     []string{oauth.GrantClientCredentials},
			Scopes:     []string{"reports:read"},
			Audiences:  []string{w.Config.Issuer}, // it introspects tokens that are meant for the service
		},
		{
			ID:         "stranger",
			Type:       oauth.Confidential,
			SecretHash: oauth.HashSecret(secretOf("stranger")),
			Grants:     []string{oauth.GrantClientCredentials},
			Audiences:  []string{"https://stranger.example"},
		},
		{
			ID:      "spa",
			Type:    oauth.Public,
			Grants:  []string{oauth.GrantRefreshToken},
			Origins: []string{"https://app.example.com", "http://localhost:3000"},
		},
		{
			ID:                     "web",
			Type:                   oauth.Public,
			Grants:                 []string{oauth.GrantAuthorizationCode, oauth.GrantRefreshToken},
			RedirectURIs:           []string{appRedirect},
			PostLogoutRedirectURIs: []string{appRedirect},
			Scopes:                 []string{"openid", "profile", "email"},
		},
		{
			ID:           "server",
			Type:         oauth.Confidential,
			SecretHash:   oauth.HashSecret(secretOf("server")),
			Grants:       []string{oauth.GrantAuthorizationCode, oauth.GrantRefreshToken},
			RedirectURIs: []string{appRedirect},
		},
		{
			ID:           "third",
			Type:         oauth.Public,
			ThirdParty:   true,
			Grants:       []string{oauth.GrantAuthorizationCode, oauth.GrantRefreshToken},
			RedirectURIs: []string{appRedirect},
			Scopes:       []string{"openid", "profile", "email"},
		},
		{
			ID:        "elsewhere",
			Type:      oauth.Public,
			Grants:    []string{oauth.GrantRefreshToken},
			Audiences: []string{"https://elsewhere.example"},
			Scopes:    []string{"openid"},
		},
	} {
		addClient(t, w.Service, c)
	}
}

func (w *world) end() error {
	w.keeper.cleanUp()
	return w.keeper.failed
}

// keeper stands in for the test that starts a shared service, which ends long before the service does.
type keeper struct {
	testing.TB
	cleanups []func()
	failed   error
}

func (k *keeper) Cleanup(f func())         { k.cleanups = append(k.cleanups, f) }
func (k *keeper) Context() context.Context { return context.Background() }
func (k *keeper) Errorf(f string, args ...any) {
	k.failed = errors.Join(k.failed, fmt.Errorf(f, args...))
}
func (k *keeper) TempDir() string {
	dir, err := os.MkdirTemp("", "handstamp-test-*")
	if err != nil {
		k.Fatal(err)
	}
	k.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (k *keeper) cleanUp() {
	for len(k.cleanups) > 0 {
		last := len(k.cleanups) - 1
		f := k.cleanups[last]
		k.cleanups = k.cleanups[:last]
		f()
	}
}

// secretOf is the secret of a confidential client under test.
func secretOf(id string) string { return "secret-of-" + id + "-0123456789abcdef0123456789" }

// addClient registers a client as the command line does.
func addClient(t testing.TB, s *servicetest.Service, c oauth.Client) {
	t.Helper()
	c.CreatedAt = time.Now()
	c.UpdatedAt = c.CreatedAt
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	if err := s.Store.CreateClient(t.Context(), c, audit.Event{
		At:       c.CreatedAt,
		Kind:     audit.KindClientCreated,
		Actor:    audit.ActorCLI,
		ClientID: c.ID,
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Clients.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// person is a user of a test.
type person struct {
	servicetest.Tokens
	email string
	id    string
}

var people atomic.Int64

// newEmail is an address that no other test uses.
func newEmail() string { return fmt.Sprintf("person-%d@example.com", people.Add(1)) }

// signUp makes a user.
func signUp(t testing.TB, s *servicetest.Service) person {
	t.Helper()
	p := person{email: newEmail()}
	p.Tokens = s.SignUp(t, p.email)
	p.id, _ = servicetest.Claims(t, p.AccessToken)["sub"].(string)
	return p
}

// sid is the session of an access token.
func sid(t testing.TB, accessToken string) string {
	t.Helper()
	s, _ := servicetest.Claims(t, accessToken)["sid"].(string)
	return s
}

// byOperator is who acts on the command line.
func byOperator() session.By { return session.By{Actor: audit.ActorCLI} }

// serviceToken is the access token that a confidential client gets for itself.
func serviceToken(t testing.TB, s *servicetest.Service, clientID string) string {
	t.Helper()
	return s.FormWith(t, "/oauth2/token", basic(clientID), "grant_type", "client_credentials").Tokens(t).AccessToken
}

// basic is a confidential client's authentication.
func basic(clientID string) http.Header {
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth(clientID, secretOf(clientID))
	return r.Header
}

// bearer is an access token in a header, with further fields given as names and values in turn.
func bearer(accessToken string, pairs ...string) http.Header {
	h := header(pairs...)
	if accessToken != "" {
		h.Set("Authorization", "Bearer "+accessToken)
	}
	return h
}

func header(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i+1 < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

// codeFlow logs a user in at a public client through the browser.
func codeFlow(t *testing.T, s *servicetest.Service, email, clientID, scope string) servicetest.Tokens {
	t.Helper()
	b := newBrowser(t, s)
	p := b.logIn(b.open(authorizeURL(s, map[string]string{"client_id": clientID, "scope": scope})), email)
	if p.location == nil {
		p = b.submit(p, "consent", map[string]string{"decision": "allow"})
	}
	return redeem(t, s, p.code(t), "client_id", clientID).Tokens(t)
}

// want fails the test unless an answer has a status and a code (empty: whichever).
func want(t testing.TB, what string, r servicetest.Response, status int, code string) {
	t.Helper()
	if r.Status != status || code != "" && r.Code() != code {
		t.Errorf("%s: %d %s, want %d %s", what, r.Status, r.Body, status, code)
	}
}

// introspect asks about a token as a confidential client.
func introspect(t testing.TB, s *servicetest.Service, clientID, token string) servicetest.Response {
	t.Helper()
	return s.FormWith(t, "/oauth2/introspect", basic(clientID), "token", token)
}

// inactive is the answer about a token that is not alive, to the byte.
const inactive = `{"active":false}`
