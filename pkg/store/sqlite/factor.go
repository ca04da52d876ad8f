package sqlite

import (
	"context"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/factor"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/user"
)

const factorColumns = `id, user_id, kind, name, secret, last_step, created_at, confirmed_at, last_used_at`

func scanFactor(r *row, f *factor.Factor) {
	r.scan(&f.ID, &f.UserID, (*string)(&f.Kind), &f.Name, &f.Secret, &f.LastStep, &f.CreatedAt, &f.ConfirmedAt, &f.LastUsedAt)
}

// hasFactors reports whether the user has a second factor.
func hasFactors(c *conn, userID string) (bool, error) {
	return c.one(`SELECT 1 FROM factors WHERE user_id = ? AND confirmed_at IS NOT NULL LIMIT 1`, func(*row) {}, userID)
}

// useFactor uses a factor up and completes a pending login, and reports whether it could be.
func useFactor(c *conn, userID string, at time.Time, u user.FactorUse) (bool, error) {
	used, err := c.exec(`UPDATE factors SET last_step = ?3, last_used_at = ?4
		WHERE id = ?1 AND user_id = ?2 AND confirmed_at IS NOT NULL AND last_step < ?3`, u.FactorID, userID, u.Step, at)
	if err != nil {
		return false, err
	}
	spent, err := c.exec(`DELETE FROM recovery_codes WHERE hash = ? AND user_id = ?`, some(oauth.Hash(u.RecoveryCode)), userID)
	if err != nil || used+spent == 0 {
		return false, err
	}
	completed, err := c.exec(`INSERT INTO completed_logins (hash, expires_at) VALUES (?, ?) ON CONFLICT (hash) DO NOTHING`,
		u.Login[:], u.ExpiresAt)
	if err != nil || completed == 0 {
		return false, err
	}
	_, err = c.exec(`DELETE FROM factor_tries WHERE id = ? AND user_id = ?`, u.Try, userID)
	return true, err
}

// Factors implements [factor.Store].
func (db *DB) Factors(ctx context.Context, userID string) (list []factor.Factor, recoveryCodes int, err error) {
	err = db.read(ctx, "list factors", func(c *conn) error {
		var n int64
		_, err := c.one(`SELECT count(*) FROM recovery_codes WHERE user_id = ?`, func(r *row) { r.scan(&n) }, userID)
		if err != nil {
			return err
		}
		recoveryCodes = int(n)
		list, err = factors(c, `SELECT `+factorColumns+` FROM factors WHERE user_id = ? ORDER BY created_at, id`, userID)
		return err
	})
	return list, recoveryCodes, err
}

func factors(c *conn, query string, args ...any) (list []factor.Factor, err error) {
	err = c.query(query, func(r *row) error {
		var f factor.Factor
		scanFactor(r, &f)
		list = append(list, f)
		return nil
	}, args...)
	return list, err
}

// AddFactor implements [factor.Store].
func (db *DB) AddFactor(ctx context.Context, f factor.Factor, limit int) error {
	return db.write(ctx, "add factor", func(c *conn) error {
		found, err := c.one(`SELECT 1 FROM users WHERE id = ?`, func(*row) {}, f.UserID)
		if err != nil {
			return err
		}
		if !found {
			return user.ErrNotFound
		}
		if _, err := c.exec(`DELETE FROM factors WHERE user_id = ? AND confirmed_at IS NULL`, f.UserID); err != nil {
			return err
		}
		n, err := c.exec(`
			INSERT INTO factors (id, user_id, kind, name, secret, last_step, created_at) SELECT ?1, id, ?3, ?4, ?5, ?6, ?7 FROM users
			WHERE id = ?2 AND (SELECT count(*) FROM factors WHERE user_id = ?2) < ?8`,
			f.ID, f.UserID, string(f.Kind), f.Name, f.Secret, f.LastStep, f.CreatedAt, limit)
		if err == nil && n == 0 {
			return factor.ErrTooMany
		}
		return err
	})
}

// ConfirmFactor implements [factor.Store].
func (db *DB) ConfirmFactor(ctx context.Context, confirmation factor.Confirmation) (kept bool, err error) {
	err = db.write(ctx, "confirm factor", func(c *conn) error {
		n, err := c.exec(`UPDATE factors SET confirmed_at = ?3, last_step = ?4
			WHERE id = ?1 AND user_id = ?2 AND confirmed_at IS NULL AND last_step < ?4`,
			confirmation.FactorID, confirmation.UserID, confirmation.At, confirmation.Step)
		if err != nil {
			return err
		}
		if n == 0 {
			return factor.ErrNotFound
		}
		if _, err := c.exec(`UPDATE sessions SET amr = ?3, acr = ?4 WHERE id = ?1 AND user_id = ?2`, confirmation.SessionID[:],
			confirmation.UserID, confirmation.AMR, confirmation.ACR); err != nil {
			return err
		}
		some, err := c.one(`SELECT 1 FROM recovery_codes WHERE user_id = ? LIMIT 1`, func(*row) {}, confirmation.UserID)
		if err != nil {
			return err
		}
		if !some {
			if err := addCodes(c, confirmation.UserID, confirmation.RecoveryCodes); err != nil {
				return err
			}
			kept = len(confirmation.RecoveryCodes) > 0
		}
		if err := post(c, confirmation.UserID, confirmation.Mail); err != nil {
			return err
		}
		return record(c, confirmation.Event)
	})
	return kept && err == nil, err
}

