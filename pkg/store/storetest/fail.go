package storetest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/keyring"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/sharedsignal"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/upstream"
	"github.com/handstamp/handstamp/pkg/user"
)

// ErrInjected is the storage failure that [Fail] makes up.
var ErrInjected = errors.New("injected storage failure")

// When says on which side of the work a call fails.
type When int

// The two ways in which a call to a database fails.
const (
	Before When = iota // nothing was done
	After              // all was done and committed, and the answer was lost: the outcome is unknown to the caller
)

// String names the way for test output.
func (w When) String() string { return [...]string{"before", "after"}[w] }

// Failing is a store of which one call fails.
type Failing struct {
	store store.Store

	mu      sync.Mutex
	n       int
	when    When
	methods []string
	calls   int
	failed  string
}

var _ store.Store = (*Failing)(nil)

// Fail wraps a store so that its n-th call (from 1) fails with ErrInjected; n = 0 lets all pass and counts. If methods are
// named, only calls of these count: name those of the request when background work shares the store. Close never fails. To
// try every call of a request:
//
//	for n := 1; ; n++ {
//		failing := storetest.Fail(fresh(t), n, storetest.After)
//		request(failing)
//		if failing.Failed() == "" {
//			break // the request makes fewer than n calls
//		}
//		// check: no success was answered, and a retry on the bare store works
//	}
func Fail(s store.Store, n int, when When, methods ...string) *Failing {
	return &Failing{store: s, n: n, when: when, methods: methods}
}

// Arm makes another call fail, counted from now as Fail counts.
func (f *Failing) Arm(n int, when When, methods ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n, f.when, f.methods, f.calls, f.failed = n, when, methods, 0, ""
}

// Failed returns the name of the method whose call failed, empty if none did.
func (f *Failing) Failed() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

// Calls returns how many calls were counted.
func (f *Failing) Calls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

// fails counts a call and says whether it is the one, and how it fails.
func (f *Failing) fails(method string) (bool, When) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.methods) > 0 && !slices.Contains(f.methods, method) {
		return false, f.when
	}
	f.calls++
	if f.calls != f.n {
		return false, f.when
	}
	f.failed = method
	return true, f.when
}

// do carries out a call that returns an error only.
func (f *Failing) do(method string, call func() error) error {
	_, err := result(f, method, func() (struct{}, error) { return struct{}{}, call() })
	return err
}

// result carries out a call that returns a value.
func result[T any](f *Failing, method string, call func() (T, error)) (T, error) {
	var zero T
	fails, when := f.fails(method)
	if !fails {
		return call()
	}
	if when == After {
		if _, err := call(); err != nil {
			return zero, err // it failed by itself: that answer arrives
		}
	}
	return zero, ErrInjected
}

// Record implements [audit.Store].
func (f *Failing) Record(ctx context.Context, e audit.Event) error {
	return f.do("Record", func() error { return f.store.Record(ctx, e) })
}

// Events implements [audit.Store].
func (f *Failing) Events(ctx context.Context, userID string, before time.Time, limit int) ([]audit.Event, error) {
	return result(f, "Events", func() ([]audit.Event, error) { return f.store.Events(ctx, userID, before, limit) })
}

// CreateUser implements [user.Store].
func (f *Failing) CreateUser(ctx context.Context, u user.User, e audit.Event) error {
	return f.do("CreateUser", func() error { return f.store.CreateUser(ctx, u, e) })
}

// UserByID implements [user.Store].
func (f *Failing) UserByID(ctx context.Context, id string) (user.User, error) {
	return result(f, "UserByID", func() (user.User, error) { return f.store.UserByID(ctx, id) })
}

// UserByEmail implements [user.Store].
func (f *Failing) UserByEmail(ctx context.Context, email string) (user.User, error) {
	return result(f, "UserByEmail", func() (user.User, error) { return f.store.UserByEmail(ctx, email) })
}

// Users implements [user.Store].
func (f *Failing) Users(ctx context.Context, after string, limit int) ([]user.User, error) {
	return result(f, "Users", func() ([]user.User, error) { return f.store.Users(ctx, after, limit) })
}

// BeginLogin implements [user.Store].
func (f *Failing) BeginLogin(ctx context.Context, email, ip string, at time.Time, limit user.Throttle) (user.Attempt, error) {
	return result(f, "BeginLogin", func() (user.Attempt, error) { return f.store.BeginLogin(ctx, email, ip, at, limit) })
}

