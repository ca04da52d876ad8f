// Package service builds the running service out of its parts.
package service

import (
	"time"

	"github.com/handstamp/handstamp/pkg/clock"
	"github.com/handstamp/handstamp/pkg/password"
	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/upstream"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// Config is what the parts of the service need to know. The program that reads the settings checks it.
type Config struct {
	Clock *clock.Clock // no setting: it is set by the database

	Issuer      string
	Listen      string
	DatabaseURL seal.Secret
	Migrate     bool // a PostgreSQL schema too; SQLite always is
	KeysDir     string
	MasterKey   seal.Secret
	Audience    []string

	AccessTokenLifetime time.Duration
	RefreshIdleLifetime time.Duration
	RefreshLifetime     time.Duration
	RefreshGrace        time.Duration
	SessionLimit        int
	SigningAlgorithm    string
	StatusList          bool // the status claim in access tokens
	SignalsPrivate      bool // events may be pushed into private networks
	JWKSMaxAge          time.Duration
	KeyRotation         time.Duration
	KeyPublishAhead     time.Duration // before a key signs on schedule
	AuditRetention      time.Duration // zero: events are never swept

	Signup              bool
	PasswordMinLength   int
	Argon2Memory        int // KiB
	Argon2Time          int
	Argon2Threads       int
	PasswordConcurrency int
	PasswordQueue       int
	LoginAttempts       int
	LoginAttemptEvery   time.Duration
	LoginIPFailures     int
	LoginIPFailureEvery time.Duration
	LoginIPConcurrency  int // zero: half of what the hasher lets in
	SignupIPLimit       int
	SignupIPEvery       time.Duration
	BusyIPLimit         int
	BusyIPEvery         time.Duration
	RefusalHold         time.Duration
	RefusalsHeld        int

	// Zero for no bound. The program sets those of streams by the number of files that it may have open.
	FeedReaders           int
	FeedReadersPerAddress int
	FeedStreams           int
	FeedStreamsPerAddress int

	// Mail goes to SMTPURL. Without it mails are kept in files, on loopback, and there are none elsewhere.
	SMTPURL            seal.Secret
	MailFrom           string
	MailReplyTo        string
	MailDir            string // no setting: where mails are kept; empty for beside the database
	MailRecipientLimit int
	MailRecipientEvery time.Duration
	EmailVerification  string // off, optional or required; empty for optional with SMTPURL, and off without
	MailIPLimit        int
	MailIPEvery        time.Duration

	TrustedProxies []string

	// Providers are those that users may log in through besides a password.
	Providers []upstream.Config

	// The hosted pages. Logos are files.
	BrandName       string
	BrandLogo       string
	BrandLogoDark   string
	BrandAccent     string
	BrandAccentDark string
	SupportURL      string
	PrivacyURL      string
	TermsURL        string
	LanguagesDir    string // of further or changed languages
	// Scopes are what the operator's scopes mean, as SCOPE=TEXT, in the order in which the consent page shows them.
	Scopes []string

	HomeURL           string // where a person goes on who has come to the service itself
	ChangePasswordURL string // where a person changes the password
}

// DefaultConfig is what is in force where nothing is set.
func DefaultConfig() Config {
	return Config{
		Clock: clock.New(time.Now),

		Listen:      "127.0.0.1:8080",
		DatabaseURL: "sqlite:data/handstamp.db",
		KeysDir:     "keys",

		AccessTokenLifetime: 15 * time.Minute,
		RefreshIdleLifetime: 7 * 24 * time.Hour,
		RefreshLifetime:     30 * 24 * time.Hour,
		RefreshGrace:        30 * time.Second,
		SessionLimit:        50,
		SigningAlgorithm:    verifier.ES256,
		JWKSMaxAge:          5 * time.Minute,
		KeyRotation:         30 * 24 * time.Hour,
		KeyPublishAhead:     24 * time.Hour,
		AuditRetention:      90 * 24 * time.Hour,

		Signup:              true,
		PasswordMinLength:   password.MinLength,
		Argon2Memory:        19456,
		Argon2Time:          2,
		Argon2Threads:       1,
		LoginAttempts:       10,
		LoginAttemptEvery:   30 * time.Second,
		LoginIPFailures:     100,
		LoginIPFailureEvery: 3 * time.Second,
		SignupIPLimit:       100,
		SignupIPEvery:       30 * time.Second,
		BusyIPLimit:         500,
		BusyIPEvery:         10 * time.Millisecond,
		RefusalHold:         8 * time.Second,
		RefusalsHeld:        10_000,

		MailRecipientLimit: 5,
		MailRecipientEvery: 12 * time.Minute,
		MailIPLimit:        30,
		MailIPEvery:        time.Minute,

		FeedReaders:           256,
		FeedReadersPerAddress: 16,

		BrandName: "Handstamp",
	}
}
