package firstparty

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/pkg/account"
	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/user"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// signUpFirst keeps somebody who has signed up until the address is proven. The answer is the same for an address that has an
// account.
func (r *Login) signUpFirst(c echo.Context, email, name, plain string) error {
	ctx, from := c.Request().Context(), door.Origin(c)
	u, err := r.Signup.Prepare(ctx, email, name, plain, from)
	if err != nil {
		return err
	}
	flow, err := r.Account.SignUp(ctx, u, from)
	if err != nil {
		return err
	}
	return begun(c, r.Door, flow, account.Verify.Lifetime())
}

// proveFirst sends a user who has logged in a mail, and refuses the login until its address is proven.
func (r *Login) proveFirst(c echo.Context, u user.User) error {
	flow, err := r.Account.Resend(c.Request().Context(), u, door.Origin(c))
	if err != nil {
		return err
	}
	door.EventOf(c).UserID = u.ID
	keepFlow(c, r.Door, flow, account.Verify.Lifetime())
	return &door.Problem{
		Status: http.StatusForbidden,
		Code:   "email_verification_required",
		Title:  "The address is not proven",
		Detail: "a mail with a link and a code is on its way: prove the address, and log in again",
		Flow:   string(flow),
	}
}

// verify is POST /v1/email/verify, by the token of a link or by a code.
func (r *Recovery) verify(c echo.Context) error {
	var b struct {
		Token string `json:"token"`
		Email string `json:"email"`
		Code  string `json:"code"`
		Flow  string `json:"flow"`
	}
	if err := door.ReadJSON(c, &b); err != nil {
		return err
	}
	ctx, from := c.Request().Context(), door.Origin(c)
	var u user.User
	var err error
	if b.Token != "" {
		if b.Email != "" || b.Code != "" || b.Flow != "" {
			return door.InvalidRequest("token", "goes without email, code and flow")
		}
		u, err = r.Account.VerifyByLink(ctx, seal.Secret(b.Token), from)
	} else {
		if err := errors.Join(door.Required("email", b.Email), door.Required("code", b.Code)); err != nil {
			return err
		}
		email, parseErr := user.ParseEmail(b.Email)
		if parseErr != nil {
			return parseErr
		}
		u, err = r.Account.VerifyByCode(ctx, account.Typed{Flow: r.flowOf(c, b.Flow), Email: email, Code: b.Code}, from)
	}
	door.EventOf(c).UserID = u.ID
	if err != nil {
		return err
	}
	door.NoStore(c.Response().Header())
	return c.NoContent(http.StatusNoContent)
}

// resend is POST /v1/email/verify/resend, for the user of the access token. The answer is the same for an address that is proven.
func (r *Recovery) resend(c echo.Context) error {
	var b struct{}
	if err := door.ReadJSON(c, &b); err != nil {
		return err
	}
	u, err := r.Users.UserByID(c.Request().Context(), door.ClaimsOf(c).Subject)
	if errors.Is(err, user.ErrNotFound) {
		return fmt.Errorf("%w: its user is gone", verifier.ErrInvalid)
	}
	if err != nil {
		return err
	}
	flow, err := r.Account.Resend(c.Request().Context(), u, door.Origin(c))
	if err != nil {
		return err
	}
	return begun(c, r.Door, flow, account.Verify.Lifetime())
}
