package sqlite

import (
	"cmp"
	"context"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/oauth"
)

const clientColumns = `id, name, type, secret_hash, redirect_uris, post_logout_redirect_uris, backchannel_logout_uri, origins,
	grants, scopes, audiences, third_party, algorithm, id_token_algorithm, id_token_claims, groups_claim, access_token_type,
	pkce_optional, no_account, refresh_transport, refresh_grace, created_at, updated_at, disabled_at`

func scanClient(r *row, c *oauth.Client, more ...any) {
	r.scan(append([]any{
		&c.ID, &c.Name, (*string)(&c.Type), &c.SecretHash, &c.RedirectURIs, &c.PostLogoutRedirectURIs, &c.BackchannelLogoutURI,
		&c.Origins,
		&c.Grants, &c.Scopes, &c.Audiences, &c.ThirdParty, &c.Algorithm, &c.IDTokenAlgorithm, &c.IDTokenClaims, &c.GroupsClaim,
		&c.AccessTokenType, &c.PKCEOptional, &c.NoAccount, (*string)(&c.RefreshTransport), &c.RefreshGrace, &c.CreatedAt, &c.UpdatedAt,
		&c.DisabledAt,
	}, more...)...)
}

// CreateClient implements [oauth.ClientStore].
func (db *DB) CreateClient(ctx context.Context, client oauth.Client, e audit.Event) error {
	return db.announce(ctx, "create client", func(c *conn) error {
		sequence, err := advanceFeed(c, client.UpdatedAt)
		if err != nil {
			return err
		}
		n, err := c.exec(`
			INSERT INTO clients (`+clientColumns+`, sequence)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (id) DO NOTHING`,
			client.ID, client.Name, string(client.Type), client.SecretHash, client.RedirectURIs, client.PostLogoutRedirectURIs,
			client.BackchannelLogoutURI, client.Origins, client.Grants, client.Scopes, client.Audiences, client.ThirdParty,
			client.Algorithm, client.IDTokenAlgorithm, client.IDTokenClaims, client.GroupsClaim, client.AccessTokenType,
			client.PKCEOptional, client.NoAccount, string(client.RefreshTransport), client.RefreshGrace, client.CreatedAt,
			client.UpdatedAt, client.DisabledAt, sequence)
		if err != nil {
			return err
		}
		if n == 0 {
			return oauth.ErrClientExists
		}
		return record(c, e)
	})
}

// Client implements [oauth.ClientStore].
func (db *DB) Client(ctx context.Context, id string) (client oauth.Client, err error) {
	err = db.read(ctx, "read client", func(c *conn) error {
		found, err := c.one(`SELECT `+clientColumns+` FROM clients WHERE id = ? AND deleted_at IS NULL`,
			func(r *row) { scanClient(r, &client) }, id)
		if err == nil && !found {
			return oauth.ErrClientNotFound
		}
		return err
	})
	return client, err
}

// Clients implements [oauth.ClientStore].
func (db *DB) Clients(ctx context.Context, after string, limit int) ([]oauth.Client, error) {
	return db.clients(ctx, "list clients", `SELECT `+clientColumns+
		` FROM clients WHERE id > ? AND deleted_at IS NULL ORDER BY id LIMIT ?`, after, limit)
}

// ClientChanges implements [oauth.ClientStore].
func (db *DB) ClientChanges(ctx context.Context, after string) (changes oauth.ClientChanges, err error) {
	err = db.read(ctx, "list changed clients", func(c *conn) error {
		now, sequence, err := place(c, after)
		if err != nil {
			return err
		}
		changes = oauth.ClientChanges{Cursor: now, Complete: after == ""}
		return c.query(`SELECT `+clientColumns+`, deleted_at IS NOT NULL FROM clients WHERE sequence > ?`, func(r *row) error {
			var client oauth.Client
			var deleted bool
			scanClient(r, &client, &deleted)
			if deleted {
				changes.Deleted = append(changes.Deleted, client.ID)
			} else {
				changes.Changed = append(changes.Changed, client)
			}
			return nil
		}, sequence)
	})
	if err != nil {
		return oauth.ClientChanges{}, err
	}
	return changes, nil
}

func (db *DB) clients(ctx context.Context, doing, query string, args ...any) (clients []oauth.Client, err error) {
	err = db.read(ctx, doing, func(c *conn) error {
		return c.query(query, func(r *row) error {
			var client oauth.Client
			scanClient(r, &client)
			clients = append(clients, client)
			return nil
		}, args...)
	})
	return clients, err
}

