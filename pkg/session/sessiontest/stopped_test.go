package sessiontest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
)

// RT-03, RT-05: a replica is stopped with a refresh in its socket. Meanwhile the client repeats it at another replica, and goes
// on with what it got. When the replica goes on, the first copy is refused and ends nothing; who shows the old token later ends
// the session.
func TestRT03_StoppedReplica(t *testing.T) {
	for name, keyed := range map[string]bool{"with Idempotency-Keys": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			servicetest.Each(t, func(t *testing.T, at servicetest.Database) {
				a, b := startProcess(t, at.URL), startProcess(t, at.URL)
				key := func(n int) string {
					if keyed {
						return fmt.Sprintf("key %d", n)
					}
					return ""
				}
				refresh := func(token string, n int) servicetest.Response { return present(t, b, token, key(n)) }
				first := b.SignUp(t, "ann@example.test").RefreshToken

				servicetest.Eventually(t, "the replica has made its keys", func() bool {
					return strings.Count(a.Get(t, "/.well-known/jwks.json", "").Body, `"kid"`) >= 2
				})
				signal(t, a, syscall.SIGSTOP)
				var status syscall.WaitStatus
				_, err := syscall.Wait4(a.command.Process.Pid, &status, syscall.WUNTRACED, nil)
				must(t, err)
				stopped := time.Now()
				copied := sendRefresh(t, a, first, key(1))
				second := refresh(first, 1).Tokens(t).RefreshToken
				third := refresh(second, 2).Tokens(t).RefreshToken
				<-time.After(time.Until(stopped.Add(500 * time.Millisecond))) // a stop that a person would notice
				signal(t, a, syscall.SIGCONT)

				if got := copied(); got != http.StatusBadRequest {
					t.Errorf("the copy was answered %d", got)
				}
				fourth := refresh(third, 3)
				if fourth.Status != http.StatusOK {
					t.Fatalf("the copy has ended the session: %d %s", fourth.Status, fourth.Body)
				}
				if r := present(t, b, first, "another"); r.Status != http.StatusBadRequest {
					t.Errorf("an old token was answered %d", r.Status)
				}
				if r := refresh(fourth.Tokens(t).RefreshToken, 4); r.Status != http.StatusBadRequest {
					t.Errorf("the session has outlived the use of an old token: %d", r.Status)
				}
			})
		})
	}
}

func signal(t *testing.T, p *process, s syscall.Signal) {
	t.Helper()
	must(t, p.command.Process.Signal(s))
}

// present refreshes at a replica.
func present(t *testing.T, p *process, token, key string) servicetest.Response {
	t.Helper()
	header := http.Header{}
	if key != "" {
		header.Set("Idempotency-Key", key)
	}
	r, err := p.TryForm(t.Context(), "/oauth2/token", header, "grant_type", "refresh_token", "refresh_token", token)
	must(t, err)
	return r
}

// sendRefresh writes a refresh into the socket of a replica, whether that reads it or not. The answer is read by what it returns.
func sendRefresh(t *testing.T, p *process, token, key string) (status func() int) {
	t.Helper()
	connection, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(p.URL, "http://"))
	must(t, err)
	t.Cleanup(func() { _ = connection.Close() })
	body := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}.Encode()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.URL+"/oauth2/token", strings.NewReader(body))
	must(t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	must(t, r.Write(connection))
	return func() int {
		t.Helper()
		must(t, connection.SetReadDeadline(time.Now().Add(30*time.Second)))
		answer, err := http.ReadResponse(bufio.NewReader(connection), r)
		must(t, err)
		_, _ = io.Copy(io.Discard, answer.Body)
		must(t, answer.Body.Close())
		return answer.StatusCode
	}
}
