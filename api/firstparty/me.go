package firstparty

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/password"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/user"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// userBody is a user as the user sees it.
type userBody struct {
	ID            string `json:"id"`
	Email         string `json:"email"`
	EmailVerified bool   `json:"email_verified"`
	Name          string `json:"name"`
	user.Profile
	Roles     []string  `json:"roles"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

func userBodyOf(u user.User) userBody {
	roles := u.Roles
	if roles == nil {
		roles = []string{}
	}
	return userBody{
		ID: u.ID, Email: u.Email, EmailVerified: !u.EmailVerifiedAt.IsZero(), Name: u.Name, Profile: u.Profile, Roles: roles,
		CreatedAt: u.CreatedAt.UTC(), UpdatedAt: u.UpdatedAt.UTC(),
	}
}

// currentUser reads the user of the request's access token. A user who is gone has no token that is accepted.
func (r *Account) currentUser(c echo.Context) (user.User, error) {
	u, err := r.Users.UserByID(c.Request().Context(), door.ClaimsOf(c).Subject)
	if errors.Is(err, user.ErrNotFound) {
		return user.User{}, fmt.Errorf("%w: its user is gone", verifier.ErrInvalid)
	}
	return u, err
}

// me is GET /v1/me.
func (r *Account) me(c echo.Context) error {
	u, err := r.currentUser(c)
	if err != nil {
		return err
	}
	return door.WriteJSON(c, http.StatusOK, "application/json", userBodyOf(u))
}

// updateMe is PATCH /v1/me.
func (r *Account) updateMe(c echo.Context) error {
	var b updateBody
	if err := door.ReadJSON(c, &b); err != nil {
		return err
	}
	change, err := b.change()
	if err != nil {
		return err
	}
	if change.Name == nil && len(change.Profile) == 0 {
		return r.me(c)
	}
	u, err := r.Users.UpdateUser(c.Request().Context(), door.ClaimsOf(c).Subject, change, r.Clock.Now())
	if err != nil {
		return err
	}
	return door.WriteJSON(c, http.StatusOK, "application/json", userBodyOf(u))
}

// updateBody is the body of PATCH /v1/me: what is left out or null stays as it is, an empty attribute is removed.
type updateBody struct {
	Name              *string `json:"name"`
	GivenName         *string `json:"given_name"`
	FamilyName        *string `json:"family_name"`
	PreferredUsername *string `json:"preferred_username"`
	Picture           *string `json:"picture"`
	Website           *string `json:"website"`
	Locale            *string `json:"locale"`
	Zoneinfo          *string `json:"zoneinfo"`
}

func (b updateBody) change() (c user.Change, err error) {
	if b.Name != nil {
		name, err := user.ParseName(*b.Name)
		if err != nil {
			return c, err
		}
		c.Name = &name
	}
	for _, a := range []struct {
		name string
		text *string
	}{
		{"given_name", b.GivenName},
		{"family_name", b.FamilyName},
		{"preferred_username", b.PreferredUsername},
		{"picture", b.Picture},
		{"website", b.Website},
		{"locale", b.Locale},
		{"zoneinfo", b.Zoneinfo},
	} {
		if a.text == nil {
			continue
		}
		if err := c.Set(a.name, *a.text); err != nil {
			return c, inField(a.name, err)
		}
	}
	return c, nil
}

// deleteMe is DELETE /v1/me: the user and everything that belongs to the user, for good.
func (r *Account) deleteMe(c echo.Context) error {
	if err := r.Sessions.DeleteUser(c.Request().Context(), door.ClaimsOf(c).Subject, by(c)); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// by is the user of the request's access token, as the one who ends sessions.
func by(c echo.Context) session.By {
	claims := door.ClaimsOf(c)
	return session.By{Actor: claims.Subject, ClientID: claims.ClientID, Origin: door.Origin(c)}
}

// changePassword is POST /v1/password/change: it ends every session of the user, and starts a new one for the caller, so that who
// changes a password is not logged out by it.
func (r *Account) changePassword(c echo.Context) error {
	var b struct {
		Current string `json:"current_password"`
		New     string `json:"new_password"`
	}
	if err := door.ReadJSON(c, &b); err != nil {
		return err
	}
	if err := errors.Join(door.Required("current_password", b.Current), door.Required("new_password", b.New)); err != nil {
		return err
	}
	client, err := r.OAuth.Client(c.Request().Context(), door.ClaimsOf(c).ClientID)
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
	if err := r.Passwords.Check(b.New, u.Email, u.Name); err != nil {
		return inField("new_password", err)
	}
	ctx, from := c.Request().Context(), door.Origin(c)
	checked, err := r.Authenticator.Authenticate(ctx, user.Credentials{
		Email:    u.Email,
		Password: b.Current,
		For:      password.ForChange,
	}, from)
	if errors.Is(err, password.ErrMalformed) || errors.Is(err, password.ErrTooLong) {
		return inField("current_password", err)
	}
	if errors.Is(err, user.ErrInvalidCredentials) {
		return &door.Problem{
			Status: http.StatusForbidden,
			Code:   "invalid_credentials",
			Title:  "Password not changed",
			Detail: "current_password is wrong",
			Field:  "current_password",
			Err:    err,
		}
	}
	if err != nil {
		return err
	}
	hash, err := r.Hasher.Hash(ctx, b.New)
	if err != nil {
		return err
	}
	if err := r.Sessions.SetPassword(ctx, checked.ID, checked.PasswordHash, hash, by(c)); err != nil {
		return err
	}
	u = checked.User
	u.PasswordHash = hash
	claims := door.ClaimsOf(c)
	response, err := r.OAuth.Renew(ctx, oauth.Login{
		User:          u,
		CheckPassword: true,
		Refund:        checked.Refund,
		ClientID:      claims.ClientID,
		Scope:         strings.Join(claims.Scope, " "),
		AMR:           renewed(claims.AMR),
		Origin:        from,
	})
	if err != nil {
		return err
	}
	return r.Door.WriteTokens(c, http.StatusOK, response)
}

// renewed are the authentication methods of a session in place of another, in which the user has just shown the
// password. A second factor that was shown in that one counts on.
func renewed(amr []string) []string {
	if oauth.ACROf(amr) != oauth.ACRFactors {
		return oauth.AMRPassword()
	}
	if !slices.Contains(amr, "pwd") {
		amr = append(oauth.AMRPassword(), amr...)
	}
	return amr
}

// inField names the field of a problem that a feature found.
func inField(field string, err error) error {
	p := *door.AsProblem(err)
	p.Field = field
	return &p
}
