package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/upstream"
	"github.com/handstamp/handstamp/pkg/user"
)

// SaveAttempt implements upstream.Store.
func (db *DB) SaveAttempt(ctx context.Context, a upstream.Attempt) error {
	const sql = `INSERT INTO upstream_attempts (state_hash, browser_hash, provider, redirect_uri, user_id, continue, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7)`
	return db.run(ctx, "save login attempt at a provider",
		do(sql, a.StateHash[:], a.BrowserHash[:], a.Provider, a.RedirectURI, a.UserID, a.Continue, when(a.ExpiresAt)))
}

// TakeAttempt implements upstream.Store.
func (db *DB) TakeAttempt(ctx context.Context, stateHash [32]byte, at time.Time) (upstream.Attempt, error) {
	const sql = `DELETE FROM upstream_attempts WHERE state_hash = $1 AND expires_at > $2
		RETURNING browser_hash, provider, redirect_uri, user_id, continue, expires_at`
	a := upstream.Attempt{StateHash: stateHash}
	var found bool
	err := db.run(ctx, "take login attempt at a provider", one(sql,
		existing(&found, digest{&a.BrowserHash}, &a.Provider, &a.RedirectURI, &a.UserID, &a.Continue, instant{&a.ExpiresAt}),
		stateHash[:], when(at)))
	switch {
	case err != nil:
		return upstream.Attempt{}, err
	case !found:
		return upstream.Attempt{}, upstream.ErrNotFound
	}
	return a, nil
}

// UseIDToken implements upstream.Store.
func (db *DB) UseIDToken(ctx context.Context, tokenHash [32]byte, expiresAt time.Time) error {
	const sql = `INSERT INTO used_id_tokens (token_hash, expires_at) VALUES ($1, $2) ON CONFLICT (token_hash) DO NOTHING ` +
		`RETURNING true`
	var first bool
	err := db.run(ctx, "use ID token", one(sql, to(&first), tokenHash[:], when(expiresAt)))
	if err == nil && !first {
		return upstream.ErrReplayed
	}
	return err
}

// Known implements upstream.Store.
func (db *DB) Known(ctx context.Context, q upstream.Question) (upstream.Known, error) {
	const person = `, u.id, u.email, u.email_verified_at IS NOT NULL, u.disabled_at IS NOT NULL,
			EXISTS (SELECT FROM identities i WHERE i.user_id = u.id AND i.provider = $1) FROM users u`
	const sql = `SELECT 'owner'` + person + ` JOIN identities o ON o.user_id = u.id WHERE o.provider = $1 AND o.subject = $2
		UNION ALL SELECT 'candidate'` + person + ` WHERE u.email_key = NULLIF($3, '')
		UNION ALL SELECT 'self'` + person + ` WHERE u.id = $4`
	var known upstream.Known
	err := db.run(ctx, "look up identity", step{
		sql: sql, args: []any{q.Provider, q.Subject, user.EmailKey(q.Email), q.UserID},
		scan: func(rows pgx.Rows) error {
			var role string
			var p upstream.Person
			if err := rows.Scan(&role, &p.UserID, &p.Email, &p.EmailVerified, &p.Disabled, &p.HasProvider); err != nil {
				return err
			}
			switch role {
			case "owner":
				known.Owner = &p
			case "self":
				known.Self = &p
			default:
				known.Candidates = append(known.Candidates, p)
			}
			return nil
		},
	})
	if err != nil {
		return upstream.Known{}, err
	}
	return known, nil
}

// insertIdentity links the identity that the parameters 11 to 15 describe. It ends in a SELECT without FROM. The
// version counts from the time, so that an identity which was removed and linked anew does not repeat one.
const insertIdentity = `INSERT INTO identities (provider, subject, user_id, email, linked_at, needs_reauth, version)
	SELECT $12::text, $13::text, $11::text, $14::text, $15::timestamptz, false, (extract(epoch
		FROM $15::timestamptz) * 1000000)::bigint`

// linking are the parameters of a statement that contains insertIdentity and insertEvent.
func linking(l upstream.Link, more ...any) []any {
	return withEvent(l.Event, append([]any{l.UserID, l.Identity.Provider, l.Identity.Subject, l.Identity.Email, when(l.At)},
		more...)...)
}

// conflict turns the violation of a uniqueness into upstream.ErrConflict: it has undone the transaction.
func conflict(err error) error {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code == codeUniqueViolation {
		return upstream.ErrConflict
	}
	return err
}

