package oauth

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/token"
	"github.com/handstamp/handstamp/pkg/user"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// idClaims are the claims of an ID token (OpenID Connect Core, section 2). A client's own browser code or log may keep the
// token, so those of the person stand in it only where the client's registration says so. It never has token_use, client_id and
// jti, which tell an access token of the same type apart.
type idClaims struct {
	Issuer    string   `json:"iss"`
	Subject   string   `json:"sub"`
	Audience  string   `json:"aud"`
	ExpiresAt int64    `json:"exp"`
	IssuedAt  int64    `json:"iat"`
	AuthTime  int64    `json:"auth_time"`
	Nonce     string   `json:"nonce,omitempty"`
	ATHash    string   `json:"at_hash,omitempty"`
	AMR       []string `json:"amr,omitempty"`
	ACR       string   `json:"acr,omitempty"`
	SessionID string   `json:"sid"`

	PersonClaims

	groupsClaim string // the name under which roles stand; empty for none
	roles       []string
}

// MarshalJSON implements json.Marshaler: it adds the claim whose name the client has chosen.
func (c idClaims) MarshalJSON() ([]byte, error) {
	type plain idClaims
	object, err := json.Marshal(plain(c))
	if err != nil || c.groupsClaim == "" {
		return object, err
	}
	name, err := json.Marshal(c.groupsClaim)
	if err != nil {
		return nil, err
	}
	roles, err := json.Marshal(append([]string{}, c.roles...)) // a list, also an empty one
	if err != nil {
		return nil, err
	}
	object = append(append(append(object[:len(object)-1], ','), name...), ':')
	return append(append(object, roles...), '}'), nil
}

// PersonClaims are what ID tokens and userinfo say about the user (OpenID Connect Core, section 5.1). Those that the scope
// does not grant, and those that are not known, are left out (section 5.3.2).
type PersonClaims struct {
	Email         string `json:"email,omitempty"`
	EmailVerified *bool  `json:"email_verified,omitempty"`
	Name          string `json:"name,omitempty"`
	user.Profile
	UpdatedAt int64 `json:"updated_at,omitempty"`
}

// personOf returns what a scope grants of a user (OpenID Connect Core, section 5.4).
func personOf(u user.User, scope []string) (p PersonClaims) {
	if slices.Contains(scope, "email") {
		p.Email, p.EmailVerified = u.Email, new(!u.EmailVerifiedAt.IsZero())
	}
	if slices.Contains(scope, "profile") {
		p.Name, p.Profile, p.UpdatedAt = u.Name, u.Profile, u.UpdatedAt.Unix()
		if p.PreferredUsername == "" {
			p.PreferredUsername = p.Email // what the scope grants of it: many libraries show nothing else
		}
	}
	return p
}

// personClaims are the names of the claims about a person, those that the service knows and those that libraries expect to be so.
func personClaims() []string {
	return []string{"name", "given_name", "family_name", "middle_name", "nickname", "preferred_username", "profile", "picture",
		"website", "email", "email_verified", "gender", "birthdate", "zoneinfo", "locale", "phone_number", "phone_number_verified",
		"address", "updated_at"}
}

// addIDToken adds an ID token to a response whose scope has openid. u is the user, nil if the client is told nothing of people
// in ID tokens.
func (s *Server) addIDToken(ctx context.Context, r *TokenResponse, c Client, issued session.Issued, u *user.User,
	nonce string) error {
	scope := strings.Fields(r.Scope)
	if !slices.Contains(scope, "openid") {
		return nil
	}
	// ES256, EdDSA as signed here and RS256 all take SHA-256, but for EdDSA: see PROTOCOL.md
	hash := sha256.Sum256([]byte(r.AccessToken))
	claims := idClaims{
		Issuer:    s.config.Issuer,
		Subject:   issued.UserID,
		Audience:  c.ID,
		ExpiresAt: issued.IATFloor + int64(s.config.AccessTokenLifetime.Seconds()),
		IssuedAt:  issued.IATFloor,
		AuthTime:  issued.AuthTime.Unix(),
		Nonce:     nonce,
		ATHash:    base64.RawURLEncoding.EncodeToString(hash[:len(hash)/2]),
		AMR:       issued.AMR, ACR: issued.ACR, SessionID: issued.ID.String(),
		groupsClaim: c.GroupsClaim, roles: issued.Roles,
	}
	if u != nil && c.ClaimsInIDToken() {
		claims.PersonClaims = personOf(*u, scope)
	}
	raw, err := s.minter.Sign(ctx, token.TypeID, c.OwnAlgorithm(), claims)
	r.IDToken = raw
	return err
}

// UserInfo answers the userinfo endpoint (OpenID Connect Core, section 5.3) for a verified access token with the scope openid.
func (s *Server) UserInfo(ctx context.Context, claims *verifier.Claims) (PersonClaims, error) {
	u, err := s.store.UserByID(ctx, claims.Subject)
	if errors.Is(err, user.ErrNotFound) {
		return PersonClaims{}, verifier.ErrInvalid
	}
	if err != nil {
		return PersonClaims{}, err
	}
	return personOf(u, claims.Scope), nil
}
