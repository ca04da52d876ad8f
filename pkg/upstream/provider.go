package upstream

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/oauth2"

	"github.com/handstamp/handstamp/pkg/clock"
	"github.com/handstamp/handstamp/pkg/egress"
	"github.com/handstamp/handstamp/pkg/seal"
)

// Options are what the providers share.
type Options struct {
	// Key is the server's master key.
	Key seal.MasterKey
	// RootCAs replace the system's certificate authorities; nil for those.
	RootCAs *x509.CertPool
	// Clock tells the time; nil for the machine's.
	Clock *clock.Clock
	// Log is told what is passed over in providers' answers; nil for nobody.
	Log *slog.Logger
}

// Providers are the configured providers. It is safe for concurrent use.
type Providers struct {
	ordered []*Provider
}

// NewProviders makes the providers of a configuration, or reports all its faults. It calls none of them: a provider
// that is down does not keep this server from starting.
func NewProviders(configs []Config, o Options) (*Providers, error) {
	if err := Validate(configs); err != nil {
		return nil, err
	}
	var all Providers
	for _, c := range configs {
		all.ordered = append(all.ordered, newProvider(c.complete(), o))
	}
	return &all, nil
}

// Provider returns the provider with an ID, or ErrUnknownProvider.
func (s *Providers) Provider(id string) (*Provider, error) {
	for _, p := range s.ordered {
		if p.cfg.ID == id {
			return p, nil
		}
	}
	return nil, fmt.Errorf("%w %q", ErrUnknownProvider, cleanText(id, 40))
}

// All lists the providers in the order of the configuration.
func (s *Providers) All() iter.Seq[*Provider] { return slices.Values(s.ordered) }

// Provider is one provider through which users log in. It is safe for concurrent use.
type Provider struct {
	cfg        Config
	client     *http.Client
	discovered *cached[*metadata]
	tokens     *http.Client // client, for the token endpoint
	attemptKey []byte
	clock      *clock.Clock
	log        *slog.Logger
}

func newProvider(c Config, o Options) *Provider {
	calls := c.egress()
	calls.RootCAs = o.RootCAs
	p := &Provider{
		cfg:        c,
		client:     egress.New(calls),
		attemptKey: o.Key.Derive(seal.UpstreamAttempts, 32),
		clock:      o.Clock,
		log:        cmp.Or(o.Log, slog.New(slog.DiscardHandler)),
	}
	tokens := *p.client
	tokens.Transport = lenient{next: p.client.Transport, provider: p}
	p.tokens = &tokens
	if known, _ := presetOf(c.Type); known.openID {
		p.discovered = newCached(p.discover)
	} else {
		p.discovered = newCached(p.configured)
	}
	return p
}

// ID is the provider's name in the configuration, in URLs and in stored identities.
func (p *Provider) ID() string { return p.cfg.ID }

// Name is the provider's name for people.
func (p *Provider) Name() string { return p.cfg.Name }

// Type is the kind of the provider.
func (p *Provider) Type() Type { return p.cfg.Type }

// FormPost reports whether the provider answers by a cross-site form post and not by a redirect (OAuth 2.0 Form Post
// Response Mode). A SameSite=Lax cookie does not come with it.
func (p *Provider) FormPost() bool { return p.cfg.Type == Apple }

// TrustsEmail reports whether addresses that the provider calls verified prove who the user is.
func (p *Provider) TrustsEmail() bool { return *p.cfg.TrustEmail }

// SignupAllowed reports whether people who are not users yet may become users through this provider.
func (p *Provider) SignupAllowed() bool { return !p.cfg.DisableSignup }

// KeepsTokens reports whether Complete returns the provider's tokens.
func (p *Provider) KeepsTokens() bool { return p.cfg.KeepTokens }

// Request says what a login is for.
type Request struct {
	RedirectURI string // our callback for this provider, exactly as it is registered there
	UserID      string // the logged-in user who adds an identity; empty for a login
	Continue    string // kept in the attempt for the caller
	LoginHint   string // address or name that the user has typed already
	// none, login, consent or select_account (OpenID Connect Core 1.0, section 3.1.2.1); empty for the provider's choice
	Prompt    string
	MaxAge    string // seconds since the user logged in there, at most; empty for any time. OpenID providers only
	UILocales string // languages, space-separated
}

// Begun is a login under way.
type Begun struct {
	URL     string      // send the browser there
	Browser seal.Secret // the value of the cookie that binds the attempt to this browser
	Attempt Attempt     // to be stored
}

// Begin starts a login. Errors: ErrUnavailable, ErrInvalidAnswer and ErrMisconfigured, when Begin needs the
// provider's metadata and cannot get it.
func (p *Provider) Begin(ctx context.Context, r Request) (Begun, error) {
	m, err := p.metadata(ctx)
	if err != nil {
		return Begun{}, err
	}
	state, browser := seal.Secret(rand.Text()), seal.Secret(rand.Text())
	options := []oauth2.AuthCodeOption{oauth2.S256ChallengeOption(p.verifier(state))}
	for name, value := range p.parameters(m, r, state) {
		options = append(options, oauth2.SetAuthURLParam(name, value))
	}
	config, err := p.oauth(m, r.RedirectURI)
	if err != nil {
		return Begun{}, err
	}
	return Begun{
		URL:     config.AuthCodeURL(string(state), options...),
		Browser: browser,
		Attempt: Attempt{
			StateHash: HashSecret(state), BrowserHash: HashSecret(browser),
			Provider: p.cfg.ID, RedirectURI: r.RedirectURI, UserID: r.UserID, Continue: r.Continue,
			ExpiresAt: p.clock.Now().Add(AttemptLifetime),
		},
	}, nil
}

