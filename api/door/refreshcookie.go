package door

import (
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/session"
)

// The refresh token of a client travels in bodies, or in a cookie that no script can read. This file is all that knows of the
// cookie: from whom it is taken, how it is set, and what clears it.
//
// A cookie comes along with a request whoever has caused it. So a request of a client with a cookie counts only if a page of that
// client has sent it, which the browser says in Origin and Sec-Fetch-Site, and with a header that no page can send to another
// origin before the browser has asked us (Fetch standard, CORS preflight). That holds for requests that set the cookie, too: a
// stranger's login in somebody's browser would be as bad as a stranger's refresh.

const (
	// HeaderClient names the client that a page is of.
	HeaderClient = "X-Handstamp-Client"
	// HeaderHolder names the second holder in a browser whose request it is: it has a child session, and so a cookie of its own.
	HeaderHolder = "X-Handstamp-Holder"
)

// ValidHolder reports whether a text may name a holder.
func ValidHolder(name string) bool {
	return name != "" && len(name) <= 64 && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
}

// refreshCookieName is the name of a client's cookie. Several clients share an issuer, and several holders a browser,
// so each has one of its own.
func (d *Door) refreshCookieName(clientID, holder string) string {
	if holder != "" {
		clientID += "\x00" + holder // which no client ID has
	}
	sum := sha256.Sum256([]byte(clientID))
	return d.CookieName("hs_rt_" + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:])[:10]))
}

// refreshCookie is the cookie as it is set and as it is cleared: a browser clears only what has the same name, path and
// domain, and takes a cookie with the prefix __Host- only if it is Secure (RFC 6265bis, section 4.1.3.2).
func (d *Door) refreshCookie(c echo.Context, name, value string, maxAge int) {
	c.SetCookie(&http.Cookie{ //nolint:gosec // Secure is left out for a loopback issuer without https only
		Name:     name,
		Value:    value,
		Path:     "/",
		MaxAge:   maxAge,
		HttpOnly: true,
		Secure:   d.Secure(),
		SameSite: http.SameSiteLaxMode,
	})
}

// FromPage refuses a request of a client with a cookie unless a page of the client has sent it. Other clients pass.
func (d *Door) FromPage(c echo.Context, client oauth.Client) error {
	if !client.UsesCookie() {
		return nil
	}
	h := c.Request().Header
	sites := h.Values("Sec-Fetch-Site")
	if origin := d.pageOrigin(c.Request()); origin == "" || origin != d.config.Issuer && !slices.Contains(client.Origins, origin) {
		return &Problem{
			Status: http.StatusForbidden,
			Code:   "origin_not_allowed",
			Title:  titleRefused,
			Detail: "Origin is not one that the client is registered with: handstamp client update --origin",
		}
	}
	if slices.ContainsFunc(sites, func(site string) bool { return site != "same-origin" && site != "same-site" }) {
		return &Problem{
			Status: http.StatusForbidden,
			Code:   "cross_site",
			Title:  titleRefused,
			Detail: "the page is on another site than the issuer, and browsers keep its cookies from it: serve the issuer on a " +
				"subdomain of " +
				"the site of the application, or use a back end for the front end",
		}
	}
	if ids := h.Values(HeaderClient); len(ids) != 1 || ids[0] != client.ID {
		return NoClientHeader()
	}
	if holders := h.Values(HeaderHolder); len(holders) > 1 || len(holders) == 1 && !ValidHolder(holders[0]) {
		return InvalidRequest(HeaderHolder, detailHolder)
	}
	return nil
}

const detailHolder = "must be 1 to 64 letters, digits, - and _"

// Forks refuses a fork by a client with a cookie that does not name the second holder, whose cookie must be another one
// than that of the first. Other clients pass.
func (d *Door) Forks(client oauth.Client, holder string) error {
	if client.UsesCookie() && !ValidHolder(holder) {
		return InvalidRequest("holder", detailHolder)
	}
	return nil
}

// NoClientHeader is the refusal of a request that does not name the client that the page is of.
func NoClientHeader() error {
	return &Problem{
		Status: http.StatusForbidden,
		Code:   "client_header_required",
		Title:  titleRefused,
		Detail: HeaderClient + " must name the client of the page, once: its refresh token is in a cookie",
	}
}

