package password

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
)

// TestSharesKeepApart fills the queue of one share: the others are let in all the same, and get their part of the turns.
func TestSharesKeepApart(t *testing.T) {
	for name, test := range map[string]struct{ crowd, others Share }{
		"ok/sign-ups keep no login out": {ForSignup, ForLogin},
		"ok/logins keep no sign-up out": {ForLogin, ForSignup},
		"ok/logins keep no change out":  {ForLogin, ForChange},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHasher(t, Config{Params: cheap(), Concurrency: 1, Queue: 17})
				var held []*Place // those whose turn it is, and those who prepare themselves
				for {
					p, ok := h.queue.enter(ForLogin)
					if !ok || p != nil {
						break
					}
					held = append(held, &Place{hasher: h})
				}
				order := make(chan Share, 64)
				enter := func(share Share) {
					go func() {
						if _, err := h.Enter(t.Context(), share); err == nil {
							order <- share
						}
					}()
					synctest.Wait()
				}
				for range 100 {
					enter(test.crowd)
				}
				if _, busy := errors.AsType[*BusyError](verifyAs(t, h, test.crowd)); !busy {
					t.Error("the queue of the crowd has no end")
				}
				for range 2 {
					enter(test.others)
				}
				var served []Share
				for range 8 {
					held[0].Leave()
					synctest.Wait()
					for len(order) > 0 {
						served = append(served, <-order)
					}
				}
				if n := slices.Index(served, test.others); n < 0 || n > 3 {
					t.Errorf("served %v: the others wait for the crowd", served)
				}
			})
		})
	}
}

// verifyAs asks for a place of a share, and does nothing with it.
func verifyAs(t *testing.T, h *Hasher, share Share) error {
	p, err := h.Enter(t.Context(), share)
	if err == nil {
		p.Leave()
	}
	return err
}

// TestTurnsOfShares lets all shares wait: of four turns, logins get two.
func TestTurnsOfShares(t *testing.T) {
	q := newQueue(1, 100)
	q.enter(ForLogin)
	places := map[chan struct{}]Share{}
	for range 20 {
		for s := range Share(shares) {
			moved, _ := q.enter(s)
			places[moved] = s
		}
	}
	var got [shares]int
	for range 20 {
		q.leave()
		for moved, s := range places {
			select {
			case <-moved:
				got[s]++
				delete(places, moved)
			default:
			}
		}
	}
	if want := [shares]int{ForLogin: 10, ForSignup: 5, ForChange: 5}; got != want {
		t.Errorf("turns %v, want %v", got, want)
	}
}
