package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/factor"
	"github.com/handstamp/handstamp/pkg/user"
)

const (
	// hasFactors and a user's ID say whether the user has a second factor.
	hasFactors = `EXISTS (SELECT FROM factors f WHERE f.confirmed_at IS NOT NULL AND f.user_id = `

	// useFactor uses a factor up and completes a pending login. A transaction that begins a session afterwards finds the completed
	// login, if the factor could be used: of all who come with the same code, the row lets one pass.
	//
	// The parameters are: 1 the user, 2 the time, 3 the factor and 4 its step, 5 the hash of a recovery code, 6 the
	// pending login and 7 its end, 8 the try.
	useFactor = `WITH stepped AS (
			UPDATE factors SET last_step = $4::bigint, last_used_at = $2::timestamptz
			WHERE id = $3::text AND user_id = $1::text AND confirmed_at IS NOT NULL AND last_step < $4::bigint RETURNING 1
		), spent AS (
			DELETE FROM recovery_codes WHERE hash = $5::bytea AND user_id = $1::text RETURNING 1
		), completed AS (
			INSERT INTO completed_logins (hash, expires_at) SELECT $6::bytea, $7::timestamptz
			WHERE EXISTS (SELECT FROM stepped) OR EXISTS (SELECT FROM spent)
			ON CONFLICT (hash) DO NOTHING RETURNING 1
		) DELETE FROM factor_tries WHERE id = $8::bigint AND user_id = $1::text AND EXISTS (SELECT FROM completed)`

	// isCompleted says that this transaction has completed the login l.
	isCompleted = `EXISTS (SELECT FROM completed_logins l WHERE l.xmin = pg_current_xact_id()::xid AND l.hash = `
)

// using is the step that uses a factor up, if there is one.
func using(userID string, at time.Time, u user.FactorUse) []step {
	if u.IsZero() {
		return nil
	}
	return []step{do(useFactor, userID, when(at), u.FactorID, u.Step, some(u.RecoveryCode), u.Login[:], when(u.ExpiresAt), u.Try)}
}

const factorColumns = `f.id, f.user_id, f.kind, f.name, f.secret, f.last_step, f.created_at, f.confirmed_at, f.last_used_at`

func factorTargets(f *factor.Factor) []any {
	return []any{&f.ID, &f.UserID, &f.Kind, &f.Name, &f.Secret, &f.LastStep, instant{&f.CreatedAt}, instant{&f.ConfirmedAt},
		instant{&f.LastUsedAt}}
}

// toFactors collects factors.
func toFactors(list *[]factor.Factor) func(rows pgx.Rows) error {
	return func(rows pgx.Rows) error {
		var f factor.Factor
		err := rows.Scan(factorTargets(&f)...)
		*list = append(*list, f)
		return err
	}
}

// Factors implements factor.Store.
func (db *DB) Factors(ctx context.Context, userID string) (list []factor.Factor, recoveryCodes int, err error) {
	const (
		count = `SELECT count(*) FROM recovery_codes WHERE user_id = $1`
		sql   = `SELECT ` + factorColumns + ` FROM factors f WHERE f.user_id = $1 ORDER BY f.created_at, f.id`
	)
	var codes int64
	err = db.run(ctx, "list factors", one(count, to(&codes), userID), step{sql: sql, args: []any{userID}, scan: toFactors(&list)})
	return list, int(codes), err
}

// AddFactor implements factor.Store. Additions of one user take turns at the user's row.
func (db *DB) AddFactor(ctx context.Context, f factor.Factor, limit int) error {
	const (
		clear = `DELETE FROM factors WHERE user_id = $1 AND confirmed_at IS NULL`
		add   = `WITH added AS (
				INSERT INTO factors (id, user_id, kind, name, secret, last_step, created_at)
				SELECT $2, u.id, $3, $4, $5, $6, $7 FROM users u
				WHERE u.id = $1 AND (SELECT count(*) FROM factors f WHERE f.user_id = u.id) < $8::bigint
				RETURNING 1
			) SELECT EXISTS (SELECT FROM added), EXISTS (SELECT FROM users WHERE id = $1)`
	)
	var added, found bool
	err := db.run(ctx, "add factor",
		do(lockUser, f.UserID),
		do(clear, f.UserID),
		one(add, to(&added, &found), f.UserID, f.ID, string(f.Kind), f.Name, f.Secret, f.LastStep, when(f.CreatedAt), int64(limit)))
	switch {
	case err != nil:
		return err
	case !found:
		return user.ErrNotFound
	case !added:
		return factor.ErrTooMany
	}
	return nil
}

