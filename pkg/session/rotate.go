package session

import "time"

// Verdict is what a presented refresh token gets.
type Verdict int

// The verdicts.
const (
	// Refuse changes nothing; Decide says why.
	Refuse Verdict = iota
	// Advance makes the next generation after the presented one.
	Advance
	// Repeat answers the current generation again.
	Repeat
	// Revoke ends the session: two parties hold its tokens.
	Revoke
)

// String names the verdict for logs and test output.
func (v Verdict) String() string {
	return [...]string{"refuse", "advance", "repeat", "revoke"}[v]
}

// Presentation is a refresh token in the hands of a client.
type Presentation struct {
	Presented
	ClientID    string
	RequestHash RequestHash
	At          time.Time // when it was read
	// HeldUp is how long before At it may have arrived: the process stood still.
	HeldUp time.Duration
	// Unanswered is how much of the time since the row's RotatedAt the service could answer nobody.
	Unanswered time.Duration
}

// Decide is the rule of refresh-token rotation. g is the presented generation, G the row's.
//
//	another client                                       refuse, change nothing: a stranger cannot end a session
//	revoked or expired                                   refuse
//	g == G                                               advance
//	g > G: the database came back in an older state      advance from g
//	g == G-1, by the same Idempotency-Key that made G    repeat G, however late: its answer was lost
//	g == G-1, arrived within the grace period of G       repeat G: its answer was lost, or two tabs refreshed at once
//	arrived before G was made                            refuse: a copy of an honest request that was held up
//	by the Idempotency-Key that used g before            refuse: likewise
//	anything else                                        revoke: somebody else has used this token (RFC 9700, section 4.14.2)
//
// The grace period counts from the rotation, and repeating does not move it; only time counts in which the service could
// answer. Once G has been used, g is G-2 and no grace helps: so a thief and an owner who take turns are found as soon as they
// are further apart than the grace period. A late copy gives its sender nothing, so a thief who sends one has won nothing and
// is found by the next use.
func Decide(s Session, p Presentation, grace time.Duration) (Verdict, error) {
	if s.Nonce != p.Nonce {
		return Refuse, ErrEnded
	}
	if s.ClientID != p.ClientID {
		return Refuse, ErrWrongClient
	}
	if !s.Alive(p.At) {
		return Refuse, ErrEnded
	}
	if p.Generation >= s.Generation {
		return Advance, nil
	}
	arrived := p.At.Add(-p.HeldUp)
	if p.Generation == s.Generation-1 {
		sameRequest := p.RequestHash != RequestHash{} && p.RequestHash == s.LastRequestHash
		inGrace := grace > 0 && arrived.Sub(s.RotatedAt)-p.Unanswered <= grace
		if sameRequest || inGrace {
			return Repeat, nil
		}
	}
	if arrived.Before(s.RotatedAt) || s.used(p.Generation, p.RequestHash) {
		return Refuse, ErrLate
	}
	return Revoke, ErrReuse
}

// used reports whether an earlier request used a generation, with the same Idempotency-Key, as far as the row remembers.
func (s Session) used(generation uint32, by RequestHash) bool {
	const size = int64(len(RequestHash{}))
	if by == (RequestHash{}) {
		return false
	}
	at := (int64(s.Generation) - 2 - int64(generation)) * size // the request that used g made g+1; the newest made G
	return at >= 0 && at+size <= int64(len(s.EarlierRequests)) && RequestHash(s.EarlierRequests[at:at+size]) == by
}

// Alive reports whether the session is neither revoked nor expired at a time. An end is exclusive: at ExpiresAt
// the session is over.
func (s Session) Alive(at time.Time) bool {
	return s.RevokedAt.IsZero() && at.Before(s.IdleExpiresAt) && at.Before(s.ExpiresAt)
}
