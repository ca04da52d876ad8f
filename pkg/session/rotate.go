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
	At          time.Time
}

// Decide is the rule of refresh-token rotation. g is the presented generation, G the row's.
//
//	another client                                       refuse, change nothing: a stranger cannot end a session
//	revoked or expired                                   refuse
//	g == G                                               advance
//	g > G: the database came back in an older state      advance from g
//	g == G-1, by the same Idempotency-Key that made G    repeat G, however late: its answer was lost
//	g == G-1, within the grace period since G was made   repeat G: its answer was lost, or two tabs refreshed at once
//	anything else                                        revoke: somebody else has used this token (RFC 9700, section 4.14.2)
//
// The grace period counts from the rotation, and repeating does not move it. Once G has been used, g is G-2 and no key or
// grace helps: so a thief and an owner who take turns are found as soon as they are further apart than the grace period.
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
	if p.Generation == s.Generation-1 {
		sameRequest := p.RequestHash != RequestHash{} && p.RequestHash == s.LastRequestHash
		inGrace := grace > 0 && p.At.Sub(s.RotatedAt) <= grace
		if sameRequest || inGrace {
			return Repeat, nil
		}
	}
	return Revoke, ErrReuse
}

// Alive reports whether the session is neither revoked nor expired at a time. An end is exclusive: at ExpiresAt
// the session is over.
func (s Session) Alive(at time.Time) bool {
	return s.RevokedAt.IsZero() && at.Before(s.IdleExpiresAt) && at.Before(s.ExpiresAt)
}
