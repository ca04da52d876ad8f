package firstparty

import (
	"errors"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/user"
)

// loginBody is the body of POST /v1/login.
type loginBody struct {
	Email    string `json:"email"`
	Password string `json:"password"`
	ClientID string `json:"client_id"`
	Scope    string `json:"scope"`
}

// login is POST /v1/login.
func (r *Login) login(c echo.Context) error {
	var b loginBody
	if err := door.ReadJSON(c, &b); err != nil {
		return err
	}
	if err := errors.Join(door.Required("email", b.Email), door.Required("password", b.Password)); err != nil {
		return err
	}
	email, err := user.ParseEmail(b.Email)
	if err != nil {
		return err
	}
	ctx, from := c.Request().Context(), door.Origin(c)
	client, err := r.OAuth.CheckLogin(ctx, b.ClientID, b.Scope)
	if err == nil {
		err = r.Door.FromPage(c, client)
	}
	if err != nil {
		return err
	}
	u, err := r.Authenticator.Authenticate(ctx, user.Credentials{
		Email:    email,
		Password: b.Password,
		Device:   r.MFA.Devices.Find(c, email),
	}, from)
	door.EventOf(c).UserID = user.Refused(err)
	if err != nil {
		return err
	}
	defer door.Stay(c)() // a right password leaves its trace, as a wrong one does
	if r.Account.MustVerify(u.User) {
		return r.proveFirst(c, u.User)
	}
	unknown := r.MFA.Devices.Find(c, email) == (user.Device{})
	r.MFA.Devices.Remember(c, u.User)
	return r.MFA.loggedIn(c, http.StatusOK, oauth.Login{
		User:          u.User,
		CheckPassword: true,
		Refund:        u.Refund,
		ClientID:      b.ClientID,
		Scope:         b.Scope,
		AMR:           oauth.AMRPassword(),
		Origin:        from,
		NewDevice:     unknown,
	})
}

// signupBody is the body of POST /v1/signup.
type signupBody struct {
	Email    string `json:"email"`
	Password string `json:"password"`
	Name     string `json:"name"`
	ClientID string `json:"client_id"`
	Scope    string `json:"scope"`
}

// signup is POST /v1/signup.
func (r *Login) signup(c echo.Context) error {
	if r.Signup.Closed {
		return user.ErrSignupClosed
	}
	var b signupBody
	if err := door.ReadJSON(c, &b); err != nil {
		return err
	}
	if err := errors.Join(door.Required("email", b.Email), door.Required("password", b.Password)); err != nil {
		return err
	}
	email, err := user.ParseEmail(b.Email)
	if err != nil {
		return err
	}
	name, err := user.ParseName(b.Name)
	if err != nil {
		return err
	}
	ctx, from := c.Request().Context(), door.Origin(c)
	client, err := r.OAuth.CheckLogin(ctx, b.ClientID, b.Scope)
	if err == nil {
		err = r.Door.FromPage(c, client)
	}
	if err != nil {
		return err
	}
	if r.Account.Required() {
		return r.signUpFirst(c, email, name, b.Password)
	}
	u, err := r.Signup.Create(ctx, email, name, b.Password, from)
	if err == nil {
		err = r.Account.Greet(ctx, u, from)
	}
	if err != nil {
		return err
	}
	r.MFA.Devices.Remember(c, u)
	return r.MFA.loggedIn(c, http.StatusCreated, oauth.Login{
		User:          u,
		CheckPassword: true,
		ClientID:      b.ClientID,
		Scope:         b.Scope,
		AMR:           oauth.AMRPassword(),
		Origin:        from,
	})
}
