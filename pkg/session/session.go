// Package session keeps logins alive and ends them.
//
// A session is one login of one user at one client on one device, and it is the refresh-token family: the
// refresh tokens of a session differ in their generation only. It is one row, no matter how often it rotates.
//
//   - refreshtoken.go is the wire form of a refresh token,
//   - rotate.go is the rule that says what a presented refresh token gets,
//   - manager.go takes a refresh and a login through the store,
//   - fork.go begins a child of a session, for a second holder on the same device,
//   - batch.go puts refreshes that arrive together into one statement,
//   - watch.go knows when nobody could be answered, which a grace period leaves out,
//   - holder.go keeps sessions alive whose holder has no refresh token,
//   - revoke.go ends sessions, without any key,
//   - issue.go decides whether the service may issue tokens at all.
package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/id"
	"github.com/handstamp/handstamp/pkg/mail"
	"github.com/handstamp/handstamp/pkg/user"
)

// Sentinels of the feature. Any other error of a [Store] is a storage failure: the outcome is unknown, nothing may
// be answered but that the request can be tried again.
var (
	// ErrNotFound says that no session has this ID.
	ErrNotFound = errors.New("session not found")
	// ErrMalformed says that a text is not a refresh token this service ever made. No database was asked.
	ErrMalformed = errors.New("malformed refresh token")
	// ErrWrongClient says that a refresh token was presented by a client it was not given to. Nothing was changed.
	ErrWrongClient = errors.New("refresh token belongs to another client")
	// ErrEnded says that the session is over: revoked, expired, idle for too long, or unknown.
	ErrEnded = errors.New("session has ended")
	// ErrReuse says that an old refresh token was shown again. The session is revoked, and that is committed.
	ErrReuse = errors.New("refresh token was used before; the session is revoked")
	// ErrLate says that an old refresh token came with a copy of a request that had been held up on its way: its client has moved on
	// meanwhile. Nothing was changed.
	ErrLate = errors.New("a late copy of an earlier request")
	// ErrBusy says that too many refreshes wait for the database. Nothing was changed, and the request can be tried again.
	ErrBusy = errors.New("too many refreshes wait")
	// ErrUserDisabled says that the user may not log in.
	ErrUserDisabled = errors.New("user is disabled")
	// ErrUserChanged says that the user is gone, or that the credential which was checked is no longer the user's.
	ErrUserChanged = errors.New("user was changed meanwhile")
	// ErrClientDisabled says that the client is gone or may not be issued anything.
	ErrClientDisabled = errors.New("client is disabled")
	// ErrChild says that a session is a child, which cannot be forked. Nothing was changed.
	ErrChild = errors.New("a child session cannot be forked")
	// ErrScope says that more was asked for than was granted.
	ErrScope = errors.New("scope exceeds the grant")
)

// ID identifies a session. Its text form, the sid, is "ses_" and 26 characters.
type ID id.ID

const idPrefix = "ses_"

// NewID makes a session ID.
func NewID(now time.Time) ID { return ID(id.New(now)) }

// ParseID reads a sid. ErrNotFound if it can't be one, because then no session has it.
func ParseID(s string) (ID, error) {
	text, prefixed := strings.CutPrefix(s, idPrefix)
	parsed, ok := id.Parse(text)
	if !prefixed || !ok {
		return ID{}, ErrNotFound
	}
	return ID(parsed), nil
}

// String returns the sid.
func (i ID) String() string { return idPrefix + id.ID(i).String() }

// IsZero reports whether i is no session's.
func (i ID) IsZero() bool { return i == ID{} }

// Nonce is the random value of a session that its refresh tokens carry masked. It never leaves the store in the clear.
type Nonce [16]byte

// RequestHash identifies the Idempotency-Key of a request; zero for a request without one.
type RequestHash [16]byte

// EarlierRequestsSize is how much of [Session.EarlierRequests] a row keeps, in bytes: four requests.
const EarlierRequestsSize = 4 * len(RequestHash{})

// Reason says why a session ended. The texts are stable.
type Reason string

// The reasons.
const (
	ReasonLogout         Reason = "logout"
	ReasonRevoked        Reason = "revoked"    // through the revocation endpoint, the session list or the command line
	ReasonReuse          Reason = "reuse"      // an old refresh token was shown again
	ReasonLogoutAll      Reason = "logout_all" // log out everywhere
	ReasonPasswordChange Reason = "password_change"
	ReasonPasswordReset  Reason = "password_reset" // by mail
	ReasonUserDisabled   Reason = "user_disabled"
	ReasonUserDeleted    Reason = "user_deleted"
	ReasonLimit          Reason = "session_limit" // the session made way for a new one
	ReasonCodeReuse      Reason = "code_reuse"    // the authorization code that started it was used twice
	ReasonAdopted        Reason = "user_adopted"  // the user's address was proven by somebody, who need not be who began the session
)

