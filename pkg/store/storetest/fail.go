package storetest

import (
	"errors"
	"slices"
	"sync"

	"github.com/handstamp/handstamp/pkg/store"
)

// The methods of Failing follow the interface. Run this after a change of it.
//
//go:generate rm -f fail_methods.go
//go:generate go test -run ^TestFailingIsCurrent$ -args -update

// ErrInjected is the storage failure that [Fail] makes up.
var ErrInjected = errors.New("injected storage failure")

// When says on which side of the work a call fails.
type When int

// The two ways in which a call to a database fails.
const (
	Before When = iota // nothing was done
	After              // all was done and committed, and the answer was lost: the outcome is unknown to the caller
)

// String names the way for test output.
func (w When) String() string { return [...]string{"before", "after"}[w] }

// Failing is a store of which one call fails.
type Failing struct {
	everything // what has no method of its own yet passes, until the methods are generated
	store      store.Store

	mu      sync.Mutex
	n       int
	when    When
	methods []string
	calls   int
	failed  string
}

// everything keeps the embedded store's name out of the way of the field.
type everything = store.Store

var _ store.Store = (*Failing)(nil)

// Fail wraps a store so that its n-th call (from 1) fails with ErrInjected; n = 0 lets all pass and counts. If methods are
// named, only calls of these count: name those of the request when background work shares the store. Close never fails. To
// try every call of a request:
//
//	for n := 1; ; n++ {
//		failing := storetest.Fail(fresh(t), n, storetest.After)
//		request(failing)
//		if failing.Failed() == "" {
//			break // the request makes fewer than n calls
//		}
//		// check: no success was answered, and a retry on the bare store works
//	}
func Fail(s store.Store, n int, when When, methods ...string) *Failing {
	return &Failing{everything: s, store: s, n: n, when: when, methods: methods}
}

// Arm makes another call fail, counted from now as Fail counts.
func (f *Failing) Arm(n int, when When, methods ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n, f.when, f.methods, f.calls, f.failed = n, when, methods, 0, ""
}

// Failed returns the name of the method whose call failed, empty if none did.
func (f *Failing) Failed() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

// Calls returns how many calls were counted.
func (f *Failing) Calls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

// fails counts a call and says whether it is the one, and how it fails.
func (f *Failing) fails(method string) (bool, When) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.methods) > 0 && !slices.Contains(f.methods, method) {
		return false, f.when
	}
	f.calls++
	if f.calls != f.n {
		return false, f.when
	}
	f.failed = method
	return true, f.when
}

// do carries out a call, and returns the error that its caller is told of.
func (f *Failing) do(method string, call func() error) error {
	fails, when := f.fails(method)
	if !fails {
		return call()
	}
	if when == After {
		if err := call(); err != nil {
			return err // it failed by itself: that answer arrives
		}
	}
	return ErrInjected
}

// result carries out a call that returns a value.
func result[T any](f *Failing, method string, call func() (T, error)) (T, error) {
	out, _, err := results(f, method, func() (T, struct{}, error) {
		out, err := call()
		return out, struct{}{}, err
	})
	return out, err
}

// results carries out a call that returns two values. A lost answer has none.
func results[T, U any](f *Failing, method string, call func() (T, U, error)) (first T, second U, err error) {
	var (
		one T
		two U
	)
	if err := f.do(method, func() (err error) {
		one, two, err = call()
		return err
	}); err != nil {
		return first, second, err
	}
	return one, two, nil
}

// Stats implements [store.Store].
func (f *Failing) Stats() store.Stats { return f.store.Stats() }

// Close implements [store.Store]. It never fails.
func (f *Failing) Close() error { return f.store.Close() }
