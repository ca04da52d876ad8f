package door

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// tick is how exact the kernel's note is: a tick of its clock, which is 100 Hz at the slowest.
const tick = 10 * time.Millisecond

// sinceReceived is how long ago at most the newest data of a connection came in, as the kernel has noted it: also while this
// process stood still, or did not come to accept the connection. False if the kernel does not know.
func sinceReceived(c net.Conn) (ago time.Duration, known bool) {
	if secured, ok := c.(interface{ NetConn() net.Conn }); ok { // *tls.Conn
		c = secured.NetConn()
	}
	socket, ok := c.(syscall.Conn)
	if !ok {
		return 0, false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0, false
	}
	err = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			ago, known = time.Duration(info.Last_data_recv)*time.Millisecond+tick, true
		}
	})
	return ago, known && err == nil
}
