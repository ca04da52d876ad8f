package sessiontest

import (
	"testing"
	"time"
)

// The model itself, by example: each step is read off the table of rules.
func TestModel(t *testing.T) {
	rules := Rules{Idle: time.Hour, Lifetime: 3 * time.Hour, Grace: 10 * time.Second}
	type step struct {
		after time.Duration // since the step before
		g     int
		key   string
		by    string
		want  int // generation; 0: refused
	}
	for name, steps := range map[string][]step{
		"a chain": {{time.Minute, 1, "", "app", 2}, {time.Minute, 2, "", "app", 3},
			{59 * time.Minute, 3, "", "app", 4}},
		"tabs": {{0, 1, "", "app", 2}, {0, 1, "", "app", 2}, {10 * time.Second, 1, "", "app", 2},
			{0, 2, "", "app", 3}},
		"a late repeat": {{0, 1, "", "app", 2}, {10*time.Second + 1, 1, "", "app", 0}, {0, 2, "", "app", 0}},
		"repeats do not extend": {{0, 1, "", "app", 2}, {9 * time.Second, 1, "", "app", 2},
			{2 * time.Second, 1, "", "app", 0}},
		"a late repeat with the key": {{0, 1, "k", "app", 2}, {59 * time.Minute, 1, "k", "app", 2}, {0, 2, "", "app", 3}},
		"a late copy with its key":   {{0, 1, "k", "app", 2}, {0, 2, "l", "app", 3}, {0, 1, "k", "app", 0}, {0, 3, "", "app", 4}},
		"the key of another":         {{0, 1, "k", "app", 2}, {0, 2, "l", "app", 3}, {0, 1, "l", "app", 0}, {0, 3, "", "app", 0}},
		"a key that is forgotten": {{0, 1, "k", "app", 2}, {0, 2, "", "app", 3}, {0, 3, "", "app", 4}, {0, 4, "", "app", 5},
			{0, 5, "", "app", 6}, {0, 1, "k", "app", 0}, {0, 6, "", "app", 7}, {0, 1, "k", "app", 0}, {0, 7, "", "app", 0}},
		"a key before a jump": {{0, 1, "k", "app", 2}, {0, 5, "", "app", 6}, {0, 1, "k", "app", 0}, {0, 6, "", "app", 0}},
		"another key":         {{0, 1, "k", "app", 2}, {time.Minute, 1, "l", "app", 0}},
		"an old token":        {{0, 1, "", "app", 2}, {0, 2, "", "app", 3}, {0, 1, "", "app", 0}, {0, 3, "", "app", 0}},
		"a stranger": {{0, 1, "", "other", 0}, {0, 1, "", "app", 2}, {time.Minute, 1, "", "other", 0},
			{0, 2, "", "app", 3}},
		"a token the database has lost": {{0, 5, "", "app", 6}, {time.Second, 5, "", "app", 6}, {0, 4, "", "app", 0}},
		"idle":                          {{0, 1, "", "app", 2}, {time.Hour, 2, "", "app", 0}},
		"a repeat does not keep it alive": {{0, 1, "k", "app", 2}, {30 * time.Minute, 1, "k", "app", 2},
			{30 * time.Minute, 2, "", "app", 0}},
		"the absolute end": {
			{59 * time.Minute, 1, "", "app", 2}, {59 * time.Minute, 2, "", "app", 3}, {59 * time.Minute, 3, "", "app", 4},
			{3*time.Minute - 1, 4, "", "app", 5}, {1, 5, "", "app", 0},
		},
	} {
		t.Run(name, func(t *testing.T) {
			at := 1000 * time.Hour
			s := rules.Begin("app", "r", at)
			for i, step := range steps {
				at += step.after
				end := s.End
				var got Answer
				if s, got = rules.Refresh(s, Presented{At: at, Generation: step.g, Client: step.by,
					Key: step.key}); got.OK != (step.want > 0) || got.Generation != step.want {
					t.Fatalf("step %d: %+v, want generation %d", i, got, step.want)
				}
				if s.End != end || s.IdleEnd > end {
					t.Fatalf("step %d: the end moved: %+v", i, s)
				}
			}
		})
	}
	t.Run("fork", func(t *testing.T) {
		at := 1000 * time.Hour
		begun := rules.Begin("app", "r", at)
		s, got := rules.Fork(begun, Presented{At: at + time.Minute, Generation: 1, Client: "app"})
		if s != begun || got != (Answer{OK: true, Generation: 1, IAT: seconds(at) + 60, Roles: "r"}) {
			t.Fatalf("%+v, %+v", s, got)
		}
		moved, _ := rules.Refresh(begun, Presented{At: at, Generation: 1, Client: "app"})
		if s, got = rules.Fork(moved, Presented{At: at, Generation: 1, Client: "app"}); s != moved || !got.OK {
			t.Fatalf("in the grace period: %+v, %+v", s, got)
		}
		if s, got = rules.Fork(moved, Presented{At: at + time.Minute, Generation: 1, Client: "app"}); s.Over != "reuse" || got.OK {
			t.Fatalf("an old token: %+v, %+v", s, got)
		}
	})
	t.Run("roles", func(t *testing.T) {
		at := 1000 * time.Hour
		s := rules.Begin("app", "old", at)
		s = s.WithRoles("new", at)
		s, got := rules.Refresh(s, Presented{At: at, Generation: 1, Client: "app"})
		if got.Roles != "new" || got.IAT != seconds(at)+1 || s.Blocked != seconds(at) {
			t.Fatalf("%+v, %+v", got, s)
		}
		if s = s.WithRoles("newer", at); s.Blocked != seconds(at)+1 || s.Floor != s.Blocked+1 {
			t.Fatalf("%+v", s)
		}
		if s = s.Ended("logout", at); s.Blocked != everything || s.WithRoles("newest", at) != s {
			t.Fatalf("%+v", s)
		}
	})
}