// LinkIdentity implements upstream.Store.
func (db *DB) LinkIdentity(ctx context.Context, l upstream.Link, verifiedEmail string) error {
	const sql = `WITH u AS (
			SELECT id FROM users WHERE id = $11::text AND disabled_at IS NULL
				AND ($16::text = '' OR email = $16::text AND email_verified_at IS NOT NULL) FOR NO KEY UPDATE
		), linked AS (` + insertIdentity + ` FROM u ON CONFLICT DO NOTHING RETURNING user_id
		), noted AS (` + insertEvent + ` FROM linked)
		SELECT EXISTS (SELECT FROM linked)`
	var linked bool
	err := db.run(ctx, "link identity", one(sql, to(&linked), linking(l, verifiedEmail)...))
	if err == nil && !linked {
		return upstream.ErrConflict
	}
	return err
}

// AdoptUser implements upstream.Store. A transaction that starts a session of the user, or adds a way to log in, takes the
// lock on the user's row. So its result either came before and is removed, or it comes after and finds nothing to build on.
func (db *DB) AdoptUser(ctx context.Context, a upstream.Adoption) error {
	const (
		adopt = `UPDATE users SET email_verified_at = $3::timestamptz, updated_at = $3::timestamptz, name = $4, profile = $7,
				password_hash = ''
			WHERE id = $1 AND email = $2 AND email_verified_at IS NULL AND disabled_at IS NULL
				AND NOT EXISTS (SELECT FROM identities WHERE provider = $5 AND subject = $6)
			RETURNING true`
		remove = `DELETE FROM identities i USING users u WHERE i.user_id = u.id AND u.id = $1` + justWritten
		unlock = `WITH whose AS (SELECT u.id FROM users u WHERE u.id = $1` + justWritten + `
			), codes AS (DELETE FROM recovery_codes r USING whose w WHERE r.user_id = w.id
			) DELETE FROM factors f USING whose w WHERE f.user_id = w.id`
		link = `WITH linked AS (` + insertIdentity + ` FROM users u WHERE u.id = $11::text` + justWritten +
			` RETURNING user_id), noted AS (` + insertEvent + ` FROM linked)
			SELECT`
		end = `WITH ` + endMine + ` AND ` + userWritten + endThem + `false` + endTold
	)
	ended := session.Ending{At: a.At, Reason: session.ReasonAdopted, BlockUntil: a.BlockUntil, Event: a.Event}
	var adopted bool
	err := db.run(ctx, "adopt user",
		one(adopt, to(&adopted), a.UserID, a.Email, when(a.At), a.Identity.Name, a.Identity.Provider,
			a.Identity.Subject, a.Identity.Profile),
		do(remove, a.UserID),
		do(unlock, a.UserID),
		do(link, linking(a.Link)...),
		do(end, ending(a.UserID, session.ID{}, ended)...),
		do(forgetWhose+justWritten+forget, a.UserID, uuid(session.ID{})))
	if err == nil && !adopted {
		return upstream.ErrConflict
	}
	return conflict(err)
}

// CreateUserWithIdentity implements upstream.Store.
func (db *DB) CreateUserWithIdentity(ctx context.Context, u user.User, l upstream.Link) error {
	const (
		create = `INSERT INTO users (id, email, email_key, email_verified_at, name, profile, password_hash, roles, created_at,
			updated_at, disabled_at)
			VALUES ($1, $2, NULLIF($3, ''), $4, $5, $6, $7, $8, $9, $10, $11)`
		link = `WITH linked AS (` + insertIdentity + `), noted AS (` + insertEvent + `) SELECT`
	)
	return conflict(db.run(ctx, "create user with identity",
		do(create, u.ID, u.Email, user.EmailKey(u.Email), when(u.EmailVerifiedAt), u.Name, u.Profile, u.PasswordHash, list(u.Roles),
			when(u.CreatedAt), when(u.UpdatedAt), when(u.DisabledAt)),
		do(link, linking(l)...)))
}

// Identities implements upstream.Store.
func (db *DB) Identities(ctx context.Context, userID string) ([]upstream.LinkedIdentity, error) {
	const sql = `SELECT provider, subject, email, linked_at, sealed IS NOT NULL, needs_reauth FROM identities WHERE user_id = $1 ` +
		`ORDER BY provider`
	var identities []upstream.LinkedIdentity
	err := db.run(ctx, "list identities", step{sql: sql, args: []any{userID}, scan: func(rows pgx.Rows) error {
		var i upstream.LinkedIdentity
		err := rows.Scan(&i.Provider, &i.Subject, &i.Email, instant{&i.LinkedAt}, &i.HasTokens, &i.NeedsReauth)
		identities = append(identities, i)
		return err
	}})
	return identities, err
}

