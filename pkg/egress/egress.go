// Package egress makes the HTTP client for everything that the service calls by itself: providers, receivers of events,
// clients whose sessions have ended. Other parties influence the address of such a call, so the client must not open a way
// into the service's own network.
//
// It calls https only and follows no redirects. It reads an answer whole, at most 1 MiB within 5 seconds. It
// checks the address that a name resolves to: loopback and private networks are closed unless the options open them, and
// metadata services are always closed. It uses no proxy, because behind a proxy it could not check the dialed address.
package egress

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"
)

const (
	// Timeout is the limit of one call, from looking up the name to the last byte of the answer.
	Timeout = 5 * time.Second
	// AnswerLimit is the limit of one answer, in bytes.
	AnswerLimit = 1 << 20
)

var (
	// ErrURL says that a URL is refused before anything is looked up. It must be corrected where it was configured or registered.
	ErrURL = errors.New("not a plain https URL")
	// ErrAddress says that a name stands for an address that is not dialed.
	ErrAddress = errors.New("address is not a public one")
	// ErrTooLarge says that an answer does not end. Another call will hardly get a shorter one.
	ErrTooLarge = errors.New("answer is larger than 1 MiB")
)

// Options are what a client may do beyond calling public addresses by https. The zero value allows nothing more.
type Options struct {
	// PrivateNetworks opens loopback and private networks, and plain http on loopback.
	PrivateNetworks bool
	// PlainHTTP opens plain http to every address that may be called.
	PlainHTTP bool
	// RootCAs replace the system's certificate authorities; nil for those.
	RootCAs *x509.CertPool
	// Resolver replaces the system's; nil for that one.
	Resolver *net.Resolver
}

// New makes a client. Its errors are ErrURL, ErrAddress, ErrTooLarge, or those of net/http.
func New(o Options) *http.Client {
	rules := newAddressRules(o.PrivateNetworks)
	dialer := &net.Dialer{
		Timeout:  Timeout,
		Resolver: o.Resolver,
		// Control sees the address that is really dialed, after the name was resolved, so that a name which resolves
		// to something else the second time gains nothing.
		Control: func(_, address string, _ syscall.RawConn) error { return rules.check(address) },
	}
	return &http.Client{
		Timeout: Timeout,
		Transport: &guard{
			options: o,
			next: &http.Transport{
				DialContext:            dialer.DialContext,
				TLSClientConfig:        &tls.Config{RootCAs: o.RootCAs, MinVersion: tls.VersionTLS12},
				TLSHandshakeTimeout:    Timeout,
				DisableCompression:     true, // the documents are small; what is never inflated can't be a bomb
				MaxResponseHeaderBytes: 64 << 10,
				MaxIdleConnsPerHost:    4,
				MaxConnsPerHost:        16,
				IdleConnTimeout:        time.Minute,
			},
		},
		// Nothing that is called may redirect (OpenID Connect Discovery 1.0, section 4.2 demands a 200), and a redirect of
		// a token request would carry the client secret elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// guard is the last door before the network, and the first after it.
type guard struct {
	next    http.RoundTripper
	options Options
}

// RoundTrip reads the whole answer, so that one that is too large or stops half-way is an error here and not a
// shorter document further up.
func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := CheckURL(r.URL.String(), g.options); err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Header.Set("User-Agent", "Handstamp") // GitHub refuses requests without one
	if r.Header.Get("Accept") == "" {
		r.Header.Set("Accept", "application/json") // GitHub's token endpoint answers a form otherwise
	}
	response, err := g.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, AnswerLimit+1))
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	if len(body) > AnswerLimit {
		return nil, ErrTooLarge
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	return response, nil
}

// CheckURL refuses a URL that a client with the options would not call, before its name is looked up. Unless all plain http
// is open, it is for this very machine, and only if private networks are open. ErrURL.
func CheckURL(raw string, o Options) error {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || u.Opaque != "" {
		return ErrURL
	}
	switch u.Scheme {
	case "https":
		return nil
	case "http":
		ip, err := netip.ParseAddr(u.Hostname())
		loopback := u.Hostname() == "localhost" || err == nil && ip.IsLoopback()
		if o.PlainHTTP || o.PrivateNetworks && loopback {
			return nil
		}
	}
	return ErrURL
}

// addressRules say which addresses may be dialed.
type addressRules struct {
	openPrivate bool
	never       []netip.Prefix // refused whatever the options say
	private     []netip.Prefix // what Options.PrivateNetworks opens
	reserved    []netip.Prefix // other special-purpose networks (RFC 6890)
	embedded    netip.Prefix   // holds IPv4 addresses
	global      netip.Prefix   // the only part of IPv6 that is assigned for general use
}

func newAddressRules(openPrivate bool) addressRules {
	return addressRules{
		openPrivate: openPrivate,
		// "This network", link-local, multicast and above, and the metadata services which are not link-local: nothing
		// that may be called is there, but the credentials of the machine are.
		never: prefixes("0.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "::/128", "fe80::/10", "ff00::/8",
			"fd00:ec2::/32", "100.100.100.200/32", "168.63.129.16/32"),
		// Loopback, RFC 1918, RFC 6598, RFC 4193.
		private: prefixes("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "::1/128", "fc00::/7"),
		// Documentation, benchmarking, and tunnels that embed other addresses.
		reserved: prefixes("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24",
			"203.0.113.0/24", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
		embedded: netip.MustParsePrefix("64:ff9b::/96"), // RFC 6052
		global:   netip.MustParsePrefix("2000::/3"),     // RFC 4291, section 2.4
	}
}

func prefixes(texts ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(texts))
	for i, s := range texts {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

// check decides on an address in the form host:port after name resolution.
func (r addressRules) check(address string) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil || !r.allowed(ap.Addr()) {
		return fmt.Errorf("%w: %s", ErrAddress, address)
	}
	return nil
}

func (r addressRules) allowed(ip netip.Addr) bool {
	ip = ip.Unmap() // an address with a zone is within no prefix, and so refused
	switch {
	case within(ip, r.never):
		return false
	case r.embedded.Contains(ip):
		b := ip.As16()
		return r.allowed(netip.AddrFrom4([4]byte(b[12:])))
	case within(ip, r.private):
		return r.openPrivate
	case ip.Is6() && !r.global.Contains(ip):
		return false
	}
	return !within(ip, r.reserved)
}

func within(ip netip.Addr, all []netip.Prefix) bool {
	for _, p := range all {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}
