package verifier

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Claims are what a verified access token says (RFC 9068, section 2.2). A Claims may be shared by several requests that carry the
// same token: do not change it.
type Claims struct {
	Issuer    string
	Subject   string    // the user's ID, or the client's ID for a token that a client got for itself
	Audience  []string  // at least one
	ExpiresAt time.Time // whole seconds, as are the times below
	IssuedAt  time.Time
	NotBefore time.Time // zero if the token has no nbf
	ID        string    // jti
	ClientID  string
	SessionID string    // sid; empty for a token without a session
	Scope     []string  // the scope claim, split at the spaces
	Roles     []string  // the user's roles when the token was minted
	AuthTime  time.Time // when the user last authenticated; zero if the token does not say
	AMR       []string  // how (RFC 8176)
	ACR       string    // how well
	KeyID     string    // the kid of the key that signed the token

	use     string // token_use
	payload string // the claims as signed
	key     *Key
	keys    [4]BlockKey // of jti, client_id, kid and, in the last place, sid
}

// HasScope reports whether the token carries all of the given scopes.
func (c *Claims) HasScope(scopes ...string) bool {
	for _, scope := range scopes {
		if !slices.Contains(c.Scope, scope) {
			return false
		}
	}
	return true
}

// HasRole reports whether the user had at least one of the given roles when the token was minted.
func (c *Claims) HasRole(roles ...string) bool {
	return slices.ContainsFunc(roles, func(role string) bool { return slices.Contains(c.Roles, role) })
}

// Decode unmarshals the claim of exactly this name into v, as encoding/json does. It reports false if the token has no
// such claim.
func (c *Claims) Decode(name string, v any) (bool, error) { return decodeClaim(c.payload, name, v) }

// blockKeys are the keys under which the blocklist may name this token: by jti, client_id, kid and, if it has one, sid.
func (c *Claims) blockKeys() []BlockKey {
	if c.SessionID == "" {
		return c.keys[:3]
	}
	return c.keys[:]
}

// parseClaims reads an authentic payload. It returns ErrMalformed if a required claim is missing, a claim that it knows
// has another JSON type than the standards give it, or a name is repeated. Claims that it does not know are left to
// Decode.
func parseClaims(payload string, key *Key) (*Claims, error) {
	var space [24]member
	members, ok := parseObject(payload, space[:0])
	if !ok {
		return nil, fmt.Errorf("%w: claims are not one strict JSON object", ErrMalformed)
	}
	c := &Claims{KeyID: key.id, payload: payload, key: key}
	for _, m := range members {
		ok := true
		switch m.name {
		case "iss":
			c.Issuer, ok = text(m.value)
		case "sub":
			c.Subject, ok = text(m.value)
		case "aud":
			c.Audience, ok = audience(m.value)
		case "exp":
			c.ExpiresAt, ok = instant(m.value)
		case "iat":
			c.IssuedAt, ok = instant(m.value)
		case "nbf":
			c.NotBefore, ok = instant(m.value)
		case "auth_time":
			c.AuthTime, ok = instant(m.value)
		case "jti":
			c.ID, ok = text(m.value)
		case "client_id":
			c.ClientID, ok = text(m.value)
		case "sid":
			c.SessionID, ok = text(m.value)
		case "acr":
			c.ACR, ok = text(m.value)
		case "scope": // may be empty; RFC 8693, section 4.2
			var scope string
			scope, ok = unquote(m.value)
			c.Scope = strings.Fields(scope)
		case "roles":
			c.Roles, ok = unquoteAll(m.value)
		case "amr":
			c.AMR, ok = unquoteAll(m.value)
		case "token_use":
			c.use, ok = text(m.value)
		}
		if !ok {
			return nil, fmt.Errorf("%w: claim %s", ErrMalformed, m.name)
		}
	}
	switch { // zero values are refused above, so a zero value is an absent claim
	case c.Issuer == "", c.Subject == "", c.Audience == nil, c.ExpiresAt.IsZero(), c.IssuedAt.IsZero(), c.ID == "", c.ClientID == "":
		return nil, fmt.Errorf("%w: a required claim is missing", ErrMalformed)
	case !c.ExpiresAt.After(c.IssuedAt):
		return nil, fmt.Errorf("%w: exp is not after iat", ErrMalformed)
	}
	c.keys = [4]BlockKey{KeyOf(BlockJTI, c.ID), KeyOf(BlockClient, c.ClientID), key.block}
	if c.SessionID != "" {
		c.keys[3] = KeyOf(BlockSID, c.SessionID)
	}
	return c, nil
}

// text reads a claim that is a string with something in it.
func text(value string) (string, bool) {
	s, ok := unquote(value)
	return s, ok && s != ""
}

// instant reads a NumericDate. RFC 7519 would allow fractions; we mint whole seconds, and one spelling is enough.
func instant(value string) (time.Time, bool) {
	n, ok := integer(value)
	return time.Unix(n, 0), ok
}

// audience reads one string or a list of at least one (RFC 7519, section 4.1.3).
func audience(value string) ([]string, bool) {
	if s, ok := text(value); ok {
		return []string{s}, true
	}
	list, ok := unquoteAll(value)
	return list, ok && len(list) > 0 && !slices.Contains(list, "")
}
