// Package token mints access tokens (RFC 9068) and signs the other JWTs of the authorization server, with the active keys
// of a keyring.
package token

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/handstamp/handstamp/pkg/clock"
	"github.com/handstamp/handstamp/pkg/keyring"
	"github.com/handstamp/handstamp/pkg/user"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// Type is the typ of a JWT's header. Each kind of token has its own, so that none is taken for another (RFC 8725,
// section 3.11).
type Type string

// The types that Sign signs. Access tokens are made by Mint alone.
const (
	TypeID        Type = "JWT"           // ID token (OpenID Connect Core, section 2)
	TypeLogout    Type = "logout+jwt"    // logout token (OpenID Connect Back-Channel Logout, section 2.4)
	TypeBlocklist Type = "blocklist+jwt" // the feed of blocked tokens

	TypeStatusList Type = "statuslist+jwt" // status list (draft-ietf-oauth-status-list, section 5.1)

	TypeSecurityEvent Type = "secevent+jwt" // security event token (RFC 8417, section 2.3)
)

const typeAccess Type = verifier.TypeAccessToken

// ErrClaims is returned for claims that no token may carry. It is a mistake of the caller, or of a hook that adds claims;
// nothing was signed.
var ErrClaims = errors.New("token: invalid claims")

// Keys are the keys to sign with; a *keyring.Keyring.
type Keys interface {
	// Signer returns the active key of the algorithm, or of the default algorithm for "".
	Signer(ctx context.Context, algorithm string) (*keyring.SigningKey, error)
	// TokenLifetime returns the longest lifetime that a token may have.
	TokenLifetime() time.Duration
}

// Minter signs tokens of one issuer. It is safe for use by several goroutines.
type Minter struct {
	issuer string
	keys   Keys
	clock  *clock.Clock
}

// NewMinter returns a Minter of tokens whose iss is the issuer. A nil clock is the machine's.
func NewMinter(issuer string, keys Keys, clock *clock.Clock) *Minter {
	return &Minter{issuer: issuer, keys: keys, clock: clock}
}

// Now is the time by which the minter dates tokens.
func (m *Minter) Now() time.Time { return m.clock.Now() }

// Access says what an access token is to carry.
type Access struct {
	Subject   string    // sub: a user's ID, or the client's ID for a token that a client gets for itself
	Audience  []string  // aud; at least one
	ClientID  string    // client_id
	Scope     string    // scope; always there, also empty
	SessionID string    // sid; left out if empty
	Roles     []string  // roles; always a list, also an empty one
	AuthTime  time.Time // auth_time; left out if zero
	AMR       []string  // amr (RFC 8176); left out if empty
	ACR       string    // acr; left out if empty
	Status    Status    // status; left out if its URI is empty
	IssuedAt  time.Time // iat, cut to seconds; now if zero
	// the longest time to exp; it is shortened by up to 5 % at random, so that refreshes do not come in waves
	Lifetime  time.Duration
	Algorithm string // the default algorithm if empty
	// verifier.TypeAccessToken if empty, or verifier.TypeJWT for resource servers that refuse that. ID tokens have the latter
	// too, so a claim tells the two apart: token_use, which no ID token has.
	Type  string
	Extra map[string]any // further claims; they cannot replace those above, see Reserved
}

// Status says where a status list tells whether the token is revoked (draft-ietf-oauth-status-list, section 6.2).
type Status struct {
	Index int    `json:"idx"`
	URI   string `json:"uri"`
}

// Minted is an access token.
type Minted struct {
	Raw       string
	ID        string    // jti
	IssuedAt  time.Time // iat
	ExpiresAt time.Time // exp
}

// Reserved reports whether a claim's name is one that only the authorization server itself gives a meaning: a hook or a
// client's metadata must not set it. Letter case is ignored, for some verifiers ignore it, too.
func Reserved(name string) bool {
	for _, reserved := range [...]string{
		"iss", "sub", "aud", "exp", "nbf", "iat", "jti", // RFC 7519, section 4.1
		"client_id", "scope", "auth_time", "amr", "acr", // RFC 9068, section 2.2
		"roles", "groups", "entitlements", // RFC 9068, section 2.2.3.1
		"sid", "azp", "nonce", "at_hash", "c_hash", "events", // OpenID Connect
		"act", "may_act", // RFC 8693, section 4
		"cnf", "authorization_details", "token_use", "typ", // RFC 7800, RFC 9396
		"status", // draft-ietf-oauth-status-list
	} {
		if strings.EqualFold(name, reserved) {
			return true
		}
	}
	return false
}

