package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/user"
)

const userColumns = `u.id, u.email, u.email_verified_at, u.name, u.profile, u.password_hash, u.roles, u.created_at, ` +
	`u.updated_at, u.disabled_at`

func userTargets(u *user.User) []any {
	return []any{&u.ID, &u.Email, instant{&u.EmailVerifiedAt}, &u.Name, &u.Profile, &u.PasswordHash, texts{&u.Roles},
		instant{&u.CreatedAt}, instant{&u.UpdatedAt}, instant{&u.DisabledAt}}
}

// CreateUser implements user.Store.
func (db *DB) CreateUser(ctx context.Context, u user.User, e audit.Event) error {
	const sql = `WITH created AS (
			INSERT INTO users (id, email, email_key, email_verified_at, name, profile, password_hash, roles, created_at, updated_at,
				disabled_at)
			VALUES ($11, $12, NULLIF($13, ''), $14, $15, $16, $17, $18, $19, $20, $21)
			ON CONFLICT (email_key) DO NOTHING RETURNING id
		), noted AS (` + insertEvent + ` FROM created)
		SELECT count(*) = 1 FROM created`
	var created bool
	err := db.run(ctx, "create user", one(sql, to(&created), withEvent(e,
		u.ID, u.Email, user.EmailKey(u.Email), when(u.EmailVerifiedAt), u.Name, u.Profile, u.PasswordHash, list(u.Roles),
		when(u.CreatedAt), when(u.UpdatedAt), when(u.DisabledAt))...))
	if err == nil && !created {
		return user.ErrEmailTaken
	}
	return err
}

// UserByID implements user.Store.
func (db *DB) UserByID(ctx context.Context, id string) (user.User, error) {
	return db.user(ctx, "read user", `SELECT `+userColumns+` FROM users u WHERE u.id = $1`, id)
}

// UserByEmail implements user.Store.
func (db *DB) UserByEmail(ctx context.Context, email string) (user.User, error) {
	return db.user(ctx, "find user", `SELECT `+userColumns+` FROM users u WHERE u.email_key = $1`, user.EmailKey(email))
}

// UpdateUser implements user.Store.
func (db *DB) UpdateUser(ctx context.Context, id string, c user.Change, at time.Time) (user.User, error) {
	const sql = `UPDATE users u SET name = COALESCE($2, u.name), profile = jsonb_strip_nulls(u.profile || $3::jsonb), updated_at = $4
		WHERE u.id = $1 RETURNING ` + userColumns
	profile := c.Profile
	if profile == nil {
		profile = map[string]*string{}
	}
	return db.user(ctx, "update user", sql, id, c.Name, profile, when(at))
}

// user runs a statement that returns a user or none.
func (db *DB) user(ctx context.Context, doing, sql string, args ...any) (user.User, error) {
	var u user.User
	err := db.run(ctx, doing, one(sql, to(userTargets(&u)...), args...))
	if err == nil && u.ID == "" {
		return user.User{}, user.ErrNotFound
	}
	return u, err
}

// Users implements user.Store.
func (db *DB) Users(ctx context.Context, after string, limit int) ([]user.User, error) {
	const sql = `SELECT ` + userColumns + ` FROM users u WHERE u.id > $1 ORDER BY u.id LIMIT $2::bigint`
	var users []user.User
	err := db.report(ctx, "list users", step{sql: sql, args: []any{after, int64(limit)}, scan: func(rows pgx.Rows) error {
		var u user.User
		err := rows.Scan(userTargets(&u)...)
		users = append(users, u)
		return err
	}})
	return users, err
}

