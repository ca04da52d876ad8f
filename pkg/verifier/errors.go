package verifier

import (
	"errors"
	"fmt"
)

// The refusals of Verify. All of them but ErrUnavailable wrap ErrInvalid, and the middleware answers them with 401 and the code
// invalid_token (RFC 6750, section 3.1). Which one it was is for logs and metrics; a client learns only that a token has expired.
var (
	// ErrInvalid is wrapped by every refusal of a token. Get another token.
	ErrInvalid = errors.New("verifier: invalid token")
	// ErrMalformed is a text that is not the one strict spelling of an access token, or lacks a claim, or has one of a wrong type.
	ErrMalformed = fmt.Errorf("%w: malformed", ErrInvalid)
	// ErrUnknownKey is a kid that the issuer does not publish.
	ErrUnknownKey = fmt.Errorf("%w: unknown key", ErrInvalid)
	// ErrSignature is a signature that the key did not make, or an alg that is not the key's.
	ErrSignature = fmt.Errorf("%w: wrong signature", ErrInvalid)
	// ErrIssuer is an authentic token of another issuer.
	ErrIssuer = fmt.Errorf("%w: wrong issuer", ErrInvalid)
	// ErrAudience is an authentic token for another audience.
	ErrAudience = fmt.Errorf("%w: wrong audience", ErrInvalid)
	// ErrExpired is an authentic token whose exp has passed. Refresh.
	ErrExpired = fmt.Errorf("%w: expired", ErrInvalid)
	// ErrNotYetValid is an authentic token whose iat or nbf lies in the future.
	ErrNotYetValid = fmt.Errorf("%w: not yet valid", ErrInvalid)
	// ErrLifetime is an authentic token that lives longer than WithMaxLifetime allows.
	ErrLifetime = fmt.Errorf("%w: lives too long", ErrInvalid)
	// ErrBlocked is an authentic token that was revoked.
	ErrBlocked = fmt.Errorf("%w: revoked", ErrInvalid)

	// ErrUnavailable says nothing about the token: the keys or the blocklist could not be had, or the blocklist is staler than the
	// policy allows. The middleware answers 503; try again.
	ErrUnavailable = errors.New("verifier: cannot decide now")
	// ErrClosed is wrapped in ErrUnavailable once Close was called.
	ErrClosed = errors.New("verifier: closed")
)

// The faults of a request that carries no token to verify, see TokenFrom.
var (
	// ErrNoToken is a request without a bearer token. It is answered 401 without an error code (RFC 6750, section 3.1).
	ErrNoToken = errors.New("verifier: no bearer token")
	// ErrRequest is a request with more than one credential or a malformed one: 400 and the code invalid_request.
	ErrRequest = errors.New("verifier: malformed authorization")
)
