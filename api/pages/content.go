package pages

import (
	"slices"
	"strings"
)

// Form is what all pages with a form have in common.
type Form struct {
	// Action is the path of this server that the form posts to.
	Action string
	// Hidden is the page's state: names and values of hidden inputs.
	Hidden map[string]string
	// Targets are the URLs that the answer to the form may redirect to: the redirect URI, and where that one redirects to
	// in turn. Browsers enforce form-action on the whole chain, so a target that is missing here ends in a blank page.
	Targets []string
	// Error says what was wrong with the last attempt; it stands in #error and marks the inputs that it is about.
	Error Message
	// Notice is good news from the step before, such as [PasswordChanged]; it stands in #notice.
	Notice Message
	// Popup is set for display=popup: see [Policy].
	Popup bool
}

func (f Form) describe(template string) description {
	return description{template: template, policy: Policy{FormTargets: f.Targets, Popup: f.Popup}, attempt: f.Error}
}

// withPassword describes a form with a password, which a script can show.
func (f Form) withPassword(template string) description {
	d := f.describe(template)
	d.policy.reveal = true
	return d
}

// Client is the application that sent the user here.
type Client struct {
	// Name as registered; if empty, the pages show the brand's.
	Name string
	// Host is where the user will be taken, for example "photos.example"; it is shown where the user decides.
	Host string
	// PolicyURL and TermsURL are the client's own documents (RFC 7591, section 2), shown at consent.
	PolicyURL, TermsURL string
}

// Person is the user as the pages address them.
type Person struct {
	Name, Email string
}

// Display returns the name, or the e-mail address of a user without one.
func (p Person) Display() string {
	if p.Name != "" {
		return p.Name
	}
	return p.Email
}

// Provider is an upstream provider that the user may log in with: the link #provider-{ID}.
type Provider struct {
	ID string
	// Type is the provider's type in the configuration; it chooses the glyph.
	Type string
	// Name for people; if empty, it follows from Type or ID.
	Name string
	// URL starts the login.
	URL string
}

// Label returns the provider's name for people.
func (p Provider) Label() string {
	if p.Name != "" {
		return clean(p.Name)
	}
	switch p.Type {
	case "google":
		return "Google"
	case "github":
		return "GitHub"
	case "microsoft":
		return "Microsoft"
	case "apple":
		return "Apple"
	}
	return clean(p.ID)
}

// Glyph returns the name of the provider's glyph.
func (p Provider) Glyph() string {
	switch p.Type {
	case "google", "github", "microsoft", "apple", "oidc":
		return p.Type
	}
	return "oauth2"
}

// Login is the page form#login with the inputs email and password and the button #login-submit, the links
// #provider-{id}, #signup-link, #forgot-link and #different-account. Links without a URL are left out.
type Login struct {
	Form
	Client Client
	// Email fills the input: from login_hint, or from the last attempt.
	Email string
	// DifferentURL is set when Email is who must authenticate again: the address can't be edited, but the user can leave for
	// another one.
	DifferentURL         string
	SignupURL, ForgotURL string
	Providers            []Provider
}

func (p Login) describe() description { return p.withPassword("login") }

// Signup is the page form#signup with the inputs name (optional), email and password and the button #signup-submit.
type Signup struct {
	Form
	Client      Client
	Email, Name string
	// MinPassword is the least length of a password in characters, for the hint.
	MinPassword int
	LoginURL    string
	Providers   []Provider
}

func (p Signup) describe() description { return p.withPassword("signup") }

// MFA is the page form#mfa with the input code and the button #mfa-submit, and one link #method-{method} for each
// alternative.
type MFA struct {
	Form
	Client Client
	// Method asked for: "totp", "email" or "recovery".
	Method string
	// Destination is where a code was sent, masked, for example "a•••@example.com".
	Destination  string
	Alternatives []Method
	// ResendURL sends a new code; CancelURL starts over.
	ResendURL, CancelURL string
}

// Method is another second factor that the user could use instead.
type Method struct {
	ID  string // as MFA.Method
	URL string
}

func (p MFA) describe() description { return p.Form.describe("mfa") }

// Kind returns Method, or "totp" if that is none that the page knows.
func (p MFA) Kind() string { return p.kind(p.Method) }

func (MFA) kind(method string) string {
	switch method {
	case "email", "recovery":
		return method
	}
	return "totp"
}

// Others returns the alternatives that the page has words for.
func (p MFA) Others() []Method {
	return slices.DeleteFunc(slices.Clone(p.Alternatives), func(m Method) bool { return p.kind(m.ID) != m.ID || !linkable(m.URL) })
}

// Consent is the page form#consent with the buttons #deny and #allow; the form carries decision=deny or decision=allow.
type Consent struct {
	Form
	Client Client
	User   Person
	// Scopes asked for, as in the request.
	Scopes []string
	// DifferentURL lets the user log in as somebody else.
	DifferentURL string
}

func (p Consent) describe() description { return p.Form.describe("consent") }

// Continue is the page form#continue with the button #continue-submit, for a user who is logged in at this browser
// already, and the link #different-account.
type Continue struct {
	Form
	Client       Client
	User         Person
	DifferentURL string
}

func (p Continue) describe() description { return p.Form.describe("continue") }

