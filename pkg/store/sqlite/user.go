package sqlite

import (
	"context"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/user"
)

const userColumns = `id, email, email_verified_at, name, profile, password_hash, roles, created_at, updated_at, disabled_at`

func scanUser(r *row, u *user.User) {
	r.scan(&u.ID, &u.Email, &u.EmailVerifiedAt, &u.Name, &u.Profile, &u.PasswordHash, &u.Roles, &u.CreatedAt, &u.UpdatedAt,
		&u.DisabledAt)
}

// CreateUser implements [user.Store].
func (db *DB) CreateUser(ctx context.Context, u user.User, e audit.Event) error {
	return db.write(ctx, "create user", func(c *conn) error {
		n, err := insertUser(c, u)
		if err != nil {
			return err
		}
		if n == 0 {
			return user.ErrEmailTaken
		}
		return record(c, e)
	})
}

// insertUser adds the user, or none if the address is taken.
func insertUser(c *conn, u user.User) (int64, error) {
	return c.exec(`
		INSERT INTO users (id, email, email_key, email_verified_at, name, profile, password_hash, roles, created_at, updated_at,
			disabled_at)
		VALUES (?, ?, nullif(?, ''), ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (email_key) DO NOTHING`,
		u.ID, u.Email, user.EmailKey(u.Email), u.EmailVerifiedAt, u.Name, u.Profile, u.PasswordHash, u.Roles,
		u.CreatedAt, u.UpdatedAt, u.DisabledAt)
}

// UserByID implements [user.Store].
func (db *DB) UserByID(ctx context.Context, id string) (u user.User, err error) {
	err = db.read(ctx, "read user", func(c *conn) error {
		return oneUser(c, &u, `SELECT `+userColumns+` FROM users WHERE id = ?`, id)
	})
	return u, err
}

// UserByEmail implements [user.Store].
func (db *DB) UserByEmail(ctx context.Context, email string) (u user.User, err error) {
	err = db.read(ctx, "read user", func(c *conn) error {
		return oneUser(c, &u, `SELECT `+userColumns+` FROM users WHERE email_key = ?`, user.EmailKey(email))
	})
	return u, err
}

// oneUser returns user.ErrNotFound if the statement finds nobody.
func oneUser(c *conn, u *user.User, query string, args ...any) error {
	found, err := c.one(query, func(r *row) { scanUser(r, u) }, args...)
	if err == nil && !found {
		return user.ErrNotFound
	}
	return err
}

// Users implements [user.Store].
func (db *DB) Users(ctx context.Context, after string, limit int) (users []user.User, err error) {
	err = db.read(ctx, "list users", func(c *conn) error {
		return c.query(`SELECT `+userColumns+` FROM users WHERE id > ? ORDER BY id LIMIT ?`, func(r *row) error {
			var u user.User
			scanUser(r, &u)
			users = append(users, u)
			return nil
		}, after, limit)
	})
	return users, err
}

// BeginLogin implements [user.Store].
//
// The count is a single time (the generic cell rate algorithm): each attempt moves it by Every, and an attempt is
// refused while it lies further ahead than the burst allows. A refused attempt does not move it, so guessing on does
// not keep anybody out longer.
func (db *DB) BeginLogin(ctx context.Context, t user.Try, limit user.Throttle) (attempt user.Attempt, err error) {
	err = db.write(ctx, "begin login", func(c *conn) error {
		attempt.Found, err = c.one(`SELECT `+userColumns+` FROM users WHERE email_key = ?`,
			func(r *row) { scanUser(r, &attempt.User) }, user.EmailKey(t.Email))
		if err != nil {
			return err
		}
		keys := t.Keys()
		key, err := attemptKey(c, t, keys, attempt)
		if err != nil {
			return err
		}
		var freeAt time.Time
		if _, err := c.one(`SELECT free_at FROM login_attempts WHERE key = ?`, func(r *row) { r.scan(&freeAt) }, key[:]); err != nil {
			return err
		}
		if freeAt.Before(t.At) {
			freeAt = t.At
		}
		if wait := freeAt.Sub(t.At) - time.Duration(limit.Burst-1)*limit.Every; wait > 0 {
			attempt.RetryAfter = wait
			return errRollback
		}
		attempt.Refund = user.RefundOf(keys, key, limit)
		if _, err := c.exec(`
			INSERT INTO login_attempts (key, free_at) VALUES (?, ?)
			ON CONFLICT (key) DO UPDATE SET free_at = excluded.free_at`, key[:], freeAt.Add(limit.Every)); err != nil {
			return err
		}
		// Each attempt may add one row and deletes up to two expired ones. So the table stays as small as the number
		// of addresses attacked lately, and needs no sweep.
		_, err = c.exec(`
			DELETE FROM login_attempts WHERE key IN (SELECT key FROM login_attempts WHERE free_at <= ? ORDER BY free_at LIMIT 2)`, t.At)
		return err
	})
	return attempt, err
}

