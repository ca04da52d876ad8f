// Package sessiontest tests the session rules against a model of them.
//
// The model says in a page what a presented refresh token gets and what becomes of its session. It shares no code with the
// implementation. The tests play random histories against the real thing - owners, their tabs, thieves, a network and a
// database that fail, replicas that die - and require that the model explains every answer and every row.
package sessiontest

import (
	"math"
	"time"
)

// Rules are the settings that decide over a session. Everything is allowed up to and including Grace, and nothing at an end.
type Rules struct {
	Idle     time.Duration
	Lifetime time.Duration
	Grace    time.Duration
}

// State is all that is true of a session. Instants are durations since the Unix epoch.
type State struct {
	Client     string
	Generation int           // of the newest refresh token
	Made       time.Duration // when it was made
	Key        string        // Idempotency-Key of the request that made it; empty for none
	Earlier    [4]string     // those of the requests that made the generations before, newest first
	IdleEnd    time.Duration
	End        time.Duration
	Over       string // why the session was ended; empty while it was not
	Roles      string
	Floor      int64 // the least iat that the next access token may have, in seconds
	Blocked    int64 // access tokens up to this iat are refused, in seconds
}

// everything is State.Blocked of a session that was ended.
const everything = math.MaxInt64

// Presented is a refresh token as a client shows it.
type Presented struct {
	At         time.Duration
	Generation int
	Client     string
	Key        string
	HeldUp     time.Duration // before At: the request had arrived, and the replica stood still
	Unanswered time.Duration // of the time since the newest generation was made: nobody could be answered
}

// Answer is what a client gets to see. The zero value is a refusal.
type Answer struct {
	OK         bool
	Generation int    // of the refresh token
	IAT        int64  // of the access token, in seconds
	Roles      string // of the access token
}

// Begin is a login.
func (r Rules) Begin(client, roles string, at time.Duration) State {
	return State{
		Client:     client,
		Generation: 1,
		Made:       at,
		IdleEnd:    at + min(r.Idle, r.Lifetime),
		End:        at + r.Lifetime,
		Roles:      roles,
		Floor:      seconds(at),
	}
}

// Refresh is the rule.
func (r Rules) Refresh(s State, p Presented) (State, Answer) {
	behind := s.Generation - p.Generation
	arrived := p.At - p.HeldUp
	switch {
	case p.Client != s.Client, s.over(p.At):
		return s, Answer{}
	case behind <= 0: // the newest, or the database has forgotten it
		if behind == 0 {
			s.Earlier = [4]string{s.Key, s.Earlier[0], s.Earlier[1], s.Earlier[2]}
		} else {
			s.Earlier = [4]string{}
		}
		s.Generation, s.Made, s.Key, s.IdleEnd = p.Generation+1, p.At, p.Key, min(p.At+r.Idle, s.End)
	case behind == 1 && p.Key != "" && p.Key == s.Key:
	case behind == 1 && r.Grace > 0 && arrived <= s.Made+r.Grace+p.Unanswered:
	case arrived < s.Made: // held up on its way: it does not know what became of the session
		return s, Answer{}
	case p.Key != "" && behind >= 2 && behind <= 5 && p.Key == s.Earlier[behind-2]: // an honest request a second time
		return s, Answer{}
	default:
		return s.Ended("reuse", p.At), Answer{}
	}
	s.Floor = max(s.Floor, seconds(p.At))
	return s, Answer{OK: true, Generation: s.Generation, IAT: s.Floor, Roles: s.Roles}
}

// Fork is the rule of a fork: the token is judged as in a refresh, and the session stays as it is. The answer is the child's.
func (r Rules) Fork(s State, p Presented) (State, Answer) {
	judged, answer := r.Refresh(s, p)
	if !answer.OK {
		return judged, answer
	}
	return s, Answer{OK: true, Generation: 1, IAT: max(s.Floor, seconds(p.At)), Roles: s.Roles}
}

// Ended is the session after something has ended it.
func (s State) Ended(why string, at time.Duration) State {
	if !s.over(at) {
		s.Over, s.Blocked = why, everything
	}
	return s
}

// WithRoles is the session after its user has got other roles: what was minted until now is refused, what comes is not.
func (s State) WithRoles(roles string, at time.Duration) State {
	if !s.over(at) {
		s.Roles, s.Blocked = roles, min(max(s.Floor, seconds(at)), seconds(at)+1)
		s.Floor = s.Blocked + 1
	}
	return s
}

func (s State) over(at time.Duration) bool { return s.Over != "" || at >= s.IdleEnd || at >= s.End }

func seconds(at time.Duration) int64 { return int64(at / time.Second) }
