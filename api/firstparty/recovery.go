package firstparty

import (
	"errors"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/pkg/account"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/user"
)

// Recovery lets people back in who have lost their password.
type Recovery struct {
	Door    *door.Door
	Users   Users
	Account *account.Service
}

// Routes returns the rows of the room.
func (r *Recovery) Routes() []door.Route {
	return []door.Route{
		{
			Method: http.MethodPost, Path: "/v1/password/forgot", Sharing: door.SharedOwn, Handler: r.forgot,
			Audit: []audit.Kind{audit.KindResetAsked},
		},
		{
			Method: http.MethodPost, Path: "/v1/password/reset", Sharing: door.SharedOwn, Handler: r.reset,
			Audit: []audit.Kind{audit.KindPasswordChanged, audit.KindLoginFailed},
		},
		{
			Method: http.MethodPost, Path: "/v1/email/verify", Sharing: door.SharedOwn, Handler: r.verify,
			Audit: []audit.Kind{audit.KindEmailVerified, audit.KindSignedUp, audit.KindLoginFailed},
		},
		{
			Method: http.MethodPost, Path: "/v1/email/verify/resend", Access: door.Bearer, Sharing: door.SharedOwn, Handler: r.resend,
			Audit: []audit.Kind{audit.KindVerifyAsked},
		},
	}
}

// cookieFlow keeps the secret of the last flow that was begun, for callers with cookies. A call that names a flow needs none.
const cookieFlow = "handstamp_flow"

// flowBody is the answer to a call that sends a code.
type flowBody struct {
	Flow string `json:"flow"`
}

// begun answers that a mail may be on its way: the code that it brings works only together with the flow.
func begun(c echo.Context, d *door.Door, flow seal.Secret, lifetime time.Duration) error {
	keepFlow(c, d, flow, lifetime)
	door.NoStore(c.Response().Header())
	return door.WriteJSON(c, http.StatusAccepted, "application/json", flowBody{Flow: string(flow)})
}

// keepFlow sets the cookie.
func keepFlow(c echo.Context, d *door.Door, flow seal.Secret, lifetime time.Duration) {
	c.SetCookie(&http.Cookie{ //nolint:gosec // Secure is left out for a loopback issuer without https only
		Name: d.CookieName(cookieFlow), Value: string(flow), Path: "/", MaxAge: int(lifetime / time.Second), HttpOnly: true,
		Secure: d.Secure(), SameSite: http.SameSiteLaxMode,
	})
}

// flowOf is the flow that a call names, or that its cookie has.
func (r *Recovery) flowOf(c echo.Context, named string) seal.Secret {
	if named != "" {
		return seal.Secret(named)
	}
	if values := c.Request().CookiesNamed(r.Door.CookieName(cookieFlow)); len(values) == 1 {
		return seal.Secret(values[0].Value)
	}
	return ""
}

// forgot is POST /v1/password/forgot. The answer is the same for an address that nobody has.
func (r *Recovery) forgot(c echo.Context) error {
	var b struct {
		Email string `json:"email"`
	}
	if err := door.ReadJSON(c, &b); err != nil {
		return err
	}
	if err := door.Required("email", b.Email); err != nil {
		return err
	}
	email, err := user.ParseEmail(b.Email)
	if err != nil {
		return err
	}
	flow, err := r.Account.Forgot(c.Request().Context(), email, door.Origin(c))
	if err != nil {
		return err
	}
	return begun(c, r.Door, flow, account.Reset.Lifetime())
}

// reset is POST /v1/password/reset, by the token of a link or by a code.
func (r *Recovery) reset(c echo.Context) error {
	var b struct {
		Token    string `json:"token"`
		Email    string `json:"email"`
		Code     string `json:"code"`
		Flow     string `json:"flow"`
		Password string `json:"password"`
	}
	if err := door.ReadJSON(c, &b); err != nil {
		return err
	}
	if err := door.Required("password", b.Password); err != nil {
		return err
	}
	ctx, from := c.Request().Context(), door.Origin(c)
	var u user.User
	var err error
	if b.Token != "" {
		if b.Email != "" || b.Code != "" || b.Flow != "" {
			return door.InvalidRequest("token", "goes without email, code and flow")
		}
		u, err = r.Account.ResetByLink(ctx, seal.Secret(b.Token), b.Password, from)
	} else {
		if err := errors.Join(door.Required("email", b.Email), door.Required("code", b.Code)); err != nil {
			return err
		}
		email, parseErr := user.ParseEmail(b.Email)
		if parseErr != nil {
			return parseErr
		}
		u, err = r.Account.ResetByCode(ctx, account.Typed{Flow: r.flowOf(c, b.Flow), Email: email, Code: b.Code}, b.Password, from)
	}
	door.EventOf(c).UserID = u.ID
	if err != nil {
		return err
	}
	door.NoStore(c.Response().Header())
	return c.NoContent(http.StatusNoContent)
}
