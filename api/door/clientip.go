package door

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// TrustedProxies are the networks whose X-Forwarded-For is trusted. The zero value trusts no network.
type TrustedProxies []netip.Prefix

// ParseTrustedProxies reads addresses and networks in CIDR form.
func ParseTrustedProxies(list []string) (TrustedProxies, error) {
	var out TrustedProxies
	for _, s := range list {
		prefix, err := netip.ParsePrefix(s)
		if err != nil {
			addr, addrErr := netip.ParseAddr(s)
			if addrErr != nil {
				return nil, fmt.Errorf("%q is neither an address nor a network such as 10.0.0.0/8", s)
			}
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
		out = append(out, prefix.Masked())
	}
	return out, nil
}

// Contains reports whether an address is a trusted proxy's.
func (t TrustedProxies) Contains(a netip.Addr) bool { return t.contains(a) }

func (t TrustedProxies) contains(a netip.Addr) bool {
	for _, p := range t {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// clientIP is the address that a request came from: the peer's, unless that is a trusted proxy; then the right-most address
// in X-Forwarded-For that is no trusted proxy. What is left of that anyone could have written. No other header is read, and
// an entry that is no address ends the walk at the last address that a trusted proxy vouched for.
func (t TrustedProxies) clientIP(r *http.Request) string {
	ip, ok := parseIP(r.RemoteAddr)
	if !ok {
		return ""
	}
	if !t.contains(ip) {
		return ip.String()
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, text := range slices.Backward(hops) {
		hop, ok := parseIP(strings.TrimSpace(text))
		if !ok {
			break
		}
		ip = hop
		if !t.contains(ip) {
			break
		}
	}
	return ip.String()
}

// FromProxy reports whether a request comes from a trusted proxy, whose word for what was asked of it counts.
func (d *Door) FromProxy(r *http.Request) bool {
	ip, ok := parseIP(r.RemoteAddr)
	return ok && d.config.TrustedProxies.contains(ip)
}

// parseIP reads an address with or without a port, in its plain form: IPv4 not mapped into IPv6, no zone.
func parseIP(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil {
		host, _, splitErr := net.SplitHostPort(s)
		if splitErr != nil {
			return netip.Addr{}, false
		}
		if a, err = netip.ParseAddr(host); err != nil {
			return netip.Addr{}, false
		}
	}
	return a.Unmap().WithZone(""), true
}