// The verifier is sent to every provider: those that do not know PKCE ignore the challenge (RFC 9700, section 2.1.1).
func (p *Provider) verifier(state seal.Secret) string {
	return derive(p.attemptKey, "verifier", p.cfg.ID, state)
}
func (p *Provider) nonce(state seal.Secret) string {
	return derive(p.attemptKey, "nonce", p.cfg.ID, state)
}

// parameters are the authorization request's parameters beyond RFC 6749 and PKCE.
func (p *Provider) parameters(m *metadata, r Request, state seal.Secret) map[string]string {
	out := map[string]string{"login_hint": r.LoginHint, "ui_locales": r.UILocales, "prompt": r.Prompt}
	if m.keys != nil {
		out["nonce"] = p.nonce(state)
		out["max_age"] = r.MaxAge
	}
	switch p.cfg.Type {
	case Google:
		out["hd"] = p.cfg.HostedDomain // a convenience for the user; what counts is the claim
		if p.cfg.KeepTokens {
			out["access_type"] = "offline"
		}
	case GitHub:
		out["login"] = r.LoginHint
		delete(out, "login_hint")
	case Apple:
		delete(out, "max_age")             // Apple knows none, and states no auth_time
		out["response_mode"] = "form_post" // Apple's rule as soon as name or email is asked for
	default:
	}
	// Core, section 11: offline_access is ignored unless the user is asked. So does Google at every login but the first;
	// Microsoft does not.
	asks := p.cfg.Type == Google || p.cfg.Type == OIDC && slices.Contains(p.scopes(m), offlineAccess)
	if r.Prompt == "" && p.cfg.KeepTokens && asks {
		out["prompt"] = "consent"
	}
	for name, value := range out {
		if value == "" {
			delete(out, name)
		}
	}
	return out
}

const offlineAccess = "offline_access"

// scopes are the configured ones, and the one that gives a refresh token if tokens are kept and the provider knows it.
func (p *Provider) scopes(m *metadata) []string {
	if p.cfg.KeepTokens && slices.Contains(m.Scopes, offlineAccess) && !slices.Contains(p.cfg.Scopes, offlineAccess) {
		return append(slices.Clone(p.cfg.Scopes), offlineAccess)
	}
	return p.cfg.Scopes
}

func (p *Provider) oauth(m *metadata, redirectURI string) (*oauth2.Config, error) {
	secret, err := p.clientSecret()
	if err != nil {
		return nil, p.fail(ErrMisconfigured, "make client secret", err)
	}
	// The style is never left to x/oauth2 to find out by trying, which sends a code twice.
	style := oauth2.AuthStyleInHeader
	switch method := p.cfg.TokenAuth; {
	case method == authPost, secret == "",
		method == "" && len(m.TokenAuth) > 0 && !slices.Contains(m.TokenAuth, authBasic):
		style = oauth2.AuthStyleInParams
	}
	return &oauth2.Config{
		ClientID: p.cfg.ClientID, ClientSecret: string(secret), RedirectURL: redirectURI, Scopes: p.scopes(m),
		Endpoint: oauth2.Endpoint{AuthURL: m.Authorization, TokenURL: m.Token, AuthStyle: style},
	}, nil
}

// Callback is what the browser brings back from the provider. All of it can be written by anybody.
type Callback struct {
	Code, State, Issuer     string
	Error, ErrorDescription string
	User                    string // Apple's JSON with the user's name, sent at the first login only
}

// ParseCallback reads the parameters of the callback, from the query or from the form but never from both. ErrState if
// one of them is given twice (RFC 6749, section 3.1) or is longer than any provider's. Others do not count.
func ParseCallback(v url.Values) (Callback, error) {
	for _, name := range []string{"code", "state", "iss", "error", "error_description", "user"} {
		if values := v[name]; len(values) > 1 || len(v.Get(name)) > 8<<10 {
			return Callback{}, fmt.Errorf("%w: parameter %q is repeated or too long", ErrState, name)
		}
	}
	return Callback{
		Code: v.Get("code"), State: v.Get("state"), Issuer: v.Get("iss"),
		Error: v.Get("error"), ErrorDescription: v.Get("error_description"), User: v.Get("user"),
	}, nil
}