// Mint signs an access token. The error is ErrClaims, or one of keyring.Signer.
func (m *Minter) Mint(ctx context.Context, access Access) (Minted, error) {
	if err := m.check(access); err != nil {
		return Minted{}, err
	}
	key, err := m.keys.Signer(ctx, access.Algorithm)
	if err != nil {
		return Minted{}, err
	}
	var random [20]byte
	_, _ = rand.Read(random[:]) // never fails
	minted := Minted{ID: base64.RawURLEncoding.EncodeToString(random[:16]), IssuedAt: access.IssuedAt}
	if minted.IssuedAt.IsZero() {
		minted.IssuedAt = m.Now()
	}
	minted.IssuedAt = minted.IssuedAt.UTC().Truncate(time.Second)
	minted.ExpiresAt = minted.IssuedAt.Add(shorten(access.Lifetime, binary.NativeEndian.Uint32(random[16:])))

	var space [1024]byte // enough for nearly all, and then on the stack
	claims, err := m.appendClaims(space[:0], access, minted)
	if err != nil {
		return Minted{}, err
	}
	minted.Raw, err = sign(key, cmp.Or(Type(access.Type), typeAccess), claims)
	return minted, err
}

// shorten takes up to a twentieth off a lifetime, in whole seconds; random is uniform.
func shorten(lifetime time.Duration, random uint32) time.Duration {
	seconds := int64(lifetime / time.Second)
	return time.Duration(seconds-int64(random)%(seconds/20+1)) * time.Second
}

func (m *Minter) check(access Access) error {
	switch {
	case access.Subject == "", access.ClientID == "", len(access.Audience) == 0, slices.Contains(access.Audience, ""):
		return fmt.Errorf("%w: sub, client_id and aud are required", ErrClaims)
	case strings.HasPrefix(access.ClientID, user.IDPrefix):
		// A client that is named like a user would get that user's subject in a token for itself (RFC 9068, section 5).
		return fmt.Errorf("%w: client_id %q has the form of a user ID", ErrClaims, access.ClientID)
	case access.Type != "" && access.Type != verifier.TypeAccessToken && access.Type != verifier.TypeJWT:
		return fmt.Errorf("%w: %q is no type of access tokens", ErrClaims, access.Type)
	case access.Lifetime < time.Second:
		return fmt.Errorf("%w: lifetime %v", ErrClaims, access.Lifetime)
	case access.Lifetime > m.keys.TokenLifetime():
		return fmt.Errorf("%w: lifetime %v is longer than keys stay published, %v", ErrClaims, access.Lifetime, m.keys.TokenLifetime())
	}
	for name := range access.Extra {
		if Reserved(name) {
			return fmt.Errorf("%w: claim %q is reserved", ErrClaims, name)
		}
	}
	return nil
}

