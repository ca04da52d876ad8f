package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/handstamp/handstamp/pkg/outbox"
)

// table keeps the promises of outbox.Source in memory; the conformance suite holds the databases to them.
type table struct {
	mu      sync.Mutex
	rows    []outbox.Row
	due     map[int64]time.Time
	off     map[int64]bool // put off
	dead    []outbox.Row
	reasons []string
	changed chan struct{}
}

func newTable() *table {
	return &table{due: map[int64]time.Time{}, off: map[int64]bool{}, changed: make(chan struct{})}
}

// commit adds a row for each destination and wakes the workers.
func (t *table) commit(destinations ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, d := range destinations {
		id := int64(len(t.due) + 1)
		t.rows = append(t.rows, outbox.Row{ID: id, Kind: "k", Destination: d, CreatedAt: time.Now()})
		t.due[id] = time.Now()
	}
	close(t.changed)
	t.changed = make(chan struct{})
}

func (t *table) wake() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.changed
}

func (t *table) LeaseRows(_ context.Context, _ string, at, until time.Time, limit int) (leased []outbox.Row, _ error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	seen := map[string]bool{}
	for i := range t.rows {
		r := &t.rows[i]
		if seen[r.Destination] || t.off[r.ID] && t.due[r.ID].After(at) {
			continue
		}
		seen[r.Destination] = true
		if len(leased) < limit && !t.due[r.ID].After(at) {
			t.due[r.ID], r.LeasedUntil = until, until
			delete(t.off, r.ID)
			leased = append(leased, *r)
			r.Attempts++
		}
	}
	return leased, nil
}

func (t *table) FinishRow(_ context.Context, r outbox.Row, o outbox.Outcome) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.due[r.ID].Equal(r.LeasedUntil) {
		return nil
	}
	if o.RetryAt.IsZero() {
		t.rows = slices.DeleteFunc(t.rows, func(o outbox.Row) bool { return o.ID == r.ID })
	}
	if !o.DeadAt.IsZero() {
		t.dead = append(t.dead, r)
		t.reasons = append(t.reasons, o.Reason)
	}
	t.due[r.ID], t.off[r.ID] = o.RetryAt, !o.RetryAt.IsZero()
	return nil
}

// waiting is how many rows are left to deliver.
func (t *table) waiting() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.rows)
}

var errDown = errors.New("it is down")

// receivers note what arrives, and when since the start.
type receivers struct {
	mu      sync.Mutex
	start   time.Time
	arrived []string
	at      map[string]time.Duration
	down    func(r outbox.Row) bool
	hangs   func(r outbox.Row) bool
}

func newReceivers() *receivers {
	never := func(outbox.Row) bool { return false }
	return &receivers{start: time.Now(), at: map[string]time.Duration{}, down: never, hangs: never}
}

func (v *receivers) deliver(ctx context.Context, r outbox.Row) error {
	if v.hangs(r) {
		<-ctx.Done()
		return ctx.Err()
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	name := fmt.Sprintf("%s/%d", r.Destination, r.ID)
	v.arrived = append(v.arrived, name)
	v.at[name] = time.Since(v.start)
	if v.down(r) {
		return errDown
	}
	return nil
}

// seen returns what has arrived.
func (v *receivers) seen() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.arrived)
}

// after returns when a row arrived last, and whether it did.
func (v *receivers) after(name string) (time.Duration, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	at, ok := v.at[name]
	return at, ok
}

// kind is one like back-channel logout.
func kind(t *table, v *receivers) outbox.Kind {
	return outbox.Kind{
		Name:     "k",
		Source:   t,
		Deliver:  v.deliver,
		Lease:    30 * time.Second,
		Timeout:  5 * time.Second,
		Wait:     func(attempts int) time.Duration { return time.Second << (2 * attempts) },
		Attempts: 4,
		Places:   8,
	}
}

// run starts a worker and returns what stops it.
func run(t *testing.T, k outbox.Kind, wake func() <-chan struct{}, o outbox.Observe) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		outbox.NewWorker(k, nil, o, slog.New(slog.DiscardHandler)).Run(ctx, wake)
	}()
	return func() {
		cancel()
		<-ended
	}
}

