package sqlite

import (
	"context"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/oauth"
)

const clientColumns = `id, name, type, secret_hash, redirect_uris, post_logout_redirect_uris, backchannel_logout_uri, origins,
	grants, scopes, audiences, third_party, algorithm, refresh_grace, created_at, updated_at, disabled_at`

func scanClient(r *row, c *oauth.Client) {
	r.scan(&c.ID, &c.Name, (*string)(&c.Type), &c.SecretHash, &c.RedirectURIs, &c.PostLogoutRedirectURIs, &c.BackchannelLogoutURI, &c.Origins,
		&c.Grants, &c.Scopes, &c.Audiences, &c.ThirdParty, &c.Algorithm, &c.RefreshGrace, &c.CreatedAt, &c.UpdatedAt, &c.DisabledAt)
}

// CreateClient implements [oauth.ClientStore].
func (db *DB) CreateClient(ctx context.Context, client oauth.Client, e audit.Event) error {
	return db.announce(ctx, "create client", func(c *conn) error {
		n, err := c.exec(`
			INSERT INTO clients (`+clientColumns+`)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (id) DO NOTHING`,
			client.ID, client.Name, string(client.Type), client.SecretHash, client.RedirectURIs, client.PostLogoutRedirectURIs,
			client.BackchannelLogoutURI, client.Origins, client.Grants, client.Scopes, client.Audiences, client.ThirdParty,
			client.Algorithm, client.RefreshGrace, client.CreatedAt, client.UpdatedAt, client.DisabledAt)
		if err != nil {
			return err
		}
		if n == 0 {
			return oauth.ErrClientExists
		}
		if _, err := advanceFeed(c, client.UpdatedAt); err != nil {
			return err
		}
		return record(c, e)
	})
}

// Client implements [oauth.ClientStore].
func (db *DB) Client(ctx context.Context, id string) (client oauth.Client, err error) {
	err = db.read(ctx, "read client", func(c *conn) error {
		found, err := c.one(`SELECT `+clientColumns+` FROM clients WHERE id = ?`, func(r *row) { scanClient(r, &client) }, id)
		if err == nil && !found {
			return oauth.ErrClientNotFound
		}
		return err
	})
	return client, err
}

// Clients implements [oauth.ClientStore].
func (db *DB) Clients(ctx context.Context, after string, limit int) ([]oauth.Client, error) {
	return db.clients(ctx, "list clients", `SELECT `+clientColumns+` FROM clients WHERE id > ? ORDER BY id LIMIT ?`, after, limit)
}

// ClientsChangedSince implements [oauth.ClientStore].
func (db *DB) ClientsChangedSince(ctx context.Context, at time.Time) ([]oauth.Client, error) {
	return db.clients(ctx, "list changed clients", `SELECT `+clientColumns+` FROM clients WHERE updated_at >= ? ORDER BY updated_at`, at.UnixMicro())
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

// DisableClient implements [oauth.ClientStore].
func (db *DB) DisableClient(ctx context.Context, id string, at time.Time, entry blocklist.Entry, e audit.Event) error {
	return db.announce(ctx, "disable client", func(c *conn) error {
		n, err := c.exec(`UPDATE clients SET disabled_at = ?2, updated_at = ?2 WHERE id = ?1 AND disabled_at IS NULL`, id, at)
		if err != nil {
			return err
		}
		if n == 0 {
			found, err := c.one(`SELECT 1 FROM clients WHERE id = ?`, func(*row) {}, id)
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
