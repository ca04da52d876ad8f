package session

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"hash"
	"strings"
	"sync"

	"github.com/handstamp/handstamp/pkg/seal"
)

// TokenPrefix starts every refresh token, so that secret scanners find it.
const TokenPrefix = "hsr_"

// A refresh token is TokenPrefix and the base64url text of 45 bytes. 45 is a multiple of 3, so there is exactly one
// spelling of each token and no padding.
const (
	tokenVersion = 1

	offID    = 1
	offGen   = offID + len(ID{})
	offTag   = offGen + 4
	offCheck = offTag + len(Nonce{})
	tokenLen = offCheck + 8

	// TokenLength is the length of a refresh token in bytes.
	TokenLength = len(TokenPrefix) + tokenLen/3*4
)

// IsRefreshToken reports whether a text has the form of a refresh token, of whatever service.
func IsRefreshToken(raw string) bool { return strings.HasPrefix(raw, TokenPrefix) }

// Presented is what an authentic refresh token says.
type Presented struct {
	ID         ID
	Generation uint32
	Nonce      Nonce
}

// Deriver is the part of the master key that the codec needs: one secret per label (RFC 5869).
type Deriver interface {
	Derive(label seal.Label, n int) []byte
}

// Codec writes and reads refresh tokens.
//
// The tag is the session's nonce masked with a keyed function of session ID and generation. So the
// service can make a token again from the row and the master key, but the row alone or the master key alone is not enough
// to make one. A presented token yields the nonce that it must match before any query. The check value is keyed too: a
// forged or mistyped token costs no statement.
type Codec struct {
	tags, checks *sync.Pool // of HMAC-SHA256 states; one that is used again has hashed its key already
}

// NewCodec derives the codec's keys from the master key.
func NewCodec(master Deriver) *Codec {
	keyed := func(label seal.Label) *sync.Pool {
		key := master.Derive(label, sha256.Size)
		return &sync.Pool{New: func() any { return hmac.New(sha256.New, key) }}
	}
	return &Codec{tags: keyed(seal.RefreshTokenTag), checks: keyed(seal.RefreshTokenCheck)}
}

// Format writes the refresh token of one generation of a session.
func (c *Codec) Format(p Presented) string {
	var b [tokenLen]byte
	b[0] = tokenVersion
	copy(b[offID:], p.ID[:])
	binary.BigEndian.PutUint32(b[offGen:], p.Generation)
	c.mask(b[offTag:offCheck], p.Nonce[:], b[offID:offTag])
	c.check(b[offCheck:], b[:offCheck])

	var out [TokenLength]byte
	copy(out[:], TokenPrefix)
	base64.RawURLEncoding.Encode(out[len(TokenPrefix):], b[:])
	return string(out[:])
}

// Parse reads a refresh token, or returns ErrMalformed. It asks no database.
func (c *Codec) Parse(raw string) (Presented, error) {
	var b [tokenLen]byte
	if len(raw) != TokenLength || raw[:len(TokenPrefix)] != TokenPrefix {
		return Presented{}, ErrMalformed
	}
	// The decoder skips line breaks, but then fewer than 45 bytes come out of 60 characters.
	if n, err := base64.RawURLEncoding.Decode(b[:], []byte(raw[len(TokenPrefix):])); err != nil || n != tokenLen ||
		b[0] != tokenVersion {
		return Presented{}, ErrMalformed
	}
	var check [tokenLen - offCheck]byte
	c.check(check[:], b[:offCheck])
	if subtle.ConstantTimeCompare(check[:], b[offCheck:]) != 1 {
		return Presented{}, ErrMalformed
	}
	p := Presented{ID: ID(b[offID:offGen]), Generation: binary.BigEndian.Uint32(b[offGen:offTag])}
	c.mask(p.Nonce[:], b[offTag:offCheck], b[offID:offTag])
	return p, nil
}

// mask sets dst to src XOR the keyed function of position; it is its own inverse.
func (c *Codec) mask(dst, src, position []byte) {
	var sum [sha256.Size]byte
	subtle.XORBytes(dst, src, keyedHash(c.tags, sum[:0], position)[:len(src)])
}

func (c *Codec) check(dst, message []byte) {
	var sum [sha256.Size]byte
	copy(dst, keyedHash(c.checks, sum[:0], message))
}

func keyedHash(states *sync.Pool, dst, message []byte) []byte {
	h := states.Get().(hash.Hash) //nolint:forcetypeassert // the pool makes nothing else
	defer states.Put(h)
	h.Reset()
	h.Write(message)
	return h.Sum(dst)
}

// HashRequest identifies an Idempotency-Key; an empty key has the zero hash, which matches nothing.
func HashRequest(key string) RequestHash {
	if key == "" {
		return RequestHash{}
	}
	sum := sha256.Sum256([]byte(key))
	return RequestHash(sum[:len(RequestHash{})])
}