// attemptKey is the key under which an attempt at what was found for it counts.
func attemptKey(c *conn, t user.Try, keys user.AttemptKeys, attempt user.Attempt) (user.AttemptKey, error) {
	if !attempt.Found {
		return keys.Strangers, nil
	}
	if t.Device != (user.Device{}) && t.Device.Credential == user.CredentialOf(attempt.User.PasswordHash) {
		return keys.Device, nil
	}
	if t.IP == "" {
		return keys.Strangers, nil
	}
	known, err := c.one(`SELECT 1 FROM sessions WHERE user_id = ?2 AND ip = ?3 AND `+alive+` LIMIT 1`, func(*row) {}, t.At,
		attempt.User.ID, t.IP)
	if err != nil || !known {
		return keys.Strangers, err
	}
	return keys.Address, nil
}

// refund gives a login's attempt back at a time.
func refund(c *conn, r user.Refund, at time.Time) error {
	if r == (user.Refund{}) {
		return nil
	}
	_, err := c.exec(`UPDATE login_attempts SET free_at = CASE WHEN ?2 = 0 THEN ?3 ELSE free_at - ?2 END WHERE key = ?1`, r.Key[:],
		r.By.Microseconds(), at)
	return err
}

// ReplacePasswordHash implements [user.Store].
func (db *DB) ReplacePasswordHash(ctx context.Context, id, old, replacement string, at time.Time) error {
	return db.write(ctx, "replace password hash", func(c *conn) error { return replaceHash(c, id, old, replacement, at) })
}

// replaceHash returns user.ErrChanged if the hash is no longer old.
func replaceHash(c *conn, id, old, replacement string, at time.Time) error {
	const replace = `UPDATE users SET password_hash = ?, updated_at = ? WHERE id = ? AND password_hash = ?`
	n, err := c.exec(replace, replacement, at, id, old)
	if err == nil && n == 0 {
		return user.ErrChanged
	}
	return err
}

// UpdateUser implements [user.Store].
func (db *DB) UpdateUser(ctx context.Context, id string, change user.Change, at time.Time) (u user.User, err error) {
	err = db.write(ctx, "update user", func(c *conn) error {
		return oneUser(c, &u, `
			UPDATE users SET name = coalesce(?2, name), profile = json_patch(profile, ?3), updated_at = ?4
			WHERE id = ?1 RETURNING `+userColumns, id, change.Name, change.Profile, at)
	})
	return u, err
}

// EnableUser implements [user.Store].
func (db *DB) EnableUser(ctx context.Context, id string, e audit.Event) error {
	return db.write(ctx, "enable user", func(c *conn) error {
		changed, err := setDisabled(c, id, time.Time{}, e.At)
		if err != nil || !changed {
			return err
		}
		return record(c, e)
	})
}

// setDisabled reports whether it made a difference, or returns user.ErrNotFound.
func setDisabled(c *conn, id string, disabledAt, at time.Time) (bool, error) {
	n, err := c.exec(`UPDATE users SET disabled_at = ?2, updated_at = ?3 WHERE id = ?1 AND (disabled_at IS NULL) <> (?2 IS NULL)`,
		id, disabledAt, at)
	if err != nil || n > 0 {
		return n > 0, err
	}
	found, err := c.one(`SELECT 1 FROM users WHERE id = ?`, func(*row) {}, id)
	if err == nil && !found {
		return false, user.ErrNotFound
	}
	return false, err
}
