package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/keyring"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// lockKeys makes writers of signing keys take turns until the end of the transaction. Readers do not wait. The number
// is arbitrary and known to all replicas. (LOCK TABLE would do the same, but not in a transaction that is one message.)
const lockKeys = `SELECT pg_advisory_xact_lock(4851736283)`

const notifyKeys = `SELECT true, ` + notify

// SigningKeys implements keyring.Store.
func (db *DB) SigningKeys(ctx context.Context) ([]keyring.Record, error) {
	const sql = `SELECT id, algorithm, state, sealed, public, created_at, activates_at, activated_at, retired_at, remove_at,
		revoked_at
		FROM signing_keys ORDER BY created_at, id`
	var keys []keyring.Record
	err := db.run(ctx, "read signing keys", step{sql: sql, scan: func(rows pgx.Rows) error {
		var k keyring.Record
		err := rows.Scan(&k.ID, &k.Algorithm, &k.State, &k.Sealed, &k.Public,
			instant{&k.CreatedAt}, instant{&k.ActivatesAt}, instant{&k.ActivatedAt}, instant{&k.RetiredAt}, instant{&k.RemoveAt},
			instant{&k.RevokedAt})
		keys = append(keys, k)
		return err
	}})
	return keys, err
}

// InsertSigningKey implements keyring.Store.
func (db *DB) InsertSigningKey(ctx context.Context, insertion keyring.Insertion) error {
	const sql = `WITH added AS (
			INSERT INTO signing_keys (id, algorithm, state, sealed, public, created_at, activates_at, activated_at, retired_at,
				remove_at, revoked_at)
			SELECT $11::text, $12::text, $13::text, $14::bytea, $15::bytea, $16::timestamptz, $17::timestamptz, $18::timestamptz,
				$19::timestamptz, $20::timestamptz, $21::timestamptz
			WHERE COALESCE((SELECT k.id FROM signing_keys k WHERE k.algorithm = $12::text AND k.state = 'active'), '') = $22::text
				AND NOT EXISTS (SELECT FROM signing_keys k WHERE k.algorithm = $12::text AND k.state = 'upcoming' OR k.id = $11::text)
			RETURNING id
		), noted AS (` + insertEvent + ` FROM added)
		` + notifyKeys + ` FROM added`
	k := &insertion.Key
	var added bool
	err := db.run(ctx, "insert signing key", do(lockKeys), one(sql, to(&added, nil), withEvent(insertion.Event,
		k.ID, k.Algorithm, string(k.State), k.Sealed, k.Public, when(k.CreatedAt), when(k.ActivatesAt), when(k.ActivatedAt),
		when(k.RetiredAt), when(k.RemoveAt), when(k.RevokedAt), insertion.Active)...))
	if err == nil && !added {
		return keyring.ErrConflict
	}
	return err
}

// ActivateSigningKey implements keyring.Store. The predecessor goes first: at no time has an algorithm two active keys.
func (db *DB) ActivateSigningKey(ctx context.Context, activation keyring.Activation) error {
	const (
		retire = `UPDATE signing_keys k SET state = 'retired', sealed = NULL, retired_at = $2, remove_at = $3
			FROM signing_keys successor
			WHERE successor.id = $1 AND successor.state = 'upcoming' AND k.algorithm = successor.algorithm AND k.state = 'active'`
		activate = `WITH activated AS (
				UPDATE signing_keys SET state = 'active', activated_at = $2 WHERE id = $1 AND state = 'upcoming' RETURNING id
			) ` + notifyKeys + ` FROM activated`
	)
	var activated bool
	err := db.run(ctx, "activate signing key", do(lockKeys),
		do(retire, activation.ID, when(activation.At), when(activation.RemoveAt)),
		one(activate, to(&activated, nil), activation.ID, when(activation.At)))
	if err == nil && !activated {
		return keyring.ErrConflict
	}
	return err
}

// RevokeSigningKey implements keyring.Store.
func (db *DB) RevokeSigningKey(ctx context.Context, revocation keyring.Revocation) error {
	const (
		find   = `SELECT state FROM signing_keys WHERE id = $1`
		revoke = `WITH revoked AS (
				UPDATE signing_keys SET state = 'revoked', sealed = NULL, revoked_at = $12::timestamptz, remove_at = $13::timestamptz
				WHERE id = $11 AND state NOT IN ('active', 'revoked')
				RETURNING id
			), blocked AS (` + insertEntries + ` SELECT $14::bytea, $15::bigint, $15::bigint FROM revoked ` + largerEntry + `
			), noted AS (` + insertEvent + ` FROM revoked)
			` + notifyKeys + ` FROM revoked`
	)
	var state keyring.State
	key := blocklist.NewEntry(verifier.BlockKID, revocation.ID, revocation.RemoveAt).Key
	err := db.run(ctx, "revoke signing key", do(lockKeys),
		one(find, to(&state), revocation.ID),
		do(revoke, withEvent(revocation.Event, revocation.ID, when(revocation.At), when(revocation.RemoveAt), key[:],
			seconds(revocation.RemoveAt))...))
	switch {
	case err != nil:
		return err
	case state == "":
		return keyring.ErrNotFound
	case state == keyring.StateActive:
		return keyring.ErrConflict
	}
	return nil
}

// DeleteSigningKeys implements keyring.Store.
func (db *DB) DeleteSigningKeys(ctx context.Context, at time.Time) error {
	const sql = `WITH deleted AS (
			DELETE FROM signing_keys WHERE state IN ('retired', 'revoked') AND remove_at <= $1 RETURNING id
		) SELECT CASE WHEN EXISTS (SELECT FROM deleted) THEN ` + notify + ` END`
	return db.run(ctx, "delete signing keys", do(lockKeys), do(sql, when(at)))
}
