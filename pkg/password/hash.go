package password

import (
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// ErrUnknownHash says that a stored hash is none that this package can evaluate: an unknown scheme, text that is damaged, or
// parameters beyond the bounds below. The password did not match. Tell the operator, and answer the user as for a wrong password.
var ErrUnknownHash = errors.New("unknown password hash")

// A stored hash names its own cost, and anyone who writes to the database or imports hashes chooses it. These bounds keep one
// evaluation under a second or so and within a known amount of memory.
const (
	maxMemory     = 256 << 10 // KiB
	maxWork       = 1 << 20   // KiB times passes
	maxThreads    = 16
	maxBcryptCost = 14
	maxHashText   = 512 // bytes
)

const (
	saltLength = 16 // bytes, RFC 9106, section 4
	keyLength  = 32 // bytes, RFC 9106, section 4
	// bcryptLength is how much of a password bcrypt reads. Anything after it could differ freely.
	bcryptLength = 72 // bytes
)

// Params is the cost of an argon2id hash. Its zero value means 19 MiB, two passes, one lane: the OWASP Password Storage Cheat
// Sheet's first choice where memory matters.
type Params struct {
	Memory  uint32 // KiB; zero means 19,456 (19 MiB)
	Time    uint32 // passes over the memory; zero means 2
	Threads uint8  // lanes; zero means 1
}

func (p Params) orDefault() Params {
	if p.Memory == 0 {
		p.Memory = 19 << 10
	}
	if p.Time == 0 {
		p.Time = 2
	}
	if p.Threads == 0 {
		p.Threads = 1
	}
	return p
}

// Validate reports a cost that is out of bounds: memory below 8 KiB a lane (RFC 9106, section 3.1) or above 256 MiB, more than 16
// lanes, or memory times passes above 1 GiB.
func (p Params) Validate() error {
	p = p.orDefault()
	switch {
	case p.Threads > maxThreads:
		return fmt.Errorf("argon2 threads is %d: must be between 1 and %d", p.Threads, maxThreads)
	case p.Memory < 8*uint32(p.Threads) || p.Memory > maxMemory:
		return fmt.Errorf("argon2 memory is %d KiB: must be between %d (8 a thread) and %d", p.Memory, 8*uint32(p.Threads), maxMemory)
	case uint64(p.Memory)*uint64(p.Time) > maxWork:
		return fmt.Errorf("argon2 memory times passes is %d KiB: must be at most %d", uint64(p.Memory)*uint64(p.Time), maxWork)
	}
	return nil
}

// hash is a stored hash, parsed. Every text that parses re-encodes to itself.
type hash interface {
	// matches evaluates the hash for a normalized password. The work does not depend on the outcome.
	matches(text string) bool
	String() string
}

// parseHash reads a stored hash, or returns ErrUnknownHash.
func parseHash(text string) (hash, error) {
	if len(text) > maxHashText {
		return nil, fmt.Errorf("%w: %d bytes", ErrUnknownHash, len(text))
	}
	switch {
	case strings.HasPrefix(text, "$argon2"):
		return parseArgon2(text)
	case strings.HasPrefix(text, "$2"):
		return parseBcrypt(text)
	}
	// The text itself stays out of the error: it may be a password that somebody stored in clear.
	return nil, fmt.Errorf("%w: unknown scheme", ErrUnknownHash)
}

// argon2Hash is a hash of argon2id or argon2i, version 1.3.
type argon2Hash struct {
	variant string // "argon2id" or "argon2i"
	Params
	salt, key []byte
}

// parseArgon2 reads the PHC string form, $argon2id$v=19$m=19456,t=2,p=1$salt$key, in exactly the order and spelling that
// every encoder writes; key identifiers and associated data are not used by any of them.
func parseArgon2(text string) (hash, error) {
	fields := strings.Split(text, "$")
	if len(fields) != 6 || fields[1] != "argon2id" && fields[1] != "argon2i" {
		return nil, fmt.Errorf("%w: neither argon2id nor argon2i", ErrUnknownHash)
	}
	if fields[2] != "v="+strconv.Itoa(argon2.Version) {
		return nil, fmt.Errorf("%w: argon2 of another version than 1.3", ErrUnknownHash)
	}
	cost := strings.Split(fields[3], ",")
	if len(cost) != 3 {
		return nil, fmt.Errorf("%w: argon2 parameters are not m, t, p", ErrUnknownHash)
	}
	memory, time, threads := parseParam(cost[0], "m="), parseParam(cost[1], "t="), parseParam(cost[2], "p=")
	if memory == 0 || time == 0 || threads == 0 || threads > maxThreads {
		return nil, fmt.Errorf("%w: argon2 parameters are not m, t, p within bounds", ErrUnknownHash)
	}
	h := &argon2Hash{variant: fields[1], Params: Params{Memory: memory, Time: time, Threads: uint8(threads)}}
	if err := h.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnknownHash, err)
	}
	var errSalt, errKey error
	h.salt, errSalt = base64.RawStdEncoding.Strict().DecodeString(fields[4])
	h.key, errKey = base64.RawStdEncoding.Strict().DecodeString(fields[5])
	// A short key would match by luck, and an empty one would match always.
	if errSalt != nil || errKey != nil || len(h.salt) < 8 || len(h.salt) > 64 || len(h.key) < 16 || len(h.key) > 64 ||
		h.String() != text {
		return nil, fmt.Errorf("%w: argon2 salt or key is damaged", ErrUnknownHash)
	}
	return h, nil
}

