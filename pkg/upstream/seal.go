package upstream

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/handstamp/handstamp/pkg/seal"
)

// ErrSealed says that sealed tokens can't be opened: they were sealed under another master key, belong to another
// identity, or were changed. The user can log in at the provider again; the operator should look at the master key.
var ErrSealed = errors.New("sealed provider tokens can't be opened")

// Sealer keeps provider tokens unreadable in the database.
type Sealer struct{ sealer seal.Sealer }

// NewSealer derives the key.
func NewSealer(master seal.MasterKey) Sealer { return Sealer{seal.New(master, seal.UpstreamTokens)} }

// sealedTokens is what is inside.
type sealedTokens struct {
	Access    string `json:"a"`
	Refresh   string `json:"r,omitempty"`
	ExpiresAt int64  `json:"e,omitempty"` // Unix seconds
	Scope     string `json:"s,omitempty"`
}

// Seal encrypts the tokens of an identity. They open for this identity only, so a row that is copied over another
// user's gives that user nothing.
func (s Sealer) Seal(t Tokens, provider, subject string) []byte {
	text, err := json.Marshal(sealedTokens{
		Access:    string(t.Access),
		Refresh:   string(t.Refresh),
		ExpiresAt: unixOf(t.ExpiresAt),
		Scope:     t.Scope,
	})
	if err != nil {
		panic(err) // only types that JSON can't hold
	}
	return s.sealer.Seal(text, sealContext(provider, subject))
}

// Open decrypts what Seal made for the same identity. ErrSealed.
func (s Sealer) Open(sealed []byte, provider, subject string) (Tokens, error) {
	text, err := s.sealer.Open(sealed, sealContext(provider, subject))
	if errors.Is(err, seal.ErrForm) {
		return Tokens{}, fmt.Errorf("%w: unknown form", ErrSealed)
	}
	if err != nil {
		return Tokens{}, ErrSealed
	}
	var t sealedTokens
	if err := json.Unmarshal(text, &t); err != nil {
		return Tokens{}, fmt.Errorf("%w: unknown content", ErrSealed)
	}
	return Tokens{
		Access:    seal.Secret(t.Access),
		Refresh:   seal.Secret(t.Refresh),
		ExpiresAt: timeOf(t.ExpiresAt),
		Scope:     t.Scope,
	}, nil
}

// sealContext is unambiguous because no provider ID contains a zero byte.
func sealContext(provider, subject string) []byte {
	return []byte("handstamp upstream tokens\x00" + provider + "\x00" + subject)
}

func unixOf(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func timeOf(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0)
}
