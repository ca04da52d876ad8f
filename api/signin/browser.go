package signin

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/pkg/oauth"
)

// Cookies of the hosted pages. The __Host- prefix keeps other hosts of the domain from planting one (RFC 6265bis, section
// 4.1.3.2); it needs https, so a loopback issuer goes without.
const (
	cookieBrowser = "handstamp_browser" // binds pages, and what they lead to, to the browser that they were shown in
	cookieLogin   = "handstamp_login"   // the browser session
	cookieAttempt = "handstamp_attempt" // binds a login at a provider
)

// browserSessionLifetime is how long a browser stays logged in at the hosted pages.
const browserSessionLifetime = 24 * time.Hour

func (h *Browser) cookieName(name string) string {
	if h.Door.Secure() {
		return "__Host-" + name
	}
	return name
}

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

// browser returns the hash of the browser's binding, which it makes if there is none.
func (h *Browser) browser(c echo.Context) oauth.Hash {
	value := h.cookie(c, cookieBrowser)
	if len(value) != len(rand.Text()) {
		value = rand.Text()
		h.setCookie(c, cookieBrowser, value, browserSessionLifetime, http.SameSiteLaxMode)
		//nolint:gosec // read by the rest of this request
		c.Request().AddCookie(&http.Cookie{Name: h.cookieName(cookieBrowser), Value: value})
	}
	return sha256.Sum256([]byte(value))
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
		return c.QueryParams(), nil
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
