// Package upstream logs users in through other providers: Google, GitHub, Microsoft, Apple, any OpenID provider and any
// OAuth 2 server that identifies the user. Here Handstamp is the client.
//
// A login has two halves. [Provider.Begin] returns the URL for the browser and an [Attempt] to keep. When the browser comes
// back, [Provider.Complete] checks its parameters against the attempt, redeems the code and returns the [Identity] that
// the provider vouches for. [Decide], a pure function, decides what an identity means for the users of this server, and
// [Linker] carries the decision out.
//
// The package trusts nothing from a provider, or from an attacker who poses as one, before it has checked it. Every error
// has a sentinel that says whose fault it is.
package upstream

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/user"
)

// AttemptLifetime is the time that a user has to log in at a provider.
const AttemptLifetime = 10 * time.Minute

// Identity is what a provider says of a user who has just logged in there.
type Identity struct {
	// Provider is the provider's ID in the configuration.
	Provider string
	// Subject names the user at the provider, for ever: together with Provider it is the key of the link. It is the sub
	// claim, at GitHub the numeric user ID (login names are given to others), at Microsoft "tid:oid".
	Subject string
	// Email is an address by which the provider knows the user; empty if it tells none. Unless EmailVerified it is
	// anybody's claim, and must not be used to find a user or be stored as the user's.
	Email string
	// EmailVerified reports whether the provider itself proved that the user receives mail at Email.
	EmailVerified bool
	// EmailFault is why the provider could not be asked for an address; nil if it could. It does not keep a known user out.
	EmailFault error
	// Name is a display name, at most 200 characters, empty if unknown. It is untrusted text.
	Name string
	// Profile are further attributes, those that are valid. Nobody but the user vouches for them.
	Profile user.Profile
	// AuthTime is when the user was authenticated at the provider, zero if it does not say.
	AuthTime time.Time
}

// AuthTimeAt is when the user was authenticated, as far as it is known at a time: a provider that does not say it has done so
// for this login, and one whose clock is ahead did it now.
func (i Identity) AuthTimeAt(now time.Time) time.Time {
	if i.AuthTime.IsZero() || i.AuthTime.After(now) {
		return now
	}
	return i.AuthTime
}

// Tokens are what a provider lets us call its own services with.
type Tokens struct {
	Access    seal.Secret
	Refresh   seal.Secret // empty if the provider gave none
	ExpiresAt time.Time   // of Access; zero if the provider does not say
	Scope     string      // granted, space-separated; what was asked for if the provider does not say
}

// Attempt is one login that was begun and not finished: a row that is used once. It holds no secret, only hashes of the
// two secrets that the browser carries.
type Attempt struct {
	StateHash   [32]byte // the key: HashSecret of the state parameter
	BrowserHash [32]byte // HashSecret of the cookie value that binds the attempt to the browser that began it
	Provider    string
	RedirectURI string // the exact callback that was sent to the provider
	UserID      string // the logged-in user who adds an identity; empty for a login
	Continue    string // whatever the caller needs to go on after the login; not interpreted
	ExpiresAt   time.Time
}

// HashSecret is the form in which a state or a browser binding is stored and looked up.
func HashSecret(s seal.Secret) [32]byte { return sha256.Sum256([]byte(s)) }

// sameHash compares without telling by its duration where the difference is.
func sameHash(a, b [32]byte) bool { return hmac.Equal(a[:], b[:]) }

// derive makes the values of an attempt which must be unpredictable and never leave the server together with the state:
// the PKCE verifier and the nonce. Deriving them from the state and a server key means that the database needs neither.
func derive(key []byte, purpose, provider string, state seal.Secret) string {
	mac := hmac.New(sha256.New, key)
	for _, part := range []string{purpose, provider, string(state)} {
		mac.Write([]byte(part))
		mac.Write([]byte{0})
	}
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// cleanText makes foreign text fit for display and storage: valid UTF-8, no control or format characters (bidirectional
// overrides among them), at most limit characters.
func cleanText(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r), r == utf8.RuneError:
			return -1
		}
		return r
	}, s)
	if runes := []rune(s); len(runes) > limit {
		s = string(runes[:limit])
	}
	return strings.TrimSpace(s)
}
