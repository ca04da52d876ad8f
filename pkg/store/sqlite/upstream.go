package sqlite

import (
	"context"
	"time"

	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/upstream"
	"github.com/handstamp/handstamp/pkg/user"
)

// SaveAttempt implements [upstream.Store].
func (db *DB) SaveAttempt(ctx context.Context, a upstream.Attempt) error {
	return db.write(ctx, "save login attempt at a provider", func(c *conn) error {
		_, err := c.exec(`
			INSERT INTO upstream_attempts (state_hash, browser_hash, provider, redirect_uri, user_id, continue, expires_at)
			VALUES (?, ?, ?, ?, ?, ?, ?)`,
			a.StateHash[:], a.BrowserHash[:], a.Provider, a.RedirectURI, a.UserID, a.Continue, a.ExpiresAt)
		return err
	})
}

// TakeAttempt implements [upstream.Store].
func (db *DB) TakeAttempt(ctx context.Context, stateHash [32]byte, at time.Time) (upstream.Attempt, error) {
	a := upstream.Attempt{StateHash: stateHash}
	err := db.write(ctx, "take login attempt at a provider", func(c *conn) error {
		found, err := c.one(`
			DELETE FROM upstream_attempts WHERE state_hash = ? AND expires_at > ?
			RETURNING browser_hash, provider, redirect_uri, user_id, continue, expires_at`,
			func(r *row) {
				r.scan(a.BrowserHash[:], &a.Provider, &a.RedirectURI, &a.UserID, &a.Continue, &a.ExpiresAt)
			}, stateHash[:], at)
		if err == nil && !found {
			return upstream.ErrNotFound
		}
		return err
	})
	if err != nil {
		return upstream.Attempt{}, err
	}
	return a, nil
}

// UseIDToken implements [upstream.Store].
func (db *DB) UseIDToken(ctx context.Context, tokenHash [32]byte, expiresAt time.Time) error {
	return db.write(ctx, "use ID token", func(c *conn) error {
		n, err := c.exec(`INSERT INTO used_id_tokens (token_hash, expires_at) VALUES (?, ?) ON CONFLICT (token_hash) DO NOTHING`,
			tokenHash[:], expiresAt)
		if err == nil && n == 0 {
			return upstream.ErrReplayed
		}
		return err
	})
}

// Known implements [upstream.Store]. It is one statement, because that is what one snapshot lasts.
func (db *DB) Known(ctx context.Context, q upstream.Question) (known upstream.Known, err error) {
	const person = `, u.id, u.email, u.email_verified_at IS NOT NULL, u.disabled_at IS NOT NULL,
		EXISTS (SELECT 1 FROM identities i WHERE i.user_id = u.id AND i.provider = ?1) FROM users u`
	err = db.read(ctx, "look up identity", func(c *conn) error {
		return c.query(`
			SELECT 'owner'`+person+` JOIN identities o ON o.user_id = u.id WHERE o.provider = ?1 AND o.subject = ?2
			UNION ALL SELECT 'candidate'`+person+` WHERE u.email_key = nullif(?3, '')
			UNION ALL SELECT 'self'`+person+` WHERE u.id = ?4`,
			func(r *row) error {
				var role string
				var p upstream.Person
				r.scan(&role, &p.UserID, &p.Email, &p.EmailVerified, &p.Disabled, &p.HasProvider)
				switch role {
				case "owner":
					known.Owner = &p
				case "self":
					known.Self = &p
				default:
					known.Candidates = append(known.Candidates, p)
				}
				return nil
			}, q.Provider, q.Subject, user.EmailKey(q.Email), q.UserID)
	})
	if err != nil {
		return upstream.Known{}, err
	}
	return known, nil
}

