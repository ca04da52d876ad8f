package session

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// gate is a store that rotates only when it is told to.
type gate struct {
	arrived chan []Rotation // each call, before it waits
	proceed chan func(rotations []Rotation) ([]*Session, error)
}

func newGate() *gate {
	return &gate{arrived: make(chan []Rotation, 100), proceed: make(chan func([]Rotation) ([]*Session, error))}
}

func (g *gate) rotate(ctx context.Context, rotations []Rotation) ([]*Session, error) {
	g.arrived <- rotations
	select {
	case answer := <-g.proceed:
		return answer(rotations)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// each rotates every session.
func each(rotations []Rotation) ([]*Session, error) {
	rows := make([]*Session, len(rotations))
	for i, r := range rotations {
		rows[i] = &Session{ID: r.ID, Generation: r.To}
	}
	return rows, nil
}

func numbered(n int) Rotation {
	return Rotation{ID: ID{byte(n >> 8), byte(n)}, From: 1, To: 2}
}

// outcome is what one caller got.
type outcome struct {
	row *Session
	err error
}

// call starts a caller in the background. The test waits until it is queued.
func call(b *batcher, ctx context.Context, n int) <-chan outcome {
	got := make(chan outcome, 1)
	go func() {
		row, err := b.do(ctx, numbered(n))
		got <- outcome{row, err}
	}()
	synctest.Wait()
	return got
}

func TestBatch(t *testing.T) {
	run := func(name string, test func(t *testing.T, g *gate, b *batcher)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGate()
				test(t, g, &batcher{rotate: g.rotate})
			})
		})
	}
	wantRow := func(t *testing.T, o outcome, n int) {
		t.Helper()
		if o.err != nil || o.row == nil || o.row.ID != numbered(n).ID {
			t.Errorf("caller %d got %+v, %v", n, o.row, o.err)
		}
	}
	wantGone := func(t *testing.T, o outcome) {
		t.Helper()
		if o.row != nil || !errors.Is(o.err, context.Canceled) {
			t.Errorf("one who has gone got %+v, %v", o.row, o.err)
		}
	}
	wantIdle := func(t *testing.T, b *batcher) {
		t.Helper()
		if b.busy || len(b.queue) != 0 {
			t.Errorf("busy: %v, queue: %d", b.busy, len(b.queue))
		}
	}

	run("ok/one alone goes at once", func(t *testing.T, g *gate, b *batcher) {
		got := call(b, t.Context(), 1)
		if n := len(<-g.arrived); n != 1 {
			t.Errorf("a batch of %d", n)
		}
		g.proceed <- each
		wantRow(t, <-got, 1)
		wantIdle(t, b)
	})

	run("ok/what arrives meanwhile goes together, in order, each with an answer of its own",
		func(t *testing.T, g *gate, b *batcher) {
			var got []<-chan outcome
			for n := range 6 {
				got = append(got, call(b, t.Context(), n))
			}
			if n := len(<-g.arrived); n != 1 {
				t.Errorf("the first batch is of %d", n)
			}
			g.proceed <- each
			second := <-g.arrived
			for i, r := range second {
				if r != numbered(i+1) {
					t.Errorf("place %d of the second batch is %v", i, r.ID)
				}
			}
			if len(second) != 5 {
				t.Errorf("the second batch is of %d", len(second))
			}
			g.proceed <- func(rotations []Rotation) ([]*Session, error) {
				rows, err := each(rotations)
				rows[2] = nil // caller 3 is not as presented
				return rows, err
			}
			synctest.Wait()
			for n, c := range got {
				if o := <-c; n == 3 {
					if o.row != nil || o.err != nil {
						t.Errorf("caller 3 got %+v, %v", o.row, o.err)
					}
				} else {
					wantRow(t, o, n)
				}
			}
			wantIdle(t, b)
		})

	run("ok/a batch is bounded, the rest goes with the next", func(t *testing.T, g *gate, b *batcher) {
		var got []<-chan outcome
		for n := range 1 + maxBatch + 7 {
			got = append(got, call(b, t.Context(), n))
		}
		var sizes []int
		for range 3 {
			sizes = append(sizes, len(<-g.arrived))
			g.proceed <- each
		}
		if !slices.Equal(sizes, []int{1, maxBatch, 7}) {
			t.Errorf("batches of %v", sizes)
		}
		for n, c := range got {
			wantRow(t, <-c, n)
		}
		wantIdle(t, b)
	})

	run("ok/the lead passes on while the last batch still hears its answers", func(t *testing.T, g *gate, b *batcher) {
		first, second := call(b, t.Context(), 1), call(b, t.Context(), 2)
		<-g.arrived
		g.proceed <- each
		<-g.arrived // the second leads
		third := call(b, t.Context(), 3)
		wantRow(t, <-first, 1)
		g.proceed <- each
		<-g.arrived
		wantRow(t, <-second, 2)
		g.proceed <- each
		wantRow(t, <-third, 3)
		wantIdle(t, b)
	})

	run("ok/a caller that hangs up takes nobody with it", func(t *testing.T, g *gate, b *batcher) {
		ctx, cancel := context.WithCancel(t.Context())
		leader := call(b, ctx, 1)
		<-g.arrived
		follower := call(b, ctx, 2)
		other := call(b, t.Context(), 3)
		cancel()
		wantGone(t, <-follower) // at once, whatever the store does
		g.proceed <- each
		if batch := <-g.arrived; len(batch) != 1 || batch[0] != numbered(3) {
			t.Errorf("the next batch is %v", batch)
		}
		g.proceed <- each
		wantRow(t, <-leader, 1) // it was sent, so its outcome is the true one
		wantRow(t, <-other, 3)
		wantIdle(t, b)
	})

	run("ok/nothing is sent for callers who have all gone", func(t *testing.T, g *gate, b *batcher) {
		ctx, cancel := context.WithCancel(t.Context())
		first := call(b, t.Context(), 1)
		<-g.arrived
		gone := []<-chan outcome{call(b, ctx, 2), call(b, ctx, 3)}
		cancel()
		for _, c := range gone {
			wantGone(t, <-c)
		}
		if o := <-call(b, ctx, 4); !errors.Is(o.err, context.Canceled) {
			t.Errorf("got %+v, %v", o.row, o.err)
		}
		g.proceed <- each
		wantRow(t, <-first, 1)
		synctest.Wait()
		if len(g.arrived) != 0 {
			t.Error("a batch of nobody was sent")
		}
		wantIdle(t, b)
		if o := <-call(b, ctx, 5); !errors.Is(o.err, context.Canceled) {
			t.Errorf("got %+v, %v", o.row, o.err)
		}
		wantIdle(t, b)
	})

	run("fail/the queue is bounded", func(t *testing.T, g *gate, b *batcher) {
		first := call(b, t.Context(), 1)
		<-g.arrived
		var waiting []<-chan outcome
		for n := range maxQueue {
			waiting = append(waiting, call(b, t.Context(), n))
		}
		if o := <-call(b, t.Context(), 2); !errors.Is(o.err, ErrBusy) {
			t.Errorf("got %+v, %v", o.row, o.err)
		}
		g.proceed <- each
		wantRow(t, <-first, 1)
		for range maxQueue / maxBatch {
			<-g.arrived
			g.proceed <- each
		}
		for n, c := range waiting {
			wantRow(t, <-c, n)
		}
		wantIdle(t, b)
	})

	run("fail/a failed statement fails its own batch only", func(t *testing.T, g *gate, b *batcher) {
		broken := errors.New("broken")
		first := call(b, t.Context(), 1)
		<-g.arrived
		second, third := call(b, t.Context(), 2), call(b, t.Context(), 3)
		g.proceed <- func([]Rotation) ([]*Session, error) { return nil, broken }
		<-g.arrived
		fourth := call(b, t.Context(), 4)
		g.proceed <- func(rotations []Rotation) ([]*Session, error) {
			rows, _ := each(rotations)
			return rows, broken // rows that come with an error are not believed
		}
		<-g.arrived
		g.proceed <- each
		for _, c := range []<-chan outcome{first, second, third} {
			if o := <-c; o.row != nil || !errors.Is(o.err, broken) {
				t.Errorf("got %+v, %v", o.row, o.err)
			}
		}
		wantRow(t, <-fourth, 4)
		wantIdle(t, b)
	})

	run("fail/a store that answers for too few", func(t *testing.T, g *gate, b *batcher) {
		got := call(b, t.Context(), 1)
		<-g.arrived
		g.proceed <- func([]Rotation) ([]*Session, error) { return nil, nil }
		if o := <-got; o.err == nil || o.row != nil {
			t.Errorf("got %+v, %v", o.row, o.err)
		}
		wantIdle(t, b)
	})

	run("fail/a store that does not answer is given up, and the next batch goes", func(t *testing.T, g *gate, b *batcher) {
		start := time.Now()
		first, second := call(b, t.Context(), 1), call(b, t.Context(), 2)
		if o := <-first; !errors.Is(o.err, context.DeadlineExceeded) {
			t.Errorf("got %+v, %v", o.row, o.err)
		}
		if waited := time.Since(start); waited != batchTimeout {
			t.Errorf("waited %v", waited)
		}
		<-g.arrived
		<-g.arrived
		g.proceed <- each
		wantRow(t, <-second, 2)
		wantIdle(t, b)
	})

	run("fail/a store that panics takes its own batch only", func(t *testing.T, g *gate, b *batcher) {
		first := make(chan any, 1)
		go func() {
			defer func() { first <- recover() }()
			_, _ = b.do(t.Context(), numbered(1))
		}()
		<-g.arrived
		synctest.Wait()
		second := make(chan any, 1)
		go func() {
			defer func() { second <- recover() }()
			_, _ = b.do(t.Context(), numbered(2))
		}()
		synctest.Wait()
		third := call(b, t.Context(), 3)
		g.proceed <- func([]Rotation) ([]*Session, error) { panic("first") }
		if p := <-first; p != "first" {
			t.Errorf("the caller saw %v", p)
		}
		<-g.arrived
		fourth := call(b, t.Context(), 4)
		g.proceed <- func([]Rotation) ([]*Session, error) { panic("second") }
		if p := <-second; p != "second" {
			t.Errorf("the caller saw %v", p)
		}
		if o := <-third; o.row != nil || o.err == nil { // nobody knows what was written
			t.Errorf("got %+v, %v", o.row, o.err)
		}
		<-g.arrived
		g.proceed <- each
		wantRow(t, <-fourth, 4)
		wantIdle(t, b)
	})
}

