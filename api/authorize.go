package api

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/api/pages"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/password"
	"github.com/handstamp/handstamp/pkg/token"
	"github.com/handstamp/handstamp/pkg/user"
)

// flow is an authorization request on its way through the hosted pages.
type flow struct {
	*oauth.Authorization
	login         oauth.BrowserSession // of this browser, zero if it is not logged in
	authenticated bool                 // the user has logged in for this request
	chosen        bool                 // the user has chosen to go on as who is logged in
	askedIn       oauth.Hash           // the browser session that the page which is answered was shown in
}

// authorize is GET and POST /oauth2/authorize (RFC 6749, section 3.1; OpenID Connect Core, section 3.1.2.1).
func (a *API) authorize(c echo.Context) error {
	values := c.QueryParams()
	if c.Request().Method == http.MethodPost {
		r, err := readForm(c)
		if err != nil {
			return err
		}
		values = url.Values(r.Form)
	}
	request, err := a.OAuth.Authorize(c.Request().Context(), oauth.Form(values))
	if err != nil {
		return err
	}
	f := flow{Authorization: request}
	if f.login, err = a.browserSession(c); err != nil {
		return err
	}
	return a.proceed(c, f)
}

// proceed does what is next for a request: log the user in, let the user choose or consent, or answer the client.
func (a *API) proceed(c echo.Context, f flow) error {
	eventOf(c).clientID, eventOf(c).userID = f.Client.ID, f.login.UserID
	wanted := a.wanted(f)
	another := wanted != "" && f.login.UserID != wanted
	loggedIn := f.login.UserID != "" && (f.authenticated || a.stillCounts(f)) && !another
	switch {
	case f.authenticated && another:
		return f.refuse(oauth.LoginRequired, "another user has logged in than the one of id_token_hint")
	case !loggedIn && f.Asks(oauth.PromptNone):
		return f.refuse(oauth.LoginRequired, "the user is not logged in")
	case !loggedIn && f.Provider != "":
		return a.beginProvider(c, f, f.Provider)
	case !loggedIn && f.Asks(oauth.PromptCreate):
		return a.showSignup(c, f, pages.Signup{})
	case !loggedIn:
		return a.showLogin(c, f, pages.Login{Email: f.LoginHint})
	case f.Asks(oauth.PromptSelectAccount) && !f.chosen && !f.authenticated:
		return a.showContinue(c, f)
	}
	needed, err := a.needsConsent(c, f)
	switch {
	case err != nil:
		return err
	case needed && f.Asks(oauth.PromptNone):
		return f.refuse(oauth.ConsentRequired, "the user has not consented")
	case needed:
		return a.showConsent(c, f)
	}
	return a.answer(c, f)
}

// wanted is the user whom the client has in mind (id_token_hint: OpenID Connect Core, section 3.1.2.1); empty for whoever it is. A hint that cannot be
// read, because its key is long gone, names nobody.
func (a *API) wanted(f flow) string {
	if f.IDTokenHint == "" {
		return ""
	}
	hint, err := token.ParseHint(f.IDTokenHint, a.config.Issuer, a.Keys.Public)
	if err != nil {
		return ""
	}
	return hint.Subject
}

// stillCounts reports whether the browser's login is recent enough for the request.
func (a *API) stillCounts(f flow) bool {
	if f.Asks(oauth.PromptLogin) || f.Asks(oauth.PromptCreate) {
		return false
	}
	return f.MaxAge < 0 || time.Since(f.login.AuthTime) <= f.MaxAge && f.MaxAge > 0
}

func (f flow) refuse(code oauth.ErrorCode, description string) error {
	return &oauth.AuthorizationError{
		Refusal: &oauth.Error{Code: code, Description: description}, RedirectURI: f.RedirectURI, State: f.State, ResponseMode: f.ResponseMode,
	}
}

