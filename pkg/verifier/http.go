package verifier

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Middleware lets a request pass to next only with a valid access token, whose claims next finds with ClaimsFrom. Any
// other request is answered by WriteError.
func (v *Verifier) Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := TokenFrom(r)
		if err != nil {
			WriteError(w, err)
			return
		}
		claims, err := v.Verify(r.Context(), raw)
		if err != nil {
			WriteError(w, err)
			return
		}
		next.ServeHTTP(w, r.WithContext(WithClaims(r.Context(), claims)))
	})
}

type claimsKey struct{}

// WithClaims returns a context from which ClaimsFrom takes claims: for adapters to other frameworks, and for tests of handlers.
func WithClaims(ctx context.Context, claims *Claims) context.Context {
	return context.WithValue(ctx, claimsKey{}, claims)
}

// ClaimsFrom returns the claims of the verified token of a request. It reports false outside of Middleware.
func ClaimsFrom(ctx context.Context) (*Claims, bool) {
	claims, ok := ctx.Value(claimsKey{}).(*Claims)
	return claims, ok
}

// TokenFrom returns the bearer token in the Authorization header of r, not verified. A token is never taken from the query, where
// logs and histories keep it, nor from the body (RFC 9700, section 4.3.2). It returns ErrNoToken if r has none and ErrRequest if
// the header is malformed or there is a second credential (RFC 6750, section 2).
func TokenFrom(r *http.Request) (string, error) {
	headers := r.Header.Values("Authorization")
	if len(headers) > 1 {
		return "", fmt.Errorf("%w: %d Authorization headers", ErrRequest, len(headers))
	}
	if len(headers) == 0 {
		return "", ErrNoToken
	}
	header := headers[0]
	end := strings.IndexAny(header, " \t,")
	if end < 0 {
		end = len(header)
	}
	if !strings.EqualFold(header[:end], "Bearer") { // RFC 9110, section 11.1: without regard to case
		return "", ErrNoToken
	}
	raw := strings.TrimLeft(header[end:], " ")
	if raw == "" || !isToken68(raw) {
		return "", fmt.Errorf("%w: not one token after Bearer", ErrRequest)
	}
	if r.URL != nil && r.URL.RawQuery != "" && r.URL.Query().Has("access_token") {
		return "", fmt.Errorf("%w: a second token in the query", ErrRequest)
	}
	return raw, nil
}

// isToken68 reports whether s has the syntax of a credential (RFC 9110, section 11.2).
func isToken68(s string) bool {
	s = strings.TrimRight(s, "=")
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-._~+/", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}

// InsufficientError is a valid token that is not enough for what is asked. One of the lists is set,
// or else MaxAge is what counts.
type InsufficientError struct {
	Scopes []string      // all of these are needed
	Roles  []string      // one of these is needed
	MaxAge time.Duration // since the user last authenticated; whole seconds
	ACR    []string      // one of these is needed
}

// Error says what is missing.
func (e *InsufficientError) Error() string {
	switch {
	case e.Scopes != nil:
		return "verifier: the token lacks a scope of: " + strings.Join(e.Scopes, " ")
	case e.Roles != nil:
		return "verifier: the token has none of the roles: " + strings.Join(e.Roles, " ")
	case e.ACR != nil:
		return "verifier: the token has none of the acr values: " + strings.Join(e.ACR, " ")
	}
	return fmt.Sprintf("verifier: the user authenticated more than %v ago", e.MaxAge)
}

// CheckScope returns an *InsufficientError unless the token carries all of the scopes.
func (c *Claims) CheckScope(scopes ...string) error {
	if !c.HasScope(scopes...) {
		return &InsufficientError{Scopes: append([]string{}, scopes...)}
	}
	return nil
}

// CheckRole returns an *InsufficientError unless the user had one of the roles when the token was minted.
func (c *Claims) CheckRole(roles ...string) error {
	if !c.HasRole(roles...) {
		return &InsufficientError{Roles: append([]string{}, roles...)}
	}
	return nil
}

// CheckAuthTime returns an *InsufficientError unless the user authenticated at most maxAge ago. A token without auth_time is not
// enough.
func (c *Claims) CheckAuthTime(maxAge time.Duration) error {
	if c.AuthTime.IsZero() || time.Since(c.AuthTime) > maxAge {
		return &InsufficientError{MaxAge: maxAge}
	}
	return nil
}

// CheckACR returns an *InsufficientError unless the user authenticated in one of the ways that values name.
func (c *Claims) CheckACR(values ...string) error {
	if c.ACR == "" || !slices.Contains(values, c.ACR) {
		return &InsufficientError{ACR: append([]string{}, values...)}
	}
	return nil
}

// RequireScope returns a middleware that lets pass tokens with all of the scopes. Like those below it goes inside of Middleware.
func RequireScope(scopes ...string) func(http.Handler) http.Handler {
	return require(func(c *Claims) error { return c.CheckScope(scopes...) })
}

// RequireRole returns a middleware that lets pass tokens of users with one of the roles.
func RequireRole(roles ...string) func(http.Handler) http.Handler {
	return require(func(c *Claims) error { return c.CheckRole(roles...) })
}

// RequireAuthTime returns a middleware that lets pass tokens of users who authenticated at most maxAge ago, and asks others to do
// so again (RFC 9470).
func RequireAuthTime(maxAge time.Duration) func(http.Handler) http.Handler {
	return require(func(c *Claims) error { return c.CheckAuthTime(maxAge) })
}

// RequireACR returns a middleware that lets pass tokens of users who authenticated in one of the ways that values name, and asks
// others to do so (RFC 9470).
func RequireACR(values ...string) func(http.Handler) http.Handler {
	return require(func(c *Claims) error { return c.CheckACR(values...) })
}

func require(check func(*Claims) error) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			claims, ok := ClaimsFrom(r.Context())
			err := ErrNoToken // a guard without Middleware around it refuses every request
			if ok {
				err = check(claims)
			}
			if err != nil {
				WriteError(w, err)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

// Challenge returns how to answer a request that failed with err, an error of Verify, TokenFrom or a Check method: the
// status, and the value of the WWW-Authenticate header (RFC 6750, section 3; RFC 9470, section 3), which is empty for a
// status that needs none. An error that it does not know is a fault of the server: 500.
func Challenge(err error) (status int, challenge string) {
	r := refuse(err)
	return r.status, r.challenge()
}

// WriteError answers a request that failed with err as Challenge says, with the error code and description as JSON in the body.
func WriteError(w http.ResponseWriter, err error) {
	r := refuse(err)
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", "application/json")
	if challenge := r.challenge(); challenge != "" {
		h.Set("WWW-Authenticate", challenge)
	}
	if r.status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "1")
	}
	w.WriteHeader(r.status)
	_ = json.NewEncoder(w).Encode(struct { // the client may be gone
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}{r.code, r.description})
}