// ReplacePasswordHash implements [user.Store].
func (f *Failing) ReplacePasswordHash(ctx context.Context, id, old, replacement string, at time.Time) error {
	return f.do("ReplacePasswordHash", func() error { return f.store.ReplacePasswordHash(ctx, id, old, replacement, at) })
}

// UpdateName implements [user.Store].
func (f *Failing) UpdateName(ctx context.Context, id, name string, at time.Time) (user.User, error) {
	return result(f, "UpdateName", func() (user.User, error) { return f.store.UpdateName(ctx, id, name, at) })
}

// EnableUser implements [user.Store].
func (f *Failing) EnableUser(ctx context.Context, id string, e audit.Event) error {
	return f.do("EnableUser", func() error { return f.store.EnableUser(ctx, id, e) })
}

// Start implements [session.Store].
func (f *Failing) Start(ctx context.Context, s session.Start) (session.Started, error) {
	return result(f, "Start", func() (session.Started, error) { return f.store.Start(ctx, s) })
}

// Rotate implements [session.Store].
func (f *Failing) Rotate(ctx context.Context, rotations []session.Rotation) ([]*session.Session, error) {
	return result(f, "Rotate", func() ([]*session.Session, error) { return f.store.Rotate(ctx, rotations) })
}

// Repeat implements [session.Store].
func (f *Failing) Repeat(ctx context.Context, r session.Rotation) (*session.Session, error) {
	return result(f, "Repeat", func() (*session.Session, error) { return f.store.Repeat(ctx, r) })
}

// Session implements [session.Store].
func (f *Failing) Session(ctx context.Context, id session.ID) (session.Session, error) {
	return result(f, "Session", func() (session.Session, error) { return f.store.Session(ctx, id) })
}

// Sessions implements [session.Store].
func (f *Failing) Sessions(ctx context.Context, userID string, at time.Time) ([]session.Session, error) {
	return result(f, "Sessions", func() ([]session.Session, error) { return f.store.Sessions(ctx, userID, at) })
}

// EndSession implements [session.Store].
func (f *Failing) EndSession(ctx context.Context, id session.ID, e session.Ending) (bool, error) {
	return result(f, "EndSession", func() (bool, error) { return f.store.EndSession(ctx, id, e) })
}

// EndSessions implements [session.Store].
func (f *Failing) EndSessions(ctx context.Context, userID string, except session.ID, e session.Ending) ([]session.ID, error) {
	return result(f, "EndSessions", func() ([]session.ID, error) { return f.store.EndSessions(ctx, userID, except, e) })
}

// SetPassword implements [session.Store].
func (f *Failing) SetPassword(ctx context.Context, userID, old, replacement string, e session.Ending) ([]session.ID, error) {
	return result(f, "SetPassword", func() ([]session.ID, error) { return f.store.SetPassword(ctx, userID, old, replacement, e) })
}

// DisableUser implements [session.Store].
func (f *Failing) DisableUser(ctx context.Context, userID string, e session.Ending) ([]session.ID, error) {
	return result(f, "DisableUser", func() ([]session.ID, error) { return f.store.DisableUser(ctx, userID, e) })
}

// DeleteUser implements [session.Store].
func (f *Failing) DeleteUser(ctx context.Context, userID string, e session.Ending) ([]session.ID, error) {
	return result(f, "DeleteUser", func() ([]session.ID, error) { return f.store.DeleteUser(ctx, userID, e) })
}

// SetRoles implements [session.Store].
func (f *Failing) SetRoles(ctx context.Context, userID string, roles []string, e session.Ending) error {
	return f.do("SetRoles", func() error { return f.store.SetRoles(ctx, userID, roles, e) })
}

// SweepSessions implements [session.Store].
func (f *Failing) SweepSessions(ctx context.Context, before time.Time, limit int) (int, error) {
	return result(f, "SweepSessions", func() (int, error) { return f.store.SweepSessions(ctx, before, limit) })
}

// Block implements [blocklist.Store].
func (f *Failing) Block(ctx context.Context, entry blocklist.Entry, e audit.Event) error {
	return f.do("Block", func() error { return f.store.Block(ctx, entry, e) })
}

