package factor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/clock"
	"github.com/handstamp/handstamp/pkg/mail"
	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/user"
)

// Config is what the feature needs to know of the service.
type Config struct {
	Issuer string // the name that authenticators show
	Clock  *clock.Clock
	Mail   *mail.Notices // that users get; nil for none
}

// Manager adds factors, removes them, and checks their codes.
type Manager struct {
	Logins

	store  FullStore
	sealer seal.Sealer
	config Config
}

// FullStore is the feature's store, and where failed logins are recorded.
type FullStore interface {
	Store
	audit.Store
}

// NewManager returns a manager over a store.
func NewManager(store FullStore, master seal.MasterKey, c Config) *Manager {
	return &Manager{Logins: NewLogins(master), store: store, sealer: seal.New(master, seal.FactorSecrets), config: c}
}

// Enrolment is what an authenticator needs to know. It is shown once.
type Enrolment struct {
	ID      string
	Secret  seal.Secret
	URI     seal.Secret // otpauth:
	Picture Picture     // of the URI
}

// AddTOTP adds an authenticator that is not confirmed yet. account is what it shows beside the issuer. ErrName, ErrTooMany.
func (m *Manager) AddTOTP(ctx context.Context, userID, account, name string) (Enrolment, error) {
	name, err := ParseName(name)
	if err != nil {
		return Enrolment{}, err
	}
	now := m.config.Clock.Now()
	e := Enrolment{ID: NewID(now), Secret: newSecret()}
	e.URI = seal.Secret(keyURI(m.config.Issuer, account, e.Secret))
	if e.Picture, err = draw(string(e.URI)); err != nil {
		return Enrolment{}, errors.New("draw the QR code") // the cause may quote the secret
	}
	return e, m.store.AddFactor(ctx, Factor{
		ID:        e.ID,
		UserID:    userID,
		Kind:      KindTOTP,
		Name:      name,
		Secret:    m.sealer.Seal([]byte(e.Secret), bind(userID, e.ID)),
		CreatedAt: now,
	}, MaxFactors)
}

// bind keeps a sealed secret in its row.
func bind(userID, factorID string) []byte { return []byte(userID + " " + factorID) }

// ParseName reads the name of a factor. ErrName.
func ParseName(name string) (string, error) {
	name = strings.TrimSpace(name)
	if name == "" || !utf8.ValidString(name) || utf8.RuneCountInString(name) > 100 || strings.ContainsFunc(name, unicode.IsControl) {
		return "", ErrName
	}
	return name, nil
}

// Shown is the session in which a factor is confirmed.
type Shown struct {
	SessionID [16]byte
	AMR       []string // what it will have
	ACR       string
	By        audit.By
}

// Confirm makes an authenticator count, once a code has shown that it has the secret. It returns a first set of
// recovery codes, if the user has none. The code is used up. ErrCode, ErrNotFound.
func (m *Manager) Confirm(ctx context.Context, userID, factorID, code string, s Shown) ([]seal.Secret, error) {
	list, _, err := m.store.Factors(ctx, userID)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(list, func(f Factor) bool { return f.ID == factorID && f.ConfirmedAt.IsZero() })
	if i < 0 {
		return nil, ErrNotFound
	}
	now := m.config.Clock.Now()
	step, err := m.matches(list[i], plain(code), now)
	if err != nil {
		return nil, err
	}
	codes, hashes := newRecoveryCodes(userID)
	kept, err := m.store.ConfirmFactor(ctx, Confirmation{
		UserID:        userID,
		FactorID:      factorID,
		Step:          step,
		At:            now,
		SessionID:     s.SessionID,
		AMR:           s.AMR,
		ACR:           s.ACR,
		RecoveryCodes: hashes,
		Event:         audit.FactorAdded(now, userID, string(list[i].Kind), s.By),
		Mail:          m.config.Mail.FactorAdded(now, list[i].Name, s.By.Origin),
	})
	if err != nil || !kept {
		return nil, err
	}
	return codes, nil
}

// matches finds the step of a code. ErrCode; any other error says that the secret cannot be opened.
func (m *Manager) matches(f Factor, code string, at time.Time) (int64, error) {
	secret, err := m.sealer.Open(f.Secret, bind(f.UserID, f.ID))
	if err != nil {
		return 0, fmt.Errorf("open the secret of factor %s: %w", f.ID, err)
	}
	step, ok := match(seal.Secret(secret), code, at, f.LastStep)
	if !isTOTP(code) || !ok {
		return 0, ErrCode
	}
	return step, nil
}

