package account

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/clock"
	"github.com/handstamp/handstamp/pkg/mail"
	"github.com/handstamp/handstamp/pkg/password"
	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/user"
)

// Database is what the service needs of a database: its own store, the users, and the audit log.
type Database interface {
	Store
	audit.Store
	UserByEmail(ctx context.Context, email string) (user.User, error)
}

// Counter counts something for each client address.
type Counter interface {
	// Take uses one up. If none is left, it uses up nothing and returns how long to wait.
	Take(ip string) time.Duration
}

// Config is what the service is made of.
type Config struct {
	Store     Database
	Mails     *mail.Writer // nil while mail is off
	Passwords password.Policy
	Hasher    *password.Hasher
	Sessions  *session.Ender
	Askers    Counter // mails asked for, and codes tried; nil for no limit
	Clock     *clock.Clock
	// Verification says what an address is good for that is not proven.
	Verification Verification
	// ResetPath and VerifyPath are the pages behind the links of mails.
	ResetPath, VerifyPath string
}

// Service proves addresses and replaces passwords by mail.
type Service struct{ config Config }

// New returns a service.
func New(c Config) *Service { return &Service{config: c} }

// With returns the service with another rule for passwords. Both count together.
func (s *Service) With(p password.Policy) *Service {
	c := s.config
	c.Passwords = p
	return New(c)
}

// On says whether there is mail. Without it every method but this one returns ErrOff.
func (s *Service) On() bool { return s != nil && s.config.Mails != nil }

// allow counts one request of an asker.
func (s *Service) allow(from audit.Origin) error {
	if !s.On() {
		return ErrOff
	}
	if s.config.Askers == nil {
		return nil
	}
	if wait := s.config.Askers.Take(from.IP); wait > 0 {
		return &user.AttemptError{RetryAfter: wait}
	}
	return nil
}

// Forgot sends a mail with a link and a code to an address that comes from user.ParseEmail: both reset the password of its user.
// If it has none, or a disabled one, the mail says that there is no account. What is done, and what is answered, is the same.
// flow is the secret that the code is bound to. ErrOff, *user.AttemptError; any other error is a storage failure.
func (s *Service) Forgot(ctx context.Context, email string, from audit.Origin) (flow seal.Secret, err error) {
	if err := s.allow(from); err != nil {
		return "", err
	}
	u, err := s.config.Store.UserByEmail(ctx, email)
	if err != nil && !errors.Is(err, user.ErrNotFound) {
		return "", fmt.Errorf("find user: %w", err)
	}
	if u.Disabled() {
		u = user.User{}
	}
	now := s.config.Clock.Now()
	proof, secrets, err := newProof(Reset, u, now)
	if err != nil {
		return "", err
	}
	// The mail goes to the address of the row, which need not be the one that was typed: two mailboxes may have addresses that are
	// one to user.EmailKey.
	known := s.config.Mails.Reset(now, mail.Recipient{Languages: from.Languages}, mail.Proof{
		Path:      s.config.ResetPath,
		Token:     secrets.token,
		Code:      secrets.code,
		ExpiresAt: proof.ExpiresAt,
	})
	unknown := s.config.Mails.NoAccount(now, mail.Recipient{Address: email, Languages: from.Languages})
	asked := Asked{Proof: proof, Letter: known, Event: audit.PasswordResetAsked(now, u.ID, from)}
	if u.ID == "" {
		asked.Letter = unknown
	}
	if err := s.config.Store.AskProof(ctx, asked); err != nil {
		return "", fmt.Errorf("ask for a reset: %w", err)
	}
	return secrets.flow, nil
}

// ByLink returns the user of a link, and changes nothing. ErrOff, ErrLink; any other error is a storage failure.
func (s *Service) ByLink(ctx context.Context, token seal.Secret, p Purpose) (user.User, error) {
	found, err := s.byLink(ctx, token, p)
	return found.User, err
}

