package postgres

import (
	"context"

	"github.com/handstamp/handstamp/pkg/mail"
)

// insertLetter and insertLetterThen, with a condition between them, write a letter to the outbox and count it against its budget,
// as BeginLogin counts attempts; one beyond it is not written. A letter that names no recipient goes to the user.
//
// The parameters are: 1 the user, 2 the recipient and 3 its key, 4 the letter, 5 its time, 6 the name of the budget, 7 what one
// letter costs and 8 the end of the budget.
const (
	insertLetter = `WITH recipient AS (
			SELECT r.address, r.key, r.locale FROM (
				SELECT $2::text AS address, $3::text AS key, NULL::text AS locale WHERE $2::text <> ''
				UNION ALL
				SELECT u.email, COALESCE(u.email_key, u.email), u.profile ->> 'locale' FROM users u
				WHERE $2::text = '' AND u.id = $1::text AND u.email <> ''
			) AS r WHERE `

	insertLetterThen = countLetter + ` ` + putLetter

	countLetter = `
		), counted AS (
			INSERT INTO mail_budgets AS b (key, free_at)
			SELECT sha256(convert_to($6::text || ' ' || r.key, 'UTF8')), $5::timestamptz + $7::interval FROM recipient r
			ON CONFLICT (key) DO UPDATE SET free_at = GREATEST(b.free_at, $5) + $7
			WHERE GREATEST(b.free_at, $5) + $7 <= $8::timestamptz
			RETURNING b.key
		)`

	putLetter = `INSERT INTO outbox (kind, destination, payload, created_at, leased_until)
		SELECT '` + mail.KindMail + `', '` + mail.Destination + `',
			(jsonb_build_object('to', r.address, 'locale', COALESCE(r.locale, '')) || $4::jsonb)::text, $5, $5
		FROM recipient r, counted`

	always = `true`

	// A session that began in this transaction: nobody else knows its ID yet.
	sessionBegun = `EXISTS (SELECT FROM sessions WHERE id = $9::uuid)`
	browserBegun = `EXISTS (SELECT FROM browser_sessions WHERE hash = $9::bytea)`
	// The user was written by this transaction.
	recipientWritten = `EXISTS (SELECT FROM users WHERE id = $1::text AND xmin = pg_current_xact_id()::xid)`
)

// writing is the step that writes a letter, if there is one: sql is insertLetter with a condition.
func writing(sql, userID string, l mail.Letter, more ...any) []step {
	if l.IsZero() {
		return nil
	}
	return []step{do(sql, lettering(userID, l, more...)...)}
}

// Post implements mail.Store.
func (db *DB) Post(ctx context.Context, l mail.Letter) error {
	steps := writing(insertLetter+always+insertLetterThen, "", l)
	if len(steps) == 0 {
		return nil
	}
	return db.run(ctx, "post mail", steps...)
}
