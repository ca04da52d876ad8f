package oauth2

import (
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/pkg/oauth"
)

// introspect is POST /oauth2/introspect (RFC 7662).
func (r *Room) introspect(c echo.Context) error {
	request, err := door.ReadForm(c)
	if err != nil {
		return err
	}
	answer, err := r.OAuth.Introspect(c.Request().Context(), request)
	if err != nil {
		return err
	}
	door.NoStore(c.Response().Header())
	return door.WriteJSON(c, http.StatusOK, "application/json", introspectionBodyOf(answer, r.Issuer))
}

// introspectionBody is RFC 7662, section 2.2. Everything but active is left out for a token that is not.
type introspectionBody struct {
	Active    bool     `json:"active"`
	Scope     *string  `json:"scope,omitempty"`
	ClientID  string   `json:"client_id,omitempty"`
	TokenType string   `json:"token_type,omitempty"`
	ExpiresAt int64    `json:"exp,omitempty"`
	IssuedAt  int64    `json:"iat,omitempty"`
	Subject   string   `json:"sub,omitempty"`
	Audience  []string `json:"aud,omitempty"`
	Issuer    string   `json:"iss,omitempty"`
	ID        string   `json:"jti,omitempty"`
	SessionID string   `json:"sid,omitempty"`
	Roles     []string `json:"roles,omitempty"`
	AuthTime  int64    `json:"auth_time,omitempty"`
}

func introspectionBodyOf(i oauth.Introspection, issuer string) introspectionBody {
	if !i.Active {
		return introspectionBody{}
	}
	unix := func(t time.Time) int64 {
		if t.IsZero() {
			return 0
		}
		return t.Unix()
	}
	return introspectionBody{
		Active:    true,
		Scope:     &i.Scope,
		ClientID:  i.ClientID,
		TokenType: i.TokenType,
		ExpiresAt: unix(i.ExpiresAt),
		IssuedAt:  unix(i.IssuedAt),
		Subject:   i.Subject,
		Audience:  i.Audience,
		Issuer:    issuer,
		ID:        i.ID,
		SessionID: i.SessionID,
		Roles:     i.Roles,
		AuthTime:  unix(i.AuthTime),
	}
}