// link adds the identity and records the event, or returns upstream.ErrConflict. The version counts from the time, so
// that an identity which was removed and linked anew does not repeat one.
func link(c *conn, l upstream.Link) error {
	n, err := c.exec(`
		INSERT INTO identities (provider, subject, user_id, email, linked_at, needs_reauth, version) VALUES (?1, ?2, ?3, ?4, ?5, 0, ?5)
		ON CONFLICT DO NOTHING`,
		l.Identity.Provider, l.Identity.Subject, l.UserID, l.Identity.Email, l.At)
	if err != nil {
		return err
	}
	if n == 0 {
		return upstream.ErrConflict
	}
	return record(c, l.Event)
}

// LinkIdentity implements [upstream.Store].
func (db *DB) LinkIdentity(ctx context.Context, l upstream.Link, verifiedEmail string) error {
	return db.write(ctx, "link identity", func(c *conn) error {
		fits, err := c.one(`
			SELECT 1 FROM users WHERE id = ?1 AND disabled_at IS NULL AND (?2 = '' OR email = ?2 AND email_verified_at IS NOT NULL)`,
			func(*row) {}, l.UserID, verifiedEmail)
		if err != nil {
			return err
		}
		if !fits {
			return upstream.ErrConflict
		}
		return link(c, l)
	})
}

// AdoptUser implements [upstream.Store].
func (db *DB) AdoptUser(ctx context.Context, a upstream.Adoption) error {
	return db.announce(ctx, "adopt user", func(c *conn) error {
		n, err := c.exec(`
			UPDATE users SET email_verified_at = ?3, updated_at = ?3, name = ?4, profile = ?7, password_hash = ''
			WHERE id = ?1 AND email = ?2 AND email_verified_at IS NULL AND disabled_at IS NULL
				AND NOT EXISTS (SELECT 1 FROM identities WHERE provider = ?5 AND subject = ?6)`,
			a.UserID, a.Email, a.At, a.Identity.Name, a.Identity.Provider, a.Identity.Subject, a.Identity.Profile)
		if err != nil {
			return err
		}
		if n == 0 {
			return upstream.ErrConflict
		}
		for _, sql := range []string{
			`DELETE FROM identities WHERE user_id = ?`,
			`DELETE FROM factors WHERE user_id = ?`,
			`DELETE FROM recovery_codes WHERE user_id = ?`,
		} {
			if _, err := c.exec(sql, a.UserID); err != nil {
				return err
			}
		}
		if _, err := endAll(c, a.UserID, session.ID{}, session.Ending{
			At:         a.At,
			Reason:     session.ReasonAdopted,
			BlockUntil: a.BlockUntil,
		}); err != nil {
			return err
		}
		return link(c, a.Link)
	})
}

// CreateUserWithIdentity implements [upstream.Store].
func (db *DB) CreateUserWithIdentity(ctx context.Context, u user.User, l upstream.Link) error {
	return db.write(ctx, "create user with identity", func(c *conn) error {
		n, err := insertUser(c, u)
		if err != nil {
			return err
		}
		if n == 0 {
			return upstream.ErrConflict
		}
		return link(c, l)
	})
}

// Identities implements [upstream.Store].
func (db *DB) Identities(ctx context.Context, userID string) (identities []upstream.LinkedIdentity, err error) {
	err = db.read(ctx, "list identities", func(c *conn) error {
		return c.query(`SELECT provider, subject, email, linked_at, sealed IS NOT NULL, needs_reauth FROM identities WHERE user_id `+
			`= ? ORDER BY provider`,
			func(r *row) error {
				var i upstream.LinkedIdentity
				r.scan(&i.Provider, &i.Subject, &i.Email, &i.LinkedAt, &i.HasTokens, &i.NeedsReauth)
				identities = append(identities, i)
				return nil
			}, userID)
	})
	return identities, err
}

