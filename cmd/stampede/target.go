package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"
)

// target is the one server that a run talks to. Its address is resolved once and dialled by number from then on, so that
// what was checked is what is loaded; proxies and redirects are never followed.
type target struct {
	url     string // as the user wrote it, for the report
	host    string // value of the Host header
	path    string // prefix of every path, empty or "/..." without a trailing slash
	address string // IP:port
	tls     *tls.Config
}

// errForeignTarget: the target is another machine and the user has not said that it is theirs to load.
var errForeignTarget = errors.New("target is not on this machine: load only what you own, and say so with --i-own-this-target")

// openTarget resolves raw, an http or https URL. caFile names additional roots in PEM form and may be empty.
func openTarget(ctx context.Context, raw, caFile string, owned bool) (*target, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("target %q is not a URL", raw)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" ||
		strings.HasPrefix(u.Path, "//") {
		return nil, fmt.Errorf("target %q: want http or https://HOST[:PORT][/PREFIX]", raw)
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", u.Hostname())
	if err != nil {
		return nil, fmt.Errorf("resolve target: %w", err)
	}
	for _, a := range addrs {
		if !owned && !a.Unmap().IsLoopback() {
			return nil, fmt.Errorf("%s is %s: %w", u.Hostname(), a, errForeignTarget)
		}
	}
	t := &target{url: raw, host: u.Host, path: strings.TrimRight(u.EscapedPath(), "/")}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	t.address = net.JoinHostPort(firstIPv4(addrs).Unmap().String(), port)
	if u.Scheme == "https" {
		t.tls = &tls.Config{ServerName: u.Hostname(), NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS12}
		if t.tls.RootCAs, err = roots(caFile); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// firstIPv4 prefers IPv4 because "localhost" often has both and servers on loopback mostly listen on 127.0.0.1 alone.
func firstIPv4(addrs []netip.Addr) netip.Addr {
	for _, a := range addrs {
		if a.Unmap().Is4() {
			return a
		}
	}
	return addrs[0]
}

func roots(caFile string) (*x509.CertPool, error) {
	if caFile == "" {
		return nil, nil // the system's roots
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("read --ca: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("--ca %s holds no PEM certificate", caFile)
	}
	return pool, nil
}

// dial opens one connection, with its TLS handshake done.
func (t *target) dial(ctx context.Context) (net.Conn, error) {
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", t.address)
	if err != nil || t.tls == nil {
		return nc, err
	}
	tc := tls.Client(nc, t.tls)
	if err := tc.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, nc.Close())
	}
	return tc, nil
}
