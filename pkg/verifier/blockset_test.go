package verifier

import (
	"crypto/rand"
	"encoding/binary"
	mrand "math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"
)

// randomEntries returns n entries with distinct keys.
func randomEntries(n int) Entries {
	p := make(Entries, 0, n*EntrySize)
	for range n {
		var e Entry
		_, _ = rand.Read(e.Key[:])
		e.NotBefore, e.DropAfter = 1000, 2000
		p = p.Append(e)
	}
	return p
}

func TestBlockSetAgainstAMap(t *testing.T) {
	s, model := NewBlockSet(), map[BlockKey]Entry{}
	r := mrand.New(mrand.NewPCG(1, 2))
	key := func() (k BlockKey) { // few keys, so that they meet; few first bytes, so that tables grow
		binary.BigEndian.PutUint64(k[:], uint64(r.IntN(3))<<56)
		binary.BigEndian.PutUint64(k[8:], uint64(r.IntN(4000)))
		return k
	}
	for i := range 60_000 {
		e := Entry{Key: key(), NotBefore: 1 + r.Uint32N(500), DropAfter: r.Uint32N(1000)}
		old := model[e.Key]
		model[e.Key] = Entry{Key: e.Key, NotBefore: max(old.NotBefore, e.NotBefore), DropAfter: max(old.DropAfter, e.DropAfter)}
		if i%2 == 0 {
			s.Add(e)
		} else if err := s.Merge(Entries(nil).Append(e).Append(e)); err != nil {
			t.Fatal(err)
		}
		if i%10_000 == 9_999 {
			now, gone := time.Unix(int64(r.IntN(1000)), 0), 0
			for k, e := range model {
				if int64(e.DropAfter) < now.Unix() {
					delete(model, k)
					gone++
				}
			}
			if got := s.Purge(now); got != gone {
				t.Fatalf("Purge removed %d, want %d", got, gone)
			}
		}
		if probe := key(); i%7 == 0 {
			got, ok := s.Lookup(probe)
			want, wantOK := model[probe]
			if ok != wantOK || got != int64(want.NotBefore) {
				t.Fatalf("Lookup = %d, %v, want %d, %v", got, ok, want.NotBefore, wantOK)
			}
		}
	}
	if s.Len() != len(model) {
		t.Errorf("Len = %d, want %d", s.Len(), len(model))
	}
	for k, e := range model {
		if !s.Blocked([]BlockKey{{9}, k}, int64(e.NotBefore)) || s.Blocked([]BlockKey{k}, int64(e.NotBefore)+1) {
			t.Fatalf("entry %+v does not hold exactly to its NotBefore", e)
		}
	}
}

func TestBlockSetRefusesCutRecords(t *testing.T) {
	s := NewBlockSet()
	if err := s.Merge(randomEntries(2)[:40]); err == nil || s.Len() != 0 {
		t.Errorf("Merge of a cut record: %v, %d entries; want an error and none", err, s.Len())
	}
}

// Readers beside a writer see every entry that was complete before they began; the race detector watches.
func TestBlockSetReadersBesideAWriter(t *testing.T) {
	s, entries := NewBlockSet(), randomEntries(5000)
	var wg sync.WaitGroup
	published := make(chan BlockKey, 5000)
	for range 2 {
		wg.Go(func() {
			for k := range published {
				if !s.Blocked([]BlockKey{k}, 1000) {
					t.Errorf("entry %x is not there after Add", k)
				}
			}
		})
	}
	for e := range entries.All() {
		s.Add(e)
		published <- e.Key
	}
	close(published)
	wg.Wait()
}

func TestBlockSetMemoryAndLoadOfAMillion(t *testing.T) {
	const n = 1_000_000
	entries := randomEntries(n)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s := NewBlockSet()
	begin := time.Now()
	if err := s.Merge(entries); err != nil {
		t.Fatal(err)
	}
	t.Logf("a snapshot of a million entries loaded in %v", time.Since(begin))
	if err := s.Merge(entries); err != nil || s.Len() != n {
		t.Fatalf("the same snapshot again: %v, %d entries", err, s.Len())
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := float64(after.HeapAlloc-before.HeapAlloc) / n
	t.Logf("%.1f bytes an entry after a snapshot", each)
	if each > 32 {
		t.Errorf("%.1f bytes an entry, want at most 32", each)
	}
	for e := range entries[:n/10*EntrySize].All() { // grown one by one, the slack differs
		e.Key[15] ^= 0xff
		s.Add(e)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each = float64(after.HeapAlloc-before.HeapAlloc) / float64(s.Len())
	t.Logf("%.1f bytes an entry after more, one by one", each)
	if each > 32 {
		t.Errorf("%.1f bytes an entry, want at most 32", each)
	}
	if back := s.Entries(); back.Len() != s.Len() {
		t.Errorf("Entries returns %d of %d", back.Len(), s.Len())
	}
	runtime.KeepAlive(entries)
	runtime.KeepAlive(s)
}

func BenchmarkBlockSetLookup(b *testing.B) {
	entries := randomEntries(1_000_000)
	s := NewBlockSet()
	if err := s.Merge(entries); err != nil {
		b.Fatal(err)
	}
	b.Run("absent", func(b *testing.B) {
		probes := make([]BlockKey, 0, 1<<16)
		for e := range randomEntries(1 << 16).All() {
			probes = append(probes, e.Key)
		}
		for i := 0; b.Loop(); i++ {
			s.Lookup(probes[i&(1<<16-1)])
		}
	})
	b.Run("present", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			j := i * 7919 % 1_000_000 * EntrySize
			s.Lookup(BlockKey(entries[j : j+16]))
		}
	})
}
