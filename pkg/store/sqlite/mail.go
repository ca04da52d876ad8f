package sqlite

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/handstamp/handstamp/pkg/mail"
	"github.com/handstamp/handstamp/pkg/user"
)

// Post implements [mail.Store].
func (db *DB) Post(ctx context.Context, l mail.Letter) error {
	if l.IsZero() {
		return nil
	}
	return db.write(ctx, "post mail", func(c *conn) error { return post(c, "", l) })
}

// post writes a letter to the outbox, if there is one, and counts it against its budget, as BeginLogin counts attempts; one
// beyond it is not written. A letter that names no recipient goes to the user.
func post(c *conn, userID string, l mail.Letter) error {
	_, err := posted(c, userID, l)
	return err
}

// posted is post, and says whether the letter was written.
func posted(c *conn, userID string, l mail.Letter) (bool, error) {
	if l.IsZero() {
		return false, nil
	}
	address, key, locale := l.To, "", ""
	if address != "" {
		key = user.EmailKey(address)
	} else {
		found, err := c.one(`SELECT email, coalesce(email_key, email), coalesce(profile ->> '$.locale', '') FROM users
			WHERE id = ? AND email <> ''`, func(r *row) { r.scan(&address, &key, &locale) }, userID)
		if err != nil || !found {
			return false, err
		}
	}
	hash := sha256.Sum256([]byte(l.Budget.Name + " " + key))
	n, err := c.exec(`
		INSERT INTO mail_budgets (key, free_at) VALUES (?1, ?2 + ?3)
		ON CONFLICT (key) DO UPDATE SET free_at = max(free_at, ?2) + ?3 WHERE max(free_at, ?2) + ?3 <= ?4`,
		hash[:], l.At, l.Budget.Every.Microseconds(), l.At.Add(time.Duration(l.Budget.Burst)*l.Budget.Every))
	if err != nil || n == 0 {
		return false, err
	}
	_, err = c.exec(`INSERT INTO outbox (kind, destination, payload, created_at, leased_until)
		VALUES (?1, ?2, json_patch(json_object('to', ?3, 'locale', ?4), ?5), ?6, ?6)`,
		mail.KindMail, mail.Destination, address, locale, l.Payload, l.At)
	return err == nil, err
}