func TestWorker(t *testing.T) {
	inBubble := func(name string, test func(t *testing.T)) {
		t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
	}

	inBubble("ok/one dead receiver of twenty delays none of the others", func(t *testing.T) {
		rows, v := newTable(), newReceivers()
		v.hangs = func(r outbox.Row) bool { return r.Destination == "00" }
		defer run(t, kind(rows, v), rows.wake, nil)()
		synctest.Wait()
		for range 3 {
			for i := range 20 {
				rows.commit(fmt.Sprintf("%02d", i))
			}
		}
		time.Sleep(900 * time.Millisecond)
		synctest.Wait()
		if len(v.seen()) != 3*19 {
			t.Errorf("%d rows arrived within a second, want %d", len(v.seen()), 3*19)
		}
	})

	inBubble("ok/one destination gets its rows in order, and one that fails holds up no other", func(t *testing.T) {
		rows, v := newTable(), newReceivers()
		v.down = func(r outbox.Row) bool { return r.ID == 2 && r.Attempts < 2 }
		defer run(t, kind(rows, v), rows.wake, nil)()
		synctest.Wait()
		rows.commit("a", "a", "a")
		time.Sleep(time.Minute)
		synctest.Wait()
		if want := []string{"a/1", "a/2", "a/3", "a/2", "a/2"}; !slices.Equal(v.seen(), want) {
			t.Errorf("%v, want %v", v.seen(), want)
		}
		if at, _ := v.after("a/3"); at > time.Second {
			t.Errorf("the third arrived after %v", at)
		}
		if at, _ := v.after("a/2"); at < 5*time.Second || at > 7*time.Second { // 1 s and 4 s
			t.Errorf("the second arrived after %v", at)
		}
	})

	inBubble("ok/woken on commit", func(t *testing.T) {
		rows, v := newTable(), newReceivers()
		defer run(t, kind(rows, v), rows.wake, nil)()
		time.Sleep(300 * time.Millisecond) // between two looks
		synctest.Wait()
		before := time.Since(v.start)
		rows.commit("a")
		time.Sleep(150 * time.Millisecond)
		synctest.Wait()
		if at, ok := v.after("a/1"); !ok || at-before > 100*time.Millisecond {
			t.Errorf("arrived %v, after %v", ok, at-before)
		}
	})

	inBubble("ok/found without a wake-up", func(t *testing.T) {
		rows, v := newTable(), newReceivers()
		defer run(t, kind(rows, v), func() <-chan struct{} { return nil }, nil)()
		synctest.Wait()
		rows.commit("a")
		time.Sleep(time.Second)
		synctest.Wait()
		if len(v.seen()) != 1 {
			t.Errorf("arrived: %v", v.seen())
		}
	})

	inBubble("ok/the row of a replica that died is delivered once its lease is over", func(t *testing.T) {
		rows, v := newTable(), newReceivers()
		rows.commit("a")
		if leased, err := rows.LeaseRows(t.Context(), "k", time.Now(), time.Now().Add(30*time.Second), 8); err != nil ||
			len(leased) != 1 {
			t.Fatal(leased, err)
		}
		defer run(t, kind(rows, v), rows.wake, nil)()
		time.Sleep(29 * time.Second)
		synctest.Wait()
		if len(v.seen()) != 0 {
			t.Errorf("delivered while another replica had it: %v", v.seen())
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if len(v.seen()) != 1 {
			t.Errorf("arrived: %v", v.seen())
		}
	})

	inBubble("ok/a dead letter after the last attempt, and then the next row", func(t *testing.T) {
		rows, v := newTable(), newReceivers()
		v.down = func(r outbox.Row) bool { return r.ID == 1 }
		var mu sync.Mutex
		results := map[outbox.Result]int{}
		defer run(t, kind(rows, v), rows.wake, func(_ string, r outbox.Result, _ time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			results[r]++
		})()
		synctest.Wait()
		rows.commit("a", "a")
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(v.seen()) != 5 || rows.waiting() != 0 || len(rows.dead) != 1 || rows.dead[0].ID != 1 ||
			rows.reasons[0] != errDown.Error() {
			t.Errorf("arrived %v, %d waiting, dead %v %q", v.seen(), rows.waiting(), rows.dead, rows.reasons)
		}
		if results[outbox.PutOff] != 3 || results[outbox.Dead] != 1 || results[outbox.Delivered] != 1 {
			t.Errorf("results %v", results)
		}
	})

	inBubble("ok/what has waited too long is given up before its attempts are used up", func(t *testing.T) {
		rows, v := newTable(), newReceivers()
		v.down = func(outbox.Row) bool { return true }
		k := kind(rows, v)
		k.Age = 5 * time.Second
		defer run(t, k, rows.wake, nil)()
		synctest.Wait()
		rows.commit("a", "a", "a")
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(v.seen()) != 3*3 || len(rows.dead) != 3 { // at 0, 1 and 5 s
			t.Errorf("arrived %v, dead %v", v.seen(), rows.dead)
		}
	})

	inBubble("ok/what is refused for good is given up at once, and delays nobody", func(t *testing.T) {
		rows, v := newTable(), newReceivers()
		k := kind(rows, v)
		k.Deliver = func(ctx context.Context, r outbox.Row) error {
			err := v.deliver(ctx, r)
			if r.ID == 1 {
				return fmt.Errorf("%w: no such user", outbox.ErrPermanent)
			}
			return err
		}
		defer run(t, k, rows.wake, nil)()
		synctest.Wait()
		rows.commit("a", "a")
		time.Sleep(time.Second)
		synctest.Wait()
		if len(v.seen()) != 2 || rows.waiting() != 0 || len(rows.dead) != 1 || rows.dead[0].ID != 1 ||
			rows.reasons[0] != "not to be delivered: no such user" {
			t.Errorf("arrived %v, %d waiting, dead %v %q", v.seen(), rows.waiting(), rows.dead, rows.reasons)
		}
	})

	inBubble("ok/a service that stops gives its rows back", func(t *testing.T) {
		rows, v := newTable(), newReceivers()
		v.hangs = func(outbox.Row) bool { return true }
		stop := run(t, kind(rows, v), rows.wake, nil)
		synctest.Wait()
		rows.commit("a")
		time.Sleep(time.Second)
		stop()
		if leased, err := rows.LeaseRows(t.Context(), "k", time.Now(), time.Now(), 8); err != nil || len(leased) != 1 {
			t.Errorf("leased %v, %v", leased, err)
		}
	})
}