// BlocklistChanges implements [blocklist.Store].
func (f *Failing) BlocklistChanges(ctx context.Context, cursor string) (blocklist.Changes, error) {
	return result(f, "BlocklistChanges", func() (blocklist.Changes, error) { return f.store.BlocklistChanges(ctx, cursor) })
}

// CreateStream implements [sharedsignal.Store].
func (f *Failing) CreateStream(ctx context.Context, s sharedsignal.Stream) error {
	return f.do("CreateStream", func() error { return f.store.CreateStream(ctx, s) })
}

// Stream implements [sharedsignal.Store].
func (f *Failing) Stream(ctx context.Context, clientID string) (sharedsignal.Stream, error) {
	return result(f, "Stream", func() (sharedsignal.Stream, error) { return f.store.Stream(ctx, clientID) })
}

// UpdateStream implements [sharedsignal.Store].
func (f *Failing) UpdateStream(ctx context.Context, s sharedsignal.Stream) error {
	return f.do("UpdateStream", func() error { return f.store.UpdateStream(ctx, s) })
}

// SetStreamStatus implements [sharedsignal.Store].
func (f *Failing) SetStreamStatus(ctx context.Context, id, clientID string, status sharedsignal.Status, reason string, at time.Time) error {
	return f.do("SetStreamStatus", func() error { return f.store.SetStreamStatus(ctx, id, clientID, status, reason, at) })
}

// DeleteStream implements [sharedsignal.Store].
func (f *Failing) DeleteStream(ctx context.Context, id, clientID string) error {
	return f.do("DeleteStream", func() error { return f.store.DeleteStream(ctx, id, clientID) })
}

// LeaveOut implements [sharedsignal.Store].
func (f *Failing) LeaveOut(ctx context.Context, streamID string, s sharedsignal.Subject, limit int) error {
	return f.do("LeaveOut", func() error { return f.store.LeaveOut(ctx, streamID, s, limit) })
}

// TakeIn implements [sharedsignal.Store].
func (f *Failing) TakeIn(ctx context.Context, streamID string, s sharedsignal.Subject) error {
	return f.do("TakeIn", func() error { return f.store.TakeIn(ctx, streamID, s) })
}

// Verify implements [sharedsignal.Store].
func (f *Failing) Verify(ctx context.Context, streamID, state string, at time.Time, every time.Duration) error {
	return f.do("Verify", func() error { return f.store.Verify(ctx, streamID, state, at, every) })
}

// SignalEvents implements [sharedsignal.Store].
func (f *Failing) SignalEvents(ctx context.Context, streamID string, limit int) ([]sharedsignal.Event, error) {
	return result(f, "SignalEvents", func() ([]sharedsignal.Event, error) { return f.store.SignalEvents(ctx, streamID, limit) })
}

// Acknowledge implements [sharedsignal.Store].
func (f *Failing) Acknowledge(ctx context.Context, streamID string, jtis []string) error {
	return f.do("Acknowledge", func() error { return f.store.Acknowledge(ctx, streamID, jtis) })
}

// LeaseStreams implements [sharedsignal.Store].
func (f *Failing) LeaseStreams(ctx context.Context, at, until time.Time, limit int) ([]sharedsignal.Stream, error) {
	return result(f, "LeaseStreams", func() ([]sharedsignal.Stream, error) { return f.store.LeaseStreams(ctx, at, until, limit) })
}

// FinishPush implements [sharedsignal.Store].
func (f *Failing) FinishPush(ctx context.Context, streamID string, delivered, refused []string, attempts int, dueAt time.Time) error {
	return f.do("FinishPush", func() error { return f.store.FinishPush(ctx, streamID, delivered, refused, attempts, dueAt) })
}

// SweepSignals implements [sharedsignal.Store].
func (f *Failing) SweepSignals(ctx context.Context, before, at time.Time, limit int) (int, error) {
	return result(f, "SweepSignals", func() (int, error) { return f.store.SweepSignals(ctx, before, at, limit) })
}

// RevokedStatuses implements [statuslist.Store].
func (f *Failing) RevokedStatuses(ctx context.Context, first, last int64) ([]int64, error) {
	return result(f, "RevokedStatuses", func() ([]int64, error) { return f.store.RevokedStatuses(ctx, first, last) })
}

