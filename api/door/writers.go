package door

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/handstamp/handstamp/pkg/factor"
	"github.com/handstamp/handstamp/pkg/oauth"
)

// WriteError is the one writer of errors: RFC 6749 JSON under /oauth2, where OAuth clients read nothing else, problem
// documents elsewhere.
func (d *Door) WriteError(err error, c echo.Context) {
	e := EventOf(c)
	e.Err = err
	if e.ClientID != "" && !d.config.Clients.Knows(e.ClientID) {
		e.ClientID = "" // a secret that the caller sends in the wrong place stays out of the log
	}
	if c.Response().Committed {
		return
	}
	var writeErr error
	if c.Get(pageKey) != nil {
		if refusal, ok := errors.AsType[*oauth.AuthorizationError](err); ok {
			writeErr = d.writeRefusal(c, refusal)
		} else {
			writeErr = d.writeErrorPage(c, err)
		}
	} else if strings.HasPrefix(c.Request().URL.Path, "/oauth2/") {
		writeErr = writeOAuthError(c, err)
	} else {
		writeErr = writeProblem(c, AsProblem(err))
	}
	if writeErr != nil {
		e.Err = errors.Join(err, writeErr)
	}
}

func writeProblem(c echo.Context, p *Problem) error {
	h := c.Response().Header()
	NoStore(h)
	if p.Challenge != "" {
		h.Set("WWW-Authenticate", p.Challenge)
	}
	SetRetryAfter(h, p.RetryAfter)
	body := struct {
		Type      string `json:"type"`
		Title     string `json:"title"`
		Status    int    `json:"status"`
		Detail    string `json:"detail,omitempty"`
		Code      string `json:"code"`
		Field     string `json:"field,omitempty"`
		Flow      string `json:"flow,omitempty"`
		RequestID string `json:"request_id"`

		MFAToken string          `json:"mfa_token,omitempty"`
		Methods  []factor.Method `json:"methods,omitempty"`
	}{"about:blank", p.Title, p.Status, p.Detail, p.Code, p.Field, p.Flow, EventOf(c).RequestID, "", nil}
	if p.MFA != nil {
		body.MFAToken, body.Methods = string(p.MFA.Token), p.MFA.Methods
	}
	return WriteJSON(c, p.Status, "application/problem+json", body)
}

func writeOAuthError(c echo.Context, err error) error {
	h := c.Response().Header()
	NoStore(h)
	body := struct {
		Error       oauth.ErrorCode `json:"error"`
		Description string          `json:"error_description,omitempty"`
	}{oauth.InvalidRequest, ""}
	status := http.StatusBadRequest

	if r, ok := rowOf(err); ok && r.challenge != "" {
		err = r.problem(err)
	}
	if p, ok := errors.AsType[*Problem](err); ok { // a body that could not be read
		status, body.Description = p.Status, p.Detail
		switch {
		case p.Challenge == "" && status == http.StatusForbidden: // no page of the client (refreshcookie.go)
			body.Error = oauth.ErrorCode(p.Code)
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
			if errors.Is(err, context.Canceled) { // nobody reads it; the log must not blame us
				status = statusClosed
			}
			SetRetryAfter(h, e.RetryAfter)
		default:
		}
	}
	return WriteJSON(c, status, "application/json", body)
}
