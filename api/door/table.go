package door

import (
	"cmp"
	"errors"
	"net/http"
	"time"

	"github.com/handstamp/handstamp/api/pages"
	"github.com/handstamp/handstamp/pkg/account"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/factor"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/password"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/sharedsignal"
	"github.com/handstamp/handstamp/pkg/statuslist"
	"github.com/handstamp/handstamp/pkg/upstream"
	"github.com/handstamp/handstamp/pkg/user"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// row says what an error of a feature becomes: as a problem document, at an OAuth endpoint, and on a page. At an OAuth
// endpoint it is what oauth.AsError makes of it, unless it has a challenge.
type row struct {
	err        error
	status     int
	code       string
	title      string
	detail     string // empty: the text of the whole error, which speaks of the caller's own input
	field      string // the input at fault, if it is one
	challenge  string // WWW-Authenticate, for endpoints that take access tokens
	retryAfter time.Duration
	protocol   bool // the problem, too, is in the words of oauth.AsError

	page       pages.MessageID // what a page says; empty: what fits the status
	pageStatus int             // zero: as status
	pageCode   string          // empty: as code
	form       pages.MessageID // what a form says that the user can send again; empty: the error gets a page of its own
}

// The titles that several rows have.
const (
	titleRequest  = "The request is not valid"
	titleRefused  = "The request is refused"
	titleNotFound = "Not found"
	titleLogin    = "Login failed"
	titleChanged  = "Changed meanwhile"
	titlePassword = "The password cannot be used"
	titleToken    = "The access token is not accepted"

	titleNotAllowed = "Not allowed"
)

// The details that several rows have.
const (
	detailNotFound = "there is nothing here, or it is not yours"
	detailChanged  = "read it again and repeat the request if it still makes sense"
	detailReauth   = "the user has to log in at the provider again"
	detailExpired  = "the access token has expired"
	detailInvalid  = "the access token is not valid"
	detailRetry    = "try again after the time in Retry-After"
)

// rows is the one table of errors. The first row that an error matches counts.
func rows() []row {
	return []row{
		{
			err: upstream.ErrNotFound, status: http.StatusNotFound, code: "not_found", title: titleRefused,
			detail: detailNotFound,
		},
		{
			err: upstream.ErrUnknownProvider, status: http.StatusNotFound, code: "unknown_provider",
			title: titleRefused, detail: "no provider has this ID", page: pages.FaultNotFound,
		},
		{
			err: upstream.ErrLastCredential, status: http.StatusConflict, code: "last_credential", title: titleRefused,
			detail: "the last way to log in cannot be removed; set a password first",
		},
		{
			err: upstream.ErrConflict, status: http.StatusConflict, code: "conflict", title: titleRefused,
			detail: detailChanged,
		},
		{
			err: upstream.ErrReplayed, status: http.StatusUnauthorized, code: "invalid_credentials",
			title: titleRefused, detail: "the ID token was used before",
		},
		{
			err: upstream.ErrReauthNeeded, status: http.StatusConflict, code: "needs_reauth", title: titleRefused,
			detail: detailReauth,
		},
		{
			err: upstream.ErrSealed, status: http.StatusConflict, code: "needs_reauth", title: titleRefused,
			detail: detailReauth,
		},
		{
			err: upstream.ErrUnavailable, status: http.StatusBadGateway, code: "provider_unavailable",
			title: titleRefused, detail: "the provider cannot be reached; try again later",
			page: pages.FaultProviderUnavailable,
		},
		{
			err: upstream.ErrMisconfigured, status: http.StatusBadGateway, code: "provider_misconfigured",
			title: titleRefused, detail: "only the operator can help", page: pages.FaultProviderUnavailable,
		},
		{
			err: upstream.ErrInvalidAnswer, status: http.StatusUnauthorized, code: "invalid_credentials",
			title: titleRefused, detail: "the provider's token or answer is not accepted",
			page: pages.FaultProviderAnswer, pageStatus: http.StatusBadGateway, pageCode: "provider_answer",
		},
		{
			err: upstream.ErrNotSupported, status: http.StatusBadRequest, code: "not_supported", title: titleRefused,
			detail: "the provider cannot do this",
		},
		{
			err: upstream.ErrNotAllowed, status: http.StatusForbidden, code: "not_allowed", title: titleRefused,
			detail: "users of this domain or tenant may not log in", page: pages.FaultProviderDenied,
		},
		{
			err: upstream.ErrUserDisabled, status: http.StatusUnauthorized, code: "invalid_credentials",
			title: titleRefused, detail: "login failed", page: pages.FaultProviderDenied,
			pageStatus: http.StatusForbidden, pageCode: "not_allowed",
		},
		{
			err: upstream.ErrIdentityTaken, status: http.StatusConflict, code: "identity_taken", title: titleRefused,
			detail: "the identity belongs to another user", page: pages.FaultProviderConflict,
		},
		{
			err: upstream.ErrProviderLinked, status: http.StatusConflict, code: "provider_linked", title: titleRefused,
			detail: "another identity at this provider is linked; remove it first", page: pages.FaultProviderConflict,
		},
		{
			err: upstream.ErrAmbiguousEmail, status: http.StatusConflict, code: "ambiguous_email", title: titleRefused,
			detail: "more than one user has this address", page: pages.FaultProviderConflict,
		},
		{
			err: upstream.ErrLookalikeEmail, status: http.StatusConflict, code: "lookalike_email", title: titleRefused,
			detail: "another user has an address that reads alike", page: pages.FaultProviderConflict,
		},
		{
			err: upstream.ErrEmailRequired, status: http.StatusForbidden, code: "email_required", title: titleRefused,
			detail: "the provider gave no verified e-mail address", page: pages.FaultProviderEmail,
		},
		{
			err: upstream.ErrSignupClosed, status: http.StatusForbidden, code: "signup_disabled", title: titleRefused,
			detail: "ask the operator for an account", page: pages.FaultSignupClosed,
		},
		{
			err: upstream.ErrDenied, status: http.StatusForbidden, code: "access_denied", title: titleRefused,
			detail: "the login was declined at the provider", page: pages.FaultProviderDenied,
		},
		{
			err: upstream.ErrState, status: http.StatusBadRequest, code: "expired", title: titleRefused,
			detail: "start again", page: pages.FaultExpired,
		},

		{
			err: account.ErrOff, status: http.StatusForbidden, code: "not_allowed", title: titleNotAllowed,
			detail: account.ErrOff.Error(), page: pages.FaultNotFound, pageStatus: http.StatusNotFound, pageCode: "not_found",
		},
		{
			err: account.ErrLink, status: http.StatusBadRequest, code: "invalid_link", title: titleRefused,
			detail: account.ErrLink.Error(), field: "token", page: pages.FaultLink,
		},
		{
			err: account.ErrCode, status: http.StatusBadRequest, code: "invalid_code", title: titleRefused,
			detail: account.ErrCode.Error(), field: "code", form: pages.CodeInvalid,
		},
		{
			err: user.ErrInvalidCredentials, status: http.StatusUnauthorized, code: "invalid_credentials",
			title: titleLogin, detail: user.ErrInvalidCredentials.Error(),
			form: pages.InvalidCredentials,
		},
		{
			err: session.ErrUserDisabled, status: http.StatusUnauthorized, code: "invalid_credentials",
			title: titleLogin, detail: user.ErrInvalidCredentials.Error(),
		},
		{
			err: session.ErrUserChanged, status: http.StatusUnauthorized, code: "invalid_credentials",
			title: titleLogin, detail: user.ErrInvalidCredentials.Error(),
		},
		{
			err: user.ErrFactorNeeded, status: http.StatusForbidden, code: "mfa_required", title: "A second factor is needed",
			detail: "log in, and show one",
		},
		{
			err: user.ErrFactorUsed, status: http.StatusUnauthorized, code: "invalid_code", title: titleLogin,
			detail: factor.ErrCode.Error(), field: "code", form: pages.CodeInvalid,
		},
		{
			err: factor.ErrCode, status: http.StatusUnauthorized, code: "invalid_code", title: titleLogin,
			detail: factor.ErrCode.Error(), field: "code", form: pages.CodeInvalid,
		},
		{
			err: factor.ErrLogin, status: http.StatusUnauthorized, code: "invalid_mfa_token", title: titleLogin,
			detail: "the login is over: log in again", field: "mfa_token",
		},
		{
			err: factor.ErrMethod, status: http.StatusBadRequest, code: "invalid_request", title: titleRequest,
			detail: "must be one of the methods", field: "method", form: pages.CodeInvalid,
		},
		{
			err: factor.ErrName, status: http.StatusBadRequest, code: "invalid_request", title: titleRequest, field: "name",
		},
		{
			err: factor.ErrTooMany, status: http.StatusConflict, code: "too_many_factors", title: titleRefused,
			detail: "remove a factor first",
		},
		{
			err: factor.ErrNotFound, status: http.StatusNotFound, code: "not_found", title: titleNotFound,
			detail: detailNotFound,
		},
		{
			err: user.ErrEmailTaken, status: http.StatusConflict, code: "email_taken",
			title: "The e-mail address has an account", detail: "log in, or use another address", field: "email",
			form: pages.EmailTaken,
		},
		{
			err: user.ErrSignupClosed, status: http.StatusForbidden, code: "signup_disabled", title: "Sign-up is closed",
			detail: "ask the operator for an account", page: pages.FaultSignupClosed,
		},
		{
			err: user.ErrInvalidEmail, status: http.StatusBadRequest, code: "invalid_request", title: titleRequest,
			field: "email",
		},
		{
			err: user.ErrInvalidName, status: http.StatusBadRequest, code: "invalid_request", title: titleRequest,
			field: "name",
		},
		{err: user.ErrInvalidAttribute, status: http.StatusBadRequest, code: "invalid_request", title: titleRequest},
		{
			err: user.ErrInvalidRole, status: http.StatusBadRequest, code: "invalid_request", title: titleRequest,
			field: "roles",
		},
		{err: user.ErrNotFound, status: http.StatusNotFound, code: "not_found", title: titleNotFound, detail: detailNotFound},
		{
			err: session.ErrNotFound, status: http.StatusNotFound, code: "not_found", title: titleNotFound,
			detail: detailNotFound,
		},
		{
			err: oauth.ErrClientNotFound, status: http.StatusNotFound, code: "not_found", title: titleNotFound,
			detail: detailNotFound,
		},
		{
			err: statuslist.ErrNotFound, status: http.StatusNotFound, code: "not_found", title: titleNotFound,
			detail: detailNotFound,
		},
		{
			err: sharedsignal.ErrStreamNotFound, status: http.StatusNotFound, code: "not_found", title: titleNotFound,
			detail: detailNotFound,
		},
		{err: user.ErrChanged, status: http.StatusConflict, code: "conflict", title: titleChanged, detail: detailChanged},
		{
			err: oauth.ErrClientExists, status: http.StatusConflict, code: "conflict", title: titleChanged,
			detail: detailChanged,
		},
		{
			err: oauth.ErrClientChanged, status: http.StatusConflict, code: "conflict", title: titleChanged,
			detail: detailChanged,
		},
		{
			err: sharedsignal.ErrStreamExists, status: http.StatusConflict, code: "conflict", title: titleChanged,
			detail: detailChanged,
		},

		{
			err: password.ErrTooShort, status: http.StatusBadRequest, code: "weak_password", title: titlePassword,
			field: "password",
			form:  pages.PasswordTooShort,
		},
		{
			err: password.ErrTooLong, status: http.StatusBadRequest, code: "weak_password", title: titlePassword,
			field: "password",
			form:  pages.InvalidCredentials,
		},
		{
			err: password.ErrCommon, status: http.StatusBadRequest, code: "weak_password", title: titlePassword,
			field: "password",
			form:  pages.PasswordCommon,
		},
		{
			err: password.ErrMalformed, status: http.StatusBadRequest, code: "invalid_request", title: titleRequest,
			field: "password",
			form:  pages.PasswordInvalid,
		},

		{err: sharedsignal.ErrSubject, status: http.StatusBadRequest, code: "invalid_request", title: titleRequest},
		{err: sharedsignal.ErrEndpoint, status: http.StatusBadRequest, code: "invalid_request", title: titleRequest},
		{
			err: sharedsignal.ErrTooManySubjects, status: http.StatusForbidden, code: "not_allowed",
			title: titleNotAllowed, detail: sharedsignal.ErrTooManySubjects.Error(),
		},
		{
			err: sharedsignal.ErrTooSoon, status: http.StatusTooManyRequests, code: "too_many_attempts",
			title: "Too many attempts", detail: "see min_verification_interval", retryAfter: sharedsignal.VerifyEvery,
		},
		{
			err: blocklist.ErrCursorGone, status: http.StatusGone, code: "cursor_gone", title: "The cursor is too old",
			detail: "take a new snapshot: the same address without ?after=", field: "after",
		},

		{err: session.ErrMalformed, protocol: true},
		{err: session.ErrEnded, protocol: true},
		{err: session.ErrReuse, protocol: true},
		{err: session.ErrLate, protocol: true},
		{err: session.ErrWrongClient, protocol: true},
		{err: session.ErrClientDisabled, protocol: true},
		{err: session.ErrScope, protocol: true},
		{err: session.ErrChild, protocol: true},

		{
			err: verifier.ErrNoToken, status: http.StatusUnauthorized, code: "unauthorized",
			title: "An access token is needed", detail: "send it as Authorization: Bearer", challenge: "Bearer",
		},
		{
			err: verifier.ErrRequest, status: http.StatusBadRequest, code: "invalid_request", title: titleRequest,
			detail: "send one credential, as Authorization: Bearer", field: "Authorization",
			challenge: `Bearer error="invalid_request"`,
		},
		{
			err: verifier.ErrExpired, status: http.StatusUnauthorized, code: "invalid_token", title: titleToken,
			detail: detailExpired, challenge: tokenChallenge(detailExpired),
		},
		{
			err: verifier.ErrInvalid, status: http.StatusUnauthorized, code: "invalid_token", title: titleToken,
			detail: detailInvalid, challenge: tokenChallenge(detailInvalid),
		},
	}
}

// rowOf returns the row of an error.
func rowOf(err error) (row, bool) {
	for _, r := range rows() {
		if errors.Is(err, r.err) {
			return r, true
		}
	}
	return row{}, false
}

// problem returns the problem document of an error.
func (r row) problem(err error) *Problem {
	if r.protocol {
		return oauthProblem(oauth.AsError(err))
	}
	p := &Problem{
		Status:     r.status,
		Code:       r.code,
		Title:      r.title,
		Detail:     r.detail,
		Field:      r.field,
		RetryAfter: r.retryAfter,
		Challenge:  r.challenge,
		Err:        err,
	}
	if p.Detail == "" {
		p.Detail = err.Error()
	}
	return p
}

// shown returns the page of an error whose row has one.
func (r row) shown(err error) *PageError {
	p := &PageError{Status: r.status, What: r.page, Args: []string{"provider", "provider"}, Code: r.code, Err: err}
	if r.pageStatus != 0 {
		p.Status = r.pageStatus
	}
	if r.pageCode != "" {
		p.Code = r.pageCode
	}
	if e, ok := errors.AsType[*upstream.Error](err); ok {
		p.Args[1], p.Detail = cmp.Or(e.Name, e.Provider), e.Description
	}
	return p
}

// FormMessage is what a form says of an error that the user can do something about; empty for every other error.
func FormMessage(err error) pages.MessageID {
	if _, ok := errors.AsType[*password.BusyError](err); ok {
		return pages.Overloaded
	}
	if _, ok := errors.AsType[*user.AttemptError](err); ok {
		return pages.TooManyAttempts
	}
	r, _ := rowOf(err)
	return r.form
}
