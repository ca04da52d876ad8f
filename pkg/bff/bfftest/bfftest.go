// Package bfftest has the tests that every bff.Store must pass.
package bfftest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/handstamp/handstamp/pkg/bff"
)

// TestStore runs the tests. open returns another handle on one and the same storage at each call, as another process has it;
// there may be records in it that others made. Where expires is set, records leave by themselves, and Sweep has nothing to do.
func TestStore(t *testing.T, open func(t *testing.T) bff.Store, expires bool) {
	t.Helper()
	s := suite{open(t), open(t)}
	t.Run("create and load", s.testCreate)
	t.Run("swap", s.testSwap)
	t.Run("swap at once", s.testSwapAtOnce)
	t.Run("end", s.testEnd)
	t.Run("no record comes back", s.testEndAndSwap)
	t.Run("list and trim", s.testTrim)
	t.Run("trim at once", s.testTrimAtOnce)
	t.Run("once", s.testOnce)
	t.Run("context", s.testContext)
	if !expires {
		t.Run("sweep", s.testSweep)
	}
}

// suite has two handles on one storage.
type suite struct{ a, b bff.Store }

// start is a time with microseconds, which every store keeps.
func start() time.Time { return time.Now().Truncate(time.Microsecond) }

func newID() (id bff.ID) {
	_, _ = rand.Read(id[:]) // never fails, see crypto/rand
	return id
}

// newRecord returns a record of a new session of a user.
func newRecord(subject string) bff.Record {
	return bff.Record{
		ID:        newID(),
		Version:   1,
		Subject:   subject,
		SessionID: "ses_" + rand.Text(),
		Data:      []byte("\x00\xffdata'\"" + rand.Text()),
		CreatedAt: start(),
		ExpiresAt: start().Add(time.Hour),
	}
}

func newSubject() string { return "usr_" + rand.Text() }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func created(t *testing.T, s bff.Store, r bff.Record) bff.Record {
	t.Helper()
	must(t, s.Create(t.Context(), r))
	return r
}

func equal(a, b bff.Record) bool {
	return a.ID == b.ID && a.Version == b.Version && a.Subject == b.Subject && a.SessionID == b.SessionID &&
		bytes.Equal(a.Data, b.Data) && a.CreatedAt.Equal(b.CreatedAt) && a.ExpiresAt.Equal(b.ExpiresAt)
}

func ids(records []bff.Record) []bff.ID {
	var list []bff.ID
	for _, r := range records {
		list = append(list, r.ID)
	}
	return list
}

func (s suite) want(t *testing.T, r bff.Record) {
	t.Helper()
	got, err := s.b.Load(t.Context(), r.ID)
	must(t, err)
	if !equal(got, r) {
		t.Errorf("loaded %+v\nwant %+v", got, r)
	}
}

func (s suite) testCreate(t *testing.T) {
	r := created(t, s.a, newRecord(newSubject()))
	s.want(t, r)
	if err := s.a.Create(t.Context(), r); err == nil {
		t.Error("one ID was created twice")
	}
	if _, err := s.a.Load(t.Context(), newID()); !errors.Is(err, bff.ErrNotFound) {
		t.Errorf("unknown: %v", err)
	}
	big := newRecord(newSubject())
	big.Data = bytes.Repeat([]byte{0, 1, 2, 255}, 16<<10)
	s.want(t, created(t, s.a, big))
}

func (s suite) testSwap(t *testing.T) {
	r := created(t, s.a, newRecord(newSubject()))
	next := r
	next.Version, next.Data, next.ExpiresAt = 2, []byte("next"), r.ExpiresAt.Add(time.Hour)
	must(t, s.b.Swap(t.Context(), next))
	s.want(t, next)
	if err := s.a.Swap(t.Context(), next); !errors.Is(err, bff.ErrConflict) {
		t.Errorf("of an old version: %v", err)
	}
	far := next
	far.Version = 9
	if err := s.a.Swap(t.Context(), far); !errors.Is(err, bff.ErrConflict) {
		t.Errorf("of a version that is not yet there: %v", err)
	}
	s.want(t, next)
	unknown := newRecord(newSubject())
	unknown.Version = 2
	if err := s.a.Swap(t.Context(), unknown); !errors.Is(err, bff.ErrNotFound) {
		t.Errorf("unknown: %v", err)
	}
	if _, err := s.a.Load(t.Context(), unknown.ID); !errors.Is(err, bff.ErrNotFound) {
		t.Errorf("made by swap: %v", err)
	}
}

