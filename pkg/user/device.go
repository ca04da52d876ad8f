package user

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"slices"
	"time"

	"github.com/handstamp/handstamp/pkg/seal"
)

// Device is a browser or application in which a user has logged in before: attempts to log in from there are counted apart.
// The zero Device is no device.
type Device struct {
	ID         [16]byte
	Credential Credential // with which the login succeeded
}

// Credential identifies a stored password hash. A device is known only as long as its user still has the password that was typed
// there: who is locked out by a new password gets no attempts of their own at it.
type Credential [16]byte

// CredentialOf identifies a password hash.
func CredentialOf(passwordHash string) Credential {
	sum := sha256.Sum256([]byte(passwordHash))
	return Credential(sum[:16])
}

// maxDevices is how many users one browser can be a known device of: the last ones that logged in there.
const maxDevices = 4

// Devices seals what a browser remembers of the logins that succeeded in it.
type Devices struct{ sealer seal.Sealer }

// NewDevices returns the devices of a master key.
func NewDevices(master seal.MasterKey) Devices { return Devices{seal.New(master, seal.KnownDevices)} }

// DeviceLifetime is how long a browser that is not used to log in stays a known device.
const DeviceLifetime = 180 * 24 * time.Hour

// memory is one login that a browser remembers.
type memory struct {
	Email      []byte `json:"e"` // of the EmailKey, hashed and cut: the cookie names nobody
	ID         []byte `json:"d"`
	Credential []byte `json:"c"`
	At         int64  `json:"t"` // of the login, in Unix seconds
}

// purpose binds the sealed text to its use.
const devicePurpose = "known devices"

// Find returns the device that a browser is at a time for an address; the zero Device if it is none. A text that is not ours is
// none.
func (d Devices) Find(remembered, email string, at time.Time) Device {
	for _, m := range d.open(remembered) {
		if at.Sub(time.Unix(m.At, 0)) >= DeviceLifetime {
			continue
		}
		if slices.Equal(m.Email, cutHash(email)) && len(m.ID) == len(Device{}.ID) && len(m.Credential) == len(Credential{}) {
			return Device{ID: [16]byte(m.ID), Credential: Credential(m.Credential)}
		}
	}
	return Device{}
}

// Remember returns what a browser has to remember after a login with a password at a time.
func (d Devices) Remember(remembered, email, passwordHash string, at time.Time) string {
	id, credential := d.Find(remembered, email, at).ID, CredentialOf(passwordHash)
	if id == (Device{}.ID) {
		rand.Read(id[:])
	}
	all := slices.DeleteFunc(d.open(remembered), func(m memory) bool { return slices.Equal(m.Email, cutHash(email)) })
	all = slices.Insert(all, 0, memory{Email: cutHash(email), ID: id[:], Credential: credential[:], At: at.Unix()})
	text, err := json.Marshal(all[:min(len(all), maxDevices)])
	if err != nil {
		panic(err) // a list of bytes
	}
	return base64.RawURLEncoding.EncodeToString(d.sealer.Seal(text, []byte(devicePurpose)))
}

func (d Devices) open(remembered string) (all []memory) {
	sealed, err := base64.RawURLEncoding.DecodeString(remembered)
	if err != nil || len(sealed) == 0 {
		return nil
	}
	plain, err := d.sealer.Open(sealed, []byte(devicePurpose))
	if err != nil || json.Unmarshal(plain, &all) != nil {
		return nil
	}
	return all
}

func cutHash(email string) []byte {
	sum := sha256.Sum256([]byte(EmailKey(email)))
	return sum[:16]
}
