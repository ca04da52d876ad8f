package sqlite

import (
	"context"
	"time"

	"github.com/handstamp/handstamp/pkg/account"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/user"
)

// AskProof implements [account.Store].
func (db *DB) AskProof(ctx context.Context, a account.Asked) error {
	return db.write(ctx, "ask for a proof", func(c *conn) error {
		written, err := posted(c, a.UserID, a.Letter)
		if err != nil || !written {
			return err
		}
		if _, err := c.exec(`DELETE FROM account_proofs WHERE user_id = ?1 AND purpose = ?2 AND (data = '') = (?3 = '')`,
			a.UserID, string(a.Purpose), a.Data); err != nil {
			return err
		}
		if err := insertProof(c, a.Proof); err != nil {
			return err
		}
		return record(c, a.Event)
	})
}

func insertProof(c *conn, p account.Proof) error {
	_, err := c.exec(`
		INSERT INTO account_proofs (hash, flow, code_hash, purpose, user_id, email, credential, data, created_at, expires_at)
		VALUES (?, ?, ?, ?, nullif(?, ''), ?, ?, ?, ?, ?)`,
		p.Hash[:], p.Flow[:], p.CodeHash[:], string(p.Purpose), p.UserID, p.Email, p.Credential[:], p.Data, p.CreatedAt, p.ExpiresAt)
	return err
}

// proofBy is the beginning of a query for a proof and its user.
const proofBy = `SELECT p.hash, p.flow, p.code_hash, p.purpose, p.email, p.credential, p.data, p.created_at, p.expires_at,
		coalesce(u.id, ''), coalesce(u.email, ''), u.email_verified_at, coalesce(u.name, ''), coalesce(u.profile, '{}'),
		coalesce(u.password_hash, ''), coalesce(u.roles, '[]'), u.created_at, u.updated_at, u.disabled_at
	FROM account_proofs p LEFT JOIN users u ON u.id = p.user_id WHERE `

func findProof(c *conn, where string, args ...any) (f account.Found, found bool, err error) {
	found, err = c.one(proofBy+where, func(r *row) {
		var purpose string
		r.scan(f.Hash[:], f.Flow[:], f.CodeHash[:], &purpose, &f.Email, f.Credential[:], &f.Data, &f.CreatedAt, &f.ExpiresAt,
			&f.User.ID, &f.User.Email, &f.User.EmailVerifiedAt, &f.User.Name, &f.User.Profile, &f.User.PasswordHash, &f.User.Roles,
			&f.User.CreatedAt, &f.User.UpdatedAt, &f.User.DisabledAt)
		f.Purpose, f.UserID = account.Purpose(purpose), f.User.ID
	}, args...)
	return f, found, err
}

// ProofByLink implements [account.Store].
func (db *DB) ProofByLink(ctx context.Context, hash account.Hash, purpose account.Purpose, at time.Time) (
	f account.Found, err error) {
	err = db.read(ctx, "find a proof", func(c *conn) (err error) {
		var found bool
		f, found, err = findProof(c, `p.hash = ? AND p.purpose = ? AND p.expires_at > ?`, hash[:], string(purpose), at)
		if err == nil && !found {
			return account.ErrLink
		}
		return err
	})
	return f, err
}

// TryCode implements [account.Store].
func (db *DB) TryCode(ctx context.Context, flow account.Hash, purpose account.Purpose, at time.Time) (
	f account.Found, err error) {
	err = db.write(ctx, "try a code", func(c *conn) error {
		n, err := c.exec(`UPDATE account_proofs SET tries = tries + 1 WHERE flow = ? AND purpose = ? AND expires_at > ? AND tries < ?`,
			flow[:], string(purpose), at, account.MaxTries)
		if err != nil {
			return err
		}
		if n == 0 {
			return account.ErrCode
		}
		f, _, err = findProof(c, `p.flow = ?`, flow[:])
		return err
	})
	return f, err
}

// useProof deletes a proof that is still good for its user as found. account.ErrLink.
func useProof(c *conn, f account.Found, at time.Time) error {
	n, err := c.exec(`DELETE FROM account_proofs WHERE hash = ?1 AND purpose = ?2 AND expires_at > ?3 AND EXISTS (
			SELECT 1 FROM users WHERE id = ?4 AND email = ?5 AND password_hash = ?6 AND disabled_at IS NULL)`,
		f.Hash[:], string(f.Purpose), at, f.User.ID, f.User.Email, f.User.PasswordHash)
	if err == nil && n == 0 {
		return account.ErrLink
	}
	return err
}

// ResetPassword implements [account.Store].
func (db *DB) ResetPassword(ctx context.Context, f account.Found, replacement string, e session.Ending) ([]session.ID, error) {
	return db.ending(ctx, "reset password", f.User.ID, session.ID{}, e, func(c *conn) (bool, error) {
		if err := useProof(c, f, e.At); err != nil {
			return false, err
		}
		for _, table := range []string{"identities", "factors", "recovery_codes"} {
			if _, err := c.exec(`DELETE FROM `+table+` WHERE user_id = ?1
					AND EXISTS (SELECT 1 FROM users WHERE id = ?1 AND email_verified_at IS NULL)`, f.User.ID); err != nil {
				return false, err
			}
		}
		if _, err := c.exec(`UPDATE users SET password_hash = ?2, email_verified_at = coalesce(email_verified_at, ?3), updated_at = ?3
				WHERE id = ?1`, f.User.ID, replacement, e.At); err != nil {
			return false, err
		}
		// The known devices and the guesses of strangers belong to the old password.
		key := user.StrangersKey(user.EmailKey(f.User.Email))
		if _, err := c.exec(`DELETE FROM login_attempts WHERE key = ?`, key[:]); err != nil {
			return false, err
		}
		return true, post(c, f.User.ID, e.Mail)
	})
}

// VerifyEmail implements [account.Store].
func (db *DB) VerifyEmail(ctx context.Context, f account.Found, e audit.Event) error {
	return db.write(ctx, "verify an address", func(c *conn) error {
		if err := useProof(c, f, e.At); err != nil {
			return err
		}
		if _, err := c.exec(`UPDATE users SET email_verified_at = coalesce(email_verified_at, ?2), updated_at = ?2 WHERE id = ?1`,
			f.User.ID, e.At); err != nil {
			return err
		}
		return record(c, e)
	})
}

// FinishSignup implements [account.Store].
func (db *DB) FinishSignup(ctx context.Context, f account.Found, u user.User, e audit.Event) error {
	return db.write(ctx, "finish a sign-up", func(c *conn) error {
		n, err := c.exec(`DELETE FROM account_proofs WHERE hash = ? AND purpose = ? AND expires_at > ? AND user_id IS NULL`, f.Hash[:],
			string(f.Purpose), e.At)
		if err == nil && n > 0 {
			n, err = insertUser(c, u)
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return account.ErrLink
		}
		return record(c, e)
	})
}

// SweepProofs implements [account.Store].
func (db *DB) SweepProofs(ctx context.Context, before time.Time, limit int) (int, error) {
	return db.sweep(ctx, "sweep proofs", before, limit,
		`DELETE FROM account_proofs WHERE hash IN (SELECT hash FROM account_proofs WHERE expires_at < ? ORDER BY expires_at LIMIT ?)`)
}
