package feed

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/verifier"
)

const (
	// snapshotAge is how long a document of the whole list is given to everybody who asks while nothing has changed. Its as_of
	// grows old with it.
	snapshotAge = time.Second
	// largeSnapshot is the size in entries from which a document is worth keeping although the list has changed: until the next
	// second, or until the readers of earlier ones are done. Its cursor says where it stands, and whoever follows from
	// there misses nothing.
	largeSnapshot = 10_000
	// maxSnapshots is how many large documents may be in the hands of slow readers at once.
	maxSnapshots = 6
)

// snapshots makes documents of the whole list: one for all who ask, however many they are and however slowly they read.
type snapshots struct {
	mu     sync.Mutex
	newest *snapshot
	held   int // large documents of before that somebody still reads
}

// snapshot is one document of the whole list. Each of its forms is made once, when the first caller asks for it.
type snapshot struct {
	made    time.Time
	change  blocklist.Change
	asOf    time.Time
	readers int // guarded by the snapshots

	forms [4]form
}

// form is a document in one encoding.
type form struct {
	mu   sync.Mutex
	body []byte
}

func (n *snapshot) large() bool { return n.change.Entries.Len() >= largeSnapshot }

// take returns a document of the list for one reader, who gives it back.
func (s *snapshots) take(list *blocklist.List) *snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.newest; n == nil || !s.serves(n, list) {
		if n != nil && n.readers > 0 && n.large() {
			s.held++
		}
		asOf := list.HeardAt() // before looking, so that it claims no more than it holds
		s.newest = &snapshot{made: time.Now(), asOf: asOf, change: list.Snapshot()}
	}
	s.newest.readers++
	return s.newest
}

// serves reports whether the newest document will do.
func (s *snapshots) serves(n *snapshot, list *blocklist.List) bool {
	young := time.Since(n.made) < snapshotAge
	return young && n.change.Cursor == list.Cursor() || n.large() && (young || s.held >= maxSnapshots)
}

func (s *snapshots) giveBack(n *snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n.readers--; n.readers == 0 && n != s.newest && n.large() {
		s.held--
	}
}

// body returns the document in the form that a caller takes, and whether it is compressed.
func (n *snapshot) body(ctx context.Context, r *Room, signed, compressed bool) (body []byte, isCompressed bool, err error) {
	compressed = compressed && n.change.Entries.Len()*verifier.EntrySize >= compressFrom
	which := 0
	if signed {
		which = 2
	}
	if compressed {
		which++
	}
	f := &n.forms[which]
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.body != nil {
		return f.body, compressed, nil
	}
	document := r.feed(n.change, n.asOf)
	if signed {
		var raw string
		raw, err = r.signFeed(ctx, document)
		body = []byte(raw)
	} else {
		body, err = json.Marshal(document)
	}
	if err == nil && compressed {
		body, err = squeeze(body)
	}
	if err == nil {
		f.body = body
	}
	return body, compressed, err
}
