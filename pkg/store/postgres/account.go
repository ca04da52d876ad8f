package postgres

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/handstamp/handstamp/pkg/account"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/mail"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/user"
)

// AskProof implements account.Store. The lock on the user's row makes those who ask at once take turns, so that one proof is
// left.
func (db *DB) AskProof(ctx context.Context, a account.Asked) error {
	if a.Letter.IsZero() {
		return nil
	}
	const (
		ask = insertLetter + always + countLetter + `, posted AS (` + putLetter + ` RETURNING 1), older AS (
				DELETE FROM account_proofs o USING posted WHERE o.user_id = $1::text AND o.purpose = $12::text
					AND (o.data = '') = ($15::text = '')
			) INSERT INTO account_proofs (hash, flow, code_hash, purpose, user_id, email, credential, data, created_at, expires_at)
			SELECT $9::bytea, $10::bytea, $11::bytea, $12::text, NULLIF($1::text, ''), $13::text, $14::bytea, $15::text, $16::timestamptz,
				$17::timestamptz FROM posted`
		note = insertEvent + ` FROM account_proofs WHERE hash = $11::bytea AND xmin = pg_current_xact_id()::xid`
	)
	p := a.Proof
	return db.run(ctx, "ask for a proof",
		do(lockUser, p.UserID),
		do(ask, lettering(p.UserID, a.Letter, p.Hash[:], p.Flow[:], p.CodeHash[:], string(p.Purpose), p.Email, p.Credential[:], p.Data,
			when(p.CreatedAt), when(p.ExpiresAt))...),
		do(note, withEvent(a.Event, p.Hash[:])...))
}

// lettering are the parameters of insertLetter and what follows it.
func lettering(userID string, l mail.Letter, more ...any) []any {
	key := ""
	if l.To != "" {
		key = user.EmailKey(l.To)
	}
	full := l.At.Add(time.Duration(l.Budget.Burst) * l.Budget.Every)
	return append([]any{userID, l.To, key, json.RawMessage(l.Payload), when(l.At), l.Budget.Name, l.Budget.Every, when(full)},
		more...)
}

// A query for proofs p and their users is proofColumns, where they come from, and proofUser.
const (
	proofColumns = `SELECT p.hash, p.flow, p.code_hash, p.purpose, p.email, p.credential, p.data, p.created_at, p.expires_at,
			COALESCE(u.id, ''), COALESCE(u.email, ''), u.email_verified_at, COALESCE(u.name, ''), COALESCE(u.profile, '{}'),
			COALESCE(u.password_hash, ''), COALESCE(u.roles, '{}'), u.created_at, u.updated_at, u.disabled_at
		FROM `

	proofUser = ` p LEFT JOIN users u ON u.id = p.user_id`
)

// proof runs a statement that returns a proof and its user, or none.
func (db *DB) proof(ctx context.Context, doing, sql string, args ...any) (f account.Found, found bool, err error) {
	var credential []byte
	err = db.run(ctx, doing, one(sql, existing(&found, append([]any{
		digest{(*[32]byte)(&f.Hash)}, digest{(*[32]byte)(&f.Flow)}, digest{(*[32]byte)(&f.CodeHash)}, &f.Purpose, &f.Email, &credential,
		&f.Data, instant{&f.CreatedAt}, instant{&f.ExpiresAt},
	}, userTargets(&f.User)...)...), args...))
	copy(f.Credential[:], credential)
	f.UserID = f.User.ID
	return f, found, err
}

// ProofByLink implements account.Store.
func (db *DB) ProofByLink(ctx context.Context, hash account.Hash, purpose account.Purpose, at time.Time) (account.Found, error) {
	const sql = proofColumns + `account_proofs` + proofUser + ` WHERE p.hash = $1 AND p.purpose = $2 AND p.expires_at > $3`
	f, found, err := db.proof(ctx, "find a proof", sql, hash[:], string(purpose), when(at))
	if err == nil && !found {
		return account.Found{}, account.ErrLink
	}
	return f, err
}

// TryCode implements account.Store. Of parallel tries each waits for the one before it at the row.
func (db *DB) TryCode(ctx context.Context, flow account.Hash, purpose account.Purpose, at time.Time) (account.Found, error) {
	const sql = `WITH tried AS (
			UPDATE account_proofs SET tries = tries + 1 WHERE flow = $1 AND purpose = $2 AND expires_at > $3 AND tries < $4::bigint
			RETURNING *
		) ` + proofColumns + `tried` + proofUser
	f, found, err := db.proof(ctx, "try a code", sql, flow[:], string(purpose), when(at), int64(account.MaxTries))
	if err == nil && !found {
		return account.Found{}, account.ErrCode
	}
	return f, err
}

