// Package storetest tests every kind of database for the same behaviour: [Run] is the conformance suite that each
// implementation of store.Store passes, and [Fail] makes any of them fail on demand.
package storetest

import (
	"crypto/rand"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/user"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// Run holds an implementation of store.Store to the contract. open returns two handles to one database that is new and not
// yet migrated, as two replicas of the service have them, and closes both when the test ends. It is called about twenty times.
func Run(t *testing.T, open func(t *testing.T) (first, second store.Store)) {
	t.Helper()
	t.Run("Schema", func(t *testing.T) { testSchema(t, open) })

	groups := []struct {
		name string
		run  func(s *suite)
	}{
		{"Users", testUsers},
		{"LoginAttempts", testLoginAttempts},
		{"Start", testStart},
		{"Rotate", testRotate},
		{"Sessions", testSessions},
		{"Forks", testForks},
		{"Roles", testRoles},
		{"Blocklist", testBlocklist},
		{"Keys", testKeys},
		{"Clients", testClients},
		{"Events", testEvents},
		{"Races", testRaces},
		{"Codes", testCodes},
		{"BrowserSessions", testBrowserSessions},
		{"PushedRequests", testPushedRequests},
		{"Consents", testConsents},
		{"Outbox", testOutbox},
		{"Mail", testMail},
		{"Proofs", testProofs},
		{"BrowserRaces", testBrowserRaces},
		{"Attempts", testAttempts},
		{"Identities", testIdentities},
		{"Tokens", testTokens},
		{"Factors", testFactors},
		{"Statuses", testStatuses},
		{"Signals", testSignals},
		{"Wait", testWait},
	}
	for _, g := range groups {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			first, second := open(t)
			if err := first.Migrate(t.Context()); err != nil {
				t.Fatalf("Migrate: %v", err)
			}
			g.run(&suite{T: t, first: first, second: second, serial: new(atomic.Int64)})
		})
	}
}

// suite is a group of cases over one migrated database. Cases share it and keep to users of their own.
type suite struct {
	*testing.T
	first, second store.Store
	serial        *atomic.Int64
}

// run runs one case.
func (s *suite) run(name string, test func(s *suite)) {
	s.Helper()
	s.Run(name, func(t *testing.T) {
		test(&suite{T: t, first: s.first, second: s.second, serial: s.serial})
	})
}

// must ends the test if an error is not nil.
func (s *suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("unexpected error: %v", err)
	}
}

// same compares; lists that are nil and lists that are empty are the same, times are when they say.
func (s *suite) same(what string, got, want any) {
	s.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		s.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// now is the time of day in most cases. It has more precision than databases keep.
func now() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 123_456_789, time.UTC) }

