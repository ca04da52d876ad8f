package signin

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/api/pages"
	"github.com/handstamp/handstamp/pkg/account"
	"github.com/handstamp/handstamp/pkg/user"
)

// forgotPage is GET /oauth2/forgot: "Forgot your password?" on the login page, or an address that a person has kept.
func (h *Recovery) forgotPage(c echo.Context) error {
	if !h.Passwords.Account.On() {
		return account.ErrOff
	}
	f, err := h.origin(c, c.QueryParam("request"))
	if err != nil {
		return err
	}
	return h.showForgot(c, f, pages.Forgot{Email: f.loginHint()})
}

// origin resumes the request that a page was reached from; zero if there is none.
func (h *Recovery) origin(c echo.Context, sealed string) (flow, error) {
	if sealed == "" {
		return flow{}, nil
	}
	return h.resume(c, sealed)
}

func (f flow) loginHint() string {
	if f.Authorization == nil {
		return ""
	}
	return f.LoginHint
}

func (f flow) parameters() string {
	if f.Authorization == nil {
		return ""
	}
	return f.Parameters
}

func (f flow) uiLocales() string {
	if f.Authorization == nil {
		return ""
	}
	return f.UILocales
}

func (h *Recovery) showForgot(c echo.Context, f flow, page pages.Forgot) error {
	page.Form = pages.Form{Action: forgotPath, Error: page.Error}
	h.browser(c)
	if f.Authorization != nil {
		page.Hidden = map[string]string{"request": h.state(c, f)}
		page.LoginURL = pageLink(loginPath, page.Hidden["request"])
	}
	return h.Door.WritePage(c, statusOf(page.Error), f.uiLocales(), page)
}

// forgotForm is POST /oauth2/forgot. The page that follows is the same for an address that nobody has.
func (h *Recovery) forgotForm(c echo.Context) error {
	v, err := form(c)
	if err != nil {
		return err
	}
	f, err := h.origin(c, v.Get("request"))
	if err != nil {
		return err
	}
	email, err := user.ParseEmail(v.Get("email"))
	if err != nil {
		return h.showForgot(c, f, pages.Forgot{Email: v.Get("email"), Form: pages.Form{Error: pages.EmailInvalid.With()}})
	}
	secret, err := h.Passwords.Account.Forgot(c.Request().Context(), email, door.Origin(c))
	if m := h.loginMessage(c, err); m.ID != "" {
		return h.showForgot(c, f, pages.Forgot{Email: v.Get("email"), Form: pages.Form{Error: m}})
	}
	if err != nil {
		return err
	}
	return h.showReset(c, proofState{Flow: string(secret), Email: email, Parameters: f.parameters()}, pages.Reset{
		Form: pages.Form{Notice: pages.CheckMailReset.With()},
	})
}

// showReset shows the page on which a password is chosen: behind a link, or with a code.
func (h *Recovery) showReset(c echo.Context, s proofState, page pages.Reset) error {
	page.Action = ResetPath
	page.Hidden = map[string]string{"request": h.sealProof(c, resetPurpose, s)}
	page.Email, page.MinPassword, page.Code = s.Email, h.Passwords.Signup.Policy.Min(), s.Flow != ""
	status := http.StatusOK
	if page.Error.ID != "" {
		status = statusOf(page.Error)
	}
	return h.Door.WritePage(c, status, "", page)
}
