package signin

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net/http"
	"strconv"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/api/pages"
	"github.com/handstamp/handstamp/pkg/factor"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/password"
	"github.com/handstamp/handstamp/pkg/user"
)

// loginPage is GET /oauth2/login: from the sign-up page back to the login page.
func (h *Login) loginPage(c echo.Context) error {
	if c.QueryParam("request") == "" {
		return h.Door.Redirect(c, "", "/") // a bookmark: nobody knows any more which application it was for
	}
	f, err := h.resume(c, c.QueryParam("request"))
	if err != nil {
		return err
	}
	f.waiting = factor.Login{} // begun anew
	return h.showLogin(c, f, pages.Login{Email: f.LoginHint})
}

// loginForm is POST /oauth2/login.
func (h *Login) loginForm(c echo.Context) error {
	f, v, err := h.resumeForm(c)
	if err != nil {
		return err
	}
	if v.Get("decision") == "cancel" {
		return f.refuse(&oauth.Error{Code: oauth.AccessDenied, Description: "the user did not log in"})
	}
	again := func(m pages.Message) error {
		page, err := h.confirmation(c, f, pages.Login{Email: v.Get("email"), Form: pages.Form{Error: m}})
		if err != nil {
			return err
		}
		return h.showLogin(c, f, page)
	}
	email, err := user.ParseEmail(v.Get("email"))
	if err != nil {
		return again(pages.EmailInvalid.With())
	}
	if v.Get("password") == "" {
		return again(pages.InvalidCredentials.With())
	}
	u, err := h.Passwords.Authenticator.Authenticate(c.Request().Context(), user.Credentials{
		Email:    email,
		Password: v.Get("password"),
		Device:   h.Passwords.Devices.Find(c, email),
	}, door.Origin(c))
	door.EventOf(c).UserID = user.Refused(err)
	if m := h.loginMessage(c, err); m.ID != "" {
		return again(m)
	}
	if err != nil {
		return err
	}
	defer door.Stay(c)() // a right password leaves its trace, as a wrong one does
	if h.Passwords.Account.MustVerify(u.User) {
		return h.proveFirst(c, f, u.User)
	}
	b := oauth.BrowserSession{
		UserID:   u.ID,
		AMR:      oauth.AMRPassword(),
		AuthTime: h.Door.Now(),
		Proof:    oauth.Proof{PasswordHash: u.PasswordHash, Refund: u.Refund},
	}
	if h.Passwords.Devices.Find(c, email) == (user.Device{}) {
		b.Mail = h.Passwords.Notices.NewDevice(b.AuthTime, door.Origin(c))
	}
	h.Passwords.Devices.Remember(c, u.User)
	return h.loggedIn(c, f, b)
}

// confirmation makes the login page one that asks the user of this browser to log in once more, if the client has nobody else in
// mind: with the address filled in, and a link for another user.
func (h *Login) confirmation(c echo.Context, f flow, page pages.Login) (pages.Login, error) {
	if f.Login.UserID == "" {
		return page, nil
	}
	u, err := h.Users.UserByID(c.Request().Context(), f.Login.UserID)
	if errors.Is(err, user.ErrNotFound) {
		return page, nil
	}
	wanted := h.wanted(f)
	if u.Email != "" && (page.Email == "" || user.EmailKey(page.Email) == user.EmailKey(u.Email)) &&
		(wanted == "" || wanted == u.ID) {
		page.Email, page.DifferentURL = u.Email, loginPath
	}
	return page, err
}

// loginMessage is what the form says about a login that failed for a reason that the user can do something about.
func (h *Login) loginMessage(c echo.Context, err error) pages.Message {
	id := door.FormMessage(err)
	if id == "" {
		return pages.Message{}
	}
	wait := door.AsProblem(err).RetryAfter
	door.SetRetryAfter(c.Response().Header(), wait)
	switch id {
	case pages.PasswordTooShort:
		return id.With("min", strconv.Itoa(h.Passwords.Signup.Policy.Min()))
	default:
		return id.With().Wait(wait)
	}
}

// loggedIn starts a new browser session in place of the one before, and goes on with the request. b says whose it is and what it
// rests on.
func (h *Login) loggedIn(c echo.Context, f flow, b oauth.BrowserSession) error {
	secret, now := rand.Text(), h.Door.Now()
	b.Hash, b.ACR = sha256.Sum256([]byte(secret)), oauth.ACROf(b.AMR)
	b.CreatedAt, b.ExpiresAt = now, now.Add(browserSessionLifetime)
	err := h.BrowserSessions.SaveBrowserSession(c.Request().Context(), b, f.Login.Hash)
	if errors.Is(err, user.ErrFactorNeeded) {
		if err := h.waits(c, &f, b); err != nil {
			return err
		}
		return h.proceed(c, f)
	}
	if errors.Is(err, user.ErrNotFound) {
		return h.showLogin(c, f, pages.Login{Form: pages.Form{Error: pages.InvalidCredentials.With()}})
	}
	if err != nil {
		return err
	}
	h.setCookie(c, cookieLogin, secret, browserSessionLifetime, http.SameSiteLaxMode)
	f.Visit = oauth.Visit{Login: b, Authenticated: f.waiting.UserID == "" || f.waiting.Fresh || f.Authenticated, Chosen: f.Chosen}
	f.waiting = factor.Login{}
	return h.proceed(c, f)
}

// signupPage is GET /oauth2/signup.
func (h *Login) signupPage(c echo.Context) error {
	if c.QueryParam("request") == "" {
		return h.Door.Redirect(c, "", "/")
	}
	f, err := h.resume(c, c.QueryParam("request"))
	if err != nil {
		return err
	}
	return h.showSignup(c, f, pages.Signup{Email: f.LoginHint})
}

// signupForm is POST /oauth2/signup.
func (h *Login) signupForm(c echo.Context) error {
	f, v, err := h.resumeForm(c)
	if err != nil {
		return err
	}
	if h.Passwords.Signup.Closed {
		return user.ErrSignupClosed
	}
	again := func(m pages.Message) error {
		return h.showSignup(c, f, pages.Signup{Email: v.Get("email"), Name: v.Get("name"), Form: pages.Form{Error: m}})
	}
	email, err := user.ParseEmail(v.Get("email"))
	if err != nil {
		return again(pages.EmailInvalid.With())
	}
	name, err := user.ParseName(v.Get("name"))
	if err != nil {
		return again(pages.NameInvalid.With())
	}
	var u user.User
	if h.Passwords.Account.Required() {
		err = h.signUpFirst(c, f, email, name, v.Get("password"))
	} else {
		u, err = h.Passwords.Signup.Create(c.Request().Context(), email, name, v.Get("password"), door.Origin(c))
	}
	if errors.Is(err, password.ErrTooLong) {
		return again(pages.PasswordTooLong.With("max", strconv.Itoa(password.MaxLength)))
	}
	if m := h.loginMessage(c, err); m.ID != "" {
		return again(m)
	}
	if err != nil {
		return err
	}
	if u.ID == "" {
		return nil // the page that waits for the proof is shown
	}
	if err := h.Passwords.Account.Greet(c.Request().Context(), u, door.Origin(c)); err != nil {
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
