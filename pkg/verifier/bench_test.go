package verifier

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"fmt"
	"math/big"
	"strings"
	"testing"
)

// BenchmarkBare is the signature check alone, with everything prepared; BenchmarkVerify is Verify of a token that was never seen,
// against a blocklist of a million entries.
func BenchmarkBare(b *testing.B) {
	for _, alg := range []string{ES256, EdDSA, RS256} {
		s := signers()[alg]
		signed := []byte(encode([]byte(s.header())) + "." + encode([]byte(claims(testIssuer))))
		sig := s.signature(string(signed))
		b.Run(alg, func(b *testing.B) {
			b.ReportAllocs()
			switch public := s.private.Public().(type) {
			case *ecdsa.PublicKey:
				der, _ := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])})
				for b.Loop() {
					hash := sha256.Sum256(signed)
					if !ecdsa.VerifyASN1(public, hash[:], der) {
						b.Fatal("wrong signature")
					}
				}
			case ed25519.PublicKey:
				for b.Loop() {
					if !ed25519.Verify(public, signed, sig) {
						b.Fatal("wrong signature")
					}
				}
			case *rsa.PublicKey:
				for b.Loop() {
					hash := sha256.Sum256(signed)
					if rsa.VerifyPKCS1v15(public, crypto.SHA256, hash[:], sig) != nil {
						b.Fatal("wrong signature")
					}
				}
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	v := local(b, WithBlocklist(million(b)))
	for _, alg := range []string{ES256, EdDSA, RS256} {
		raw := signers()[alg].sign(signers()[alg].header(), claims(testIssuer))
		b.Run(alg, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(b.Context(), raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkVerifySeen is Verify of a thousand tokens that were all seen before, against a blocklist of a million entries.
func BenchmarkVerifySeen(b *testing.B) {
	v := local(b, WithBlocklist(million(b)), WithCache(10_000))
	s := signers()[ES256]
	tokens := make([]string, 1000)
	for i := range tokens {
		tokens[i] = s.sign(s.header(), claims(testIssuer, "jti", fmt.Sprintf(`"jti_%d"`, i), "sid", fmt.Sprintf(`"ses_%d"`, i)))
		if _, err := v.Verify(b.Context(), tokens[i]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := v.Verify(b.Context(), tokens[i%len(tokens)]); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkVerifyRubbish is the refusal of what is not a token.
func BenchmarkVerifyRubbish(b *testing.B) {
	v := local(b)
	s := newSigner("key-ec")
	for name, raw := range map[string]string{
		"8MiB": strings.Repeat("x", 8<<20), "dots": strings.Repeat(".", 1_000_000), "8KiB": strings.Repeat("x", MaxTokenSize),
		"deep":        encode([]byte(`{"alg":`+strings.Repeat("[", 700))) + ".e30.AAAA",
		"unknown_kid": s.sign(`{"alg":"ES256","kid":"x","typ":"at+jwt"}`, claims(testIssuer)),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(b.Context(), raw); err == nil {
					b.Fatal("accepted")
				}
			}
		})
	}
}

func million(b *testing.B) BlockCheck {
	set := NewBlockSet()
	if err := set.Merge(randomEntries(1_000_000)); err != nil {
		b.Fatal(err)
	}
	return func(_ context.Context, keys []BlockKey, iat int64) (bool, error) { return set.Blocked(keys, iat), nil }
}
