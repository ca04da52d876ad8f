package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
)

// TestRequestIDOfProxies takes a request's ID and trace from trusted proxies, and from nobody else.
func TestRequestIDOfProxies(t *testing.T) {
	const (
		id     = "req-7f:3/a"
		trace  = "4bf92f3577b34da6a3ce929d0e0e4736"
		parent = "00-" + trace + "-00f067aa0ba902b7-01"
	)
	db := servicetest.SQLite(t)
	trusting := servicetest.Start(t, db, func(c *service.Config) { c.TrustedProxies = []string{"127.0.0.1"} })
	other := servicetest.Start(t, servicetest.SQLite(t))
	for name, test := range map[string]struct {
		s           *servicetest.Service
		header      http.Header
		taken, seen bool
	}{
		"ok/a proxy's":       {trusting, header("X-Request-Id", id, "Traceparent", parent), true, true},
		"ok/without a trace": {trusting, header("X-Request-Id", id), true, false},
		"ok/a trace alone":   {trusting, header("Traceparent", parent), false, true},
		"fail/anybody's":     {other, header("X-Request-Id", id, "Traceparent", parent), false, false},
		"fail/too long":      {trusting, header("X-Request-Id", id+strings.Repeat("x", 64)), false, false},
		"fail/with a space":  {trusting, header("X-Request-Id", id+" error=none"), false, false},
		"fail/two":           {trusting, http.Header{"X-Request-Id": {id, id}}, false, false},
		"fail/a trace of zeros": {trusting, header("Traceparent", "00-"+strings.Repeat("0", 32)+"-00f067aa0ba902b7-01"), false,
			false},
		"fail/a trace that is none": {trusting, header("Traceparent", parent+"x", "Traceparent", "00-"+trace), false, false},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(test.s.Log.String())
			r := test.s.Do(t, http.MethodGet, "/healthz", test.header, nil)
			if got := r.Header.Get("X-Request-Id"); (got == id) != test.taken || got == "" {
				t.Errorf("request ID %q", got)
			}
			var line string
			servicetest.Eventually(t, "it is logged", func() bool {
				line = test.s.Log.String()[before:]
				return strings.Contains(line, `"msg":"request"`)
			})
			if strings.Contains(line, `"request_id":"`+id+`"`) != test.taken ||
				strings.Contains(line, `"trace_id":"`+trace+`"`) != test.seen {
				t.Errorf("logged: %s", line)
			}
		})
	}
}

// TestFailedLoginsNameTheUser looks into the log of refused logins: whose account it was, and no address. The answers are the
// same for a known and an unknown one.
func TestFailedLoginsNameTheUser(t *testing.T) {
	s := servicetest.Start(t, servicetest.SQLite(t))
	p := s.SignUp(t, "ann@example.com")
	me := s.Get(t, "/v1/me", p.AccessToken)
	var user struct{ ID string }
	me.JSON(t, &user)
	for email, want := range map[string]bool{"ann@example.com": true, "nobody@example.com": false} {
		before := len(s.Log.String())
		r := s.JSON(t, http.MethodPost, "/v1/login", "", map[string]string{"email": email, "password": "wrong-horse-12"})
		if r.Status != http.StatusUnauthorized || strings.Contains(r.Body, user.ID) {
			t.Errorf("%d %s", r.Status, r.Body)
		}
		var line string
		servicetest.Eventually(t, "it is logged", func() bool {
			line = s.Log.String()[before:]
			return strings.Contains(line, `"route":"/v1/login"`)
		})
		if strings.Contains(line, `"user_id":"`+user.ID+`"`) != want || strings.Contains(line, "@") {
			t.Errorf("%s: %s", email, line)
		}
	}
}