// refusal is an answer to a request that may not pass.
type refusal struct {
	status            int
	code, description string
	param, value      string // one more parameter of the challenge
}

func refuse(err error) refusal {
	insufficient, ok := errors.AsType[*InsufficientError](err)
	switch {
	case ok:
		return insufficient.refuse()
	case errors.Is(err, ErrNoToken):
		return refusal{status: http.StatusUnauthorized, code: "unauthorized", description: "An access token is required"}
	case errors.Is(err, ErrRequest):
		return refusal{
			status:      http.StatusBadRequest,
			code:        "invalid_request",
			description: "One bearer token must be in one Authorization header",
		}
	case errors.Is(err, ErrExpired):
		return refusal{status: http.StatusUnauthorized, code: "invalid_token", description: "The access token expired"}
	case errors.Is(err, ErrInvalid):
		return refusal{status: http.StatusUnauthorized, code: "invalid_token", description: "The access token is not valid"}
	case errors.Is(err, ErrUnavailable):
		return refusal{
			status:      http.StatusServiceUnavailable,
			code:        "temporarily_unavailable",
			description: "The access token cannot be checked now",
		}
	}
	return refusal{status: http.StatusInternalServerError, code: "server_error", description: "Internal server error"}
}

func (e *InsufficientError) refuse() refusal {
	switch {
	case e.Scopes != nil:
		return refusal{http.StatusForbidden, "insufficient_scope", "The access token lacks a required scope", "scope",
			strings.Join(e.Scopes, " ")}
	case e.Roles != nil:
		return refusal{status: http.StatusForbidden, code: "insufficient_scope", description: "The user lacks a required role"}
	case e.ACR != nil:
		return refusal{http.StatusUnauthorized, "insufficient_user_authentication", "Another way to authenticate is required",
			"acr_values", strings.Join(e.ACR, " ")}
	}
	maxAge := strconv.FormatInt(int64(e.MaxAge/time.Second), 10)
	return refusal{http.StatusUnauthorized, "insufficient_user_authentication", "More recent authentication is required",
		"max_age", maxAge}
}

// challenge returns the value of WWW-Authenticate. Who did not know that a token is needed did nothing wrong, and is not given an
// error code (RFC 6750, section 3.1).
func (r refusal) challenge() string {
	switch {
	case r.status >= 500:
		return ""
	case r.code == "unauthorized":
		return "Bearer"
	}
	challenge := `Bearer error="` + r.code + `", error_description="` + r.description + `"`
	if r.param != "" {
		challenge += ", " + r.param + `="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(r.value) + `"`
	}
	return challenge
}