// Complete finishes the login that an attempt began. browser is the value of the binding cookie; empty if there is none.
// The caller has taken the attempt out of the store (Store.TakeAttempt), so that it can't be used again.
// Tokens are nil unless the provider's tokens are to be kept.
//
// Errors: ErrState, ErrDenied, ErrUnavailable, ErrInvalidAnswer, ErrMisconfigured, ErrNotAllowed.
func (p *Provider) Complete(ctx context.Context, a Attempt, browser seal.Secret, cb Callback) (*Identity, *Tokens, error) {
	const doing = "check the callback"
	state := seal.Secret(cb.State)
	if a.Provider != p.cfg.ID || !sameHash(a.StateHash, HashSecret(state)) ||
		!sameHash(a.BrowserHash, HashSecret(browser)) || !p.clock.Now().Before(a.ExpiresAt) {
		return nil, nil, p.fail(ErrState, doing, nil)
	}
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	m, err := p.metadata(ctx)
	if err != nil {
		return nil, nil, err
	}
	if err := p.checkIssuer(m, cb); err != nil {
		return nil, nil, p.fail(ErrInvalidAnswer, doing, err)
	}
	if cb.Error != "" {
		return nil, nil, p.refuse(authorizationRefused(cb.Error), "ask for a login", cb.Error, cb.ErrorDescription)
	}
	if cb.Code == "" {
		return nil, nil, p.fail(ErrInvalidAnswer, doing, errors.New("neither code nor error"))
	}
	config, err := p.oauth(m, a.RedirectURI)
	if err != nil {
		return nil, nil, err
	}
	answer, err := config.Exchange(p.context(ctx), cb.Code, oauth2.VerifierOption(p.verifier(state)))
	if err != nil {
		return nil, nil, p.tokenFailed("redeem the code", err, ErrInvalidAnswer)
	}
	identity, err := p.identify(ctx, m, answer, p.nonce(state), cb)
	if err != nil {
		return nil, nil, err
	}
	if !p.cfg.KeepTokens {
		return identity, nil, nil
	}
	return identity, tokensOf(answer, strings.Join(p.scopes(m), " ")), nil
}

// context makes x/oauth2 use the guarded client.
func (p *Provider) context(ctx context.Context) context.Context {
	return context.WithValue(ctx, oauth2.HTTPClient, p.tokens)
}

// checkIssuer holds the answer to the provider that was asked (RFC 9207, section 2.4), so that a code of one provider
// is not carried to another. A provider without a known issuer has nothing to compare with; the state is bound to its
// callback.
func (p *Provider) checkIssuer(m *metadata, cb Callback) error {
	switch {
	case cb.Issuer == "" && !m.IssParameter, m.Issuer == "":
		return nil
	case p.cfg.Type == Microsoft && sameMicrosoft(cb.Issuer, p.cfg.Issuer):
		return nil
	case cb.Issuer != m.Issuer:
		return errors.New("iss is not the provider's (RFC 9207)")
	}
	return nil
}

// authorizationRefused sorts the error codes of RFC 6749, section 4.1.2.1, OpenID Connect Core 1.0, section 3.1.2.6 and
// of providers with words of their own.
func authorizationRefused(code string) error {
	switch code {
	case "access_denied", "user_cancelled_authorize", "user_cancelled_login", "login_required", "interaction_required",
		"account_selection_required", "consent_required":
		return ErrDenied
	case "server_error", "temporarily_unavailable":
		return ErrUnavailable
	case "unauthorized_client", "invalid_client", "invalid_scope", "invalid_request", "unsupported_response_type",
		"redirect_uri_mismatch", "application_suspended", "request_not_supported":
		return ErrMisconfigured
	}
	return ErrInvalidAnswer
}

func tokensOf(t *oauth2.Token, asked string) *Tokens {
	scope, _ := t.Extra("scope").(string)
	if scope == "" {
		scope = asked
	}
	return &Tokens{Access: seal.Secret(t.AccessToken), Refresh: seal.Secret(t.RefreshToken), ExpiresAt: t.Expiry, Scope: scope}
}

// Refresh gets new tokens for a refresh token. The answer's refresh token is the one to keep, also where the provider did
// not rotate it. Errors: ErrReauthNeeded, ErrUnavailable, ErrInvalidAnswer, ErrMisconfigured.
func (p *Provider) Refresh(ctx context.Context, refresh seal.Secret, scope string) (*Tokens, error) {
	if refresh == "" {
		return nil, p.fail(ErrReauthNeeded, "refresh", errors.New("there is no refresh token"))
	}
	m, err := p.metadata(ctx)
	if err != nil {
		return nil, err
	}
	config, err := p.oauth(m, "")
	if err != nil {
		return nil, err
	}
	answer, err := config.TokenSource(p.context(ctx), &oauth2.Token{RefreshToken: string(refresh)}).Token()
	if err != nil {
		return nil, p.tokenFailed("refresh", err, ErrReauthNeeded)
	}
	return tokensOf(answer, scope), nil
}

// appleName reads the name that Apple sends along in the callback. It came through the browser, so it is good for a
// display name and for nothing else; the e-mail address beside it is not even looked at.
func appleName(user string) string {
	var u struct {
		Name struct {
			First string `json:"firstName"`
			Last  string `json:"lastName"`
		} `json:"name"`
	}
	if json.Unmarshal([]byte(user), &u) != nil {
		return ""
	}
	return u.Name.First + " " + u.Name.Last
}
