package door

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/pages"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/verifier"
)

const claimsKey = "handstamp.claims"

// recentLogin is how long ago a user may have logged in who deletes the account or changes what logs in to it.
const recentLogin = 10 * time.Minute

// authenticated lets a handler run only with a valid access token of a user at one of the operator's own clients that is
// meant for the account API, which it finds by ClaimsOf: its scope has account, and the issuer is its only audience. A token that
// a resource server gets to see is worth nothing here. The token is checked without a query: signature and claims offline,
// revocation in this replica's copy of the blocklist. What a user has allowed a third-party client stands in its scope, and
// none of that is the account itself.
func (d *Door) authenticated(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		claims, err := Authenticate(c, d.config.Verifier)
		if err != nil {
			return err
		}
		client, err := d.config.Clients.Client(c.Request().Context(), claims.ClientID)
		if errors.Is(err, oauth.ErrClientNotFound) {
			return InvalidToken(detailInvalid, err)
		}
		if err != nil {
			return err
		}
		if client.ThirdParty {
			return &Problem{
				Status:    http.StatusForbidden,
				Code:      "first_party_only",
				Title:     titleNotAllowed,
				Detail:    "the access token is a third-party client's",
				Challenge: `Bearer error="insufficient_scope"`,
			}
		}
		if len(claims.Audience) != 1 || claims.Audience[0] != d.config.Issuer {
			return InvalidToken("the access token is meant for other services: ask for the resource "+d.config.Issuer, nil)
		}
		if !claims.HasScope(oauth.ScopeAccount) || !client.MayAccount() {
			return InsufficientScope(oauth.ScopeAccount, "the access token lacks the scope "+oauth.ScopeAccount)
		}
		c.Set(claimsKey, claims)
		return next(c)
	}
}

// recently lets a handler run only if the user of the access token has logged in within recentLogin. The challenge is that of
// RFC 9470, section 3, but goes with a 403: a refresh brings no token that would do.
func (d *Door) recently(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if d.Now().Sub(ClaimsOf(c).AuthTime) <= recentLogin {
			return next(c)
		}
		const detail = "the user must have logged in within the last ten minutes: log in again"
		return &Problem{
			Status: http.StatusForbidden,
			Code:   "insufficient_user_authentication",
			Title:  titleNotAllowed,
			Detail: detail,
			Challenge: fmt.Sprintf(`Bearer error="insufficient_user_authentication", error_description="%s", max_age="%d"`, detail,
				int(recentLogin.Seconds())),
		}
	}
}

// Authenticate accepts a user's access token of a request, and refuses any other.
func Authenticate(c echo.Context, v *verifier.Verifier) (*verifier.Claims, error) {
	raw, err := verifier.TokenFrom(c.Request())
	if err != nil {
		return nil, err
	}
	claims, err := v.Verify(c.Request().Context(), raw)
	if err != nil {
		return nil, err
	}
	NoStore(c.Response().Header())
	e := EventOf(c)
	e.UserID, e.ClientID, e.SessionID = claims.Subject, claims.ClientID, claims.SessionID
	if claims.SessionID == "" { // a client's own token is no user's
		return nil, InvalidToken("the access token is not a user's", nil)
	}
	return claims, nil
}

// ClaimsOf returns the claims of the access token that the access of the route has checked.
func ClaimsOf(c echo.Context) *verifier.Claims {
	claims, ok := c.Get(claimsKey).(*verifier.Claims)
	if !ok {
		panic("route without authentication asks for claims")
	}
	return claims
}

// receiving lets a handler run only with an access token that a client has got for itself, with a scope. The handler finds it
// by ClaimsOf.
func (d *Door) receiving(scope string, next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		raw, err := verifier.TokenFrom(c.Request())
		if err != nil {
			return err
		}
		claims, err := d.config.Verifier.Verify(c.Request().Context(), raw)
		if err != nil {
			return err
		}
		NoStore(c.Response().Header())
		EventOf(c).ClientID = claims.ClientID
		if claims.SessionID != "" || claims.Subject != claims.ClientID || !claims.HasScope(scope) {
			return InsufficientScope(scope, "streams need a client's own access token with the scope "+scope)
		}
		client, err := d.config.Clients.Client(c.Request().Context(), claims.ClientID)
		if errors.Is(err, oauth.ErrClientNotFound) || err == nil && client.Disabled() {
			return InvalidToken(detailInvalid, err)
		}
		if err != nil {
			return err
		}
		c.Set(claimsKey, claims)
		return next(c)
	}
}

const pageKey = "handstamp.page"

// hosted marks a route as one of the hosted pages, whose errors are pages.
func (d *Door) hosted(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		c.Set(pageKey, true)
		NoStore(c.Response().Header())
		return next(c)
	}
}

// ownPosts refuses a post that does not come from our own pages. A browser says where a post comes from. A caller that says
// nothing is no browser, and has no cookie that an attacker could have made it send.
func (d *Door) ownPosts(next echo.HandlerFunc) echo.HandlerFunc {
	var crossOrigin http.CrossOriginProtection
	return func(c echo.Context) error {
		r := c.Request()
		// behind a proxy the Host header is not the issuer's
		if r.Method != http.MethodPost || r.Header.Get("Origin") == d.config.Issuer {
			return next(c)
		}
		if err := crossOrigin.Check(r); err != nil || r.Header.Get("Origin") == "null" {
			return &PageError{Status: http.StatusForbidden, What: pages.FaultCrossSite, Code: "cross_site", Err: err}
		}
		return next(c)
	}
}
