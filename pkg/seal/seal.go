// Package seal keeps the secrets of the service: the master key, the secrets that are derived from it, and the sealed
// values in the database or in a page.
//
// A sealed value is a version byte, the ID of the master key, a nonce, and the ciphertext and tag of AES-256-GCM. Every
// purpose has a label (see Label), and no other label opens its values. The associated data binds a value to its place,
// for instance to its row.
package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"slices"
)

const (
	version        = 2 // the first byte of a sealed value
	versionBefore  = 1 // of formVersion
	keyIDSize      = 4
	headSize       = 1 + keyIDSize
	derivedKeySize = 32 // AES-256
)

var (
	// ErrForm says that a sealed value is cut short or has a form that this program does not know: a newer program made it.
	ErrForm = errors.New("seal: value is cut short or was sealed by a newer program")
	// ErrKey says that no master key opens a sealed value: another one has sealed it, it belongs elsewhere, or it was altered.
	ErrKey = errors.New("seal: value was sealed under another master key, or altered")
)

// Sealer seals and opens the values of one label. It is safe for concurrent use.
type Sealer struct {
	keys   []sealingKey // the first seals
	before oldFormat
}

// sealingKey is derived from one master key.
type sealingKey struct {
	head []byte // version and key ID
	aead cipher.AEAD
}

// New returns the sealer of a label: the first key of master seals, all of them open. It panics on the zero MasterKey.
func New(master MasterKey, label Label) Sealer {
	s := Sealer{before: label.oldFormat()}
	for _, key := range master.all() {
		s.keys = append(s.keys, sealingKey{
			head: append([]byte{version}, derive(key, keyID, keyIDSize)...),
			aead: newAEAD(derive(key, label, derivedKeySize)),
		})
	}
	return s
}

func newAEAD(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // only a key of another length
	}
	// Random nonces are safe for 2^32 values under one key (NIST SP 800-38D, section 8.3).
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // only another block size
	}
	return aead
}

// Seal encrypts a value. It opens only together with the same associated data, which is not a part of the result.
func (s Sealer) Seal(plain, associated []byte) []byte {
	key := s.keys[0]
	return key.aead.Seal(bytes.Clone(key.head), nil, plain, key.bind(associated)) //nolint:gosec // the AEAD makes its own nonce
}

// Open decrypts what Seal made for the same label and associated data, under any of the master keys. It opens the formats of
// earlier programs too. ErrForm, ErrKey.
func (s Sealer) Open(sealed, associated []byte) ([]byte, error) {
	known := len(sealed) >= headSize && sealed[0] == version
	if known {
		for _, key := range s.keys { // two keys may have the same ID
			if rest, ok := bytes.CutPrefix(sealed, key.head); ok {
				if plain, err := key.aead.Open(nil, nil, rest, key.bind(associated)); err == nil {
					return plain, nil
				}
			}
		}
	}
	switch {
	case s.before == formVersion && len(sealed) > 0 && sealed[0] == versionBefore:
		return s.openBefore(sealed[1:], associated)
	case s.before == formBare: // the first byte of a nonce may be the version by chance
		return s.openBefore(sealed, associated)
	case known:
		return nil, ErrKey
	}
	return nil, ErrForm
}

// openBefore opens a value of an old format behind its version. It does not name its key.
func (s Sealer) openBefore(sealed, associated []byte) ([]byte, error) {
	for _, key := range s.keys {
		if plain, err := key.aead.Open(nil, nil, sealed, associated); err == nil {
			return plain, nil
		}
	}
	return nil, ErrKey
}

// bind returns the associated data with the head before it, so that neither version nor key ID can be changed.
func (k sealingKey) bind(associated []byte) []byte { return slices.Concat(k.head, associated) }
