package api

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/pages"
	"github.com/handstamp/handstamp/pkg/oauth"
)

// Cookies of the hosted pages. The __Host- prefix keeps other hosts of the domain from planting one (RFC 6265bis, section 4.1.3.2); it needs
// https, so a loopback issuer goes without.
const (
	cookieBrowser = "handstamp_browser" // binds pages, and what they lead to, to the browser that they were shown in
	cookieLogin   = "handstamp_login"   // the browser session
	cookieAttempt = "handstamp_attempt" // binds a login at a provider
)

// browserSessionLifetime is how long a browser stays logged in at the hosted pages.
const browserSessionLifetime = 24 * time.Hour

func (a *API) cookieName(name string) string {
	if a.config.HSTS {
		return "__Host-" + name
	}
	return name
}

func (a *API) setCookie(c echo.Context, name, value string, lifetime time.Duration, sameSite http.SameSite) {
	age := int(lifetime / time.Second)
	if value == "" {
		age = -1
	}
	c.SetCookie(&http.Cookie{ //nolint:gosec // Secure is left out for a loopback issuer without https only
		Name: a.cookieName(name), Value: value, Path: "/", MaxAge: age, HttpOnly: true,
		Secure: a.config.HSTS || sameSite == http.SameSiteNoneMode, SameSite: sameSite,
	})
}

// cookie returns the value of a cookie, empty if it is not there exactly once.
func (a *API) cookie(c echo.Context, name string) string {
	values := c.Request().CookiesNamed(a.cookieName(name))
	if len(values) != 1 {
		return ""
	}
	return values[0].Value
}

// browser returns the hash of the browser's binding, which it makes if there is none.
func (a *API) browser(c echo.Context) oauth.Hash {
	value := a.cookie(c, cookieBrowser)
	if len(value) != len(rand.Text()) {
		value = rand.Text()
		a.setCookie(c, cookieBrowser, value, browserSessionLifetime, http.SameSiteLaxMode)
		c.Request().AddCookie(&http.Cookie{Name: a.cookieName(cookieBrowser), Value: value}) //nolint:gosec // read by the rest of this request
	}
	return sha256.Sum256([]byte(value))
}

// browserSession returns the browser session of the request; zero if the browser is not logged in.
func (a *API) browserSession(c echo.Context) (oauth.BrowserSession, error) {
	value := a.cookie(c, cookieLogin)
	if value == "" {
		return oauth.BrowserSession{}, nil
	}
	b, err := a.Browser.BrowserSession(c.Request().Context(), sha256.Sum256([]byte(value)), time.Now())
	if errors.Is(err, oauth.ErrBrowserSessionNotFound) {
		return oauth.BrowserSession{}, nil
	}
	return b, err
}

// pageState is what a page carries in its hidden input: the authorization request, the browser that it was shown in, and until when it counts.
// It is encrypted, so that nobody can make or change one.
type pageState struct {
	Parameters    string     `json:"p"`
	Browser       oauth.Hash `json:"b"`
	Expires       int64      `json:"e"`
	Authenticated bool       `json:"a,omitempty"` // the user has just logged in for this request
	Chosen        bool       `json:"c,omitempty"` // the user has chosen to go on as who is logged in
	Login         oauth.Hash `json:"l,omitzero"`  // the browser session that the page was shown in, for pages that ask it something
}

const pageStateLifetime = time.Hour

// pageSealer encrypts page states.
type pageSealer struct{ aead cipher.AEAD }

// newPageSealer panics if the key has not 32 bytes.
func newPageSealer(key []byte) pageSealer {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return pageSealer{aead}
}

func (s pageSealer) seal(p pageState) string {
	text, err := json.Marshal(p)
	if err != nil {
		panic(err) // a struct of texts and numbers
	}
	return base64.RawURLEncoding.EncodeToString(s.aead.Seal(nil, nil, text, nil)) //nolint:gosec // the AEAD makes its own nonce
}

func (s pageSealer) open(text string) (pageState, bool) {
	var p pageState
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return p, false
	}
	plain, err := s.aead.Open(nil, nil, sealed, nil)
	return p, err == nil && json.Unmarshal(plain, &p) == nil
}

// state seals the state of a page that is shown for a request now.
func (a *API) state(c echo.Context, f flow) string {
	return a.pageStates.seal(pageState{
		Parameters: f.Parameters, Browser: a.browser(c), Expires: time.Now().Add(pageStateLifetime).Unix(),
		Authenticated: f.authenticated, Chosen: f.chosen, Login: f.login.Hash,
	})
}

// resume reads the state that a page carried and validates its request again: the client may have been changed since.
func (a *API) resume(c echo.Context, sealed string) (flow, error) {
	p, ok := a.pageStates.open(sealed)
	if !ok || p.Browser != a.browser(c) {
		return flow{}, &pageError{status: http.StatusBadRequest, what: pages.FaultExpired, code: "expired"}
	}
	if time.Now().Unix() >= p.Expires {
		return flow{}, &pageError{status: http.StatusBadRequest, what: pages.FaultExpired, code: "expired"}
	}
	f, err := a.resumeParameters(c, p.Parameters)
	f.authenticated, f.chosen, f.askedIn = p.Authenticated, p.Chosen, p.Login
	return f, err
}

