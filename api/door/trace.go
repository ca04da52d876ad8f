package door

import (
	"crypto/rand"
	"net/http"
	"strings"
)

// newEvent begins the event of a request. A trusted proxy has given the request an ID, and perhaps a trace, under which its
// own log has it: those are taken over. Anybody else could put into our log what is not theirs.
func (d *Door) newEvent(r *http.Request) *Event {
	e := new(Event)
	if ip, ok := parseIP(r.RemoteAddr); ok && d.config.TrustedProxies.contains(ip) {
		e.RequestID, e.TraceID = requestID(r.Header), traceID(r.Header)
	}
	if e.RequestID == "" {
		e.RequestID = rand.Text()[:20]
	}
	return e
}

// maxRequestID bounds a proxy's ID in bytes. Those in use have 16 to 55.
const maxRequestID = 64

// requestID is the ID in X-Request-Id, if there is one of letters, digits, dots, hyphens and the like.
func requestID(h http.Header) string {
	ids := h.Values("X-Request-Id")
	if len(ids) != 1 || len(ids[0]) > maxRequestID || strings.ContainsFunc(ids[0], func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("-._:/=+@", c)
	}) {
		return ""
	}
	return ids[0]
}

// traceID is the trace-id of a traceparent (W3C Trace Context, section 3.2.2): 32 lower-case hexadecimal digits, not all zero.
func traceID(h http.Header) string {
	parents := h.Values("Traceparent")
	if len(parents) != 1 {
		return ""
	}
	parts := strings.Split(parents[0], "-")
	if len(parts) < 4 || len(parts[0]) != 2 || parts[0] == "ff" || len(parts[1]) != 32 || len(parts[2]) != 16 ||
		strings.Trim(parts[1], "0123456789abcdef") != "" || strings.Trim(parts[1], "0") == "" {
		return ""
	}
	return parts[1]
}
