package upstream

import (
	"bytes"
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
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/handstamp/handstamp/pkg/seal"
)

func TestOA12_Addresses(t *testing.T) {
	public, private := newAddressRules(false), newAddressRules(true)
	for address, want := range map[string]struct{ public, private bool }{
		"8.8.8.8":                  {true, true},
		"140.82.121.6":             {true, true},
		"2606:4700::1111":          {true, true},
		"64:ff9b::8.8.8.8":         {true, true},
		"::ffff:8.8.8.8":           {true, true},
		"127.0.0.1":                {false, true},
		"127.255.255.254":          {false, true},
		"::1":                      {false, true},
		"::ffff:127.0.0.1":         {false, true},
		"10.0.0.1":                 {false, true},
		"172.16.0.1":               {false, true},
		"172.31.255.255":           {false, true},
		"192.168.1.1":              {false, true},
		"100.64.0.1":               {false, true},
		"fd12:3456::1":             {false, true},
		"64:ff9b::10.0.0.1":        {false, true},
		"64:ff9b::127.0.0.1":       {false, true},
		"64:ff9b::169.254.169.254": {false, false},
		"64:ff9b:1::1":             {false, false},
		"0.0.0.0":                  {false, false},
		"0.1.2.3":                  {false, false},
		"::":                       {false, false},
		"169.254.169.254":          {false, false},
		"::ffff:169.254.169.254":   {false, false},
		"fe80::1%eth0":             {false, false},
		"fe80::1":                  {false, false},
		"fd00:ec2::254":            {false, false},
		"fd00:ec2::254%eth0":       {false, false},
		"100.100.100.200":          {false, false},
		"168.63.129.16":            {false, false},
		"224.0.0.1":                {false, false},
		"239.1.1.1":                {false, false},
		"240.0.0.1":                {false, false},
		"255.255.255.255":          {false, false},
		"ff02::1":                  {false, false},
		"192.0.0.1":                {false, false},
		"192.0.2.1":                {false, false},
		"198.18.0.1":               {false, false},
		"198.51.100.1":             {false, false},
		"203.0.113.1":              {false, false},
		"::7f00:1":                 {false, false}, // IPv4-compatible
		"::ffff:0:127.0.0.1":       {false, false}, // SIIT
		"2001::1":                  {false, false}, // Teredo
		"2001:db8::1":              {false, false},
		"2002:7f00:1::":            {false, false}, // 6to4 of loopback
		"fec0::1":                  {false, false},
		"3fff::1":                  {false, false},
	} {
		ip := netip.MustParseAddr(address)
		if got := public.allowed(ip); got != want.public {
			t.Errorf("%s: %v", address, got)
		}
		if got := private.allowed(ip); got != want.private {
			t.Errorf("%s with private networks: %v", address, got)
		}
	}
	for _, address := range []string{"", "127.0.0.1", "localhost:80", "x:y", "[fe80::1%25eth0]:80"} {
		if err := private.check(address); !errors.Is(err, errAddress) {
			t.Errorf("%q: %v", address, err)
		}
	}
}

func TestOA12_URLs(t *testing.T) {
	for address, want := range map[string]struct{ public, private bool }{
		"https://accounts.google.com":        {true, true},
		"https://example.com:8443/a?b=c":     {true, true},
		"http://127.0.0.1:80/":               {false, true},
		"http://[::1]/":                      {false, true},
		"http://localhost/":                  {false, true},
		"http://example.com/":                {false, false},
		"http://10.0.0.1/":                   {false, false},
		"http://localhost.evil.example/":     {false, false},
		"http://2130706433/":                 {false, false},
		"http://0x7f.1/":                     {false, false},
		"file:///etc/passwd":                 {false, false},
		"gopher://127.0.0.1/":                {false, false},
		"javascript:alert(1)":                {false, false},
		"https://user:password@example.com/": {false, false},
		"https://example.com/#fragment":      {false, false},
		"https:///path":                      {false, false},
		"//example.com":                      {false, false},
		"":                                   {false, false},
		"https://exa mple.com":               {false, false},
	} {
		if got := checkURL(address, false) == nil; got != want.public {
			t.Errorf("%s: %v", address, got)
		}
		if got := checkURL(address, true) == nil; got != want.private {
			t.Errorf("%s with private networks: %v", address, got)
		}
	}
}

// countingServer is an https server on loopback that must not be reached.
func countingServer(t *testing.T) (*httptest.Server, *x509.CertPool, *atomic.Int64) {
	t.Helper()
	var connections atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }))
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

