package session

import (
	"slices"
	"strings"
	"time"

	"github.com/handstamp/handstamp/pkg/user"
)

// Nothing is issued but by one of the three rules of this file, each with facts that the database told: a login passes
// mayIssue, a refresh passes mayRefresh, and a client that acts for itself passes MayIssueToClient.

// userState and ClientState are the facts about user and client that issuing depends on. The zero value of neither
// lets anything pass.
type userState struct {
	Known      bool
	Disabled   bool
	HasFactors bool // besides a password
}

// ClientState says whether a client is known and enabled.
type ClientState struct {
	Known    bool
	Disabled bool
}

// mayIssue decides whether a session may begin, with facts that were read in the transaction that writes. scope is what
// the token is to carry, empty for all that was granted.
func mayIssue(u userState, s Session, c ClientState, scope string, at time.Time) error {
	switch {
	case !u.Known:
		return ErrUserChanged
	case u.Disabled:
		return ErrUserDisabled
	case u.HasFactors && !s.showsFactors():
		return user.ErrFactorNeeded
	}
	s.ClientDisabled = !c.Known || c.Disabled
	return mayRefresh(s, scope, at)
}

// showsFactors reports whether the login that began the session showed more than one factor (RFC 8176, section 2).
func (s *Session) showsFactors() bool { return slices.Contains(s.AMR, "mfa") }

// mayRefresh decides from the session's row alone whether a session may continue. It need not read the user: the
// transaction that disables or deletes a user also ends the user's sessions ([EndingStore]). The row's ClientDisabled
// says whether the client is disabled or unknown.
func mayRefresh(s Session, scope string, at time.Time) error {
	switch {
	case s.ClientDisabled:
		return ErrClientDisabled
	case !s.Alive(at):
		return ErrEnded
	case !ScopeWithin(scope, s.Scope):
		return ErrScope
	}
	return nil
}

// MayIssueToClient decides whether a client may have a token of its own, which has neither user nor session (RFC 6749,
// section 4.4). allowed are the scope values that the client may ask for.
func MayIssueToClient(c ClientState, scope, allowed string) error {
	switch {
	case !c.Known, c.Disabled:
		return ErrClientDisabled
	case !ScopeWithin(scope, allowed):
		return ErrScope
	}
	return nil
}

// ScopeWithin reports whether each scope value of part is one of whole. Only the space character separates
// values, not other white space (RFC 6749, section 3.3).
func ScopeWithin(part, whole string) bool {
	if part == "" || part == whole {
		return true
	}
	granted := strings.Split(whole, " ")
	for value := range strings.SplitSeq(part, " ") {
		if value != "" && !slices.Contains(granted, value) {
			return false
		}
	}
	return true
}