// parseParam reads a positive decimal number after a fixed name. Zero stands for anything else.
func parseParam(text, name string) uint32 {
	digits, _ := strings.CutPrefix(text, name)
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil || len(digits) == len(text) {
		return 0
	}
	return uint32(n)
}

func (h *argon2Hash) derive(text string) []byte {
	derive := argon2.IDKey
	if h.variant == "argon2i" {
		derive = argon2.Key
	}
	return derive([]byte(text), h.salt, h.Time, h.Memory, h.Threads, uint32(len(h.key))) //nolint:gosec // at most 64
}

func (h *argon2Hash) matches(text string) bool {
	return subtle.ConstantTimeCompare(h.derive(text), h.key) == 1
}

// String returns the PHC string form.
func (h *argon2Hash) String() string {
	return fmt.Sprintf("$%s$v=%d$m=%d,t=%d,p=%d$%s$%s", h.variant, argon2.Version, h.Memory, h.Time, h.Threads,
		base64.RawStdEncoding.EncodeToString(h.salt), base64.RawStdEncoding.EncodeToString(h.key))
}

// bcryptHash is the text of a bcrypt hash that was found well formed.
type bcryptHash string

// parseBcrypt accepts the revisions that mean the same algorithm; $2$ and $2x$ are the broken ones. The form is
// $2b$10$, then 53 characters of salt and key.
func parseBcrypt(text string) (hash, error) {
	const alphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	if len(text) != 60 || !strings.ContainsRune("aby", rune(text[2])) || text[3] != '$' || text[6] != '$' ||
		strings.Trim(text[7:], alphabet) != "" {
		return nil, fmt.Errorf("%w: damaged bcrypt hash", ErrUnknownHash)
	}
	if cost, err := strconv.ParseUint(text[4:6], 10, 8); err != nil || int(cost) < bcrypt.MinCost || cost > maxBcryptCost {
		return nil, fmt.Errorf("%w: bcrypt cost is not between %d and %d", ErrUnknownHash, bcrypt.MinCost, maxBcryptCost)
	}
	return bcryptHash(text), nil
}

// matches is false for a password that bcrypt would cut off, after the same work.
func (h bcryptHash) matches(text string) bool {
	whole := len(text) <= bcryptLength
	if !whole {
		text = text[:bcryptLength]
	}
	return bcrypt.CompareHashAndPassword([]byte(h), []byte(text)) == nil && whole
}

// String returns the hash as it was stored.
func (h bcryptHash) String() string { return string(h) }