// appendClaims writes the claims by hand: without allocations, and without the replacement characters that encoding/json
// puts where text is not UTF-8.
func (m *Minter) appendClaims(b []byte, access Access, minted Minted) ([]byte, error) {
	valid := true
	text := func(name, value string) {
		b = append(append(append(b, '"'), name...), `":`...)
		b = appendString(b, value, &valid)
		b = append(b, ',')
	}
	number := func(name string, at time.Time) {
		b = append(append(append(b, '"'), name...), `":`...)
		b = append(strconv.AppendInt(b, at.Unix(), 10), ',')
	}
	list := func(name string, values []string) {
		b = append(append(append(b, '"'), name...), `":[`...)
		for i, value := range values {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendString(b, value, &valid)
		}
		b = append(b, `],`...)
	}
	b = append(b, '{')
	text("iss", m.issuer)
	text("sub", access.Subject)
	if len(access.Audience) == 1 { // RFC 7519, section 4.1.3; some verifiers know only this form
		text("aud", access.Audience[0])
	} else {
		list("aud", access.Audience)
	}
	number("exp", minted.ExpiresAt)
	number("iat", minted.IssuedAt)
	text("jti", minted.ID)
	text("client_id", access.ClientID)
	text("scope", access.Scope)
	if access.Type == verifier.TypeJWT {
		text("token_use", verifier.TokenUseAccess)
	}
	if access.SessionID != "" {
		text("sid", access.SessionID)
	}
	list("roles", access.Roles)
	if !access.AuthTime.IsZero() {
		number("auth_time", access.AuthTime)
	}
	if len(access.AMR) > 0 {
		list("amr", access.AMR)
	}
	if access.ACR != "" {
		text("acr", access.ACR)
	}
	if access.Status.URI != "" {
		b = strconv.AppendInt(append(b, `"status":{"status_list":{"idx":`...), int64(access.Status.Index), 10)
		b = append(b, ',')
		text("uri", access.Status.URI)
		b = append(b[:len(b)-1], `}},`...)
	}
	b[len(b)-1] = '}'
	if !valid {
		return nil, fmt.Errorf("%w: not UTF-8", ErrClaims)
	}
	if len(access.Extra) == 0 {
		return b, nil
	}
	extra, err := marshal(access.Extra)
	if err != nil {
		return nil, err
	}
	b[len(b)-1] = ','
	return append(b, extra[1:]...), nil
}

// appendString appends a JSON string (RFC 8259, section 7). Text that is not UTF-8 has no JSON form; valid is set to false
// then, for what encoding/json would write is another text.
func appendString(b []byte, s string, valid *bool) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	from := 0
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' {
			b = append(b, s[from:i]...)
			if from = i + 1; c < ' ' {
				b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			} else {
				b = append(b, '\\', c)
			}
		}
	}
	*valid = *valid && utf8.ValidString(s)
	return append(append(b, s[from:]...), '"')
}

// Sign signs a JWT of a type with the algorithm, or the default one for "". The claims are anything that encoding/json
// writes as an object, exp included where it is wanted: a token that lives longer than the keyring's TokenLifetime may
// lose its key. The error is ErrClaims, or one of keyring.Signer.
func (m *Minter) Sign(ctx context.Context, typ Type, algorithm string, claims any) (string, error) {
	if !slices.Contains([]Type{TypeID, TypeLogout, TypeBlocklist, TypeStatusList, TypeSecurityEvent}, typ) {
		return "", fmt.Errorf("%w: Sign does not sign type %q", ErrClaims, typ)
	}
	payload, err := marshal(claims)
	if err != nil {
		return "", err
	}
	key, err := m.keys.Signer(ctx, algorithm)
	if err != nil {
		return "", err
	}
	return sign(key, typ, payload)
}

// marshal writes an object without the escapes that encoding/json makes for HTML.
func marshal(claims any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(claims); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrClaims, err)
	}
	object := bytes.TrimSpace(b.Bytes())
	if object[0] != '{' {
		return nil, fmt.Errorf("%w: %T is not an object", ErrClaims, claims)
	}
	return object, nil
}

// sign makes the compact form of a JWS (RFC 7515, section 7.1) with the header alg, kid, typ and nothing else.
func sign(key *keyring.SigningKey, typ Type, payload []byte) (string, error) {
	var headerSpace [160]byte
	header := append(headerSpace[:0], `{"alg":"`...)
	header = append(header, key.Algorithm...)
	header = append(header, `","kid":"`...)
	header = append(header, key.ID...) // base64url: nothing to escape
	header = append(header, `","typ":"`...)
	header = append(header, typ...)
	header = append(header, `"}`...)

	encoding := base64.RawURLEncoding
	raw := make([]byte, 0, encoding.EncodedLen(len(header))+encoding.EncodedLen(len(payload))+encoding.EncodedLen(256)+2)
	raw = append(encoding.AppendEncode(raw, header), '.')
	raw = encoding.AppendEncode(raw, payload)
	var signatureSpace [256]byte
	signature, err := key.AppendSignature(signatureSpace[:0], raw)
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	raw = append(raw, '.')
	return string(encoding.AppendEncode(raw, signature)), nil
}
