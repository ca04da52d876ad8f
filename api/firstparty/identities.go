package firstparty

import (
	"crypto/sha256"
	"errors"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
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
func (r *Identities) identities(c echo.Context) error {
	list, err := r.Upstream.Identities(c.Request().Context(), door.ClaimsOf(c).Subject)
	if err != nil {
		return err
	}
	body := struct {
		Identities []identityBody `json:"identities"`
	}{make([]identityBody, len(list))}
	for i, one := range list {
		body.Identities[i] = identityBody{
			Provider:    one.Provider,
			Subject:     one.Subject,
			Email:       one.Email,
			LinkedAt:    one.LinkedAt.UTC(),
			HasToken:    one.HasTokens,
			NeedsReauth: one.NeedsReauth,
		}
	}
	return door.WriteJSON(c, http.StatusOK, "application/json", body)
}

// removeIdentity is DELETE /v1/identities/{provider}. The last way in stays.
func (r *Identities) removeIdentity(c echo.Context) error {
	claims, provider := door.ClaimsOf(c), c.Param("provider")
	var configured []string
	for p := range r.Providers.All() {
		configured = append(configured, p.ID())
	}
	err := r.Upstream.RemoveIdentity(c.Request().Context(), upstream.Removal{
		UserID: claims.Subject, Provider: provider, Providers: configured,
		Event: audit.IdentityRemoved(r.Door.Now(), claims.Subject, door.Cut(provider), by(c)),
	})
	if err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// identityToken is GET /v1/identities/{provider}/token: the provider's access token, fresh.
func (r *Identities) identityToken(c echo.Context) error {
	tokens, err := r.Keeper.Token(c.Request().Context(), door.ClaimsOf(c).Subject, c.Param("provider"))
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
	return door.WriteJSON(c, http.StatusOK, "application/json", body)
}

// maxIDTokenLifetime is how long a used ID token is remembered: longer than any provider's is accepted.
const maxIDTokenLifetime = 24 * time.Hour

// loginByIDToken is POST /v1/login/{provider}/id-token: a mobile application has logged the user in with the provider's own
// library.
func (r *Identities) loginByIDToken(c echo.Context) error {
	var b struct {
		IDToken  string `json:"id_token"`
		Nonce    string `json:"nonce"`
		ClientID string `json:"client_id"`
		Scope    string `json:"scope"`
	}
	if err := door.ReadJSON(c, &b); err != nil {
		return err
	}
	if err := errors.Join(door.Required("id_token", b.IDToken), door.Required("nonce", b.Nonce)); err != nil {
		return err
	}
	ctx := c.Request().Context()
	client, err := r.OAuth.CheckLogin(ctx, b.ClientID, b.Scope)
	if err == nil {
		err = r.Door.FromPage(c, client)
	}
	if err != nil {
		return err
	}
	p, err := r.Providers.Provider(c.Param("provider"))
	if err != nil {
		return err
	}
	identity, err := p.VerifyIDToken(ctx, b.IDToken, b.Nonce)
	if err != nil {
		return err
	}
	if err := r.Upstream.UseIDToken(ctx, sha256.Sum256([]byte(b.IDToken)), r.Door.Now().Add(maxIDTokenLifetime)); err != nil {
		return err
	}
	decision, err := r.Linker.Resolve(ctx, p, *identity, "", door.Origin(c))
	if err != nil {
		return err
	}
	u, err := r.Users.UserByID(ctx, decision.UserID)
	if err != nil {
		return err
	}
	return r.MFA.loggedIn(c, http.StatusOK, oauth.Login{
		User:     u,
		Provider: identity.Provider,
		Subject:  identity.Subject,
		ClientID: b.ClientID,
		Scope:    b.Scope,
		AMR:      oauth.AMRProvider(),
		AuthTime: identity.AuthTimeAt(r.Door.Now()),
		Origin:   door.Origin(c),
	})
}
