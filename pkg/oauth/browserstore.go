package oauth

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/mail"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/user"
)

// Hash is the SHA-256 of a secret that a browser or a client holds; the database has no other form of it.
type Hash [32]byte

// Sentinels of the browser flow.
var (
	// ErrCodeNotFound says that there is no such authorization code (any more).
	ErrCodeNotFound = errors.New("authorization code not found")
	// ErrCodeUsed says that the code was redeemed before; the row tells which session it gave.
	ErrCodeUsed = errors.New("authorization code was used before")
	// ErrBrowserSessionNotFound says that the browser is not logged in (any more).
	ErrBrowserSessionNotFound = errors.New("browser session not found")
	// ErrRequestNotFound says that there is no such pushed authorization request (any more).
	ErrRequestNotFound = errors.New("pushed authorization request not found")
)

// Code is an authorization code (RFC 6749, section 4.1.2) and what it stands for.
type Code struct {
	Hash           Hash
	ClientID       string
	UserID         string
	RedirectURI    string // as in the authorization request, compared exactly at redemption
	Challenge      string // code_challenge, S256 (RFC 7636)
	Scope          string
	Audience       []string
	Nonce          string // OpenID Connect Core, section 3.1.2.1
	AMR            []string
	ACR            string
	AuthTime       time.Time
	BrowserSession Hash   // that the code was given in
	IP             string // of the person at the browser, and what the browser calls itself
	UserAgent      string
	Pushed         Hash // the pushed request that it answers; zero for none. It is not kept
	CreatedAt      time.Time
	ExpiresAt      time.Time
	UsedAt         time.Time  // zero until redeemed
	SessionID      session.ID // that it gave
}

// BrowserSession is a browser that is logged in at the hosted pages, so that the next client finds it logged in (single
// sign-on). It is not a session: no token belongs to it. Its cookie holds a secret of which Hash is the hash.
type BrowserSession struct {
	Hash      Hash
	UserID    string
	AMR       []string
	ACR       string
	AuthTime  time.Time
	CreatedAt time.Time
	ExpiresAt time.Time
	// FactorNeeded says that the user has a second factor, which the login has not shown.
	FactorNeeded bool
	Proof        Proof       // of a new one; it is not kept
	Mail         mail.Letter // to the user, of a new one; it is not kept
}

// Proof is what a login rests on: it was checked a moment ago, and must still be so when the browser session begins.
// Otherwise a login that is under way would outlive the change of password, or the end of an identity, that was meant
// to lock its owner out. The zero Proof asks for nothing.
type Proof struct {
	PasswordHash string // must still be the user's
	Provider     string // must still be linked to the user, by the identity that Subject names
	Subject      string
	Refund       user.Refund // of the attempt that the login took
	// ShowsFactors and Factor are as in session.Start.
	ShowsFactors bool
	Factor       user.FactorUse
}

// PushedRequest is an authorization request that a client has sent ahead (RFC 9126).
type PushedRequest struct {
	Hash       Hash // of the request_uri
	ClientID   string
	Parameters string // form-encoded
	ExpiresAt  time.Time
}

// Consent is what a user has allowed a third-party client.
type Consent struct {
	UserID    string
	ClientID  string
	Scope     string
	GrantedAt time.Time
}

// With returns the consent with the values of a scope added to what was allowed before.
func (c Consent) With(scope string) Consent {
	all := strings.Fields(c.Scope + " " + scope)
	slices.Sort(all)
	c.Scope = strings.Join(slices.Compact(all), " ")
	return c
}

// BrowserStore is what the browser flow needs of a database: the sum of what its features need. Each method is one transaction.
//
// What ends all sessions of a user (a changed password, a disabled or deleted user, log out everywhere) ends the user's
// browser sessions and unused codes as well, in the same transaction; ending one session ends neither.
type BrowserStore interface {
	CodeStore
	BrowserSessionStore
	PushedRequestStore
	ConsentStore
}

