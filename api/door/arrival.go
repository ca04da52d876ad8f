package door

import (
	"context"
	"net"
	"net/http"
	"time"
)

type connectionKey struct{}

// WithConnection is the ConnContext of an [http.Server], so that [Arrived] knows the connections of requests.
func WithConnection(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, c)
}

// Arrived returns what tells how long ago a request came in at most: zero if the transport does not know.
func Arrived(r *http.Request) func() time.Duration {
	return func() time.Duration {
		c, _ := r.Context().Value(connectionKey{}).(net.Conn)
		if c == nil {
			return 0
		}
		ago, _ := sinceReceived(c)
		return ago
	}
}
