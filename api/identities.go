package api

import (
	"crypto/sha256"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/pages"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/upstream"
)

// identityBody is a user's link to a provider.
type identityBody struct {
	Provider    string    `json:"provider"`
	Subject     string    `json:"subject"`
	Email       string    `json:"email,omitempty"`
	LinkedAt    time.Time `json:"linked_at"`
	HasToken    bool      `json:"has_token"`
	NeedsReauth bool      `json:"needs_reauth"`
}

// identities is GET /v1/identities.
func (a *API) identities(c echo.Context) error {
	list, err := a.Upstream.Identities(c.Request().Context(), claimsOf(c).Subject)
	if err != nil {
		return err
	}
	body := struct {
		Identities []identityBody `json:"identities"`
	}{make([]identityBody, len(list))}
	for i, one := range list {
		body.Identities[i] = identityBody{
			Provider: one.Provider, Subject: one.Subject, Email: one.Email, LinkedAt: one.LinkedAt.UTC(), HasToken: one.HasTokens, NeedsReauth: one.NeedsReauth,
		}
	}
	return writeJSON(c, http.StatusOK, "application/json", body)
}

// linkLifetime is how long the address that begins to add an identity can be used.
const linkLifetime = 5 * time.Minute

// addIdentity is POST /v1/identities/{provider}: it answers the address to send the browser to.
func (a *API) addIdentity(c echo.Context) error {
	var b struct {
		ReturnTo string `json:"return_to"`
	}
	if err := readJSON(c, &b); err != nil {
		return err
	}
	if err := required("return_to", b.ReturnTo); err != nil {
		return err
	}
	claims := claimsOf(c)
	client, err := a.Clients.Client(c.Request().Context(), claims.ClientID)
	if err != nil {
		return err
	}
	if !slices.Contains(client.RedirectURIs, b.ReturnTo) {
		return invalidRequest("return_to", "is not a redirect URI of the client")
	}
	p, err := a.Providers.Provider(c.Param("provider"))
	if err != nil {
		return err
	}
	link := url.Values{"user": {claims.Subject}, "provider": {p.ID()}, "return_to": {b.ReturnTo}}
	sealed := a.pageStates.seal(pageState{Parameters: link.Encode(), Expires: time.Now().Add(linkLifetime).Unix()})
	return writeJSON(c, http.StatusOK, "application/json", map[string]string{"url": a.config.Issuer + a.pageLink("/oauth2/identities", sealed)})
}

// beginIdentity is GET /oauth2/identities: the browser of the user who adds an identity goes to the provider. The user must be logged in at this browser:
// else somebody could have a stranger's identity added to an account of their own by sending the stranger here.
func (a *API) beginIdentity(c echo.Context) error {
	expired := &pageError{status: http.StatusBadRequest, what: pages.FaultExpired, code: "expired"}
	state, ok := a.pageStates.open(c.QueryParam("request"))
	if !ok || state.Browser != (oauth.Hash{}) || time.Now().Unix() >= state.Expires {
		return expired
	}
	link, err := url.ParseQuery(state.Parameters)
	if err != nil || link.Get("user") == "" {
		return expired
	}
	b, err := a.browserSession(c)
	if err != nil {
		return err
	}
	if b.UserID != link.Get("user") {
		return &pageError{status: http.StatusForbidden, what: pages.FaultForbidden, code: "login_required", detail: "log in at this browser as the user who adds the identity"}
	}
	p, err := a.Providers.Provider(link.Get("provider"))
	if err != nil {
		return err
	}
	return a.begin(c, p, upstream.Request{UserID: b.UserID, Continue: link.Get("return_to")})
}

