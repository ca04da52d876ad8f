package keyring_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/handstamp/handstamp/pkg/keyring"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// Two replicas live through a random history: they are cut off from the store, slow, stopped and continued, lose answers,
// rotate by hand and on schedule. Whatever happens, each token verifies against each copy of the JWKS that a cache may
// hold while the token lives, wherever and whenever that copy was fetched.
func TestKEY03_EveryTokenVerifiesAgainstEveryCopy(t *testing.T) {
	seeded := seed(t)
	rapid.Check(t, func(rt *rapid.T) {
		script := rapid.SliceOfN(rapid.Custom(drawTurn), 5, 50).Draw(rt, "script")
		var fault error
		synctest.Test(t, func(t *testing.T) {
			h := &history{tb: t, store: &memory{keys: slices.Clone(seeded)}}
			defer h.end()
			if fault = h.play(script); fault == nil {
				fault = h.compare()
			}
		})
		if fault != nil {
			rt.Fatal(fault)
		}
	})
}

const (
	modelLifetime = 15 * time.Minute
	modelLeeway   = time.Minute
	modelMaxAge   = 5 * time.Minute
)

// turn is something that happens to a replica, and the time that passes afterwards, in which both replicas mint and hand
// out copies.
type turn struct {
	Event   string
	Replica int
	Call    int // which of the next calls fails
	Lose    bool
	Delay   time.Duration
	Pause   time.Duration
	Times   int
}

func drawTurn(rt *rapid.T) turn {
	return turn{
		Event: rapid.SampledFrom([]string{"nothing", "rotate", "rotate now", "cut off", "slow", "fail one", "stop", "restart",
			"heal"}).Draw(rt, "event"),
		Replica: rapid.IntRange(0, 1).Draw(rt, "replica"),
		Call:    rapid.IntRange(1, 6).Draw(rt, "call"),
		Lose:    rapid.Bool().Draw(rt, "lose"),
		Delay:   time.Duration(rapid.IntRange(0, 4900).Draw(rt, "delay")) * time.Millisecond,
		Pause:   time.Duration(rapid.IntRange(5, 60).Draw(rt, "pause")) * time.Second,
		Times:   rapid.IntRange(1, 20).Draw(rt, "times"),
	}
}

type history struct {
	tb       *testing.T
	store    *memory
	replicas [2]*replica
	tokens   []modelToken
	copies   []modelCopy
}

type replica struct {
	*keyring.Keyring
	wire    *wire
	stopped bool
}

type modelToken struct {
	kid      string
	iat, exp time.Time
	by       int
}

type modelCopy struct {
	kids        []string
	from, until time.Time
	by          int
}

func (h *history) play(script []turn) (err error) {
	for i := range h.replicas {
		if h.replicas[i], err = h.launch(); err != nil {
			return err
		}
	}
	for _, turn := range script {
		if err := h.happen(turn); err != nil {
			return err
		}
		for range turn.Times {
			time.Sleep(turn.Pause)
			for i := range h.replicas {
				if err := h.use(i); err != nil {
					return err
				}
			}
		}
		h.store.check(h.tb, verifier.ES256)
	}
	return nil
}

func (h *history) launch() (*replica, error) {
	w := &wire{Store: h.store}
	k, err := keyring.Open(h.tb.Context(), w, masterKey(h.tb), keyring.Options{
		RotateEvery: 20 * time.Minute, SyncEvery: 7 * time.Second,
		TokenLifetime: modelLifetime, Leeway: modelLeeway, MaxAge: modelMaxAge,
	})
	return &replica{Keyring: k, wire: w}, err
}

func (h *history) end() {
	for _, r := range h.replicas {
		if r != nil && r.Keyring != nil {
			r.heal()
			r.Close()
		}
	}
}

func (r *replica) heal() {
	r.wire.set(func(w *wire) {
		if w.frozen != nil {
			close(w.frozen)
		}
		w.frozen, w.down, w.slow, w.fail = nil, false, 0, 0
	})
	r.stopped = false
}

func (h *history) happen(turn turn) (err error) {
	r := h.replicas[turn.Replica]
	switch turn.Event {
	case "rotate", "rotate now":
		if r.stopped {
			return nil
		}
		rotate := r.RotateNow
		if turn.Event == "rotate" {
			rotate = r.Rotate
		}
		_, err := rotate(h.tb.Context(), verifier.ES256, cli)
		if err != nil && !errors.Is(err, keyring.ErrUpcoming) && !errors.Is(err, errDown) {
			return err
		}
	case "cut off":
		r.wire.set(func(w *wire) { w.down = true })
	case "slow":
		r.wire.set(func(w *wire) { w.slow = turn.Delay })
	case "fail one":
		r.wire.set(func(w *wire) { w.fail, w.lose = w.calls+turn.Call, turn.Lose })
	case "stop": // SIGSTOP: nobody asks the replica, and its calls hang
		if !r.stopped {
			r.stopped = true
			r.wire.set(func(w *wire) { w.frozen = make(chan struct{}) })
		}
	case "restart":
		r.heal()
		r.Close()
		h.replicas[turn.Replica], err = h.launch()
		return err
	case "heal": // asked at once, and well again by the time it has looked at the store
		r.heal()
		if err := h.use(turn.Replica); err != nil {
			return err
		}
		time.Sleep(30 * time.Second)
		_, err := r.Signer(h.tb.Context(), "")
		return err
	}
	return nil
}

// use mints a token and fetches the JWKS.
func (h *history) use(i int) error {
	r := h.replicas[i]
	if r.stopped {
		return nil
	}
	key, err := r.Signer(h.tb.Context(), "")
	switch {
	case err == nil:
		h.tokens = append(h.tokens, modelToken{key.ID, time.Now(), time.Now().Add(modelLifetime), i})
	case !errors.Is(err, keyring.ErrNotReady) || time.Since(r.SyncedAt()) < modelLeeway/2:
		return fmt.Errorf("replica %d, which read the store %v ago, cannot sign: %w", i, time.Since(r.SyncedAt()), err)
	}

	doc := r.JWKS(h.tb.Context())
	if doc.MaxAge < modelMaxAge && time.Since(r.SyncedAt()) < modelLeeway/2 {
		return fmt.Errorf("max-age is %v without need", doc.MaxAge)
	}
	// A copy that may not be kept, from a replica that has not heard of the store for minutes, promises nothing: such a
	// replica is not ready.
	if doc.MaxAge > 0 || time.Since(r.SyncedAt()) <= modelLeeway {
		h.copies = append(h.copies, modelCopy{kids(h.tb, doc), time.Now(), time.Now().Add(doc.MaxAge), i})
	}
	return nil
}

// compare holds every token against every copy that a verifier may have had while the token was good.
func (h *history) compare() error {
	for _, token := range h.tokens {
		for _, c := range h.copies {
			overlap := !c.from.After(token.exp.Add(modelLeeway)) && (token.iat.Before(c.until) || token.iat.Equal(c.from))
			if overlap && !slices.Contains(c.kids, token.kid) {
				return fmt.Errorf("token of replica %d, %v to %v, signed by %s\nis unknown to the copy of replica %d, %v to %v, %v",
					token.by, token.iat, token.exp, token.kid, c.by, c.from, c.until, c.kids)
			}
		}
	}
	return nil
}
