package api

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/password"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/sharedsignal"
	"github.com/handstamp/handstamp/pkg/statuslist"
	"github.com/handstamp/handstamp/pkg/user"
	"github.com/handstamp/handstamp/pkg/verifier"
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

	RetryAfter time.Duration // zero: no Retry-After header
	Challenge  string        // WWW-Authenticate, empty for none
	Err        error         // for the log only
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

func invalidRequest(field, detail string) *Problem {
	return &Problem{Status: http.StatusBadRequest, Code: "invalid_request", Title: "The request is not valid", Detail: detail, Field: field}
}

func notFound(detail string) *Problem {
	return &Problem{Status: http.StatusNotFound, Code: "not_found", Title: "Not found", Detail: detail}
}

// asProblem puts the failure of a feature into the API's words. What is no known sentinel is a storage failure: its outcome is unknown, so the
// answer is that it can be tried again; never "not found", never "wrong password", never success.
func asProblem(err error) *Problem {
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
		return &Problem{Status: http.StatusServiceUnavailable, Code: "busy", Title: "Too many logins at once", Detail: "try again after the time in Retry-After", RetryAfter: busy.RetryAfter, Err: err}
	}
	if attempt, ok := errors.AsType[*user.AttemptError](err); ok {
		return tooManyAttempts(attempt.RetryAfter)
	}
	if p := upstreamProblem(err); p != nil {
		return p
	}
	problem := func(status int, code, title, detail, field string) *Problem {
		return &Problem{Status: status, Code: code, Title: title, Detail: detail, Field: field, Err: err}
	}
	switch {
	case errors.Is(err, user.ErrInvalidCredentials), errors.Is(err, session.ErrUserDisabled), errors.Is(err, session.ErrUserChanged):
		return problem(http.StatusUnauthorized, "invalid_credentials", "Login failed", user.ErrInvalidCredentials.Error(), "")
	case errors.Is(err, user.ErrEmailTaken):
		return problem(http.StatusConflict, "email_taken", "The e-mail address has an account", "log in, or use another address", "email")
	case errors.Is(err, user.ErrInvalidEmail):
		return problem(http.StatusBadRequest, "invalid_request", "The request is not valid", err.Error(), "email")
	case errors.Is(err, user.ErrInvalidName):
		return problem(http.StatusBadRequest, "invalid_request", "The request is not valid", err.Error(), "name")
	case errors.Is(err, user.ErrInvalidRole):
		return problem(http.StatusBadRequest, "invalid_request", "The request is not valid", err.Error(), "roles")
	case errors.Is(err, user.ErrNotFound), errors.Is(err, session.ErrNotFound), errors.Is(err, oauth.ErrClientNotFound),
		errors.Is(err, statuslist.ErrNotFound), errors.Is(err, sharedsignal.ErrStreamNotFound):
		return problem(http.StatusNotFound, "not_found", "Not found", "there is nothing here, or it is not yours", "")
	case errors.Is(err, user.ErrChanged), errors.Is(err, oauth.ErrClientExists), errors.Is(err, sharedsignal.ErrStreamExists):
		return problem(http.StatusConflict, "conflict", "Changed meanwhile", "read it again and repeat the request if it still makes sense", "")
	case errors.Is(err, password.ErrTooShort), errors.Is(err, password.ErrTooLong), errors.Is(err, password.ErrCommon):
		return problem(http.StatusBadRequest, "weak_password", "The password cannot be used", err.Error(), "password")
	case errors.Is(err, password.ErrMalformed):
		return problem(http.StatusBadRequest, "invalid_request", "The request is not valid", err.Error(), "password")
	case errors.Is(err, sharedsignal.ErrSubject), errors.Is(err, sharedsignal.ErrEndpoint):
		return invalidRequest("", err.Error())
	case errors.Is(err, sharedsignal.ErrTooManySubjects):
		return problem(http.StatusForbidden, "not_allowed", "Not allowed", sharedsignal.ErrTooManySubjects.Error(), "")
	case errors.Is(err, sharedsignal.ErrTooSoon):
		return &Problem{Status: http.StatusTooManyRequests, Code: "too_many_attempts", Title: "Too many attempts", Detail: "see min_verification_interval", RetryAfter: sharedsignal.VerifyEvery, Err: err}
	case errors.Is(err, blocklist.ErrCursorGone):
		return problem(http.StatusGone, "cursor_gone", "The cursor is too old", "take a new snapshot: the same address without ?after=", "after")
	case errors.Is(err, session.ErrMalformed), errors.Is(err, session.ErrEnded), errors.Is(err, session.ErrReuse), errors.Is(err, session.ErrWrongClient),
		errors.Is(err, session.ErrClientDisabled), errors.Is(err, session.ErrScope):
		return oauthProblem(oauth.AsError(err))
	case errors.Is(err, verifier.ErrNoToken):
		return &Problem{Status: http.StatusUnauthorized, Code: "unauthorized", Title: "An access token is needed", Detail: "send it as Authorization: Bearer", Challenge: "Bearer", Err: err}
	case errors.Is(err, verifier.ErrRequest):
		p := problem(http.StatusBadRequest, "invalid_request", "The request is not valid", "send one credential, as Authorization: Bearer", "Authorization")
		p.Challenge = `Bearer error="invalid_request"`
		return p
	case errors.Is(err, verifier.ErrExpired):
		return invalidToken("the access token has expired", err)
	case errors.Is(err, verifier.ErrInvalid):
		return invalidToken("the access token is not valid", err)
	case errors.Is(err, context.Canceled):
		// Nobody reads the answer; the status is nginx's for a client that hung up, so that the log does not blame the service.
		return problem(499, "client_closed_request", "The client hung up", "", "")
	}
	p := problem(http.StatusServiceUnavailable, "unavailable", "The service cannot do this now", "nothing is known about the outcome; the request can be repeated", "")
	p.RetryAfter = oauth.RetryAfter(err)
	return p
}

