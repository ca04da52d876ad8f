package storetest_test

import (
	"errors"
	"reflect"
	"testing"

	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/store/storetest"
)

// untouchable is a store without a database: a call that reaches it panics.
type untouchable struct{ store.Store }

func TestFail(t *testing.T) {
	methods := reflect.TypeFor[store.Store]()
	for method := range methods.Methods() {
		if method.Name == "Close" || method.Name == "Stats" { // they return no error
			continue
		}
		t.Run("fail/before/"+method.Name, func(t *testing.T) {
			f := storetest.Fail(untouchable{}, 1, storetest.Before)
			err := call(t, f, method)
			if !errors.Is(err, storetest.ErrInjected) {
				t.Errorf("error %v, want ErrInjected", err)
			}
			if f.Failed() != method.Name || f.Calls() != 1 {
				t.Errorf("failed %q after %d calls", f.Failed(), f.Calls())
			}
		})
		t.Run("fail/after/"+method.Name, func(t *testing.T) {
			f := storetest.Fail(untouchable{}, 1, storetest.After)
			if !reached(t, f, method) {
				t.Error("the call did not reach the store")
			}
		})
		t.Run("ok/another call/"+method.Name, func(t *testing.T) {
			f := storetest.Fail(untouchable{}, 2, storetest.Before)
			if !reached(t, f, method) || f.Failed() != "" {
				t.Error("the call did not reach the store")
			}
		})
		t.Run("ok/another method/"+method.Name, func(t *testing.T) {
			f := storetest.Fail(untouchable{}, 1, storetest.Before, "Another")
			if !reached(t, f, method) || f.Failed() != "" || f.Calls() != 0 {
				t.Error("the call did not reach the store")
			}
		})
	}
}

// call calls a method with zero arguments and returns its error.
func call(t *testing.T, f *storetest.Failing, method reflect.Method) error {
	t.Helper()
	in := []reflect.Value{reflect.ValueOf(t.Context())}
	for i := 1; i < method.Type.NumIn(); i++ {
		in = append(in, reflect.Zero(method.Type.In(i)))
	}
	out := reflect.ValueOf(f).MethodByName(method.Name).Call(in)
	for _, v := range out[:len(out)-1] {
		if !v.IsZero() {
			t.Errorf("a failed call returned %v", v)
		}
	}
	err, _ := reflect.TypeAssert[error](out[len(out)-1])
	return err
}

// reached reports whether a call went through to the store, which panics.
func reached(t *testing.T, f *storetest.Failing, method reflect.Method) (yes bool) {
	t.Helper()
	defer func() { yes = recover() != nil }()
	_ = call(t, f, method)
	return false
}
