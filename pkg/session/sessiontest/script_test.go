package sessiontest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"pgregory.net/rapid"
)

// script is a history before it has happened. It names no token and no time: what a move means depends on what came before.
type script struct {
	Replicas int
	Keyed    [sessions]bool // whether the owner sends an Idempotency-Key
	Rounds   []round
}

// sessions is how many logins of one user a history is about.
const sessions = 2

// round is what happens at one time, all of it at once.
type round struct {
	Moves   []move
	Fault   fault
	Call    int // which call the fault hits
	Replica int // which replica
	Restart bool
	Pause   int // how long nothing happens afterwards
}

// move is what somebody does.
type move struct {
	Do      verb
	Session int
	Replica int
	Copies  int  // tabs of one client, or requests that the network duplicated; over several replicas
	Lose    bool // the answers never arrive
	Hold    bool // one more copy stays in the network until the next move of this party
	Keyed   bool // a thief sends an Idempotency-Key
	Old     int  // which old token
}

type verb int

const (
	refresh   verb = iota // the owner refreshes
	steal                 // a thief copies the owner's token
	stealMore             // a thief copies the owner's token and the Idempotency-Key that lies beside it
	abuse                 // the thief refreshes
	dig                   // somebody finds an old token, perhaps with its Idempotency-Key, and presents it
	stray                 // the owner's token is presented by another client
	fork                  // the owner starts a child for a second holder, or a thief does
	leave                 // the second holder logs out, and the owner with it
	logout
	logoutAll
	roles
	rewind // the database comes back in an older state
)

func (v verb) String() string {
	return [...]string{"refresh", "steal", "steal with key", "abuse", "dig up", "stray", "fork", "leave", "log out",
		"log out everywhere",
		"change roles", "rewind"}[v]
}

// drawScript draws a history. The database restarts in one of so many rounds; 0 for never.
func drawScript(rt *rapid.T, pauses int, faults []fault, restarts int) script {
	s := script{Replicas: rapid.IntRange(1, 3).Draw(rt, "replicas")}
	for i := range s.Keyed {
		s.Keyed[i] = rapid.Bool().Draw(rt, "keyed")
	}
	weights := map[verb]int{refresh: 20, stray: 1, fork: 3, leave: 1, roles: 3, rewind: 1, logout: 3, logoutAll: 1}
	if rapid.Bool().Draw(rt, "thieves") {
		maps.Copy(weights, map[verb]int{steal: 3, stealMore: 3, abuse: 12, dig: 2})
	}
	var verbs []verb
	for v := refresh; v <= rewind; v++ { // in order, so that a seed always gives the same script
		verbs = append(verbs, slices.Repeat([]verb{v}, weights[v])...)
	}
	drawMove := rapid.Custom(func(rt *rapid.T) move {
		return move{
			Do:      rapid.SampledFrom(verbs).Draw(rt, "do"),
			Session: rapid.SampledFrom([]int{0, 0, 1}).Draw(rt, "session"),
			Replica: rapid.IntRange(0, 2).Draw(rt, "replica"),
			Copies:  rapid.SampledFrom([]int{1, 1, 1, 2, 4}).Draw(rt, "copies"),
			Lose:    rapid.SampledFrom([]bool{false, false, true}).Draw(rt, "lose"),
			Hold:    rapid.SampledFrom([]bool{false, false, false, true}).Draw(rt, "hold"),
			Keyed:   rapid.Bool().Draw(rt, "thief keyed"),
			Old:     rapid.IntRange(0, 9).Draw(rt, "old"),
		}
	})
	drawRound := rapid.Custom(func(rt *rapid.T) round {
		r := round{
			Moves:   rapid.SliceOfN(drawMove, 1, 3).Draw(rt, "moves"),
			Pause:   rapid.IntRange(0, pauses-1).Draw(rt, "pause"),
			Replica: rapid.IntRange(0, 2).Draw(rt, "faulty"),
		}
		if rapid.IntRange(0, 3).Draw(rt, "healthy") == 0 {
			r.Fault = rapid.SampledFrom(faults).Draw(rt, "fault")
			r.Call = rapid.SampledFrom([]int{0, 0, 0, 1, 2}).Draw(rt, "call")
		}
		r.Restart = restarts > 0 && rapid.IntRange(1, restarts).Draw(rt, "restart") == 1
		return r
	})
	s.Rounds = rapid.SliceOfN(drawRound, 3, 20).Draw(rt, "rounds")
	return s
}

// String prints a script, one round a line.
func (s script) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d replicas, keyed %v\n", s.Replicas, s.Keyed)
	for i, r := range s.Rounds {
		fmt.Fprintf(&b, "%2d", i)
		for _, m := range r.Moves {
			fmt.Fprintf(&b, " | %s session %d x%d on %d", m.Do, m.Session, m.Copies, m.Replica)
			if m.Lose {
				b.WriteString(" lost")
			}
			if m.Hold {
				b.WriteString(" held")
			}
		}
		fmt.Fprintf(&b, " | %s call %d of %d, restart %v, pause %d\n", r.Fault, r.Call, r.Replica, r.Restart, r.Pause)
	}
	return b.String()
}
