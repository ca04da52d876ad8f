package migrations

import (
	"context"
	"database/sql"
	"errors"
	"slices"

	"github.com/pressly/goose/v3"
)

// EmailSpellings is step 9 of both dialects, which SQL cannot say: the two spellings of an international domain become one
// key. key is user.EmailKey, update the dialect's statement that sets the key (first parameter) of a user (second) unless
// another user has it.
//
// Of two users who signed up with both spellings of one address, the one who proved it keeps it, else the older one. The
// other keeps sessions and providers, and a key that no address has any more.
func EmailSpellings(update string, key func(email string) string) *goose.Migration {
	return goose.NewGoMigration(emailSpellings, &goose.GoFunc{RunTx: func(ctx context.Context, tx *sql.Tx) error {
		respelled, err := respelled(ctx, tx, key)
		if err != nil {
			return err
		}
		for _, u := range respelled {
			if _, err := tx.ExecContext(ctx, update, u.key, u.id); err != nil {
				return err
			}
		}
		return nil
	}}, nil)
}

const emailSpellings = 9

type respelledUser struct{ id, key string }

// respelled returns the users whose key has changed, those first who have a better claim to it.
func respelled(ctx context.Context, tx *sql.Tx, key func(email string) string) (all []respelledUser, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT id, email, email_key FROM users WHERE email_key IS NOT NULL
		ORDER BY email_verified_at IS NULL, created_at, id`)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var id, email, before string
		if err := rows.Scan(&id, &email, &before); err != nil {
			return nil, err
		}
		if now := key(email); now != before {
			all = append(all, respelledUser{id, now})
		}
	}
	return slices.Clip(all), rows.Err()
}
