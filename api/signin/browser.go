package signin

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/pkg/oauth"
)

// Cookies of the hosted pages. The __Host- prefix keeps other hosts of the domain from planting one (RFC 6265bis, section
// 4.1.3.2); it needs https, so a loopback issuer goes without. A browser has one login here, but any number of tabs: of the
// cookies whose names end in _ there can be several, each with a name of its own, so that no tab overwrites another's.
const (
	cookieLogin   = "handstamp_login"    // the browser session
	cookieBrowser = "handstamp_browser_" // binds pages, and what they lead to, to the browser that they were shown in
	cookieAttempt = "handstamp_attempt_" // binds a login at a provider
)

// maxCookies is how many cookies of one kind a browser may bring along. The rest counts for nothing.
const maxCookies = 32

// browserSessionLifetime is how long a browser stays logged in at the hosted pages.
const browserSessionLifetime = 24 * time.Hour

func (h *Browser) cookieName(name string) string { return h.Door.CookieName(name) }

func (h *Browser) setCookie(c echo.Context, name, value string, lifetime time.Duration, sameSite http.SameSite) {
	age := int(lifetime / time.Second)
	if value == "" {
		age = -1
	}
	c.SetCookie(&http.Cookie{ //nolint:gosec // Secure is left out for a loopback issuer without https only
		Name: h.cookieName(name), Value: value, Path: "/", MaxAge: age, HttpOnly: true,
		Secure: h.Door.Secure() || sameSite == http.SameSiteNoneMode, SameSite: sameSite,
	})
}

// cookie returns the value of a cookie, empty if it is not there exactly once.
func (h *Browser) cookie(c echo.Context, name string) string {
	values := c.Request().CookiesNamed(h.cookieName(name))
	if len(values) != 1 {
		return ""
	}
	return values[0].Value
}

// several returns the cookies whose names begin with a prefix, in the browser's order: the oldest first (RFC 6265, section
// 5.4).
func (h *Browser) several(c echo.Context, prefix string) []*http.Cookie {
	var out []*http.Cookie
	for _, cookie := range c.Request().Cookies() {
		if strings.HasPrefix(cookie.Name, h.cookieName(prefix)) && len(out) < maxCookies {
			out = append(out, cookie)
		}
	}
	return out
}

// browser returns the hash of a binding of the browser, which it makes if there is none. Tabs that are opened at the same time
// make one each.
func (h *Browser) browser(c echo.Context) oauth.Hash {
	if bindings := h.several(c, cookieBrowser); len(bindings) > 0 {
		return sha256.Sum256([]byte(bindings[0].Value))
	}
	name, value := cookieBrowser+rand.Text()[:8], rand.Text()
	h.setCookie(c, name, value, browserSessionLifetime, http.SameSiteLaxMode)
	//nolint:gosec // read by the rest of this request
	c.Request().AddCookie(&http.Cookie{Name: h.cookieName(name), Value: value})
	return sha256.Sum256([]byte(value))
}

// isBrowser reports whether a page was shown in the browser that the request comes from.
func (h *Browser) isBrowser(c echo.Context, shownIn oauth.Hash) bool {
	return slices.ContainsFunc(h.several(c, cookieBrowser), func(binding *http.Cookie) bool {
		return sha256.Sum256([]byte(binding.Value)) == shownIn
	})
}

// browserSession returns the browser session of the request; zero if the browser is not logged in.
func (h *Browser) browserSession(c echo.Context) (oauth.BrowserSession, error) {
	value := h.cookie(c, cookieLogin)
	if value == "" {
		return oauth.BrowserSession{}, nil
	}
	b, err := h.BrowserSessions.BrowserSession(c.Request().Context(), sha256.Sum256([]byte(value)), h.Door.Now())
	if errors.Is(err, oauth.ErrBrowserSessionNotFound) {
		return oauth.BrowserSession{}, nil
	}
	return b, err
}

// parameters reads the parameters of a request that may come by GET or by POST.
func parameters(c echo.Context) (url.Values, error) {
	if c.Request().Method != http.MethodPost {
		return door.ReadParameters(c)
	}
	r, err := door.ReadForm(c)
	return url.Values(r.Form), err
}

// form reads the posted form of a page.
func form(c echo.Context) (url.Values, error) {
	r, err := door.ReadForm(c)
	if err != nil {
		return nil, err
	}
	for name, values := range r.Form {
		if len(values) > 1 {
			return nil, door.InvalidRequest(door.Cut(name), "is given more than once")
		}
	}
	door.EventOf(c).ClientID = "" // the client is that of the page's request
	return url.Values(r.Form), nil
}
