package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
)

// TestFigures goes through the life of sessions and looks at what was counted.
func TestFigures(t *testing.T) {
	servicetest.Each(t, func(t *testing.T, db servicetest.Database) {
		s := servicetest.Start(t, db)
		count := func(name, label, value string) float64 {
			t.Helper()
			families, err := s.Metrics.Gather()
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range families {
				for _, m := range f.GetMetric() {
					if f.GetName() != name || label != "" && (len(m.GetLabel()) != 1 || m.GetLabel()[0].GetValue() != value) {
						continue
					}
					return m.GetCounter().GetValue() + m.GetGauge().GetValue()
				}
			}
			t.Fatalf("no %s{%s=%q}", name, label, value)
			return 0
		}
		refresh := func(token, key string) servicetest.Response {
			t.Helper()
			return s.Do(t, http.MethodPost, "/oauth2/token",
				header("Content-Type", "application/x-www-form-urlencoded", "Idempotency-Key", key),
				strings.NewReader("grant_type=refresh_token&refresh_token="+token))
		}
		ann := s.SignUp(t, "ann@example.com")
		second := refresh(ann.RefreshToken, "first").Tokens(t)
		refresh(ann.RefreshToken, "first").Tokens(t) // repeated
		refresh(second.RefreshToken, "next").Tokens(t)
		refresh(ann.RefreshToken, "first") // a late copy: the key was seen
		if r := refresh(ann.RefreshToken, "another"); r.Status != http.StatusBadRequest {
			t.Fatalf("reuse: %d %s", r.Status, r.Body)
		}
		refresh(second.RefreshToken, "next") // over
		ben := s.SignUp(t, "ben@example.com")
		s.JSON(t, http.MethodPost, "/v1/logout", ben.AccessToken, nil)
		s.JSON(t, http.MethodPost, "/v1/login", "", map[string]string{"email": "ben@example.com", "password": "wrong-horse-12"})
		for _, want := range []struct {
			name, label, value string
			count              float64
		}{
			{"handstamp_refreshes_total", "outcome", "rotated", 2},
			{"handstamp_refreshes_total", "outcome", "repeated", 1},
			{"handstamp_refreshes_total", "outcome", "late_copy", 1},
			{"handstamp_refreshes_total", "outcome", "reuse", 1},
			{"handstamp_refreshes_total", "outcome", "ended", 1},
			{"handstamp_sessions_started_total", "", "", 2},
			{"handstamp_sessions_ended_total", "reason", "reuse", 1},
			{"handstamp_sessions_ended_total", "reason", "logout", 1},
			{"handstamp_login_failures_total", "", "", 1},
			{"handstamp_database_failures_total", "", "", 0},
		} {
			if got := count(want.name, want.label, want.value); got != want.count {
				t.Errorf("%s %s: %v, want %v", want.name, want.value, got, want.count)
			}
		}
		servicetest.Eventually(t, "the replica hears of both entries",
			func() bool { return count("handstamp_blocklist_entries", "", "") == 2 })
		if n := count("handstamp_database_connections", "", ""); n < 3 {
			t.Errorf("%v connections", n)
		}
	})
}
