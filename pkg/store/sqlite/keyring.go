package sqlite

import (
	"context"
	"time"

	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/keyring"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// SigningKeys implements [keyring.Store].
func (db *DB) SigningKeys(ctx context.Context) (keys []keyring.Record, err error) {
	err = db.read(ctx, "list signing keys", func(c *conn) error {
		return c.query(`
			SELECT id, algorithm, state, sealed, public, created_at, activates_at, activated_at, retired_at, remove_at, revoked_at
			FROM signing_keys ORDER BY created_at, id`, func(r *row) error {
			var k keyring.Record
			r.scan(&k.ID, &k.Algorithm, (*string)(&k.State), &k.Sealed, &k.Public,
				&k.CreatedAt, &k.ActivatesAt, &k.ActivatedAt, &k.RetiredAt, &k.RemoveAt, &k.RevokedAt)
			keys = append(keys, k)
			return nil
		})
	})
	return keys, err
}

// InsertSigningKey implements [keyring.Store].
func (db *DB) InsertSigningKey(ctx context.Context, insertion keyring.Insertion) error {
	key := insertion.Key
	return db.announce(ctx, "insert signing key", func(c *conn) error {
		var now string
		if _, err := c.one(`SELECT id FROM signing_keys WHERE algorithm = ? AND state = 'active'`, func(r *row) { r.scan(&now) },
			key.Algorithm); err != nil {
			return err
		}
		if now != insertion.Active {
			return keyring.ErrConflict
		}
		n, err := c.exec(`
			INSERT INTO signing_keys (id, algorithm, state, sealed, public, created_at, activates_at, activated_at, retired_at,
				remove_at, revoked_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT DO NOTHING`,
			key.ID, key.Algorithm, string(key.State), key.Sealed, key.Public,
			key.CreatedAt, key.ActivatesAt, key.ActivatedAt, key.RetiredAt, key.RemoveAt, key.RevokedAt)
		if err != nil {
			return err
		}
		if n == 0 {
			return keyring.ErrConflict
		}
		if _, err := advanceFeed(c, key.CreatedAt); err != nil {
			return err
		}
		return record(c, insertion.Event)
	})
}

// ActivateSigningKey implements [keyring.Store].
func (db *DB) ActivateSigningKey(ctx context.Context, a keyring.Activation) error {
	return db.announce(ctx, "activate signing key", func(c *conn) error {
		var algorithm string
		found, err := c.one(`SELECT algorithm FROM signing_keys WHERE id = ? AND state = 'upcoming'`,
			func(r *row) { r.scan(&algorithm) }, a.ID)
		if err != nil {
			return err
		}
		if !found {
			return keyring.ErrConflict
		}
		// The predecessor goes first: the index allows one active key at every moment.
		if _, err := c.exec(`
			UPDATE signing_keys SET state = 'retired', retired_at = ?, remove_at = ?, sealed = NULL
			WHERE algorithm = ? AND state = 'active'`, a.At, a.RemoveAt, algorithm); err != nil {
			return err
		}
		if _, err := c.exec(`UPDATE signing_keys SET state = 'active', activated_at = ? WHERE id = ?`, a.At, a.ID); err != nil {
			return err
		}
		_, err = advanceFeed(c, a.At)
		return err
	})
}

// RevokeSigningKey implements [keyring.Store].
func (db *DB) RevokeSigningKey(ctx context.Context, v keyring.Revocation) error {
	return db.announce(ctx, "revoke signing key", func(c *conn) error {
		var state string
		found, err := c.one(`SELECT state FROM signing_keys WHERE id = ?`, func(r *row) { r.scan(&state) }, v.ID)
		switch {
		case err != nil:
			return err
		case !found:
			return keyring.ErrNotFound
		case state == string(keyring.StateActive):
			return keyring.ErrConflict
		case state == string(keyring.StateRevoked):
			return errRollback
		}
		if _, err := c.exec(`UPDATE signing_keys SET state = 'revoked', revoked_at = ?, remove_at = ?, sealed = NULL WHERE id = ?`,
			v.At, v.RemoveAt, v.ID); err != nil {
			return err
		}
		if err := block(c, v.At, blocklist.NewEntry(verifier.BlockKID, v.ID, v.RemoveAt)); err != nil {
			return err
		}
		return record(c, v.Event)
	})
}

// DeleteSigningKeys implements [keyring.Store].
func (db *DB) DeleteSigningKeys(ctx context.Context, at time.Time) error {
	return db.announce(ctx, "delete signing keys", func(c *conn) error {
		n, err := c.exec(`DELETE FROM signing_keys WHERE state IN ('retired', 'revoked') AND remove_at <= ?`, at)
		if err != nil || n == 0 {
			return err
		}
		_, err = advanceFeed(c, at)
		return err
	})
}