func addCodes(c *conn, userID string, hashes [][32]byte) error {
	for _, h := range hashes {
		if _, err := c.exec(`INSERT INTO recovery_codes (hash, user_id) VALUES (?, ?)`, h[:], userID); err != nil {
			return err
		}
	}
	return nil
}

// RenameFactor implements [factor.Store].
func (db *DB) RenameFactor(ctx context.Context, userID, id, name string) error {
	return db.write(ctx, "rename factor", func(c *conn) error {
		n, err := c.exec(`UPDATE factors SET name = ? WHERE id = ? AND user_id = ? AND confirmed_at IS NOT NULL`, name, id, userID)
		if err == nil && n == 0 {
			return factor.ErrNotFound
		}
		return err
	})
}

// RemoveFactor implements [factor.Store].
func (db *DB) RemoveFactor(ctx context.Context, r factor.Removal) error {
	return db.write(ctx, "remove factor", func(c *conn) error {
		var confirmed bool
		found, err := c.one(`DELETE FROM factors WHERE id = ? AND user_id = ? RETURNING confirmed_at IS NOT NULL`,
			func(r *row) { r.scan(&confirmed) }, r.FactorID, r.UserID)
		if err != nil {
			return err
		}
		if !found {
			return factor.ErrNotFound
		}
		if !confirmed {
			return nil
		}
		others, err := hasFactors(c, r.UserID)
		if err != nil {
			return err
		}
		if !others {
			if _, err := c.exec(`DELETE FROM recovery_codes WHERE user_id = ?`, r.UserID); err != nil {
				return err
			}
		}
		if err := post(c, r.UserID, r.Mail); err != nil {
			return err
		}
		return record(c, r.Event)
	})
}

// ReplaceRecoveryCodes implements [factor.Store].
func (db *DB) ReplaceRecoveryCodes(ctx context.Context, userID string, hashes [][32]byte, e audit.Event) error {
	return db.write(ctx, "replace recovery codes", func(c *conn) error {
		some, err := hasFactors(c, userID)
		if err != nil {
			return err
		}
		if !some {
			return factor.ErrNotFound
		}
		if _, err := c.exec(`DELETE FROM recovery_codes WHERE user_id = ?`, userID); err != nil {
			return err
		}
		if err := addCodes(c, userID, hashes); err != nil {
			return err
		}
		return record(c, e)
	})
}

// BeginFactorTry implements [factor.Store].
func (db *DB) BeginFactorTry(ctx context.Context, userID string, at time.Time, limit int, window time.Duration) (try factor.Try,
	err error) {
	err = db.write(ctx, "begin factor try", func(c *conn) error {
		var recent int
		var first time.Time
		err := c.query(`SELECT at FROM factor_tries WHERE user_id = ? AND at > ? ORDER BY at DESC LIMIT ?`, func(r *row) error {
			recent++
			r.scan(&first)
			return nil
		}, userID, at.Add(-window), limit)
		if err != nil {
			return err
		}
		if recent >= limit {
			try.RetryAfter = max(first.Add(window).Sub(at), time.Second)
			return errRollback
		}
		_, err = c.one(`INSERT INTO factor_tries (user_id, at) SELECT id, ?2 FROM users WHERE id = ?1 RETURNING id`,
			func(r *row) { r.scan(&try.ID) }, userID, at)
		if err != nil {
			return err
		}
		try.Factors, err = factors(c, `SELECT `+factorColumns+` FROM factors WHERE user_id = ? AND confirmed_at IS NOT NULL
			ORDER BY created_at, id`, userID)
		return err
	})
	if err != nil {
		return factor.Try{}, err
	}
	return try, nil
}

// SweepFactors implements [factor.Store].
func (db *DB) SweepFactors(ctx context.Context, before time.Time, limit int) (int, error) {
	return db.sweep(ctx, "sweep factors", before, limit,
		`DELETE FROM factor_tries WHERE id IN (SELECT id FROM factor_tries WHERE at < ? ORDER BY at LIMIT ?)`,
		`DELETE FROM completed_logins WHERE hash IN (SELECT hash FROM completed_logins WHERE expires_at < ? ORDER BY expires_at `+
			`LIMIT ?)`,
		`DELETE FROM factors WHERE id IN (SELECT id FROM factors WHERE confirmed_at IS NULL AND created_at < ? ORDER BY created_at `+
			`LIMIT ?)`)
}
