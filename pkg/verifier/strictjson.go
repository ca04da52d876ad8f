package verifier

import (
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// encoding/json takes the last of two members with one name, matches names without regard to case and mends invalid UTF-8, so two
// programs can read two meanings from one signed text. This reader takes exactly the grammar of RFC 8259 and refuses repeated
// names at any depth; it gives back substrings, so that reading a token costs no allocation for each value.

// maxDepth bounds the nesting of values, and with it the stack.
const maxDepth = 16

// member is one member of an object: its name, and the text of its value.
type member struct {
	name  string
	value string
}

// parseObject appends the members of the object that text is to space, in order. It reports false for anything but one
// well-formed object with distinct names.
func parseObject(text string, space []member) ([]member, bool) {
	if !utf8.ValidString(text) {
		return nil, false
	}
	s := scanner{text: text}
	s.blank()
	members, ok := s.object(space, 0)
	s.blank()
	return members, ok && s.pos == len(text)
}

type scanner struct {
	text string
	pos  int
}

// next returns the byte at the position, or 0 at the end, where no grammar rule accepts it.
func (s *scanner) next() byte {
	if s.pos < len(s.text) {
		return s.text[s.pos]
	}
	return 0
}

// accept takes c if it is next.
func (s *scanner) accept(c byte) bool {
	if s.next() != c {
		return false
	}
	s.pos++
	return true
}

func (s *scanner) blank() {
	for c := s.next(); c == ' ' || c == '\t' || c == '\n' || c == '\r'; c = s.next() {
		s.pos++
	}
}

func (s *scanner) object(members []member, depth int) ([]member, bool) {
	first := len(members)
	if depth == maxDepth || !s.accept('{') {
		return nil, false
	}
	if s.blank(); s.accept('}') {
		return members, true
	}
	for {
		s.blank()
		begin := s.pos
		if !s.str() {
			return nil, false
		}
		name, ok := unquote(s.text[begin:s.pos])
		if !ok {
			return nil, false
		}
		for _, m := range members[first:] {
			if m.name == name {
				return nil, false
			}
		}
		if s.blank(); !s.accept(':') {
			return nil, false
		}
		s.blank()
		begin = s.pos
		if !s.value(depth + 1) {
			return nil, false
		}
		members = append(members, member{name, s.text[begin:s.pos]})
		if s.blank(); s.accept('}') {
			return members, true
		}
		if !s.accept(',') {
			return nil, false
		}
	}
}

func (s *scanner) array(depth int) bool {
	if depth == maxDepth || !s.accept('[') {
		return false
	}
	if s.blank(); s.accept(']') {
		return true
	}
	for {
		if s.blank(); !s.value(depth + 1) {
			return false
		}
		if s.blank(); s.accept(']') {
			return true
		}
		if !s.accept(',') {
			return false
		}
	}
}

func (s *scanner) value(depth int) bool {
	switch s.next() {
	case '"':
		return s.str()
	case '{':
		_, ok := s.object(nil, depth)
		return ok
	case '[':
		return s.array(depth)
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	}
	return s.number()
}

func (s *scanner) word(w string) bool {
	if !strings.HasPrefix(s.text[s.pos:], w) {
		return false
	}
	s.pos += len(w)
	return true
}

func (s *scanner) number() bool {
	s.accept('-')
	if !s.accept('0') && !s.digits() {
		return false
	}
	if s.accept('.') && !s.digits() {
		return false
	}
	if s.accept('e') || s.accept('E') {
		if !s.accept('+') {
			s.accept('-')
		}
		return s.digits()
	}
	return true
}

func (s *scanner) digits() bool {
	begin := s.pos
	for c := s.next(); '0' <= c && c <= '9'; c = s.next() {
		s.pos++
	}
	return s.pos > begin
}

// str passes over a string and checks its escapes.
func (s *scanner) str() bool {
	if !s.accept('"') {
		return false
	}
	for i := s.pos; i < len(s.text); {
		c := s.text[i]
		if c == '"' {
			s.pos = i + 1
			return true
		}
		n := 1
		if c == '\\' {
			n = escape(s.text[i:])
		}
		if c < 0x20 || n == 0 {
			return false
		}
		i += n
	}
	return false
}

// escape returns the length of the escape sequence that text begins with, 0 if it is malformed. A surrogate outside of a pair
// stands for no character and is malformed.
func escape(text string) int {
	if len(text) < 2 {
		return 0
	}
	switch text[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		r := hex4(text)
		switch {
		case r < 0 || 0xdc00 <= r && r <= 0xdfff:
			return 0
		case !utf16.IsSurrogate(r):
			return 6
		case utf16.DecodeRune(r, hex4(text[6:])) != utf8.RuneError:
			return 12
		}
	}
	return 0
}

// hex4 returns the code unit that text, which begins with a \u escape, stands for, or -1.
func hex4(text string) rune {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return -1
	}
	r, err := strconv.ParseUint(text[2:6], 16, 16)
	if err != nil {
		return -1
	}
	return rune(r)
}

// unquote returns the string that a value stands for. It reports false for a value of another type.
func unquote(value string) (string, bool) {
	if len(value) < 2 || value[0] != '"' {
		return "", false
	}
	value = value[1 : len(value)-1]
	if strings.IndexByte(value, '\\') < 0 {
		return value, true
	}
	b := make([]byte, 0, len(value))
	for i := 0; i < len(value); {
		if value[i] != '\\' {
			b = append(b, value[i])
			i++
			continue
		}
		n := escape(value[i:])
		switch n {
		case 2:
			if j := strings.IndexByte(`bfnrt`, value[i+1]); j >= 0 {
				b = append(b, "\b\f\n\r\t"[j])
			} else {
				b = append(b, value[i+1])
			}
		case 6:
			b = utf8.AppendRune(b, hex4(value[i:]))
		case 12:
			b = utf8.AppendRune(b, utf16.DecodeRune(hex4(value[i:]), hex4(value[i+6:])))
		default:
			return "", false
		}
		i += n
	}
	return string(b), true
}

// unquoteAll returns the strings of an array. It reports false for a value that is not an array of strings.
func unquoteAll(value string) ([]string, bool) {
	s := scanner{text: value}
	if !s.accept('[') {
		return nil, false
	}
	var list []string
	for s.blank(); !s.accept(']'); s.blank() {
		s.accept(',')
		s.blank()
		begin := s.pos
		if !s.str() {
			return nil, false
		}
		v, ok := unquote(s.text[begin:s.pos])
		if !ok {
			return nil, false
		}
		list = append(list, v)
	}
	return list, true
}

// integer returns the number that a value is, if it is written as a positive integer below 2^53, which every JSON
// reader can hold.
func integer(value string) (int64, bool) {
	if len(value) == 0 || len(value) > 16 {
		return 0, false
	}
	var n int64
	for i := range len(value) {
		if value[i] < '0' || value[i] > '9' {
			return 0, false
		}
		n = n*10 + int64(value[i]-'0')
	}
	return n, n > 0 && n < 1<<53
}
