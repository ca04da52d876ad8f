// Package id makes the identifiers of rows. An ID consists of a time and random bits, so that new rows are neighbours in an
// index. Its text form is 26 lower-case characters, which each feature puts after a prefix of its own.
package id

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"time"
)

// length is the length of an ID's text form, in bytes.
const length = 26

// ID is 48 bits of time, in milliseconds, and 80 random bits.
type ID [16]byte

// encoding is base32 (RFC 4648, section 6) in lower case, without padding.
//
//nolint:gochecknoglobals // an immutable encoding
var encoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// New makes an ID.
func New(now time.Time) ID {
	var id ID
	binary.BigEndian.PutUint64(id[:8], uint64(now.UnixMilli())<<16)
	_, _ = rand.Read(id[6:]) // never fails
	return id
}

// Parse reads a text form. It reports false if the text is none: each ID has exactly one.
func Parse(text string) (ID, bool) {
	var id ID
	if len(text) != length {
		return ID{}, false
	}
	// The decoder skips line breaks, and does not look at the last bits.
	if n, err := encoding.Decode(id[:], []byte(text)); err != nil || n != len(id) || id.String() != text {
		return ID{}, false
	}
	return id, true
}

// String returns the text form.
func (id ID) String() string {
	var text [length]byte
	encoding.Encode(text[:], id[:])
	return string(text[:])
}
