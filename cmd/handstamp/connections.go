package main

import (
	linked "container/list"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/handstamp/handstamp/api/door"
)

const (
	// spareFiles are for the database, logs and what else is no connection of a caller.
	spareFiles = 64
	// modestAddress is how many connections an address may have when no more are left for others: enough to ask for /healthz.
	modestAddress = 4
)

// callers is how many connections of callers fit into the files that the process may have open, and a few more for addresses that
// have next to none.
func callers(files int) (most, reserve int) {
	left := max(16, files-spareFiles)
	reserve = min(64, left/8)
	return left - reserve, reserve
}

// maxStreams is how many streams of the blocklist one replica serves unless it is told otherwise. Each takes some 40 KB.
const maxStreams = 10_000

// fitIntoFiles sets the bounds of streams that are not set by the number of files that may be open.
func (c *Config) fitIntoFiles(files int) {
	most, _ := callers(files)
	if c.FeedStreams == 0 {
		c.FeedStreams = min(maxStreams, most/2)
	}
	if c.FeedStreamsPerAddress == 0 {
		c.FeedStreamsPerAddress = max(1, c.FeedStreams/4)
	}
}

// connections is a listener that never runs out of files. One address has half of the connections at most, unless it is a
// trusted proxy. When there are no more, one that rests makes way, the one that has rested longest first.
type connections struct {
	net.Listener
	most, reserve int
	proxies       *atomic.Pointer[door.TrustedProxies] // those of now

	mu      sync.Mutex
	open    map[net.Conn]*connection
	resting *linked.List // of *connection
	under   map[netip.Addr]*linked.List
	count   map[netip.Addr]int
}

// connection is one that is open. It rests while no request is being read or answered.
type connection struct {
	conn          net.Conn
	ip            netip.Addr
	resting, mine *linked.Element // nil while it does not rest
}

func newConnections(l net.Listener, files int, proxies *atomic.Pointer[door.TrustedProxies]) *connections {
	most, reserve := callers(files)
	return &connections{
		Listener: l, most: most, reserve: reserve, proxies: proxies,
		open: make(map[net.Conn]*connection), resting: linked.New(),
		under: make(map[netip.Addr]*linked.List), count: make(map[netip.Addr]int),
	}
}

// Accept waits for a connection that there is room for, and closes others.
func (l *connections) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		makesWay, ok := l.enter(c)
		if makesWay != nil {
			_ = makesWay.Close() // its server hears of it, and takes it out
		}
		if ok {
			return c, nil
		}
		_ = c.Close()
	}
}

// enter counts a connection, and says which other one makes way for it.
func (l *connections) enter(conn net.Conn) (makesWay net.Conn, ok bool) {
	ip := addressOf(conn)
	l.mu.Lock()
	defer l.mu.Unlock()
	var oldest *linked.Element
	switch mine := l.under[ip]; {
	case l.count[ip] >= max(1, l.most/2) && !l.proxies.Load().Contains(ip):
		if mine == nil || mine.Len() == 0 {
			return nil, false
		}
		oldest = mine.Front()
	case len(l.open) >= l.most && l.resting.Len() > 0:
		oldest = l.resting.Front()
	case len(l.open) >= l.most+l.reserve, len(l.open) >= l.most && l.count[ip] >= modestAddress:
		return nil, false
	}
	if oldest != nil {
		makesWay = oldest.Value.(*connection).conn //nolint:forcetypeassert // nothing else is in the lists
		l.remove(makesWay)
	}
	c := &connection{conn: conn, ip: ip}
	l.open[conn] = c
	l.count[ip]++
	l.rest(c)
	return makesWay, true
}

// state hears from the server what a connection does.
func (l *connections) state(conn net.Conn, s http.ConnState) {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.open[conn]
	switch {
	case c == nil:
	case s == http.StateActive:
		l.wake(c)
	case s == http.StateIdle:
		l.rest(c)
	case s == http.StateClosed, s == http.StateHijacked:
		l.remove(conn)
	}
}

func (l *connections) rest(c *connection) {
	if c.resting != nil {
		return
	}
	mine := l.under[c.ip]
	if mine == nil {
		mine = linked.New()
		l.under[c.ip] = mine
	}
	c.resting, c.mine = l.resting.PushBack(c), mine.PushBack(c)
}

func (l *connections) wake(c *connection) {
	if c.resting == nil {
		return
	}
	l.resting.Remove(c.resting)
	l.under[c.ip].Remove(c.mine)
	c.resting, c.mine = nil, nil
}

func (l *connections) remove(conn net.Conn) {
	c := l.open[conn]
	if c == nil {
		return
	}
	l.wake(c)
	delete(l.open, conn)
	if l.count[c.ip]--; l.count[c.ip] == 0 {
		delete(l.count, c.ip)
		delete(l.under, c.ip)
	}
}

// addressOf is the address of a peer; all of an IPv6 /64 are one. The zero address for a peer without one.
func addressOf(c net.Conn) netip.Addr {
	at, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	ip := at.Addr().Unmap().WithZone("")
	if ip.Is6() {
		if network, err := ip.Prefix(64); err == nil {
			return network.Addr()
		}
	}
	return ip
}
