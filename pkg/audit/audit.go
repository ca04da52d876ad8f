// Package audit names the security events of the authorization server and the row each of them leaves.
//
// One function for each kind makes its events (events.go). The caller hands an event to the store method that carries out
// the change, so that the change and its event are committed together or not at all. Events hold identifiers only, and
// never an e-mail address, token, password or code.
package audit

import (
	"context"
	"time"
)

// Kind says what happened. The texts are stable: operators filter on them.
type Kind string

// The kinds of events.
const (
	KindSignedUp          Kind = "user_signed_up"
	KindUserCreated       Kind = "user_created"
	KindUserDeleted       Kind = "user_deleted"
	KindUserDisabled      Kind = "user_disabled"
	KindUserEnabled       Kind = "user_enabled"
	KindRolesChanged      Kind = "user_roles_changed"
	KindPasswordChanged   Kind = "password_changed"
	KindResetAsked        Kind = "password_reset_requested"
	KindVerifyAsked       Kind = "email_verification_requested"
	KindEmailVerified     Kind = "email_verified"
	KindLoggedIn          Kind = "login_succeeded"
	KindLoginFailed       Kind = "login_failed"
	KindSessionForked     Kind = "session_forked"
	KindSessionEnded      Kind = "session_ended"
	KindSessionsEnded     Kind = "sessions_ended"
	KindRefreshTokenReuse Kind = "refresh_token_reuse"
	KindTokenRevoked      Kind = "access_token_revoked"
	KindTokensBlocked     Kind = "access_tokens_blocked"
	KindClientCreated     Kind = "client_created"
	KindClientUpdated     Kind = "client_updated"
	KindClientDisabled    Kind = "client_disabled"
	KindClientEnabled     Kind = "client_enabled"
	KindClientDeleted     Kind = "client_deleted"
	KindKeyRotated        Kind = "signing_key_rotated"
	KindKeyRevoked        Kind = "signing_key_revoked"
	KindIdentityLinked    Kind = "identity_linked"
	KindIdentityRemoved   Kind = "identity_removed"
	KindConsentGranted    Kind = "consent_granted"
	KindFactorAdded       Kind = "factor_added"
	KindFactorRemoved     Kind = "factor_removed"
	KindRecoveryReplaced  Kind = "recovery_codes_replaced"
)

// Origin is where a request came from: the part of an event that the transport knows.
type Origin struct {
	IP        string // client address after the trusted proxies were taken off
	UserAgent string // cut to 256 bytes by the transport
	RequestID string
	// Languages is what the caller reads, as in Accept-Language: for the mail that tells of the event. The log does not keep it.
	Languages string
}

// Event is one row of the audit log.
type Event struct {
	ID        int64     // its number in the log, which the store gives
	At        time.Time // with microsecond precision
	Kind      Kind
	Actor     string // user ID or client ID that acted, "cli" for the command line, "system" for the service itself
	UserID    string // the user it happened to, empty if none
	SessionID string // the sid it happened to, empty if none
	ClientID  string // the client it happened to or through, empty if none
	Reason    string // a stable word: why it happened or why it was refused
	Origin
}

// Cursor is the place of an event in the log: later events of the same time have greater numbers.
type Cursor struct {
	At time.Time
	ID int64
}

// Cursor returns the event's place.
func (e Event) Cursor() Cursor { return Cursor{At: e.At, ID: e.ID} }

// ActorSystem and ActorCLI are the actors that are neither user nor client.
const (
	ActorSystem = "system"
	ActorCLI    = "cli"
)

// Store keeps events that no other store method carries.
type Store interface {
	// Record appends one event.
	Record(ctx context.Context, e Event) error
	// Events lists the newest events first, at most limit of them: those of one user (empty: of all) that stand before a
	// place in the log (zero: from the newest on).
	Events(ctx context.Context, userID string, before Cursor, limit int) ([]Event, error)
	// SweepEvents deletes at most limit events that are older than a time, the oldest first, and says how many. Replicas
	// that sweep at once share the work.
	SweepEvents(ctx context.Context, before time.Time, limit int) (int, error)
}