// Logout is the page form#logout with the button #logout-submit and the link #logout-cancel: OpenID Connect RP-Initiated
// Logout, section 2, where the request doesn't prove that it comes from the user's own session.
type Logout struct {
	Form
	Client    Client
	User      Person
	CancelURL string
	Detail    string // what is wrong with the request, for the developer (#error-detail)
}

func (p Logout) describe() description { return p.Form.describe("logout") }

// LoggedOut is the page after a logout that leads nowhere else. ContinueURL (#back-link) returns to the client.
type LoggedOut struct {
	Client                Client
	ContinueURL, LoginURL string
	Detail                string // what was wrong with the request, for the developer (#error-detail)
}

func (LoggedOut) describe() description { return description{template: "loggedout"} }

// Home is the page at the address of the service itself. LoginURL (#login-link) is where a person goes on; without one
// the page says that logging in begins at an application. The others (#metadata-link, #keys-link, #contract-link) are for
// developers.
type Home struct {
	Issuer                            string
	LoginURL                          string
	MetadataURL, KeysURL, ContractURL string
}

func (Home) describe() description { return description{template: "home"} }

// Forgot is the page form#forgot with the input email and the button #forgot-submit.
type Forgot struct {
	Form
	Email    string
	LoginURL string
}

func (p Forgot) describe() description { return p.Form.describe("forgot") }

// Reset is the page form#reset with the input password and the button #reset-submit, behind the link in a mail; with the input
// code too, for a person who has asked for the mail in this browser.
type Reset struct {
	Form
	Code bool
	// Email of the user whose password it is.
	Email       string
	MinPassword int
}

func (p Reset) describe() description { return p.withPassword("reset") }

// Verify is the page form#verify with the button #verify-submit, behind the link in a mail: mail scanners open links, so
// that only the button may do anything. With the input code it waits for the mail in the browser that has asked for it.
type Verify struct {
	Form
	Code  bool
	Email string
}

func (p Verify) describe() description { return p.Form.describe("verify") }

// Done is a page without a form that says how something ended: an error-free end of a journey.
type Done struct {
	// What happened: [CheckMailVerify], [CheckMailReset], [EmailVerified] or [PasswordChanged].
	What Message
	// Email that it happened to.
	Email string
	// LoginURL (#login-link) goes on.
	LoginURL string
}

func (Done) describe() description { return description{template: "done"} }

// Error is the error page.
type Error struct {
	// What happened. The texts of every [MessageID] under "fault." say it in plain words and what to do about it.
	What Message
	// Code and Detail are for those who look into it: an OAuth error code and its description, for example. Both may come
	// from outside.
	Code, Detail string
	// RequestID finds the request in the log.
	RequestID string
	// RetryURL (#retry-link) starts again; ClientURL (#back-link) returns to Client.
	RetryURL, ClientURL string
	Client              Client
}

func (Error) describe() description { return description{template: "error", failed: true} }

// FormPost is the answer of response_mode=form_post (OAuth 2.0 Form Post Response Mode, section 2): a form#form-post that
// sends itself, with a button #form-post-submit where scripts are off. Its script is the only one there is.
type FormPost struct {
	// RedirectURI of the client, http or https.
	RedirectURI string
	// Values of the authorization response.
	Values map[string]string
	Client Client
}

func (p FormPost) describe() description {
	return description{template: "formpost", policy: Policy{formPost: true}}
}

// Onward takes the browser from the answer to a form on to another site (the link #onward-link, for browsers that do not go by
// themselves). A redirection would be held to the form's own form-action (see Form.Targets), and so would every further one
// of that site, which nobody here knows.
type Onward struct {
	// URL to go to, http or https.
	URL    string
	Client Client
	AtOnce bool // the page itself leads on, for a URL that is too long for a header
}

func (Onward) describe() description { return description{template: "onward"} }

// CanGoOnward reports whether [Onward] leads to a URL. Others, of applications on the same device, end the chain anyway.
func CanGoOnward(url string) bool {
	return linkable(url) && !strings.HasPrefix(url, "/") && !strings.HasPrefix(url, "?")
}

// clean prepares a value that a stranger may have chosen for display: no control characters, none that reorder or hide
// text, and no more of it than fits a page. (Escaping is the template's.)
func clean(s string) string {
	const most = 200
	s = strings.Map(func(c rune) rune {
		switch {
		case c < ' ', c >= 0x7f && c < 0xa0, c == 0x00ad, c == 0x034f, c == 0x061c, c >= 0x200b && c <= 0x200f,
			c >= 0x2028 && c <= 0x202e, c >= 0x2060 && c <= 0x206f, c == 0xfeff, c >= 0xe0000 && c <= 0xe007f:
			return -1
		}
		return c
	}, strings.ToValidUTF8(s, "\ufffd"))
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > most {
		s = string(r[:most-1]) + "…"
	}
	return s
}

// linkable reports whether a page may link to a URL: an absolute http or https URL, or a path of this server.
func linkable(url string) bool {
	if strings.ContainsFunc(url, func(c rune) bool { return c <= ' ' || c == '\\' || c == 0x7f }) {
		return false // browsers take \ for / and drop tabs and line breaks, so that the URL would not be the one that we read
	}
	lower := strings.ToLower(url)
	for _, prefix := range []string{"http://", "https://"} {
		if rest, ok := strings.CutPrefix(lower, prefix); ok {
			return rest != "" && rest[0] != '/'
		}
	}
	return strings.HasPrefix(url, "/") && !strings.HasPrefix(url, "//") || strings.HasPrefix(url, "?")
}
