package signin

import (
	"net/http"
	"net/url"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/api/pages"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/token"
)

// flow is an authorization request on its way through the hosted pages.
type flow struct {
	*oauth.Authorization
	login         oauth.BrowserSession // of this browser, zero if it is not logged in
	authenticated bool                 // the user has logged in for this request
	chosen        bool                 // the user has chosen to go on as who is logged in
	askedIn       oauth.Hash           // the browser session that the page which is answered was shown in
}

// authorize is GET and POST /oauth2/authorize (RFC 6749, section 3.1; OpenID Connect Core, section 3.1.2.1).
func (h *Login) authorize(c echo.Context) error {
	values := c.QueryParams()
	if c.Request().Method == http.MethodPost {
		r, err := door.ReadForm(c)
		if err != nil {
			return err
		}
		values = url.Values(r.Form)
	}
	request, err := h.OAuth.Authorize(c.Request().Context(), oauth.Form(values))
	if err != nil {
		return err
	}
	f := flow{Authorization: request}
	if f.login, err = h.browserSession(c); err != nil {
		return err
	}
	return h.proceed(c, f)
}

// proceed does what is next for a request: log the user in, let the user choose or consent, or answer the client.
func (h *Login) proceed(c echo.Context, f flow) error {
	door.EventOf(c).ClientID, door.EventOf(c).UserID = f.Client.ID, f.login.UserID
	wanted := h.wanted(f)
	another := wanted != "" && f.login.UserID != wanted
	loggedIn := f.login.UserID != "" && (f.authenticated || h.stillCounts(f)) && !another
	switch {
	case f.authenticated && another:
		return f.refuse(oauth.LoginRequired, "another user has logged in than the one of id_token_hint")
	case !loggedIn && f.Asks(oauth.PromptNone):
		return f.refuse(oauth.LoginRequired, "the user is not logged in")
	case !loggedIn && f.Provider != "":
		return h.beginProvider(c, f, f.Provider)
	case !loggedIn && f.Asks(oauth.PromptCreate):
		return h.showSignup(c, f, pages.Signup{})
	case !loggedIn:
		return h.showLogin(c, f, pages.Login{Email: f.LoginHint})
	case f.Asks(oauth.PromptSelectAccount) && !f.chosen && !f.authenticated:
		return h.showContinue(c, f)
	}
	needed, err := h.needsConsent(c, f)
	switch {
	case err != nil:
		return err
	case needed && f.Asks(oauth.PromptNone):
		return f.refuse(oauth.ConsentRequired, "the user has not consented")
	case needed:
		return h.showConsent(c, f)
	}
	return h.answer(c, f)
}

// wanted is the user whom the client has in mind (id_token_hint: OpenID Connect Core, section 3.1.2.1); empty for whoever it
// is. A hint that cannot be read, because its key is long gone, names nobody.
func (h *Login) wanted(f flow) string {
	if f.IDTokenHint == "" {
		return ""
	}
	hint, err := token.ParseHint(f.IDTokenHint, h.Door.Issuer(), h.Keys.Public)
	if err != nil {
		return ""
	}
	return hint.Subject
}

// stillCounts reports whether the browser's login is recent enough for the request.
func (h *Login) stillCounts(f flow) bool {
	if f.Asks(oauth.PromptLogin) || f.Asks(oauth.PromptCreate) {
		return false
	}
	return f.MaxAge < 0 || time.Since(f.login.AuthTime) <= f.MaxAge && f.MaxAge > 0
}

func (f flow) refuse(code oauth.ErrorCode, description string) error {
	return &oauth.AuthorizationError{
		Refusal:      &oauth.Error{Code: code, Description: description},
		RedirectURI:  f.RedirectURI,
		State:        f.State,
		ResponseMode: f.ResponseMode,
	}
}

// answer gives the client its code.
func (h *Login) answer(c echo.Context, f flow) error {
	code, err := h.OAuth.Issue(c.Request().Context(), f.Authorization, f.login)
	if err != nil {
		return err
	}
	return h.Door.Respond(c, f.RedirectURI, f.ResponseMode, url.Values{"code": {code}, "state": door.NonEmpty(f.State)})
}
