package oauth

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Further codes, of the authorization endpoint (RFC 6749, section 4.1.2.1; OpenID Connect Core, section 3.1.2.6).
const (
	UnsupportedResponseType  ErrorCode = "unsupported_response_type"
	AccessDenied             ErrorCode = "access_denied"
	ServerError              ErrorCode = "server_error"
	LoginRequired            ErrorCode = "login_required"
	ConsentRequired          ErrorCode = "consent_required"
	AccountSelectionRequired ErrorCode = "account_selection_required"
	// OpenID Connect Core Unmet Authentication Requirements 1.0
	UnmetAuthentication      ErrorCode = "unmet_authentication_requirements"
	RequestNotSupported      ErrorCode = "request_not_supported"
	RequestURINotSupported   ErrorCode = "request_uri_not_supported"
	RegistrationNotSupported ErrorCode = "registration_not_supported"
)

// The values of prompt (OpenID Connect Core, section 3.1.2.1; Initiating User Registration 1.0 for create).
const (
	PromptNone          = "none"
	PromptLogin         = "login"
	PromptConsent       = "consent"
	PromptSelectAccount = "select_account"
	PromptCreate        = "create"
)

// The response modes (OAuth 2.0 Multiple Response Type Encoding Practices; OAuth 2.0 Form Post Response Mode).
const (
	ModeQuery    = "query"
	ModeFragment = "fragment" // some libraries for single-page applications know nothing else
	ModeFormPost = "form_post"
)

// Authorization is a valid authorization request.
type Authorization struct {
	Client       Client
	RedirectURI  string
	State        string
	ResponseMode string
	Scope        string
	Audience     []string
	Challenge    string
	Nonce        string
	Prompt       []string
	MaxAge       time.Duration // negative if it was not asked for
	LoginHint    string
	ACRValues    []string
	UILocales    string
	Provider     string // go straight to this provider
	IDTokenHint  string
	Pushed       Hash // the pushed request that it is; zero for none

	// Parameters is the request as it was validated, form-encoded, to be carried through the pages and validated again.
	Parameters string
}

// Asks reports whether the request's prompt has a value.
func (a Authorization) Asks(prompt string) bool { return slices.Contains(a.Prompt, prompt) }

// AuthorizationError is the refusal of an authorization request whose client and redirect URI are known to be right:
// the client is told, by redirection. Any other refusal is shown to the user, because it is unknown who would
// receive it (RFC 6749, section 4.1.2.1).
type AuthorizationError struct {
	Refusal      *Error
	ClientName   string
	RedirectURI  string
	State        string
	ResponseMode string
}

// Error implements error.
func (e *AuthorizationError) Error() string { return e.Refusal.Error() }

// Unwrap returns the refusal.
func (e *AuthorizationError) Unwrap() error { return e.Refusal }

// maxParameter bounds what a client may have carried through the browser, in bytes; maxParameters bounds all of it.
const (
	maxParameter  = 2048
	maxParameters = 12 << 10
)

// Authorize validates an authorization request (RFC 6749, section 4.1.1; RFC 7636; RFC 8707; RFC 9126; OpenID Connect
// Core, section 3.1.2.1). *AuthorizationError if the client may be told, *Error if only the user may; any other error
// is a storage failure.
func (s *Server) Authorize(ctx context.Context, form Form) (*Authorization, error) {
	client, redirectURI, err := s.authorizingClient(ctx, form)
	if err != nil {
		return nil, err
	}
	uri := pushedURI(form)
	if uri == "" {
		return s.authorize(client, redirectURI, form)
	}
	if form, err = s.visitPushed(ctx, client, uri); err != nil {
		return nil, err
	}
	return s.resume(ctx, form, uri)
}

// Resume validates again the Parameters of a request that was validated before: the client may have been changed meanwhile.
func (s *Server) Resume(ctx context.Context, form Form) (*Authorization, error) {
	uri := pushedURI(form)
	if uri != "" {
		form = maps.Clone(form)
		delete(form, "request_uri")
	}
	return s.resume(ctx, form, uri)
}

// resume validates the parameters of a request, which came by a request_uri unless that is empty.
func (s *Server) resume(ctx context.Context, form Form, uri string) (*Authorization, error) {
	client, redirectURI, err := s.authorizingClient(ctx, form)
	if err != nil {
		return nil, err
	}
	a, err := s.authorize(client, redirectURI, form)
	if err == nil && uri != "" {
		a.isPushed(uri)
	}
	return a, err
}

