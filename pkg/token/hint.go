package token

import (
	"errors"
	"fmt"

	"github.com/golang-jwt/jwt/v5"

	"github.com/handstamp/handstamp/pkg/verifier"
)

// ErrHint says that a text is no ID token of this issuer.
var ErrHint = errors.New("token: not an ID token of this issuer")

// Hint is what an ID token says that a client hands back to its issuer (OpenID Connect RP-Initiated Logout 1.0, section 2).
type Hint struct {
	Subject   string
	ClientID  string // aud
	SessionID string // sid
}

// ParseHint reads an ID token that this issuer signed. It may have expired. It proves only that its holder was once
// the token's client. ErrHint.
func ParseHint(raw, issuer string, keys func(kid string) (*verifier.Key, bool)) (Hint, error) {
	if len(raw) > verifier.MaxTokenSize {
		return Hint{}, ErrHint
	}
	var claims struct {
		jwt.RegisteredClaims
		SessionID string `json:"sid"`
		Use       string `json:"token_use"`
	}
	parser := jwt.NewParser(jwt.WithoutClaimsValidation(), jwt.WithStrictDecoding(),
		jwt.WithValidMethods([]string{verifier.ES256, verifier.EdDSA, verifier.RS256}))
	parsed, err := parser.ParseWithClaims(raw, &claims, func(t *jwt.Token) (any, error) {
		kid, _ := t.Header["kid"].(string)
		key, ok := keys(kid)
		if !ok || t.Header["typ"] != string(TypeID) || t.Header["alg"] != key.Algorithm() || len(t.Header) != 3 {
			return nil, ErrHint
		}
		return key.Public(), nil
	})
	if err != nil || !parsed.Valid {
		return Hint{}, fmt.Errorf("%w: %w", ErrHint, err)
	}
	if claims.Use != "" { // an access token of the same type
		return Hint{}, ErrHint
	}
	if claims.Issuer != issuer || len(claims.Audience) != 1 || claims.Subject == "" {
		return Hint{}, ErrHint
	}
	return Hint{Subject: claims.Subject, ClientID: claims.Audience[0], SessionID: claims.SessionID}, nil
}