// List returns the user's confirmed factors, the oldest first, and counts the recovery codes.
func (m *Manager) List(ctx context.Context, userID string) ([]Factor, int, error) {
	list, codes, err := m.store.Factors(ctx, userID)
	return slices.DeleteFunc(list, func(f Factor) bool { return f.ConfirmedAt.IsZero() }), codes, err
}

// Methods returns the methods with which the user can complete a login, the usual one first.
func (m *Manager) Methods(ctx context.Context, userID string) ([]Method, error) {
	list, codes, err := m.List(ctx, userID)
	if err != nil {
		return nil, err
	}
	methods := []Method{}
	if len(list) > 0 {
		methods = append(methods, MethodTOTP)
	}
	if codes > 0 {
		methods = append(methods, MethodRecovery)
	}
	return methods, nil
}

// Rename gives a factor another name. ErrName, ErrNotFound.
func (m *Manager) Rename(ctx context.Context, userID, factorID, name string) error {
	name, err := ParseName(name)
	if err != nil {
		return err
	}
	return m.store.RenameFactor(ctx, userID, factorID, name)
}

// Remove takes a factor away. ErrNotFound.
func (m *Manager) Remove(ctx context.Context, userID, factorID string, by audit.By) error {
	list, _, err := m.store.Factors(ctx, userID)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(list, func(f Factor) bool { return f.ID == factorID })
	if i < 0 {
		return ErrNotFound
	}
	now := m.config.Clock.Now()
	return m.store.RemoveFactor(ctx, Removal{
		UserID:   userID,
		FactorID: factorID,
		Event:    audit.FactorRemoved(now, userID, string(list[i].Kind), by),
		Mail:     m.config.Mail.FactorRemoved(now, list[i].Name, by.Origin),
	})
}

// ReplaceRecoveryCodes makes a new set of recovery codes in place of any other. They are shown once. ErrNotFound if the
// user has no factor that they could stand in for.
func (m *Manager) ReplaceRecoveryCodes(ctx context.Context, userID string, by audit.By) ([]seal.Secret, error) {
	codes, hashes := newRecoveryCodes(userID)
	err := m.store.ReplaceRecoveryCodes(ctx, userID, hashes, audit.RecoveryCodesReplaced(m.config.Clock.Now(), userID, by))
	if err != nil {
		return nil, err
	}
	return codes, nil
}

// evaluationTimeout bounds what a try costs once it is counted.
const evaluationTimeout = 10 * time.Second

// Check evaluates the code of a pending login. The try is counted before, for the user, however many logins are pending
// and wherever they come from. ErrMethod, ErrCode, *user.AttemptError; any other error is a storage failure.
func (m *Manager) Check(ctx context.Context, l Login, method Method, code string, origin audit.Origin) (user.FactorUse, error) {
	if method != MethodTOTP && method != MethodRecovery {
		return user.FactorUse{}, ErrMethod
	}
	now := m.config.Clock.Now()
	try, err := m.store.BeginFactorTry(ctx, l.UserID, now, MaxTries, TriesWait)
	if err != nil {
		return user.FactorUse{}, fmt.Errorf("begin try: %w", err)
	}
	if try.RetryAfter > 0 {
		return user.FactorUse{}, &user.AttemptError{RetryAfter: try.RetryAfter}
	}
	// What is counted is evaluated, and a failure recorded, also if the caller has gone.
	staying, cancel := context.WithTimeout(context.WithoutCancel(ctx), evaluationTimeout)
	defer cancel()
	use := user.FactorUse{Login: l.hash(), ExpiresAt: l.ExpiresAt, Try: try.ID}
	code = plain(code)
	if method == MethodRecovery {
		if isRecovery(code) { // the store knows whether it is one
			use.RecoveryCode = hashRecovery(l.UserID, code)
			return use, nil
		}
		return user.FactorUse{}, m.refused(staying, l, now, origin)
	}
	for _, f := range try.Factors {
		step, err := m.matches(f, code, now)
		if errors.Is(err, ErrCode) {
			continue
		}
		if err != nil {
			return user.FactorUse{}, err
		}
		use.FactorID, use.Step = f.ID, step
		return use, nil
	}
	return user.FactorUse{}, m.refused(staying, l, now, origin)
}

// refused records a wrong code.
func (m *Manager) refused(ctx context.Context, l Login, at time.Time, origin audit.Origin) error {
	if err := m.store.Record(ctx, audit.LoginFailed(at, l.UserID, "wrong_code", origin)); err != nil {
		return fmt.Errorf("record failed login: %w", err)
	}
	return ErrCode
}

// Failed records that the store has refused a use: another login was faster with the same code, or the recovery code is none.
func (m *Manager) Failed(ctx context.Context, l Login, origin audit.Origin) error {
	return m.refused(ctx, l, m.config.Clock.Now(), origin)
}
