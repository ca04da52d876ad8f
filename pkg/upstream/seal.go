package upstream

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/handstamp/handstamp/pkg/keyring"
)

// ErrSealed says that sealed tokens can't be opened: they were sealed under another master key, belong to another
// identity, or were changed. The user can log in at the provider again; the operator should look at the master key.
var ErrSealed = errors.New("sealed provider tokens can't be opened")

// sealVersion is the first byte of everything sealed.
const sealVersion = 1

// Sealer keeps provider tokens unreadable in the database: AES-256-GCM under a key of the master key.
type Sealer struct {
	aead cipher.AEAD
}

// NewSealer derives the key.
func NewSealer(key keyring.MasterKey) Sealer {
	block, err := aes.NewCipher(key.Derive("handstamp/v1/upstream-tokens", 32))
	if err != nil {
		panic(err) // only a key of another length
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // only another block size
	}
	return Sealer{aead: aead}
}

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
	text, err := json.Marshal(sealedTokens{Access: string(t.Access), Refresh: string(t.Refresh), ExpiresAt: unixOf(t.ExpiresAt), Scope: t.Scope})
	if err != nil {
		panic(err) // only types that JSON can't hold
	}
	return s.aead.Seal([]byte{sealVersion}, nil, text, sealContext(provider, subject)) //nolint:gosec // the AEAD makes its own nonce
}

// Open decrypts what Seal made for the same identity. ErrSealed.
func (s Sealer) Open(sealed []byte, provider, subject string) (Tokens, error) {
	if len(sealed) == 0 || sealed[0] != sealVersion {
		return Tokens{}, fmt.Errorf("%w: unknown form", ErrSealed)
	}
	text, err := s.aead.Open(nil, nil, sealed[1:], sealContext(provider, subject))
	if err != nil {
		return Tokens{}, ErrSealed
	}
	var t sealedTokens
	if err := json.Unmarshal(text, &t); err != nil {
		return Tokens{}, fmt.Errorf("%w: unknown content", ErrSealed)
	}
	return Tokens{Access: Secret(t.Access), Refresh: Secret(t.Refresh), ExpiresAt: timeOf(t.ExpiresAt), Scope: t.Scope}, nil
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
