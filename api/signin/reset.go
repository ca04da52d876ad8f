package signin

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/api/pages"
	"github.com/handstamp/handstamp/pkg/account"
	"github.com/handstamp/handstamp/pkg/password"
	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/user"
)

// resetPage is GET /oauth2/reset: the link of a mail. It uses nothing up: programs that look for malware open links, too.
func (h *Recovery) resetPage(c echo.Context) error {
	token := c.QueryParam("token")
	u, err := h.Passwords.Account.ByLink(c.Request().Context(), seal.Secret(token), account.Reset)
	if err != nil {
		return err
	}
	return h.showReset(c, proofState{Token: token, Email: u.Email}, pages.Reset{})
}

// resetForm is POST /oauth2/reset.
func (h *Recovery) resetForm(c echo.Context) error {
	v, err := form(c)
	if err != nil {
		return err
	}
	s, err := h.openProof(c, resetPurpose, v.Get("request"))
	if err != nil {
		return err
	}
	ctx, from := c.Request().Context(), door.Origin(c)
	var u user.User
	if s.Token != "" {
		u, err = h.Passwords.Account.ResetByLink(ctx, seal.Secret(s.Token), v.Get("password"), from)
	} else {
		t := account.Typed{Flow: seal.Secret(s.Flow), Email: s.Email, Code: v.Get("code")}
		u, err = h.Passwords.Account.ResetByCode(ctx, t, v.Get("password"), from)
	}
	door.EventOf(c).UserID = u.ID
	m := h.loginMessage(c, err)
	if errors.Is(err, password.ErrTooLong) {
		m = pages.PasswordTooLong.With("max", strconv.Itoa(password.MaxLength))
	}
	if m.ID != "" {
		return h.showReset(c, s, pages.Reset{Form: pages.Form{Error: m}})
	}
	if err != nil {
		return err
	}
	return h.Door.WritePage(c, http.StatusOK, "", pages.Done{
		What:     pages.PasswordChanged.With(),
		Email:    u.Email,
		LoginURL: onward(s.Parameters),
	})
}
