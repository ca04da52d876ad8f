package api

import (
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/pages"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/upstream"
)

const callbackPath = "/oauth2/callback/"

// provider is GET /oauth2/provider/{id}: the link of a provider on the login page.
func (a *API) provider(c echo.Context) error {
	f, err := a.resume(c, c.QueryParam("request"))
	if err != nil {
		return err
	}
	return a.beginProvider(c, f, c.Param("id"))
}

// beginProvider sends the browser to a provider.
func (a *API) beginProvider(c echo.Context, f flow, id string) error {
	p, err := a.Providers.Provider(id)
	if err != nil {
		return err
	}
	return a.begin(c, p, upstream.Request{Continue: f.Parameters, LoginHint: f.LoginHint, UILocales: f.UILocales, Prompt: providerPrompt(f)})
}

// providerPrompt is what the provider is told to ask: a client that wants the user to authenticate now means the provider as well.
func providerPrompt(f flow) string {
	for _, p := range []string{oauth.PromptLogin, oauth.PromptSelectAccount} {
		if f.Asks(p) {
			return p
		}
	}
	return ""
}

func (a *API) begin(c echo.Context, p *upstream.Provider, r upstream.Request) error {
	ctx := c.Request().Context()
	r.RedirectURI = a.config.Issuer + callbackPath + url.PathEscape(p.ID())
	begun, err := p.Begin(ctx, r)
	if err != nil {
		return err
	}
	if err := a.Upstream.SaveAttempt(ctx, begun.Attempt); err != nil {
		return err
	}
	sameSite := http.SameSiteLaxMode
	if p.FormPost() {
		sameSite = http.SameSiteNoneMode // the answer is a cross-site post
	}
	a.setCookie(c, cookieAttempt, string(begun.Browser), upstream.AttemptLifetime, sameSite)
	return a.redirect(c, begun.URL)
}

// callback is GET and POST /oauth2/callback/{id}: the browser comes back from a provider.
func (a *API) callback(c echo.Context) error {
	values := c.QueryParams()
	if c.Request().Method == http.MethodPost {
		r, err := readForm(c)
		if err != nil {
			return err
		}
		values = url.Values(r.Form)
	}
	ctx := c.Request().Context()
	p, err := a.Providers.Provider(c.Param("id"))
	if err != nil {
		return err
	}
	answer, err := upstream.ParseCallback(values)
	if err != nil {
		return err
	}
	attempt, err := a.Upstream.TakeAttempt(ctx, upstream.HashSecret(seal.Secret(answer.State)), time.Now())
	if errors.Is(err, upstream.ErrNotFound) {
		return upstream.ErrState
	}
	if err != nil {
		return err
	}
	browser := seal.Secret(a.cookie(c, cookieAttempt))
	a.setCookie(c, cookieAttempt, "", 0, http.SameSiteLaxMode)
	identity, tokens, err := p.Complete(ctx, attempt, browser, answer)
	if err != nil {
		return a.providerFailed(c, p, attempt, err)
	}
	if attempt.UserID != "" {
		if b, err := a.browserSession(c); err != nil {
			return err
		} else if b.UserID != attempt.UserID { // logged out, or somebody else, meanwhile
			return upstream.ErrState
		}
	}
	decision, err := a.Linker.Resolve(ctx, p, *identity, attempt.UserID, origin(c))
	if err != nil {
		return err
	}
	if tokens != nil {
		if err := a.Keeper.Save(ctx, *identity, *tokens); err != nil {
			return err
		}
	}
	eventOf(c).userID = decision.UserID
	if attempt.UserID != "" { // an identity was added
		return a.redirect(c, attempt.Continue)
	}
	f, err := a.resumeParameters(c, attempt.Continue)
	if err != nil {
		return err
	}
	return a.loggedIn(c, f, decision.UserID, []string{"fed"}, oauth.Proof{Provider: identity.Provider, Subject: identity.Subject})
}

// assets is GET /assets/*: style sheet and pictures of the hosted pages.
func (a *API) assets(c echo.Context) error {
	a.Pages.ServeAsset(c.Response(), c.Request())
	return nil
}

// providerFailed takes the user who said no back to the login page, with everything as it was; any other failure gets a page of its own.
func (a *API) providerFailed(c echo.Context, p *upstream.Provider, attempt upstream.Attempt, err error) error {
	if !errors.Is(err, upstream.ErrDenied) || attempt.UserID != "" {
		return err
	}
	f, resumeErr := a.resumeParameters(c, attempt.Continue)
	if resumeErr != nil {
		return resumeErr
	}
	eventOf(c).err = err
	return a.showLogin(c, f, pages.Login{Email: f.LoginHint, Form: pages.Form{Error: pages.ProviderCancelled.With("provider", p.Name())}})
}

// providerFault puts the failures of providers into the words of a page; nil for any other.
func providerFault(err error) *pageError {
	name := "provider"
	var detail string
	if e, ok := errors.AsType[*upstream.Error](err); ok {
		name, detail = e.Provider, e.Description
	}
	for _, row := range []struct {
		err    error
		status int
		what   pages.MessageID
		code   string
	}{
		{upstream.ErrState, http.StatusBadRequest, pages.FaultExpired, "expired"},
		{upstream.ErrUnknownProvider, http.StatusNotFound, pages.FaultNotFound, "unknown_provider"},
		{upstream.ErrDenied, http.StatusForbidden, pages.FaultProviderDenied, "access_denied"},
		{upstream.ErrUnavailable, http.StatusBadGateway, pages.FaultProviderUnavailable, "provider_unavailable"},
		{upstream.ErrInvalidAnswer, http.StatusBadGateway, pages.FaultProviderAnswer, "provider_answer"},
		{upstream.ErrMisconfigured, http.StatusBadGateway, pages.FaultProviderUnavailable, "provider_misconfigured"},
		{upstream.ErrNotAllowed, http.StatusForbidden, pages.FaultProviderDenied, "not_allowed"},
		{upstream.ErrUserDisabled, http.StatusForbidden, pages.FaultProviderDenied, "not_allowed"},
		{upstream.ErrIdentityTaken, http.StatusConflict, pages.FaultProviderConflict, "identity_taken"},
		{upstream.ErrProviderLinked, http.StatusConflict, pages.FaultProviderConflict, "provider_linked"},
		{upstream.ErrAmbiguousEmail, http.StatusConflict, pages.FaultProviderConflict, "ambiguous_email"},
		{upstream.ErrEmailRequired, http.StatusForbidden, pages.FaultProviderEmail, "email_required"},
		{upstream.ErrSignupClosed, http.StatusForbidden, pages.FaultSignupClosed, "signup_disabled"},
	} {
		if errors.Is(err, row.err) {
			return &pageError{status: row.status, what: row.what, args: []string{"provider", name}, code: row.code, detail: detail, err: err}
		}
	}
	return nil
}
