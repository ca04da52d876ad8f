package upstream

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/oauth2"

	"github.com/handstamp/handstamp/pkg/egress"
)

// The outcomes of a login that is not one. Each error of Provider wraps exactly one of them inside an [*Error].
var (
	// ErrState says that the callback does not belong to an attempt of this browser at this provider, or came too late.
	// The user may start again; it is a 400.
	ErrState = errors.New("login attempt is unknown, finished, expired or of another browser")
	// ErrDenied says that the user, or the provider on the user's behalf, said no. The user may start again.
	ErrDenied = errors.New("login was declined at the provider")
	// ErrUnavailable says that the provider can't be reached, is too slow or has a failure of its own. Try again later;
	// nothing was made.
	ErrUnavailable = errors.New("provider is unavailable")
	// ErrInvalidAnswer says that the provider, or an attacker in its name, gave an answer that must not be trusted.
	ErrInvalidAnswer = errors.New("provider gave an invalid answer")
	// ErrMisconfigured says that the provider refuses this server as a client, or that its address is refused here. Only
	// the operator can help.
	ErrMisconfigured = errors.New("provider is misconfigured")
	// ErrNotAllowed says that the user's Google domain or Microsoft tenant is not one that may log in.
	ErrNotAllowed = errors.New("not a domain or tenant that may log in")
	// ErrReauthNeeded says that the provider no longer honours the refresh token: the user must log in there again.
	ErrReauthNeeded = errors.New("provider needs a new login")
	// ErrUnknownProvider says that no provider has this ID, any more or yet.
	ErrUnknownProvider = errors.New("unknown provider")
	// ErrNotSupported says that the provider can't do what was asked, such as ID tokens where there are none.
	ErrNotSupported = errors.New("not supported by the provider")
)

// Error is a failed exchange with a provider.
type Error struct {
	Kind     error  // the sentinel
	Provider string // its ID
	Name     string // its name for people
	Doing    string // what we were doing
	// Code is the provider's error code, reduced to the characters that RFC 6749, section 5.2 permits; empty if none.
	Code string
	// Description is the provider's explanation. It is untrusted text for people: escape it, and don't log it as ours.
	Description string
	Err         error // the cause, nil if there is none to tell
}

// Error holds no secret and none of the provider's free text.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "provider %s: %s: %v", e.Provider, e.Doing, e.Kind)
	if e.Code != "" {
		fmt.Fprintf(&b, " (%q)", e.Code)
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	return b.String()
}

// Unwrap returns the sentinel and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

// fail makes an error of this provider.
func (p *Provider) fail(kind error, doing string, cause error) *Error {
	return &Error{Kind: kind, Provider: p.cfg.ID, Name: p.cfg.Name, Doing: doing, Err: cause}
}

// refuse makes an error out of the error code and description that a provider sent (RFC 6749, sections 4.1.2.1 and 5.2).
func (p *Provider) refuse(kind error, doing, code, description string) *Error {
	return &Error{
		Kind:        kind,
		Provider:    p.cfg.ID,
		Name:        p.cfg.Name,
		Doing:       doing,
		Code:        cleanCode(code),
		Description: cleanText(description, 300),
	}
}

// callFailed classifies the failure of a request that got no usable answer.
func (p *Provider) callFailed(doing string, err error) *Error {
	if already, ok := errors.AsType[*Error](err); ok {
		return already
	}
	status, hasStatus := errors.AsType[statusError](err)
	switch {
	case errors.Is(err, egress.ErrAddress):
		return p.fail(ErrMisconfigured, doing, fmt.Errorf("%w (allow_private_network permits private networks for a provider)", err))
	case hasStatus && !status.unavailable(), errors.Is(err, egress.ErrTooLarge), errors.Is(err, errNotJSON),
		errors.Is(err, egress.ErrURL):
		return p.fail(ErrInvalidAnswer, doing, err)
	}
	return p.fail(ErrUnavailable, doing, err)
}

// tokenFailed classifies the failure of a token request. The answer's body is never part of the error: it can hold
// tokens (a server that answers 200 with a broken document) or echo our secret.
func (p *Provider) tokenFailed(doing string, err error, grantRefused error) *Error {
	answer, ok := errors.AsType[*oauth2.RetrieveError](err)
	if !ok {
		if _, ok := errors.AsType[*url.Error](err); ok { // there was no answer
			return p.callFailed(doing, err)
		}
		return p.fail(ErrInvalidAnswer, doing, errors.New("not a token answer"))
	}
	status := statusError(answer.Response.StatusCode)
	switch answer.ErrorCode {
	case "":
		return p.callFailed(doing, status)
	case "invalid_client", "unauthorized_client", "invalid_scope", "unsupported_grant_type", "redirect_uri_mismatch",
		"incorrect_client_credentials":
		return p.refuse(ErrMisconfigured, doing, answer.ErrorCode, answer.ErrorDescription)
	case "invalid_grant", "bad_verification_code", "bad_refresh_token", "interaction_required", "login_required", "consent_required":
		return p.refuse(grantRefused, doing, answer.ErrorCode, answer.ErrorDescription)
	case "server_error", "temporarily_unavailable", "slow_down":
		return p.refuse(ErrUnavailable, doing, answer.ErrorCode, answer.ErrorDescription)
	}
	if status.unavailable() {
		return p.refuse(ErrUnavailable, doing, answer.ErrorCode, answer.ErrorDescription)
	}
	return p.refuse(ErrInvalidAnswer, doing, answer.ErrorCode, answer.ErrorDescription)
}

// statusError is an answer with another status than 200.
type statusError int

func (s statusError) Error() string { return fmt.Sprintf("status %d", int(s)) }

func (s statusError) unavailable() bool {
	return s >= 500 || s == http.StatusTooManyRequests || s == http.StatusRequestTimeout
}

// cleanCode keeps of an error code what RFC 6749, section 5.2 permits in one, at most 64 characters.
func cleanCode(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return -1
		}
		return r
	}, s)
	return s[:min(len(s), 64)]
}