// StatusRange implements [statuslist.Store].
func (f *Failing) StatusRange(ctx context.Context) (least, greatest int64, err error) {
	err = f.do("StatusRange", func() (err error) {
		least, greatest, err = f.store.StatusRange(ctx)
		return err
	})
	return least, greatest, err
}

// BlockToken implements [statuslist.Store].
func (f *Failing) BlockToken(ctx context.Context, number int64, iat time.Time, entry blocklist.Entry, e audit.Event) error {
	return f.do("BlockToken", func() error { return f.store.BlockToken(ctx, number, iat, entry, e) })
}

// SweepStatuses implements [statuslist.Store].
func (f *Failing) SweepStatuses(ctx context.Context, before time.Time, limit int) (int, error) {
	return result(f, "SweepStatuses", func() (int, error) { return f.store.SweepStatuses(ctx, before, limit) })
}

// DropBlocklist implements [blocklist.Store].
func (f *Failing) DropBlocklist(ctx context.Context, at time.Time, limit int) (int, error) {
	return result(f, "DropBlocklist", func() (int, error) { return f.store.DropBlocklist(ctx, at, limit) })
}

// Wait implements [blocklist.Store].
func (f *Failing) Wait(ctx context.Context) error {
	return f.do("Wait", func() error { return f.store.Wait(ctx) })
}

// SigningKeys implements [keyring.Store].
func (f *Failing) SigningKeys(ctx context.Context) ([]keyring.Record, error) {
	return result(f, "SigningKeys", func() ([]keyring.Record, error) { return f.store.SigningKeys(ctx) })
}

// InsertSigningKey implements [keyring.Store].
func (f *Failing) InsertSigningKey(ctx context.Context, insertion keyring.Insertion) error {
	return f.do("InsertSigningKey", func() error { return f.store.InsertSigningKey(ctx, insertion) })
}

// ActivateSigningKey implements [keyring.Store].
func (f *Failing) ActivateSigningKey(ctx context.Context, activation keyring.Activation) error {
	return f.do("ActivateSigningKey", func() error { return f.store.ActivateSigningKey(ctx, activation) })
}

// RevokeSigningKey implements [keyring.Store].
func (f *Failing) RevokeSigningKey(ctx context.Context, revocation keyring.Revocation) error {
	return f.do("RevokeSigningKey", func() error { return f.store.RevokeSigningKey(ctx, revocation) })
}

// DeleteSigningKeys implements [keyring.Store].
func (f *Failing) DeleteSigningKeys(ctx context.Context, at time.Time) error {
	return f.do("DeleteSigningKeys", func() error { return f.store.DeleteSigningKeys(ctx, at) })
}

// CreateClient implements [oauth.ClientStore].
func (f *Failing) CreateClient(ctx context.Context, c oauth.Client, e audit.Event) error {
	return f.do("CreateClient", func() error { return f.store.CreateClient(ctx, c, e) })
}

// Client implements [oauth.ClientStore].
func (f *Failing) Client(ctx context.Context, id string) (oauth.Client, error) {
	return result(f, "Client", func() (oauth.Client, error) { return f.store.Client(ctx, id) })
}

// Clients implements [oauth.ClientStore].
func (f *Failing) Clients(ctx context.Context, after string, limit int) ([]oauth.Client, error) {
	return result(f, "Clients", func() ([]oauth.Client, error) { return f.store.Clients(ctx, after, limit) })
}

// ClientsChangedSince implements [oauth.ClientStore].
func (f *Failing) ClientsChangedSince(ctx context.Context, at time.Time) ([]oauth.Client, error) {
	return result(f, "ClientsChangedSince", func() ([]oauth.Client, error) { return f.store.ClientsChangedSince(ctx, at) })
}

// DisableClient implements [oauth.ClientStore].
func (f *Failing) DisableClient(ctx context.Context, id string, at time.Time, entry blocklist.Entry, e audit.Event) error {
	return f.do("DisableClient", func() error { return f.store.DisableClient(ctx, id, at, entry, e) })
}

// SaveCode implements [oauth.BrowserStore].
func (f *Failing) SaveCode(ctx context.Context, c oauth.Code) error {
	return f.do("SaveCode", func() error { return f.store.SaveCode(ctx, c) })
}

// Code implements [oauth.BrowserStore].
func (f *Failing) Code(ctx context.Context, h oauth.Hash) (oauth.Code, error) {
	return result(f, "Code", func() (oauth.Code, error) { return f.store.Code(ctx, h) })
}

