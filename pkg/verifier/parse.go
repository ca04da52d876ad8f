package verifier

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
)

// MaxTokenSize is the length in bytes of the longest text that Verify looks at.
const MaxTokenSize = 8 << 10

// The longest encoded header and signature: no header of ours comes near, and an RSA signature has the length of the key.
const (
	maxHeader    = 1 << 10
	maxSignature = (maxRSABits/8*8 + 5) / 6
)

// compact is a text in JWS Compact Serialization (RFC 7515, section 7.1) whose spelling is in order and of which nothing else is
// known. The parts are in base64url.
type compact struct {
	signed    string // header.payload
	header    string
	payload   string
	signature string
}

// split checks everything about raw that can be checked without decoding it: its size, exactly two dots, and base64url without
// padding. Its cost is small for any text that a stranger sends.
func split(raw string) (compact, error) {
	if len(raw) > MaxTokenSize {
		return compact{}, fmt.Errorf("%w: longer than %d bytes", ErrMalformed, MaxTokenSize)
	}
	header, rest, _ := strings.Cut(raw, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	if !isBase64URL(header) || !isBase64URL(payload) || !isBase64URL(signature) { // a third dot would be in the signature
		return compact{}, fmt.Errorf("%w: not three parts in base64url", ErrMalformed)
	}
	if len(header) > maxHeader || len(signature) > maxSignature {
		return compact{}, fmt.Errorf("%w: a part is too long", ErrMalformed)
	}
	return compact{raw[:len(header)+1+len(payload)], header, payload, signature}, nil
}

// isBase64URL reports whether s has at least one character and none outside of the alphabet (RFC 4648, section 5). A bit for each
// character is in the word that its upper two bits choose; a branch for each would be mispredicted half of the time.
func isBase64URL(s string) bool {
	alphabet := [4]uint64{
		1<<'-' | (1<<10-1)<<'0',
		(1<<26-1)<<('A'-64) | 1<<('_'-64) | (1<<26-1)<<('a'-64),
	}
	in := uint64(1)
	for i := range len(s) {
		in &= alphabet[s[i]>>6] >> (s[i] & 63)
	}
	return in == 1 && s != ""
}

// header is a header that was parsed: its encoded form, and what it says.
type header struct {
	part, alg, kid, typ string
}

// parseHeader reads an encoded header. It must be an object of exactly alg, kid and typ, all strings, and typ must be one
// of types, in the spelling of its standard, so a token made for another purpose is never taken for an access token, nothing in a
// token can name a key's whereabouts, and there is no crit to understand (RFC 7515, section 4.1.11).
func parseHeader(part string, types []string) (*header, error) {
	text, err := decodePart(part)
	if err != nil {
		return nil, err
	}
	h := &header{part: part}
	var space [4]member
	members, ok := parseObject(text, space[:0])
	if !ok || len(members) != 3 {
		return nil, fmt.Errorf("%w: header is not exactly alg, kid, typ", ErrMalformed)
	}
	for _, m := range members {
		v, isString := unquote(m.value)
		switch {
		case isString && m.name == "alg":
			h.alg = v
		case isString && m.name == "kid":
			h.kid = v
		case isString && m.name == "typ" && slices.Contains(types, v):
			h.typ = v
		default:
			return nil, fmt.Errorf("%w: header is not exactly alg, kid, typ", ErrMalformed)
		}
	}
	return h, nil
}

// decodePart decodes base64url whose alphabet split has checked; unused bits of the last character must be zero, else one text
// would have several spellings (RFC 4648, section 3.5).
func decodePart(part string) (string, error) {
	const step = 1024 // a multiple of 4, so that no character's bits are in two steps
	var space [step * 3 / 4]byte
	var b strings.Builder
	b.Grow(base64.RawURLEncoding.DecodedLen(len(part)))
	for part != "" {
		n := min(step, len(part))
		m, err := base64.RawURLEncoding.Strict().Decode(space[:], []byte(part[:n]))
		if err != nil {
			return "", fmt.Errorf("%w: base64url", ErrMalformed)
		}
		b.Write(space[:m])
		part = part[n:]
	}
	return b.String(), nil
}

// Key is a public key together with its kid and the one algorithm that it may be used with. Make one with NewKey.
type Key struct {
	id     string
	alg    string
	public crypto.PublicKey
	block  BlockKey // of its kid
}

// NewKey returns the key for signatures made under kid. It returns ErrKey unless public is an *ecdsa.PublicKey on P-256, an
// ed25519.PublicKey or an *rsa.PublicKey of 2048 bits or more.
func NewKey(kid string, public crypto.PublicKey) (*Key, error) {
	alg, err := Algorithm(public)
	if err != nil {
		return nil, err
	}
	if kid == "" {
		return nil, fmt.Errorf("%w: no kid", ErrKey)
	}
	return &Key{kid, alg, public, KeyOf(BlockKID, kid)}, nil
}

// ID returns the kid.
func (k *Key) ID() string { return k.id }

// Algorithm returns ES256, EdDSA or RS256.
func (k *Key) Algorithm() string { return k.alg }

// Public returns the public key.
func (k *Key) Public() crypto.PublicKey { return k.public }

// verify returns ErrSignature unless signature (in base64url) is the key's over signed.
func (k *Key) verify(signed, signature string) error {
	var space [maxRSABits / 8]byte
	n, err := base64.RawURLEncoding.Strict().Decode(space[:], []byte(signature))
	if err != nil {
		return fmt.Errorf("%w: base64url", ErrMalformed)
	}
	sig, ok := space[:n], false
	switch public := k.public.(type) {
	case *ecdsa.PublicKey:
		ok = verifyES256(public, signed, sig)
	case ed25519.PublicKey:
		ok = ed25519.Verify(public, []byte(signed), sig)
	case *rsa.PublicKey:
		hash := sha256.Sum256([]byte(signed))
		ok = rsa.VerifyPKCS1v15(public, crypto.SHA256, hash[:], sig) == nil
	}
	if !ok {
		return ErrSignature
	}
	return nil
}

// verifyES256 checks a signature in the form of RFC 7518, section 3.4: r and s, 32 bytes each. The mirrored signature (r, n-s) is
// as valid as the original; only the holder of the token could make it, and revocation does not go by the text of a token.
func verifyES256(public *ecdsa.PublicKey, signed string, sig []byte) bool {
	if len(sig) != 64 || !inOrder(sig[:32]) || !inOrder(sig[32:]) {
		return false
	}
	// SEQUENCE { INTEGER r, INTEGER s }; both are below 2^256, so every length fits one byte.
	var space [72]byte
	der := appendInteger(appendInteger(append(space[:0], 0x30, 0), sig[:32]), sig[32:])
	der[1] = byte(len(der) - 2) //nolint:gosec // at most 70
	hash := sha256.Sum256([]byte(signed))
	return ecdsa.VerifyASN1(public, hash[:], der)
}

// inOrder reports whether 0 < b < n, the order of P-256 (SEC 1, section 4.1.4, step 1).
func inOrder(b []byte) bool {
	const n = "\xff\xff\xff\xff\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff" +
		"\xbc\xe6\xfa\xad\xa7\x17\x9e\x84\xf3\xb9\xca\xc2\xfc\x63\x25\x51"
	return string(b) < n && len(bytes.TrimLeft(b, "\x00")) > 0
}

// appendInteger appends a DER INTEGER with the value of the big-endian b, which is not zero.
func appendInteger(der, b []byte) []byte {
	b = bytes.TrimLeft(b, "\x00")
	der = append(der, 0x02, byte(len(b))+b[0]>>7) //nolint:gosec // at most 33
	if b[0] >= 0x80 {
		der = append(der, 0) // else it would be a negative number
	}
	return append(der, b...)
}

// equal reports whether two keys are the same under the same kid.
func (k *Key) equal(other *Key) bool {
	public, ok := k.public.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.id == other.id && public.Equal(other.public)
}
