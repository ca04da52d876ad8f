package factor

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"slices"
	"time"

	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/user"
)

// LoginLifetime is how long a pending login can be completed.
const LoginLifetime = 5 * time.Minute

// The authentication methods of RFC 8176 that a second factor adds.
const (
	amrMFA = "mfa"
	amrOTP = "otp"
)

// Place is where a pending login goes on. A token of one place is none in the other.
type Place string

// The places.
const (
	ForAPI  Place = "mfa_token"
	ForPage Place = "page"
)

// Login is a login that has shown its first factor.
type Login struct {
	ID         [16]byte        `json:"i"` // of this login, which is completed once
	UserID     string          `json:"u"`
	Credential user.Credential `json:"c,omitzero"` // of the password that was shown: it must still be the user's
	Refund     user.Refund     `json:"r,omitzero"` // of the attempt that the password took
	Provider   string          `json:"p,omitempty"`
	Subject    string          `json:"s,omitempty"`
	ClientID   string          `json:"l,omitempty"`
	Scope      string          `json:"o,omitempty"`
	AMR        []string        `json:"a"`
	AuthTime   time.Time       `json:"t"`
	NewDevice  bool            `json:"n,omitempty"`
	Fresh      bool            `json:"f,omitempty"` // made for the request that it belongs to
	ExpiresAt  time.Time       `json:"e"`
}

// With returns the AMR of the login once a method has completed it. A recovery code has no name of its own.
func (l Login) With(m Method) []string {
	amr := slices.Clone(l.AMR)
	if m == MethodTOTP {
		amr = append(amr, amrOTP)
	}
	return append(amr, amrMFA)
}

// Confirmed returns the AMR of a session in which an authenticator was confirmed.
func Confirmed(amr []string) []string {
	amr = slices.Clone(amr)
	for _, method := range []string{amrOTP, amrMFA} {
		if !slices.Contains(amr, method) {
			amr = append(amr, method)
		}
	}
	return amr
}

// hash is the login's ID in the database.
func (l Login) hash() [32]byte { return sha256.Sum256(append([]byte("pending login\x00"), l.ID[:]...)) }

// Logins seals pending logins. Nothing of them is kept before they are completed, so that a restart loses none.
type Logins struct{ sealer seal.Sealer }

// NewLogins returns the logins of a master key.
func NewLogins(master seal.MasterKey) Logins { return Logins{seal.New(master, seal.PendingLogins)} }

// Begin returns the token of a login that begins to wait for its second factor.
func (s Logins) Begin(p Place, l Login, at time.Time) seal.Secret {
	rand.Read(l.ID[:])
	l.ExpiresAt = at.Add(LoginLifetime)
	return s.Seal(p, l)
}

// Seal returns the token of a login that waits.
func (s Logins) Seal(p Place, l Login) seal.Secret {
	text, err := json.Marshal(l)
	if err != nil {
		panic(err) // texts, bytes and times
	}
	return seal.Secret(base64.RawURLEncoding.EncodeToString(s.sealer.Seal(text, []byte(p))))
}

// Open reads a token of the place. ErrLogin.
func (s Logins) Open(p Place, token string, at time.Time) (Login, error) {
	sealed, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return Login{}, ErrLogin
	}
	text, err := s.sealer.Open(sealed, []byte(p))
	var l Login
	if err != nil || json.Unmarshal(text, &l) != nil || !at.Before(l.ExpiresAt) {
		return Login{}, ErrLogin
	}
	return l, nil
}

// ByPassword says that the first factor was a password.
func (l Login) ByPassword() bool { return l.Credential != user.Credential{} }

// Stands says that the password that was shown, if it was one, is still the user's.
func (l Login) Stands(passwordHash string) bool {
	return !l.ByPassword() || l.Credential == user.CredentialOf(passwordHash)
}
