package verifier

import (
	"context"
	"encoding/json"
	"fmt"
)

// Signed is what a JWT of the issuer says that is no access token. Only its author is certain: who it is for, when it holds and
// whether it was used before is for its reader to check.
type Signed struct {
	KeyID string // the kid of the key that signed it

	payload string
}

// Decode unmarshals the claim of exactly this name into v, as encoding/json does. It reports false if there is no such claim.
func (s *Signed) Decode(name string, v any) (bool, error) { return decodeClaim(s.payload, name, v) }

// VerifySigned returns what raw says if it is a JWT with exactly this typ that the issuer signed: an ID token (TypeJWT), a logout
// token (OpenID Connect Back-Channel Logout 1.0, section 2.4: "logout+jwt"). Its spelling is as strict as that of access tokens,
// and its iss is the issuer. A JWT that says it is an access token is refused, whatever its type. The caller checks the audience,
// the times and all else; the blocklist is not asked.
func (v *Verifier) VerifySigned(ctx context.Context, raw, typ string) (*Signed, error) {
	if typ == TypeAccessToken {
		return nil, fmt.Errorf("%w: Verify is for access tokens", ErrMalformed)
	}
	token, err := split(raw)
	if err != nil {
		return nil, err
	}
	h, err := parseHeader(token.header, []string{typ})
	if err != nil {
		return nil, err
	}
	key, err := v.key(ctx, h.kid)
	if err != nil {
		return nil, err
	}
	if h.alg != key.alg {
		return nil, fmt.Errorf("%w: alg is not the key's", ErrSignature)
	}
	if err := key.verify(token.signed, token.signature); err != nil {
		return nil, err
	}
	payload, err := decodePart(token.payload)
	if err != nil {
		return nil, err
	}
	members, ok := parseObject(payload, nil)
	if !ok {
		return nil, fmt.Errorf("%w: claims are not one strict JSON object", ErrMalformed)
	}
	var issuer string
	for _, m := range members {
		switch m.name {
		case "iss":
			issuer, _ = text(m.value)
		case "token_use":
			return nil, fmt.Errorf("%w: an access token", ErrMalformed)
		}
	}
	if issuer != v.issuer {
		return nil, ErrIssuer
	}
	return &Signed{KeyID: key.id, payload: payload}, nil
}

// decodeClaim unmarshals one member of a payload that was parsed before.
func decodeClaim(payload, name string, v any) (bool, error) {
	members, _ := parseObject(payload, nil)
	for _, m := range members {
		if m.name == name {
			if err := json.Unmarshal([]byte(m.value), v); err != nil {
				return true, fmt.Errorf("decode claim %s: %w", name, err)
			}
			return true, nil
		}
	}
	return false, nil
}
