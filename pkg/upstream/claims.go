package upstream

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"time"
)

// claims are the members of a JSON object by their exact names. Decoding into a struct would let "EMAIL" stand in for
// "email" (encoding/json compares without regard to case).
type claims map[string]json.RawMessage

func parseClaims(text []byte) (claims, error) {
	var c claims
	if err := json.Unmarshal(text, &c); err != nil || c == nil {
		return nil, errNotJSON
	}
	return c, nil
}

// encode is the inverse of parseClaims.
func (c claims) encode() []byte {
	text, err := json.Marshal(c)
	if err != nil {
		panic(err) // every member was parsed as JSON
	}
	return text
}

// text is a member that is a string; else empty.
func (c claims) text(name string) string {
	var s string
	if json.Unmarshal(c[name], &s) != nil {
		return ""
	}
	return s
}

// isTrue reports whether a member is the JSON value true, and not a text that reads so.
func (c claims) isTrue(name string) bool { return string(bytes.TrimSpace(c[name])) == "true" }

// isOneOf reports whether a member is one of the JSON values.
func (c claims) isOneOf(name string, values ...string) bool {
	got := string(bytes.TrimSpace(c[name]))
	return slices.Contains(values, got)
}

// key is a member that identifies something: a non-empty string, or a positive whole number in its decimal form.
func (c claims) key(name string) string {
	if s := c.text(name); s != "" {
		return s
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(c[name])), 10, 64)
	if err != nil || n <= 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// unix is a member that is a time in Unix seconds; else zero.
func (c claims) unix(name string) time.Time {
	var n float64
	if json.Unmarshal(c[name], &n) != nil || n <= 0 || n > 1<<40 {
		return time.Time{}
	}
	return time.Unix(int64(n), 0)
}

// texts is a member that is a string or a list of strings.
func (c claims) texts(name string) []string {
	if s := c.text(name); s != "" {
		return []string{s}
	}
	var all []string
	if json.Unmarshal(c[name], &all) != nil {
		return nil
	}
	return all
}
