package bff

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/handstamp/handstamp/pkg/verifier"
)

// The refusals of this package. Status turns them into a status; Config.Refuse may show them as it likes.
var (
	// ErrNoSession is a request without a session that is alive. A page's visitor is sent to log in, an API call gets 401.
	ErrNoSession = errors.New("bff: no session")
	// ErrUnavailable says nothing about the session: the issuer or the store cannot be asked now. 503; try again.
	ErrUnavailable = errors.New("bff: cannot tell now")
	// ErrCrossOrigin is an unsafe request that another origin's page caused. 403.
	ErrCrossOrigin = errors.New("bff: request from another origin")
	// ErrCSRF is an unsafe request with a session and without the token of that session. 403; load the page again.
	ErrCSRF = errors.New("bff: no CSRF token of this session")
	// ErrFlow is a callback to no login that this browser has begun in the last ten minutes. 400; log in again.
	ErrFlow = errors.New("bff: no such login in this browser")
	// ErrIssuer is a callback by another authorization server (RFC 9207, section 2.4). 400.
	ErrIssuer = errors.New("bff: answer of another issuer")
	// ErrLogin is a login whose tokens are not what was asked for. 502: the issuer or its registration of this client is at fault.
	ErrLogin = errors.New("bff: login failed")
	// ErrLogoutToken is a logout token that is not valid (OpenID Connect Back-Channel Logout 1.0, section 2.6). 400.
	ErrLogoutToken = errors.New("bff: invalid logout token")
	// ErrSealed is returned by what only sessions in a Store can do: to list and end those of other browsers.
	ErrSealed = errors.New("bff: sealed cookies cannot be listed; set Config.Store")
)

// The errors of a Store.
var (
	// ErrNotFound is a record that is not there, or no more.
	ErrNotFound = errors.New("bff: no such record")
	// ErrConflict is a record that was changed by another since it was read. Load it again.
	ErrConflict = errors.New("bff: record was changed")
)

// CallbackError is a login that the issuer refused (RFC 6749, section 4.1.2.1), such as access_denied.
type CallbackError struct {
	Code        string
	Description string // the issuer's, in English; not for users
}

// Error says what the issuer answered.
func (e *CallbackError) Error() string {
	return fmt.Sprintf("bff: the issuer refused the login: %s", e.Code)
}

// Status returns the status with which a request is answered that failed with err.
func Status(err error) int {
	_, refused := errors.AsType[*CallbackError](err)
	_, insufficient := errors.AsType[*verifier.InsufficientError](err)
	switch {
	case errors.Is(err, ErrNoSession):
		return http.StatusUnauthorized
	case errors.Is(err, ErrUnavailable):
		return http.StatusServiceUnavailable
	case errors.Is(err, ErrCrossOrigin), errors.Is(err, ErrCSRF):
		return http.StatusForbidden
	case errors.Is(err, ErrFlow), errors.Is(err, ErrIssuer), errors.Is(err, ErrLogoutToken), refused:
		return http.StatusBadRequest
	case errors.Is(err, ErrLogin):
		return http.StatusBadGateway
	case insufficient:
		status, _ := verifier.Challenge(err)
		return status
	}
	return http.StatusInternalServerError
}
