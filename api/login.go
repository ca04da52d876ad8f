package api

import (
	"errors"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/pkg/audit"
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
func (a *API) login(c echo.Context) error {
	var b loginBody
	if err := readJSON(c, &b); err != nil {
		return err
	}
	if err := errors.Join(required("email", b.Email), required("password", b.Password)); err != nil {
		return err
	}
	email, err := user.ParseEmail(b.Email)
	if err != nil {
		return err
	}
	ctx, from := c.Request().Context(), origin(c)
	if err := a.OAuth.CheckLogin(ctx, b.ClientID, b.Scope); err != nil {
		return err
	}
	if wait := a.failures.wait(from.IP); wait > 0 {
		return tooManyAttempts(wait)
	}
	u, err := a.Authenticator.Authenticate(ctx, email, b.Password, from)
	if errors.Is(err, user.ErrInvalidCredentials) {
		a.failures.count(from.IP)
		a.Metrics.LoginFailures.Inc()
	}
	if err != nil {
		return err
	}
	response, err := a.OAuth.Login(ctx, oauth.Login{
		User: u, CheckPassword: true, ClientID: b.ClientID, Scope: b.Scope, AMR: passwordAMR(), Origin: from,
	})
	if err != nil {
		return err
	}
	eventOf(c).userID = u.ID
	return writeTokens(c, http.StatusOK, response)
}

// passwordAMR is the authentication method of a password (RFC 8176, section 2).
func passwordAMR() []string { return []string{"pwd"} }

// signupBody is the body of POST /v1/signup.
type signupBody struct {
	Email    string `json:"email"`
	Password string `json:"password"`
	Name     string `json:"name"`
	ClientID string `json:"client_id"`
	Scope    string `json:"scope"`
}

// signup is POST /v1/signup.
func (a *API) signup(c echo.Context) error {
	if a.config.SignupDisabled {
		return &Problem{Status: http.StatusForbidden, Code: "signup_disabled", Title: "Sign-up is closed", Detail: "ask the operator for an account"}
	}
	var b signupBody
	if err := readJSON(c, &b); err != nil {
		return err
	}
	if err := errors.Join(required("email", b.Email), required("password", b.Password)); err != nil {
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
	ctx, from := c.Request().Context(), origin(c)
	if err := a.OAuth.CheckLogin(ctx, b.ClientID, b.Scope); err != nil {
		return err
	}
	u, err := a.createUser(c, email, name, b.Password)
	if err != nil {
		return err
	}
	response, err := a.OAuth.Login(ctx, oauth.Login{
		User: u, CheckPassword: true, ClientID: b.ClientID, Scope: b.Scope, AMR: passwordAMR(), Origin: from,
	})
	if err != nil {
		return err
	}
	eventOf(c).userID = u.ID
	return writeTokens(c, http.StatusCreated, response)
}

// createUser makes a user who signs up, here or on the hosted page.
func (a *API) createUser(c echo.Context, email, name, plain string) (user.User, error) {
	if err := a.Passwords.Check(plain, email, name); err != nil {
		return user.User{}, err
	}
	ctx := c.Request().Context()
	hash, err := a.Hasher.Hash(ctx, plain)
	if err != nil {
		return user.User{}, err
	}
	now := time.Now()
	u := user.User{ID: user.NewID(now), Email: email, Name: name, PasswordHash: hash, CreatedAt: now, UpdatedAt: now}
	return u, a.Store.CreateUser(ctx, u, audit.SignedUp(now, u.ID, "", origin(c)))
}