// factorConfirmed says that this transaction has confirmed a factor, whose ID is the parameter 9 of a letter.
const factorConfirmed = `EXISTS (SELECT FROM factors WHERE id = $9::text AND xmin = pg_current_xact_id()::xid)`

// ConfirmFactor implements factor.Store.
func (db *DB) ConfirmFactor(ctx context.Context, c factor.Confirmation) (kept bool, err error) {
	const sql = `WITH confirmed AS (
			UPDATE factors SET confirmed_at = $13::timestamptz, last_step = $14::bigint
			WHERE id = $12::text AND user_id = $11::text AND confirmed_at IS NULL AND last_step < $14::bigint
			RETURNING user_id
		), raised AS (
			UPDATE sessions s SET amr = $16::text[], acr = $17::text FROM confirmed c
			WHERE s.id = $15::uuid AND s.user_id = c.user_id
		), kept AS (
			INSERT INTO recovery_codes (hash, user_id) SELECT h.hash, c.user_id FROM confirmed c, unnest($18::bytea[]) AS h (hash)
			WHERE NOT EXISTS (SELECT FROM recovery_codes r WHERE r.user_id = $11::text)
			RETURNING 1
		), noted AS (` + insertEvent + ` FROM confirmed)
		SELECT EXISTS (SELECT FROM confirmed), EXISTS (SELECT FROM kept)`
	var confirmed bool
	steps := []step{
		do(lockUser, c.UserID),
		one(sql, to(&confirmed, &kept), withEvent(c.Event, c.UserID, c.FactorID, when(c.At), c.Step, uuid(c.SessionID),
			list(c.AMR), c.ACR, hashes(c.RecoveryCodes))...),
	}
	steps = append(steps, writing(insertLetter+factorConfirmed+insertLetterThen, c.UserID, c.Mail, c.FactorID)...)
	err = db.run(ctx, "confirm factor", steps...)
	if err == nil && !confirmed {
		return false, factor.ErrNotFound
	}
	return kept && err == nil, err
}

// hashes are a list of hashes as a parameter.
func hashes(list [][32]byte) [][]byte {
	out := make([][]byte, len(list))
	for i := range list {
		out[i] = list[i][:]
	}
	return out
}

// RenameFactor implements factor.Store.
func (db *DB) RenameFactor(ctx context.Context, userID, id, name string) error {
	const sql = `UPDATE factors SET name = $3 WHERE user_id = $1 AND id = $2 AND confirmed_at IS NOT NULL RETURNING true`
	var renamed bool
	err := db.run(ctx, "rename factor", one(sql, to(&renamed), userID, id, name))
	if err == nil && !renamed {
		return factor.ErrNotFound
	}
	return err
}

// RemoveFactor implements factor.Store. The letter comes first: it asks whether there is what the next statement
// removes, and both hold the lock on the user's row.
func (db *DB) RemoveFactor(ctx context.Context, r factor.Removal) error {
	const (
		there  = `EXISTS (SELECT FROM factors WHERE id = $9::text AND user_id = $1::text AND confirmed_at IS NOT NULL)`
		remove = `WITH removed AS (
				DELETE FROM factors WHERE id = $12::text AND user_id = $11::text RETURNING user_id, confirmed_at
			), codes AS (
				DELETE FROM recovery_codes r USING removed d WHERE r.user_id = d.user_id AND NOT EXISTS (
					SELECT FROM factors f WHERE f.user_id = d.user_id AND f.confirmed_at IS NOT NULL AND f.id <> $12::text)
			), noted AS (` + insertEvent + ` FROM removed WHERE confirmed_at IS NOT NULL)
			SELECT EXISTS (SELECT FROM removed)`
	)
	var removed bool
	steps := append([]step{do(lockUser, r.UserID)},
		writing(insertLetter+there+insertLetterThen, r.UserID, r.Mail, r.FactorID)...)
	err := db.run(ctx, "remove factor",
		append(steps, one(remove, to(&removed), withEvent(r.Event, r.UserID, r.FactorID)...))...)
	if err == nil && !removed {
		return factor.ErrNotFound
	}
	return err
}