func (s suite) testSwapAtOnce(t *testing.T) {
	r := created(t, s.a, newRecord(newSubject()))
	var won, lost atomic.Int64
	var work sync.WaitGroup
	for i := range 20 {
		work.Go(func() {
			next := r
			next.Version, next.Data = 2, fmt.Append(nil, i)
			switch err := []bff.Store{s.a, s.b}[i%2].Swap(t.Context(), next); {
			case err == nil:
				won.Add(1)
			case errors.Is(err, bff.ErrConflict):
				lost.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	work.Wait()
	if won.Load() != 1 || lost.Load() != 19 {
		t.Errorf("%d won, %d lost", won.Load(), lost.Load())
	}
}

func (s suite) testEnd(t *testing.T) {
	subject := newSubject()
	one, two, three := created(t, s.a, newRecord(subject)), created(t, s.a, newRecord(subject)), created(t, s.a, newRecord(subject))
	other := created(t, s.a, newRecord(newSubject()))
	for _, c := range []struct {
		match bff.Match
		want  []bff.Record
	}{
		{bff.Match{}, nil},
		{bff.Match{ID: newID()}, nil},
		{bff.Match{Subject: "nobody"}, nil},
		{bff.Match{SessionID: "%"}, nil},
		{bff.Match{ID: one.ID}, []bff.Record{one}},
		{bff.Match{ID: one.ID}, nil},
		{bff.Match{SessionID: two.SessionID}, []bff.Record{two}},
		{bff.Match{Subject: subject}, []bff.Record{three}},
	} {
		ended, err := s.b.End(t.Context(), c.match)
		must(t, err)
		if !slices.EqualFunc(ended, c.want, equal) {
			t.Errorf("%+v ended %+v, want %+v", c.match, ended, c.want)
		}
		for _, r := range c.want {
			if _, err := s.a.Load(t.Context(), r.ID); !errors.Is(err, bff.ErrNotFound) {
				t.Errorf("ended: %v", err)
			}
		}
	}
	s.want(t, other)
}

func (s suite) testEndAndSwap(t *testing.T) {
	for range 20 {
		r := created(t, s.a, newRecord(newSubject()))
		next := r
		next.Version = 2
		var work sync.WaitGroup
		work.Go(func() {
			if err := s.a.Swap(t.Context(), next); err != nil && !errors.Is(err, bff.ErrNotFound) {
				t.Error(err)
			}
		})
		work.Go(func() {
			if ended, err := s.b.End(t.Context(), bff.Match{ID: r.ID}); err != nil || len(ended) != 1 {
				t.Error(len(ended), err)
			}
		})
		work.Wait()
		if _, err := s.a.Load(t.Context(), r.ID); !errors.Is(err, bff.ErrNotFound) {
			t.Errorf("it came back: %v", err)
		}
		if list, err := s.a.List(t.Context(), r.Subject); err != nil || len(list) != 0 {
			t.Errorf("it came back into the list: %v %v", list, err)
		}
	}
}

func (s suite) testTrim(t *testing.T) {
	subject := newSubject()
	var records []bff.Record
	for i := range 5 {
		r := newRecord(subject)
		r.CreatedAt = r.CreatedAt.Add(time.Duration(-i) * time.Minute)
		records = append(records, created(t, s.a, r))
	}
	other := created(t, s.a, newRecord(newSubject()))
	list, err := s.b.List(t.Context(), subject)
	must(t, err)
	if !slices.EqualFunc(list, records, equal) {
		t.Errorf("listed %v, want newest first", ids(list))
	}
	trimmed, err := s.b.Trim(t.Context(), subject, 9)
	must(t, err)
	if len(trimmed) != 0 {
		t.Errorf("trimmed %d of fewer than the limit", len(trimmed))
	}
	trimmed, err = s.b.Trim(t.Context(), subject, 2)
	must(t, err)
	slices.SortFunc(trimmed, func(a, b bff.Record) int { return b.CreatedAt.Compare(a.CreatedAt) })
	if !slices.EqualFunc(trimmed, records[2:], equal) {
		t.Errorf("trimmed %v, want the oldest", ids(trimmed))
	}
	if list, err = s.a.List(t.Context(), subject); err != nil || !slices.EqualFunc(list, records[:2], equal) {
		t.Errorf("left %v %v", ids(list), err)
	}
	s.want(t, other)
}

func (s suite) testTrimAtOnce(t *testing.T) {
	subject := newSubject()
	var trimmed atomic.Int64
	var work sync.WaitGroup
	for i := range 12 {
		work.Go(func() {
			store := []bff.Store{s.a, s.b}[i%2]
			if err := store.Create(t.Context(), newRecord(subject)); err != nil {
				t.Error(err)
			}
			gone, err := store.Trim(t.Context(), subject, 3)
			if err != nil {
				t.Error(err)
			}
			trimmed.Add(int64(len(gone)))
		})
	}
	work.Wait()
	list, err := s.a.List(t.Context(), subject)
	must(t, err)
	if len(list) != 3 || trimmed.Load() != 9 {
		t.Errorf("%d are left, %d were trimmed", len(list), trimmed.Load())
	}
}

func (s suite) testOnce(t *testing.T) {
	id := newID()
	var first atomic.Int64
	var work sync.WaitGroup
	for i := range 10 {
		work.Go(func() {
			ok, err := []bff.Store{s.a, s.b}[i%2].Once(t.Context(), id, time.Now().Add(time.Minute))
			if err != nil {
				t.Error(err)
			}
			if ok {
				first.Add(1)
			}
		})
	}
	work.Wait()
	if first.Load() != 1 {
		t.Errorf("%d were the first", first.Load())
	}
	if ok, err := s.b.Once(t.Context(), newID(), time.Now().Add(time.Minute)); err != nil || !ok {
		t.Errorf("another: %v %v", ok, err)
	}
}

// A caller that has gone gets no half-made record.
func (s suite) testContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := newRecord(newSubject())
	err := s.a.Create(ctx, r)
	_, found := s.a.Load(t.Context(), r.ID)
	if (err == nil) != (found == nil) {
		t.Errorf("create said %v, load says %v", err, found)
	}
}

func (s suite) testSweep(t *testing.T) {
	subject := newSubject()
	now := start()
	var left []bff.ID
	for i := range 6 {
		r := newRecord(subject)
		r.CreatedAt = now.Add(-time.Hour)
		r.ExpiresAt = now.Add(time.Duration(i-3) * time.Minute)
		if created(t, s.a, r); i >= 3 {
			left = append(left, r.ID)
		}
	}
	used := newID()
	if ok, err := s.a.Once(t.Context(), used, now.Add(-time.Second)); err != nil || !ok {
		t.Fatal(ok, err)
	}
	total := 0
	for n := -1; n != 0; total += n {
		var err error
		n, err = s.b.Sweep(t.Context(), now, 2)
		must(t, err)
	}
	list, err := s.a.List(t.Context(), subject)
	must(t, err)
	got := ids(list)
	for _, id := range left {
		if !slices.Contains(got, id) {
			t.Errorf("a record was swept that had not expired")
		}
	}
	if len(got) != len(left) || total < 4 {
		t.Errorf("%d are left of %d, %d were swept", len(got), len(left), total)
	}
	if ok, err := s.a.Once(t.Context(), used, now.Add(time.Minute)); err != nil || !ok {
		t.Errorf("the ID of Once was not swept: %v %v", ok, err)
	}
}
