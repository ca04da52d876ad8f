package session

import (
	"errors"
	"testing"
	"time"
)

func TestMayIssue(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	alive := Session{Scope: "openid profile", IdleExpiresAt: at.Add(time.Hour), ExpiresAt: at.Add(time.Hour)}
	revoked, idle, ended := alive, alive, alive
	revoked.RevokedAt = at
	idle.IdleExpiresAt, ended.ExpiresAt = at, at
	var (
		user   = userState{Known: true}
		client = ClientState{Known: true}
	)
	for name, test := range map[string]struct {
		user    userState
		session Session
		client  ClientState
		scope   string
		want    error
	}{
		"ok/all of the grant":        {user, alive, client, "", nil},
		"ok/the grant, spelled out":  {user, alive, client, "openid profile", nil},
		"ok/part of the grant":       {user, alive, client, "profile", nil},
		"fail/nothing is known":      {userState{}, Session{}, ClientState{}, "", ErrUserChanged},
		"fail/unknown user":          {userState{}, alive, client, "", ErrUserChanged},
		"fail/disabled user":         {userState{Known: true, Disabled: true}, alive, client, "", ErrUserDisabled},
		"fail/disabled unknown user": {userState{Disabled: true}, alive, client, "", ErrUserChanged},
		"fail/unknown client":        {user, alive, ClientState{}, "", ErrClientDisabled},
		"fail/disabled client":       {user, alive, ClientState{Known: true, Disabled: true}, "", ErrClientDisabled},
		"fail/revoked session":       {user, revoked, client, "", ErrEnded},
		"fail/idle session":          {user, idle, client, "", ErrEnded},
		"fail/ended session":         {user, ended, client, "", ErrEnded},
		"fail/no session":            {user, Session{}, client, "", ErrEnded},
		"fail/more than the grant":   {user, alive, client, "openid email", ErrScope},
		"fail/an unknown scope":      {user, alive, client, "admin", ErrScope},
		"fail/everything at once": {userState{Known: true, Disabled: true}, revoked, ClientState{Known: true, Disabled: true},
			"admin", ErrUserDisabled},
		"fail/another spelling":        {user, alive, client, "OpenID", ErrScope},
		"fail/part of a scope's name":  {user, alive, client, "open", ErrScope},
		"fail/two scopes as one value": {user, alive, client, "openid\u00a0profile", ErrScope},
	} {
		t.Run(name, func(t *testing.T) {
			if err := mayIssue(test.user, test.session, test.client, test.scope, at); !errors.Is(err, test.want) {
				t.Errorf("%v, want %v", err, test.want)
			}
		})
	}
}

func TestMayRefresh(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	alive := Session{Scope: "openid profile", IdleExpiresAt: at.Add(time.Hour), ExpiresAt: at.Add(time.Hour)}
	revoked, disabled, both := alive, alive, alive
	revoked.RevokedAt = at
	disabled.ClientDisabled = true
	both.ClientDisabled, both.RevokedAt = true, at
	for name, test := range map[string]struct {
		session Session
		scope   string
		want    error
	}{
		"ok/all of the grant":                  {alive, "", nil},
		"ok/part of the grant":                 {alive, "openid", nil},
		"fail/no session":                      {Session{}, "", ErrEnded},
		"fail/revoked":                         {revoked, "", ErrEnded},
		"fail/disabled client":                 {disabled, "", ErrClientDisabled},
		"fail/disabled client, revoked":        {both, "admin", ErrClientDisabled},
		"fail/more than the grant":             {alive, "openid email", ErrScope},
		"fail/more than the grant of an ended": {revoked, "email", ErrEnded},
	} {
		t.Run(name, func(t *testing.T) {
			if err := mayRefresh(test.session, test.scope, at); !errors.Is(err, test.want) {
				t.Errorf("%v, want %v", err, test.want)
			}
		})
	}
}

func TestMayIssueToClient(t *testing.T) {
	client := ClientState{Known: true}
	for name, test := range map[string]struct {
		client ClientState
		scope  string
		want   error
	}{
		"ok/all":                 {client, "orders:read orders:write", nil},
		"ok/part":                {client, "orders:write", nil},
		"ok/none":                {client, "", nil},
		"fail/unknown":           {ClientState{}, "", ErrClientDisabled},
		"fail/disabled":          {ClientState{Known: true, Disabled: true}, "admin", ErrClientDisabled},
		"fail/more than allowed": {client, "orders:read admin", ErrScope},
	} {
		t.Run(name, func(t *testing.T) {
			if err := MayIssueToClient(test.client, test.scope, "orders:read orders:write"); !errors.Is(err, test.want) {
				t.Errorf("%v, want %v", err, test.want)
			}
		})
	}
}

func TestScopeWithin(t *testing.T) {
	for name, test := range map[string]struct {
		part, whole string
		want        bool
	}{
		"ok/nothing of nothing":     {"", "", true},
		"ok/nothing":                {"", "a b", true},
		"ok/all":                    {"a b", "a b", true},
		"ok/all, turned round":      {"b a", "a b", true},
		"ok/twice":                  {"a a", "a b", true},
		"ok/with spaces around":     {" a ", "a b", true},
		"fail/something of nothing": {"a", "", false},
		"fail/one too many":         {"a b c", "a b", false},
		"fail/a prefix":             {"rea", "read", false},
		"fail/an extension":         {"read", "rea", false},
		"fail/joined":               {"ab", "a b", false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := ScopeWithin(test.part, test.whole); got != test.want {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
}