// ReplaceRecoveryCodes implements factor.Store.
func (db *DB) ReplaceRecoveryCodes(ctx context.Context, userID string, codes [][32]byte, e audit.Event) error {
	const (
		clear = `DELETE FROM recovery_codes WHERE user_id = $1 AND ` + hasFactors + `$1)`
		add   = `WITH added AS (
				INSERT INTO recovery_codes (hash, user_id) SELECT h.hash, $11::text FROM unnest($12::bytea[]) AS h (hash)
				WHERE ` + hasFactors + `$11::text) RETURNING 1
			), noted AS (` + insertEvent + ` WHERE EXISTS (SELECT FROM added))
			SELECT EXISTS (SELECT FROM added)`
	)
	var added bool
	err := db.run(ctx, "replace recovery codes",
		do(lockUser, userID),
		do(clear, userID),
		one(add, to(&added), withEvent(e, userID, hashes(codes))...))
	if err == nil && !added {
		return factor.ErrNotFound
	}
	return err
}

// BeginFactorTry implements factor.Store. Tries of one user take turns at the user's row, and each counts those before it.
func (db *DB) BeginFactorTry(ctx context.Context, userID string, at time.Time, limit int, window time.Duration) (factor.Try,
	error) {
	const (
		count = `WITH recent AS (
				SELECT t.at FROM factor_tries t WHERE t.user_id = $1 AND t.at > $2::timestamptz - $4::interval
				ORDER BY t.at DESC LIMIT $3::bigint
			), counted AS (
				INSERT INTO factor_tries (user_id, at) SELECT u.id, $2::timestamptz FROM users u
				WHERE u.id = $1 AND (SELECT count(*) FROM recent) < $3::bigint
				RETURNING id
			)
			SELECT COALESCE((SELECT id FROM counted), 0), (SELECT min(at) FROM recent)`
		read = `SELECT ` + factorColumns + ` FROM factors f WHERE f.user_id = $1 AND f.confirmed_at IS NOT NULL
			ORDER BY f.created_at, f.id`
	)
	var (
		try   factor.Try
		first time.Time
	)
	err := db.run(ctx, "begin factor try",
		do(lockUser, userID),
		one(count, to(&try.ID, instant{&first}), userID, when(at), int64(limit), window),
		step{sql: read, args: []any{userID}, scan: toFactors(&try.Factors)})
	if err != nil {
		return factor.Try{}, err
	}
	if try.ID == 0 {
		return factor.Try{RetryAfter: max(first.Add(window).Sub(at), time.Second)}, nil
	}
	return try, nil
}

// SweepFactors implements factor.Store.
func (db *DB) SweepFactors(ctx context.Context, before time.Time, limit int) (int, error) {
	return db.sweep(ctx, "sweep factors", before, limit, sweepTries, sweepCompleted, sweepUnconfirmed)
}

const (
	sweepCompleted = sweepFirst + `completed_logins` + sweepWhich + `completed_logins` + sweepLast
	sweepTries     = sweepFirst + `factor_tries` + sweepWhich + `factor_tries WHERE at < $1 ORDER BY at` + sweepEnd
	// Few are never confirmed, and an index finds them.
	sweepUnconfirmed = sweepFirst + `factors` + sweepWhich +
		`factors WHERE confirmed_at IS NULL AND created_at < $1 ORDER BY created_at` +
		sweepEnd

	sweepEnd = ` LIMIT $2::bigint FOR UPDATE SKIP LOCKED)) RETURNING 1) SELECT count(*) FROM swept`
)