// invalidToken is the answer to an access token that is not accepted (RFC 6750, section 3.1).
func invalidToken(detail string, err error) *Problem {
	return &Problem{
		Status: http.StatusUnauthorized, Code: "invalid_token", Title: "The access token is not accepted", Detail: detail,
		Challenge: `Bearer error="invalid_token", error_description="` + detail + `"`, Err: err,
	}
}

func tooManyAttempts(after time.Duration) *Problem {
	return &Problem{Status: http.StatusTooManyRequests, Code: "too_many_attempts", Title: "Too many login attempts", Detail: "try again after the time in Retry-After", RetryAfter: after}
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
	return &Problem{Status: status, Code: string(e.Code), Title: "The request is refused", Detail: e.Description, RetryAfter: e.RetryAfter, Err: e.Err}
}

// httpProblem is a refusal by the router or a limit.
func httpProblem(e *echo.HTTPError) *Problem {
	switch e.Code {
	case http.StatusNotFound:
		return notFound("no such address; see /openapi.yaml")
	case http.StatusMethodNotAllowed:
		return &Problem{Status: e.Code, Code: "method_not_allowed", Title: "Method not allowed", Detail: "the methods in Allow are", Err: e.Internal}
	case http.StatusRequestEntityTooLarge:
		return &Problem{Status: e.Code, Code: "payload_too_large", Title: "The request is too large", Detail: "a body may have 64 KiB", Err: e.Internal}
	case http.StatusUnsupportedMediaType:
		return &Problem{Status: e.Code, Code: "unsupported_media_type", Title: "Unsupported media type", Detail: "send application/json; on /oauth2 application/x-www-form-urlencoded", Err: e.Internal}
	case http.StatusBadRequest:
		return &Problem{Status: e.Code, Code: "invalid_request", Title: "The request is not valid", Detail: "the request cannot be read", Err: e.Internal}
	}
	return &Problem{Status: http.StatusInternalServerError, Code: "internal", Title: "Internal error", Detail: "the request ID finds the cause in the log", Err: e}
}