func (a *API) resumeParameters(c echo.Context, parameters string) (f flow, err error) {
	values, err := url.ParseQuery(parameters)
	if err != nil {
		return flow{}, err
	}
	if f.Authorization, err = a.OAuth.Resume(c.Request().Context(), oauth.Form(values)); err != nil {
		return flow{}, err
	}
	f.login, err = a.browserSession(c)
	return f, err
}

// pageError is a failure shown as a page.
type pageError struct {
	status   int
	what     pages.MessageID
	args     []string
	code     string
	detail   string
	retryURL string
	err      error
}

func (e *pageError) Error() string {
	if e.err != nil {
		return e.code + ": " + e.err.Error()
	}
	return e.code
}

func (e *pageError) Unwrap() error { return e.err }

const pageKey = "handstamp.page"

// hosted marks a route as one of the hosted pages: its errors are pages, and a post must come from our own pages. A browser says where a post comes
// from; what says nothing is no browser, and has no cookie that somebody else could have made it send.
func (a *API) hosted(next echo.HandlerFunc) echo.HandlerFunc {
	var crossOrigin http.CrossOriginProtection
	return func(c echo.Context) error {
		c.Set(pageKey, true)
		noStore(c.Response().Header())
		r := c.Request()
		if r.Method == http.MethodPost && !strings.HasPrefix(c.Path(), callbackPath) && c.Path() != "/oauth2/authorize" && c.Path() != "/oauth2/logout" {
			if origin := r.Header.Get("Origin"); origin == a.config.Issuer {
				return next(c) // behind a proxy the Host header is not the issuer's
			}
			if err := crossOrigin.Check(r); err != nil || r.Header.Get("Origin") == "null" {
				return &pageError{status: http.StatusForbidden, what: pages.FaultCrossSite, code: "cross_site", err: err}
			}
		}
		return next(c)
	}
}

// form reads the posted form of a page.
func form(c echo.Context) (url.Values, error) {
	r, err := readForm(c)
	if err != nil {
		return nil, err
	}
	for name, values := range r.Form {
		if len(values) > 1 {
			return nil, invalidRequest(cut(name), "is given more than once")
		}
	}
	eventOf(c).clientID = "" // the client is that of the page's request
	return url.Values(r.Form), nil
}

func (a *API) language(c echo.Context, uiLocales string) string {
	return a.Pages.Language(uiLocales, c.Request().Header.Get("Accept-Language"))
}

// writePage renders a page of a request.
func (a *API) writePage(c echo.Context, status int, uiLocales string, page pages.Page) error {
	return a.Pages.Render(c.Response(), status, a.language(c, uiLocales), page)
}

// writeErrorPage is writeError for the hosted pages.
func (a *API) writeErrorPage(c echo.Context, err error) error {
	shown := asPageError(err)
	if shown.status == http.StatusServiceUnavailable || shown.status == http.StatusTooManyRequests {
		setRetryAfter(c.Response().Header(), max(time.Second, asProblem(err).RetryAfter))
	}
	return a.writePage(c, shown.status, "", pages.Error{
		What: shown.what.With(shown.args...), Code: shown.code, Detail: shown.detail, RequestID: eventOf(c).requestID, RetryURL: shown.retryURL,
	})
}

// asPageError puts a failure into the words of a page.
func asPageError(err error) *pageError {
	if p, ok := errors.AsType[*pageError](err); ok {
		return p
	}
	if p := providerFault(err); p != nil {
		return p
	}
	if e, ok := errors.AsType[*oauth.Error](err); ok {
		what := pages.FaultRequest
		switch {
		case e.Code == oauth.TemporarilyUnavailable:
			return &pageError{status: http.StatusServiceUnavailable, what: pages.FaultUnavailable, code: string(e.Code), err: err}
		case strings.Contains(e.Description, "redirect_uri"):
			what = pages.FaultRedirectURI
		case strings.Contains(e.Description, "client is not known"):
			what = pages.FaultClient
		}
		return &pageError{status: http.StatusBadRequest, what: what, code: string(e.Code), detail: e.Description, err: err}
	}
	problem := asProblem(err)
	what := pages.FaultInternal
	switch problem.Status {
	case http.StatusServiceUnavailable:
		what = pages.FaultUnavailable
	case http.StatusTooManyRequests:
		what = pages.FaultRateLimited
	case http.StatusNotFound:
		what = pages.FaultNotFound
	case http.StatusForbidden:
		what = pages.FaultForbidden
	case http.StatusBadRequest, http.StatusUnsupportedMediaType, http.StatusRequestEntityTooLarge:
		what = pages.FaultRequest
	}
	return &pageError{status: problem.Status, what: what, code: problem.Code, detail: problem.Detail, err: err}
}
