package verifier

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
)

// The signature algorithms (RFC 7518, section 3.1; RFC 8037). A key has exactly one of them, so a token cannot choose.
const (
	ES256 = "ES256" // ECDSA on P-256 with SHA-256
	EdDSA = "EdDSA" // Ed25519
	RS256 = "RS256" // RSASSA-PKCS1-v1_5 with SHA-256 and at least 2048 bits
)

// RSA keys outside these bounds are refused: shorter ones can be broken, longer ones make each verification expensive.
const (
	minRSABits = 2048
	maxRSABits = 8192
)

// ErrKey is returned for a key that cannot be used: an unknown type or curve, a point off its curve, an RSA key of an
// unsafe size.
var ErrKey = errors.New("verifier: unusable key")

// JWK is a public signing key in wire form (RFC 7517). It has no field that a private or symmetric key could travel in.
type JWK struct {
	Kty string `json:"kty"`           // EC, OKP or RSA
	Crv string `json:"crv,omitempty"` // P-256 or Ed25519
	X   string `json:"x,omitempty"`   // base64url, as are Y, N and E
	Y   string `json:"y,omitempty"`
	N   string `json:"n,omitempty"`
	E   string `json:"e,omitempty"`
	Kid string `json:"kid"`
	Alg string `json:"alg"`
	Use string `json:"use"` // sig
}

// JWKSet is a set of public keys in wire form (RFC 7517, section 5).
type JWKSet struct {
	Keys []JWK `json:"keys"`
}

// NewJWK returns the wire form of an *ecdsa.PublicKey (P-256), ed25519.PublicKey or *rsa.PublicKey. The algorithm
// follows from the type of the key. It returns ErrKey for any other key.
func NewJWK(kid string, public crypto.PublicKey) (JWK, error) {
	alg, err := Algorithm(public)
	if err != nil {
		return JWK{}, err
	}
	k := JWK{Kid: kid, Alg: alg, Use: "sig"}
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		b, err := p.Bytes() // 0x04 || x || y, each of the full 32 bytes as RFC 7518, section 6.2.1.2 demands
		if err != nil {
			return JWK{}, fmt.Errorf("%w: %w", ErrKey, err)
		}
		k.Kty, k.Crv, k.X, k.Y = "EC", "P-256", encode(b[1:33]), encode(b[33:])
	case ed25519.PublicKey:
		k.Kty, k.Crv, k.X = "OKP", "Ed25519", encode(p)
	case *rsa.PublicKey:
		k.Kty, k.N, k.E = "RSA", encode(p.N.Bytes()), encode(big.NewInt(int64(p.E)).Bytes())
	}
	return k, nil
}

// Algorithm returns the one algorithm that a public key may be used with, or ErrKey if the key is not usable.
func Algorithm(public crypto.PublicKey) (string, error) {
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		if p.Curve == elliptic.P256() {
			return ES256, nil
		}
	case ed25519.PublicKey:
		if len(p) == ed25519.PublicKeySize {
			return EdDSA, nil
		}
	case *rsa.PublicKey:
		if n := p.N.BitLen(); n < minRSABits || n > maxRSABits {
			return "", fmt.Errorf("%w: RSA key of %d bits", ErrKey, n)
		}
		if p.E < 3 || p.E%2 == 0 {
			return "", fmt.Errorf("%w: RSA exponent %d", ErrKey, p.E)
		}
		return RS256, nil
	}
	return "", fmt.Errorf("%w: type %T", ErrKey, public)
}

// Public returns the key as *ecdsa.PublicKey, ed25519.PublicKey or *rsa.PublicKey. It returns ErrKey for a key that is malformed,
// unsafe, not for signatures, or whose alg is another than its type demands.
func (k JWK) Public() (crypto.PublicKey, error) {
	if k.Kid == "" {
		return nil, fmt.Errorf("%w: no kid", ErrKey)
	}
	if k.Use != "" && k.Use != "sig" {
		return nil, fmt.Errorf("%w: use %q", ErrKey, k.Use)
	}
	public, err := k.parse()
	if err != nil {
		return nil, err
	}
	alg, err := Algorithm(public)
	if err != nil {
		return nil, err
	}
	if k.Alg != alg {
		return nil, fmt.Errorf("%w: a key for %s says alg %q", ErrKey, alg, k.Alg)
	}
	return public, nil
}

func (k JWK) parse() (crypto.PublicKey, error) {
	switch {
	case k.Kty == "EC" && k.Crv == "P-256":
		x, errX := decode(k.X, 32)
		y, errY := decode(k.Y, 32)
		if err := errors.Join(errX, errY); err != nil {
			return nil, err
		}
		p, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), bytes.Join([][]byte{{4}, x, y}, nil)) // on the curve, or an error
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrKey, err)
		}
		return p, nil
	case k.Kty == "OKP" && k.Crv == "Ed25519":
		x, err := decode(k.X, ed25519.PublicKeySize)
		if err != nil {
			return nil, err
		}
		return ed25519.PublicKey(x), nil
	case k.Kty == "RSA":
		n, errN := decode(k.N, 0)
		e, errE := decode(k.E, 0)
		if err := errors.Join(errN, errE); err != nil {
			return nil, err
		}
		if len(n) > maxRSABits/8 || len(e) > 4 {
			return nil, fmt.Errorf("%w: RSA key too long", ErrKey)
		}
		return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}, nil
	}
	return nil, fmt.Errorf("%w: kty %q, crv %q", ErrKey, k.Kty, k.Crv)
}

// Thumbprint returns the RFC 7638 SHA-256 thumbprint of the key in base64url: a kid that is the same on every replica and
// never names two keys.
func (k JWK) Thumbprint() string {
	// The required members in lexicographic order, without white space (RFC 7638, section 3; RFC 8037, appendix A.3).
	var members any
	switch k.Kty {
	case "EC":
		members = struct {
			Crv string `json:"crv"`
			Kty string `json:"kty"`
			X   string `json:"x"`
			Y   string `json:"y"`
		}{k.Crv, k.Kty, k.X, k.Y}
	case "OKP":
		members = struct {
			Crv string `json:"crv"`
			Kty string `json:"kty"`
			X   string `json:"x"`
		}{k.Crv, k.Kty, k.X}
	default:
		members = struct {
			E   string `json:"e"`
			Kty string `json:"kty"`
			N   string `json:"n"`
		}{k.E, k.Kty, k.N}
	}
	b, _ := json.Marshal(members) // strings only: cannot fail
	sum := sha256.Sum256(b)
	return encode(sum[:])
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// decode reads the base64url of size bytes, or of any number if size is 0.
func decode(s string, size int) ([]byte, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) == 0 || size != 0 && len(b) != size || len(encode(b)) != len(s) {
		return nil, fmt.Errorf("%w: malformed coordinate", ErrKey)
	}
	return b, nil
}