func TestOA12_Loopback(t *testing.T) {
	s, pool, connections := countingServer(t)
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	var into any
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "[::1]", "2130706433", "0x7f000001", "127.1", "0.0.0.0", "[::]"} {
		err := get(t.Context(), newClient(false, pool, nil), "https://"+host+":"+port+"/", "", &into)
		if err == nil {
			t.Errorf("%s was reached", host)
		}
	}
	if n := connections.Load(); n != 0 {
		t.Errorf("%d connections", n)
	}
	if err := get(t.Context(), newClient(true, pool, nil), s.URL, "", &into); err != nil {
		t.Errorf("allowed private network: %v", err)
	}
	if err := get(t.Context(), newClient(true, nil, nil), s.URL, "", &into); err == nil {
		t.Error("an unknown certificate authority was believed")
	}
}

// A name that is a public address when it is checked and a loopback address when it is dialed: there is no such gap,
// because what is checked is what is dialed. The name server is a real one.
func TestOA12_Rebinding(t *testing.T) {
	s, pool, connections := countingServer(t)
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	names, asked := nameServer(t, [4]byte{127, 0, 0, 1})
	var into any
	err := get(t.Context(), newClient(false, pool, names), "https://example.com:"+port+"/", "", &into)
	if !errors.Is(err, errAddress) {
		t.Errorf("error %v", err)
	}
	if asked.Load() == 0 {
		t.Error("the name server was not asked")
	}
	if n := connections.Load(); n != 0 {
		t.Errorf("%d connections", n)
	}
	// The certificate of httptest is for example.com, so that with leave the same name works.
	if err := get(t.Context(), newClient(true, pool, names), "https://example.com:"+port+"/", "", &into); err != nil {
		t.Errorf("allowed private network: %v", err)
	}
}

// nameServer answers every question for an IPv4 address alike.
func nameServer(t *testing.T, address [4]byte) (*net.Resolver, *atomic.Int64) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	var asked atomic.Int64
	go func() {
		buffer := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buffer[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			asked.Add(1)
			m.Response, m.Additionals = true, nil
			if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
				m.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 0},
					Body:   &dnsmessage.AResource{A: address},
				}}
			}
			if out, err := m.Pack(); err == nil {
				_, _ = conn.WriteTo(out, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}, &asked
}

func TestOA12_Answers(t *testing.T) {
	inner, pool, connections := countingServer(t)
	bomb := func() []byte {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = io.CopyN(z, zeros{}, 64<<20)
		_ = z.Close()
		return b.Bytes()
	}()
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   error
	}{
		"fail/redirect": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, inner.URL, http.StatusFound) }, statusError(302)},
		"fail/endless": {func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		}, errTooLarge},
		"fail/one byte too many": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `"`+strings.Repeat("x", answerLimit-1)+`"`)
		}, errTooLarge},
		"ok/as large as may be": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `"`+strings.Repeat("x", answerLimit-2)+`"`)
		}, nil},
		"fail/gzip bomb": {func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Accept-Encoding") != "" {
				t.Error("compression was offered")
			}
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(bomb)
		}, errNotJSON},
		"fail/cut off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{}`)
		}, io.ErrUnexpectedEOF},
		"fail/slow body": {func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, `{`)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, context.DeadlineExceeded},
		"fail/slow header":    {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, context.DeadlineExceeded},
		"fail/endless header": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 100<<10)) }, errAny},
		"fail/not JSON":       {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, errNotJSON},
		"fail/not found":      {http.NotFound, statusError(404)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := httptest.NewServer(c.answer)
			t.Cleanup(s.Close)
			client := newClient(true, pool, nil)
			if c.want == context.DeadlineExceeded {
				client.Timeout = 100 * time.Millisecond // the limit is client.Timeout itself; five seconds would be waiting
			}
			var into any
			err := get(t.Context(), client, s.URL, "", &into)
			if c.want == errAny && err != nil {
				return
			}
			if !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
		})
	}
	t.Cleanup(func() {
		if n := connections.Load(); n != 0 {
			t.Errorf("a redirect was followed: %d connections", n)
		}
	})
	if c := newClient(false, nil, nil); c.Timeout != 5*time.Second {
		t.Errorf("time limit %v", c.Timeout)
	}
}

var errAny = errors.New("any")

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

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
		if _, err := p.Refresh(t.Context(), "r", ""); !errors.Is(err, ErrMisconfigured) {
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
		if _, err := newKeySet(p.client, inner.URL, []string{"RS256"}).keys.load(t.Context(), 0); !errors.Is(err, errAddress) {
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
