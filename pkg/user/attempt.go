package user

import (
	"crypto/sha256"
	"time"
)

// Throttle says how many password checks an address gets: Burst at once, then one every Every.
type Throttle struct {
	Burst int
	Every time.Duration
}

// Try is an attempt to log in that is about to be made.
type Try struct {
	Email  string
	IP     string
	Device Device // zero if the caller's device is not known
	At     time.Time
}

// AttemptKey is where attempts are counted. It is a hash, because people type passwords into the field for the address.
type AttemptKey [sha256.Size]byte

// AttemptKeys are the keys of an attempt, of which one counts: that of a device on which the user has logged in before, that of a
// client address in use by a live session of the user, or that of strangers. A stranger who uses up the attempts of an account
// keeps its owner out of none of the former.
type AttemptKeys struct{ Device, Address, Strangers AttemptKey }

// Keys returns the keys of an attempt.
func (t Try) Keys() AttemptKeys {
	email := EmailKey(t.Email)
	return AttemptKeys{
		Device:    sha256.Sum256([]byte(email + "\x00\x00" + string(t.Device.ID[:]))),
		Address:   sha256.Sum256([]byte(email + "\x00" + t.IP)),
		Strangers: StrangersKey(email),
	}
}

// StrangersKey is where attempts from nowhere known are counted, for the EmailKey of an address.
func StrangersKey(emailKey string) AttemptKey { return sha256.Sum256([]byte(emailKey)) }

// Attempt is what one statement learns before a password is checked.
type Attempt struct {
	User       User          // zero if nobody has the address
	Found      bool          // whether somebody has the address
	RetryAfter time.Duration // above zero: the attempt is refused and no password may be checked
	Refund     Refund        // of an attempt that is not refused
}

// Refund gives a counted attempt back, once its login has succeeded. The zero Refund gives back nothing.
type Refund struct {
	Key AttemptKey
	// By is what one attempt costs. Zero for all that were counted: of a device or an address that is the user's own, failures are
	// forgotten with a success; what strangers have used up stays so.
	By time.Duration
}

// RefundOf is the refund of an attempt that counts under a key of its keys.
func RefundOf(keys AttemptKeys, key AttemptKey, limit Throttle) Refund {
	if key == keys.Strangers {
		return Refund{Key: key, By: limit.Every}
	}
	return Refund{Key: key}
}
