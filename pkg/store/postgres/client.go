package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/oauth"
)

const clientColumns = `c.id, c.name, c.type, c.secret_hash, c.redirect_uris, c.post_logout_redirect_uris, c.backchannel_logout_uri, c.origins,
	c.grants, c.scopes, c.audiences, c.third_party, c.algorithm, c.refresh_grace, c.created_at, c.updated_at, c.disabled_at`

// CreateClient implements oauth.ClientStore.
func (db *DB) CreateClient(ctx context.Context, c oauth.Client, e audit.Event) error {
	const sql = `WITH created AS (
			INSERT INTO clients (id, name, type, secret_hash, redirect_uris, post_logout_redirect_uris, backchannel_logout_uri, origins,
				grants, scopes, audiences, third_party, algorithm, refresh_grace, created_at, updated_at, disabled_at)
			VALUES ($11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27)
			ON CONFLICT (id) DO NOTHING RETURNING id
		), noted AS (` + insertEvent + ` FROM created)
		SELECT true, ` + notify + ` FROM created`
	var created bool
	err := db.run(ctx, "create client", one(sql, to(&created, nil), withEvent(e,
		c.ID, c.Name, string(c.Type), c.SecretHash, list(c.RedirectURIs), list(c.PostLogoutRedirectURIs), c.BackchannelLogoutURI, list(c.Origins),
		list(c.Grants), list(c.Scopes), list(c.Audiences), c.ThirdParty, c.Algorithm, micros(c.RefreshGrace), when(c.CreatedAt), when(c.UpdatedAt), when(c.DisabledAt))...))
	if err == nil && !created {
		return oauth.ErrClientExists
	}
	return err
}

// Client implements oauth.ClientStore.
func (db *DB) Client(ctx context.Context, id string) (oauth.Client, error) {
	const sql = `SELECT ` + clientColumns + ` FROM clients c WHERE c.id = $1`
	found, err := db.clients(ctx, "read client", sql, id)
	switch {
	case err != nil:
		return oauth.Client{}, err
	case len(found) == 0:
		return oauth.Client{}, oauth.ErrClientNotFound
	}
	return found[0], nil
}

// Clients implements oauth.ClientStore.
func (db *DB) Clients(ctx context.Context, after string, limit int) ([]oauth.Client, error) {
	const sql = `SELECT ` + clientColumns + ` FROM clients c WHERE c.id > $1 ORDER BY c.id LIMIT $2::bigint`
	return db.clients(ctx, "list clients", sql, after, int64(limit))
}

// ClientsChangedSince implements oauth.ClientStore.
func (db *DB) ClientsChangedSince(ctx context.Context, at time.Time) ([]oauth.Client, error) {
	const sql = `SELECT ` + clientColumns + ` FROM clients c WHERE c.updated_at >= COALESCE($1::timestamptz, '-infinity') ORDER BY c.id`
	return db.clients(ctx, "list changed clients", sql, when(at))
}

// clients runs a statement that returns clients.
func (db *DB) clients(ctx context.Context, doing, sql string, args ...any) ([]oauth.Client, error) {
	var found []oauth.Client
	err := db.run(ctx, doing, step{sql: sql, args: args, scan: func(rows pgx.Rows) error {
		var (
			c     oauth.Client
			grace *int64
		)
		err := rows.Scan(&c.ID, &c.Name, &c.Type, &c.SecretHash, texts{&c.RedirectURIs}, texts{&c.PostLogoutRedirectURIs}, &c.BackchannelLogoutURI, texts{&c.Origins},
			texts{&c.Grants}, texts{&c.Scopes}, texts{&c.Audiences}, &c.ThirdParty, &c.Algorithm, &grace, instant{&c.CreatedAt}, instant{&c.UpdatedAt}, instant{&c.DisabledAt})
		c.RefreshGrace = duration(grace)
		found = append(found, c)
		return err
	}})
	return found, err
}

// DisableClient implements oauth.ClientStore.
func (db *DB) DisableClient(ctx context.Context, id string, at time.Time, entry blocklist.Entry, e audit.Event) error {
	const sql = `WITH disabled AS (
			UPDATE clients SET disabled_at = $12::timestamptz, updated_at = $12::timestamptz WHERE id = $11 AND disabled_at IS NULL RETURNING id
		), blocked AS (` + insertEntries + ` SELECT $13::bytea, $14::bigint, $15::bigint FROM disabled ` + largerEntry + `
		), noted AS (` + insertEvent + ` FROM disabled)
		SELECT EXISTS (SELECT FROM clients WHERE id = $11), CASE WHEN EXISTS (SELECT FROM disabled) THEN ` + notify + ` END`
	var found bool
	err := db.run(ctx, "disable client", one(sql, to(&found, nil),
		withEvent(e, id, when(at), entry.Key[:], entry.NotBefore.Unix(), seconds(entry.DropAfter))...))
	if err == nil && !found {
		return oauth.ErrClientNotFound
	}
	return err
}
