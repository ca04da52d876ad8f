//go:build !linux

package door

import (
	"net"
	"time"
)

// sinceReceived is not known here.
func sinceReceived(net.Conn) (time.Duration, bool) { return 0, false }
