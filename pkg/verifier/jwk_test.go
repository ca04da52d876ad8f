package verifier

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestJWKRoundTrip(t *testing.T) {
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ed, _, _ := ed25519.GenerateKey(rand.Reader)
	rs, _ := rsa.GenerateKey(rand.Reader, 2048)
	for alg, public := range map[string]interface{ Equal(crypto.PublicKey) bool }{ES256: &ec.PublicKey, EdDSA: ed,
		RS256: &rs.PublicKey} {
		k, err := NewJWK("k1", public)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := json.Marshal(JWKSet{Keys: []JWK{k}})
		var set JWKSet
		if err := json.Unmarshal(b, &set); err != nil {
			t.Fatal(err)
		}
		back, err := set.Keys[0].Public()
		if err != nil || !public.Equal(back) || set.Keys[0].Alg != alg {
			t.Errorf("%s: %s came back as %v, %v", alg, b, back, err)
		}
		var members map[string][]map[string]string
		_ = json.Unmarshal(b, &members)
		for name := range members["keys"][0] {
			if !strings.Contains(" kty crv x y n e kid alg use ", " "+name+" ") {
				t.Errorf("%s: member %q is published", alg, name)
			}
		}
	}
}

func TestThumbprint(t *testing.T) {
	// RFC 7638, section 3.1, and RFC 8037, appendix A.3.
	rsaKey := JWK{
		Kty: "RSA",
		E:   "AQAB",
		N: "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjB" +
			"ZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8" +
			"KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_" +
			"xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
	}
	if got, want := rsaKey.Thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"; got != want {
		t.Errorf("RSA thumbprint = %s, want %s", got, want)
	}
	edKey := JWK{Kty: "OKP", Crv: "Ed25519", X: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
	if got, want := edKey.Thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"; got != want {
		t.Errorf("Ed25519 thumbprint = %s, want %s", got, want)
	}
}

func TestJWKRefused(t *testing.T) {
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	rs, _ := rsa.GenerateKey(rand.Reader, 2048)
	ecKey, _ := NewJWK("k", &ec.PublicKey)
	rsKey, _ := NewJWK("k", &rs.PublicKey)
	change := func(k JWK, f func(*JWK)) JWK { f(&k); return k }
	for name, k := range map[string]JWK{
		"fail/symmetric":         {Kty: "oct", Kid: "k", Alg: "HS256", Use: "sig"},
		"fail/no kid":            change(ecKey, func(k *JWK) { k.Kid = "" }),
		"fail/no alg":            change(ecKey, func(k *JWK) { k.Alg = "" }),
		"fail/EC key for RS256":  change(ecKey, func(k *JWK) { k.Alg = RS256 }),
		"fail/RSA key for PS256": change(rsKey, func(k *JWK) { k.Alg = "PS256" }),
		"fail/encryption key":    change(ecKey, func(k *JWK) { k.Use = "enc" }),
		"fail/off the curve":     change(ecKey, func(k *JWK) { k.X = k.Y }),
		"fail/short coordinate":  change(ecKey, func(k *JWK) { k.X = k.X[:40] }),
		"fail/padded coordinate": change(ecKey, func(k *JWK) { k.X += "=" }),
		"fail/line break":        change(ecKey, func(k *JWK) { k.X = k.X[:20] + "\n" + k.X[20:] }),
		"fail/other curve":       change(ecKey, func(k *JWK) { k.Crv = "P-384" }),
		"fail/RSA of 1024 bits":  change(rsKey, func(k *JWK) { k.N = k.N[:171] }),
		"fail/RSA exponent 1":    change(rsKey, func(k *JWK) { k.E = "AQ" }),
		"fail/RSA exponent huge": change(rsKey, func(k *JWK) { k.E = "AQAAAAAAAAAAAQ" }),
	} {
		t.Run(name, func(t *testing.T) {
			if p, err := k.Public(); !errors.Is(err, ErrKey) {
				t.Errorf("Public = %v, %v, want ErrKey", p, err)
			}
		})
	}
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	for name, public := range map[string]any{
		"fail/P-384":         &p384.PublicKey,
		"fail/short Ed25519": ed25519.PublicKey("x"),
		"fail/secret":        []byte("x"),
	} {
		if _, err := NewJWK("k", public); !errors.Is(err, ErrKey) {
			t.Errorf("%s: NewJWK = %v, want ErrKey", name, err)
		}
	}
}
