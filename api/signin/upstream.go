package signin

import (
	"errors"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/api/pages"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/upstream"
)

// provider is GET /oauth2/provider/{id}: the link of a provider on the login page.
func (h *Login) provider(c echo.Context) error {
	f, err := h.resume(c, c.QueryParam("request"))
	if err != nil {
		return err
	}
	return h.beginProvider(c, f, c.Param("id"))
}

// beginProvider sends the browser to a provider.
func (h *Login) beginProvider(c echo.Context, f flow, id string) error {
	p, err := h.Providers.Provider(id)
	if err != nil {
		return err
	}
	return h.begin(c, p, upstream.Request{
		Continue:  f.Parameters,
		LoginHint: f.LoginHint,
		UILocales: f.UILocales,
		Prompt:    providerPrompt(f),
	})
}

// providerPrompt is what the provider is told to ask: a client that wants the user to authenticate now means the provider as
// well.
func providerPrompt(f flow) string {
	for _, p := range []string{oauth.PromptLogin, oauth.PromptSelectAccount} {
		if f.Asks(p) {
			return p
		}
	}
	return ""
}

// callback is GET and POST /oauth2/callback/{id}: the browser comes back from a provider.
func (h *Login) callback(c echo.Context) error {
	values, err := parameters(c)
	if err != nil {
		return err
	}
	ctx := c.Request().Context()
	p, err := h.Providers.Provider(c.Param("id"))
	if err != nil {
		return err
	}
	answer, err := upstream.ParseCallback(values)
	if err != nil {
		return err
	}
	attempt, err := h.Upstream.TakeAttempt(ctx, upstream.HashSecret(seal.Secret(answer.State)), h.Door.Now())
	if errors.Is(err, upstream.ErrNotFound) {
		return upstream.ErrState
	}
	if err != nil {
		return err
	}
	browser := seal.Secret(h.cookie(c, cookieAttempt))
	h.setCookie(c, cookieAttempt, "", 0, http.SameSiteLaxMode)
	identity, tokens, err := p.Complete(ctx, attempt, browser, answer)
	if err != nil {
		return h.providerFailed(c, p, attempt, err)
	}
	if attempt.UserID != "" {
		if b, err := h.browserSession(c); err != nil {
			return err
		} else if b.UserID != attempt.UserID { // logged out, or somebody else, meanwhile
			return upstream.ErrState
		}
	}
	decision, err := h.Linker.Resolve(ctx, p, *identity, attempt.UserID, door.Origin(c))
	if err != nil {
		return err
	}
	if tokens != nil {
		if err := h.Keeper.Save(ctx, *identity, *tokens); err != nil {
			return err
		}
	}
	door.EventOf(c).UserID = decision.UserID
	if attempt.UserID != "" { // an identity was added
		return h.Door.Redirect(c, attempt.Continue)
	}
	f, err := h.resumeParameters(c, attempt.Continue)
	if err != nil {
		return err
	}
	return h.loggedIn(c, f, decision.UserID, oauth.AMRProvider(), oauth.Proof{
		Provider: identity.Provider,
		Subject:  identity.Subject,
	})
}

// providerFailed takes the user who said no back to the login page, with everything as it was; any other failure gets a page
// of its own.
func (h *Login) providerFailed(c echo.Context, p *upstream.Provider, attempt upstream.Attempt, err error) error {
	if !errors.Is(err, upstream.ErrDenied) || attempt.UserID != "" {
		return err
	}
	f, resumeErr := h.resumeParameters(c, attempt.Continue)
	if resumeErr != nil {
		return resumeErr
	}
	door.EventOf(c).Err = err
	return h.showLogin(c, f, pages.Login{
		Email: f.LoginHint,
		Form:  pages.Form{Error: pages.ProviderCancelled.With("provider", p.Name())},
	})
}
