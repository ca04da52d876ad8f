package api

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/password"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/user"
)

// userBody is a user as the user sees it.
type userBody struct {
	ID            string    `json:"id"`
	Email         string    `json:"email"`
	EmailVerified bool      `json:"email_verified"`
	Name          string    `json:"name"`
	Roles         []string  `json:"roles"`
	CreatedAt     time.Time `json:"created_at"`
	UpdatedAt     time.Time `json:"updated_at"`
}

func userBodyOf(u user.User) userBody {
	roles := u.Roles
	if roles == nil {
		roles = []string{}
	}
	return userBody{
		ID: u.ID, Email: u.Email, EmailVerified: !u.EmailVerifiedAt.IsZero(), Name: u.Name, Roles: roles,
		CreatedAt: u.CreatedAt.UTC(), UpdatedAt: u.UpdatedAt.UTC(),
	}
}

// currentUser reads the user of the request's access token. A user who is gone has no token that is accepted.
func (a *API) currentUser(c echo.Context) (user.User, error) {
	u, err := a.Store.UserByID(c.Request().Context(), claimsOf(c).Subject)
	if errors.Is(err, user.ErrNotFound) {
		return user.User{}, invalidToken("the access token is not valid", err)
	}
	return u, err
}

// me is GET /v1/me.
func (a *API) me(c echo.Context) error {
	u, err := a.currentUser(c)
	if err != nil {
		return err
	}
	return writeJSON(c, http.StatusOK, "application/json", userBodyOf(u))
}

// updateMe is PATCH /v1/me.
func (a *API) updateMe(c echo.Context) error {
	var b struct {
		Name *string `json:"name"`
	}
	if err := readJSON(c, &b); err != nil {
		return err
	}
	if b.Name == nil {
		return a.me(c)
	}
	name, err := user.ParseName(*b.Name)
	if err != nil {
		return err
	}
	u, err := a.Store.UpdateName(c.Request().Context(), claimsOf(c).Subject, name, time.Now())
	if err != nil {
		return err
	}
	return writeJSON(c, http.StatusOK, "application/json", userBodyOf(u))
}

// deleteMe is DELETE /v1/me: the user and everything that belongs to the user, for good.
func (a *API) deleteMe(c echo.Context) error {
	if err := a.Sessions.DeleteUser(c.Request().Context(), claimsOf(c).Subject, by(c)); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// by is the user of the request's access token, as the one who ends sessions.
func by(c echo.Context) session.By {
	claims := claimsOf(c)
	return session.By{Actor: claims.Subject, ClientID: claims.ClientID, Origin: origin(c)}
}

// changePassword is POST /v1/password/change: it ends every session of the user, and starts a new one for the caller, so that who
// changes a password is not logged out by it.
func (a *API) changePassword(c echo.Context) error {
	var b struct {
		Current string `json:"current_password"`
		New     string `json:"new_password"`
	}
	if err := readJSON(c, &b); err != nil {
		return err
	}
	if err := errors.Join(required("current_password", b.Current), required("new_password", b.New)); err != nil {
		return err
	}
	u, err := a.currentUser(c)
	if err != nil {
		return err
	}
	if err := a.Passwords.Check(b.New, u.Email, u.Name); err != nil {
		return inField("new_password", err)
	}
	ctx, from := c.Request().Context(), origin(c)
	u, err = a.Authenticator.Authenticate(ctx, u.Email, b.Current, from)
	if errors.Is(err, password.ErrMalformed) || errors.Is(err, password.ErrTooLong) {
		return inField("current_password", err)
	}
	if errors.Is(err, user.ErrInvalidCredentials) {
		return &Problem{Status: http.StatusForbidden, Code: "invalid_credentials", Title: "Password not changed", Detail: "current_password is wrong", Field: "current_password", Err: err}
	}
	if err != nil {
		return err
	}
	hash, err := a.Hasher.Hash(ctx, b.New)
	if err != nil {
		return err
	}
	if err := a.Sessions.SetPassword(ctx, u.ID, u.PasswordHash, hash, by(c)); err != nil {
		return err
	}
	u.PasswordHash = hash
	claims := claimsOf(c)
	response, err := a.OAuth.Renew(ctx, oauth.Login{
		User: u, CheckPassword: true, ClientID: claims.ClientID, Scope: strings.Join(claims.Scope, " "), AMR: passwordAMR(), Origin: from,
	})
	if err != nil {
		return err
	}
	return writeTokens(c, http.StatusOK, response)
}

// inField names the field of a problem that a feature found.
func inField(field string, err error) error {
	p := *asProblem(err)
	p.Field = field
	return &p
}