// removeIdentity is DELETE /v1/identities/{provider}. The last way in stays.
func (a *API) removeIdentity(c echo.Context) error {
	claims, provider := claimsOf(c), c.Param("provider")
	var configured []string
	for p := range a.Providers.All() {
		configured = append(configured, p.ID())
	}
	err := a.Upstream.RemoveIdentity(c.Request().Context(), upstream.Removal{
		UserID: claims.Subject, Provider: provider, Providers: configured,
		Event: audit.IdentityRemoved(time.Now(), claims.Subject, cut(provider), by(c)),
	})
	if err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// identityToken is GET /v1/identities/{provider}/token: the provider's access token, fresh.
func (a *API) identityToken(c echo.Context) error {
	tokens, err := a.Keeper.Token(c.Request().Context(), claimsOf(c).Subject, c.Param("provider"))
	if err != nil {
		return err
	}
	body := struct {
		AccessToken string     `json:"access_token"`
		TokenType   string     `json:"token_type"`
		Scope       string     `json:"scope,omitempty"`
		ExpiresAt   *time.Time `json:"expires_at,omitempty"`
	}{AccessToken: string(tokens.Access), TokenType: "Bearer", Scope: tokens.Scope}
	if !tokens.ExpiresAt.IsZero() {
		body.ExpiresAt = new(tokens.ExpiresAt.UTC())
	}
	return writeJSON(c, http.StatusOK, "application/json", body)
}

// maxIDTokenLife is how long a used ID token is remembered: longer than any provider's is accepted.
const maxIDTokenLife = 24 * time.Hour

// loginByIDToken is POST /v1/login/{provider}/id-token: a mobile application has logged the user in with the provider's own library.
func (a *API) loginByIDToken(c echo.Context) error {
	var b struct {
		IDToken  string `json:"id_token"`
		Nonce    string `json:"nonce"`
		ClientID string `json:"client_id"`
		Scope    string `json:"scope"`
	}
	if err := readJSON(c, &b); err != nil {
		return err
	}
	if err := errors.Join(required("id_token", b.IDToken), required("nonce", b.Nonce)); err != nil {
		return err
	}
	ctx := c.Request().Context()
	if err := a.OAuth.CheckLogin(ctx, b.ClientID, b.Scope); err != nil {
		return err
	}
	p, err := a.Providers.Provider(c.Param("provider"))
	if err != nil {
		return err
	}
	identity, err := p.VerifyIDToken(ctx, b.IDToken, b.Nonce)
	if err != nil {
		return err
	}
	if err := a.Upstream.UseIDToken(ctx, sha256.Sum256([]byte(b.IDToken)), time.Now().Add(maxIDTokenLife)); err != nil {
		return err
	}
	decision, err := a.Linker.Resolve(ctx, p, *identity, "", origin(c))
	if err != nil {
		return err
	}
	u, err := a.Store.UserByID(ctx, decision.UserID)
	if err != nil {
		return err
	}
	response, err := a.OAuth.Login(ctx, oauth.Login{
		User: u, Provider: identity.Provider, Subject: identity.Subject, ClientID: b.ClientID, Scope: b.Scope, AMR: []string{"fed"}, Origin: origin(c),
	})
	if err != nil {
		return err
	}
	eventOf(c).userID = u.ID
	return writeTokens(c, http.StatusOK, response)
}

// upstreamProblem puts the failures of providers and identities into the API's words; nil for any other.
func upstreamProblem(err error) *Problem {
	for _, row := range []struct {
		err    error
		status int
		code   string
		detail string
	}{
		{upstream.ErrNotFound, http.StatusNotFound, "not_found", "there is nothing here, or it is not yours"},
		{upstream.ErrUnknownProvider, http.StatusNotFound, "unknown_provider", "no provider has this ID"},
		{upstream.ErrLastCredential, http.StatusConflict, "last_credential", "the last way to log in cannot be removed; set a password first"},
		{upstream.ErrConflict, http.StatusConflict, "conflict", "read it again and repeat the request if it still makes sense"},
		{upstream.ErrReplayed, http.StatusUnauthorized, "invalid_credentials", "the ID token was used before"},
		{upstream.ErrReauthNeeded, http.StatusConflict, "needs_reauth", "the user has to log in at the provider again"},
		{upstream.ErrSealed, http.StatusConflict, "needs_reauth", "the user has to log in at the provider again"},
		{upstream.ErrUnavailable, http.StatusBadGateway, "provider_unavailable", "the provider cannot be reached; try again later"},
		{upstream.ErrMisconfigured, http.StatusBadGateway, "provider_misconfigured", "only the operator can help"},
		{upstream.ErrInvalidAnswer, http.StatusUnauthorized, "invalid_credentials", "the provider's token or answer is not accepted"},
		{upstream.ErrNotSupported, http.StatusBadRequest, "not_supported", "the provider cannot do this"},
		{upstream.ErrNotAllowed, http.StatusForbidden, "not_allowed", "users of this domain or tenant may not log in"},
		{upstream.ErrUserDisabled, http.StatusUnauthorized, "invalid_credentials", "login failed"},
		{upstream.ErrIdentityTaken, http.StatusConflict, "identity_taken", "the identity belongs to another user"},
		{upstream.ErrProviderLinked, http.StatusConflict, "provider_linked", "another identity at this provider is linked; remove it first"},
		{upstream.ErrAmbiguousEmail, http.StatusConflict, "ambiguous_email", "more than one user has this address"},
		{upstream.ErrEmailRequired, http.StatusForbidden, "email_required", "the provider gave no verified e-mail address"},
		{upstream.ErrSignupClosed, http.StatusForbidden, "signup_disabled", "ask the operator for an account"},
		{upstream.ErrDenied, http.StatusForbidden, "access_denied", "the login was declined at the provider"},
		{upstream.ErrState, http.StatusBadRequest, "expired", "start again"},
	} {
		if errors.Is(err, row.err) {
			return &Problem{Status: row.status, Code: row.code, Title: "The request is refused", Detail: row.detail, Err: err}
		}
	}
	return nil
}