// Session is one row. Times have microsecond precision.
type Session struct {
	ID              ID
	UserID          string
	ClientID        string
	Generation      uint32 // of the newest refresh token
	Nonce           Nonce
	RotatedAt       time.Time   // when Generation was made; the grace period counts from here
	LastRequestHash RequestHash // of the request that made Generation
	// EarlierRequests are the RequestHashes of the requests that made the generations before, newest first, as far as they are
	// remembered (EarlierRequestsSize); zeros for a request without Idempotency-Key.
	EarlierRequests []byte
	IdleExpiresAt   time.Time // moves with each rotation
	ExpiresAt       time.Time // never moves
	RevokedAt       time.Time // zero while alive
	RevokeReason    Reason
	Scope           string   // granted, space-separated
	Audience        []string // granted
	Roles           []string // the user's, kept current by role changes
	IATFloor        int64    // Unix seconds: the least iat the session's next access token may carry
	AMR             []string // RFC 8176
	ACR             string
	AuthTime        time.Time
	UserAgent       string
	IP              string
	CreatedAt       time.Time
	StatusNumber    int64 // where the session's access tokens stand in the status lists; zero if nowhere
	Parent          ID    // that it was forked from: it has the parent's ends, and both end together; zero for none

	// Browser is the browser login that the session came from; zero for none. Only [ChainStore.Sessions] tells it.
	Browser [32]byte

	// ClientDisabled and ClientGrace are facts of the client's row, read in the same statement.
	ClientDisabled bool
	ClientGrace    *time.Duration // nil: the service's grace period

	// Person is who the session is of, as an ID token tells it. Only what rotates or repeats a session reads it, in the same
	// statement, and only if the scope has openid and the client is told of people in ID tokens; otherwise it is nil.
	Person *user.User
}

// ParsePerson reads a Person from the JSON object that a statement made of the user's row.
func ParsePerson(userID string, text []byte) (*user.User, error) {
	var row struct {
		Email      string       `json:"email"`
		VerifiedAt *int64       `json:"email_verified_at"` // Unix seconds
		Name       string       `json:"name"`
		Profile    user.Profile `json:"profile"`
		UpdatedAt  int64        `json:"updated_at"`
	}
	if err := json.Unmarshal(text, &row); err != nil {
		return nil, fmt.Errorf("read person: %w", err)
	}
	u := &user.User{ID: userID, Email: row.Email, Name: row.Name, Profile: row.Profile, UpdatedAt: time.Unix(row.UpdatedAt, 0).UTC()}
	if row.VerifiedAt != nil {
		u.EmailVerifiedAt = time.Unix(*row.VerifiedAt, 0).UTC()
	}
	return u, nil
}

// Start asks the store to begin a session.
type Start struct {
	Session Session // everything but Roles and StatusNumber, which come from the same statement
	// PasswordHash, if not empty, must still be the user's: the password was checked against it.
	PasswordHash string
	// Provider and Subject, if not empty, name the identity that was checked: it must still be linked to the user.
	Provider, Subject string
	// Refund is that of the login's attempt.
	Refund user.Refund
	// ShowsFactors says that the user may have second factors: the login has shown one. Otherwise the session begins only if there
	// is none.
	ShowsFactors bool
	// Factor, if not zero, is used up: the session begins only if it could be.
	Factor user.FactorUse
	// Limit is the most live sessions a user may have, the new one included. Others end with ReasonLimit: first those of the
	// same browser login at the same client, then those that were used least recently.
	Limit      int
	BlockUntil time.Time   // for the sessions that make way
	Event      audit.Event // the login
	Mail       mail.Letter // to the user, if the session begins
}

// Started is what the statement that began a session learned. The session exists only if Created.
type Started struct {
	Created        bool
	UserFound      bool
	UserDisabled   bool
	ClientFound    bool
	ClientDisabled bool
	HasFactors     bool // the user has a confirmed second factor
	FactorUsed     bool // Start.Factor was used up
	Roles          []string
	StatusNumber   int64
	Ended          []ID // sessions that made way
}

// Rotation asks the store to move a session from one generation to another, if the row is exactly as presented:
// same ID, nonce, client and From generation, alive at At, its client enabled.
type Rotation struct {
	ID            ID
	Nonce         Nonce
	ClientID      string
	From, To      uint32
	RequestHash   RequestHash
	At            time.Time
	IdleExpiresAt time.Time // the store keeps it within ExpiresAt
}

