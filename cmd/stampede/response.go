package main

import (
	"bytes"
	"encoding/json"
	"errors"
)

// response is what the load client looks at. body is valid until the next request on the same connection.
type response struct {
	status     int
	body       []byte
	retryAfter bool // a Retry-After header was there
}

// head is the part of a response before its body.
type head struct {
	status     int
	length     int // of the body; -1 if the head does not say
	chunked    bool
	close      bool
	retryAfter bool
}

var (
	errMalformed   = errors.New("malformed response")
	errNoLength    = errors.New("response without Content-Length")
	errTooLarge    = errors.New("response too large")
	errUnsolicited = errors.New("bytes that nobody asked for")
)

// parseHead reads a status line and header fields up to and including the empty line (RFC 9112, sections 4 and 5). It is
// strict because a load client that forgives would time something else than it claims.
func parseHead(b []byte) (head, error) {
	h := head{length: -1}
	line, rest, ok := bytes.Cut(b, []byte(crlf))
	if !ok || len(line) < 12 || string(line[:9]) != "HTTP/1.1 " || (len(line) > 12 && line[12] != ' ') {
		return h, errMalformed
	}
	for _, d := range line[9:12] {
		if d < '0' || d > '9' {
			return h, errMalformed
		}
		h.status = h.status*10 + int(d-'0')
	}
	if h.status < 200 { // an interim answer is never sent to requests like ours
		return h, errMalformed
	}
	for {
		line, rest, ok = bytes.Cut(rest, []byte(crlf))
		if !ok {
			return h, errMalformed
		}
		if len(line) == 0 {
			return h, nil
		}
		if err := h.field(line); err != nil {
			return h, err
		}
	}
}

// field takes in one header line; the first letter alone rules out most of them.
func (h *head) field(line []byte) error {
	colon := bytes.IndexByte(line, ':')
	if colon <= 0 {
		return errMalformed
	}
	name, value := line[:colon], bytes.TrimSpace(line[colon+1:])
	switch name[0] | 0x20 {
	case 'c':
		switch {
		case foldEqual(name, "content-length"):
			n, ok := parseLength(value)
			if !ok || h.length >= 0 {
				return errMalformed
			}
			h.length = n
		case foldEqual(name, "connection"):
			h.close = h.close || foldEqual(value, "close")
		}
	case 't':
		if foldEqual(name, "transfer-encoding") {
			if !foldEqual(value, "chunked") || h.chunked {
				return errMalformed
			}
			h.chunked = true
		}
	case 'r':
		h.retryAfter = h.retryAfter || foldEqual(name, "retry-after")
	}
	return nil
}

// foldEqual compares b with want, which is in lower-case ASCII letters and hyphens.
func foldEqual(b []byte, want string) bool {
	if len(b) != len(want) {
		return false
	}
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if c != want[i] {
			return false
		}
	}
	return true
}

func parseLength(b []byte) (int, bool) {
	if len(b) == 0 || len(b) > 9 {
		return 0, false
	}
	n := 0
	for _, d := range b {
		if d < '0' || d > '9' {
			return 0, false
		}
		n = n*10 + int(d-'0')
	}
	return n, true
}

// member returns the string member name of the JSON object in body, or nil if it is missing or not a string. It looks at the top
// level only and does not check the rest of the document: on a shared machine each microsecond here is taken from
// the server under test.
func member(body []byte, name string) []byte {
	i := skipSpace(body, 0)
	if i >= len(body) || body[i] != '{' {
		return nil
	}
	for i++; ; i++ {
		i = skipSpace(body, i)
		key, after := scanString(body, i)
		if key == nil {
			return nil
		}
		i = skipSpace(body, after)
		if i >= len(body) || body[i] != ':' {
			return nil
		}
		i = skipSpace(body, i+1)
		if string(key) == name {
			value, _ := scanString(body, i)
			return unescape(value)
		}
		if i = skipValue(body, i); i >= len(body) || body[i] != ',' {
			return nil
		}
	}
}

// scanString returns what stands between the quotes of the string that begins at i, still escaped, and the index after it.
func scanString(b []byte, i int) ([]byte, int) {
	if i >= len(b) || b[i] != '"' {
		return nil, i
	}
	for j := i + 1; ; j++ {
		k := bytes.IndexByte(b[j:], '"')
		if k < 0 {
			return nil, len(b)
		}
		j += k
		backslashes := 0
		for b[j-1-backslashes] == '\\' {
			backslashes++
		}
		if backslashes%2 == 0 {
			return b[i+1 : j : j], j + 1
		}
	}
}

// skipValue returns the index of the comma or brace that ends the member value at i.
func skipValue(b []byte, i int) int {
	for depth := 0; i < len(b); {
		switch b[i] {
		case '"':
			_, i = scanString(b, i)
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i
			}
			depth--
		case ',':
			if depth == 0 {
				return i
			}
		}
		i++
	}
	return i
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r') {
		i++
	}
	return i
}

// unescape is the slow path for strings with escapes, which tokens never have.
func unescape(value []byte) []byte {
	if value == nil || bytes.IndexByte(value, '\\') < 0 {
		return value
	}
	var s string
	if json.Unmarshal(append(append([]byte{'"'}, value...), '"'), &s) != nil {
		return nil
	}
	return []byte(s)
}