func (s *Service) byLink(ctx context.Context, token seal.Secret, p Purpose) (Found, error) {
	if !s.On() {
		return Found{}, ErrOff
	}
	found, err := s.config.Store.ProofByLink(ctx, hashOf(token), p, s.config.Clock.Now())
	if err != nil {
		return Found{}, fmt.Errorf("find the proof of a link: %w", err)
	}
	if found.void() {
		return Found{}, ErrLink
	}
	return found, nil
}

// Typed is a code as somebody typed it, and what it must belong to.
type Typed struct {
	Flow  seal.Secret
	Email string // from user.ParseEmail
	Code  string
}

// byCode counts a try and compares the code.
func (s *Service) byCode(ctx context.Context, t Typed, p Purpose, from audit.Origin) (Found, error) {
	code := parseCode(t.Code)
	if code == "" || t.Flow == "" {
		return Found{}, ErrCode // nobody's: no try is spent on a slip
	}
	// The try is counted, so it is evaluated, and a failure is recorded, also if the caller has gone.
	now := s.config.Clock.Now()
	ctx = context.WithoutCancel(ctx)
	found, err := s.config.Store.TryCode(ctx, hashOf(t.Flow), p, now)
	if err != nil {
		return Found{}, fmt.Errorf("try a code: %w", err)
	}
	typed := codeHash(t.Flow, code)
	right := subtle.ConstantTimeCompare(typed[:], found.CodeHash[:]) == 1
	if right && !found.void() && user.EmailKey(t.Email) == user.EmailKey(found.Email) {
		return found, nil
	}
	if err := s.config.Store.Record(ctx, audit.LoginFailed(now, found.UserID, "wrong_code", from)); err != nil {
		return Found{}, fmt.Errorf("record a wrong code: %w", err)
	}
	return Found{}, ErrCode
}

// ResetByLink replaces the password of the link's user: every session ends, its access tokens are blocked, and a mail tells of
// it. It logs nobody in, so that second factors are asked for as ever. ErrOff, ErrLink, what password.Policy.Check fails with,
// *password.BusyError; any other error is a storage failure.
func (s *Service) ResetByLink(ctx context.Context, token seal.Secret, plain string, from audit.Origin) (user.User, error) {
	found, err := s.byLink(ctx, token, Reset)
	if err != nil {
		return user.User{}, err
	}
	return found.User, s.reset(ctx, found, plain, from)
}

// ResetByCode is ResetByLink with a code. ErrCode in place of ErrLink, *user.AttemptError.
func (s *Service) ResetByCode(ctx context.Context, t Typed, plain string, from audit.Origin) (user.User, error) {
	if err := s.allow(from); err != nil {
		return user.User{}, err
	}
	if err := s.config.Passwords.Check(plain, t.Email); err != nil {
		return user.User{}, err // before a try is spent
	}
	found, err := s.byCode(ctx, t, Reset, from)
	if err != nil {
		return user.User{}, err
	}
	err = s.reset(ctx, found, plain, from)
	if errors.Is(err, ErrLink) {
		err = ErrCode
	}
	return found.User, err
}

func (s *Service) reset(ctx context.Context, f Found, plain string, from audit.Origin) error {
	if err := s.config.Passwords.Check(plain, f.User.Email, f.User.Name); err != nil {
		return err
	}
	hash, err := s.config.Hasher.Hash(ctx, plain)
	if err != nil {
		return err
	}
	by := session.By{Actor: f.UserID, Origin: from}
	now := s.config.Clock.Now()
	e := s.config.Sessions.Ending(session.ReasonPasswordReset, f.UserID, by)
	e.Event = audit.PasswordChanged(e.At, f.UserID, string(session.ReasonPasswordReset), by)
	e.Mail = s.config.Mails.PasswordChanged(now, from)
	if _, err := s.config.Store.ResetPassword(ctx, f, hash, e); err != nil {
		return fmt.Errorf("reset password: %w", err)
	}
	return nil
}
