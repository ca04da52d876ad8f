package signin

import (
	"errors"
	"slices"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/api/pages"
	"github.com/handstamp/handstamp/pkg/factor"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/user"
)

const mfaPath = "/oauth2/mfa"

// waits makes a login one that waits for its second factor. It is not the browser's until it is complete: the page carries it.
func (h *Login) waits(c echo.Context, f *flow, b oauth.BrowserSession) error {
	l := factor.Login{
		UserID:    b.UserID,
		Refund:    b.Proof.Refund,
		Provider:  b.Proof.Provider,
		Subject:   b.Proof.Subject,
		AMR:       b.AMR,
		AuthTime:  b.AuthTime,
		NewDevice: !b.Mail.IsZero(),
		Fresh:     true,
	}
	if b.Proof.PasswordHash != "" {
		l.Credential = user.CredentialOf(b.Proof.PasswordHash)
	}
	var err error
	f.waiting, err = h.Passwords.Factors.Open(factor.ForPage, string(h.Passwords.Factors.Begin(factor.ForPage, l, h.Door.Now())),
		h.Door.Now())
	return err
}

// visit is what the rule of what comes next is told: a login that waits comes before that of the browser.
func (f flow) visit() oauth.Visit {
	if f.waiting.UserID == "" {
		return f.Visit
	}
	login := oauth.BrowserSession{
		UserID: f.waiting.UserID, AMR: f.waiting.AMR, AuthTime: f.waiting.AuthTime, FactorNeeded: true,
	}
	return oauth.Visit{Login: login, Authenticated: f.waiting.Fresh || f.Authenticated, Chosen: f.Chosen}
}

// showMFA asks for a second factor. method is empty for the usual one.
func (h *Login) showMFA(c echo.Context, f flow, method factor.Method, message pages.Message) error {
	if f.waiting.UserID == "" { // the browser's login is from before the user had a factor
		b := f.Login
		if err := h.waits(c, &f, b); err != nil {
			return err
		}
		f.waiting.Fresh = false
	}
	door.EventOf(c).UserID = f.waiting.UserID
	methods, err := h.Passwords.Factors.Methods(c.Request().Context(), f.waiting.UserID)
	if err != nil {
		return err
	}
	if len(methods) == 0 { // all were removed meanwhile
		f.waiting = factor.Login{}
		return h.showLogin(c, f, pages.Login{Email: f.LoginHint})
	}
	if !slices.Contains(methods, method) {
		method = methods[0]
	}
	page := pages.MFA{Form: h.pageForm(c, f, mfaPath, message), Client: pageClient(f), Method: string(method)}
	page.Hidden["method"] = string(method)
	for _, m := range methods {
		if m != method {
			page.Alternatives = append(page.Alternatives, pages.Method{
				ID: string(m), URL: pageLink(mfaPath, page.Hidden["request"]) + "&method=" + string(m),
			})
		}
	}
	page.CancelURL = pageLink(loginPath, page.Hidden["request"])
	return h.Door.WritePage(c, statusOf(message), f.UILocales, page)
}

// mfaPage is GET /oauth2/mfa: the page for another method.
func (h *Login) mfaPage(c echo.Context) error {
	if c.QueryParam("request") == "" {
		return h.Door.Redirect(c, "", "/")
	}
	f, err := h.resume(c, c.QueryParam("request"))
	if err != nil {
		return err
	}
	if f.waiting.UserID == "" {
		return h.proceed(c, f)
	}
	return h.showMFA(c, f, factor.Method(c.QueryParam("method")), pages.Message{})
}

// mfaForm is POST /oauth2/mfa.
func (h *Login) mfaForm(c echo.Context) error {
	f, v, err := h.resumeForm(c)
	if err != nil {
		return err
	}
	l, method := f.waiting, factor.Method(v.Get("method"))
	if l.UserID == "" {
		return h.showLogin(c, f, pages.Login{Email: f.LoginHint, Form: pages.Form{Error: pages.FormExpired.With()}})
	}
	ctx, from := c.Request().Context(), door.Origin(c)
	door.EventOf(c).UserID = l.UserID
	over := func() error {
		f.waiting = factor.Login{}
		return h.showLogin(c, f, pages.Login{Email: f.LoginHint, Form: pages.Form{Error: pages.FormExpired.With()}})
	}
	u, err := h.Users.UserByID(ctx, l.UserID)
	if errors.Is(err, user.ErrNotFound) || err == nil && !l.Stands(u.PasswordHash) {
		return over()
	}
	if err != nil {
		return err
	}
	use, err := h.Passwords.Factors.Check(ctx, l, method, v.Get("code"), from)
	if m := h.loginMessage(c, err); m.ID != "" {
		return h.showMFA(c, f, method, m)
	}
	if err != nil {
		return err
	}
	defer door.Stay(c)() // a right code leaves its trace, as a wrong one does
	b := oauth.BrowserSession{
		UserID:   l.UserID,
		AMR:      l.With(method),
		AuthTime: l.AuthTime,
		Proof:    oauth.Proof{Provider: l.Provider, Subject: l.Subject, Refund: l.Refund, ShowsFactors: true, Factor: use},
	}
	if l.ByPassword() {
		b.Proof.PasswordHash = u.PasswordHash
		h.Passwords.Devices.Remember(c, u)
	}
	if l.NewDevice {
		b.Mail = h.Passwords.Notices.NewDevice(h.Door.Now(), from)
	}
	err = h.loggedIn(c, f, b)
	if errors.Is(err, user.ErrFactorUsed) {
		if err := h.Passwords.Factors.Failed(ctx, l, from); !errors.Is(err, factor.ErrCode) {
			return err
		}
		return h.showMFA(c, f, method, pages.CodeInvalid.With())
	}
	return err
}
