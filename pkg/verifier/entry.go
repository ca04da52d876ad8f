package verifier

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"time"
)

// BlockKind says which claim or header parameter of a token a blocklist entry is about.
type BlockKind string

// The kinds of blocklist entries. A token is refused if an entry of any of these kinds matches it.
const (
	BlockJTI    BlockKind = "jti"       // one access token, by its jti claim
	BlockSID    BlockKind = "sid"       // the access tokens of one session, by their sid claim
	BlockClient BlockKind = "client_id" // the access tokens of one client, by their client_id claim
	BlockKID    BlockKind = "kid"       // everything that one signing key signed, by the kid header parameter
)

// BlockKey identifies the subject of an entry: the first 16 bytes of SHA-256(kind || 0x00 || value). The feed can be public
// because a key tells nothing about the value, which is itself random.
type BlockKey [16]byte

// KeyOf returns the key of an entry about value, which is of the given kind.
func KeyOf(kind BlockKind, value string) BlockKey {
	var space [128]byte // no allocation for the values that occur
	b := append(space[:0], kind...)
	b = append(b, 0)
	b = append(b, value...)
	sum := sha256.Sum256(b)
	return BlockKey(sum[:16])
}

// Entry is one record of the blocklist. It refuses the tokens that match Key and were minted (iat) at or before NotBefore.
type Entry struct {
	Key       BlockKey
	NotBefore uint32 // Unix seconds; tokens with iat <= NotBefore are refused
	DropAfter uint32 // Unix seconds; later than the expiry of every token that the entry can refuse
}

// EntrySize is the length in bytes of an entry on the wire: key, then NotBefore and DropAfter in big-endian order.
const EntrySize = 24

// ErrEntries is returned for packed entries whose length is not a multiple of EntrySize. Take a new snapshot.
var ErrEntries = errors.New("verifier: malformed blocklist entries")

// Entries are blocklist entries in wire form, one after another. In JSON they are a string in standard, padded base64.
type Entries []byte

// Append returns the entries with e added at the end.
func (p Entries) Append(e Entry) Entries {
	p = append(p, e.Key[:]...)
	p = binary.BigEndian.AppendUint32(p, e.NotBefore)
	return binary.BigEndian.AppendUint32(p, e.DropAfter)
}

// Len returns the number of entries.
func (p Entries) Len() int { return len(p) / EntrySize }

// Check returns ErrEntries if the packed form is cut short.
func (p Entries) Check() error {
	if len(p)%EntrySize != 0 {
		return fmt.Errorf("%w: %d bytes", ErrEntries, len(p))
	}
	return nil
}

// All iterates over the entries in order. Bytes after the last complete record are ignored, see Check.
func (p Entries) All() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		for b := p; len(b) >= EntrySize; b = b[EntrySize:] {
			e := Entry{
				Key:       BlockKey(b[:16]),
				NotBefore: binary.BigEndian.Uint32(b[16:20]),
				DropAfter: binary.BigEndian.Uint32(b[20:24]),
			}
			if !yield(e) {
				return
			}
		}
	}
}

// Feed is the document that the blocklist endpoint answers and that each "entries" event of the stream carries.
//
// Without a cursor in the request it is a snapshot, with one it holds what changed since. An entry may be repeated; who merges
// takes the larger NotBefore and the larger DropAfter.
type Feed struct {
	Issuer  string    `json:"iss"`
	Cursor  string    `json:"cursor"`  // opaque; goes back to the issuer as ?after= or Last-Event-ID
	AsOf    time.Time `json:"as_of"`   // the issuer knew of every revocation acknowledged before this instant
	Entries Entries   `json:"entries"` // packed records
}

// Heartbeat is the data of a "heartbeat" event of the stream: nothing has changed, and this is how recently the issuer looked.
type Heartbeat struct {
	AsOf time.Time `json:"as_of"`
}
