package door

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/pkg/factor"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/password"
	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/user"
)

// Problem is an error of the first-party API: a problem document (RFC 9457) with a stable code.
//
//nolint:errname // the name of RFC 9457
type Problem struct {
	Status int
	Code   string
	Title  string
	Detail string // for the caller's developer: what is wrong and what to do
	Field  string // the input at fault, if it is one
	Flow   string // that the code of a mail is bound to, which was sent for the caller to go on

	RetryAfter time.Duration // zero: no Retry-After header
	Challenge  string        // WWW-Authenticate, empty for none
	Err        error         // for the log only

	MFA *PendingLogin // of a login that needs a second factor; nil otherwise
}

// PendingLogin is what a caller needs to complete a login.
type PendingLogin struct {
	Token   seal.Secret
	Methods []factor.Method
}

// Error implements error.
func (p *Problem) Error() string {
	if p.Err != nil {
		return p.Code + ": " + p.Err.Error()
	}
	return p.Code + ": " + p.Detail
}

// Unwrap returns what caused the problem.
func (p *Problem) Unwrap() error { return p.Err }

// statusClosed is nginx's status for a connection that the client has closed, so that the log does not blame us.
const statusClosed = 499

// InvalidRequest is the refusal of a request that cannot be understood; field is the input at fault, empty if it is none.
func InvalidRequest(field, detail string) *Problem {
	return &Problem{
		Status: http.StatusBadRequest,
		Code:   "invalid_request",
		Title:  titleRequest,
		Detail: detail,
		Field:  field,
	}
}

// NotFound is the refusal of a request for what is not there.
func NotFound(detail string) *Problem {
	return &Problem{Status: http.StatusNotFound, Code: "not_found", Title: titleNotFound, Detail: detail}
}

// InvalidToken is the answer to an access token that is not accepted (RFC 6750, section 3.1).
func InvalidToken(detail string, err error) *Problem {
	return &Problem{
		Status:    http.StatusUnauthorized,
		Code:      "invalid_token",
		Title:     titleToken,
		Detail:    detail,
		Challenge: tokenChallenge(detail),
		Err:       err,
	}
}

// InsufficientScope is the answer to an access token that is accepted but allows too little (RFC 6750, section 3.1). scope is
// what is needed, with spaces between.
func InsufficientScope(scope, detail string) *Problem {
	return &Problem{
		Status:    http.StatusForbidden,
		Code:      "insufficient_scope",
		Title:     titleNotAllowed,
		Detail:    detail,
		Challenge: `Bearer error="insufficient_scope", scope="` + scope + `"`,
	}
}

// internal is the answer to a fault of the program.
func internal(err error) *Problem {
	return &Problem{
		Status: http.StatusInternalServerError,
		Code:   "internal",
		Title:  "Internal error",
		Detail: "the request ID finds the cause in the log",
		Err:    err,
	}
}

func tokenChallenge(detail string) string {
	return `Bearer error="invalid_token", error_description="` + detail + `"`
}

// tooManyAttempts is the refusal of an attempt that comes too soon.
func tooManyAttempts(after time.Duration) *Problem {
	return &Problem{
		Status:     http.StatusTooManyRequests,
		Code:       "too_many_attempts",
		Title:      "Too many login attempts",
		Detail:     detailRetry,
		RetryAfter: after,
	}
}

// AsProblem puts the failure of a feature into the API's words, by the table of errors. What is not in the table is a storage
// failure: its outcome is unknown, so the answer is that it can be tried again; never "not found", never "wrong password",
// never success.
func AsProblem(err error) *Problem {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p
	}
	if e, ok := errors.AsType[*oauth.Error](err); ok {
		return oauthProblem(e)
	}
	if e, ok := errors.AsType[*echo.HTTPError](err); ok {
		return httpProblem(e)
	}
	if busy, ok := errors.AsType[*password.BusyError](err); ok {
		return &Problem{
			Status:     http.StatusServiceUnavailable,
			Code:       "busy",
			Title:      "Too many logins at once",
			Detail:     detailRetry,
			RetryAfter: busy.RetryAfter,
			Err:        err,
		}
	}
	if attempt, ok := errors.AsType[*user.AttemptError](err); ok {
		return tooManyAttempts(attempt.RetryAfter)
	}
	if r, ok := rowOf(err); ok {
		return r.problem(err)
	}
	if errors.Is(err, context.Canceled) {
		// The client never reads this answer.
		return &Problem{Status: statusClosed, Code: "client_closed_request", Title: "The client hung up", Err: err}
	}
	return &Problem{
		Status:     http.StatusServiceUnavailable,
		Code:       "unavailable",
		Title:      "The service cannot do this now",
		Detail:     "nothing is known about the outcome; the request can be repeated",
		RetryAfter: oauth.RetryAfter(err),
		Err:        err,
	}
}

// oauthProblem is a protocol refusal in the first-party API.
func oauthProblem(e *oauth.Error) *Problem {
	status := http.StatusBadRequest
	switch e.Code {
	case oauth.TemporarilyUnavailable:
		status = http.StatusServiceUnavailable
	case oauth.InvalidGrant:
		status = http.StatusUnauthorized
	default:
	}
	return &Problem{
		Status:     status,
		Code:       string(e.Code),
		Title:      titleRefused,
		Detail:     e.Description,
		RetryAfter: e.RetryAfter,
		Err:        e.Err,
	}
}

// httpProblem is a refusal by the router or a limit.
func httpProblem(e *echo.HTTPError) *Problem {
	switch e.Code {
	case http.StatusNotFound:
		return NotFound("no such address; see /openapi.yaml")
	case http.StatusMethodNotAllowed:
		return &Problem{
			Status: e.Code,
			Code:   "method_not_allowed",
			Title:  "Method not allowed",
			Detail: "use one of the methods in Allow",
			Err:    e.Internal,
		}
	case http.StatusRequestEntityTooLarge:
		return &Problem{
			Status: e.Code,
			Code:   "payload_too_large",
			Title:  "The request is too large",
			Detail: "a body may have 64 KiB",
			Err:    e.Internal,
		}
	case http.StatusUnsupportedMediaType:
		return &Problem{
			Status: e.Code,
			Code:   "unsupported_media_type",
			Title:  "Unsupported media type",
			Detail: "send application/json; on /oauth2 application/x-www-form-urlencoded",
			Err:    e.Internal,
		}
	case http.StatusBadRequest:
		return &Problem{
			Status: e.Code,
			Code:   "invalid_request",
			Title:  titleRequest,
			Detail: "the request cannot be read",
			Err:    e.Internal,
		}
	}
	return internal(e)
}