// ResetPassword implements account.Store. Of parallel ones each waits for the one before it at the user's row.
func (db *DB) ResetPassword(ctx context.Context, f account.Found, replacement string, e session.Ending) ([]session.ID, error) {
	const (
		reset = `WITH used AS (
				DELETE FROM account_proofs WHERE hash = $2 AND purpose = $3 AND expires_at > $4::timestamptz AND user_id = $1
				RETURNING user_id
			), replaced AS (
				UPDATE users u SET password_hash = $7, email_verified_at = COALESCE(u.email_verified_at, $4), updated_at = $4
				FROM used WHERE u.id = used.user_id AND u.email = $5 AND u.password_hash = $6 AND u.disabled_at IS NULL
				RETURNING u.id
			), unproven AS (
				SELECT r.id FROM replaced r JOIN users o ON o.id = r.id WHERE o.email_verified_at IS NULL
			), unlinked AS (DELETE FROM identities i USING unproven u WHERE i.user_id = u.id
			), codes AS (DELETE FROM recovery_codes c USING unproven u WHERE c.user_id = u.id
			), unlocked AS (DELETE FROM factors f USING unproven u WHERE f.user_id = u.id
			), forgotten AS (DELETE FROM login_attempts a USING replaced WHERE a.key = $8::bytea
			) SELECT EXISTS (SELECT FROM replaced)`
		end = endWhich + ` AND ` + userWritten + endThem + userWritten + endTold
	)
	var (
		done  bool
		ended []pgtype.UUID
		key   = user.StrangersKey(user.EmailKey(f.User.Email))
	)
	steps := append([]step{
		do(lockUser, f.User.ID),
		one(reset, to(&done), f.User.ID, f.Hash[:], string(f.Purpose), when(e.At), f.User.Email, f.User.PasswordHash, replacement,
			key[:]),
	}, writing(insertLetter+recipientWritten+insertLetterThen, f.User.ID, e.Mail)...)
	err := db.run(ctx, "reset password", append(steps,
		one(end, to(&ended, nil), ending(f.User.ID, session.ID{}, e)...),
		do(forgetWhose+justWritten+forget, f.User.ID, uuid(session.ID{})))...)
	if err == nil && !done {
		return nil, account.ErrLink
	}
	return ids(ended), err
}

// VerifyEmail implements account.Store.
func (db *DB) VerifyEmail(ctx context.Context, f account.Found, e audit.Event) error {
	const sql = `WITH used AS (
			DELETE FROM account_proofs WHERE hash = $11::bytea AND purpose = $12::text AND expires_at > $1::timestamptz
				AND user_id = $13::text
			RETURNING user_id
		), verified AS (
			UPDATE users u SET email_verified_at = COALESCE(u.email_verified_at, $1::timestamptz), updated_at = $1::timestamptz
			FROM used WHERE u.id = used.user_id AND u.email = $14::text AND u.password_hash = $15::text AND u.disabled_at IS NULL
			RETURNING u.id
		), noted AS (` + insertEvent + ` FROM verified)
		SELECT EXISTS (SELECT FROM verified)`
	var done bool
	err := db.run(ctx, "verify an address", do(lockUser, f.User.ID), one(sql, to(&done), withEvent(e, f.Hash[:], string(f.Purpose),
		f.User.ID, f.User.Email, f.User.PasswordHash)...))
	if err == nil && !done {
		return account.ErrLink
	}
	return err
}

// FinishSignup implements account.Store.
func (db *DB) FinishSignup(ctx context.Context, f account.Found, u user.User, e audit.Event) error {
	const sql = `WITH used AS (
			DELETE FROM account_proofs WHERE hash = $11::bytea AND purpose = $12::text AND expires_at > $1::timestamptz AND user_id IS NULL
			RETURNING hash
		), created AS (
			INSERT INTO users (id, email, email_key, email_verified_at, name, profile, password_hash, roles, created_at, updated_at)
			SELECT $13::text, $14::text, NULLIF($15::text, ''), $16::timestamptz, $17::text, $18::jsonb, $19::text, $20::text[],
				$21::timestamptz, $22::timestamptz FROM used
			ON CONFLICT (email_key) DO NOTHING RETURNING id
		), noted AS (` + insertEvent + ` FROM created)
		SELECT EXISTS (SELECT FROM created)`
	var done bool
	err := db.run(ctx, "finish a sign-up", one(sql, to(&done), withEvent(e, f.Hash[:], string(f.Purpose), u.ID, u.Email,
		user.EmailKey(u.Email), when(u.EmailVerifiedAt), u.Name, u.Profile, u.PasswordHash, list(u.Roles), when(u.CreatedAt),
		when(u.UpdatedAt))...))
	if err == nil && !done {
		return account.ErrLink
	}
	return err
}

// SweepProofs implements account.Store.
func (db *DB) SweepProofs(ctx context.Context, before time.Time, limit int) (int, error) {
	return db.sweep(ctx, "sweep proofs", before, limit, sweepProofs)
}