func TestExplain(t *testing.T) {
	rules := Rules{Idle: time.Hour, Lifetime: time.Hour, Grace: time.Second}
	begin := rules.Begin("app", "r", 0)
	present := func(g int, began, returned int, want int) Call {
		return Call{
			Began:    began,
			Returned: returned,
			Answer:   Answer{OK: want > 0, Generation: want},
			Step: func(s State) []Outcome {
				s, a := rules.Refresh(s, Presented{Generation: g, Client: "app"})
				return []Outcome{{s, Answer{OK: a.OK, Generation: a.Generation}}}
			},
		}
	}
	unknown := func(c Call) Call {
		c.Unknown = true
		return c
	}
	logout := Call{
		Began:    1,
		Returned: 4,
		Answer:   Answer{OK: true},
		Step:     func(s State) []Outcome { return []Outcome{{s.Ended("logout", 0), Answer{OK: true}}} },
	}
	for name, test := range map[string]struct {
		calls []Call
		want  int // states
	}{
		"ok/nothing":                      {nil, 1},
		"ok/one":                          {[]Call{present(1, 1, 2, 2)}, 1},
		"ok/at once, in the other order":  {[]Call{present(2, 1, 4, 3), present(1, 2, 3, 2)}, 1},
		"fail/one after the other":        {[]Call{present(2, 1, 2, 3), present(1, 3, 4, 2)}, 0},
		"ok/tabs":                         {[]Call{present(1, 1, 4, 2), present(1, 2, 3, 2), present(1, 1, 5, 2)}, 1},
		"fail/two successors":             {[]Call{present(1, 1, 4, 2), present(1, 2, 3, 3)}, 0},
		"ok/perhaps":                      {[]Call{unknown(present(1, 1, 2, 0))}, 2},
		"ok/perhaps, and then it is seen": {[]Call{unknown(present(1, 1, 2, 0)), present(2, 3, 4, 3)}, 1},
		"ok/logout first or last":         {[]Call{logout, present(1, 2, 3, 2)}, 1},
		"ok/logout first":                 {[]Call{logout, present(1, 2, 3, 0)}, 1},
		"fail/refused for nothing":        {[]Call{present(1, 1, 2, 0)}, 0},
		"fail/logout was before":          {[]Call{logout, present(1, 5, 6, 2)}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			after := Explain([]State{begin}, test.calls, func(got, want Answer) bool { return got == want })
			if len(after) != test.want {
				t.Errorf("%d states: %+v", len(after), after)
			}
		})
	}
}

func TestTurns(t *testing.T) {
	owner, thief := newParty("owner", false), newParty("thief", false)
	type turn struct {
		by      *party
		at      time.Duration
		further bool
	}
	for name, test := range map[string]struct {
		turns []turn
		found bool
	}{
		"one party alone": {[]turn{{owner, 0, true}, {owner, 20, true}, {owner, 40, true}}, false},
		"close to each other": {[]turn{{owner, 0, true}, {thief, 5, true}, {owner, 10, true}, {thief, 15, true},
			{owner, 20, true}, {thief, 25, true}}, false},
		"by turns":                   {[]turn{{owner, 0, true}, {thief, 20, true}, {owner, 40, true}, {thief, 60, true}}, true},
		"two and two":                {[]turn{{owner, 0, true}, {owner, 1, true}, {thief, 20, true}, {thief, 21, true}}, true},
		"nothing new does not count": {[]turn{{owner, 0, true}, {thief, 20, false}, {owner, 40, true}, {thief, 60, false}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			turns := turns{count: make(map[*party]int)}
			var fault error
			for _, turn := range test.turns {
				if err := turns.note(turn.by, turn.at, 10, turn.further); err != nil {
					fault = err
				}
			}
			if (fault != nil) != test.found {
				t.Errorf("%v", fault)
			}
		})
	}
}
