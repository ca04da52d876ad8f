package sessiontest

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/clock"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// set gives a replica a machine whose clock is off.
func set(by time.Duration) func(c *service.Config) {
	return func(c *service.Config) { c.Clock = clock.New(func() time.Time { return time.Now().Add(by) }) }
}

// TM-01, TM-02: two replicas whose machines differ by more than any grace period or lifetime. Nobody is logged out, no token is
// dated ahead or lives too long, reuse is found when it is due, and no blocked token lives again.
func TestTM02_ReplicasDiffer(t *testing.T) {
	const short = 4 * time.Minute // of access tokens, less than what the clocks differ by
	for name, by := range map[string]time.Duration{
		"ahead":    5 * time.Minute,
		"behind":   -5 * time.Minute,
		"a little": 10 * time.Second,
	} {
		t.Run(name, func(t *testing.T) {
			servicetest.Each(t, func(t *testing.T, at servicetest.Database) {
				right := servicetest.Start(t, at, func(c *service.Config) { c.AccessTokenLifetime = short })
				wrong := servicetest.Start(t, at, set(by), func(c *service.Config) {
					c.AccessTokenLifetime, c.Issuer, c.Audience = short, right.Config.Issuer, right.Config.Audience
				})
				first := wrong.SignUp(t, "ann@example.test")
				claims := func(what, access string) (iat, exp int64) {
					t.Helper()
					c := servicetest.Claims(t, access)
					i, _ := c["iat"].(float64)
					e, _ := c["exp"].(float64)
					if now := time.Now().Unix(); int64(i) > now || int64(i) < now-5 || int64(e) > now+int64(short.Seconds()) {
						t.Errorf("%s: iat %+d s, exp %+d s from now", what, int64(i)-now, int64(e)-now)
					}
					return int64(i), int64(e)
				}
				claims("minted by the wrong one", first.AccessToken)
				second := wrong.Refresh(t, first.RefreshToken).Tokens(t)
				claims("refreshed by the wrong one", second.AccessToken)
				if again := right.Refresh(t, first.RefreshToken); again.Status != http.StatusOK ||
					again.Tokens(t).RefreshToken != second.RefreshToken {
					t.Errorf("a repeat at the right one: %d %s", again.Status, again.Body)
				}
				third := right.Refresh(t, second.RefreshToken).Tokens(t)
				if again := wrong.Refresh(t, second.RefreshToken); again.Status != http.StatusOK {
					t.Errorf("a repeat at the wrong one: %d %s", again.Status, again.Body)
				}
				for name, s := range map[string]*servicetest.Service{"right": right, "wrong": wrong} {
					if r := s.Get(t, "/v1/me", third.AccessToken); r.Status != http.StatusOK {
						t.Errorf("the %s one refuses a token that was just minted: %d %s", name, r.Status, r.Body)
					}
				}
				_, exp := claims("refreshed by the right one", third.AccessToken)
				sid, _ := servicetest.Claims(t, third.AccessToken)["sid"].(string)
				if r := wrong.Do(t, http.MethodPost, "/v1/logout", http.Header{"Authorization": {"Bearer " + third.AccessToken}},
					nil); r.Status != http.StatusNoContent {
					t.Fatalf("log out: %d %s", r.Status, r.Body)
				}
				changes, err := right.Store.BlocklistChanges(t.Context(), "")
				must(t, err)
				found := false
				for _, e := range changes.Entries {
					if e.Key == verifier.KeyOf(verifier.BlockSID, sid) {
						found = true
						if e.DropAfter.Unix() < exp {
							t.Errorf("the entry is dropped %d s before the token has expired", exp-e.DropAfter.Unix())
						}
					}
				}
				if !found {
					t.Error("no entry for the session")
				}
				if r := wrong.Get(t, "/readyz", ""); r.Status != http.StatusOK {
					t.Errorf("ready: %d %s", r.Status, r.Body)
				}
			})
		})
	}
}

// A clock that is further off than can be corrected makes a replica not ready. Nothing that it does is wrong for that.
func TestTM01_ClockTooFarOff(t *testing.T) {
	servicetest.Each(t, func(t *testing.T, at servicetest.Database) {
		s := servicetest.Start(t, at, set(-time.Hour))
		if r := s.Get(t, "/readyz", ""); r.Status != http.StatusServiceUnavailable {
			t.Errorf("ready: %d %s", r.Status, r.Body)
		}
		tokens := s.SignUp(t, "ann@example.test")
		if r := s.Get(t, "/v1/me", tokens.AccessToken); r.Status != http.StatusOK {
			t.Errorf("%d %s", r.Status, r.Body)
		}
	})
}

// REV-08: a directory that writes roles many times a second puts no token ahead of the clock, and each change counts.
func TestREV08_ManyChanges(t *testing.T) {
	arenas(t, func(t *testing.T, a *arena) {
		g := a.guest(t, false)
		by := session.By{Actor: audit.ActorCLI}
		for i := range 40 {
			must(t, a.s[i%2].Sessions.SetRoles(t.Context(), g.claims.Subject, []string{fmt.Sprintf("role-%d", i)}, by))
		}
		tokens := a.present(t, 0, g.tokens.RefreshToken, "").Tokens(t)
		c := servicetest.Claims(t, tokens.AccessToken)
		if iat, _ := c["iat"].(float64); int64(iat) > time.Now().Unix() {
			t.Errorf("iat is %.0f s ahead", iat-float64(time.Now().Unix()))
		}
		if got := fmt.Sprint(c["roles"]); got != "[role-39]" {
			t.Errorf("roles %s", got)
		}
		for i, s := range a.s {
			if r := s.Get(t, "/v1/me", tokens.AccessToken); r.Status != http.StatusOK {
				t.Errorf("replica %d refuses the new token: %d %s", i, r.Status, r.Body)
			}
			servicetest.Eventually(t, "the old token is refused", func() bool {
				return s.Get(t, "/v1/me", g.tokens.AccessToken).Status == http.StatusUnauthorized
			})
		}
	})
}