// writeError is the one writer of errors: RFC 6749 JSON under /oauth2, where OAuth clients read nothing else, problem documents elsewhere.
func (a *API) writeError(err error, c echo.Context) {
	e := eventOf(c)
	e.err = err
	if e.clientID != "" && !a.Clients.Knows(e.clientID) {
		e.clientID = "" // whoever puts a secret in the wrong place does not find it in the log
	}
	if c.Response().Committed {
		return
	}
	var writeErr error
	if c.Get(pageKey) != nil {
		if refusal, ok := errors.AsType[*oauth.AuthorizationError](err); ok {
			writeErr = a.writeRefusal(c, refusal)
		} else {
			writeErr = a.writeErrorPage(c, err)
		}
	} else if strings.HasPrefix(c.Request().URL.Path, "/oauth2/") {
		writeErr = writeOAuthError(c, err)
	} else {
		writeErr = writeProblem(c, asProblem(err))
	}
	if writeErr != nil {
		e.err = errors.Join(err, writeErr)
	}
}

func writeProblem(c echo.Context, p *Problem) error {
	h := c.Response().Header()
	noStore(h)
	if p.Challenge != "" {
		h.Set("WWW-Authenticate", p.Challenge)
	}
	setRetryAfter(h, p.RetryAfter)
	body := struct {
		Type      string `json:"type"`
		Title     string `json:"title"`
		Status    int    `json:"status"`
		Detail    string `json:"detail,omitempty"`
		Code      string `json:"code"`
		Field     string `json:"field,omitempty"`
		RequestID string `json:"request_id"`
	}{"about:blank", p.Title, p.Status, p.Detail, p.Code, p.Field, eventOf(c).requestID}
	return writeJSON(c, p.Status, "application/problem+json", body)
}

func writeOAuthError(c echo.Context, err error) error {
	h := c.Response().Header()
	noStore(h)
	body := struct {
		Error       oauth.ErrorCode `json:"error"`
		Description string          `json:"error_description,omitempty"`
	}{oauth.InvalidRequest, ""}
	status := http.StatusBadRequest

	if errors.Is(err, verifier.ErrInvalid) || errors.Is(err, verifier.ErrNoToken) || errors.Is(err, verifier.ErrRequest) {
		err = asProblem(err)
	}
	if p, ok := errors.AsType[*Problem](err); ok { // a body that could not be read
		status, body.Description = p.Status, p.Detail
		switch {
		case p.Challenge != "": // an endpoint that takes access tokens (RFC 6750, section 3.1)
			body.Error = oauth.ErrorCode(p.Code)
			h.Set("WWW-Authenticate", p.Challenge)
		case status == http.StatusInternalServerError:
			body.Error = oauth.ServerError
		}
	} else if e, ok := errors.AsType[*echo.HTTPError](err); ok {
		p := httpProblem(e)
		status, body.Description = p.Status, p.Detail
		if status == http.StatusInternalServerError {
			body.Error = oauth.ServerError
		}
	} else {
		e := oauth.AsError(err)
		body.Error, body.Description = e.Code, e.Description
		switch e.Code {
		case oauth.InvalidClient:
			status = http.StatusUnauthorized
			h.Set("WWW-Authenticate", `Basic realm="handstamp", charset="UTF-8"`)
		case oauth.TemporarilyUnavailable:
			status = http.StatusServiceUnavailable
			setRetryAfter(h, e.RetryAfter)
		default:
		}
	}
	return writeJSON(c, status, "application/json", body)
}

// noStore keeps what is secret or personal out of every cache (RFC 6749, section 5.1).
func noStore(h http.Header) {
	h.Set("Cache-Control", "no-store")
}

// setRetryAfter sets whole seconds, at least one (RFC 9110, section 10.2.3).
func setRetryAfter(h http.Header, d time.Duration) {
	if d > 0 {
		h.Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(d.Seconds())))))
	}
}

// writeJSON writes a document with a Content-Length.
func writeJSON(c echo.Context, status int, contentType string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return writeBytes(c, status, contentType, body)
}

func writeBytes(c echo.Context, status int, contentType string, body []byte) error {
	h := c.Response().Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	c.Response().WriteHeader(status)
	if c.Request().Method == http.MethodHead {
		return nil
	}
	_, err := c.Response().Write(body)
	return err
}
