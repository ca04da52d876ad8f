package user

import (
	"errors"
	"time"
)

// Sentinels of second factors, for every way in which users log in.
var (
	// ErrFactorNeeded says that the user has a second factor, and that the login has not shown one: ask for it.
	ErrFactorNeeded = errors.New("a second factor is needed")
	// ErrFactorUsed says that the code was used before, or that the factor has gone meanwhile: ask for another code.
	ErrFactorUsed = errors.New("the code was used before")
)

// FactorUse is a second factor whose code was right a moment ago. The store uses it up in the transaction in which the
// login succeeds, so that one code gives one login. The zero FactorUse is none.
type FactorUse struct {
	FactorID     string    // of an authenticator, whose last used step must still lie before Step
	Step         int64     // becomes its last used step
	RecoveryCode [32]byte  // SHA-256 of a recovery code, which goes; zero for none
	Login        [32]byte  // of the pending login, which is completed once
	ExpiresAt    time.Time // when the pending login is over
	Try          int64     // the counted try, which is given back
}

// IsZero says whether there is none.
func (u FactorUse) IsZero() bool { return u == FactorUse{} }
