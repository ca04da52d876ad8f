package oauth

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/handstamp/handstamp/pkg/keyring"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/user"
)

// ErrorCode is an error code of RFC 6749, section 5.2, or of the extension that its comment names.
type ErrorCode string

// The codes.
const (
	InvalidRequest         ErrorCode = "invalid_request"
	InvalidClient          ErrorCode = "invalid_client"
	InvalidGrant           ErrorCode = "invalid_grant"
	UnauthorizedClient     ErrorCode = "unauthorized_client"
	UnsupportedGrantType   ErrorCode = "unsupported_grant_type"
	InvalidScope           ErrorCode = "invalid_scope"
	InvalidTarget          ErrorCode = "invalid_target"          // RFC 8707, section 2
	TemporarilyUnavailable ErrorCode = "temporarily_unavailable" // RFC 6749, section 4.1.2.1; here with 503
)

// Error is a refusal in the protocol's words. Err, if there is one, is for logs only.
type Error struct {
	Code        ErrorCode
	Description string // ASCII without quotes and backslashes (RFC 6749, section 5.2)
	Parameter   string // the parameter of the request at fault, where a page has words of its own for it
	Err         error
	RetryAfter  time.Duration // for TemporarilyUnavailable
}

// Error implements error.
func (e *Error) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s: %s: %v", e.Code, e.Description, e.Err)
	}
	return fmt.Sprintf("%s: %s", e.Code, e.Description)
}

// Unwrap returns what caused the refusal.
func (e *Error) Unwrap() error { return e.Err }

func refuse(code ErrorCode, format string, args ...any) *Error {
	return &Error{Code: code, Description: fmt.Sprintf(format, args...)}
}

// AsError turns the failure of a feature into an error of the protocol. An unknown error is a storage failure: its outcome is
// unknown, so the answer says that the client can try again, and never refuses.
func AsError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	known := func(code ErrorCode, description string) *Error {
		return &Error{Code: code, Description: description, Err: err}
	}
	switch {
	case errors.Is(err, session.ErrMalformed), errors.Is(err, session.ErrEnded), errors.Is(err, session.ErrReuse),
		errors.Is(err, session.ErrLate),
		errors.Is(err, session.ErrWrongClient), errors.Is(err, session.ErrNotFound),
		errors.Is(err, session.ErrUserDisabled), errors.Is(err, session.ErrUserChanged),
		errors.Is(err, user.ErrFactorNeeded), errors.Is(err, user.ErrFactorUsed),
		errors.Is(err, ErrCodeNotFound), errors.Is(err, ErrCodeUsed):
		// One text for all: a thief learns nothing from it.
		return known(InvalidGrant, "the grant is invalid, expired or revoked, or was issued to another client")
	case errors.Is(err, session.ErrClientDisabled), errors.Is(err, ErrClientNotFound):
		return known(InvalidClient, "client authentication failed")
	case errors.Is(err, session.ErrChild):
		return known(InvalidRequest, "a child session cannot be forked")
	case errors.Is(err, session.ErrScope):
		return known(InvalidScope, "the scope exceeds what was granted")
	}
	return &Error{Code: TemporarilyUnavailable, Description: "try again", Err: err, RetryAfter: RetryAfter(err)}
}

// RetryAfter is how long a client should wait after a failure whose outcome is unknown.
func RetryAfter(err error) time.Duration {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, keyring.ErrConflict) {
		return 2 * time.Second
	}
	return time.Second
}
