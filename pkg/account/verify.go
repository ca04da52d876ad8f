package account

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/mail"
	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/user"
)

// Verification says what an address is good for that nobody has shown to be theirs. The texts are those of the setting.
type Verification string

// The ways to treat addresses.
const (
	Off      Verification = "off"      // nobody is asked to prove an address
	Optional Verification = "optional" // who signs up is sent a mail, and need not follow it
	Required Verification = "required" // there is no session before the proof
)

// Required says whether there is no session before the address is proven.
func (s *Service) Required() bool { return s.On() && s.config.Verification == Required }

// MustVerify says whether a user gets no session before the address is proven. Users without an address have none to prove.
func (s *Service) MustVerify(u user.User) bool {
	return s.Required() && u.Email != "" && u.EmailVerifiedAt.IsZero()
}

// pendingUser is somebody who has signed up, in a proof's data.
type pendingUser struct {
	Name         string `json:"name,omitempty"`
	PasswordHash string `json:"password_hash"`
}

// Greet sends the mail that lets a new user prove the address, unless nobody is asked to.
// Any error is a storage failure, after which the user exists all the same and can ask for the mail.
func (s *Service) Greet(ctx context.Context, u user.User, from audit.Origin) error {
	if !s.On() || s.config.Verification == Off || !u.EmailVerifiedAt.IsZero() || u.Email == "" {
		return nil
	}
	_, err := s.askVerify(ctx, u, "", from)
	return err
}

// Resend is Greet for a user who asks for it, for whom it returns the flow of the code.
// ErrOff, *user.AttemptError; any other error is a storage failure.
func (s *Service) Resend(ctx context.Context, u user.User, from audit.Origin) (flow seal.Secret, err error) {
	if err := s.allow(from); err != nil {
		return "", err
	}
	return s.askVerify(ctx, u, "", from)
}

func (s *Service) askVerify(ctx context.Context, u user.User, data string, from audit.Origin) (seal.Secret, error) {
	now := s.config.Clock.Now()
	proof, secrets, err := newProof(Verify, u, now)
	if err != nil {
		return "", err
	}
	proof.Data = data
	letter := s.config.Mails.Verify(now, mail.Recipient{Languages: from.Languages}, s.verifyProof(proof, secrets))
	event := audit.VerificationAsked(now, u.ID, from)
	if err := s.config.Store.AskProof(ctx, Asked{Proof: proof, Letter: letter, Event: event}); err != nil {
		return "", fmt.Errorf("ask for a verification: %w", err)
	}
	return secrets.flow, nil
}

func (s *Service) verifyProof(p Proof, secret secrets) mail.Proof {
	return mail.Proof{Path: s.config.VerifyPath, Token: secret.token, Code: secret.code, ExpiresAt: p.ExpiresAt}
}

// SignUp keeps somebody who has signed up, as user.Signup.Prepare makes them, until the address is proven, and sends the mail
// for it. If the address has a user whose address is proven, the mail tells so, and what is done and answered is the same.
// ErrOff, *user.AttemptError; any other error is a storage failure.
func (s *Service) SignUp(ctx context.Context, u user.User, from audit.Origin) (flow seal.Secret, err error) {
	if err := s.allow(from); err != nil {
		return "", err
	}
	known, err := s.config.Store.UserByEmail(ctx, u.Email)
	if err != nil && !errors.Is(err, user.ErrNotFound) {
		return "", fmt.Errorf("find user: %w", err)
	}
	data, err := json.Marshal(pendingUser{Name: u.Name, PasswordHash: u.PasswordHash})
	if err != nil {
		return "", err
	}
	if known.ID != "" && known.EmailVerifiedAt.IsZero() && !known.Disabled() {
		// Somebody has signed up with the address before. Who proves it now gets the account, with the password of now.
		return s.askVerify(ctx, known, string(data), from)
	}
	now := s.config.Clock.Now()
	proof, secrets, err := newProof(Verify, user.User{Email: u.Email}, now)
	if err != nil {
		return "", err
	}
	proof.Data = string(data)
	fresh := s.config.Mails.Verify(now, mail.Recipient{Address: u.Email, Languages: from.Languages}, s.verifyProof(proof, secrets))
	exists := s.config.Mails.AccountExists(now, mail.Recipient{Address: known.Email, Languages: from.Languages})
	asked := Asked{Proof: proof, Letter: fresh, Event: audit.VerificationAsked(now, known.ID, from)}
	if known.ID != "" {
		asked.Letter, asked.Data, asked.CodeHash = exists, "", Hash{} // which no code has
	}
	if err := s.config.Store.AskProof(ctx, asked); err != nil {
		return "", fmt.Errorf("keep a sign-up: %w", err)
	}
	return secrets.flow, nil
}

// EmailOf returns the address that a link proves, and changes nothing. ErrOff, ErrLink; any other error is a storage failure.
func (s *Service) EmailOf(ctx context.Context, token seal.Secret) (string, error) {
	found, err := s.byLink(ctx, token, Verify)
	return found.Email, err
}

// VerifyByLink notes that the address of a link is its user's, who begins to exist if that was waited for.
// ErrOff, ErrLink; any other error is a storage failure.
func (s *Service) VerifyByLink(ctx context.Context, token seal.Secret, from audit.Origin) (user.User, error) {
	found, err := s.byLink(ctx, token, Verify)
	if err != nil {
		return user.User{}, err
	}
	return s.verify(ctx, found, from)
}

// VerifyByCode is VerifyByLink with a code. ErrCode in place of ErrLink, *user.AttemptError.
func (s *Service) VerifyByCode(ctx context.Context, t Typed, from audit.Origin) (user.User, error) {
	if err := s.allow(from); err != nil {
		return user.User{}, err
	}
	found, err := s.byCode(ctx, t, Verify, from)
	if err != nil {
		return user.User{}, err
	}
	u, err := s.verify(ctx, found, from)
	if errors.Is(err, ErrLink) {
		err = ErrCode
	}
	return u, err
}

func (s *Service) verify(ctx context.Context, f Found, from audit.Origin) (user.User, error) {
	now := s.config.Clock.Now()
	u := f.User
	var waiting pendingUser
	if f.Data != "" {
		if err := json.Unmarshal([]byte(f.Data), &waiting); err != nil {
			return user.User{}, fmt.Errorf("read a sign-up: %w", err)
		}
	}
	by := session.By{Actor: u.ID, Origin: from}
	var err error
	switch {
	case f.Data == "":
		err = s.config.Store.VerifyEmail(ctx, f, audit.EmailVerified(now, u.ID, by))
	case f.UserID != "":
		// The first proof of the address: what others have left there ends with it.
		e := s.config.Sessions.Ending(session.ReasonAdopted, u.ID, by)
		e.Event = audit.EmailVerified(e.At, u.ID, by)
		u.PasswordHash = waiting.PasswordHash
		_, err = s.config.Store.ResetPassword(ctx, f, waiting.PasswordHash, e)
	default:
		u = user.User{
			ID: user.NewID(now), Email: f.Email, EmailVerifiedAt: now, Name: waiting.Name, PasswordHash: waiting.PasswordHash,
			CreatedAt: now, UpdatedAt: now,
		}
		err = s.config.Store.FinishSignup(ctx, f, u, audit.SignedUp(now, u.ID, "", from))
	}
	if err != nil {
		return user.User{}, fmt.Errorf("verify an address: %w", err)
	}
	u.EmailVerifiedAt = now
	return u, nil
}
