// Package password decides which passwords a user may choose, hashes them, and verifies them.
//
// A [Policy] holds the rules of NIST SP 800-63B-4, section 3.1.1.2: a minimum length counted in code points, a list of common
// passwords, and nothing else; no composition rules, no expiry. A [Hasher] turns a password into an argon2id hash in PHC string
// form and verifies such hashes, as well as argon2 and bcrypt hashes imported from another system. Hashing is expensive by
// design, so a Hasher computes a bounded number at once, lets a bounded number wait, and refuses the rest at once with a
// [BusyError].
//
//	if err := policy.Check(plain, email); err != nil { ... }
//	hash, err := hasher.Hash(ctx, plain)
//	...
//	ok, err := hasher.Verify(ctx, hash, plain) // hash is "" for an unknown user: the work is the same
//	if ok && hasher.NeedsRehash(hash) { ... }
//
// Passwords are used as typed, spaces and all, after one normalization to Unicode NFC. This choice is final: a
// change would lose the passwords that it normalizes differently.
package password

import (
	_ "embed" // common.txt
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// The lengths below are in Unicode code points, counted after normalization.
const (
	// MinLength is the least length a Policy may ask for, and what its zero value asks for. NIST SP 800-63B-4 demands 15 where the
	// password is the only factor, and 8 where a second one is always used.
	MinLength = 8
	// MaxLength is the greatest length of a password. It bounds work, not strength.
	MaxLength = 256
)

// maxRawBytes bounds what is normalized at all. The longest canonical decompositions are four code points for one, and a code
// point has at most four bytes, so every password of MaxLength fits however it was typed.
const maxRawBytes = 4 * 4 * MaxLength

var (
	// ErrMalformed says that the password is not text as a person types it: invalid UTF-8, a NUL, or U+FFFD, which a decoder leaves
	// where it lost something. Different passwords would fall together. Answer 400; never hash it.
	ErrMalformed = errors.New("password is not valid text")
	// ErrTooShort says that the policy asks for more code points. Ask for a longer password.
	ErrTooShort = errors.New("password is too short")
	// ErrTooLong says that the password has more than MaxLength code points. Ask for a shorter one.
	ErrTooLong = fmt.Errorf("password is longer than %d characters", MaxLength)
	// ErrCommon says that the password is among those that attackers try first. Ask for another one.
	ErrCommon = errors.New("password is too easy to guess")
)

//go:embed common.txt
var common string

// Policy is the rule for a password that a user chooses. Its zero value is ready to use. It does not apply to passwords at login:
// those were chosen under the rule of their day.
type Policy struct {
	// MinLength is the least length in code points; zero means the constant MinLength.
	MinLength int
}

// Min returns the least length in code points.
func (p Policy) Min() int { return max(p.MinLength, MinLength) }

// Validate reports a policy that NIST SP 800-63B-4 does not allow: a least length under MinLength, or so great that
// passwords of 64 code points would be refused.
func (p Policy) Validate() error {
	if p.MinLength != 0 && (p.MinLength < MinLength || p.MinLength > 64) {
		return fmt.Errorf("least password length is %d: must be between %d and 64", p.MinLength, MinLength)
	}
	return nil
}

// Check reports why plain may not become a password: ErrMalformed, ErrTooLong, ErrTooShort, or ErrCommon; nil if it
// may. The words in about are refused as common too, in any case: the user's e-mail address and name, the name
// of the service. Of an e-mail address the part before the @ is refused as well.
func (p Policy) Check(plain string, about ...string) error {
	text, err := normalize(plain)
	if err != nil {
		return err
	}
	if least := p.Min(); utf8.RuneCountInString(text) < least {
		return fmt.Errorf("%w: use at least %d characters", ErrTooShort, least)
	}
	folded := fold(text)
	if isCommon(folded) || isOneRune(folded) || isAbout(folded, about) {
		return ErrCommon
	}
	return nil
}

// normalize returns plain in NFC, or ErrMalformed or ErrTooLong. Nothing is trimmed, replaced or folded.
func normalize(plain string) (string, error) {
	if len(plain) > maxRawBytes {
		return "", ErrTooLong
	}
	if !utf8.ValidString(plain) || strings.ContainsAny(plain, "\x00\uFFFD") {
		return "", ErrMalformed
	}
	text := norm.NFC.String(plain)
	if utf8.RuneCountInString(text) > MaxLength {
		return "", ErrTooLong
	}
	return text, nil
}

// fold returns the form in which passwords are compared with words. Lower case is normalized again, because changing case can
// leave a sequence that has a composed form.
func fold(text string) string { return norm.NFC.String(strings.ToLower(text)) }

// isCommon searches the embedded list in place: it is sorted, so that no index has to be built, kept or paid for at start.
func isCommon(folded string) bool {
	rest := common
	for rest != "" {
		start := strings.LastIndexByte(rest[:len(rest)/2], '\n') + 1
		length := strings.IndexByte(rest[start:], '\n')
		switch strings.Compare(folded, rest[start:start+length]) {
		case 0:
			return true
		case -1:
			rest = rest[:start]
		default:
			rest = rest[start+length+1:]
		}
	}
	return false
}

// isOneRune reports one character typed over and over, which no list can hold in every length.
func isOneRune(folded string) bool {
	first, size := utf8.DecodeRuneInString(folded)
	return size > 0 && strings.Trim(folded, string(first)) == ""
}

func isAbout(folded string, about []string) bool {
	return slices.ContainsFunc(about, func(word string) bool {
		word = fold(word)
		local, _, isEmail := strings.Cut(word, "@")
		return folded == word || isEmail && folded == local
	})
}