// UpdateClient implements [oauth.ClientStore].
func (db *DB) UpdateClient(ctx context.Context, client oauth.Client, since time.Time, e audit.Event) error {
	return db.announce(ctx, "update client", func(c *conn) error {
		sequence, err := advanceFeed(c, client.UpdatedAt)
		if err != nil {
			return err
		}
		n, err := c.exec(`
			UPDATE clients SET name = ?2, type = ?3, secret_hash = ?4, redirect_uris = ?5, post_logout_redirect_uris = ?6,
				backchannel_logout_uri = ?7, origins = ?8, grants = ?9, scopes = ?10, audiences = ?11, third_party = ?12,
				algorithm = ?13, id_token_algorithm = ?14, id_token_claims = ?15, groups_claim = ?16, access_token_type = ?17,
				pkce_optional = ?18, no_account = ?19, refresh_transport = ?20, refresh_grace = ?21, updated_at = ?22, disabled_at = ?23,
				sequence = ?24
			WHERE id = ?1 AND deleted_at IS NULL AND updated_at = ?25`,
			client.ID, client.Name, string(client.Type), client.SecretHash, client.RedirectURIs, client.PostLogoutRedirectURIs,
			client.BackchannelLogoutURI, client.Origins, client.Grants, client.Scopes, client.Audiences, client.ThirdParty,
			client.Algorithm, client.IDTokenAlgorithm, client.IDTokenClaims, client.GroupsClaim, client.AccessTokenType,
			client.PKCEOptional, client.NoAccount, string(client.RefreshTransport), client.RefreshGrace, client.UpdatedAt,
			client.DisabledAt, sequence, since)
		if err != nil {
			return err
		}
		if n == 0 {
			found, err := c.one(`SELECT 1 FROM clients WHERE id = ? AND deleted_at IS NULL`, func(*row) {}, client.ID)
			if err == nil && !found {
				return oauth.ErrClientNotFound
			}
			return cmp.Or(err, oauth.ErrClientChanged)
		}
		return record(c, e)
	})
}

// DisableClient implements [oauth.ClientStore].
func (db *DB) DisableClient(ctx context.Context, id string, at time.Time, entry blocklist.Entry, e audit.Event) error {
	return db.announce(ctx, "disable client", func(c *conn) error {
		sequence, err := advanceFeed(c, at)
		if err != nil {
			return err
		}
		n, err := c.exec(`
			UPDATE clients SET disabled_at = ?2, updated_at = ?2, sequence = ?3
			WHERE id = ?1 AND disabled_at IS NULL AND deleted_at IS NULL`,
			id, at, sequence)
		if err != nil {
			return err
		}
		if n == 0 {
			found, err := c.one(`SELECT 1 FROM clients WHERE id = ? AND deleted_at IS NULL`, func(*row) {}, id)
			if err == nil && !found {
				return oauth.ErrClientNotFound
			}
			return err // disabled already
		}
		if err := block(c, at, entry); err != nil {
			return err
		}
		return record(c, e)
	})
}

// DeleteClient implements [oauth.ClientStore].
func (db *DB) DeleteClient(ctx context.Context, id string, at time.Time, entry blocklist.Entry, e audit.Event) error {
	return db.announce(ctx, "delete client", func(c *conn) error {
		sequence, err := advanceFeed(c, at)
		if err != nil {
			return err
		}
		n, err := c.exec(`
			UPDATE clients SET name = '', secret_hash = '', redirect_uris = '[]', post_logout_redirect_uris = '[]',
				backchannel_logout_uri = '', origins = '[]', grants = '[]', scopes = '[]', audiences = '[]', refresh_grace = NULL,
				disabled_at = COALESCE(disabled_at, ?2), updated_at = ?2, deleted_at = ?2, sequence = ?3
			WHERE id = ?1 AND deleted_at IS NULL`, id, at, sequence)
		if err != nil {
			return err
		}
		if n == 0 {
			return oauth.ErrClientNotFound
		}
		for _, sql := range []string{
			`DELETE FROM consents WHERE client_id = ?`,
			`DELETE FROM signal_streams WHERE client_id = ?`,
			`DELETE FROM outbox WHERE kind = '` + oauth.KindLogout + `' AND dead_at IS NULL AND destination = ?`,
		} {
			if _, err := c.exec(sql, id); err != nil {
				return err
			}
		}
		if err := block(c, at, entry); err != nil {
			return err
		}
		return record(c, e)
	})
}
