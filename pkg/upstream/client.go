package upstream

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
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
	callTimeout  = 5 * time.Second  // one request, from looking up the name to the last byte of the answer
	loginTimeout = 12 * time.Second // all requests of one login
	answerLimit  = 1 << 20          // bytes of one answer
)

var (
	// errNotJSON stands for the decoder's own message, which may quote the text.
	errNotJSON = errors.New("answer is not the JSON document it should be")
	// errAddress is why the dialer refuses an address.
	errAddress = errors.New("address is not a public one (allow_private_network permits private networks for a provider)")
	// errURL is why a URL is refused before anything is looked up.
	errURL = errors.New("not a plain https URL")
	// errTooLarge is what reading an answer fails with when it does not end.
	errTooLarge = errors.New("answer is larger than 1 MiB")
)

// newClient makes the HTTP client for everything that is fetched on a provider's behalf. Where requests go is in part
// decided by documents that a provider publishes, and so by whoever controls it; the client must not become a way into
// the network we stand in. There is no proxy setting: through a proxy the address that is dialed could not be checked.
func newClient(allowPrivate bool, roots *x509.CertPool, resolver *net.Resolver) *http.Client {
	rules := newAddressRules(allowPrivate)
	dialer := &net.Dialer{
		Timeout:  callTimeout,
		Resolver: resolver,
		// Control sees the address that is really dialed, after the name was resolved, so that a name which resolves
		// to something else the second time gains nothing.
		Control: func(_, address string, _ syscall.RawConn) error { return rules.check(address) },
	}
	return &http.Client{
		Timeout: callTimeout,
		Transport: &guard{allowPrivate: allowPrivate, next: &http.Transport{
			DialContext:            dialer.DialContext,
			TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    callTimeout,
			DisableCompression:     true, // the documents are small; what is never inflated can't be a bomb
			MaxResponseHeaderBytes: 64 << 10,
			MaxIdleConnsPerHost:    4,
			MaxConnsPerHost:        16,
			IdleConnTimeout:        time.Minute,
		}},
		// None of the documents or endpoints may redirect (OpenID Connect Discovery 1.0, section 4.2 demands a 200), and
		// a redirect of the token request would carry the client secret elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// NewGuardedClient makes a client for addresses that others have chosen: https only, no redirects, answers of at most 1 MiB within 5 seconds,
// and no address of the machine's own surroundings. allowPrivate opens private networks, and plain http on loopback.
func NewGuardedClient(allowPrivate bool) *http.Client { return newClient(allowPrivate, nil, nil) }

// CheckURL refuses an address that a guarded client would not call, before its name is looked up.
func CheckURL(raw string, allowPrivate bool) error { return checkURL(raw, allowPrivate) }

// guard is the last door before the network, and the first after it.
type guard struct {
	next         http.RoundTripper
	allowPrivate bool
}

// RoundTrip reads the whole answer, so that one that is too large or stops half-way is an error here and not a
// shorter document further up.
func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := checkURL(r.URL.String(), g.allowPrivate); err != nil {
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
	body, err := io.ReadAll(io.LimitReader(response.Body, answerLimit+1))
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	if len(body) > answerLimit {
		return nil, errTooLarge
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	return response, nil
}

// checkURL refuses what is not https. Plain http is for a provider on this very machine, and only if private networks
// are allowed at all.
func checkURL(raw string, allowPrivate bool) error {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || u.Opaque != "" {
		return errURL
	}
	switch u.Scheme {
	case "https":
		return nil
	case "http":
		ip, err := netip.ParseAddr(u.Hostname())
		if allowPrivate && (u.Hostname() == "localhost" || err == nil && ip.IsLoopback()) {
			return nil
		}
	}
	return errURL
}

// addressRules say which addresses may be dialed.
type addressRules struct {
	allowPrivate bool
	never        []netip.Prefix // refused whatever the configuration says
	private      []netip.Prefix // what allow_private_network opens
	reserved     []netip.Prefix // other special-purpose networks (RFC 6890)
	embedded     netip.Prefix   // holds IPv4 addresses
	global       netip.Prefix   // the only part of IPv6 that is assigned for general use
}

func newAddressRules(allowPrivate bool) addressRules {
	return addressRules{
		allowPrivate: allowPrivate,
		// "This network", link-local, multicast and above, and the metadata services which are not link-local: no
		// provider is there, but the credentials of the machine are.
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
		return fmt.Errorf("%w: %s", errAddress, address)
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
		return r.allowPrivate
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

// get fetches a JSON document. Errors are statusError, errNotJSON or the client's.
func get(ctx context.Context, client *http.Client, address, bearer string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return errURL
	}
	if bearer != "" {
		request.Header.Set("Authorization", "Bearer "+bearer)
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return statusError(response.StatusCode)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil || json.Unmarshal(body, into) != nil {
		return errNotJSON
	}
	return nil
}
