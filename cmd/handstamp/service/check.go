package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/handstamp/handstamp/api/pages"
	"github.com/handstamp/handstamp/pkg/keyring"
	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/store/postgres"
	"github.com/handstamp/handstamp/pkg/store/sqlite"
)

// Check reports every fault for which New would fail that can be seen without the database, each with the name of its
// setting. It changes nothing.
func Check(c Config) (faults []error) {
	fault := func(name string, err error) {
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", name, err))
		}
	}
	if onSQLite(c) {
		fault("database_url", sqlite.Check(string(c.DatabaseURL)))
	} else {
		fault("database_url", postgres.Check(string(c.DatabaseURL)))
	}
	if c.MasterKey != "" {
		_, err := seal.ParseMasterKey(string(c.MasterKey))
		fault("master_key", err)
	} else if _, err := seal.LoadMasterKey(c.KeysDir); !errors.Is(err, seal.ErrNoMasterKey) { // else the first start makes one
		fault("keys_dir", err)
	}
	if c.LanguagesDir != "" {
		info, err := os.Stat(c.LanguagesDir)
		if err == nil && !info.IsDir() {
			err = fmt.Errorf("%s is not a directory", c.LanguagesDir)
		}
		fault("languages_dir", err)
	}
	if _, err := newPages(c); err != nil {
		of := pageFaults(c)
		if len(of) == 0 { // no setting is wrong by itself
			of = append(of, err)
		}
		faults = append(faults, of...)
	}
	_, err := NewHasher(c)
	fault("password_memory, password_time, password_threads", err)
	return faults
}

func onSQLite(c Config) bool { return strings.HasPrefix(string(c.DatabaseURL), sqlite.Prefix) }

// pageFaults tries the settings of the pages one by one, and so finds whose each fault is.
func pageFaults(c Config) (faults []error) {
	for _, setting := range []struct {
		name string
		only Config
	}{
		{"brand_logo", Config{BrandLogo: c.BrandLogo}},
		{"brand_logo_dark", Config{BrandLogoDark: c.BrandLogoDark}},
		{"brand_accent", Config{BrandAccent: c.BrandAccent}},
		{"brand_accent_dark", Config{BrandAccentDark: c.BrandAccentDark}},
		{"support_url", Config{SupportURL: c.SupportURL}},
		{"privacy_url", Config{PrivacyURL: c.PrivacyURL}},
		{"terms_url", Config{TermsURL: c.TermsURL}},
		{"scopes", Config{Scopes: c.Scopes}},
	} {
		if _, err := newPages(setting.only); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", setting.name, err))
		}
	}
	if info, err := os.Stat(c.LanguagesDir); c.LanguagesDir != "" && err == nil && info.IsDir() {
		if _, err := pages.New(pages.Branding{}, os.DirFS(c.LanguagesDir)); err != nil {
			faults = append(faults, fmt.Errorf("languages_dir: %w", err))
		}
	}
	return faults
}

// CheckDatabase reports what would keep New from using the database: it cannot be reached, its schema is missing or old, or
// the master key does not open its signing keys. A database that the first start would make is no fault.
func CheckDatabase(ctx context.Context, c Config, log *slog.Logger) (faults []error) {
	s, err := OpenStore(ctx, string(c.DatabaseURL), log, true)
	if errors.Is(err, sqlite.ErrNoFile) {
		return nil
	}
	if err != nil {
		return []error{fmt.Errorf("database_url: %w", err)}
	}
	defer func() {
		if err := s.Close(); err != nil {
			faults = append(faults, fmt.Errorf("database_url: %w", err))
		}
	}()
	if err := s.Ping(ctx); err != nil {
		return []error{fmt.Errorf("database_url: %w", err)}
	}
	if err := CheckSchema(ctx, s); err != nil {
		if _, _, schemaErr := s.Schema(ctx); schemaErr == nil && (onSQLite(c) || c.Migrate) {
			return nil // the start brings it up to date
		}
		return []error{fmt.Errorf("database_url: %w", err)}
	}
	if err := checkKeys(ctx, c, s, log); err != nil {
		return []error{fmt.Errorf("master_key, keys_dir: %w", err)}
	}
	return nil
}

// checkKeys opens the signing keys, if there are any.
func checkKeys(ctx context.Context, c Config, s store.Store, log *slog.Logger) error {
	records, err := s.SigningKeys(ctx)
	if err != nil || len(records) == 0 {
		return err
	}
	master, err := MasterKey(ctx, c, s) // makes none, since there are keys
	if err != nil {
		return err
	}
	k, err := keyring.Open(ctx, s, master, KeyringOptions(c, log))
	if err != nil {
		return err
	}
	k.Close()
	return nil
}
