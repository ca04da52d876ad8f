package peers

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	josejwt "github.com/go-jose/go-jose/v4/jwt"
	"github.com/golang-jwt/jwt/v5"
	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"
	jwxjwt "github.com/lestrrat-go/jwx/v3/jwt"

	"github.com/handstamp/handstamp/pkg/verifier"
)

const (
	issuer   = "https://login.example.com"
	audience = "https://api.example.com"
	subject  = "usr_aaaaaaaaaaaaaaaaaaaaaaaaaa"
	kid      = "key-1"
)

// sample is one token, its key, and the key set that a library would have fetched, in memory.
type sample struct {
	alg    string
	raw    string
	public crypto.PublicKey
	jwks   []byte
}

func newSample(t testing.TB, alg string) sample {
	t.Helper()
	var (
		key    crypto.Signer
		method jwt.SigningMethod
		err    error
	)
	switch alg {
	case verifier.ES256:
		method = jwt.SigningMethodES256
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case verifier.EdDSA:
		method = jwt.SigningMethodEdDSA
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case verifier.RS256:
		method = jwt.SigningMethodRS256
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	must(t, err)
	now := time.Now().Unix()
	token := jwt.NewWithClaims(method, jwt.MapClaims{
		"iss":       issuer,
		"sub":       subject,
		"aud":       []string{audience},
		"exp":       now + 3600,
		"iat":       now,
		"jti":       "jti_bbbbbbbbbbbbbbbbbbbbbbbbbb",
		"client_id": "default",
		"sid":       "ses_cccccccccccccccccccccccccc",
		"scope":     "orders:read orders:write",
		"roles":     []string{"support"},
	})
	token.Header["kid"], token.Header["typ"] = kid, "at+jwt"
	raw, err := token.SignedString(key)
	must(t, err)
	public, err := verifier.NewJWK(kid, key.Public())
	must(t, err)
	set, err := json.Marshal(verifier.JWKSet{Keys: []verifier.JWK{public}})
	must(t, err)
	return sample{alg, raw, key.Public(), set}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var errClaims = errors.New("wrong claims")

// peer prepares everything that is done once, and returns what is done for each token: check the signature, the issuer,
// the audience and the times, and return the subject and the roles.
type peer struct {
	name    string
	prepare func(t testing.TB, s sample) func(raw string) (subject string, roles []string, err error)
}

// The reference, which checks the signature and nothing else, comes first; then ours.
func all() []peer {
	return []peer{
		{"bare-signature", bare}, {"handstamp", handstamp}, {"golang-jwt+keyfunc", golangJWT},
		{"go-jose", goJose}, {"go-oidc", goOIDC}, {"jwx", jwx},
	}
}

func bare(t testing.TB, s sample) func(string) (string, []string, error) {
	signed, encoded := s.raw[:strings.LastIndexByte(s.raw, '.')], s.raw[strings.LastIndexByte(s.raw, '.')+1:]
	signature, err := base64.RawURLEncoding.DecodeString(encoded)
	must(t, err)
	message := []byte(signed)
	var valid func() bool
	switch public := s.public.(type) {
	case *ecdsa.PublicKey:
		der, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])})
		must(t, err)
		valid = func() bool { hash := sha256.Sum256(message); return ecdsa.VerifyASN1(public, hash[:], der) }
	case ed25519.PublicKey:
		valid = func() bool { return ed25519.Verify(public, message, signature) }
	case *rsa.PublicKey:
		valid = func() bool {
			hash := sha256.Sum256(message)
			return rsa.VerifyPKCS1v15(public, crypto.SHA256, hash[:], signature) == nil
		}
	}
	roles := []string{"support"}
	return func(string) (string, []string, error) {
		if !valid() {
			return "", nil, errClaims
		}
		return subject, roles, nil
	}
}

func handstamp(t testing.TB, s sample) func(string) (string, []string, error) {
	key, err := verifier.NewKey(kid, s.public)
	must(t, err)
	blocked := verifier.NewBlockSet()
	v, err := verifier.New(t.Context(), issuer, verifier.WithAudience(audience),
		verifier.WithKeys(func(id string) (*verifier.Key, bool) { return key, id == kid }),
		verifier.WithBlocklist(func(_ context.Context, keys []verifier.BlockKey, iat int64) (bool, error) {
			return blocked.Blocked(keys, iat), nil
		}))
	must(t, err)
	t.Cleanup(v.Close)
	ctx := t.Context()
	return func(raw string) (string, []string, error) {
		c, err := v.Verify(ctx, raw)
		if err != nil {
			return "", nil, err
		}
		return c.Subject, c.Roles, nil
	}
}

