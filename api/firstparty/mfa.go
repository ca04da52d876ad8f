package firstparty

import (
	"errors"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/factor"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/user"
)

// MFA completes logins that need a second factor. Every login of the first-party API ends in its loggedIn.
type MFA struct {
	Door    *door.Door
	OAuth   *oauth.Server
	Users   Users
	Factors *factor.Manager
	Devices door.Devices
}

// Routes returns the rows of the room.
func (r *MFA) Routes() []door.Route {
	return []door.Route{
		{
			Method: http.MethodPost, Path: "/v1/login/mfa", Sharing: door.SharedOwn, Cookie: true, Handler: r.complete,
			Audit: []audit.Kind{audit.KindLoggedIn, audit.KindLoginFailed},
		},
	}
}

// loggedIn starts a session for a user who has logged in, and answers its tokens; or it says that the user has a second factor to
// show. Which of the two is decided by the store, in the transaction that would start the session.
func (r *MFA) loggedIn(c echo.Context, status int, login oauth.Login) error {
	response, err := r.OAuth.Login(c.Request().Context(), login)
	if errors.Is(err, user.ErrFactorNeeded) {
		return r.pending(c, login, err)
	}
	if err != nil {
		return err
	}
	door.EventOf(c).UserID = login.User.ID
	return r.Door.WriteTokens(c, status, response)
}

// pending is the answer to a login that has shown one factor only.
func (r *MFA) pending(c echo.Context, login oauth.Login, cause error) error {
	door.EventOf(c).UserID = login.User.ID
	methods, err := r.Factors.Methods(c.Request().Context(), login.User.ID)
	if err != nil {
		return err
	}
	now := r.Door.Now()
	l := factor.Login{
		UserID:    login.User.ID,
		Refund:    login.Refund,
		Provider:  login.Provider,
		Subject:   login.Subject,
		ClientID:  login.ClientID,
		Scope:     login.Scope,
		AMR:       login.AMR,
		AuthTime:  login.AuthTime,
		NewDevice: login.NewDevice,
	}
	if login.CheckPassword {
		l.Credential = user.CredentialOf(login.User.PasswordHash)
	}
	if l.AuthTime.IsZero() {
		l.AuthTime = now
	}
	p := *door.AsProblem(cause)
	p.MFA = &door.PendingLogin{Token: r.Factors.Begin(factor.ForAPI, l, now), Methods: methods}
	return &p
}

// complete is POST /v1/login/mfa.
func (r *MFA) complete(c echo.Context) error {
	var b struct {
		Token  string `json:"mfa_token"`
		Method string `json:"method"`
		Code   string `json:"code"`
	}
	if err := door.ReadJSON(c, &b); err != nil {
		return err
	}
	if err := errors.Join(door.Required("mfa_token", b.Token), door.Required("method", b.Method),
		door.Required("code", b.Code)); err != nil {
		return err
	}
	pending, err := r.Factors.Open(factor.ForAPI, b.Token, r.Door.Now())
	if err != nil {
		return err
	}
	ctx, from := c.Request().Context(), door.Origin(c)
	door.EventOf(c).UserID = pending.UserID
	client, err := r.OAuth.CheckLogin(ctx, pending.ClientID, pending.Scope)
	if err == nil {
		err = r.Door.FromPage(c, client)
	}
	if err != nil {
		return err
	}
	u, err := r.Users.UserByID(ctx, pending.UserID)
	if errors.Is(err, user.ErrNotFound) || err == nil && !pending.Stands(u.PasswordHash) {
		return factor.ErrLogin
	}
	if err != nil {
		return err
	}
	use, err := r.Factors.Check(ctx, pending, factor.Method(b.Method), b.Code, from)
	if err != nil {
		return err
	}
	defer door.Stay(c)() // a right code leaves its trace, as a wrong one does
	if pending.ByPassword() {
		r.Devices.Remember(c, u)
	}
	err = r.loggedIn(c, http.StatusOK, oauth.Login{
		User:          u,
		CheckPassword: pending.ByPassword(),
		Refund:        pending.Refund,
		Provider:      pending.Provider,
		Subject:       pending.Subject,
		ClientID:      pending.ClientID,
		Scope:         pending.Scope,
		AMR:           pending.With(factor.Method(b.Method)),
		AuthTime:      pending.AuthTime,
		Origin:        from,
		NewDevice:     pending.NewDevice,
		Factor:        use,
	})
	if errors.Is(err, user.ErrFactorUsed) {
		return r.Factors.Failed(ctx, pending, from)
	}
	return err
}
