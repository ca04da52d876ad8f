package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"testing"
)

// The signing input of an access token is about this long.
const signingInput = 600

// bareSigner does what a signature needs and nothing that a token needs.
type bareSigner struct {
	name   string
	sign   func(input []byte) ([]byte, error)
	verify func(input, signature []byte) bool
}

func bareSigners(b *testing.B) []bareSigner {
	b.Helper()
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	edPublic, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		b.Fatal(err)
	}
	return []bareSigner{
		{"ES256", func(in []byte) ([]byte, error) {
			sum := sha256.Sum256(in)
			return ecdsa.SignASN1(rand.Reader, ec, sum[:])
		}, func(in, sig []byte) bool {
			sum := sha256.Sum256(in)
			return ecdsa.VerifyASN1(&ec.PublicKey, sum[:], sig)
		}},
		{"EdDSA", func(in []byte) ([]byte, error) { return ed25519.Sign(ed, in), nil }, func(in, sig []byte) bool { return ed25519.Verify(edPublic, in, sig) }},
		{"RS256", func(in []byte) ([]byte, error) {
			sum := sha256.Sum256(in)
			return rsa.SignPKCS1v15(rand.Reader, rs, crypto.SHA256, sum[:])
		}, func(in, sig []byte) bool {
			sum := sha256.Sum256(in)
			return rsa.VerifyPKCS1v15(&rs.PublicKey, crypto.SHA256, sum[:], sig) == nil
		}},
	}
}

func BenchmarkBareSign(b *testing.B) {
	input := make([]byte, signingInput)
	for _, s := range bareSigners(b) {
		b.Run(s.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.sign(input); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkBareVerify(b *testing.B) {
	input := make([]byte, signingInput)
	for _, s := range bareSigners(b) {
		signature, err := s.sign(input)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(s.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !s.verify(input, signature) {
					b.Fatal("refused")
				}
			}
		})
	}
}
