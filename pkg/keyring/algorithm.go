package keyring

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/handstamp/handstamp/pkg/verifier"
)

const rsaBits = 2048 // the least that RFC 7518, section 3.3 allows; a signature costs a third of one with 3072 bits

func generate(algorithm string) (crypto.Signer, error) {
	switch algorithm {
	case verifier.ES256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case verifier.EdDSA:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	case verifier.RS256:
		return rsa.GenerateKey(rand.Reader, rsaBits)
	}
	return nil, fmt.Errorf("%w: %q", ErrUnknownAlgorithm, algorithm)
}

// SigningKey is an active key. It is safe for use by several goroutines, and prints as its kid.
type SigningKey struct {
	// ID is the kid.
	ID string
	// Algorithm is the JWS alg.
	Algorithm string

	signer crypto.Signer
}

// Format prints the kid for every verb. Without it, fmt would print the private half of an Ed25519 key.
func (k *SigningKey) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, k.ID) }

// AppendSignature signs the input of a JWS (RFC 7515, section 5.1) and appends the signature, as JWS wants it and before
// base64url, to dst.
func (k *SigningKey) AppendSignature(dst, input []byte) ([]byte, error) {
	switch key := k.signer.(type) {
	case *ecdsa.PrivateKey:
		digest := sha256.Sum256(input)
		der, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
		if err != nil {
			return dst, err
		}
		return appendRS(dst, der)
	case ed25519.PrivateKey:
		return append(dst, ed25519.Sign(key, input)...), nil
	case *rsa.PrivateKey:
		digest := sha256.Sum256(input)
		signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
		return append(dst, signature...), err
	}
	return dst, fmt.Errorf("%w: %T", ErrUnknownAlgorithm, k.signer)
}

// appendRS turns an ASN.1 signature on P-256 into R and S of 32 bytes each (RFC 7518, section 3.4). ecdsa.Sign would give
// them as big integers, for four allocations more. The input is our own, so that its form is known: SEQUENCE, INTEGER,
// INTEGER, lengths of one byte; anything else is an error all the same.
func appendRS(dst, der []byte) ([]byte, error) {
	if len(der) < 2 || der[0] != 0x30 || int(der[1]) != len(der)-2 {
		return dst, errors.New("malformed ECDSA signature")
	}
	rest := der[2:]
	for range 2 {
		if len(rest) < 2 || rest[0] != 0x02 || int(rest[1]) > len(rest)-2 {
			return dst, errors.New("malformed ECDSA signature")
		}
		value := rest[2 : 2+rest[1]]
		rest = rest[2+rest[1]:]
		if len(value) == 33 && value[0] == 0 {
			value = value[1:]
		}
		if len(value) > 32 {
			return dst, errors.New("malformed ECDSA signature")
		}
		var padded [32]byte
		copy(padded[32-len(value):], value)
		dst = append(dst, padded[:]...)
	}
	if len(rest) != 0 {
		return dst, errors.New("malformed ECDSA signature")
	}
	return dst, nil
}
