package signin

import (
	"net/url"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/api/pages"
	"github.com/handstamp/handstamp/pkg/factor"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/token"
)

// flow is an authorization request on its way through the hosted pages.
type flow struct {
	*oauth.Authorization
	oauth.Visit
	waiting   factor.Login // for its second factor, if a user ID stands in it
	sameLogin bool         // the page that is answered was shown to the login of now
}

// authorize is GET and POST /oauth2/authorize (RFC 6749, section 3.1; OpenID Connect Core, section 3.1.2.1).
func (h *Login) authorize(c echo.Context) error {
	values, err := parameters(c)
	if err != nil {
		return err
	}
	door.Speak(c, values.Get("ui_locales"))
	request, err := h.OAuth.Authorize(c.Request().Context(), oauth.Form(values))
	if err != nil {
		return err
	}
	f := flow{Authorization: request}
	if f.Login, err = h.browserSession(c); err != nil {
		return err
	}
	return h.proceed(c, f)
}

// proceed shows what comes next for a request, or answers the client.
func (h *Login) proceed(c echo.Context, f flow) error {
	door.EventOf(c).ClientID, door.EventOf(c).UserID = f.Client.ID, f.visit().Login.UserID
	step, refusal, _, err := h.next(c, f)
	if err != nil {
		return err
	}
	switch step {
	case oauth.StepProvider:
		return h.beginProvider(c, f, f.Provider)
	case oauth.StepSignup:
		return h.showSignup(c, f, pages.Signup{})
	case oauth.StepLogin:
		page, err := h.confirmation(c, f, pages.Login{Email: f.LoginHint})
		if err != nil {
			return err
		}
		return h.showLogin(c, f, page)
	case oauth.StepSelectAccount:
		return h.showContinue(c, f)
	case oauth.StepFactor:
		return h.showMFA(c, f, "", pages.Message{})
	case oauth.StepConsent:
		return h.showConsent(c, f)
	case oauth.StepAnswer:
		return h.answer(c, f)
	case oauth.StepRefuse:
	}
	return f.refuse(refusal)
}

// next gathers what the rule in [oauth.Next] needs. given is what the user has allowed a third-party client before.
func (h *Login) next(c echo.Context, f flow) (step oauth.Step, refusal *oauth.Error, given oauth.Consent, err error) {
	v := f.visit()
	if f.Client.ThirdParty && v.Login.UserID != "" {
		if given, err = h.Consents.Consent(c.Request().Context(), v.Login.UserID, f.Client.ID); err != nil {
			return oauth.StepRefuse, nil, oauth.Consent{}, err
		}
	}
	step, refusal = oauth.Next(f.Authorization, v, h.wanted(f), given, h.Door.Now())
	return step, refusal, given, nil
}

// wanted is the user whom the client has in mind (id_token_hint: OpenID Connect Core, section 3.1.2.1); empty for any.
// A hint that cannot be read, because its key is long gone, names no user.
func (h *Login) wanted(f flow) string {
	if f.IDTokenHint == "" {
		return ""
	}
	hint, err := token.ParseHint(f.IDTokenHint, h.Door.Issuer(), h.Keys.Hint)
	if err != nil {
		return ""
	}
	return hint.Subject
}

func (f flow) refuse(refusal *oauth.Error) error {
	return &oauth.AuthorizationError{
		Refusal:      refusal,
		ClientName:   f.Client.Name,
		RedirectURI:  f.RedirectURI,
		State:        f.State,
		ResponseMode: f.ResponseMode,
	}
}

// answer gives the client its code.
func (h *Login) answer(c echo.Context, f flow) error {
	code, err := h.OAuth.Issue(c.Request().Context(), f.Authorization, f.Login, door.Origin(c))
	if err != nil {
		return err
	}
	values := url.Values{"code": {code}, "state": door.NonEmpty(f.State)}
	return h.Door.Respond(c, f.Client.Name, f.RedirectURI, f.ResponseMode, values)
}
