package signin

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

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

// journey is what an attempt keeps of the request on its way to a provider and back.
type journey struct {
	Parameters string `json:"p"`
	Again      bool   `json:"a,omitempty"` // the provider was asked before, and answered with a login that was too old
}

// beginProvider sends the browser to a provider.
func (h *Login) beginProvider(c echo.Context, f flow, id string) error {
	p, err := h.Providers.Provider(id)
	if err != nil {
		return err
	}
	return h.ask(c, f, p, providerPrompt(f), journey{Parameters: f.Parameters})
}

func (h *Login) ask(c echo.Context, f flow, p *upstream.Provider, prompt string, j journey) error {
	keep, err := json.Marshal(j)
	if err != nil {
		return err
	}
	request := upstream.Request{
		Continue:  string(keep),
		LoginHint: f.LoginHint,
		UILocales: f.UILocales,
		Prompt:    prompt,
	}
	if f.MaxAge >= 0 {
		request.MaxAge = strconv.Itoa(int(f.MaxAge / time.Second))
	}
	return h.begin(c, p, request, h.state(c, f))
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
	stateHash := upstream.HashSecret(seal.Secret(answer.State))
	browser, state, _ := strings.Cut(h.cookie(c, attemptCookie(stateHash)), ".")
	attempt, err := h.Upstream.TakeAttempt(ctx, stateHash, h.Door.Now())
	if errors.Is(err, upstream.ErrNotFound) {
		return h.usedUp(state)
	}
	if err != nil {
		return err
	}
	identity, tokens, err := p.Complete(ctx, attempt, seal.Secret(browser), answer)
	if attempt.UserID != "" {
		if err != nil {
			return err
		}
		return h.linkIdentity(c, p, attempt, *identity, tokens)
	}
	var j journey
	if jsonErr := json.Unmarshal([]byte(attempt.Continue), &j); jsonErr != nil {
		return errors.Join(upstream.ErrState, jsonErr, err)
	}
	f, resumeErr := h.resumeParameters(c, j.Parameters)
	switch {
	case errors.Is(err, upstream.ErrDenied) && resumeErr == nil:
		door.EventOf(c).Err = err
		return h.showLogin(c, f, pages.Login{Email: f.LoginHint, Form: providerSays(pages.ProviderCancelled, p)})
	case err != nil:
		return err
	case resumeErr != nil:
		return resumeErr
	}
	now := h.Door.Now()
	if begun := attempt.ExpiresAt.Add(-upstream.AttemptLifetime); !f.FreshAt(identity.AuthTime, begun, now) {
		if j.Again || identity.AuthTime.IsZero() {
			return h.showLogin(c, f, pages.Login{Email: f.LoginHint, Form: providerSays(pages.ProviderTooOld, p)})
		}
		j.Again = true
		return h.ask(c, f, p, oauth.PromptLogin, j)
	}
	userID, err := h.resolve(c, p, attempt, *identity, tokens)
	if err != nil {
		return err
	}
	return h.loggedIn(c, f, oauth.BrowserSession{
		UserID:   userID,
		AMR:      oauth.AMRProvider(),
		AuthTime: identity.AuthTimeAt(now),
		Proof:    oauth.Proof{Provider: identity.Provider, Subject: identity.Subject},
	})
}

// usedUp is what a callback shows whose attempt is over or none: after a reload, or the back button. state is of the request
// that the browser had begun the attempt for, which it can go on with.
func (h *Login) usedUp(state string) error {
	var p requestState
	if !h.States.open(requestPurpose, state, &p) {
		return upstream.ErrState
	}
	e := expired(p.Parameters)
	e.Err = upstream.ErrState
	return e
}

// linkIdentity adds the identity to the logged-in user who began to.
func (h *Login) linkIdentity(
	c echo.Context, p *upstream.Provider, attempt upstream.Attempt, identity upstream.Identity, tokens *upstream.Tokens,
) error {
	if b, err := h.browserSession(c); err != nil {
		return err
	} else if b.UserID != attempt.UserID { // logged out, or somebody else, meanwhile
		return upstream.ErrState
	}
	if _, err := h.resolve(c, p, attempt, identity, tokens); err != nil {
		return err
	}
	return h.Door.Redirect(c, "", attempt.Continue)
}

// resolve finds, links or makes the user of an identity, and keeps the provider's tokens.
func (h *Login) resolve(
	c echo.Context, p *upstream.Provider, attempt upstream.Attempt, identity upstream.Identity, tokens *upstream.Tokens,
) (userID string, err error) {
	ctx := c.Request().Context()
	decision, err := h.Linker.Resolve(ctx, p, identity, attempt.UserID, door.Origin(c))
	if err != nil {
		return "", err
	}
	if tokens != nil {
		if err := h.Keeper.Save(ctx, identity, *tokens); err != nil {
			return "", err
		}
	}
	door.EventOf(c).UserID = decision.UserID
	return decision.UserID, nil
}

// providerSays is a message about a provider.
func providerSays(m pages.MessageID, p *upstream.Provider) pages.Form {
	return pages.Form{Error: m.With("provider", p.Name())}
}
