package signin

import (
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/api/pages"
	"github.com/handstamp/handstamp/pkg/upstream"
	"github.com/handstamp/handstamp/pkg/user"
)

// linkLifetime is how long the address that begins to add an identity can be used.
const linkLifetime = 5 * time.Minute

// addIdentity is POST /v1/identities/{provider}: it answers the address to send the browser to.
func (h *Upstreams) addIdentity(c echo.Context) error {
	var b struct {
		ReturnTo string `json:"return_to"`
	}
	if err := door.ReadJSON(c, &b); err != nil {
		return err
	}
	if err := door.Required("return_to", b.ReturnTo); err != nil {
		return err
	}
	claims := door.ClaimsOf(c)
	client, err := h.Clients.Client(c.Request().Context(), claims.ClientID)
	if err != nil {
		return err
	}
	if !slices.Contains(client.RedirectURIs, b.ReturnTo) {
		return door.InvalidRequest("return_to", "is not a redirect URI of the client")
	}
	p, err := h.Providers.Provider(c.Param("provider"))
	if err != nil {
		return err
	}
	sealed := h.States.seal(linkPurpose, linkState{
		UserID:   claims.Subject,
		Provider: p.ID(),
		ReturnTo: b.ReturnTo,
		Expires:  h.Door.Now().Add(linkLifetime).Unix(),
	})
	return door.WriteJSON(c, http.StatusOK, "application/json",
		map[string]string{"url": h.Door.Issuer() + pageLink("/oauth2/identities", sealed)})
}

// beginIdentity is GET /oauth2/identities: the browser of the user who adds an identity goes to the provider. The user must
// be logged in in this browser: otherwise an attacker could add a stranger's identity to the attacker's own account by
// sending the stranger here.
func (h *Upstreams) beginIdentity(c echo.Context) error {
	var link linkState
	if !h.States.open(linkPurpose, c.QueryParam("request"), &link) || h.Door.Now().Unix() >= link.Expires {
		return expired("")
	}
	b, err := h.browserSession(c)
	if err != nil {
		return err
	}
	if b.UserID != link.UserID {
		return &door.PageError{
			Status: http.StatusForbidden,
			What:   pages.FaultForbidden,
			Code:   "login_required",
			Detail: "log in at this browser as the user who adds the identity",
		}
	}
	p, err := h.Providers.Provider(link.Provider)
	if err != nil {
		return err
	}
	return h.begin(c, p, upstream.Request{UserID: b.UserID, Continue: link.ReturnTo}, "")
}

// maxAttempts is how many logins at providers a browser may have under way; the oldest make way. maxAttemptBytes bounds what
// their cookies remember of the requests: all cookies together have to fit into one line of a header, 8 KiB behind nginx.
const (
	maxAttempts     = 20
	maxAttemptBytes = 4 << 10
)

// attemptCookie is the name of the cookie of an attempt.
func attemptCookie(stateHash [32]byte) string {
	return cookieAttempt + hex.EncodeToString(stateHash[:4])
}

// begin sends the browser to a provider. state is the sealed state of the request to come back to, for a callback whose
// attempt is used up; empty for none.
func (h *Upstreams) begin(c echo.Context, p *upstream.Provider, r upstream.Request, state string) error {
	if wait := h.Attempts.Take(c.RealIP()); wait > 0 {
		return &user.AttemptError{RetryAfter: wait}
	}
	ctx := c.Request().Context()
	r.RedirectURI = h.Door.Issuer() + callbackPath + url.PathEscape(p.ID())
	begun, err := p.Begin(ctx, r)
	if err != nil {
		return err
	}
	if err := h.Upstream.SaveAttempt(ctx, begun.Attempt); err != nil {
		return err
	}
	sameSite := http.SameSiteLaxMode
	if p.FormPost() {
		sameSite = http.SameSiteNoneMode // the answer is a cross-site post
	}
	bytes, others := len(state), h.several(c, cookieAttempt)
	for i, other := range others {
		bytes += len(other.Name) + len(other.Value)
		if i <= len(others)-maxAttempts {
			h.setCookie(c, strings.TrimPrefix(other.Name, h.cookieName("")), "", 0, sameSite)
		}
	}
	if bytes > maxAttemptBytes {
		state = ""
	}
	h.setCookie(c, attemptCookie(begun.Attempt.StateHash), string(begun.Browser)+"."+state, upstream.AttemptLifetime, sameSite)
	return h.Door.Redirect(c, p.Name(), begun.URL)
}