// RedeemCode implements [oauth.BrowserStore].
func (f *Failing) RedeemCode(ctx context.Context, h oauth.Hash, s session.Start) (session.Started, error) {
	return result(f, "RedeemCode", func() (session.Started, error) { return f.store.RedeemCode(ctx, h, s) })
}

// SaveBrowserSession implements [oauth.BrowserStore].
func (f *Failing) SaveBrowserSession(ctx context.Context, b oauth.BrowserSession, replaces oauth.Hash) error {
	return f.do("SaveBrowserSession", func() error { return f.store.SaveBrowserSession(ctx, b, replaces) })
}

// BrowserSession implements [oauth.BrowserStore].
func (f *Failing) BrowserSession(ctx context.Context, h oauth.Hash, at time.Time) (oauth.BrowserSession, error) {
	return result(f, "BrowserSession", func() (oauth.BrowserSession, error) { return f.store.BrowserSession(ctx, h, at) })
}

// EndBrowserSession implements [oauth.BrowserStore].
func (f *Failing) EndBrowserSession(ctx context.Context, h oauth.Hash, e session.Ending) ([]session.ID, error) {
	return result(f, "EndBrowserSession", func() ([]session.ID, error) { return f.store.EndBrowserSession(ctx, h, e) })
}

// SavePushedRequest implements [oauth.BrowserStore].
func (f *Failing) SavePushedRequest(ctx context.Context, r oauth.PushedRequest) error {
	return f.do("SavePushedRequest", func() error { return f.store.SavePushedRequest(ctx, r) })
}

// TakePushedRequest implements [oauth.BrowserStore].
func (f *Failing) TakePushedRequest(ctx context.Context, h oauth.Hash, at time.Time) (oauth.PushedRequest, error) {
	return result(f, "TakePushedRequest", func() (oauth.PushedRequest, error) { return f.store.TakePushedRequest(ctx, h, at) })
}

// Consent implements [oauth.BrowserStore].
func (f *Failing) Consent(ctx context.Context, userID, clientID string) (oauth.Consent, error) {
	return result(f, "Consent", func() (oauth.Consent, error) { return f.store.Consent(ctx, userID, clientID) })
}

// Consents implements [oauth.BrowserStore].
func (f *Failing) Consents(ctx context.Context, userID string) ([]oauth.Consent, error) {
	return result(f, "Consents", func() ([]oauth.Consent, error) { return f.store.Consents(ctx, userID) })
}

// SaveConsent implements [oauth.BrowserStore].
func (f *Failing) SaveConsent(ctx context.Context, c oauth.Consent, e audit.Event) error {
	return f.do("SaveConsent", func() error { return f.store.SaveConsent(ctx, c, e) })
}

// RevokeConsent implements [oauth.BrowserStore].
func (f *Failing) RevokeConsent(ctx context.Context, userID, clientID string, e session.Ending) ([]session.ID, error) {
	return result(f, "RevokeConsent", func() ([]session.ID, error) { return f.store.RevokeConsent(ctx, userID, clientID, e) })
}

// LeaseLogoutDeliveries implements [oauth.BrowserStore].
func (f *Failing) LeaseLogoutDeliveries(ctx context.Context, at, until time.Time, limit int) ([]oauth.LogoutDelivery, error) {
	return result(f, "LeaseLogoutDeliveries", func() ([]oauth.LogoutDelivery, error) { return f.store.LeaseLogoutDeliveries(ctx, at, until, limit) })
}

// FinishLogoutDelivery implements [oauth.BrowserStore].
func (f *Failing) FinishLogoutDelivery(ctx context.Context, id int64, retryAt time.Time) error {
	return f.do("FinishLogoutDelivery", func() error { return f.store.FinishLogoutDelivery(ctx, id, retryAt) })
}

// SweepBrowser implements [oauth.BrowserStore].
func (f *Failing) SweepBrowser(ctx context.Context, before time.Time, limit int) (int, error) {
	return result(f, "SweepBrowser", func() (int, error) { return f.store.SweepBrowser(ctx, before, limit) })
}

// SaveAttempt implements [upstream.Store].
func (f *Failing) SaveAttempt(ctx context.Context, a upstream.Attempt) error {
	return f.do("SaveAttempt", func() error { return f.store.SaveAttempt(ctx, a) })
}

