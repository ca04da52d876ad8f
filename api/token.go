package api

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/pkg/oauth"
)

// token is POST /oauth2/token (RFC 6749, section 3.2).
func (a *API) token(c echo.Context) error {
	r, err := readForm(c)
	if err != nil {
		return err
	}
	response, err := a.OAuth.Token(c.Request().Context(), r)
	if err != nil {
		return err
	}
	return writeTokens(c, http.StatusOK, response)
}

// tokenBody is RFC 6749, section 5.1.
type tokenBody struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int64  `json:"expires_in"`
	RefreshToken string `json:"refresh_token,omitempty"`
	IDToken      string `json:"id_token,omitempty"`
	Scope        string `json:"scope"`
}

// writeTokens is the one writer of token responses.
func writeTokens(c echo.Context, status int, r *oauth.TokenResponse) error {
	noStore(c.Response().Header())
	if !r.SessionID.IsZero() {
		eventOf(c).sessionID = r.SessionID.String()
	}
	return writeJSON(c, status, "application/json", tokenBody{
		AccessToken: r.AccessToken, TokenType: "Bearer", ExpiresIn: int64(r.ExpiresIn.Seconds()),
		RefreshToken: r.RefreshToken, IDToken: r.IDToken, Scope: r.Scope,
	})
}
