package egress

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
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
		if err := private.check(address); !errors.Is(err, ErrAddress) {
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
		if got := CheckURL(address, Options{}) == nil; got != want.public {
			t.Errorf("%s: %v", address, got)
		}
		if got := CheckURL(address, Options{PrivateNetworks: true}) == nil; got != want.private {
			t.Errorf("%s with private networks: %v", address, got)
		}
	}
}

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

// get returns the status and the body of an answer.
func get(t *testing.T, client *http.Client, address string) (int, string, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

func TestOA12_Loopback(t *testing.T) {
	s, pool, connections := countingServer(t)
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "[::1]", "2130706433", "0x7f000001", "127.1",
		"0.0.0.0", "[::]"} {
		_, _, err := get(t, New(Options{RootCAs: pool}), "https://"+host+":"+port+"/")
		if err == nil {
			t.Errorf("%s was reached", host)
		}
	}
	if n := connections.Load(); n != 0 {
		t.Errorf("%d connections", n)
	}
	if _, _, err := get(t, New(Options{PrivateNetworks: true, RootCAs: pool}), s.URL); err != nil {
		t.Errorf("allowed private network: %v", err)
	}
	if _, _, err := get(t, New(Options{PrivateNetworks: true}), s.URL); err == nil {
		t.Error("an unknown certificate authority was believed")
	}
}

// A name that is a public address when it is checked and a loopback address when it is dialed: there is no such gap,
// because what is checked is what is dialed. The name server is a real one.
func TestOA12_Rebinding(t *testing.T) {
	s, pool, connections := countingServer(t)
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	names, asked := nameServer(t, [4]byte{127, 0, 0, 1})
	_, _, err := get(t, New(Options{RootCAs: pool, Resolver: names}), "https://example.com:"+port+"/")
	if !errors.Is(err, ErrAddress) {
		t.Errorf("error %v", err)
	}
	if asked.Load() == 0 {
		t.Error("the name server was not asked")
	}
	if n := connections.Load(); n != 0 {
		t.Errorf("%d connections", n)
	}
	// The certificate of httptest is for example.com, so that with leave the same name works.
	if _, _, err := get(t, New(Options{PrivateNetworks: true, RootCAs: pool, Resolver: names}),
		"https://example.com:"+port+"/"); err != nil {
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
		status int
		body   string
		want   error
	}{
		"ok/redirect is not followed": {
			func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Location", inner.URL)
				w.WriteHeader(http.StatusFound)
			}, 302, "", nil,
		},
		"ok/not found": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }, 404, "", nil},
		"ok/as large as may be": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, strings.Repeat("x", AnswerLimit))
		}, 200, strings.Repeat("x", AnswerLimit), nil},
		"ok/gzip bomb stays packed": {func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Accept-Encoding") != "" {
				t.Error("compression was offered")
			}
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(bomb)
		}, 200, string(bomb), nil},
		"fail/one byte too many": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, strings.Repeat("x", AnswerLimit+1))
		}, 0, "", ErrTooLarge},
		"fail/endless": {func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		}, 0, "", ErrTooLarge},
		"fail/cut off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{}`)
		}, 0, "", io.ErrUnexpectedEOF},
		"fail/slow body": {func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, `{`)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, 0, "", context.DeadlineExceeded},
		"fail/slow header": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 0, "", context.DeadlineExceeded},
		"fail/endless header": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 100<<10))
		}, 0, "", errAny},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := httptest.NewServer(c.answer)
			t.Cleanup(s.Close)
			client := New(Options{PrivateNetworks: true, RootCAs: pool})
			if c.want == context.DeadlineExceeded {
				client.Timeout = 100 * time.Millisecond // the limit is client.Timeout itself; five seconds would be waiting
			}
			status, body, err := get(t, client, s.URL)
			if c.want == errAny && err != nil {
				return
			}
			if !errors.Is(err, c.want) || status != c.status || body != c.body {
				t.Errorf("status %d, %d bytes, error %v; want %d, %d, %v", status, len(body), err, c.status, len(c.body), c.want)
			}
		})
	}
	t.Cleanup(func() {
		if n := connections.Load(); n != 0 {
			t.Errorf("a redirect was followed: %d connections", n)
		}
	})
	if c := New(Options{}); c.Timeout != 5*time.Second {
		t.Errorf("time limit %v", c.Timeout)
	}
}

var errAny = errors.New("any")

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// Plain http is for the addresses that an operator wrote; what must never be called is not called by it either.
func TestOA12_PlainHTTP(t *testing.T) {
	var called atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called.Add(1) }))
	defer s.Close()
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	names, _ := nameServer(t, [4]byte{127, 0, 0, 1})
	metadata, _ := nameServer(t, [4]byte{169, 254, 169, 254})
	address := "http://receiver.example.com:" + port + "/"
	for _, c := range []struct {
		name    string
		options Options
		want    error
	}{
		{"ok/private network, plain http", Options{PrivateNetworks: true, PlainHTTP: true, Resolver: names}, nil},
		{"fail/no private network", Options{PlainHTTP: true, Resolver: names}, ErrAddress},
		{"fail/no plain http", Options{PrivateNetworks: true, Resolver: names}, ErrURL},
		{"fail/metadata service", Options{PrivateNetworks: true, PlainHTTP: true, Resolver: metadata}, ErrAddress},
	} {
		t.Run(c.name, func(t *testing.T) {
			called.Store(0)
			if _, _, err := get(t, New(c.options), address); !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
			if n := called.Load(); (n == 1) != (c.want == nil) {
				t.Errorf("called %d times", n)
			}
		})
	}
	for _, refused := range []string{"ftp://example.com/", "http:///a", "http://user@example.com/", "http://example.com/#a"} {
		if err := CheckURL(refused, Options{PrivateNetworks: true, PlainHTTP: true}); !errors.Is(err, ErrURL) {
			t.Errorf("%s: %v", refused, err)
		}
	}
}

// A proxy would look names up by itself. net/http reads the environment once in a process, so that the setting is looked at.
func TestOA12_NoProxy(t *testing.T) {
	guarded, ok := New(Options{PrivateNetworks: true, PlainHTTP: true}).Transport.(*guard)
	if !ok {
		t.Fatal("not guarded")
	}
	if transport, ok := guarded.next.(*http.Transport); !ok || transport.Proxy != nil {
		t.Error("there is a proxy")
	}
}
