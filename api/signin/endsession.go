package signin

import (
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/door"
	"github.com/handstamp/handstamp/api/pages"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/token"
)

// logoutRequest is a valid request of OpenID Connect RP-Initiated Logout 1.0, section 2.
type logoutRequest struct {
	client     oauth.Client // zero if the request names none
	hint       token.Hint   // zero without a valid ID token
	returnTo   string       // registered for the client; empty to stay here
	detail     string       // what is wrong with the request
	parameters url.Values
}

// endSessionPage is GET and POST /oauth2/logout. With an ID token of the user who is logged in at this browser the client
// itself has shown that it means this user; without one the user is asked, because anybody could have sent the browser here.
func (h *Logout) endSessionPage(c echo.Context) error {
	values, err := parameters(c)
	if err != nil {
		return err
	}
	door.Speak(c, values.Get("ui_locales"))
	b, err := h.browserSession(c)
	if err != nil {
		return err
	}
	request, err := h.readLogout(c, values, b)
	if err != nil {
		return err
	}
	confirmed := request.hint.Subject != "" && (b.UserID == "" || b.UserID == request.hint.Subject)
	if !confirmed && b.UserID != "" {
		return h.showLogout(c, request, b)
	}
	return h.endBrowserSession(c, request, b)
}

// readLogout reads a request that came with a browser session (zero: none). What is wrong with it proves nothing and
// leads nowhere, but is no reason to keep the user logged in: the detail says what it was. An error is a storage
// failure.
func (h *Logout) readLogout(c echo.Context, values url.Values, b oauth.BrowserSession) (logoutRequest, error) {
	r := logoutRequest{parameters: values}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if len(values[name]) > 1 {
			r.detail = door.Cut(name) + " is given more than once"
			return r, nil
		}
	}
	clientID := values.Get("client_id")
	if raw := values.Get("id_token_hint"); raw != "" {
		hint, err := token.ParseHint(raw, h.Door.Issuer(), h.Keys.Hint)
		switch {
		case err != nil:
			r.detail = "id_token_hint is not an ID token of this service"
			return r, nil
		case clientID != "" && clientID != hint.ClientID:
			r.detail = "client_id is not the client of id_token_hint"
			return r, nil
		}
		r.hint, clientID = hint, hint.ClientID
	}
	candidates := []string{clientID}
	if clientID == "" {
		var err error
		if candidates, err = h.clientsOf(c, values, b); err != nil {
			return r, err
		}
	}
	for _, id := range candidates {
		client, err := h.Clients.Client(c.Request().Context(), id)
		if errors.Is(err, oauth.ErrClientNotFound) {
			r.detail = "the client is not known here"
			continue
		}
		if err != nil {
			return r, err
		}
		if r.readReturn(client); r.returnTo != "" {
			break
		}
	}
	if clientID == "" && r.returnTo == "" && values.Get("post_logout_redirect_uri") != "" {
		r.client, r.detail = oauth.Client{}, "post_logout_redirect_uri is not registered for a client that is logged in at this browser"
	}
	return r, nil
}

// clientsOf are the clients that a request may be of which names none: those with a session that was begun in this
// browser. They matter only if there is an address to return to.
func (h *Logout) clientsOf(c echo.Context, values url.Values, b oauth.BrowserSession) ([]string, error) {
	if b.UserID == "" || values.Get("post_logout_redirect_uri") == "" {
		return nil, nil
	}
	return h.BrowserSessions.BrowserClients(c.Request().Context(), b, h.Door.Now())
}

// readReturn takes the client, and the address to return to if it is one of the client's.
func (r *logoutRequest) readReturn(client oauth.Client) {
	r.client = client
	uri := r.parameters.Get("post_logout_redirect_uri")
	switch {
	case uri == "":
	case !slices.Contains(client.PostLogoutRedirectURIs, uri):
		r.detail = "post_logout_redirect_uri is not registered for the client"
	default:
		r.returnTo, r.detail = uri, ""
		if state := r.parameters.Get("state"); state != "" {
			r.returnTo = door.WithQuery(uri, url.Values{"state": {state}})
		}
	}
}

func (h *Logout) showLogout(c echo.Context, r logoutRequest, b oauth.BrowserSession) error {
	u, err := h.Users.UserByID(c.Request().Context(), b.UserID)
	if err != nil {
		return err
	}
	var targets []string
	if r.returnTo != "" {
		targets = []string{r.returnTo}
	}
	state := h.States.seal(logoutPurpose, logoutState{
		Parameters: r.parameters.Encode(),
		Browser:    h.browser(c),
		Login:      b.Hash,
		Expires:    h.Door.Now().Add(pageStateLifetime).Unix(),
	})
	return h.Door.WritePage(c, http.StatusOK, r.parameters.Get("ui_locales"), pages.Logout{
		Form:   pages.Form{Action: "/oauth2/logout/confirm", Hidden: map[string]string{"request": state}, Targets: targets},
		Client: pages.Client{Name: r.client.Name}, User: pages.Person{Name: u.Name, Email: u.Email},
		Detail: r.detail,
	})
}

// endSessionForm is POST /oauth2/logout/confirm: the user said yes.
func (h *Logout) endSessionForm(c echo.Context) error {
	v, err := form(c)
	if err != nil {
		return err
	}
	b, err := h.browserSession(c)
	if err != nil {
		return err
	}
	var p logoutState
	if !h.States.open(logoutPurpose, v.Get("request"), &p) {
		return expired("")
	}
	if !h.isBrowser(c, p.Browser) || h.Door.Now().Unix() >= p.Expires || p.Login != b.Hash {
		e := expired("")
		e.What, e.RetryURL = pages.FaultExpiredPage, logoutPath+"?"+p.Parameters
		return e
	}
	values, err := url.ParseQuery(p.Parameters)
	if err != nil {
		return err
	}
	request, err := h.readLogout(c, values, b)
	if err != nil {
		return err
	}
	return h.endBrowserSession(c, request, b)
}

// endBrowserSession ends the browser's login and every session that came of it, or the one session that the hint names.
func (h *Logout) endBrowserSession(c echo.Context, r logoutRequest, b oauth.BrowserSession) error {
	ctx := c.Request().Context()
	by := session.By{Actor: b.UserID, ClientID: r.client.ID, Origin: door.Origin(c)}
	if b.UserID != "" {
		if err := h.OAuth.EndBrowserSession(ctx, b, by); err != nil {
			return err
		}
	}
	if id, err := session.ParseID(r.hint.SessionID); err == nil {
		by.Actor = r.hint.Subject
		ended := session.Session{ID: id, UserID: r.hint.Subject, ClientID: r.client.ID}
		if err := h.Sessions.End(ctx, ended, session.ReasonLogout, by); err != nil {
			return err
		}
	}
	h.setCookie(c, cookieLogin, "", 0, http.SameSiteLaxMode)
	c.Response().Header().Set("Clear-Site-Data", `"cache"`)
	if r.returnTo != "" {
		return h.Door.Redirect(c, r.client.Name, r.returnTo)
	}
	status := http.StatusOK
	if r.detail != "" {
		status = http.StatusBadRequest
	}
	return h.Door.WritePage(c, status, r.parameters.Get("ui_locales"),
		pages.LoggedOut{Client: pages.Client{Name: r.client.Name}, Detail: r.detail})
}
