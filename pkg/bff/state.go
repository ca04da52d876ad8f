package bff

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"time"
)

// state is what is kept of a session: sealed in the cookie, or in the record of a Store.
type state struct {
	createdAt   int64 // Unix seconds, as is refreshedAt
	refreshedAt int64
	csrf        string // 32 random bytes
	subject     string // the user's ID; it and the sid never change
	sid         string
	access      string
	refresh     string // empty if the client gets none
	id          string // ID token
	userAgent   string // of the login, shortened; empty in a cookie

	// Where it is kept, which the text does not say.
	key     ID // of the record; zero in a cookie
	version int64
}

// ID names a record of a Store: the SHA-256 of what stands in the cookie, so that the records alone let nobody in.
type ID [sha256.Size]byte

const stateVersion = 1

var errState = errors.New("bff: malformed state")

// encode returns the one spelling of a state: a version, the two times, and each text behind its length.
func (s *state) encode() []byte {
	out := make([]byte, 0, 64+len(s.csrf)+len(s.access)+len(s.refresh)+len(s.id)+len(s.userAgent))
	out = append(out, stateVersion)
	out = binary.BigEndian.AppendUint64(out, uint64(s.createdAt))   //nolint:gosec // back again in decodeState
	out = binary.BigEndian.AppendUint64(out, uint64(s.refreshedAt)) //nolint:gosec // back again in decodeState
	for _, text := range []string{s.csrf, s.subject, s.sid, s.access, s.refresh, s.id, s.userAgent} {
		out = binary.BigEndian.AppendUint32(out, uint32(len(text))) //nolint:gosec // no token has 4 GiB
		out = append(out, text...)
	}
	return out
}

// decodeState reads what encode wrote, and nothing else.
func decodeState(b []byte) (*state, error) {
	if len(b) < 17 || b[0] != stateVersion {
		return nil, errState
	}
	s := &state{
		createdAt:   int64(binary.BigEndian.Uint64(b[1:])), //nolint:gosec // see encode
		refreshedAt: int64(binary.BigEndian.Uint64(b[9:])), //nolint:gosec // see encode
	}
	rest := string(b[17:])
	for _, text := range []*string{&s.csrf, &s.subject, &s.sid, &s.access, &s.refresh, &s.id, &s.userAgent} {
		if len(rest) < 4 {
			return nil, errState
		}
		n := uint64(binary.BigEndian.Uint32([]byte(rest[:4])))
		if uint64(len(rest)) < 4+n {
			return nil, errState
		}
		*text, rest = rest[4:4+n], rest[4+n:]
	}
	if rest != "" || len(s.csrf) != csrfSize {
		return nil, errState
	}
	return s, nil
}

// endsAt is when the session ends if it is not used: the idle end, at most the absolute end.
func (s *state) endsAt(idle, lifetime time.Duration) time.Time {
	idleEnd, end := time.Unix(s.refreshedAt, 0).Add(idle), time.Unix(s.createdAt, 0).Add(lifetime)
	if end.Before(idleEnd) {
		return end
	}
	return idleEnd
}
