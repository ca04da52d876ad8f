// Package token mints what the service signs: access tokens, and the other JWTs that it gives out.
package token

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	mathrand "math/rand/v2"
	"time"

	"github.com/handstamp/handstamp/pkg/keyring"
)

// The types of tokens, which stand in the header so that none is taken for another (RFC 8725, section 3.11).
const (
	TypeAccess    = "at+jwt"        // RFC 9068, section 2.1
	TypeBlocklist = "blocklist+jwt" // a blocklist document
	TypeID        = "JWT"           // OpenID Connect ID token
	TypeLogout    = "logout+jwt"    // OpenID Connect Back-Channel Logout 1.0, section 2.4
)

// Signer is the part of the keyring that minting needs.
type Signer interface {
	Signer(ctx context.Context, algorithm string) (*keyring.SigningKey, error)
}

// Minter signs with the active key.
type Minter struct{ keys Signer }

// NewMinter returns a minter.
func NewMinter(keys Signer) *Minter { return &Minter{keys: keys} }

// Access is what an access token says (RFC 9068, section 2.2). Zero values are left out unless the comment says otherwise.
type Access struct {
	Algorithm string // empty for the service's
	Issuer    string
	Subject   string
	Audience  []string
	ClientID  string
	Scope     string // always there
	SessionID string
	Roles     []string // an array whenever there is a session
	AuthTime  time.Time
	AMR       []string
	ACR       string
	IssuedAt  int64         // Unix seconds
	Lifetime  time.Duration // shortened by up to 5 % at random, so that refreshes do not come in waves
}

// Token is a minted token.
type Token struct {
	Raw       string
	ID        string // jti
	ExpiresAt time.Time
	ExpiresIn time.Duration // from IssuedAt, whole seconds
}

// accessClaims fixes the order of the claims.
type accessClaims struct {
	Issuer    string   `json:"iss"`
	Subject   string   `json:"sub"`
	Audience  any      `json:"aud"`
	ExpiresAt int64    `json:"exp"`
	IssuedAt  int64    `json:"iat"`
	ID        string   `json:"jti"`
	ClientID  string   `json:"client_id"`
	Scope     string   `json:"scope"`
	SessionID string   `json:"sid,omitempty"`
	Roles     []string `json:"roles,omitzero"`
	AuthTime  int64    `json:"auth_time,omitempty"`
	AMR       []string `json:"amr,omitempty"`
	ACR       string   `json:"acr,omitempty"`
}

// Mint makes an access token. keyring.ErrNotReady and keyring.ErrUnknownAlgorithm.
func (m *Minter) Mint(ctx context.Context, a Access) (Token, error) {
	lifetime := a.Lifetime - mathrand.N(a.Lifetime/20+1) //nolint:gosec // spreads load, hides nothing
	seconds := int64(lifetime / time.Second)
	t := Token{ID: rand.Text(), ExpiresIn: time.Duration(seconds) * time.Second, ExpiresAt: time.Unix(a.IssuedAt+seconds, 0).UTC()}
	claims := accessClaims{
		Issuer: a.Issuer, Subject: a.Subject, Audience: a.Audience, ExpiresAt: a.IssuedAt + seconds, IssuedAt: a.IssuedAt, ID: t.ID,
		ClientID: a.ClientID, Scope: a.Scope, SessionID: a.SessionID, AMR: a.AMR, ACR: a.ACR,
	}
	if len(a.Audience) == 1 {
		claims.Audience = a.Audience[0]
	}
	if a.SessionID != "" {
		if claims.Roles = a.Roles; claims.Roles == nil {
			claims.Roles = []string{}
		}
	}
	if !a.AuthTime.IsZero() {
		claims.AuthTime = a.AuthTime.Unix()
	}
	var err error
	t.Raw, err = m.Sign(ctx, TypeAccess, a.Algorithm, claims)
	return t, err
}

// Sign makes a JWS of a type over claims with the active key of an algorithm (empty for the service's).
func (m *Minter) Sign(ctx context.Context, typ, algorithm string, claims any) (string, error) {
	key, err := m.keys.Signer(ctx, algorithm)
	if err != nil {
		return "", err
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("encode claims: %w", err)
	}
	header := fmt.Appendf(nil, `{"alg":%q,"kid":%q,"typ":%q}`, key.Algorithm, key.ID, typ)
	out := make([]byte, 0, 2*(len(header)+len(payload))+512)
	out = base64.RawURLEncoding.AppendEncode(out, header)
	out = append(out, '.')
	out = base64.RawURLEncoding.AppendEncode(out, payload)
	signature, err := key.AppendSignature(nil, out)
	if err != nil {
		return "", fmt.Errorf("sign: %w", err)
	}
	out = append(out, '.')
	return string(base64.RawURLEncoding.AppendEncode(out, signature)), nil
}