// authorize validates what the client may be told about.
func (s *Server) authorize(client Client, redirectURI string, form Form) (*Authorization, error) {
	a, err := s.validateAuthorization(client, redirectURI, form)
	if err != nil {
		state, _ := form.One("state")
		if len(state) > maxParameter { // it is what was refused
			state = ""
		}
		mode, _ := form.One("response_mode")
		if mode != ModeFormPost && mode != ModeFragment {
			mode = ModeQuery
		}
		refusal, ok := errors.AsType[*Error](err)
		if !ok {
			return nil, err
		}
		return nil, &AuthorizationError{
			Refusal:      refusal,
			ClientName:   client.Name,
			RedirectURI:  redirectURI,
			State:        state,
			ResponseMode: mode,
		}
	}
	return a, nil
}

// authorizingClient finds the client and checks the redirect URI. Until both are right nothing may be redirected.
func (s *Server) authorizingClient(ctx context.Context, form Form) (Client, string, error) {
	id, err := form.required("client_id")
	if err != nil {
		return Client{}, "", err
	}
	client, err := s.clients.Client(ctx, id)
	if errors.Is(err, ErrClientNotFound) || err == nil && client.Disabled() {
		return Client{}, "", &Error{Code: InvalidRequest, Description: "the client is not known here", Err: ErrClientNotFound}
	}
	if err != nil {
		return Client{}, "", err
	}
	if pushedURI(form) != "" {
		return client, "", nil // everything else stands in the pushed request
	}
	uri, err := form.One("redirect_uri")
	if err != nil {
		return Client{}, "", err
	}
	if uri == "" {
		if len(client.RedirectURIs) != 1 { // RFC 6749, section 3.1.2.3
			return Client{}, "", &Error{Code: InvalidRequest, Description: "redirect_uri is missing", Parameter: "redirect_uri"}
		}
		return client, client.RedirectURIs[0], nil
	}
	registered := slices.ContainsFunc(client.RedirectURIs, func(r string) bool { return redirectURIMatches(r, uri) })
	if !registered && !s.config.Gateways.ask(client, uri, form) {
		return Client{}, "", &Error{
			Code:        InvalidRequest,
			Description: "the redirect_uri is not registered for the client",
			Parameter:   "redirect_uri",
		}
	}
	return client, uri, nil
}

// redirectURIMatches compares exactly (RFC 9700, section 4.1.3); only the port of a loopback address is free (RFC 8252,
// section 7.3).
func redirectURIMatches(registered, presented string) bool {
	if registered == presented {
		return true
	}
	r, err := url.Parse(registered)
	if err != nil || r.Scheme != "http" || !isLoopback(r.Hostname()) || r.Hostname() == "localhost" {
		return false
	}
	p, err := url.Parse(presented)
	if err != nil || p.Hostname() != r.Hostname() {
		return false
	}
	if port, err := strconv.Atoi(p.Port()); err != nil || port < 1 || port > 65535 {
		return false
	}
	p.Host = r.Host
	if r.Port() == "" && strings.Contains(r.Hostname(), ":") {
		p.Host = net.JoinHostPort(r.Hostname(), "")[:len(r.Hostname())+2]
	}
	return p.String() == registered
}

