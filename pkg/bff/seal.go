package bff

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
)

// KeySize is the length in bytes of each of Config.Keys.
const KeySize = 32

// purpose is what something was sealed for. It is part of what is authenticated, so that nothing sealed for one purpose opens
// for another.
type purpose string

const (
	forSession purpose = "session"
	forFlow    purpose = "flow"
	forRecord  purpose = "record"
)

// sealer seals with the newest key and opens with any. A text is version, key number, salt, nonce and AES-256-GCM with its tag.
// Each text has an AES key of its own, which HMAC-SHA-256 derives from the key and the salt, so that random nonces do not wear a
// key out, however many sessions it seals (NIST SP 800-38D, section 8.3).
type sealer struct {
	keys    [][]byte
	numbers [][keyNumberSize]byte
}

const (
	sealVersion   = 1
	keyNumberSize = 4
	saltSize      = 16
	nonceSize     = 12
	tagSize       = 16
	sealHead      = 1 + keyNumberSize + saltSize + nonceSize
)

// errOpen is a text that no key here has sealed for this purpose and name.
var errOpen = errors.New("bff: not sealed by us for this")

func newSealer(keys [][]byte) (*sealer, error) {
	if len(keys) == 0 {
		return nil, fmt.Errorf("bff: Config.Keys: at least one key of %d random bytes is required", KeySize)
	}
	s := &sealer{}
	for i, key := range keys {
		if len(key) != KeySize || bytes.Count(key, key[:1]) == len(key) {
			return nil, fmt.Errorf("bff: Config.Keys[%d] must be %d random bytes", i, KeySize)
		}
		s.keys = append(s.keys, bytes.Clone(key))
		s.numbers = append(s.numbers, [keyNumberSize]byte(mac(key, "bff key number", "")))
	}
	return s, nil
}

// mac returns HMAC-SHA-256 of two texts; the first has no zero byte.
func mac(key []byte, label, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(label))
	h.Write([]byte{0})
	h.Write([]byte(text))
	return h.Sum(nil)
}

// seal returns plain sealed for a purpose under a name, which whoever opens it must know.
func (s *sealer) seal(p purpose, name string, plain []byte) []byte {
	out := make([]byte, sealHead, sealHead+len(plain)+tagSize)
	out[0] = sealVersion
	copy(out[1:], s.numbers[0][:])
	_, _ = rand.Read(out[1+keyNumberSize : sealHead]) // never fails, see crypto/rand
	return cipherOf(s.keys[0], out).Seal(out, out[sealHead-nonceSize:], plain, bound(p, name, out))
}

// open returns what seal was given, or errOpen.
func (s *sealer) open(p purpose, name string, text []byte) ([]byte, error) {
	if len(text) < sealHead+tagSize || text[0] != sealVersion {
		return nil, errOpen
	}
	for i, number := range s.numbers {
		if !bytes.Equal(number[:], text[1:1+keyNumberSize]) {
			continue
		}
		head := text[:sealHead]
		plain, err := cipherOf(s.keys[i], head).Open(nil, head[sealHead-nonceSize:], text[sealHead:], bound(p, name, head))
		if err == nil {
			return plain, nil
		}
	}
	return nil, errOpen
}

// bound is what is authenticated beside the text: nothing of the head, the purpose and the name can be changed.
func bound(p purpose, name string, head []byte) []byte {
	return append([]byte("bff\x00"+string(p)+"\x00"+name+"\x00"), head[:sealHead]...)
}

func cipherOf(key, head []byte) cipher.AEAD {
	block, err := aes.NewCipher(mac(key, "bff aes", string(head[1+keyNumberSize:sealHead-nonceSize])))
	if err != nil {
		panic(err) // the length is always right
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // the block size is always right
	}
	return aead
}