// answer gives the client its code.
func (a *API) answer(c echo.Context, f flow) error {
	code, err := a.OAuth.Issue(c.Request().Context(), f.Authorization, f.login)
	if err != nil {
		return err
	}
	return a.respond(c, f.RedirectURI, f.ResponseMode, url.Values{"code": {code}, "state": nonEmpty(f.State)})
}

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// respond sends an authorization response to the client; iss is always part of it (RFC 9207).
func (a *API) respond(c echo.Context, redirectURI, mode string, values url.Values) error {
	values.Set("iss", a.config.Issuer)
	if mode == oauth.ModeFormPost {
		flat := map[string]string{}
		for name := range values {
			if v := values.Get(name); v != "" {
				flat[name] = v
			}
		}
		return a.writePage(c, http.StatusOK, "", pages.FormPost{RedirectURI: redirectURI, Values: flat})
	}
	target, err := url.Parse(redirectURI)
	if err != nil {
		return err
	}
	query := target.Query()
	maps.Copy(query, values)
	target.RawQuery = query.Encode()
	return a.redirect(c, target.String())
}

// redirect always answers 303: a browser must not repeat a post with a password at the next place (RFC 9700, section 4.12).
func (a *API) redirect(c echo.Context, to string) error {
	pages.SetHeaders(c.Response().Header(), pages.Policy{})
	return c.Redirect(http.StatusSeeOther, to)
}

// writeRefusal tells the client that its request was refused.
func (a *API) writeRefusal(c echo.Context, e *oauth.AuthorizationError) error {
	return a.respond(c, e.RedirectURI, e.ResponseMode, url.Values{
		"error": {string(e.Refusal.Code)}, "error_description": nonEmpty(e.Refusal.Description), "state": nonEmpty(e.State),
	})
}

// pageForm is what all forms of a request have in common.
func (a *API) pageForm(c echo.Context, f flow, action string, message pages.Message) pages.Form {
	return pages.Form{
		Action: action, Hidden: map[string]string{"request": a.state(c, f)}, Targets: append([]string{f.RedirectURI}, f.Client.Origins...), Error: message,
	}
}

func pageClient(f flow) pages.Client {
	u, err := url.Parse(f.RedirectURI)
	if err != nil {
		return pages.Client{Name: f.Client.Name}
	}
	return pages.Client{Name: f.Client.Name, Host: u.Host}
}

func (a *API) pageLink(path, state string) string { return path + "?request=" + url.QueryEscape(state) }

func (a *API) pageProviders(state string) []pages.Provider {
	var out []pages.Provider
	for p := range a.Providers.All() {
		out = append(out, pages.Provider{ID: p.ID(), Type: string(p.Type()), Name: p.Name(), URL: a.pageLink("/oauth2/provider/"+url.PathEscape(p.ID()), state)})
	}
	return out
}

func (a *API) showLogin(c echo.Context, f flow, page pages.Login) error {
	page.Form = a.pageForm(c, f, "/oauth2/login", page.Error)
	page.Client, page.Providers = pageClient(f), a.pageProviders(page.Hidden["request"])
	if !a.config.SignupDisabled {
		page.SignupURL = a.pageLink("/oauth2/signup", page.Hidden["request"])
	}
	return a.writePage(c, statusOf(page.Error), f.UILocales, page)
}

