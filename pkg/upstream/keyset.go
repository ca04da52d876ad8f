package upstream

import (
	"context"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	keysAge     = 15 * time.Minute // a key that the provider withdraws is believed no longer than this
	keysRefetch = 30 * time.Second // an unknown kid, which anybody can write, causes one fetch in this time
)

// signatureAlgorithms may sign an ID token: asymmetric ones only. With HS256 a client secret would be a signing key, and
// none is no signature at all (RFC 8725, sections 2.1 and 3.1).
func signatureAlgorithms() []string {
	return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
}

var (
	errToken     = errors.New("not a signed ID token")
	errSignature = errors.New("not signed by a key of the provider")
)

// providerKey is a key with the member that Microsoft adds: the issuer whose tokens it may sign.
type providerKey struct {
	jose.JSONWebKey
	issuer string
}

// keySet verifies signatures with the provider's published keys. It is go-oidc's KeySet without its habit to fetch anew
// for every unknown kid and to keep a key that the provider has withdrawn; and it holds a key to its alg and use.
type keySet struct {
	algorithms []jose.SignatureAlgorithm
	keys       *cached[[]providerKey]
}

func newKeySet(p *Provider, address string, algorithms []string) *keySet {
	s := &keySet{keys: newCached(func(ctx context.Context, _ []providerKey) ([]providerKey, error) {
		return p.fetchKeys(ctx, address)
	})}
	for _, a := range algorithms {
		s.algorithms = append(s.algorithms, jose.SignatureAlgorithm(a))
	}
	return s
}

func (p *Provider) fetchKeys(ctx context.Context, address string) ([]providerKey, error) {
	var document struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := get(ctx, p.client, address, "", &document); err != nil {
		return nil, err
	}
	var keys []providerKey
	for _, raw := range document.Keys {
		key, err := parseKey(raw)
		switch {
		case err != nil: // RFC 7517, section 5: keys of kinds that are not understood are passed over
			p.passOver(ctx, "key", err)
		case key.Use == "" || key.Use == "sig":
			keys = append(keys, key)
		}
	}
	return keys, nil
}

// parseKey reads a key from the members that a signature needs. Others, such as a certificate, may say what they like.
func parseKey(raw json.RawMessage) (providerKey, error) {
	all, err := parseClaims(raw)
	if err != nil {
		return providerKey{}, err
	}
	needed := claims{}
	for _, name := range []string{"kty", "kid", "use", "alg", "n", "e", "crv", "x", "y", "d", "k"} {
		if all.text(name) != "" {
			needed[name] = all[name]
		}
	}
	key := providerKey{issuer: all.text("issuer")}
	if key.UnmarshalJSON(needed.encode()) != nil || !key.Valid() || !key.IsPublic() {
		return providerKey{}, errors.New("it is no public key of a kind that is understood")
	}
	if modulus, ok := key.Key.(*rsa.PublicKey); ok && modulus.N.BitLen() < 2048 {
		return providerKey{}, errors.New("it is an RSA key of less than 2048 bits")
	}
	return key, nil
}

// VerifySignature implements oidc.KeySet.
func (s *keySet) VerifySignature(ctx context.Context, raw string) ([]byte, error) {
	if err := checkHeader(raw); err != nil {
		return nil, err
	}
	token, err := jose.ParseSignedCompact(raw, s.algorithms)
	if err != nil {
		return nil, errToken
	}
	keys, err := s.keys.load(ctx, keysAge)
	if err != nil {
		return nil, err
	}
	payload, err := verifyWith(keys, token)
	if err == nil {
		return payload, nil
	}
	if keys, err = s.keys.load(ctx, keysRefetch); err != nil {
		return nil, err
	}
	return verifyWith(keys, token)
}

func verifyWith(keys []providerKey, token *jose.JSONWebSignature) ([]byte, error) {
	header := token.Signatures[0].Header
	if header.KeyID == "" && len(keys) != 1 {
		return nil, errSignature // OpenID Connect Core 1.0, section 10.1: with several keys there must be a kid
	}
	for _, key := range keys {
		if header.KeyID != "" && header.KeyID != key.KeyID || key.Algorithm != "" && key.Algorithm != header.Algorithm {
			continue
		}
		if payload, err := token.Verify(key.JSONWebKey); err == nil && key.maySign(payload) {
			return payload, nil
		}
	}
	return nil, errSignature
}

// maySign reports whether the key is one for tokens of this issuer. At Microsoft a key can belong to a single tenant; its
// tokens must not speak for others.
func (k providerKey) maySign(payload []byte) bool {
	if k.issuer == "" {
		return true
	}
	claims, err := parseClaims(payload)
	return err == nil && claims.text("iss") == strings.ReplaceAll(k.issuer, tenantPlaceholder, claims.text("tid"))
}

// checkHeader refuses headers that change what a signature means, and tokens which say that they are of another kind
// (RFC 8725, section 3.11).
func checkHeader(raw string) error {
	encoded, _, _ := strings.Cut(raw, ".")
	text, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return errToken
	}
	header, err := parseClaims(text)
	if err != nil {
		return errToken
	}
	for _, name := range []string{"crit", "b64", "zip", "enc", "cty"} {
		if _, found := header[name]; found {
			return errToken
		}
	}
	kind := strings.TrimPrefix(strings.ToLower(header.text("typ")), "application/")
	if !slices.Contains([]string{"", "jwt", "id+jwt", "id_token+jwt"}, kind) {
		return errToken
	}
	return nil
}
