package api_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
)

// TestForwardAuthOfUploads asks as a gateway does that sends along the fields of the request in question, whose body it keeps.
// The answer comes at once, whatever the fields say of that body, and what follows on the connection is no part of it.
func TestForwardAuthOfUploads(t *testing.T) {
	s := servicetest.Start(t, servicetest.SQLite(t))
	p := s.SignUp(t, "ann@example.com")
	for name, fields := range map[string]string{
		"a form":               "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n",
		"a large upload":       "Content-Type: video/mp4\r\nContent-Length: 5000000000\r\n",
		"a compressed one":     "Content-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: 70000\r\n",
		"a compressed nothing": "Content-Encoding: br\r\n",
		"one in pieces":        "Content-Type: text/plain\r\nTransfer-Encoding: chunked\r\n",
		"two types":            "Content-Type: text/plain\r\nContent-Type: nonsense\r\n",
		"one that waits":       "Expect: 100-continue\r\nContent-Length: 10\r\n",
	} {
		for _, path := range []string{"/v1/forward-auth", "/v1/me", "/healthz", "/.well-known/jwks.json"} {
			t.Run(name+" at "+path, func(t *testing.T) {
				t.Parallel()
				c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.URL, "http://"))
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if err := c.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
					t.Fatal(err)
				}
				ask := func(fields string) {
					if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n%s\r\n", path, p.AccessToken,
						fields); err != nil {
						t.Fatal(err)
					}
				}
				ask(fields)
				r := bufio.NewReader(c)
				response, err := http.ReadResponse(r, nil)
				if err != nil {
					t.Fatalf("no answer in time: %v", err)
				}
				_ = response.Body.Close()
				if response.StatusCode != http.StatusOK {
					t.Errorf("status %d", response.StatusCode)
				}
				if described := strings.Contains(fields, "Length") || strings.Contains(fields, "Transfer"); response.Close != described {
					t.Errorf("the connection ends: %t, want %t", response.Close, described)
				}
			})
		}
	}
}