// Many callers at once, without a plan: each gets its own answer, and no rotation is lost or carried twice.
func TestBatch_Crowd(t *testing.T) {
	const callers, calls = 64, 200
	var carried, batches atomic.Int64
	b := &batcher{rotate: func(_ context.Context, rotations []Rotation) ([]*Session, error) {
		carried.Add(int64(len(rotations)))
		batches.Add(1)
		return each(rotations)
	}}
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for range calls {
				row, err := b.do(t.Context(), numbered(i))
				if err != nil || row.ID != numbered(i).ID {
					t.Errorf("caller %d got %+v, %v", i, row, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if carried.Load() != callers*calls || batches.Load() > carried.Load() || b.busy || len(b.queue) != 0 {
		t.Errorf("%d rotations in %d batches, busy: %v, queue: %d", carried.Load(), batches.Load(), b.busy, len(b.queue))
	}
}

// Callers who leave at any moment, also when they are told to lead, leave the others neither without a lead nor with two.
func TestBatch_LeavingCrowd(t *testing.T) {
	const callers, calls = 16, 2000
	var running atomic.Int64
	b := &batcher{rotate: func(_ context.Context, rotations []Rotation) ([]*Session, error) {
		if running.Add(1) != 1 {
			t.Error("two batches at once")
		}
		defer running.Add(-1)
		runtime.Gosched()
		return each(rotations)
	}}
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for n := range calls {
				ctx, cancel := context.WithCancel(t.Context())
				if i%2 == 0 {
					go cancel()
				}
				row, err := b.do(ctx, numbered(i))
				if left := i%2 == 0 && errors.Is(err, context.Canceled); !left && (err != nil || row.ID != numbered(i).ID) {
					t.Errorf("call %d of caller %d got %+v, %v", n, i, row, err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if b.busy || len(b.queue) != 0 {
		t.Errorf("busy: %v, queue: %d", b.busy, len(b.queue))
	}
}