// stored is what a database keeps of a time.
func stored(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// lifetime is longer than any access token's life.
const lifetime = 17 * time.Minute

func blockUntil(at time.Time) time.Time { return at.Add(lifetime).Truncate(time.Second) }

// newUser returns a user nobody has stored.
func (s *suite) newUser() user.User {
	n := s.serial.Add(1)
	return user.User{
		ID: user.NewID(now().Add(time.Duration(n) * time.Millisecond)), Email: fmt.Sprintf("User%d@example.test", n),
		PasswordHash: "$argon2id$" + rand.Text(), Roles: []string{"member", "editor"}, CreatedAt: now(), UpdatedAt: now(),
	}
}

// user stores a new user.
func (s *suite) user() user.User {
	s.Helper()
	u := s.newUser()
	s.must(s.first.CreateUser(s.Context(), u, s.event(audit.KindUserCreated, u.ID)))
	return u
}

// event returns an event with every field set.
func (s *suite) event(kind audit.Kind, userID string) audit.Event {
	return audit.Event{
		At: now(), Kind: kind, Actor: audit.ActorCLI, UserID: userID, SessionID: "ses_x", ClientID: oauth.DefaultClientID,
		Reason: fmt.Sprintf("reason %d", s.serial.Add(1)),
		Origin: audit.Origin{IP: "2001:db8::1", UserAgent: "Mozilla/5.0 \"ünïcode\" '; --", RequestID: rand.Text()},
	}
}

// wantEvent checks that this event was recorded, once and as it is, and no other by its request but of the kinds besides.
func (s *suite) wantEvent(e audit.Event, besides ...audit.Kind) {
	s.Helper()
	events, err := s.second.Events(s.Context(), e.UserID, audit.Cursor{}, 1000)
	s.must(err)
	events = slices.DeleteFunc(events, func(o audit.Event) bool {
		return o.RequestID != e.RequestID ||
			slices.Contains(besides, o.Kind)
	})
	e.At = stored(e.At)
	if len(events) == 1 {
		e.ID = events[0].ID // the store gave it
	}
	s.same("event", events, []audit.Event{e})
}

// countEvents counts the user's events of a kind.
func (s *suite) countEvents(userID string, kind audit.Kind) (n int) {
	s.Helper()
	events, err := s.second.Events(s.Context(), userID, audit.Cursor{}, 1000)
	s.must(err)
	for _, e := range events {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

// newSession returns a session nobody has stored.
func (s *suite) newSession(userID string) session.Session {
	var nonce session.Nonce
	rand.Read(nonce[:])
	at := now().Add(time.Duration(s.serial.Add(1)) * time.Millisecond)
	return session.Session{
		ID: session.NewID(at), UserID: userID, ClientID: oauth.DefaultClientID, Generation: 1, Nonce: nonce,
		RotatedAt: at, IdleExpiresAt: now().Add(7 * 24 * time.Hour), ExpiresAt: now().Add(30 * 24 * time.Hour),
		Scope: "reports:read reports:write", Audience: []string{"https://api.example.test", "b"}, IATFloor: now().Unix(),
		AMR: []string{"pwd", "otp"}, ACR: "2", AuthTime: now().Add(-time.Second), UserAgent: "curl/8", IP: "192.0.2.7", CreatedAt: at,
	}
}

// starting asks to start a session without conditions on password and number.
func (s *suite) starting(row session.Session) session.Start {
	e := s.event(audit.KindLoggedIn, row.UserID)
	e.At = row.CreatedAt
	return session.Start{Session: row, Limit: 1000, BlockUntil: blockUntil(row.CreatedAt), Event: e}
}

// session starts a session of a user.
func (s *suite) session(userID string) session.Session {
	s.Helper()
	return s.start(s.starting(s.newSession(userID)))
}

func (s *suite) start(start session.Start) session.Session {
	s.Helper()
	started, err := s.first.Start(s.Context(), start)
	s.must(err)
	if !started.Created {
		s.Fatalf("session was not started: %+v", started)
	}
	return s.read(start.Session.ID)
}

// read reads a session by the other handle than the one that writes.
func (s *suite) read(id session.ID) session.Session {
	s.Helper()
	row, err := s.second.Session(s.Context(), id)
	s.must(err)
	return row
}

// ending ends sessions at a time.
func (s *suite) ending(userID string, at time.Time, kind audit.Kind, reason session.Reason) session.Ending {
	e := s.event(kind, userID)
	e.At = at
	return session.Ending{At: at, Reason: reason, BlockUntil: blockUntil(at), Event: e}
}

// client stores a new public client.
func (s *suite) client() oauth.Client {
	s.Helper()
	c := oauth.Client{
		ID: fmt.Sprintf("client-%04d", s.serial.Add(1)), Type: oauth.Public, Grants: []string{oauth.GrantRefreshToken},
		CreatedAt: now(), UpdatedAt: now(),
	}
	s.must(s.first.CreateClient(s.Context(), c, s.event(audit.KindClientCreated, "")))
	return c
}

// blocked returns the entry against a sid, and whether there is one.
func (s *suite) blocked(id session.ID) (blocklist.Entry, bool) {
	s.Helper()
	return s.entry(verifier.KeyOf(verifier.BlockSID, id.String()))
}

func (s *suite) entry(key verifier.BlockKey) (blocklist.Entry, bool) {
	s.Helper()
	all, err := s.second.BlocklistChanges(s.Context(), "")
	s.must(err)
	for _, e := range all.Entries {
		if e.Key == key {
			return e, true
		}
	}
	return blocklist.Entry{}, false
}

// wantEnded checks that a session is over for this reason and that its access tokens are blocked.
func (s *suite) wantEnded(id session.ID, at time.Time, reason session.Reason) {
	s.Helper()
	row := s.read(id)
	s.same("RevokedAt", row.RevokedAt, stored(at))
	s.same("RevokeReason", row.RevokeReason, reason)
	e, ok := s.blocked(id)
	if !ok {
		s.Fatalf("the sid of the ended session is not blocked")
	}
	s.same("entry", e, blocklist.Entry{Key: e.Key, NotBefore: blockUntil(at), DropAfter: blockUntil(at)})
}

// wantLive checks that a session is as before and not blocked.
func (s *suite) wantLive(want session.Session) {
	s.Helper()
	s.same("session", s.read(want.ID), want)
	if _, ok := s.blocked(want.ID); ok {
		s.Error("the sid of the live session is blocked")
	}
}
