package bff

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// Browsers keep a cookie of at most 4,096 bytes with its name and attributes (RFC 6265, section 6.1), and few servers take more
// than 32 KiB of headers.
const (
	maxCookieName = 64  // in the configuration
	cookieRoom    = 192 // for the name with prefix and number, and the attributes
	maxChunk      = 4096 - cookieRoom
	maxChunks     = 6
)

// cookies reads and writes cookies of one name. The value of a long one stands in several, of which the first begins with their
// number and a dot; the others have the name, a hyphen and 1, 2 and so on.
type cookies struct {
	name   string // with prefix
	secure bool
}

func newCookies(name string, secure bool) cookies {
	if secure {
		name = "__Host-" + name // RFC 6265bis, section 4.1.3.2: Secure, of this host alone, for all paths
	}
	return cookies{name, secure}
}

// read returns the text in the cookies of a request. It reports false if there is none, a part is missing, or a name comes twice.
func (c cookies) read(r *http.Request) ([]byte, bool) {
	value, ok := one(r, c.name)
	if !ok {
		return nil, false
	}
	if count, first, several := strings.Cut(value, "."); several {
		n, err := strconv.Atoi(count)
		if err != nil || n < 2 || n > maxChunks || count != strconv.Itoa(n) {
			return nil, false
		}
		var joined strings.Builder
		joined.WriteString(first)
		for i := 1; i < n; i++ {
			next, ok := one(r, c.chunk(i))
			if !ok {
				return nil, false
			}
			joined.WriteString(next)
		}
		value = joined.String()
	}
	text, err := base64.RawURLEncoding.Strict().DecodeString(value)
	return text, err == nil
}

// one returns the value of the only cookie of this name. Of two, one was planted. It reads the header itself, since net/http
// would look at each byte of a long value, which the seal then does better.
func one(r *http.Request, name string) (value string, ok bool) {
	count := 0
	for _, line := range r.Header["Cookie"] {
		for line != "" {
			pair := line
			if end := strings.IndexByte(line, ';'); end >= 0 {
				pair, line = line[:end], line[end+1:]
			} else {
				line = ""
			}
			pair = strings.Trim(pair, " \t")
			if len(pair) > len(name) && pair[len(name)] == '=' && pair[:len(name)] == name {
				count++
				value = pair[len(name)+1:]
			}
		}
	}
	return value, count == 1
}

func (c cookies) chunk(i int) string {
	if i == 0 {
		return c.name
	}
	return c.name + "-" + strconv.Itoa(i)
}

// write sets the cookies for text, and clears the parts of a longer one that r has.
func (c cookies) write(w http.ResponseWriter, r *http.Request, text []byte, maxAge int) error {
	value := base64.RawURLEncoding.EncodeToString(text)
	var chunks []string
	for begin := 0; begin < len(value); begin += maxChunk {
		chunks = append(chunks, value[begin:min(begin+maxChunk, len(value))])
	}
	if len(chunks) > maxChunks {
		return fmt.Errorf("bff: the session takes %d bytes of cookies; set Config.Store", len(value))
	}
	if len(chunks) > 1 {
		chunks[0] = strconv.Itoa(len(chunks)) + "." + chunks[0]
	}
	for i, chunk := range chunks {
		c.set(w, c.chunk(i), chunk, maxAge)
	}
	c.clearFrom(w, r, len(chunks))
	return nil
}

// clear removes the cookies that r has.
func (c cookies) clear(w http.ResponseWriter, r *http.Request) { c.clearFrom(w, r, 0) }

func (c cookies) clearFrom(w http.ResponseWriter, r *http.Request, first int) {
	for i := first; i < maxChunks; i++ {
		if name := c.chunk(i); len(r.CookiesNamed(name)) > 0 {
			c.set(w, name, "", -1)
		}
	}
}

// set sets one cookie in place of what was set of it before. The attributes are the same for all and at clearing.
func (c cookies) set(w http.ResponseWriter, name, value string, maxAge int) {
	lines := w.Header()["Set-Cookie"]
	kept := lines[:0:0]
	for _, line := range lines {
		if !strings.HasPrefix(line, name+"=") {
			kept = append(kept, line)
		}
	}
	cookie := http.Cookie{ //nolint:gosec // Secure is left out on a loopback address only
		Name:     name,
		Value:    value,
		Path:     "/",
		MaxAge:   maxAge,
		Secure:   c.secure,
		HttpOnly: true,
		SameSite: http.SameSiteLaxMode,
	}
	w.Header()["Set-Cookie"] = append(kept, cookie.String())
}

// owns reports whether a cookie of this name is ours: the session, a part of it, or a login under way.
func (c cookies) owns(name string) bool { return name == c.name || strings.HasPrefix(name, c.name+"-") }
