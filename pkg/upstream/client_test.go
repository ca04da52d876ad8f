package upstream

import (
	"compress/gzip"
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/handstamp/handstamp/pkg/egress"
	"github.com/handstamp/handstamp/pkg/seal"
)

// countingServer is an https server on loopback that must not be reached.
func countingServer(t *testing.T) (*httptest.Server, *x509.CertPool, *atomic.Int64) {
	t.Helper()
	var connections atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter,
		_ *http.Request) {
		_, _ = io.WriteString(w, "{}")
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	return s, pool, &connections
}

func TestGet(t *testing.T) {
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   error
	}{
		"ok/JSON": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }, nil},
		"fail/redirect": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/b", http.StatusFound) },
			statusError(302)},
		"fail/not found": {http.NotFound, statusError(404)},
		"fail/not JSON":  {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, errNotJSON},
		"fail/packed": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = io.WriteString(z, "{}")
			_ = z.Close()
		}, errNotJSON},
		"fail/endless": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `"`+strings.Repeat("x", egress.AnswerLimit-1)+`"`)
		}, egress.ErrTooLarge},
		"fail/cut off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{}`)
		}, io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := httptest.NewServer(c.answer)
			t.Cleanup(s.Close)
			var into any
			if err := get(t.Context(), egress.New(egress.Options{PrivateNetworks: true}), s.URL, "", &into); !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
		})
	}
}

func TestOA12_EveryFetch(t *testing.T) {
	// Each URL of a provider's metadata in turn leads inside; none is reached.
	inner, pool, connections := countingServer(t)
	key, err := seal.ParseMasterKey(base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789ABCDEF")))
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []Type{OIDC, GitHub, OAuth2} {
		config := Config{ID: "up", Type: kind, ClientID: "c", ClientSecret: "s"}
		if kind == OIDC {
			config.Issuer = inner.URL
		} else {
			config.Endpoints = Endpoints{Authorization: inner.URL, Token: inner.URL, Userinfo: inner.URL}
			if kind == GitHub {
				config.Endpoints.Emails = inner.URL
			}
		}
		all, err := NewProviders([]Config{config}, Options{Key: key, RootCAs: pool})
		if err != nil {
			t.Fatal(err)
		}
		p, _ := all.Provider("up")
		_, err = p.Refresh(t.Context(), "r", "")
		if !errors.Is(err, ErrMisconfigured) || !strings.Contains(err.Error(), "allow_private_network") {
			t.Errorf("%s: refresh: %v", kind, err)
		}
		m := &metadata{Userinfo: inner.URL, JWKS: inner.URL}
		if _, err := p.userinfo(t.Context(), m, "a", claims{}); !errors.Is(err, ErrMisconfigured) {
			t.Errorf("%s: userinfo: %v", kind, err)
		}
		if _, err := p.githubIdentity(t.Context(), m, "a"); !errors.Is(err, ErrMisconfigured) {
			t.Errorf("%s: user: %v", kind, err)
		}
		if _, err := p.oauth2Identity(t.Context(), m, "a"); !errors.Is(err, ErrMisconfigured) {
			t.Errorf("%s: user: %v", kind, err)
		}
		if _, err := newKeySet(p, inner.URL, []string{"RS256"}).keys.load(t.Context(), 0); !errors.Is(err, egress.ErrAddress) {
			t.Errorf("%s: keys: %v", kind, err)
		}
	}
	if n := connections.Load(); n != 0 {
		t.Errorf("%d connections", n)
	}
}

func TestCached(t *testing.T) {
	type source struct {
		*cached[int]
		calls int
		err   error
		delay time.Duration
	}
	newSource := func() *source {
		s := new(source)
		s.cached = newCached(func(ctx context.Context, previous int) (int, error) {
			s.calls++
			select {
			case <-time.After(s.delay):
			case <-ctx.Done():
				return 0, ctx.Err()
			}
			return previous + 1, s.err
		})
		return s
	}
	check := func(t *testing.T, s *source, want, calls int) {
		t.Helper()
		got, err := s.load(t.Context(), time.Hour)
		if err != nil || got != want || s.calls != calls {
			t.Errorf("got %d, %v after %d calls, want %d after %d", got, err, s.calls, want, calls)
		}
	}
	t.Run("ok/fetched once, again when it is old", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newSource()
			check(t, s, 1, 1)
			time.Sleep(time.Hour - 1)
			check(t, s, 1, 1)
			time.Sleep(time.Nanosecond)
			check(t, s, 2, 2)
		})
	})
	t.Run("ok/the copy serves while the source is down, for a day", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newSource()
			check(t, s, 1, 1)
			s.err = errors.New("down")
			time.Sleep(2 * time.Hour)
			check(t, s, 1, 2)
			check(t, s, 1, 2) // not tried again at once
			time.Sleep(retryPause)
			check(t, s, 1, 3)
			time.Sleep(staleLimit)
			if _, err := s.load(t.Context(), time.Hour); !errors.Is(err, s.err) {
				t.Errorf("error %v", err)
			}
			s.err = nil
			check(t, s, 1, 5) // no pause when there is nothing to serve
		})
	})
	t.Run("ok/a crowd causes one fetch", func(t *testing.T) {
		for _, failing := range []error{nil, errors.New("down")} {
			synctest.Test(t, func(t *testing.T) {
				s := newSource()
				s.err, s.delay = failing, 5*time.Second
				started := time.Now()
				results := make(chan error, 50)
				for range cap(results) {
					go func() {
						_, err := s.load(t.Context(), time.Hour)
						results <- err
					}()
				}
				for range cap(results) {
					if err := <-results; !errors.Is(err, failing) {
						t.Errorf("error %v", err)
					}
				}
				if s.calls != 1 || time.Since(started) != 5*time.Second {
					t.Errorf("%d calls in %v", s.calls, time.Since(started))
				}
			})
		}
	})
	t.Run("ok/who gives up leaves the fetch to the next", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newSource()
			s.delay = 5 * time.Second
			impatient, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			done := make(chan error)
			go func() {
				_, err := s.load(impatient, time.Hour)
				done <- err
			}()
			synctest.Wait()
			go func() {
				_, err := s.load(t.Context(), time.Hour)
				done <- err
			}()
			if err := <-done; !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v", err)
			}
			if err := <-done; err != nil || s.calls != 2 {
				t.Errorf("error %v after %d calls", err, s.calls)
			}
		})
	})
	t.Run("ok/a fetch does not hold up those who have what they need", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newSource()
			check(t, s, 1, 1)
			s.delay = 5 * time.Second
			time.Sleep(time.Minute)
			done := make(chan struct{})
			go func() {
				defer close(done)
				_, _ = s.load(t.Context(), keysRefetch)
			}()
			synctest.Wait()
			started := time.Now()
			check(t, s, 1, 2)
			if time.Since(started) != 0 {
				t.Error("it was waited for")
			}
			<-done
		})
	})
}

