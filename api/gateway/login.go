package gateway

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// The cookies of a client at the application's own host, of which the issuer's cookies never get to know: the session of the
// browser, and bindings of logins that are under way, of which tabs that are opened at the same time make one each.
const (
	cookieSession = "hs_gw_"
	cookieBinding = "hs_gwl_"
)

// bindingLifetime is as long as a login may take; maxBindings is how many a browser may bring along.
const (
	bindingLifetime = time.Hour
	maxBindings     = 32
)

// visit is a request of a browser at a gateway.
type visit struct {
	forwarded
	client oauth.Client
	// redirectStatus is what a redirection is answered with: 302, or 401 for a gateway that passes on nothing else.
	redirectStatus int
}

// cookieName is the name of a cookie of the client, with the prefix that keeps other hosts from planting one (RFC 6265bis,
// section 4.1.3.2). It needs https; on loopback it may be missing.
func (v visit) cookieName(kind string) string {
	sum := sha256.Sum256([]byte(v.client.ID))
	name := kind + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:])[:10])
	if strings.HasPrefix(v.origin, "https:") {
		return "__Host-" + name
	}
	return name
}

func (v visit) setCookie(c echo.Context, name, value string, lifetime time.Duration) {
	c.SetCookie(&http.Cookie{ //nolint:gosec // Secure is left out for an application on loopback without https only
		Name:     name,
		Value:    value,
		Path:     "/",
		MaxAge:   int(lifetime / time.Second),
		HttpOnly: true,
		Secure:   strings.HasPrefix(v.origin, "https:"),
		SameSite: http.SameSiteLaxMode,
	})
}

// bindings are the names and values of the browser's bindings, in its order.
func (v visit) bindings(c echo.Context) (names, values []string) {
	for _, cookie := range c.Request().Cookies() {
		if strings.HasPrefix(cookie.Name, v.cookieName(cookieBinding)) && len(names) < maxBindings {
			names, values = append(names, cookie.Name), append(values, cookie.Value)
		}
	}
	return names, values
}

// hasCookie reports whether a request brings a gateway's session, of any scheme, once or more often.
func hasCookie(c echo.Context, client oauth.Client) bool {
	for _, origin := range []string{"https:", "http:"} {
		name := visit{client: client, forwarded: forwarded{origin: origin}}.cookieName(cookieSession)
		if len(c.Request().CookiesNamed(name)) > 0 {
			return true
		}
	}
	return false
}

// client is the one whose logins a gateway takes.
func (r *Room) client(c echo.Context, id string) (oauth.Client, error) {
	client, err := r.Clients.Client(c.Request().Context(), id)
	if errors.Is(err, oauth.ErrClientNotFound) {
		return oauth.Client{}, door.InvalidRequest("client_id", "no client has this ID")
	}
	return client, err
}

// byLogin answers for a request without access token. A login counts only on the word of a trusted gateway: another one could
// leave out what the request was, and so carry it past the check of its origin.
func (r *Room) byLogin(c echo.Context, client oauth.Client, redirectStatus int) (*identity, error) {
	door.EventOf(c).ClientID = client.ID
	door.NoStore(c.Response().Header())
	c.Response().Header().Add("Vary", "Cookie")
	if !r.Door.FromProxy(c.Request()) {
		return nil, fmt.Errorf("%w, and the gateway is none of the trusted proxies", verifier.ErrNoToken)
	}
	f, ok := readForwarded(c.Request().Header)
	switch {
	case !ok:
		return nil, fmt.Errorf("%w, and the gateway does not say what was asked of it", verifier.ErrNoToken)
	case client.Disabled(), !client.GatewayAt(f.origin):
		return nil, fmt.Errorf("%w, and the client has no logins at the origin %s", verifier.ErrNoToken, door.Cut(f.origin))
	}
	v := visit{forwarded: f, client: client, redirectStatus: redirectStatus}
	s, loggedIn, err := r.session(c, v)
	if err != nil {
		return nil, err
	}
	if answer, back := f.isCallback(); back {
		return nil, r.callback(c, v, answer, loggedIn)
	}
	if !loggedIn {
		return nil, r.begin(c, v)
	}
	door.EventOf(c).UserID, door.EventOf(c).SessionID = s.UserID, s.ID.String()
	if !f.isOwn() {
		return nil, &door.Problem{
			Status: http.StatusForbidden,
			Code:   "cross_site",
			Title:  "The request is refused",
			Detail: "with a login in a cookie, a request that changes something has to come from a page of the same origin",
		}
	}
	return &identity{
		subject:  s.UserID,
		clientID: s.ClientID,
		session:  s.ID.String(),
		audience: s.Audience,
		scope:    strings.Fields(s.Scope),
		roles:    s.Roles,
		byLogin:  true,
	}, nil
}

// session is that of the request's cookie; false if there is none.
func (r *Room) session(c echo.Context, v visit) (session.Session, bool, error) {
	cookies := c.Request().CookiesNamed(v.cookieName(cookieSession))
	if len(cookies) != 1 { // of two, one was planted
		return session.Session{}, false, nil
	}
	return r.Gateways.Session(c.Request().Context(), v.client, v.origin, cookies[0].Value)
}

// begin sends a browser to the login page, and refuses everybody else.
func (r *Room) begin(c echo.Context, v visit) error {
	if !v.isNavigation() || !v.client.Allows(oauth.GrantAuthorizationCode) {
		return verifier.ErrNoToken
	}
	names, values := v.bindings(c)
	if len(names) == 0 {
		names, values = []string{v.cookieName(cookieBinding) + "_" + rand.Text()[:8]}, []string{rand.Text()}
	}
	v.setCookie(c, names[0], values[0], bindingLifetime) // anew: it must outlive the login that begins now
	return v.redirect(c, r.Gateways.Begin(v.client, v.origin, v.path, values[0]))
}

// callback is the way back of a browser from the login page.
func (r *Room) callback(c echo.Context, v visit, answer oauth.Form, loggedIn bool) error {
	if loggedIn {
		to, err := r.Gateways.Return(v.client, v.origin, answer)
		if err != nil {
			return refused(err)
		}
		return v.redirect(c, to)
	}
	_, bindings := v.bindings(c)
	got, err := r.Gateways.Finish(c.Request().Context(), v.client, v.origin, answer, bindings, door.Origin(c))
	if err != nil {
		return refused(err)
	}
	if got.Cookie != "" {
		door.EventOf(c).UserID, door.EventOf(c).SessionID = got.Session.UserID, got.Session.ID.String()
		v.setCookie(c, v.cookieName(cookieSession), got.Cookie, got.Session.ExpiresAt.Sub(r.Door.Now()))
	}
	return v.redirect(c, got.To)
}

// refused puts the refusal of a login into the API's words. 403, because another request will fare no better, and because
// gateways pass that on.
func refused(err error) error {
	e, ok := errors.AsType[*oauth.Error](err)
	if !ok || e.Code == oauth.TemporarilyUnavailable {
		return err
	}
	return &door.Problem{
		Status: http.StatusForbidden,
		Code:   "login_refused",
		Title:  "Login failed",
		Detail: e.Description,
		Err:    err,
	}
}

// redirect sends the browser on. There is one cookie at most, since a gateway may pass on only one.
func (v visit) redirect(c echo.Context, to string) error {
	h := c.Response().Header()
	h.Set("Location", to)
	h.Set("Referrer-Policy", "no-referrer") // the address may hold a code
	if v.redirectStatus == http.StatusUnauthorized {
		return verifier.ErrNoToken
	}
	return c.NoContent(v.redirectStatus)
}
