package oauth

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/token"
	"github.com/handstamp/handstamp/pkg/user"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// idClaims are the claims of an ID token (OpenID Connect Core, section 2). Personal data stand in userinfo, where a
// client fetches them with the scope that it was granted (section 5.4), not in a token that travels through the
// browser's history and logs.
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
}

// addIDToken adds an ID token to a response whose scope has openid.
func (s *Server) addIDToken(ctx context.Context, r *TokenResponse, c Client, issued session.Issued, u user.User,
	nonce string) error {
	if !slices.Contains(strings.Fields(r.Scope), "openid") {
		return nil
	}
	// ES256, EdDSA as signed here and RS256 all take SHA-256, but for EdDSA: see PROTOCOL.md
	hash := sha256.Sum256([]byte(r.AccessToken))
	claims := idClaims{
		Issuer:    s.config.Issuer,
		Subject:   u.ID,
		Audience:  c.ID,
		ExpiresAt: issued.IATFloor + int64(s.config.AccessTokenLifetime.Seconds()),
		IssuedAt:  issued.IATFloor,
		AuthTime:  issued.AuthTime.Unix(),
		Nonce:     nonce,
		ATHash:    base64.RawURLEncoding.EncodeToString(hash[:len(hash)/2]),
		AMR:       issued.AMR, ACR: issued.ACR, SessionID: issued.ID.String(),
	}
	raw, err := s.minter.Sign(ctx, token.TypeID, c.Algorithm, claims)
	r.IDToken = raw
	return err
}

// UserInfo is the answer of the userinfo endpoint (OpenID Connect Core, section 5.3).
type UserInfo struct {
	Subject       string
	Email         string // with the scope email
	EmailVerified bool
	HasEmail      bool
	Name          string // with the scope profile
	HasProfile    bool
	UpdatedAt     time.Time
}

// UserInfo answers the userinfo endpoint for a verified access token with the scope openid.
func (s *Server) UserInfo(ctx context.Context, claims *verifier.Claims) (UserInfo, error) {
	u, err := s.store.UserByID(ctx, claims.Subject)
	if errors.Is(err, user.ErrNotFound) {
		return UserInfo{}, verifier.ErrInvalid
	}
	if err != nil {
		return UserInfo{}, err
	}
	info := UserInfo{Subject: u.ID, HasEmail: claims.HasScope("email"), HasProfile: claims.HasScope("profile")}
	if info.HasEmail {
		info.Email, info.EmailVerified = u.Email, !u.EmailVerifiedAt.IsZero()
	}
	if info.HasProfile {
		info.Name, info.UpdatedAt = u.Name, u.UpdatedAt
	}
	return info, nil
}