// TakeAttempt implements [upstream.Store].
func (f *Failing) TakeAttempt(ctx context.Context, stateHash [32]byte, at time.Time) (upstream.Attempt, error) {
	return result(f, "TakeAttempt", func() (upstream.Attempt, error) { return f.store.TakeAttempt(ctx, stateHash, at) })
}

// UseIDToken implements [upstream.Store].
func (f *Failing) UseIDToken(ctx context.Context, tokenHash [32]byte, expiresAt time.Time) error {
	return f.do("UseIDToken", func() error { return f.store.UseIDToken(ctx, tokenHash, expiresAt) })
}

// Known implements [upstream.Store].
func (f *Failing) Known(ctx context.Context, q upstream.Question) (upstream.Known, error) {
	return result(f, "Known", func() (upstream.Known, error) { return f.store.Known(ctx, q) })
}

// LinkIdentity implements [upstream.Store].
func (f *Failing) LinkIdentity(ctx context.Context, l upstream.Link, verifiedEmail string) error {
	return f.do("LinkIdentity", func() error { return f.store.LinkIdentity(ctx, l, verifiedEmail) })
}

// AdoptUser implements [upstream.Store].
func (f *Failing) AdoptUser(ctx context.Context, a upstream.Adoption) error {
	return f.do("AdoptUser", func() error { return f.store.AdoptUser(ctx, a) })
}

// CreateUserWithIdentity implements [upstream.Store].
func (f *Failing) CreateUserWithIdentity(ctx context.Context, u user.User, l upstream.Link) error {
	return f.do("CreateUserWithIdentity", func() error { return f.store.CreateUserWithIdentity(ctx, u, l) })
}

// Identities implements [upstream.Store].
func (f *Failing) Identities(ctx context.Context, userID string) ([]upstream.LinkedIdentity, error) {
	return result(f, "Identities", func() ([]upstream.LinkedIdentity, error) { return f.store.Identities(ctx, userID) })
}

// RemoveIdentity implements [upstream.Store].
func (f *Failing) RemoveIdentity(ctx context.Context, r upstream.Removal) error {
	return f.do("RemoveIdentity", func() error { return f.store.RemoveIdentity(ctx, r) })
}

// SaveTokens implements [upstream.Store].
func (f *Failing) SaveTokens(ctx context.Context, provider, subject string, sealed []byte) error {
	return f.do("SaveTokens", func() error { return f.store.SaveTokens(ctx, provider, subject, sealed) })
}

// Tokens implements [upstream.Store].
func (f *Failing) Tokens(ctx context.Context, userID, provider string) (upstream.TokenRow, error) {
	return result(f, "Tokens", func() (upstream.TokenRow, error) { return f.store.Tokens(ctx, userID, provider) })
}

// LeaseTokens implements [upstream.Store].
func (f *Failing) LeaseTokens(ctx context.Context, row upstream.TokenRow, at, until time.Time) (int64, error) {
	return result(f, "LeaseTokens", func() (int64, error) { return f.store.LeaseTokens(ctx, row, at, until) })
}

// FinishTokens implements [upstream.Store].
func (f *Failing) FinishTokens(ctx context.Context, row upstream.TokenRow) error {
	return f.do("FinishTokens", func() error { return f.store.FinishTokens(ctx, row) })
}

// SweepUpstream implements [upstream.Store].
func (f *Failing) SweepUpstream(ctx context.Context, before time.Time, limit int) (int, error) {
	return result(f, "SweepUpstream", func() (int, error) { return f.store.SweepUpstream(ctx, before, limit) })
}

// Migrate implements [store.Store].
func (f *Failing) Migrate(ctx context.Context) error {
	return f.do("Migrate", func() error { return f.store.Migrate(ctx) })
}

// Ping implements [store.Store].
func (f *Failing) Ping(ctx context.Context) error {
	return f.do("Ping", func() error { return f.store.Ping(ctx) })
}

// Schema implements [store.Store].
func (f *Failing) Schema(ctx context.Context) (current, newest int64, err error) {
	versions, err := result(f, "Schema", func() (v [2]int64, err error) {
		v[0], v[1], err = f.store.Schema(ctx)
		return v, err
	})
	return versions[0], versions[1], err
}

// Close implements [store.Store]. It never fails.
func (f *Failing) Close() error { return f.store.Close() }
