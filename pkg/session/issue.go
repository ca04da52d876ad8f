package session

import (
	"slices"
	"strings"
	"time"
)

// UserState and ClientState are the facts about user and client that issuing depends on. The zero value of neither
// lets anything pass.
type UserState struct {
	Known    bool
	Disabled bool
}

// ClientState says whether a client is known and enabled.
type ClientState struct {
	Known    bool
	Disabled bool
}

// MayIssue is the one decision on whether a token may be issued: every path that issues one passes it, with facts
// that were read in the transaction that writes. scope is what the token is to carry, empty for all that was granted.
// A session's row carries its user's state: whatever disables a user ends the user's sessions in the same transaction.
func MayIssue(u UserState, s Session, c ClientState, scope string, at time.Time) error {
	switch {
	case !u.Known:
		return ErrUserChanged
	case u.Disabled:
		return ErrUserDisabled
	case !c.Known, c.Disabled:
		return ErrClientDisabled
	case !s.Alive(at):
		return ErrEnded
	case !ScopeWithin(scope, s.Scope):
		return ErrScope
	}
	return nil
}

// ScopeWithin reports whether each scope value of part is one of whole. Values are separated by spaces, not by whatever else
// looks like one (RFC 6749, section 3.3).
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