// pageOrigin is the origin of the page that has sent a request; empty if the browser does not say. It leaves Origin out
// of a GET to the page's own origin (Fetch standard, section 3.2), and says so in Sec-Fetch-Site.
func (d *Door) pageOrigin(r *http.Request) string {
	origins, sites := r.Header.Values("Origin"), r.Header.Values("Sec-Fetch-Site")
	switch {
	case len(origins) == 1:
		return origins[0]
	case len(origins) == 0 && !takesBody(r.Method) && len(sites) == 1 && sites[0] == "same-origin":
		return d.config.Issuer
	}
	return ""
}

// Presented is the refresh token that one request presents.
type Presented struct {
	door   *Door
	c      echo.Context
	cookie string // that it came in; empty if it came in none
}

// Presents returns what a request presents.
func (d *Door) Presents(c echo.Context) *Presented { return &Presented{door: d, c: c} }

// Token is the refresh token that a client presents, empty for none; inBody is what the body has in its place. The client is
// authenticated, as far as it can be. A client has one way to present it: by the other, a page or a script would use what is not
// meant for it.
func (p *Presented) Token(client oauth.Client, inBody string) (string, error) {
	if !client.UsesCookie() {
		return inBody, nil
	}
	if err := p.door.FromPage(p.c, client); err != nil {
		return "", err
	}
	if inBody != "" {
		return "", WrongTransport()
	}
	// A page of a subdomain may have planted one beside ours, where the prefix of the name does not keep it from that.
	// Nobody can tell which is which, so two are none.
	name := p.door.refreshCookieName(client.ID, p.c.Request().Header.Get(HeaderHolder))
	cookies := p.c.Request().CookiesNamed(name)
	if len(cookies) != 1 || cookies[0].Value == "" {
		return "", nil
	}
	p.cookie = name
	return cookies[0].Value, nil
}

// WrongTransport is the refusal of a refresh token in the body of a request of a client with a cookie.
func WrongTransport() error {
	return InvalidRequest("refresh_token", "the refresh token of this client is in a cookie: leave it out of the body")
}

// Failed clears the cookie if a failure says that its session is over, and returns the failure. Every other failure leaves it
// alone: the request may have been a late copy, or one of several at once, and the cookie may be another's answer by now.
func (p *Presented) Failed(err error) error {
	if errors.Is(err, session.ErrEnded) || errors.Is(err, session.ErrReuse) {
		p.Ended()
	}
	return err
}

// Ended clears the cookie that the request came with: its session is over, and that is committed.
func (p *Presented) Ended() {
	if p.cookie != "" {
		p.door.refreshCookie(p.c, p.cookie, "", -1)
	}
}

// tokenBody is RFC 6749, section 5.1.
type tokenBody struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int64  `json:"expires_in"`
	RefreshToken string `json:"refresh_token,omitempty"`
	Transport    string `json:"refresh_token_transport,omitempty"`
	IDToken      string `json:"id_token,omitempty"`
	Scope        string `json:"scope"`
}

// WriteTokens is the one writer of token responses. The refresh token of a client with a cookie goes into the cookie,
// and to a page of the client only.
func (d *Door) WriteTokens(c echo.Context, status int, r *oauth.TokenResponse) error {
	return d.writeTokens(c, status, r, c.Request().Header.Get(HeaderHolder))
}

// WriteForked writes the tokens of a second holder in the same browser.
func (d *Door) WriteForked(c echo.Context, r *oauth.TokenResponse, holder string) error {
	return d.writeTokens(c, http.StatusOK, r, holder)
}

func (d *Door) writeTokens(c echo.Context, status int, r *oauth.TokenResponse, holder string) error {
	NoStore(c.Response().Header())
	if !r.SessionID.IsZero() {
		EventOf(c).SessionID = r.SessionID.String()
	}
	body := tokenBody{
		AccessToken: r.AccessToken, TokenType: "Bearer", ExpiresIn: int64(r.ExpiresIn.Seconds()),
		RefreshToken: r.RefreshToken, IDToken: r.IDToken, Scope: r.Scope,
	}
	if r.RefreshToken != "" && r.Client.UsesCookie() {
		if err := d.FromPage(c, r.Client); err != nil {
			return fmt.Errorf("answer tokens: %w", err)
		}
		left := int(r.IdleExpiresAt.Sub(d.Now()) / time.Second)
		d.refreshCookie(c, d.refreshCookieName(r.Client.ID, holder), r.RefreshToken, max(1, left))
		body.RefreshToken, body.Transport = "", string(oauth.TransportCookie)
	}
	return WriteJSON(c, status, "application/json", body)
}
