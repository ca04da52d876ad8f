package api_test

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// status is what an access token says about its place in a list.
type status struct {
	Index int    `json:"idx"`
	URI   string `json:"uri"`
}

func statusOf(t testing.TB, accessToken string) status {
	t.Helper()
	encoded, err := json.Marshal(servicetest.Claims(t, accessToken)["status"])
	if err != nil {
		t.Fatal(err)
	}
	var claim struct {
		List status `json:"status_list"`
	}
	if err := json.Unmarshal(encoded, &claim); err != nil || claim.List.URI == "" {
		t.Fatalf("status %s: %v", encoded, err)
	}
	return claim.List
}

func (l status) path(s *servicetest.Service) string {
	return strings.TrimPrefix(l.URI, s.Config.Issuer)
}

// read fetches the list as a resource server does, and says what it tells of the token (draft-ietf-oauth-status-list,
// section 8.3).
func (l status) read(t testing.TB, s *servicetest.Service) int {
	t.Helper()
	r := s.Do(t, http.MethodGet, l.path(s), header("Accept", "application/statuslist+jwt"), nil)
	if r.Status != http.StatusOK || r.Header.Get("Content-Type") != "application/statuslist+jwt" {
		t.Fatalf("%s: %d %s %s", l.URI, r.Status, r.Header.Get("Content-Type"), r.Body)
	}
	encoded, _, _ := strings.Cut(r.Body, ".")
	if jose, err := base64.RawURLEncoding.DecodeString(encoded); err != nil ||
		!strings.Contains(string(jose), `"typ":"statuslist+jwt"`) {
		t.Errorf("header %s: %v", jose, err)
	}
	claims := servicetest.Claims(t, r.Body)
	if claims["sub"] != l.URI || claims["iss"] != s.Config.Issuer {
		t.Errorf("iss %v, sub %v for %s", claims["iss"], claims["sub"], l.URI)
	}
	body, _ := claims["status_list"].(map[string]any)
	lst, _ := body["lst"].(string)
	compressed, err := base64.RawURLEncoding.Strict().DecodeString(lst)
	if err != nil || body["bits"] != 1.0 {
		t.Fatalf("status_list %v: %v", body, err)
	}
	z, err := zlib.NewReader(bytes.NewReader(compressed))
	if err != nil {
		t.Fatal(err)
	}
	bits, err := io.ReadAll(z)
	if err != nil || l.Index >= 8*len(bits) {
		t.Fatalf("%d bytes: %v", len(bits), err)
	}
	return int(bits[l.Index/8]>>(l.Index%8)) & 1
}

func withStatusList(c *service.Config) { c.StatusList = true }

// revokedSoon waits until a list shows a token as revoked, as it does within a second.
func (l status) revokedSoon(t testing.TB, s *servicetest.Service) {
	t.Helper()
	servicetest.Eventually(t, "the status list shows it", func() bool { return l.read(t, s) == 1 })
}

