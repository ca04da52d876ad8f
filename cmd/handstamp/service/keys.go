package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/handstamp/handstamp/pkg/keyring"
	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/token"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// MasterKey finds the master key. It is made at the first start only: never when the database holds keys that another one sealed.
func MasterKey(ctx context.Context, c Config, keys keyring.Store) (seal.MasterKey, error) {
	if c.MasterKey != "" {
		return seal.ParseMasterKey(string(c.MasterKey))
	}
	m, err := seal.LoadMasterKey(c.KeysDir)
	if !errors.Is(err, seal.ErrNoMasterKey) {
		return m, err
	}
	records, listErr := keys.SigningKeys(ctx)
	if listErr != nil {
		return seal.MasterKey{}, listErr
	}
	if len(records) > 0 {
		return seal.MasterKey{}, fmt.Errorf("%w, but the database holds signing keys that one has sealed: put that file back into "+
			"%s, or set HANDSTAMP_MASTER_KEY", err, c.KeysDir)
	}
	return seal.CreateMasterKey(c.KeysDir)
}

// KeyringOptions are the settings of the keyring.
func KeyringOptions(c Config, log *slog.Logger) keyring.Options {
	return keyring.Options{
		Algorithms:    []string{c.SigningAlgorithm},
		TokenLifetime: c.AccessTokenLifetime,
		HintLifetime:  c.RefreshLifetime,
		MaxAge:        c.JWKSMaxAge,
		RotateEvery:   c.KeyRotation,
		PublishAhead:  c.KeyPublishAhead,
		Clock:         c.Clock,
		Logger:        log,
	}
}

// keys opens the keyring.
func (b *builder) keys(ctx context.Context) (err error) {
	if b.master, err = MasterKey(ctx, b.config, b.Store); err != nil {
		return err
	}
	options := KeyringOptions(b.config, b.log)
	options.Blocked = func(kid string) bool {
		if b.Blocklist == nil { // it comes after the keys
			return false
		}
		// An entry that ends in the past blocks what the key has signed until then, and not the key.
		notBefore, blocked := b.Blocklist.Set().Lookup(verifier.KeyOf(verifier.BlockKID, kid))
		return blocked && notBefore >= b.config.Clock.Now().Unix()
	}
	if b.Keys, err = keyring.Open(ctx, b.Store, b.master, options); err != nil {
		return err
	}
	b.Minter = token.NewMinter(b.config.Issuer, b.Keys, b.config.Clock)
	return nil
}