// RemoveIdentity implements [upstream.Store].
func (db *DB) RemoveIdentity(ctx context.Context, r upstream.Removal) error {
	return db.write(ctx, "remove identity", func(c *conn) error {
		found, err := c.one(`SELECT 1 FROM identities WHERE user_id = ? AND provider = ?`, func(*row) {}, r.UserID, r.Provider)
		if err != nil {
			return err
		}
		if !found {
			return upstream.ErrNotFound
		}
		n, err := c.exec(`
			DELETE FROM identities WHERE user_id = ?1 AND provider = ?2
				AND (EXISTS (SELECT 1 FROM users WHERE id = ?1 AND password_hash <> '')
					OR EXISTS (SELECT 1 FROM identities o WHERE o.user_id = ?1 AND o.provider <> ?2 AND o.provider IN (SELECT value
						FROM json_each(?3) AS wanted)))`,
			r.UserID, r.Provider, r.Providers)
		if err != nil {
			return err
		}
		if n == 0 {
			return upstream.ErrLastCredential
		}
		return record(c, r.Event)
	})
}

// SaveTokens implements [upstream.Store].
func (db *DB) SaveTokens(ctx context.Context, provider, subject string, sealed []byte) error {
	return db.write(ctx, "save provider tokens", func(c *conn) error {
		n, err := c.exec(`
			UPDATE identities SET sealed = ?, needs_reauth = 0, leased_until = NULL, version = version + 1 WHERE provider = ?
				AND subject = ?`,
			sealed, provider, subject)
		if err == nil && n == 0 {
			return upstream.ErrNotFound
		}
		return err
	})
}

// Tokens implements [upstream.Store].
func (db *DB) Tokens(ctx context.Context, userID, provider string) (t upstream.TokenRow, err error) {
	err = db.read(ctx, "read provider tokens", func(c *conn) error {
		found, err := c.one(`
			SELECT provider, subject, sealed, needs_reauth, leased_until, version FROM identities WHERE user_id = ? AND provider = ?
				AND sealed IS NOT NULL`,
			func(r *row) { r.scan(&t.Provider, &t.Subject, &t.Sealed, &t.NeedsReauth, &t.LeasedUntil, &t.Version) }, userID, provider)
		if err == nil && !found {
			return upstream.ErrNotFound
		}
		return err
	})
	return t, err
}

// LeaseTokens implements [upstream.Store].
func (db *DB) LeaseTokens(ctx context.Context, t upstream.TokenRow, at, until time.Time) (version int64, err error) {
	err = db.write(ctx, "lease provider tokens", func(c *conn) error {
		found, err := c.one(`
			UPDATE identities SET leased_until = ?, version = version + 1
			WHERE provider = ? AND subject = ? AND version = ? AND (leased_until IS NULL OR leased_until <= ?) RETURNING version`,
			func(r *row) { r.scan(&version) }, until, t.Provider, t.Subject, t.Version, at)
		if err == nil && !found {
			return upstream.ErrConflict
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	return version, nil
}

// FinishTokens implements [upstream.Store].
func (db *DB) FinishTokens(ctx context.Context, t upstream.TokenRow) error {
	return db.write(ctx, "write provider tokens", func(c *conn) error {
		n, err := c.exec(`
			UPDATE identities SET sealed = ?, needs_reauth = ?, leased_until = NULL, version = version + 1 WHERE provider = ?
				AND subject = ? AND version = ?`,
			t.Sealed, t.NeedsReauth, t.Provider, t.Subject, t.Version)
		if err == nil && n == 0 {
			return upstream.ErrConflict
		}
		return err
	})
}

// SweepUpstream implements [upstream.Store].
func (db *DB) SweepUpstream(ctx context.Context, before time.Time, limit int) (int, error) {
	return db.sweep(ctx, "sweep logins at providers", before, limit,
		`DELETE FROM upstream_attempts WHERE state_hash IN (SELECT state_hash FROM upstream_attempts WHERE expires_at < ? ORDER BY `+
			`expires_at LIMIT ?)`,
		`DELETE FROM used_id_tokens WHERE token_hash IN (SELECT token_hash FROM used_id_tokens WHERE expires_at < ? ORDER BY `+
			`expires_at LIMIT ?)`)
}