func TestStatusList(t *testing.T) {
	alone(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db, withStatusList)
		other := servicetest.Start(t, db, withStatusList, sameIssuer(s))
		addClient(t, s, oauth.Client{
			ID:         "backend",
			Type:       oauth.Confidential,
			SecretHash: oauth.HashSecret(secretOf("backend")),
			Grants:     []string{oauth.GrantClientCredentials},
			Scopes:     []string{"reports:read"},
		})
		login := func(t *testing.T) (person, status) {
			t.Helper()
			p := signUp(t, s)
			l := statusOf(t, p.AccessToken)
			if got := l.read(t, s); got != 0 {
				t.Errorf("status of a new token is %d", got)
			}
			return p, l
		}
		refresh := func(t *testing.T, p person) servicetest.Tokens {
			t.Helper()
			return s.Form(t, "/oauth2/token", "grant_type", "refresh_token", "refresh_token", p.RefreshToken).Tokens(t)
		}
		own := func(t *testing.T) (string, status) {
			t.Helper()
			token := s.FormWith(t, "/oauth2/token", basic("backend"), "grant_type", "client_credentials").Tokens(t).AccessToken
			return token, statusOf(t, token)
		}

		t.Run("ok/a session keeps its place from refresh to refresh", func(t *testing.T) {
			p, l := login(t)
			if got := statusOf(t, refresh(t, p).AccessToken); got != l {
				t.Errorf("%+v after %+v", got, l)
			}
		})
		t.Run("ok/logout, told by another replica as well", func(t *testing.T) {
			p, l := login(t)
			_, stranger := login(t)
			if r := s.Do(t, http.MethodPost, "/v1/logout", bearer(p.AccessToken), nil); r.Status >= 300 {
				t.Fatal(r)
			}
			l.revokedSoon(t, s)
			l.revokedSoon(t, other)
			if stranger.read(t, s) != 0 {
				t.Error("somebody else's token is revoked")
			}
		})
		t.Run("ok/a role change revokes the tokens before, and the session goes on", func(t *testing.T) {
			p, l := login(t)
			if err := s.Sessions.SetRoles(t.Context(), p.id, []string{"editor"}, session.By{Actor: audit.ActorCLI}); err != nil {
				t.Fatal(err)
			}
			l.revokedSoon(t, s)
			if next := statusOf(t, refresh(t, p).AccessToken); next == l || next.read(t, s) != 0 {
				t.Errorf("%+v after %+v", next, l)
			}
		})
		t.Run("ok/one token revoked: its place is the session's, which gets another", func(t *testing.T) {
			p, l := login(t)
			if r := s.Form(t, "/oauth2/revoke", "token", p.AccessToken); r.Status != http.StatusOK {
				t.Fatal(r)
			}
			l.revokedSoon(t, s)
			if next := statusOf(t, refresh(t, p).AccessToken); next == l || next.read(t, s) != 0 {
				t.Errorf("%+v after %+v", next, l)
			}
		})
		t.Run("ok/a client's own token", func(t *testing.T) {
			token, l := own(t)
			if l.read(t, s) != 0 {
				t.Error("a new token is revoked")
			}
			if r := s.FormWith(t, "/oauth2/revoke", basic("backend"), "token", token); r.Status != http.StatusOK {
				t.Fatal(r)
			}
			l.revokedSoon(t, s)
			l.revokedSoon(t, other)
		})
		t.Run("ok/a disabled client: all of its tokens, and nobody else's", func(t *testing.T) {
			_, stranger := login(t)
			_, l := own(t)
			now := time.Now()
			if err := s.Store.DisableClient(t.Context(), "backend", now,
				blocklist.NewEntry(verifier.BlockClient, "backend", now.Add(time.Hour)), audit.Event{
					At:    now,
					Kind:  audit.KindClientDisabled,
					Actor: audit.ActorCLI,
				}); err != nil {
				t.Fatal(err)
			}
			l.revokedSoon(t, s)
			l.revokedSoon(t, other)
			if stranger.read(t, s) != 0 {
				t.Error("somebody else's token is revoked")
			}
		})
		t.Run("ok/all lists are named", func(t *testing.T) {
			_, l := login(t)
			var metadata struct {
				Endpoint string `json:"status_list_aggregation_endpoint"`
			}
			s.Get(t, "/.well-known/oauth-authorization-server", "").JSON(t, &metadata)
			servicetest.Eventually(t, "the list of the token is named", func() bool {
				var aggregation struct {
					StatusLists []string `json:"status_lists"`
				}
				s.Get(t, strings.TrimPrefix(metadata.Endpoint, s.Config.Issuer), "").JSON(t, &aggregation)
				return slices.Contains(aggregation.StatusLists, l.URI)
			})
		})
		t.Run("ok/unchanged", func(t *testing.T) {
			_, l := login(t)
			r := s.Get(t, l.path(s), "")
			if again := s.Do(t, http.MethodGet, l.path(s), header("If-None-Match", r.Header.Get("ETag")),
				nil); again.Status != http.StatusNotModified {
				t.Errorf("%d, want 304", again.Status)
			}
		})
		t.Run("fail/no such list", func(t *testing.T) {
			_, l := login(t)
			name, _, _ := strings.Cut(strings.TrimPrefix(l.path(s), "/v1/status-lists/"), "/")
			for _, path := range []string{name + "/99", name + "/-1", name + "/01", name + "/x", name + "/18446744073709551615",
				"nobody/0", "%2e%2e/0"} {
				want(t, path, s.Get(t, "/v1/status-lists/"+path, ""), http.StatusNotFound, "not_found")
			}
			want(t, "a list of the past", s.Get(t, l.path(s)+"?time=1", ""), http.StatusNotImplemented, "not_supported")
		})
	})
}

func TestStatusListOff(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		p := signUp(t, w.Service)
		if _, ok := servicetest.Claims(t, p.AccessToken)["status"]; ok {
			t.Error("the access token has a status")
		}
		if body := w.Get(t, "/.well-known/oauth-authorization-server", "").Body; strings.Contains(body, "status_list") {
			t.Error("the metadata names status lists")
		}
	})
}

// statusLists are the lists' answers in the contract.
func (c *checked) statusLists(s *servicetest.Service) {
	c.t.Helper()
	c.exchange(s, 200, "GET", "/v1/status-lists", nil, "")
	list := statusOf(c.t, signUp(c.t, s).AccessToken).path(s)
	r := c.exchange(s, 200, "GET", list, nil, "")
	c.exchange(s, 304, "GET", list, header("If-None-Match", r.Header.Get("ETag")), "")
	c.exchange(s, 404, "GET", "/v1/status-lists/nobody/0", nil, "")
	c.exchange(s, 501, "GET", list+"?time=1", nil, "")

	off := servicetest.Start(c.t, servicetest.SQLite(c.t))
	c.exchange(off, 404, "GET", "/v1/status-lists", nil, "")
}
