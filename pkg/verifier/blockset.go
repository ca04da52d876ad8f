package verifier

import (
	"crypto/rand"
	"encoding/binary"
	"iter"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// BlockSet is a blocklist in memory. Lookups take no lock and are safe beside any number of writers; a set costs at most 32 bytes
// an entry. Make one with NewBlockSet.
type BlockSet struct {
	mu     sync.Mutex // held by writers
	seed   uint64     // so that an attacker cannot choose values that collide here
	count  atomic.Int64
	shards [64]atomic.Pointer[shard]
}

// shard is a table with open addressing. Many small tables, rather than one, keep growing cheap: a writer copies one of them and
// publishes the copy, and never are two copies of the whole set alive.
//
// The slots come in groups of eight, whose tags share a word: a byte of each key's hash, 0 for a free slot. A search reads words
// of tags until one has a free slot, so for a key that is absent, the common case, it touches the small dense array only.
type shard struct {
	tags  []atomic.Uint64
	slots []slot
	used  int // guarded by BlockSet.mu
}

// slot is filled before its tag is published and its key never changes after that, so readers need no lock. Nothing is
// ever removed from a table; Purge publishes a new one.
type slot struct {
	key   BlockKey
	times atomic.Uint64 // NotBefore<<32 | DropAfter
}

// dropAfter is the part of a slot's times that is DropAfter.
const dropAfter = 1<<32 - 1

// A table is rebuilt when it is more than maxLoad full, to be minLoad full: at 25 bytes a slot that is 31 bytes an entry at most.
const (
	minLoad = 0.82
	maxLoad = 0.90
)

// NewBlockSet returns an empty set.
func NewBlockSet() *BlockSet {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails, see crypto/rand
	return &BlockSet{seed: binary.LittleEndian.Uint64(b[:]) | 1}
}

// Len returns the number of entries.
func (s *BlockSet) Len() int { return int(s.count.Load()) }

// Lookup returns the NotBefore of the entry for key in Unix seconds, and whether there is one.
func (s *BlockSet) Lookup(key BlockKey) (notBefore int64, ok bool) {
	t := s.shard(key).Load()
	if t == nil {
		return 0, false
	}
	if e, _, _ := t.find(&key, s.seed); e != nil {
		return int64(e.times.Load() >> 32), true
	}
	return 0, false
}

// Blocked reports whether an entry for one of keys refuses a token minted at iat (Unix seconds).
func (s *BlockSet) Blocked(keys []BlockKey, iat int64) bool {
	for _, key := range keys {
		if notBefore, ok := s.Lookup(key); ok && iat <= notBefore {
			return true
		}
	}
	return false
}

// Entries returns all entries in wire form, in no particular order.
func (s *BlockSet) Entries() Entries {
	out := make(Entries, 0, s.Len()*EntrySize)
	for i := range s.shards {
		if t := s.shards[i].Load(); t != nil {
			for key, times := range t.since(0) {
				out = binary.BigEndian.AppendUint64(append(out, key[:]...), times)
			}
		}
	}
	return out
}

// Add merges one entry into the set. Of two entries with one key, the larger NotBefore and the larger DropAfter hold.
func (s *BlockSet) Add(e Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.Lookup(e.Key); !known {
		s.reserve(s.shard(e.Key), 1)
	}
	s.add(e)
}

// Merge adds packed entries, as Add does. It returns ErrEntries, and adds nothing, if they are cut short. A snapshot is merged
// too: an entry that the issuer has lost (a database restored from a backup) still refuses tokens here.
func (s *BlockSet) Merge(entries Entries) error {
	if err := entries.Check(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var more [len(s.shards)]int
	for e := range entries.All() {
		if _, known := s.Lookup(e.Key); !known { // a snapshot that is merged again takes no more room
			more[shardOf(e.Key)]++
		}
	}
	for i, n := range more {
		s.reserve(&s.shards[i], n)
	}
	for e := range entries.All() {
		s.add(e)
	}
	return nil
}

// Purge removes the entries whose DropAfter is before t and returns how many.
func (s *BlockSet) Purge(t time.Time) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	unix, removed := uint64(max(t.Unix(), 0)), 0
	for i := range s.shards {
		old := s.shards[i].Load()
		if old == nil {
			continue
		}
		alive := 0
		for range old.since(unix) {
			alive++
		}
		if alive < old.used {
			removed += old.used - alive
			s.shards[i].Store(s.rebuild(old, alive, unix))
		}
	}
	s.count.Add(int64(-removed))
	return removed
}

func shardOf(k BlockKey) int { return int(k[0]) % len(BlockSet{}.shards) }

func (s *BlockSet) shard(k BlockKey) *atomic.Pointer[shard] { return &s.shards[shardOf(k)] }

// reserve makes room for n more entries in a shard.
func (s *BlockSet) reserve(p *atomic.Pointer[shard], n int) {
	t := p.Load()
	used, room := 0, 0
	if t != nil {
		used, room = t.used, int(float64(len(t.slots))*maxLoad)
	}
	if n > 0 && used+n > room {
		p.Store(s.rebuild(t, used+n, 0))
	}
}

// rebuild returns a table with room for n entries that holds those of old whose DropAfter is not before unix.
func (s *BlockSet) rebuild(old *shard, n int, unix uint64) *shard {
	if n == 0 {
		return nil
	}
	groups := int(float64(n)/minLoad)/8 + 1 // always a free slot, where a search ends
	t := &shard{tags: make([]atomic.Uint64, groups), slots: make([]slot, 8*groups)}
	if old == nil {
		return t
	}
	for key, times := range old.since(unix) {
		t.put(key, times, s.seed)
	}
	return t
}

// add merges an entry into its shard, which has room.
func (s *BlockSet) add(e Entry) {
	if s.shard(e.Key).Load().put(&e.Key, uint64(e.NotBefore)<<32|uint64(e.DropAfter), s.seed) {
		s.count.Add(1)
	}
}

// put merges an entry and reports whether it is new.
func (t *shard) put(key *BlockKey, times, seed uint64) bool {
	e, free, tag := t.find(key, seed)
	if e != nil {
		old := e.times.Load()
		e.times.Store(max(old>>32, times>>32)<<32 | max(old&dropAfter, times&dropAfter))
		return false
	}
	t.slots[free].key = *key
	t.slots[free].times.Store(times)
	word := &t.tags[free/8]
	word.Store(word.Load() | tag<<(free%8*8)) // publishes the slot
	t.used++
	return true
}

// find returns the slot of key, or else the free slot where it would go, and its tag.
func (t *shard) find(key *BlockKey, seed uint64) (e *slot, free int, tag uint64) {
	const ones, tops uint64 = 0x0101010101010101, 0x8080808080808080
	hi, lo := bits.Mul64(binary.LittleEndian.Uint64(key[8:])^seed, seed)
	hash := hi ^ lo
	tag = max(hash&0xff, 1)
	home, _ := bits.Mul64(hash, uint64(len(t.tags)))
	for g := int(home); ; { //nolint:gosec // below len(t.tags)
		word := t.tags[g].Load()
		// Exactly the bytes of x that are zero get their top bit set in match; a slot that is not published is not looked at.
		x := word ^ tag*ones
		for match := ^((x&^tops + ^tops) | x | ^tops); match != 0; match &= match - 1 {
			if e := &t.slots[8*g+bits.TrailingZeros64(match)/8]; e.key == *key {
				return e, 0, tag
			}
		}
		if empty := (word - ones) &^ word & tops; empty != 0 {
			return nil, 8*g + bits.TrailingZeros64(empty)/8, tag // the lowest such bit is never a borrow
		}
		if g++; g == len(t.tags) {
			g = 0
		}
	}
}

// since iterates over the key and the times of the entries whose DropAfter is not before unix.
func (t *shard) since(unix uint64) iter.Seq2[*BlockKey, uint64] {
	return func(yield func(*BlockKey, uint64) bool) {
		for i := range t.slots {
			e := &t.slots[i]
			taken := t.tags[i/8].Load()>>(i%8*8)&0xff != 0
			if times := e.times.Load(); taken && times&dropAfter >= unix && !yield(&e.key, times) {
				return
			}
		}
	}
}
