package oauth

import (
	"net/url"
	"slices"
	"strings"
)

// EncodeQuery is url.Values.Encode with fewer escapes: those that browsers make in a query (WHATWG URL, section 1.3), and
// those of the form encoding. A state that is JSON would become up to three times as long, and proxies bound the header that
// it stands in.
func EncodeQuery(values url.Values) string {
	var b strings.Builder
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		for _, value := range values[name] {
			if b.Len() > 0 {
				b.WriteByte('&')
			}
			escape(&b, name)
			b.WriteByte('=')
			escape(&b, value)
		}
	}
	return b.String()
}

func escape(b *strings.Builder, s string) {
	const hex = "0123456789ABCDEF"
	for i := range len(s) {
		switch c := s[i]; {
		case c == ' ':
			b.WriteByte('+')
		case c < ' ', c > '~', strings.IndexByte("\"#<>'%&+=;\\^`|", c) >= 0:
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		default:
			b.WriteByte(c)
		}
	}
}
