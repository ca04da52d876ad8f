package factor

import (
	"crypto/rand"
	"crypto/sha256"
	"slices"
	"strings"

	"github.com/handstamp/handstamp/pkg/seal"
)

// RecoveryCodes is how many recovery codes make a set.
const RecoveryCodes = 10

// recoveryLength is 80 bits in base32: so many that a hash of them needs no salt and no cost.
const recoveryLength = 16

// newRecoveryCodes makes a set, as people read it, and its hashes.
func newRecoveryCodes(userID string) (codes []seal.Secret, hashes [][32]byte) {
	for range RecoveryCodes {
		raw := strings.ToLower(rand.Text()[:recoveryLength])
		hashes = append(hashes, hashRecovery(userID, raw))
		codes = append(codes, seal.Secret(strings.Join([]string{raw[:4], raw[4:8], raw[8:12], raw[12:]}, "-")))
	}
	return codes, hashes
}

// hashRecovery is what the database has of a code. It is bound to the user.
func hashRecovery(userID, code string) [32]byte {
	return sha256.Sum256([]byte("recovery code\x00" + userID + "\x00" + code))
}

// plain is a code as it is compared: without the spaces and hyphens that people type and read, in lower case, and with the digits
// of other scripts as those of ASCII.
func plain(code string) string {
	if len(code) > maxCode {
		return ""
	}
	return strings.ToLower(strings.Map(func(r rune) rune {
		if r == '-' || r == ' ' || r == '\u00a0' || r == '\u2009' || r == '\u202f' || r == '\u2011' || r == '\t' {
			return -1
		}
		i := slices.IndexFunc(zeros(), func(zero rune) bool { return r >= zero && r <= zero+9 })
		if i >= 0 {
			return '0' + r - zeros()[i]
		}
		return r
	}, code))
}

// maxCode bounds what is taken for a code, in bytes.
const maxCode = 128

// zeros are the digits of the scripts in which telephones write numbers: Arabic, Persian, Devanagari, Bengali, Thai, full width.
func zeros() []rune { return []rune{'\u0660', '\u06f0', '\u0966', '\u09e6', '\u0e50', '\uff10'} }

// isTOTP is the form of a code of an authenticator.
func isTOTP(code string) bool {
	return len(code) == 6 && strings.Trim(code, "0123456789") == ""
}

// isRecovery is the form of a recovery code.
func isRecovery(code string) bool {
	return len(code) == recoveryLength && strings.Trim(code, "abcdefghijklmnopqrstuvwxyz234567") == ""
}
