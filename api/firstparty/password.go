package firstparty

import (
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/pkg/oauth"
)

// setPassword is POST /v1/password/set: a first password for a user who came through a provider. It ends every session of the
// user, and starts a new one for the caller, as a change does.
func (r *Account) setPassword(c echo.Context) error {
	var b struct {
		Password string `json:"password"`
	}
	if err := door.ReadJSON(c, &b); err != nil {
		return err
	}
	if err := door.Required("password", b.Password); err != nil {
		return err
	}
	ctx, claims := c.Request().Context(), door.ClaimsOf(c)
	client, err := r.OAuth.Client(ctx, claims.ClientID)
	if err == nil {
		err = r.Door.FromPage(c, client)
	}
	if err != nil {
		return err
	}
	u, err := r.currentUser(c)
	if err != nil {
		return err
	}
	if u.PasswordHash != "" {
		return &door.Problem{
			Status: http.StatusConflict,
			Code:   "password_exists",
			Title:  "Password not set",
			Detail: "the user has a password: change it with the current one, or reset it by mail",
		}
	}
	if err := r.Passwords.Check(b.Password, u.Email, u.Name); err != nil {
		return err
	}
	hash, err := r.Hasher.Hash(ctx, b.Password)
	if err != nil {
		return err
	}
	if err := r.Sessions.SetPassword(ctx, u.ID, "", hash, by(c)); err != nil {
		return err
	}
	u.PasswordHash = hash
	response, err := r.OAuth.Renew(ctx, oauth.Login{
		User:          u,
		CheckPassword: true,
		ClientID:      claims.ClientID,
		Scope:         strings.Join(claims.Scope, " "),
		AMR:           claims.AMR,
		AuthTime:      claims.AuthTime,
		Origin:        door.Origin(c),
	})
	if err != nil {
		return err
	}
	return r.Door.WriteTokens(c, http.StatusOK, response)
}