// RemoveIdentity implements upstream.Store. The lock on the user's row makes removals take turns: each sees what the
// one before has left.
func (db *DB) RemoveIdentity(ctx context.Context, r upstream.Removal) error {
	const sql = `WITH removed AS (
			DELETE FROM identities i USING users u
			WHERE i.user_id = $11 AND i.provider = $12 AND u.id = i.user_id AND (u.password_hash <> '' OR EXISTS (
				SELECT FROM identities o WHERE o.user_id = $11 AND o.provider <> $12 AND o.provider = ANY ($13::text[])))
			RETURNING i.user_id
		), noted AS (` + insertEvent + ` FROM removed)
		SELECT EXISTS (SELECT FROM identities WHERE user_id = $11 AND provider = $12), EXISTS (SELECT FROM removed)`
	var found, removed bool
	err := db.run(ctx, "remove identity",
		do(lockUser, r.UserID),
		one(sql, to(&found, &removed), withEvent(r.Event, r.UserID, r.Provider, list(r.Providers))...))
	switch {
	case err != nil:
		return err
	case !found:
		return upstream.ErrNotFound
	case !removed:
		return upstream.ErrLastCredential
	}
	return nil
}

// SaveTokens implements upstream.Store.
func (db *DB) SaveTokens(ctx context.Context, provider, subject string, sealed []byte) error {
	const sql = `UPDATE identities SET sealed = $3, needs_reauth = false, leased_until = NULL, version = version + 1
		WHERE provider = $1 AND subject = $2 RETURNING true`
	var saved bool
	err := db.run(ctx, "save provider tokens", one(sql, to(&saved), provider, subject, sealed))
	if err == nil && !saved {
		return upstream.ErrNotFound
	}
	return err
}

// Tokens implements upstream.Store.
func (db *DB) Tokens(ctx context.Context, userID, provider string) (upstream.TokenRow, error) {
	const sql = `SELECT provider, subject, sealed, needs_reauth, leased_until, version FROM identities
		WHERE user_id = $1 AND provider = $2 AND sealed IS NOT NULL`
	var row upstream.TokenRow
	var found bool
	err := db.run(ctx, "read provider tokens", one(sql,
		existing(&found, &row.Provider, &row.Subject, &row.Sealed, &row.NeedsReauth, instant{&row.LeasedUntil}, &row.Version),
		userID, provider))
	switch {
	case err != nil:
		return upstream.TokenRow{}, err
	case !found:
		return upstream.TokenRow{}, upstream.ErrNotFound
	}
	return row, nil
}

// LeaseTokens implements upstream.Store.
func (db *DB) LeaseTokens(ctx context.Context, row upstream.TokenRow, at, until time.Time) (version int64, err error) {
	const sql = `UPDATE identities SET leased_until = $5, version = version + 1
		WHERE provider = $1 AND subject = $2 AND version = $3 AND (leased_until IS NULL OR leased_until <= $4) RETURNING version`
	var leased bool
	err = db.run(ctx, "lease provider tokens",
		one(sql, existing(&leased, &version), row.Provider, row.Subject, row.Version, when(at), when(until)))
	switch {
	case err != nil:
		return 0, err
	case !leased:
		return 0, upstream.ErrConflict
	}
	return version, nil
}

// FinishTokens implements upstream.Store.
func (db *DB) FinishTokens(ctx context.Context, row upstream.TokenRow) error {
	const sql = `UPDATE identities SET sealed = $4, needs_reauth = $5, leased_until = NULL, version = version + 1
		WHERE provider = $1 AND subject = $2 AND version = $3 RETURNING true`
	var finished bool
	err := db.run(ctx, "write provider tokens",
		one(sql, to(&finished), row.Provider, row.Subject, row.Version, row.Sealed, row.NeedsReauth))
	if err == nil && !finished {
		return upstream.ErrConflict
	}
	return err
}

// SweepUpstream implements upstream.Store.
func (db *DB) SweepUpstream(ctx context.Context, before time.Time, limit int) (int, error) {
	return db.sweep(ctx, "sweep logins at providers", before, limit, sweepAttempts, sweepUsedIDTokens)
}
