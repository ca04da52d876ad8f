package session

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"
)

// The cases of a presented token. Each combination of them is one row of the complete table.
type presentationCase struct {
	nonce      string // right, wrong
	client     string // right, wrong
	state      string // alive, revoked, idle, ended
	generation string // newest, before, older, future
	key        string // none, same, other, only here, only there, earlier, of another generation
	age        string // of the newest generation: at once, within, at the end, after, long after
	held       string // up to when the request was: not, since the rotation, since before it
	unanswered bool   // the time after the grace period does not count
	grace      time.Duration
}

// want reads the table of rules in api/PROTOCOL.md from top to bottom: the first line that fits counts.
func (c presentationCase) want() (Verdict, error) {
	inGrace := c.grace > 0 && (c.age == "at once" || c.age == "within" || c.age == "at the end" || c.held != "not" ||
		c.unanswered && c.age == "after")
	old := c.generation == "before" || c.generation == "older"
	for _, line := range []struct {
		fits    bool
		verdict Verdict
		err     error
	}{
		{c.nonce == "wrong", Refuse, ErrEnded},
		{c.client == "wrong", Refuse, ErrWrongClient},
		{c.state != "alive", Refuse, ErrEnded},
		{c.generation == "newest", Advance, nil},
		{c.generation == "future", Advance, nil},
		{c.generation == "before" && c.key == "same", Repeat, nil},
		{c.generation == "before" && inGrace, Repeat, nil},
		{old && c.held == "since before it", Refuse, ErrLate},
		{c.generation == "older" && c.key == "earlier", Refuse, ErrLate},
		{true, Revoke, ErrReuse},
	} {
		if line.fits {
			return line.verdict, line.err
		}
	}
	panic("not reached")
}

// build makes the row and the presentation of a case. All rows rotated at the same time.
func (c presentationCase) build() (Session, Presentation) {
	rotated := time.Date(2026, 3, 1, 12, 0, 0, 123_456_000, time.UTC)
	s := Session{
		ID: ID{1}, Nonce: Nonce{2}, ClientID: "app", Generation: 7, RotatedAt: rotated,
		CreatedAt:     rotated.Add(-24 * time.Hour),
		IdleExpiresAt: rotated.Add(7 * 24 * time.Hour),
		ExpiresAt:     rotated.Add(30 * 24 * time.Hour),
	}
	p := Presentation{Presented: Presented{ID: s.ID, Nonce: s.Nonce}, ClientID: s.ClientID}
	p.At = rotated.Add(map[string]time.Duration{
		"at once":    0,
		"within":     c.grace / 2,
		"at the end": c.grace,
		"after":      c.grace + time.Microsecond,
		"long after": 6 * 24 * time.Hour,
	}[c.age])
	switch c.held {
	case "since the rotation":
		p.HeldUp = p.At.Sub(rotated)
	case "since before it":
		p.HeldUp = p.At.Sub(rotated) + time.Microsecond
	}
	if c.unanswered {
		p.Unanswered = time.Microsecond
	}
	p.Generation = map[string]uint32{"newest": 7, "before": 6, "older": 5, "future": 8}[c.generation]
	if c.nonce == "wrong" {
		p.Nonce[15] ^= 1
	}
	if c.client == "wrong" {
		p.ClientID = "App"
	}
	switch c.state {
	case "revoked":
		s.RevokedAt = rotated
	case "idle":
		s.IdleExpiresAt = p.At
	case "ended":
		s.ExpiresAt = p.At
	}
	here, there := HashRequest("here"), HashRequest("there")
	switch c.key {
	case "same":
		s.LastRequestHash, p.RequestHash = here, here
	case "other":
		s.LastRequestHash, p.RequestHash = here, there
	case "only here":
		p.RequestHash = here
	case "only there":
		s.LastRequestHash = there
	case "earlier": // g = 5 was used by the request that made 6
		s.EarlierRequests, p.RequestHash = slices.Concat(here[:], there[:]), here
	case "of another generation":
		s.EarlierRequests, p.RequestHash = slices.Concat(here[:], there[:]), there
	}
	return s, p
}