// BeginLogin implements user.Store. It is the generic cell rate algorithm: free_at is when all attempts so far are paid
// for at one every Every, and an attempt is allowed while that is at most Burst attempts ahead. Of parallel attempts
// each waits for the one before it at the row, and decides by what that one left.
func (db *DB) BeginLogin(ctx context.Context, t user.Try, limit user.Throttle) (user.Attempt, error) {
	const sql = `WITH u AS (
			SELECT ` + userColumns + ` FROM users u WHERE u.email_key = $1
		), k AS (
			SELECT CASE
				WHEN $8::bytea IS NOT NULL AND EXISTS (SELECT FROM u
					WHERE substring(sha256(convert_to(u.password_hash, 'UTF8')) FROM 1 FOR 16) = $8::bytea) THEN $9::bytea
				WHEN $2::text <> '' AND EXISTS (SELECT FROM u JOIN sessions s ON s.user_id = u.id
					WHERE s.ip = $2::text AND ` + live + ` AND s.revoked_at IS NULL
						AND s.idle_expires_at > $5 AND s.expires_at > $5) THEN $4::bytea
				ELSE $3::bytea END AS key
		), counted AS (
			INSERT INTO login_attempts AS a (key, free_at) SELECT k.key, $5::timestamptz + $6::interval FROM k
			ON CONFLICT (key) DO UPDATE SET free_at = GREATEST(a.free_at, $5) + $6
			WHERE GREATEST(a.free_at, $5) + $6 <= $7::timestamptz
			RETURNING a.key
		)
		SELECT EXISTS (SELECT FROM counted), (SELECT a.free_at FROM login_attempts a JOIN k ON a.key = k.key), (SELECT key FROM k),
			u.id IS NOT NULL,
			COALESCE(u.id, ''), COALESCE(u.email, ''), u.email_verified_at, COALESCE(u.name, ''), COALESCE(u.profile, '{}'),
			COALESCE(u.password_hash, ''),
			COALESCE(u.roles, '{}'), u.created_at, u.updated_at, u.disabled_at
		FROM (SELECT) AS always LEFT JOIN u ON true`
	var (
		a       user.Attempt
		allowed bool
		freeAt  time.Time
		key     user.AttemptKey
		full    = t.At.Add(time.Duration(limit.Burst) * limit.Every)
		keys    = t.Keys()
	)
	var credential []byte // of a known device
	if t.Device != (user.Device{}) {
		credential = t.Device.Credential[:]
	}
	err := db.run(ctx, "begin login", one(sql,
		to(append([]any{&allowed, instant{&freeAt}, digest{(*[32]byte)(&key)}, &a.Found}, userTargets(&a.User)...)...),
		user.EmailKey(t.Email), t.IP, keys.Strangers[:], keys.Address[:], when(t.At), limit.Every, when(full), credential,
		keys.Device[:]))
	if err != nil {
		return user.Attempt{}, err
	}
	if allowed {
		a.Refund = user.RefundOf(keys, key, limit)
		return a, nil
	}
	// freeAt is as it was when the statement began. If the last allowed attempt was made since, one more is the best guess.
	if a.RetryAfter = freeAt.Add(limit.Every).Sub(full); a.RetryAfter <= 0 {
		a.RetryAfter = limit.Every
	}
	return a, nil
}

// refund gives a login's attempt back: the parameters are the key and what one attempt costs.
func refund(r user.Refund) []any {
	if r == (user.Refund{}) {
		return []any{nil, r.By}
	}
	return []any{r.Key[:], r.By}
}

// ReplacePasswordHash implements user.Store.
func (db *DB) ReplacePasswordHash(ctx context.Context, id, old, replacement string, at time.Time) error {
	const sql = `UPDATE users SET password_hash = $3, updated_at = $4 WHERE id = $1 AND password_hash = $2 RETURNING true`
	var replaced bool
	err := db.run(ctx, "replace password hash", one(sql, to(&replaced), id, old, replacement, when(at)))
	if err == nil && !replaced {
		return user.ErrChanged
	}
	return err
}

// EnableUser implements user.Store.
func (db *DB) EnableUser(ctx context.Context, id string, e audit.Event) error {
	const sql = `WITH enabled AS (
			UPDATE users SET disabled_at = NULL, updated_at = $1::timestamptz WHERE id = $11 AND disabled_at IS NOT NULL RETURNING id
		), noted AS (` + insertEvent + ` FROM enabled)
		SELECT EXISTS (SELECT FROM users WHERE id = $11)`
	var found bool
	err := db.run(ctx, "enable user", one(sql, to(&found), withEvent(e, id)...))
	if err == nil && !found {
		return user.ErrNotFound
	}
	return err
}