func golangJWT(t testing.TB, s sample) func(string) (string, []string, error) {
	keys, err := keyfunc.NewJWKSetJSON(s.jwks)
	must(t, err)
	parser := jwt.NewParser(jwt.WithValidMethods([]string{s.alg}), jwt.WithIssuer(issuer), jwt.WithAudience(audience),
		jwt.WithExpirationRequired(), jwt.WithIssuedAt())
	return func(raw string) (string, []string, error) {
		var c struct {
			jwt.RegisteredClaims
			Roles []string `json:"roles"`
		}
		_, err := parser.ParseWithClaims(raw, &c, keys.Keyfunc)
		return c.Subject, c.Roles, err
	}
}

func goJose(t testing.TB, s sample) func(string) (string, []string, error) {
	var keys jose.JSONWebKeySet
	must(t, json.Unmarshal(s.jwks, &keys))
	algorithms := []jose.SignatureAlgorithm{jose.SignatureAlgorithm(s.alg)}
	return func(raw string) (string, []string, error) {
		token, err := josejwt.ParseSigned(raw, algorithms)
		if err != nil {
			return "", nil, err
		}
		var c struct {
			josejwt.Claims
			Roles []string `json:"roles"`
		}
		if err := token.Claims(&keys, &c); err != nil {
			return "", nil, err
		}
		return c.Subject, c.Roles, c.ValidateWithLeeway(josejwt.Expected{
			Issuer:      issuer,
			AnyAudience: []string{audience},
			Time:        time.Now(),
		}, 0)
	}
}

func goOIDC(t testing.TB, s sample) func(string) (string, []string, error) {
	v := oidc.NewVerifier(issuer, &oidc.StaticKeySet{PublicKeys: []crypto.PublicKey{s.public}},
		&oidc.Config{ClientID: audience, SupportedSigningAlgs: []string{s.alg}})
	ctx := t.Context()
	return func(raw string) (string, []string, error) {
		token, err := v.Verify(ctx, raw)
		if err != nil {
			return "", nil, err
		}
		var c struct {
			Roles []string `json:"roles"`
		}
		err = token.Claims(&c)
		return token.Subject, c.Roles, err
	}
}

func jwx(t testing.TB, s sample) func(string) (string, []string, error) {
	keys, err := jwk.ParseReader(bytes.NewReader(s.jwks))
	must(t, err)
	if _, ok := jwa.LookupSignatureAlgorithm(s.alg); !ok {
		t.Fatalf("jwx does not know %s", s.alg)
	}
	return func(raw string) (string, []string, error) {
		token, err := jwxjwt.ParseString(raw, jwxjwt.WithKeySet(keys, jws.WithRequireKid(true)), jwxjwt.WithIssuer(issuer),
			jwxjwt.WithAudience(audience))
		if err != nil {
			return "", nil, err
		}
		sub, _ := token.Subject()
		var listed []any
		if err := token.Get("roles", &listed); err != nil {
			return "", nil, err
		}
		roles := make([]string, 0, len(listed))
		for _, r := range listed {
			if role, ok := r.(string); ok {
				roles = append(roles, role)
			}
		}
		return sub, roles, nil
	}
}

func algorithms() []string { return []string{verifier.ES256, verifier.EdDSA, verifier.RS256} }

// Every peer really verifies: it returns what is in the token, and refuses it with another signature.
func TestPeers(t *testing.T) {
	for _, alg := range algorithms() {
		s := newSample(t, alg)
		other := newSample(t, alg)
		forged := s.raw[:strings.LastIndexByte(s.raw, '.')] + other.raw[strings.LastIndexByte(other.raw, '.'):]
		for _, p := range all() {
			t.Run(alg+"/"+p.name, func(t *testing.T) {
				verify := p.prepare(t, s)
				sub, roles, err := verify(s.raw)
				if err != nil || sub != subject || !slices.Equal(roles, []string{"support"}) {
					t.Errorf("verified: %q, %q, %v", sub, roles, err)
				}
				if p.name == "bare-signature" {
					return
				}
				if _, _, err := verify(forged); err == nil {
					t.Error("another token's signature is accepted")
				}
			})
		}
	}
}

// BenchmarkVerify is one token that no library remembers, with its keys in memory.
func BenchmarkVerify(b *testing.B) {
	for _, alg := range algorithms() {
		s := newSample(b, alg)
		for _, p := range all() {
			b.Run(alg+"/"+p.name, func(b *testing.B) {
				verify := p.prepare(b, s)
				b.ReportAllocs()
				for b.Loop() {
					if _, _, err := verify(s.raw); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
