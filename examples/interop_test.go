package examples

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// resourceServer is an example that answers GET /hello with the subject of an access token.
type resourceServer struct {
	name    string
	command func(t *testing.T, args ...string) *exec.Cmd // takes --issuer, --audience and --listen, and prints "listening on URL"
	follows bool                                         // the revocation feed
}

func TestNode(t *testing.T) {
	node := installNode(t)
	resourceServer{"node", func(t *testing.T, args ...string) *exec.Cmd {
		return command(t, "verify-node", node, append([]string{"server.mjs"}, args...)...)
	}, true}.test(t)
}

func TestPython(t *testing.T) {
	python := installPython(t)
	resourceServer{"python", func(t *testing.T, args ...string) *exec.Cmd {
		return command(t, "verify-python", python, append([]string{"server.py"}, args...)...)
	}, true}.test(t)
}

func TestGo(t *testing.T) {
	program := build(t, "./resource-server")
	resourceServer{"go", func(t *testing.T, args ...string) *exec.Cmd {
		return command(t, "", program, args...)
	}, true}.test(t)
}

func TestNodeByItself(t *testing.T) {
	t.Parallel()
	installNode(t)
	if out, err := command(t, "verify-node", "npm", "test").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestPythonByItself(t *testing.T) {
	t.Parallel()
	if out, err := command(t, "verify-python", installPython(t), "-m", "unittest").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// test holds the resource server to the contract with a real service.
func (r resourceServer) test(t *testing.T) {
	t.Helper()
	service := startService(t)
	url := r.start(t, service, service.url)
	token := service.login(t)

	t.Run("ok/fresh token", func(t *testing.T) {
		status, _, body := hello(t.Context(), t, url, "Bearer "+token)
		var answer struct{ Subject string }
		if err := json.Unmarshal(body, &answer); err != nil || status != http.StatusOK || !strings.HasPrefix(answer.Subject, "usr_") {
			t.Errorf("%d %s, %v; want the user's ID", status, body, err)
		}
	})
	t.Run("fail/no token", func(t *testing.T) {
		if status, challenge, _ := hello(t.Context(), t, url, ""); status != http.StatusUnauthorized || challenge != "Bearer" {
			t.Errorf("%d, WWW-Authenticate: %s", status, challenge)
		}
	})
	t.Run("fail/garbage", func(t *testing.T) {
		for _, garbage := range []string{"garbage", token + "x", token[:len(token)-20], strings.Replace(token, ".", "..", 1)} {
			refused(t, url, garbage)
		}
	})
	t.Run("fail/audience", func(t *testing.T) {
		other := r.start(t, service, "https://other.example")
		refused(t, other, token)
	})
	if !r.follows {
		return
	}
	t.Run("fail/after logout", func(t *testing.T) {
		other := service.login(t)
		service.logout(t, token)
		took := within(t, time.Second, "the token is refused after logout", func(ctx context.Context) bool {
			status, _, _ := hello(ctx, t, url, "Bearer "+token)
			return status == http.StatusUnauthorized
		})
		t.Logf("%s refused the token %v after the logout was answered", r.name, took.Round(time.Millisecond))
		refused(t, url, token)
		if status, _, body := hello(t.Context(), t, url, "Bearer "+other); status != http.StatusOK {
			t.Errorf("another user's token: %d %s", status, body)
		}
	})
}

// start starts the resource server for an audience, waits until it can check tokens, and returns its address.
func (r resourceServer) start(t *testing.T, s *service, audience string) string {
	t.Helper()
	line := start(t, r.command(t, "--issuer", s.url, "--audience", audience, "--listen", "127.0.0.1:0"), "listening on ")
	_, url, _ := strings.Cut(line, "listening on ")
	within(t, 30*time.Second, r.name+" is ready", func(ctx context.Context) bool {
		status, _, _ := get(ctx, t, url+"/readyz", "")
		return status == http.StatusOK
	})
	return url
}

// refused expects the answer to a token that is not accepted (RFC 6750, section 3.1).
func refused(t *testing.T, url, token string) {
	t.Helper()
	status, challenge, body := hello(t.Context(), t, url, "Bearer "+token)
	if status != http.StatusUnauthorized || !strings.HasPrefix(challenge, "Bearer ") ||
		!strings.Contains(challenge, `error="invalid_token"`) {
		t.Errorf("%.20s...: %d, WWW-Authenticate: %s, %s", token, status, challenge, body)
	}
}

func hello(ctx context.Context, t *testing.T, url, authorization string) (status int, challenge string, body []byte) {
	t.Helper()
	return get(ctx, t, url+"/hello", authorization)
}

// get asks for an address. The status is 0 when ctx ended first.
func get(ctx context.Context, t *testing.T, url, authorization string) (status int, challenge string, body []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return 0, "", nil
		}
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err = io.ReadAll(resp.Body); err != nil && ctx.Err() == nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("WWW-Authenticate"), body
}
