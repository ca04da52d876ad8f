package sqlite

import (
	"context"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/user"
)

// some is the hash of a secret, or nil for none.
func some(h oauth.Hash) []byte {
	if h == (oauth.Hash{}) {
		return nil
	}
	return h[:]
}

// SaveCode implements [oauth.BrowserStore].
func (db *DB) SaveCode(ctx context.Context, code oauth.Code) error {
	return db.write(ctx, "save authorization code", func(c *conn) error {
		if code.Pushed != (oauth.Hash{}) {
			n, err := c.exec(`DELETE FROM pushed_requests WHERE hash = ?`, code.Pushed[:])
			if err != nil {
				return err
			}
			if n == 0 {
				return oauth.ErrRequestNotFound
			}
		}
		_, err := c.exec(`
			INSERT INTO authorization_codes (hash, client_id, user_id, redirect_uri, challenge, scope, audience, nonce, amr, acr,
				auth_time, browser_session, created_at, expires_at, ip, user_agent)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			code.Hash[:], code.ClientID, code.UserID, code.RedirectURI, code.Challenge, code.Scope, code.Audience, code.Nonce, code.AMR,
			code.ACR, code.AuthTime, some(code.BrowserSession), code.CreatedAt, code.ExpiresAt, code.IP, code.UserAgent)
		return err
	})
}

// Code implements [oauth.BrowserStore].
func (db *DB) Code(ctx context.Context, h oauth.Hash) (code oauth.Code, err error) {
	err = db.read(ctx, "read authorization code", func(c *conn) error { return readCode(c, h, &code) })
	if err != nil {
		return oauth.Code{}, err
	}
	return code, nil
}

// readCode returns oauth.ErrCodeNotFound if there is none.
func readCode(c *conn, h oauth.Hash, code *oauth.Code) error {
	code.Hash = h
	found, err := c.one(`
		SELECT client_id, user_id, redirect_uri, challenge, scope, audience, nonce, amr, acr, auth_time, browser_session,
			created_at, expires_at, used_at, session_id, ip, user_agent
		FROM authorization_codes WHERE hash = ?`,
		func(r *row) {
			var browserSession, id []byte
			r.scan(&code.ClientID, &code.UserID, &code.RedirectURI, &code.Challenge, &code.Scope, &code.Audience, &code.Nonce,
				&code.AMR, &code.ACR, &code.AuthTime, &browserSession, &code.CreatedAt, &code.ExpiresAt, &code.UsedAt, &id, &code.IP,
				&code.UserAgent)
			copy(code.BrowserSession[:], browserSession)
			copy(code.SessionID[:], id)
		}, h[:])
	if err == nil && !found {
		return oauth.ErrCodeNotFound
	}
	return err
}

// RedeemCode implements [oauth.BrowserStore]. A code counts only while the browser session stands that it was given in.
func (db *DB) RedeemCode(ctx context.Context, h oauth.Hash, s session.Start) (started session.Started, err error) {
	err = db.write(ctx, "redeem authorization code", func(c *conn) error {
		var code oauth.Code
		if err := readCode(c, h, &code); err != nil {
			return err
		}
		at := s.Session.CreatedAt
		switch {
		case !code.UsedAt.IsZero():
			return oauth.ErrCodeUsed
		case code.UserID != s.Session.UserID || !code.ExpiresAt.After(at):
			return oauth.ErrCodeNotFound
		}
		if code.BrowserSession != (oauth.Hash{}) {
			const stand = `SELECT 1 FROM browser_sessions WHERE hash = ? AND user_id = ?`
			stands, err := c.one(stand, func(*row) {}, code.BrowserSession[:], code.UserID)
			if err != nil {
				return err
			}
			if !stands {
				return oauth.ErrCodeNotFound
			}
		}
		const use = `UPDATE authorization_codes SET used_at = ?, session_id = ? WHERE hash = ?`
		if _, err := c.exec(use, at, s.Session.ID[:], h[:]); err != nil {
			return err
		}
		started, err = start(c, s, some(code.BrowserSession))
		return err
	})
	if err != nil {
		return session.Started{}, err
	}
	if len(started.Ended) > 0 {
		db.wake.all()
	}
	return started, nil
}

// ReleaseCode implements [oauth.BrowserStore].
func (db *DB) ReleaseCode(ctx context.Context, h oauth.Hash, id session.ID) error {
	return db.write(ctx, "release authorization code", func(c *conn) error {
		n, err := c.exec(`
			DELETE FROM sessions WHERE id = ?2 AND generation = 1 AND revoked_at IS NULL
				AND EXISTS (SELECT 1 FROM authorization_codes a WHERE a.hash = ?1 AND a.session_id = ?2)`, h[:], id[:])
		if err != nil || n == 0 {
			return err
		}
		_, err = c.exec(`UPDATE authorization_codes SET used_at = NULL, session_id = NULL WHERE hash = ?`, h[:])
		return err
	})
}

// SaveBrowserSession implements [oauth.BrowserStore]. What the replaced one of the same user gave goes on as given by
// the new one.
func (db *DB) SaveBrowserSession(ctx context.Context, b oauth.BrowserSession, replaces oauth.Hash) error {
	return db.write(ctx, "save browser session", func(c *conn) error {
		if err := showFactor(c, b); err != nil {
			return err
		}
		n, err := c.exec(`
			INSERT INTO browser_sessions (hash, user_id, amr, acr, auth_time, created_at, expires_at)
			SELECT ?1, id, ?2, ?3, ?4, ?5, ?6 FROM users WHERE id = ?7 AND disabled_at IS NULL AND (?8 = '' OR password_hash = ?8)
				AND (?9 = '' OR EXISTS (SELECT 1 FROM identities WHERE provider = ?9 AND subject = ?10 AND user_id = ?7))`,
			b.Hash[:], b.AMR, b.ACR, b.AuthTime, b.CreatedAt, b.ExpiresAt, b.UserID, b.Proof.PasswordHash, b.Proof.Provider,
			b.Proof.Subject)
		if err != nil {
			return err
		}
		if n == 0 {
			return user.ErrNotFound
		}
		if err := refund(c, b.Proof.Refund, b.CreatedAt); err != nil {
			return err
		}
		if err := post(c, b.UserID, b.Mail); err != nil {
			return err
		}
		var owner string
		replaced, err := c.one(`DELETE FROM browser_sessions WHERE hash = ? RETURNING user_id`, func(r *row) { r.scan(&owner) },
			some(replaces))
		if err != nil || !replaced || owner != b.UserID {
			return err
		}
		if _, err := c.exec(`UPDATE sessions SET browser_session = ? WHERE user_id = ? AND browser_session = ? AND revoked_at IS NULL`,
			b.Hash[:], owner, replaces[:]); err != nil {
			return err
		}
		_, err = c.exec(`UPDATE authorization_codes SET browser_session = ? WHERE user_id = ? AND browser_session = ?`, b.Hash[:],
			owner, replaces[:])
		return err
	})
}

// showFactor asks for a second factor, if the user has one, and uses up the one that the login has shown.
func showFactor(c *conn, b oauth.BrowserSession) error {
	const enabled = `SELECT 1 FROM users WHERE id = ? AND disabled_at IS NULL`
	found, err := c.one(enabled, func(*row) {}, b.UserID)
	if err != nil {
		return err
	}
	if !found {
		return user.ErrNotFound
	}
	if !b.Proof.ShowsFactors {
		has, err := hasFactors(c, b.UserID)
		if err == nil && has {
			return user.ErrFactorNeeded
		}
		return err
	}
	if b.Proof.Factor.IsZero() {
		return nil
	}
	used, err := useFactor(c, b.UserID, b.CreatedAt, b.Proof.Factor)
	if err == nil && !used {
		return user.ErrFactorUsed
	}
	return err
}

// BrowserSession implements [oauth.BrowserStore].
func (db *DB) BrowserSession(ctx context.Context, h oauth.Hash, at time.Time) (oauth.BrowserSession, error) {
	b := oauth.BrowserSession{Hash: h}
	err := db.read(ctx, "read browser session", func(c *conn) error {
		found, err := c.one(`
			SELECT b.user_id, b.amr, b.acr, b.auth_time, b.created_at, b.expires_at, instr(b.amr, '"mfa"') = 0 AND EXISTS (
				SELECT 1 FROM factors f WHERE f.user_id = b.user_id AND f.confirmed_at IS NOT NULL) FROM browser_sessions b JOIN users u
				ON u.id = b.user_id
			WHERE b.hash = ? AND b.expires_at > ? AND u.disabled_at IS NULL`,
			func(r *row) {
				r.scan(&b.UserID, &b.AMR, &b.ACR, &b.AuthTime, &b.CreatedAt, &b.ExpiresAt, &b.FactorNeeded)
			}, h[:], at)
		if err == nil && !found {
			return oauth.ErrBrowserSessionNotFound
		}
		return err
	})
	if err != nil {
		return oauth.BrowserSession{}, err
	}
	return b, nil
}

// BrowserClients implements [oauth.BrowserStore].
func (db *DB) BrowserClients(ctx context.Context, b oauth.BrowserSession, at time.Time) (ids []string, err error) {
	err = db.read(ctx, "list clients of browser session", func(c *conn) error {
		return c.query(`SELECT DISTINCT client_id FROM sessions WHERE user_id = ?2 AND browser_session = ?3 AND `+alive+`
			ORDER BY client_id`, func(r *row) error {
			var id string
			r.scan(&id)
			ids = append(ids, id)
			return nil
		}, at, b.UserID, b.Hash[:])
	})
	return ids, err
}

// EndBrowserSession implements [oauth.BrowserStore].
func (db *DB) EndBrowserSession(ctx context.Context, h oauth.Hash, e session.Ending) (ids []session.ID, err error) {
	err = db.announce(ctx, "end browser session", func(c *conn) error {
		var owner string
		found, err := c.one(`DELETE FROM browser_sessions WHERE hash = ? RETURNING user_id`, func(r *row) { r.scan(&owner) }, h[:])
		if err != nil || !found {
			return err
		}
		if _, err := c.exec(`DELETE FROM authorization_codes WHERE user_id = ? AND browser_session = ? AND used_at IS NULL`, owner,
			h[:]); err != nil {
			return err
		}
		if ids, err = endSome(c, `browser_session = ?4`, owner, h[:], e); err != nil {
			return err
		}
		return record(c, e.Event)
	})
	if err != nil {
		return nil, err
	}
	return ids, nil
}

// endSome ends and blocks those of the user's live sessions for which a condition on ?4 holds.
func endSome(c *conn, condition, userID string, value any, e session.Ending) ([]session.ID, error) {
	ids, err := sessionIDs(c, `UPDATE sessions SET revoked_at = ?1, revoke_reason = ?3 WHERE user_id = ?2 AND `+condition+` AND `+
		alive+` RETURNING id`,
		e.At, userID, string(e.Reason), value)
	if err != nil {
		return nil, err
	}
	return ids, blockSessions(c, ids, e.At, e.BlockUntil)
}

// SavePushedRequest implements [oauth.BrowserStore].
func (db *DB) SavePushedRequest(ctx context.Context, r oauth.PushedRequest) error {
	return db.write(ctx, "save pushed request", func(c *conn) error {
		_, err := c.exec(`INSERT INTO pushed_requests (hash, client_id, parameters, expires_at) VALUES (?, ?, ?, ?)`,
			r.Hash[:], r.ClientID, r.Parameters, r.ExpiresAt)
		return err
	})
}

// VisitPushedRequest implements [oauth.BrowserStore].
func (db *DB) VisitPushedRequest(ctx context.Context, h oauth.Hash, at, until time.Time) (oauth.PushedRequest, error) {
	p := oauth.PushedRequest{Hash: h}
	err := db.write(ctx, "visit pushed request", func(c *conn) error {
		found, err := c.one(`
			UPDATE pushed_requests SET expires_at = max(expires_at, ?3) WHERE hash = ?1 AND expires_at > ?2
			RETURNING client_id, parameters, expires_at`,
			func(r *row) { r.scan(&p.ClientID, &p.Parameters, &p.ExpiresAt) }, h[:], at, until)
		if err == nil && !found {
			return oauth.ErrRequestNotFound
		}
		return err
	})
	if err != nil {
		return oauth.PushedRequest{}, err
	}
	return p, nil
}

const consentColumns = `user_id, client_id, scope, granted_at`

func scanConsent(r *row, c *oauth.Consent) { r.scan(&c.UserID, &c.ClientID, &c.Scope, &c.GrantedAt) }

// Consent implements [oauth.BrowserStore].
func (db *DB) Consent(ctx context.Context, userID, clientID string) (consent oauth.Consent, err error) {
	err = db.read(ctx, "read consent", func(c *conn) error {
		_, err := c.one(`SELECT `+consentColumns+` FROM consents WHERE user_id = ? AND client_id = ?`,
			func(r *row) { scanConsent(r, &consent) }, userID, clientID)
		return err
	})
	return consent, err
}

// Consents implements [oauth.BrowserStore].
func (db *DB) Consents(ctx context.Context, userID string) (consents []oauth.Consent, err error) {
	err = db.read(ctx, "list consents", func(c *conn) error {
		return c.query(`SELECT `+consentColumns+` FROM consents WHERE user_id = ? ORDER BY client_id`, func(r *row) error {
			var consent oauth.Consent
			scanConsent(r, &consent)
			consents = append(consents, consent)
			return nil
		}, userID)
	})
	return consents, err
}

// SaveConsent implements [oauth.BrowserStore].
func (db *DB) SaveConsent(ctx context.Context, consent oauth.Consent, e audit.Event) error {
	return db.write(ctx, "save consent", func(c *conn) error {
		n, err := c.exec(`
			INSERT INTO consents (user_id, client_id, scope, granted_at) SELECT id, ?2, ?3, ?4 FROM users WHERE id = ?1
			ON CONFLICT (user_id, client_id) DO UPDATE SET scope = excluded.scope, granted_at = excluded.granted_at`,
			consent.UserID, consent.ClientID, consent.Scope, consent.GrantedAt)
		if err != nil {
			return err
		}
		if n == 0 {
			return user.ErrNotFound
		}
		return record(c, e)
	})
}

// RevokeConsent implements [oauth.BrowserStore].
func (db *DB) RevokeConsent(ctx context.Context, userID, clientID string, e session.Ending) (ids []session.ID, err error) {
	err = db.announce(ctx, "revoke consent", func(c *conn) error {
		forgotten, err := c.exec(`DELETE FROM consents WHERE user_id = ? AND client_id = ?`, userID, clientID)
		if err != nil {
			return err
		}
		if _, err := c.exec(`DELETE FROM authorization_codes WHERE user_id = ? AND client_id = ? AND used_at IS NULL`, userID,
			clientID); err != nil {
			return err
		}
		if ids, err = endSome(c, `client_id = ?4`, userID, clientID, e); err != nil {
			return err
		}
		if forgotten == 0 && len(ids) == 0 {
			return nil
		}
		return record(c, e.Event)
	})
	if err != nil {
		return nil, err
	}
	return ids, nil
}

// SweepBrowser implements [oauth.BrowserStore].
func (db *DB) SweepBrowser(ctx context.Context, before time.Time, limit int) (int, error) {
	return db.sweep(ctx, "sweep browser flow", before, limit,
		`DELETE FROM authorization_codes WHERE hash IN (SELECT hash FROM authorization_codes WHERE expires_at < ? ORDER BY `+
			`expires_at LIMIT ?)`,
		`DELETE FROM browser_sessions WHERE hash IN (SELECT hash FROM browser_sessions WHERE expires_at < ? ORDER BY expires_at `+
			`LIMIT ?)`)
}

// SweepPushedRequests implements [oauth.BrowserStore].
func (db *DB) SweepPushedRequests(ctx context.Context, before time.Time, limit int) (int, error) {
	return db.sweep(ctx, "sweep pushed requests", before, limit,
		`DELETE FROM pushed_requests WHERE hash IN (SELECT hash FROM pushed_requests WHERE expires_at < ? ORDER BY expires_at LIMIT ?)`)
}

// sweep runs the statements until they have deleted as many rows as the limit allows.
func (db *DB) sweep(ctx context.Context, doing string, before time.Time, limit int, statements ...string) (swept int, err error) {
	err = db.write(ctx, doing, func(c *conn) error {
		for _, query := range statements {
			n, err := c.exec(query, before, limit-swept)
			if err != nil {
				return err
			}
			swept += int(n)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return swept, nil
}
