package door

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/pages"
	"github.com/handstamp/handstamp/pkg/oauth"
)

// PageError is a failure shown as a page.
type PageError struct {
	Status   int
	What     pages.MessageID
	Args     []string
	Code     string
	Detail   string
	RetryURL string
	Err      error
}

// Error implements error.
func (e *PageError) Error() string {
	if e.Err != nil {
		return e.Code + ": " + e.Err.Error()
	}
	return e.Code
}

// Unwrap returns what caused the failure.
func (e *PageError) Unwrap() error { return e.Err }

func (d *Door) language(c echo.Context, uiLocales string) string {
	if uiLocales == "" {
		spoken, _ := c.Get(localesKey).(string)
		uiLocales = cmp.Or(spoken, c.QueryParam("ui_locales"))
	}
	return d.config.Pages.Language(uiLocales, c.Request().Header.Get("Accept-Language"))
}

const localesKey = "handstamp.ui_locales"

// Speak makes pages of the request that are told no language speak one of its ui_locales.
func Speak(c echo.Context, uiLocales string) { c.Set(localesKey, uiLocales) }

// WritePage renders a page of a request.
func (d *Door) WritePage(c echo.Context, status int, uiLocales string, page pages.Page) error {
	return d.config.Pages.Render(c.Response(), status, d.language(c, uiLocales), page)
}

// writeErrorPage is WriteError for the hosted pages.
func (d *Door) writeErrorPage(c echo.Context, err error) error {
	shown, wait := AsPageError(err), max(time.Second, AsProblem(err).RetryAfter)
	if shown.Status == http.StatusServiceUnavailable || shown.Status == http.StatusTooManyRequests {
		SetRetryAfter(c.Response().Header(), wait)
	}
	return d.WritePage(c, shown.Status, "", pages.Error{
		What:      shown.What.With(shown.Args...).Wait(wait),
		Code:      shown.Code,
		Detail:    shown.Detail,
		RequestID: EventOf(c).RequestID,
		RetryURL:  shown.RetryURL,
	})
}

// AsPageError puts a failure into the words of a page.
func AsPageError(err error) *PageError {
	if p, ok := errors.AsType[*PageError](err); ok {
		return p
	}
	if r, ok := rowOf(err); ok && r.page != "" {
		return r.shown(err)
	}
	if e, ok := errors.AsType[*oauth.Error](err); ok {
		what := pages.FaultRequest
		switch {
		case e.Code == oauth.TemporarilyUnavailable:
			return &PageError{
				Status: http.StatusServiceUnavailable,
				What:   pages.FaultUnavailable,
				Code:   string(e.Code),
				Err:    err,
			}
		case e.Parameter == "redirect_uri", e.Parameter == "post_logout_redirect_uri":
			what = pages.FaultRedirectURI
		case errors.Is(err, oauth.ErrClientNotFound):
			what = pages.FaultClient
		}
		return &PageError{Status: http.StatusBadRequest, What: what, Code: string(e.Code), Detail: e.Description, Err: err}
	}
	problem := AsProblem(err)
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
	detail := problem.Detail
	if problem.Field != "" { // of which the detail is said
		detail = problem.Field + " " + detail
	}
	return &PageError{Status: problem.Status, What: what, Code: problem.Code, Detail: detail, Err: err}
}

// NonEmpty returns the values of a parameter that is left out when it is empty.
func NonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// Respond sends an authorization response to the client, whose name the user may see; iss is always part of it (RFC 9207).
func (d *Door) Respond(c echo.Context, client, redirectURI, mode string, values url.Values) error {
	values.Set("iss", d.config.Issuer)
	if mode == oauth.ModeFormPost {
		flat := map[string]string{}
		for name := range values {
			if v := values.Get(name); v != "" {
				flat[name] = v
			}
		}
		return d.WritePage(c, http.StatusOK, "", pages.FormPost{
			RedirectURI: redirectURI,
			Values:      flat,
			Client:      pages.Client{Name: client},
		})
	}
	if mode == oauth.ModeFragment { // a registered redirect URI has none of its own
		return d.Redirect(c, client, redirectURI+"#"+encode(values))
	}
	return d.Redirect(c, client, WithQuery(redirectURI, values))
}

// WithQuery appends parameters to the query of a registered URI, which stays as it was registered to the letter (RFC 6749,
// section 3.1.2).
func WithQuery(uri string, values url.Values) string {
	switch {
	case len(values) == 0:
		return uri
	case !strings.Contains(uri, "?"):
		uri += "?"
	case !strings.HasSuffix(uri, "?") && !strings.HasSuffix(uri, "&"):
		uri += "&"
	}
	return uri + encode(values)
}

// Proxies bound the header of an answer, nginx by default to 4096 bytes: what is long is encoded as short as can be,
// and an address that is too long all the same goes into a page.
const (
	longQuery   = 1024
	maxLocation = 3000
)

func encode(values url.Values) string {
	if encoded := values.Encode(); len(encoded) <= longQuery {
		return encoded
	}
	return oauth.EncodeQuery(values)
}

// Redirect sends the browser to a client or a provider, whose name the user may see. It answers 303: a browser must not
// repeat a post with a password at the next place (RFC 9700, section 4.12). A browser that has posted a form holds all
// further redirections to the policy of the form's page, so it gets a page from which the chain begins anew.
func (d *Door) Redirect(c echo.Context, name, to string) error {
	r := c.Request()
	if len(to) <= maxLocation && r.Method == http.MethodPost && r.Header.Get("Sec-Fetch-Mode") == "navigate" &&
		pages.CanGoOnward(to) {
		c.Response().Header().Set("Refresh", "0; url="+to)
		return d.WritePage(c, http.StatusOK, "", pages.Onward{URL: to, Client: pages.Client{Name: name}})
	}
	if len(to) > maxLocation && pages.CanGoOnward(to) {
		return d.WritePage(c, http.StatusOK, "", pages.Onward{URL: to, AtOnce: true, Client: pages.Client{Name: name}})
	}
	pages.SetHeaders(c.Response().Header(), pages.Policy{})
	return c.Redirect(http.StatusSeeOther, to)
}

// writeRefusal tells the client that its request was refused.
func (d *Door) writeRefusal(c echo.Context, e *oauth.AuthorizationError) error {
	return d.Respond(c, e.ClientName, e.RedirectURI, e.ResponseMode, url.Values{
		"error": {string(e.Refusal.Code)}, "error_description": NonEmpty(e.Refusal.Description), "state": NonEmpty(e.State),
	})
}

// ServeIcon leads to the picture of the service, for what asks for it at its usual address.
func (d *Door) ServeIcon(c echo.Context) error {
	NoStore(c.Response().Header()) // another logo has another address
	return c.Redirect(http.StatusFound, d.config.Pages.IconURL())
}

// ServeAsset serves a file that the pages refer to.
func (d *Door) ServeAsset(c echo.Context) error {
	d.config.Pages.ServeAsset(c.Response(), c.Request())
	return nil
}