func (a *API) showSignup(c echo.Context, f flow, page pages.Signup) error {
	if a.config.SignupDisabled {
		return &pageError{status: http.StatusForbidden, what: pages.FaultSignupClosed, code: "signup_disabled"}
	}
	page.Form = a.pageForm(c, f, "/oauth2/signup", page.Error)
	page.Client, page.Providers, page.MinPassword = pageClient(f), a.pageProviders(page.Hidden["request"]), max(a.Passwords.MinLength, password.MinLength)
	page.LoginURL = a.pageLink("/oauth2/login", page.Hidden["request"])
	return a.writePage(c, statusOf(page.Error), f.UILocales, page)
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

// loginPage is GET /oauth2/login: from the sign-up page back to the login page.
func (a *API) loginPage(c echo.Context) error {
	f, err := a.resume(c, c.QueryParam("request"))
	if err != nil {
		return err
	}
	return a.showLogin(c, f, pages.Login{Email: f.LoginHint})
}

// loginForm is POST /oauth2/login.
func (a *API) loginForm(c echo.Context) error {
	v, err := form(c)
	if err != nil {
		return err
	}
	f, err := a.resume(c, v.Get("request"))
	if err != nil {
		return err
	}
	again := func(m pages.Message) error {
		return a.showLogin(c, f, pages.Login{Email: v.Get("email"), Form: pages.Form{Error: m}})
	}
	email, err := user.ParseEmail(strings.TrimSpace(v.Get("email")))
	if err != nil {
		return again(pages.EmailInvalid.With())
	}
	if v.Get("password") == "" {
		return again(pages.InvalidCredentials.With())
	}
	from := origin(c)
	if wait := a.failures.wait(from.IP); wait > 0 {
		setRetryAfter(c.Response().Header(), wait)
		return again(pages.TooManyAttempts.With())
	}
	u, err := a.Authenticator.Authenticate(c.Request().Context(), email, v.Get("password"), from)
	if errors.Is(err, user.ErrInvalidCredentials) {
		a.failures.count(from.IP)
		a.Metrics.LoginFailures.Inc()
	}
	if m := a.loginMessage(c, err); m.ID != "" {
		return again(m)
	}
	if err != nil {
		return err
	}
	return a.loggedIn(c, f, u.ID, passwordAMR(), oauth.Proof{PasswordHash: u.PasswordHash})
}

// loginMessage is what the form says about a login that failed for a reason that the user can do something about.
func (a *API) loginMessage(c echo.Context, err error) pages.Message {
	if busy, ok := errors.AsType[*password.BusyError](err); ok {
		setRetryAfter(c.Response().Header(), busy.RetryAfter)
		return pages.Overloaded.With()
	}
	if attempt, ok := errors.AsType[*user.AttemptError](err); ok {
		setRetryAfter(c.Response().Header(), attempt.RetryAfter)
		return pages.TooManyAttempts.With()
	}
	switch {
	case errors.Is(err, user.ErrInvalidCredentials), errors.Is(err, password.ErrTooLong):
		return pages.InvalidCredentials.With()
	case errors.Is(err, password.ErrMalformed):
		return pages.PasswordInvalid.With()
	case errors.Is(err, password.ErrTooShort):
		return pages.PasswordTooShort.With("min", strconv.Itoa(max(a.Passwords.MinLength, password.MinLength)))
	case errors.Is(err, password.ErrCommon):
		return pages.PasswordCommon.With()
	case errors.Is(err, user.ErrEmailTaken):
		return pages.EmailTaken.With()
	}
	return pages.Message{}
}

// loggedIn starts a new browser session in place of the one before, and goes on with the request.
func (a *API) loggedIn(c echo.Context, f flow, userID string, amr []string, proof oauth.Proof) error {
	secret, now := rand.Text(), time.Now()
	b := oauth.BrowserSession{
		Hash: sha256.Sum256([]byte(secret)), UserID: userID, AMR: amr, AuthTime: now, CreatedAt: now, ExpiresAt: now.Add(browserSessionLifetime),
		Proof: proof,
	}
	err := a.Browser.SaveBrowserSession(c.Request().Context(), b, f.login.Hash)
	if errors.Is(err, user.ErrNotFound) {
		return a.showLogin(c, f, pages.Login{Form: pages.Form{Error: pages.InvalidCredentials.With()}})
	}
	if err != nil {
		return err
	}
	a.setCookie(c, cookieLogin, secret, browserSessionLifetime, http.SameSiteLaxMode)
	f.login, f.authenticated = b, true
	return a.proceed(c, f)
}

// signupPage is GET /oauth2/signup.
func (a *API) signupPage(c echo.Context) error {
	f, err := a.resume(c, c.QueryParam("request"))
	if err != nil {
		return err
	}
	return a.showSignup(c, f, pages.Signup{Email: f.LoginHint})
}

// signupForm is POST /oauth2/signup.
func (a *API) signupForm(c echo.Context) error {
	v, err := form(c)
	if err != nil {
		return err
	}
	f, err := a.resume(c, v.Get("request"))
	if err != nil {
		return err
	}
	if a.config.SignupDisabled {
		return a.showSignup(c, f, pages.Signup{})
	}
	again := func(m pages.Message) error {
		return a.showSignup(c, f, pages.Signup{Email: v.Get("email"), Name: v.Get("name"), Form: pages.Form{Error: m}})
	}
	email, err := user.ParseEmail(strings.TrimSpace(v.Get("email")))
	if err != nil {
		return again(pages.EmailInvalid.With())
	}
	name, err := user.ParseName(v.Get("name"))
	if err != nil {
		return again(pages.NameInvalid.With())
	}
	u, err := a.createUser(c, email, name, v.Get("password"))
	if errors.Is(err, password.ErrTooLong) {
		return again(pages.PasswordTooLong.With("max", strconv.Itoa(password.MaxLength)))
	}
	if m := a.loginMessage(c, err); m.ID != "" {
		return again(m)
	}
	if err != nil {
		return err
	}
	return a.loggedIn(c, f, u.ID, passwordAMR(), oauth.Proof{PasswordHash: u.PasswordHash})
}

func (a *API) showContinue(c echo.Context, f flow) error {
	u, err := a.Store.UserByID(c.Request().Context(), f.login.UserID)
	if err != nil {
		return err
	}
	form := a.pageForm(c, f, "/oauth2/continue", pages.Message{})
	return a.writePage(c, http.StatusOK, f.UILocales, pages.Continue{
		Form: form, Client: pageClient(f), User: pages.Person{Name: u.Name, Email: u.Email}, DifferentURL: a.pageLink("/oauth2/login", form.Hidden["request"]),
	})
}

// answered resumes a page that asked the logged-in user something: the answer counts for that login only.
func (a *API) answered(c echo.Context) (flow, url.Values, error) {
	v, err := form(c)
	if err != nil {
		return flow{}, nil, err
	}
	f, err := a.resume(c, v.Get("request"))
	if err == nil && (f.login.UserID == "" || f.login.Hash != f.askedIn) {
		err = &pageError{status: http.StatusBadRequest, what: pages.FaultExpired, code: "expired"}
	}
	return f, v, err
}

// continueForm is POST /oauth2/continue.
func (a *API) continueForm(c echo.Context) error {
	f, _, err := a.answered(c)
	if err != nil {
		return err
	}
	f.chosen = true
	return a.proceed(c, f)
}

// needsConsent reports whether a third-party client asks for what the user has not allowed it yet.
func (a *API) needsConsent(c echo.Context, f flow) (bool, error) {
	if !f.Client.ThirdParty {
		return false, nil
	}
	if f.Asks(oauth.PromptConsent) {
		return true, nil
	}
	given, err := a.Browser.Consent(c.Request().Context(), f.login.UserID, f.Client.ID)
	if err != nil {
		return false, err
	}
	allowed := strings.Fields(given.Scope)
	return given.GrantedAt.IsZero() || slices.ContainsFunc(strings.Fields(f.Scope), func(s string) bool { return !slices.Contains(allowed, s) }), nil
}

func (a *API) showConsent(c echo.Context, f flow) error {
	u, err := a.Store.UserByID(c.Request().Context(), f.login.UserID)
	if err != nil {
		return err
	}
	form := a.pageForm(c, f, "/oauth2/consent", pages.Message{})
	return a.writePage(c, http.StatusOK, f.UILocales, pages.Consent{
		Form: form, Client: pageClient(f), User: pages.Person{Name: u.Name, Email: u.Email}, Scopes: strings.Fields(f.Scope),
		DifferentURL: a.pageLink("/oauth2/login", form.Hidden["request"]),
	})
}

// consentForm is POST /oauth2/consent.
func (a *API) consentForm(c echo.Context) error {
	f, v, err := a.answered(c)
	if err != nil {
		return err
	}
	switch v.Get("decision") {
	case "allow":
	case "deny":
		return f.refuse(oauth.AccessDenied, "the user said no")
	default:
		return invalidRequest("decision", "must be allow or deny")
	}
	if !f.authenticated && !a.stillCounts(f) && !f.Asks(oauth.PromptLogin) {
		return a.proceed(c, f) // the login has become too old meanwhile
	}
	ctx, now := c.Request().Context(), time.Now()
	given, err := a.Browser.Consent(ctx, f.login.UserID, f.Client.ID)
	if err != nil {
		return err
	}
	scope := strings.Fields(given.Scope + " " + f.Scope)
	slices.Sort(scope)
	err = a.Browser.SaveConsent(ctx, oauth.Consent{
		UserID: f.login.UserID, ClientID: f.Client.ID, Scope: strings.Join(slices.Compact(scope), " "), GrantedAt: now,
	}, audit.ConsentGranted(now, f.login.UserID, f.Client.ID, origin(c)))
	if err != nil {
		return err
	}
	return a.answer(c, f)
}