func (s *Server) validateAuthorization(client Client, redirectURI string, form Form) (*Authorization, error) {
	a := &Authorization{Client: client, RedirectURI: redirectURI, MaxAge: -1}
	get := make(map[string]string, len(form))
	for name, values := range form {
		if name == "resource" {
			continue
		}
		if len(values) > 1 {
			return nil, refuse(InvalidRequest, "%s is given more than once", printable(name))
		}
		if len(values) == 1 {
			get[name] = values[0]
		}
		if len(get[name]) > maxParameter {
			return nil, refuse(InvalidRequest, "%s is too long", printable(name))
		}
	}
	for name, code := range map[string]ErrorCode{
		"request": RequestNotSupported, "request_uri": RequestURINotSupported, "registration": RegistrationNotSupported,
	} {
		if get[name] != "" {
			return nil, refuse(code, "%s is not supported", name)
		}
	}
	a.State, a.Nonce, a.LoginHint = get["state"], get["nonce"], get["login_hint"]
	a.UILocales, a.Provider = get["ui_locales"], get["provider"]
	a.ACRValues, a.IDTokenHint = strings.Fields(get["acr_values"]), get["id_token_hint"]

	switch get["response_type"] {
	case "code":
	case "":
		return nil, refuse(InvalidRequest, "response_type is missing")
	default:
		return nil, refuse(UnsupportedResponseType, "the response type must be code")
	}
	switch a.ResponseMode = get["response_mode"]; a.ResponseMode {
	case "":
		a.ResponseMode = ModeQuery
	case ModeQuery, ModeFragment, ModeFormPost:
	default:
		return nil, refuse(InvalidRequest, "the response mode must be query, fragment or form_post")
	}
	if !client.Allows(GrantAuthorizationCode) {
		return nil, refuse(UnauthorizedClient, "the client is not registered for authorization_code")
	}
	var err error
	if a.Challenge, err = challenge(client, get["code_challenge"], get["code_challenge_method"]); err != nil {
		return nil, err
	}
	if a.Scope, err = grantedScope(client, understoodScope(client, get["scope"])); err != nil {
		return nil, err
	}
	if a.Audience, err = s.grantedAudience(s.audiences(client), a.Scope, Request{Form: form}.resources()); err != nil {
		return nil, err
	}
	if err := a.readPrompt(get["prompt"], get["max_age"]); err != nil {
		return nil, err
	}
	if a.Parameters = EncodeQuery(known(form)); len(a.Parameters) > maxParameters {
		return nil, refuse(InvalidRequest, "the request is too long")
	}
	return a, nil
}

// known are the parameters that mean something here. Others are ignored (RFC 6749, section 3.1), and neither carried through the
// browser nor kept.
func known(form Form) url.Values {
	kept := make(url.Values, len(form))
	for _, name := range []string{
		"response_type", "client_id", "redirect_uri", "scope", "state", "nonce", "code_challenge", "code_challenge_method",
		"response_mode", "prompt", "max_age", "login_hint", "acr_values", "ui_locales", "id_token_hint", "resource", "provider",
	} {
		if values, ok := form[name]; ok {
			kept[name] = values
		}
	}
	return kept
}

func (a *Authorization) readPrompt(prompt, maxAge string) error {
	a.Prompt = strings.Fields(prompt)
	for _, p := range a.Prompt {
		if !slices.Contains([]string{PromptNone, PromptLogin, PromptConsent, PromptSelectAccount, PromptCreate}, p) {
			return refuse(InvalidRequest, "prompt has an unknown value")
		}
	}
	if a.Asks(PromptNone) && len(a.Prompt) > 1 {
		return refuse(InvalidRequest, "prompt none goes with no other value")
	}
	if maxAge == "" {
		return nil
	}
	seconds, err := strconv.ParseInt(maxAge, 10, 32)
	if err != nil || seconds < 0 {
		return refuse(InvalidRequest, "max_age must be a number of seconds")
	}
	a.MaxAge = time.Duration(seconds) * time.Second
	return nil
}

// understoodScope leaves out of an OpenID request the values that the client is not registered for: they should be ignored
// (OpenID Connect Core, section 3.1.2.1). The token response says what was granted.
func understoodScope(c Client, asked string) string {
	values := strings.Fields(asked)
	if !slices.Contains(values, "openid") || !slices.Contains(c.Scopes, "openid") {
		return asked
	}
	return strings.Join(slices.DeleteFunc(values, func(v string) bool {
		return validScopeValue(v) && !slices.Contains(c.Scopes, v) && (v != ScopeAccount || !c.MayAccount())
	}), " ")
}

// challenge is the code_challenge of a request, empty if the client may leave it out and does. Without a method it would be a
// plain one (RFC 7636, section 4.3), which is never accepted.
func challenge(c Client, value, method string) (string, error) {
	switch {
	case value == "" && method == "" && c.PKCEOptional:
		return "", nil
	case !validChallenge(value):
		return "", refuse(InvalidRequest, "code_challenge is missing or malformed (RFC 7636)")
	case method != "S256":
		return "", refuse(InvalidRequest, "code_challenge_method must be S256")
	}
	return value, nil
}

// validChallenge is the form of an S256 challenge: a SHA-256 in base64url (RFC 7636, section 4.2).
func validChallenge(s string) bool {
	return len(s) == 43 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
}

// printable makes a caller's text fit for an error description (RFC 6749, section 5.2).
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e || r == '"' || r == '\\' {
			return '.'
		}
		return r
	}, s[:min(len(s), 64)])
}
