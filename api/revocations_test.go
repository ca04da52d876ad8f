package api_test

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// revocation is an event after which an access token is refused everywhere.
type revocation struct {
	name string
	// do makes it happen on a replica. The token to be refused is p's; second is another login of the same user.
	do func(t *testing.T, s *servicetest.Service, p person, second servicetest.Tokens)
	// secondToo says that the user's other login loses its access token as well.
	secondToo bool
	// alive says that the session goes on: its next refresh is answered, and the token that comes with it passes.
	alive bool
	// roles of the token that comes with the next refresh.
	roles []string
}

func revocations() []revocation {
	type service = servicetest.Service
	type tokens = servicetest.Tokens
	return []revocation{
		{name: "logout", do: func(t *testing.T, s *service, p person, _ tokens) {
			want(t, "logout", s.JSON(t, http.MethodPost, "/v1/logout", p.AccessToken, nil), http.StatusNoContent, "")
		}},
		{name: "logout by refresh token", do: func(t *testing.T, s *service, p person, _ tokens) {
			want(t, "logout", s.JSON(t, http.MethodPost, "/v1/logout", "", map[string]string{"refresh_token": p.RefreshToken}),
				http.StatusNoContent, "")
		}},
		{name: "log out everywhere", secondToo: true, do: func(t *testing.T, s *service, _ person, second tokens) {
			want(t, "log out everywhere", s.JSON(t, http.MethodDelete, "/v1/sessions", second.AccessToken, nil), http.StatusNoContent, "")
		}},
		{name: "log out everywhere else", do: func(t *testing.T, s *service, _ person, second tokens) {
			want(t, "log out elsewhere", s.JSON(t, http.MethodDelete, "/v1/sessions?except=current", second.AccessToken, nil),
				http.StatusNoContent, "")
		}},
		{name: "session ended from another device", do: func(t *testing.T, s *service, p person, second tokens) {
			want(t, "end session", s.JSON(t, http.MethodDelete, "/v1/sessions/"+sid(t, p.AccessToken), second.AccessToken, nil),
				http.StatusNoContent, "")
		}},
		{name: "user disabled", secondToo: true, do: func(t *testing.T, s *service, p person, _ tokens) {
			if err := s.Sessions.DisableUser(t.Context(), p.id, byOperator()); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "user deleted", secondToo: true, do: func(t *testing.T, s *service, _ person, second tokens) {
			want(t, "delete user", s.JSON(t, http.MethodDelete, "/v1/me", second.AccessToken, nil), http.StatusNoContent, "")
		}},
		{name: "password changed", secondToo: true, do: func(t *testing.T, s *service, _ person, second tokens) {
			r := s.JSON(t, http.MethodPost, "/v1/password/change", second.AccessToken, map[string]string{
				"current_password": servicetest.Password,
				"new_password":     "amber-heron-47",
			})
			if r.Status >= http.StatusBadRequest {
				t.Fatalf("change password: %d %s", r.Status, r.Body)
			}
		}},
		{
			name:      "role changed",
			secondToo: true,
			alive:     true,
			roles:     []string{"admin"},
			do: func(t *testing.T, s *service, p person, _ tokens) {
				setRoles(t, s, p, "admin")
			},
		},
		{name: "refresh token reused", do: func(t *testing.T, s *service, p person, _ tokens) {
			next := s.Refresh(t, p.RefreshToken).Tokens(t)
			s.Refresh(t, next.RefreshToken).Tokens(t)
			want(t, "reuse", s.Refresh(t, p.RefreshToken), http.StatusBadRequest, "invalid_grant")
		}},
		{name: "refresh token revoked", do: func(t *testing.T, s *service, p person, _ tokens) {
			want(t, "revoke", s.Form(t, "/oauth2/revoke", "token", p.RefreshToken, "client_id", "default"), http.StatusOK, "")
		}},
		{name: "access token revoked", alive: true, do: func(t *testing.T, s *service, p person, _ tokens) {
			want(t, "revoke", s.Form(t, "/oauth2/revoke", "token", p.AccessToken, "client_id", "default"), http.StatusOK, "")
		}},
		{name: "signing key revoked", secondToo: true, alive: true, do: func(t *testing.T, s *service, p person, _ tokens) {
			kid, _ := jwtHeader(t, p.AccessToken)["kid"].(string)
			if err := s.Keys.Revoke(t.Context(), kid, audit.By{Actor: audit.ActorCLI}); err != nil {
				t.Fatal(err)
			}
		}},
		// the last one: it is everybody's
		{name: "client disabled", secondToo: true, do: func(t *testing.T, s *service, _ person, _ tokens) {
			entry := blocklist.NewEntry(verifier.BlockClient, "default", s.Sessions.BlockUntil())
			now := time.Now()
			if err := s.Store.DisableClient(t.Context(), "default", now, entry, audit.Event{
				At:       now,
				Kind:     audit.KindClientDisabled,
				Actor:    audit.ActorCLI,
				ClientID: "default",
			}); err != nil {
				t.Fatal(err)
			}
		}},
	}
}

func setRoles(t *testing.T, s *servicetest.Service, p person, roles ...string) {
	t.Helper()
	if err := s.Sessions.SetRoles(t.Context(), p.id, roles, byOperator()); err != nil {
		t.Fatal(err)
	}
}

// Each event happens on one replica; the resource server follows another one.
func TestRevocations(t *testing.T) {
	t.Parallel()
	servicetest.Each(t, func(t *testing.T, db servicetest.Database) {
		a := servicetest.Start(t, db)
		b := servicetest.Start(t, db, sameIssuer(a))
		v := follow(t, b)
		bystander := signUp(t, a)
		for _, r := range revocations() {
			t.Run(r.name, func(t *testing.T) {
				p := signUp(t, a)
				second := a.LogIn(t, p.email)
				for _, token := range []string{p.AccessToken, second.AccessToken} {
					if refusedBy(t, v, token) {
						t.Fatal("refused before anything has happened")
					}
				}
				r.do(t, a, p, second)
				answered := time.Now()
				servicetest.Eventually(t, "refused", func() bool { return refusedBy(t, v, p.AccessToken) })
				t.Logf("%s: refused by a follower of another replica %v after the answer", r.name,
					time.Since(answered).Round(time.Microsecond))
				if r.secondToo {
					servicetest.Eventually(t, "the other login is refused", func() bool { return refusedBy(t, v, second.AccessToken) })
				} else if refusedBy(t, v, second.AccessToken) {
					t.Error("the user's other login is refused as well")
				}
				refreshed := b.Refresh(t, p.RefreshToken)
				if !r.alive {
					if refreshed.Status != http.StatusBadRequest && refreshed.Status != http.StatusUnauthorized {
						t.Errorf("refreshed after the end: %d %s", refreshed.Status, refreshed.Body)
					}
					return
				}
				token := refreshed.Tokens(t).AccessToken
				claims, err := v.Verify(t.Context(), token)
				if err != nil {
					t.Fatalf("the next access token: %v", err)
				}
				if !slices.Equal(claims.Roles, r.roles) {
					t.Errorf("roles %q, want %q", claims.Roles, r.roles)
				}
				if bystander.Tokens = b.Refresh(t, bystander.RefreshToken).Tokens(t); refusedBy(t, v, bystander.AccessToken) {
					t.Error("somebody else is refused")
				}
			})
		}
	})
}

// A client's own token has no session; disabling the client is what ends it.
func TestRevokedClientToken(t *testing.T) {
	t.Parallel()
	servicetest.Each(t, func(t *testing.T, db servicetest.Database) {
		a := servicetest.Start(t, db)
		b := servicetest.Start(t, db, sameIssuer(a))
		v := follow(t, b)
		var tokens []string
		for _, id := range []string{"billing", "shipping"} {
			addClient(t, a, oauth.Client{
				ID:         id,
				Type:       oauth.Confidential,
				SecretHash: oauth.HashSecret(secretOf(id)),
				Grants:     []string{oauth.GrantClientCredentials},
			})
			tokens = append(tokens, serviceToken(t, a, id))
		}
		for _, token := range tokens {
			if refusedBy(t, v, token) {
				t.Fatal("refused before anything has happened")
			}
		}
		now := time.Now()
		err := a.Store.DisableClient(t.Context(), "billing", now,
			blocklist.NewEntry(verifier.BlockClient, "billing", a.Sessions.BlockUntil()),
			audit.Event{At: now, Kind: audit.KindClientDisabled, Actor: audit.ActorCLI, ClientID: "billing"})
		if err != nil {
			t.Fatal(err)
		}
		servicetest.Eventually(t, "refused", func() bool { return refusedBy(t, v, tokens[0]) })
		t.Logf("refused by a follower of another replica %v after the commit", time.Since(now).Round(time.Microsecond))
		if refusedBy(t, v, tokens[1]) {
			t.Error("another client's token is refused")
		}
	})
}

// Within one second: what was minted before a role change is refused, what is minted after it passes, and so on with
// the next change.
func TestREV08_SameSecond(t *testing.T) {
	t.Parallel()
	servicetest.Each(t, func(t *testing.T, db servicetest.Database) {
		a := servicetest.Start(t, db)
		b := servicetest.Start(t, db, sameIssuer(a))
		v := follow(t, b)
		p := signUp(t, a)
		refresh := p.RefreshToken
		mint := func(s *servicetest.Service) string {
			tokens := s.Refresh(t, refresh).Tokens(t)
			refresh = tokens.RefreshToken
			return tokens.AccessToken
		}
		// Both changes are to fall into the second of the token before them. A refresh after a change waits for the next second,
		// so that one token and the next change nearly always do.
		sameSecond := func(access string) bool {
			iat, _ := servicetest.Claims(t, access)["iat"].(float64)
			return int64(iat) == time.Now().Unix()
		}
		for range 20 {
			before := mint(a)
			setRoles(t, a, p, "one")
			if !sameSecond(before) {
				continue
			}
			between := mint(b)
			setRoles(t, b, p, "two")
			if !sameSecond(between) {
				continue
			}
			after := mint(a)
			for what, token := range map[string]string{"before": before, "between": between} {
				servicetest.Eventually(t, "the token of "+what+" is refused", func() bool { return refusedBy(t, v, token) })
			}
			claims, err := v.Verify(t.Context(), after)
			if err != nil {
				t.Fatalf("the token of after: %v", err)
			}
			if !slices.Equal(claims.Roles, []string{"two"}) {
				t.Errorf("roles %q", claims.Roles)
			}
			return
		}
		t.Fatal("no round of two refreshes and role changes fell into their seconds")
	})
}
