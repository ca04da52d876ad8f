package oauth2

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/pkg/oauth"
)

// userinfo is GET and POST /oauth2/userinfo (OpenID Connect Core, section 5.3). The access token may have any audience: it
// is the client's, and what the client gets here is what the user has granted it.
func (r *Room) userinfo(c echo.Context) error {
	claims, err := door.Authenticate(c, r.AnyAudience)
	if err != nil {
		return err
	}
	if !claims.HasScope("openid") {
		return door.InsufficientScope("openid", "the access token lacks the scope openid")
	}
	info, err := r.OAuth.UserInfo(c.Request().Context(), claims)
	if err != nil {
		return err
	}
	return door.WriteJSON(c, http.StatusOK, "application/json", userinfoBodyOf(info))
}

// userinfoBody has the claims of OpenID Connect Core, section 5.1, that Handstamp knows.
type userinfoBody struct {
	Subject       string `json:"sub"`
	Email         string `json:"email,omitempty"`
	EmailVerified *bool  `json:"email_verified,omitempty"`
	Name          string `json:"name,omitempty"`
	UpdatedAt     int64  `json:"updated_at,omitempty"`
}

func userinfoBodyOf(i oauth.UserInfo) userinfoBody {
	b := userinfoBody{Subject: i.Subject, Email: i.Email, Name: i.Name}
	if i.HasEmail {
		b.EmailVerified = &i.EmailVerified
	}
	if i.HasProfile {
		b.UpdatedAt = i.UpdatedAt.Unix()
	}
	return b
}