// FuzzParseCallback: whatever comes in the callback, reading it does not fail in another way than by ErrState.
func FuzzParseCallback(f *testing.F) {
	f.Add("code=a&state=b&iss=https%3A%2F%2Fexample.com")
	f.Add("code=a&code=b")
	f.Add("error=access_denied&error_description=%00%ff")
	f.Fuzz(func(t *testing.T, raw string) {
		values, err := url.ParseQuery(raw)
		if err != nil {
			return
		}
		cb, err := ParseCallback(values)
		if err != nil && !errors.Is(err, ErrState) {
			t.Fatal(err)
		}
		e := (&Provider{cfg: Config{ID: "up"}}).refuse(ErrDenied, "test", cb.Error, cb.ErrorDescription)
		if text := e.Error(); strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Fatalf("%q", text)
		}
		if strings.ContainsFunc(e.Description, func(r rune) bool { return r < ' ' }) || len([]rune(e.Description)) > 300 {
			t.Fatalf("%q", e.Description)
		}
	})
}

func FuzzClaims(f *testing.F) {
	f.Add([]byte(`{"sub":"a","aud":["b"],"exp":1e30,"email_verified":"true"}`), "aud")
	f.Fuzz(func(t *testing.T, text []byte, name string) {
		c, err := parseClaims(text)
		if err != nil {
			return
		}
		_ = fmt.Sprint(c.text(name), c.texts(name), c.key(name), c.unix(name), c.isTrue(name))
		if c.isTrue(name) && c.text(name) != "" {
			t.Fatal("a text is not a yes")
		}
	})
}
