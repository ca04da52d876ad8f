package seal

import (
	"fmt"
	"io"
	"log/slog"
)

// Secret is a text that must not be seen: fmt, slog, JSON and YAML print "[redacted]", or nothing if it is empty. Convert
// it to string to use it.
type Secret string

// String returns "[redacted]", or nothing.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// Format prints the same for every verb and flag: fmt shows the text itself for a verb that is none of a string's.
func (s Secret) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, s.String()) }

// MarshalText returns the same, and so does encoding/json.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue returns the same.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
