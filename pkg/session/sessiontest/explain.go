package sessiontest

// Call is something that was done to a session, as it looks from outside.
type Call struct {
	Name     string
	Began    int // place among all beginnings and ends of calls
	Returned int
	Step     func(s State) []Outcome
	Answer   Answer
	Unknown  bool // nobody knows whether it was done, or what it would have answered
}

// Outcome is what a call may do and answer.
type Outcome struct {
	State  State
	Answer Answer
}

// Explain returns the states in which calls that overlapped may have left a session, from the states in which it may
// have been: the calls happened at once each, somewhere between beginning and return. No state means that nothing
// explains the answers.
func Explain(before []State, calls []Call, same func(got, want Answer) bool) []State {
	type place struct {
		done  uint64
		state State
	}
	seen := make(map[place]bool)
	after := make(map[State]bool)
	all := uint64(1)<<len(calls) - 1

	var visit func(p place)
	visit = func(p place) {
		if seen[p] {
			return
		}
		seen[p] = true
		if p.done == all {
			after[p.state] = true
			return
		}
		for i, c := range calls {
			if p.done&(1<<i) != 0 || !next(calls, p.done, c) {
				continue
			}
			if c.Unknown {
				visit(place{p.done | 1<<i, p.state})
			}
			for _, o := range c.Step(p.state) {
				if c.Unknown || same(c.Answer, o.Answer) {
					visit(place{p.done | 1<<i, o.State})
				}
			}
		}
	}
	for _, s := range before {
		visit(place{0, s})
	}
	states := make([]State, 0, len(after))
	for s := range after {
		states = append(states, s)
	}
	return states
}

// next reports whether a call may be the next: no other had returned before it began.
func next(calls []Call, done uint64, c Call) bool {
	for i, other := range calls {
		if done&(1<<i) == 0 && other.Returned < c.Began {
			return false
		}
	}
	return true
}