func TestDecide(t *testing.T) {
	n := 0
	check := func(c presentationCase) {
		s, p := c.build()
		verdict, err := Decide(s, p, c.grace)
		if wantVerdict, wantErr := c.want(); verdict != wantVerdict || !errors.Is(err, wantErr) {
			t.Errorf("%+v: %v, %v; want %v, %v", c, verdict, err, wantVerdict, wantErr)
		}
		n++
	}
	for _, nonce := range []string{"right", "wrong"} {
		for _, client := range []string{"right", "wrong"} {
			for _, state := range []string{"alive", "revoked", "idle", "ended"} {
				for _, generation := range []string{"newest", "before", "older", "future"} {
					for _, key := range []string{"none", "same", "other", "only here", "only there", "earlier", "of another generation"} {
						for _, age := range []string{"at once", "within", "at the end", "after", "long after"} {
							for _, held := range []string{"not", "since the rotation", "since before it"} {
								for _, grace := range []time.Duration{0, 10 * time.Second, 300 * time.Second} {
									for _, unanswered := range []bool{false, true} {
										check(presentationCase{nonce, client, state, generation, key, age, held, unanswered, grace})
									}
								}
							}
						}
					}
				}
			}
		}
	}
	t.Logf("%d cases", n)
}

func TestDecide_Bounds(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	session := func(generation uint32) Session {
		return Session{
			ClientID:      "app",
			Generation:    generation,
			RotatedAt:     at,
			IdleExpiresAt: at.Add(time.Hour),
			ExpiresAt:     at.Add(time.Hour),
		}
	}
	for name, test := range map[string]struct {
		g, G uint32
		at   time.Time
		want Verdict
	}{
		"ok/the first":                              {1, 1, at, Advance},
		"ok/the last there is":                      {math.MaxUint32, math.MaxUint32, at, Advance},
		"ok/the last but one":                       {math.MaxUint32 - 1, math.MaxUint32, at, Repeat},
		"ok/far in the future":                      {math.MaxUint32, 1, at, Advance},
		"ok/arrived before the rotation":            {1, 2, at.Add(-30 * time.Second), Repeat},
		"ok/and before the one after it":            {1, 3, at.Add(-time.Microsecond), Refuse},
		"fail/a generation that never was":          {0, 1, at.Add(time.Minute), Revoke},
		"fail/the far past is not the far future":   {0, math.MaxUint32, at, Revoke},
		"fail/the first of many, within the period": {1, 3, at, Revoke},
	} {
		t.Run(name, func(t *testing.T) {
			p := Presentation{Presented: Presented{Generation: test.g}, ClientID: "app", At: test.at}
			if got, _ := Decide(session(test.G), p, 10*time.Second); got != test.want {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
}

// RT-04: a thief and an owner take turns, each one behind the other. The grace period counts from the rotation, so the
// first turn outside of it ends the session, whoever takes it and however many there were within.
func TestRT04_GraceIsNotExtended(t *testing.T) {
	const grace = 10 * time.Second
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s := Session{ClientID: "app", Generation: 5, RotatedAt: at, IdleExpiresAt: at.Add(time.Hour), ExpiresAt: at.Add(time.Hour)}
	for after := time.Duration(0); after <= 3*grace; after += time.Second {
		want := Repeat
		if after > grace {
			want = Revoke
		}
		p := Presentation{Presented: Presented{Generation: 4}, ClientID: "app", At: at.Add(after)}
		if got, _ := Decide(s, p, grace); got != want {
			t.Errorf("after %v: %v, want %v", after, got, want)
		}
	}
}

func TestVerdict_String(t *testing.T) {
	if got := fmt.Sprint(Refuse, Advance, Repeat, Revoke); got != "refuse advance repeat revoke" {
		t.Error(got)
	}
}

func TestSession_Alive(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	moment := time.Microsecond
	for name, test := range map[string]struct {
		idle, end, revoked time.Duration // from at; revoked 0: not
		want               bool
	}{
		"ok/in the middle":                         {time.Hour, 2 * time.Hour, 0, true},
		"ok/the last moment":                       {moment, moment, 0, true},
		"fail/idle for too long":                   {0, time.Hour, 0, false},
		"fail/at the absolute end":                 {time.Hour, 0, 0, false},
		"fail/after both":                          {-time.Hour, -time.Hour, 0, false},
		"fail/revoked":                             {time.Hour, time.Hour, -time.Hour, false},
		"fail/revoked, says a clock that is ahead": {time.Hour, time.Hour, time.Minute, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := Session{IdleExpiresAt: at.Add(test.idle), ExpiresAt: at.Add(test.end)}
			if test.revoked != 0 {
				s.RevokedAt = at.Add(test.revoked)
			}
			if got := s.Alive(at); got != test.want {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
}