// CodeStore is what authorization codes need of a database.
type CodeStore interface {
	// SaveCode keeps a code until it is swept, and uses up the pushed request that it answers (Code.Pushed), if it answers one:
	// ErrRequestNotFound if that has been used up or swept.
	SaveCode(ctx context.Context, c Code) error
	// Code reads a code, used or not. ErrCodeNotFound.
	Code(ctx context.Context, h Hash) (Code, error)
	// RedeemCode marks a code as used by the session to start and starts it, as session.Store.Start does, in one
	// transaction: of all who try, one succeeds. The code is used up also if the session may not start. ErrCodeNotFound if
	// it is unknown or expired at Start.Session.CreatedAt, or if the browser session that it was given in (zero: none) has
	// ended; ErrCodeUsed.
	RedeemCode(ctx context.Context, h Hash, s session.Start) (session.Started, error)
	// ReleaseCode makes a code one that was never redeemed, if a session of this ID used it up that nobody has refreshed. The
	// session is gone. It is for a redemption whose answer nobody got.
	ReleaseCode(ctx context.Context, h Hash, id session.ID) error
}

// BrowserSessionStore is what browser sessions need of a database.
type BrowserSessionStore interface {
	// SaveBrowserSession adds a browser session, if the user is enabled, in place of another (zero: of none): a login
	// always makes a new one. The codes and sessions that a replaced one of the same user gave count as given by the new
	// one, so that logging out ends them too. user.ErrNotFound if the user is gone or disabled, or the proof no longer
	// holds; user.ErrFactorNeeded; user.ErrFactorUsed.
	SaveBrowserSession(ctx context.Context, b BrowserSession, replaces Hash) error
	// BrowserSession reads the browser session of an enabled user that is alive at a time. ErrBrowserSessionNotFound.
	BrowserSession(ctx context.Context, h Hash, at time.Time) (BrowserSession, error)
	// BrowserClients lists the clients that have a session of the browser session's user, alive at a time, which its codes gave.
	BrowserClients(ctx context.Context, b BrowserSession, at time.Time) ([]string, error)
	// EndBrowserSession ends one, and every session that its codes gave, and blocks their sids; it says which. Nil if it is unknown.
	EndBrowserSession(ctx context.Context, h Hash, e session.Ending) ([]session.ID, error)
	// SweepBrowser deletes at most limit codes and browser sessions that expired before a time, and says how many.
	SweepBrowser(ctx context.Context, before time.Time, limit int) (int, error)
}

// PushedRequestStore is what pushed authorization requests need of a database.
type PushedRequestStore interface {
	// SavePushedRequest keeps a pushed request until it is used up or swept.
	SavePushedRequest(ctx context.Context, r PushedRequest) error
	// VisitPushedRequest returns a request that is alive at a time, and keeps it alive until another: a browser has begun with it.
	// ErrRequestNotFound.
	VisitPushedRequest(ctx context.Context, h Hash, at, until time.Time) (PushedRequest, error)
	// SweepPushedRequests deletes at most limit requests that expired before a time, and says how many.
	SweepPushedRequests(ctx context.Context, before time.Time, limit int) (int, error)
}

// ConsentStore is what consents need of a database.
type ConsentStore interface {
	// Consent reads what a user has allowed a client; the zero Consent for nothing.
	Consent(ctx context.Context, userID, clientID string) (Consent, error)
	// Consents lists what a user has allowed, by client.
	Consents(ctx context.Context, userID string) ([]Consent, error)
	// SaveConsent replaces what a user has allowed a client, together with its event. user.ErrNotFound.
	SaveConsent(ctx context.Context, c Consent, e audit.Event) error
	// RevokeConsent forgets it, ends the user's sessions at the client, and blocks their sids; it says which.
	RevokeConsent(ctx context.Context, userID, clientID string, e session.Ending) ([]session.ID, error)
}
