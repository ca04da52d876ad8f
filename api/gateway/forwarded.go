package gateway

import (
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/handstamp/handstamp/pkg/oauth"
)

// forwarded is the request that a gateway asks about.
type forwarded struct {
	method string // empty if the gateway does not say
	origin string // as a browser would write it
	path   string // and query; it begins with a slash
	header http.Header
}

// readForwarded reads what a trusted gateway says about a request: X-Forwarded-Method, -Proto, -Host and -Uri, as Traefik and
// Caddy send them, or X-Original-Method and -URL, as others do. It is false if there is no address that a browser could be sent
// to.
func readForwarded(h http.Header) (forwarded, bool) {
	f := forwarded{method: one(h, "X-Forwarded-Method"), header: h}
	address := one(h, "X-Forwarded-Proto") + "://" + one(h, "X-Forwarded-Host") + one(h, "X-Forwarded-Uri")
	if len(h.Values("X-Forwarded-Uri")) == 0 {
		f.method, address = one(h, "X-Original-Method"), one(h, "X-Original-Url")
	}
	scheme, rest, _ := strings.Cut(address, "://")
	slash := strings.IndexByte(rest, '/')
	if slash < 0 {
		return forwarded{}, false
	}
	f.origin, f.path = originOf(scheme, rest[:slash]), escape(rest[slash:])
	return f, f.origin != ""
}

// one returns the value of a header that is there exactly once.
func one(h http.Header, name string) string {
	if values := h.Values(name); len(values) == 1 {
		return values[0]
	}
	return ""
}

// originOf is the origin of a scheme and a host as browsers write it (RFC 6454, section 6.2); empty if they are none.
func originOf(scheme, host string) string {
	port := ""
	switch scheme {
	case "https", "wss": // Traefik names the scheme of a WebSocket, whose origin is that of its page
		scheme, port = "https", ":443"
	case "http", "ws":
		scheme, port = "http", ":80"
	default:
		return ""
	}
	host = strings.TrimSuffix(strings.ToLower(host), port)
	u, err := url.Parse(scheme + "://" + host)
	if err != nil || u.Host != host || u.Hostname() == "" || strings.ContainsAny(host, ", @\\") {
		return ""
	}
	if name, _, err := net.SplitHostPort(host); err == nil && name == "" {
		return ""
	}
	return scheme + "://" + host
}

// escape makes a path and query fit for a header, as browsers escape it.
func escape(path string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(path) {
		if c := path[i]; c <= ' ' || c >= 0x7f || strings.IndexByte("\"<>\\^`{|}#", c) >= 0 {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// isNavigation reports whether a person waits for a page: only then it helps to send the browser to another one.
func (f forwarded) isNavigation() bool {
	if f.method != http.MethodGet {
		return false
	}
	if mode := f.header.Values("Sec-Fetch-Mode"); len(mode) > 0 {
		return slices.Equal(mode, []string{"navigate"})
	}
	return strings.Contains(strings.Join(f.header.Values("Accept"), ","), "text/html") // of a browser that does not say
}

// isCallback reports whether the browser comes back from a login, and returns the answer that it brings.
func (f forwarded) isCallback() (oauth.Form, bool) {
	path, query, _ := strings.Cut(f.path, "?")
	if path != oauth.GatewayCallback || f.method != http.MethodGet {
		return nil, false
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		values = nil
	}
	return oauth.Form(values), true
}

// isOwn reports whether a page of the application itself has made the request, or it is one that changes nothing. A browser adds
// a cookie to the requests of other pages, too: SameSite keeps it from other sites only, not from the neighbours of a host. A
// request that changes something, or opens a WebSocket, which no page of another origin is kept from reading, has to come from
// the same origin by everything that the browser says, and it has to say so.
func (f forwarded) isOwn() bool {
	opens := len(f.header.Values("Sec-Websocket-Key")) > 0 || one(f.header, "Sec-Fetch-Mode") == "websocket"
	if !opens && (f.method == http.MethodGet || f.method == http.MethodHead || f.method == http.MethodOptions) {
		return true
	}
	origin, site := f.header.Values("Origin"), f.header.Values("Sec-Fetch-Site")
	return (len(origin) > 0 || len(site) > 0) &&
		(len(origin) == 0 || slices.Equal(origin, []string{f.origin})) &&
		(len(site) == 0 || slices.Equal(site, []string{"same-origin"}))
}
