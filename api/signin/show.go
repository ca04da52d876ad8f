package signin

import (
	"net/http"
	"net/url"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/pages"
	"github.com/handstamp/handstamp/pkg/user"
)

// pageForm is what all forms of a request have in common.
func (h *Login) pageForm(c echo.Context, f flow, action string, message pages.Message) pages.Form {
	return pages.Form{
		Action:  action,
		Hidden:  map[string]string{"request": h.state(c, f)},
		Targets: append([]string{f.RedirectURI}, f.Client.Origins...),
		Error:   message,
	}
}

func pageClient(f flow) pages.Client {
	u, err := url.Parse(f.RedirectURI)
	if err != nil {
		return pages.Client{Name: f.Client.Name}
	}
	return pages.Client{Name: f.Client.Name, Host: u.Host}
}

func pageLink(path, state string) string { return path + "?request=" + url.QueryEscape(state) }

func (h *Login) pageProviders(state string) []pages.Provider {
	var out []pages.Provider
	for p := range h.Providers.All() {
		out = append(out, pages.Provider{
			ID:   p.ID(),
			Type: string(p.Type()),
			Name: p.Name(),
			URL:  pageLink("/oauth2/provider/"+url.PathEscape(p.ID()), state),
		})
	}
	return out
}

func (h *Login) showLogin(c echo.Context, f flow, page pages.Login) error {
	page.Form = h.pageForm(c, f, loginPath, page.Error)
	page.Client, page.Providers = pageClient(f), h.pageProviders(page.Hidden["request"])
	if page.DifferentURL != "" {
		page.DifferentURL = pageLink(page.DifferentURL, page.Hidden["request"])
	}
	if h.Passwords.Account.On() {
		page.ForgotURL = pageLink(forgotPath, page.Hidden["request"])
	}
	if !h.Passwords.Signup.Closed {
		page.SignupURL = pageLink("/oauth2/signup", page.Hidden["request"])
	}
	return h.Door.WritePage(c, statusOf(page.Error), f.UILocales, page)
}

func (h *Login) showSignup(c echo.Context, f flow, page pages.Signup) error {
	if h.Passwords.Signup.Closed {
		return user.ErrSignupClosed
	}
	page.Form = h.pageForm(c, f, "/oauth2/signup", page.Error)
	page.Client = pageClient(f)
	page.Providers = h.pageProviders(page.Hidden["request"])
	page.MinPassword = h.Passwords.Signup.Policy.Min()
	page.LoginURL = pageLink(loginPath, page.Hidden["request"])
	return h.Door.WritePage(c, statusOf(page.Error), f.UILocales, page)
}

// statusOf is the status of a page: with a message it is the answer to a post that did not succeed.
func statusOf(m pages.Message) int {
	switch m.ID {
	case "":
		return http.StatusOK
	case pages.InvalidCredentials:
		return http.StatusUnauthorized
	case pages.EmailTaken:
		return http.StatusConflict
	case pages.TooManyAttempts:
		return http.StatusTooManyRequests
	case pages.Overloaded:
		return http.StatusServiceUnavailable
	default:
		return http.StatusBadRequest
	}
}
