package signin

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/api/pages"
	"github.com/handstamp/handstamp/pkg/account"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/user"
)

// verifyPage is GET /oauth2/verify: the link of a mail. It uses nothing up: programs that look for malware open links, too.
func (h *Recovery) verifyPage(c echo.Context) error {
	token := c.QueryParam("token")
	email, err := h.Passwords.Account.EmailOf(c.Request().Context(), seal.Secret(token))
	if err != nil {
		return err
	}
	return h.showVerify(c, proofState{Token: token, Email: email}, pages.Form{})
}

// showVerify shows the page on which an address is proven: behind a link, or with a code.
func (h *Login) showVerify(c echo.Context, s proofState, f pages.Form) error {
	f.Action = VerifyPath
	f.Hidden = map[string]string{"request": h.sealProof(c, verifyPurpose, s)}
	return h.Door.WritePage(c, statusOf(f.Error), "", pages.Verify{Form: f, Email: s.Email, Code: s.Flow != ""})
}

// signUpFirst keeps somebody who has signed up until the address is proven. The page that follows is the same for an address
// that has an account.
func (h *Login) signUpFirst(c echo.Context, f flow, email, name, plain string) error {
	ctx, from := c.Request().Context(), door.Origin(c)
	u, err := h.Passwords.Signup.Prepare(ctx, email, name, plain, from)
	if err != nil {
		return err
	}
	secret, err := h.Passwords.Account.SignUp(ctx, u, from)
	if err != nil {
		return err
	}
	return h.waitForProof(c, f, email, secret)
}

// proveFirst sends a user who has logged in a mail, before anything else.
func (h *Login) proveFirst(c echo.Context, f flow, u user.User) error {
	secret, err := h.Passwords.Account.Resend(c.Request().Context(), u, door.Origin(c))
	if m := h.loginMessage(c, err); m.ID != "" {
		return h.showLogin(c, f, pages.Login{Email: u.Email, Form: pages.Form{Error: m}})
	}
	if err != nil {
		return err
	}
	return h.waitForProof(c, f, u.Email, secret)
}

// waitForProof shows the page that waits for the code of a mail that is on its way.
func (h *Login) waitForProof(c echo.Context, f flow, email string, secret seal.Secret) error {
	s := proofState{Flow: string(secret), Email: email, Parameters: f.Parameters}
	return h.showVerify(c, s, pages.Form{Notice: pages.CheckMailVerify.With()})
}

// verifyForm is POST /oauth2/verify.
func (h *Recovery) verifyForm(c echo.Context) error {
	v, err := form(c)
	if err != nil {
		return err
	}
	s, err := h.openProof(c, verifyPurpose, v.Get("request"))
	if err != nil {
		return err
	}
	ctx, from := c.Request().Context(), door.Origin(c)
	var u user.User
	if s.Token != "" {
		u, err = h.Passwords.Account.VerifyByLink(ctx, seal.Secret(s.Token), from)
	} else {
		u, err = h.Passwords.Account.VerifyByCode(ctx, account.Typed{Flow: seal.Secret(s.Flow), Email: s.Email, Code: v.Get("code")},
			from)
	}
	door.EventOf(c).UserID = u.ID
	if m := h.loginMessage(c, err); m.ID != "" {
		return h.showVerify(c, s, pages.Form{Error: m})
	}
	if err != nil {
		return err
	}
	if s.Parameters != "" {
		return h.provenHere(c, s, u)
	}
	return h.Door.WritePage(c, http.StatusOK, "", pages.Done{What: pages.EmailVerified.With(), Email: u.Email})
}

// provenHere logs the user in who has typed the password in this browser, and then the code of the mail.
func (h *Recovery) provenHere(c echo.Context, s proofState, u user.User) error {
	f, err := h.resumeParameters(c, s.Parameters)
	if err != nil {
		return err
	}
	h.Passwords.Devices.Remember(c, u)
	return h.loggedIn(c, f, oauth.BrowserSession{
		UserID:   u.ID,
		AMR:      oauth.AMRPassword(),
		AuthTime: h.Door.Now(),
		Proof:    oauth.Proof{PasswordHash: u.PasswordHash},
	})
}