// Fork asks the store to begin a child of a session, if its row is exactly as presented: same ID, nonce, client and
// generation, alive at At, no child itself, its client enabled.
type Fork struct {
	Parent     ID
	Nonce      Nonce
	ClientID   string
	Generation uint32
	At         time.Time
	// ID, ChildNonce, UserAgent and IP are the child's; everything else is the parent's. Its generation is 1.
	ID            ID
	ChildNonce    Nonce
	UserAgent, IP string
	// Limit is the most live children of the parent, the new one included. Others end with ReasonLimit: those that were used least
	// recently.
	Limit      int
	BlockUntil time.Time   // for the children that make way
	Event      audit.Event // the fork
}

// Ending is what the end of sessions leaves behind besides their rows.
type Ending struct {
	At         time.Time
	Reason     Reason
	BlockUntil time.Time   // no access token minted until now is accepted after this
	Event      audit.Event // committed together with the change
	Mail       mail.Letter // to the user; only SetPassword and DeleteUser write it
}

// Store is what the feature needs of a database. Each method is one transaction, and where the method says so one
// statement. A write that touches sessions, users and the blocklist is one method, so that no caller can do half of it.
type Store interface {
	ChainStore
	EndingStore
}

// ChainStore is what starts sessions, moves them on and reads them.
type ChainStore interface {
	// Start adds a session in one statement, together with its event, if the user and the client are enabled and the
	// password hash is unchanged. A concurrent change of the user's roles or state is either seen here or sees the new session.
	Start(ctx context.Context, s Start) (Started, error)
	// Rotate advances each session that matches its Rotation, in one statement over all of them, and returns the new rows in the
	// order of the requests; nil where nothing matched. iat_floor becomes max(At, iat_floor) and is the iat of the
	// access token to mint. Of several rotations of one session in one call one succeeds.
	Rotate(ctx context.Context, rotations []Rotation) ([]*Session, error)
	// Repeat prepares the repetition of generation From: iat_floor becomes max(At, iat_floor), nothing else changes. Nil
	// if the row is not exactly as presented (To, RequestHash and IdleExpiresAt are not used).
	Repeat(ctx context.Context, r Rotation) (*Session, error)
	// Fork begins a child of a session, and returns its row; nil if the parent is not exactly as presented. What ends the parent at
	// the same time either finds the child, or the child does not begin.
	Fork(ctx context.Context, f Fork) (*Session, error)
	// Session reads one. ErrNotFound.
	Session(ctx context.Context, id ID) (Session, error)
	// Sessions lists the user's sessions that are alive at a time, newest first.
	Sessions(ctx context.Context, userID string, at time.Time) ([]Session, error)
	// SweepSessions deletes at most limit sessions whose ExpiresAt is before a time, and says how many. Replicas
	// that sweep at once share the work.
	SweepSessions(ctx context.Context, before time.Time, limit int) (int, error)
}

// EndingStore is what ends sessions, and with them the access tokens that they gave.
type EndingStore interface {
	// EndSession ends a session, its parent and their children, and blocks their sids; false and no event if it is unknown or
	// already over.
	EndSession(ctx context.Context, id ID, e Ending) (bool, error)
	// EndDevice ends a user's session as EndSession does, and with it those of the same browser login at the same client. It says
	// which; none and no event if the session is unknown, another user's, or already over.
	EndDevice(ctx context.Context, userID string, id ID, e Ending) ([]ID, error)
	// EndSessions ends all live sessions of a user but one with its parent and their children (zero: all of them), blocks
	// their sids, and says which.
	EndSessions(ctx context.Context, userID string, except ID, e Ending) ([]ID, error)
	// EndSessionsBefore ends and blocks at most limit live sessions that were created before a time and have an ID behind
	// after (zero: the first ones), in the order of their IDs, and says which. It also deletes at most limit browser sessions,
	// and as many unused codes, that were created before the time, and says how many were deleted.
	EndSessionsBefore(ctx context.Context, before time.Time, after ID, limit int, e Ending) (ended []ID, forgotten int, err error)
	// SetPassword replaces the user's password hash and ends all sessions. user.ErrChanged if the hash is no longer old.
	SetPassword(ctx context.Context, userID, old, replacement string, e Ending) ([]ID, error)
	// DisableUser keeps the user out and ends all sessions. user.ErrNotFound.
	DisableUser(ctx context.Context, userID string, e Ending) ([]ID, error)
	// DeleteUser removes the user and everything that belongs to the user, and blocks the sids. user.ErrNotFound.
	DeleteUser(ctx context.Context, userID string, e Ending) ([]ID, error)
	// SetRoles replaces the user's roles, in the user's row and in each live session, and blocks the access tokens minted
	// until now, not later ones: for each live session the entry's NotBefore is max(e.At, iat_floor), but at most a second
	// after e.At, iat_floor becomes one second more, and the session gets another status number. No token is minted before
	// its iat, so none can have a later one than that. Roles that are the user's already change nothing and leave no event.
	// user.ErrNotFound.
	SetRoles(ctx context.Context, userID string, roles []string, e Ending) error
}
