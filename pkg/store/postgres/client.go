package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/oauth"
)

const clientColumns = `c.id, c.name, c.type, c.secret_hash,
	c.redirect_uris, c.post_logout_redirect_uris, c.backchannel_logout_uri, c.origins,
	c.grants, c.scopes, c.audiences, c.third_party, c.algorithm, c.id_token_algorithm, c.id_token_claims, c.groups_claim,
	c.access_token_type, c.pkce_optional, c.no_account, c.refresh_transport, c.refresh_grace, c.created_at, c.updated_at,
	c.disabled_at`

// CreateClient implements oauth.ClientStore.
func (db *DB) CreateClient(ctx context.Context, c oauth.Client, e audit.Event) error {
	const sql = `WITH created AS (
			INSERT INTO clients (id, name, type, secret_hash, redirect_uris, post_logout_redirect_uris, backchannel_logout_uri, origins,
				grants, scopes, audiences, third_party, algorithm, id_token_algorithm, id_token_claims, groups_claim, access_token_type,
				pkce_optional, no_account, refresh_transport, refresh_grace, created_at, updated_at, disabled_at)
			VALUES ($11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34)
			ON CONFLICT (id) DO NOTHING RETURNING id
		), noted AS (` + insertEvent + ` FROM created)
		SELECT true, ` + notify + ` FROM created`
	var created bool
	err := db.run(ctx, "create client", one(sql, to(&created, nil), withEvent(e,
		c.ID, c.Name, string(c.Type), c.SecretHash,
		list(c.RedirectURIs), list(c.PostLogoutRedirectURIs), c.BackchannelLogoutURI, list(c.Origins),
		list(c.Grants), list(c.Scopes), list(c.Audiences), c.ThirdParty, c.Algorithm, c.IDTokenAlgorithm, c.IDTokenClaims,
		c.GroupsClaim, c.AccessTokenType, c.PKCEOptional, c.NoAccount, string(c.RefreshTransport), micros(c.RefreshGrace),
		when(c.CreatedAt), when(c.UpdatedAt), when(c.DisabledAt))...))
	if err == nil && !created {
		return oauth.ErrClientExists
	}
	return err
}

// Client implements oauth.ClientStore.
func (db *DB) Client(ctx context.Context, id string) (oauth.Client, error) {
	const sql = `SELECT ` + clientColumns + ` FROM clients c WHERE c.id = $1 AND c.deleted_at IS NULL`
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
	const sql = `SELECT ` + clientColumns + ` FROM clients c WHERE c.id > $1 AND c.deleted_at IS NULL ORDER BY c.id LIMIT $2::bigint`
	return db.clients(ctx, "list clients", sql, after, int64(limit))
}

// ClientChanges implements oauth.ClientStore. The place is read first: what is written between the two statements is
// told now and once more next time.
func (db *DB) ClientChanges(ctx context.Context, after string) (oauth.ClientChanges, error) {
	const sql = `SELECT ` + clientColumns + `, c.deleted_at IS NOT NULL FROM clients c WHERE c.` + changedSince
	from, err := startOf(after)
	if err != nil {
		return oauth.ClientChanges{}, err
	}
	var (
		now  cursor
		at   []byte
		seen string
		out  = oauth.ClientChanges{Complete: after == ""}
	)
	err = db.run(ctx, "list changed clients", one(place, to(&at, &seen)),
		step{sql: sql, args: []any{from.snapshot.String()}, scan: func(rows pgx.Rows) error {
			var deleted bool
			c, err := scanClient(rows, &deleted)
			if deleted {
				out.Deleted = append(out.Deleted, c.ID)
			} else {
				out.Changed = append(out.Changed, c)
			}
			return err
		}})
	if err != nil {
		return oauth.ClientChanges{}, err
	}
	if now.snapshot, err = parseSnapshot(seen); err != nil || len(at) != len(now.history) {
		return oauth.ClientChanges{}, failed("list changed clients", errors.Join(err, errFormat))
	}
	now.history = history(at)
	if err := now.follows(from); err != nil {
		return oauth.ClientChanges{}, err
	}
	out.Cursor = now.String()
	return out, nil
}

func scanClient(rows pgx.Rows, more ...any) (c oauth.Client, err error) {
	var grace *int64
	err = rows.Scan(append([]any{
		&c.ID, &c.Name, &c.Type, &c.SecretHash,
		texts{&c.RedirectURIs}, texts{&c.PostLogoutRedirectURIs}, &c.BackchannelLogoutURI, texts{&c.Origins},
		texts{&c.Grants}, texts{&c.Scopes}, texts{&c.Audiences}, &c.ThirdParty, &c.Algorithm, &c.IDTokenAlgorithm,
		&c.IDTokenClaims, &c.GroupsClaim, &c.AccessTokenType, &c.PKCEOptional, &c.NoAccount, &c.RefreshTransport, &grace,
		instant{&c.CreatedAt}, instant{&c.UpdatedAt}, instant{&c.DisabledAt},
	}, more...)...)
	c.RefreshGrace = duration(grace)
	return c, err
}

// clients runs a statement that returns clients.
func (db *DB) clients(ctx context.Context, doing, sql string, args ...any) ([]oauth.Client, error) {
	var found []oauth.Client
	err := db.run(ctx, doing, step{sql: sql, args: args, scan: func(rows pgx.Rows) error {
		c, err := scanClient(rows)
		found = append(found, c)
		return err
	}})
	return found, err
}

// UpdateClient implements oauth.ClientStore.
func (db *DB) UpdateClient(ctx context.Context, c oauth.Client, since time.Time, e audit.Event) error {
	const sql = `WITH updated AS (
			UPDATE clients SET name = $12, type = $13, secret_hash = $14, redirect_uris = $15, post_logout_redirect_uris = $16,
				backchannel_logout_uri = $17, origins = $18, grants = $19, scopes = $20, audiences = $21, third_party = $22,
				algorithm = $23, id_token_algorithm = $24, id_token_claims = $25, groups_claim = $26, access_token_type = $27,
				pkce_optional = $28, no_account = $29, refresh_transport = $30, refresh_grace = $31, updated_at = $32, disabled_at = $33
			WHERE id = $11 AND deleted_at IS NULL AND updated_at = $34::timestamptz RETURNING id
		), noted AS (` + insertEvent + ` FROM updated)
		SELECT EXISTS (SELECT FROM updated), EXISTS (SELECT FROM clients WHERE id = $11 AND deleted_at IS NULL),
			CASE WHEN EXISTS (SELECT FROM updated) THEN ` + notify + ` END`
	var updated, found bool
	err := db.run(ctx, "update client", one(sql, to(&updated, &found, nil), withEvent(e,
		c.ID, c.Name, string(c.Type), c.SecretHash,
		list(c.RedirectURIs), list(c.PostLogoutRedirectURIs), c.BackchannelLogoutURI, list(c.Origins),
		list(c.Grants), list(c.Scopes), list(c.Audiences), c.ThirdParty, c.Algorithm, c.IDTokenAlgorithm, c.IDTokenClaims,
		c.GroupsClaim, c.AccessTokenType, c.PKCEOptional, c.NoAccount, string(c.RefreshTransport), micros(c.RefreshGrace),
		when(c.UpdatedAt), when(c.DisabledAt), when(since))...))
	switch {
	case err != nil:
		return err
	case !found:
		return oauth.ErrClientNotFound
	case !updated:
		return oauth.ErrClientChanged
	}
	return nil
}

// DisableClient implements oauth.ClientStore.
func (db *DB) DisableClient(ctx context.Context, id string, at time.Time, entry blocklist.Entry, e audit.Event) error {
	const sql = `WITH disabled AS (
			UPDATE clients SET disabled_at = $12::timestamptz, updated_at = $12::timestamptz
			WHERE id = $11 AND disabled_at IS NULL AND deleted_at IS NULL RETURNING id
		), blocked AS (` + insertEntries + ` SELECT $13::bytea, $14::bigint, $15::bigint FROM disabled ` + largerEntry + `
		), noted AS (` + insertEvent + ` FROM disabled)
		SELECT EXISTS (SELECT FROM clients WHERE id = $11 AND deleted_at IS NULL), CASE WHEN EXISTS (SELECT FROM disabled) THEN ` +
		notify + ` END`
	var found bool
	err := db.run(ctx, "disable client", one(sql, to(&found, nil),
		withEvent(e, id, when(at), entry.Key[:], entry.NotBefore.Unix(), seconds(entry.DropAfter))...))
	if err == nil && !found {
		return oauth.ErrClientNotFound
	}
	return err
}

// DeleteClient implements oauth.ClientStore.
func (db *DB) DeleteClient(ctx context.Context, id string, at time.Time, entry blocklist.Entry, e audit.Event) error {
	const sql = `WITH deleted AS (
			UPDATE clients SET name = '', secret_hash = '', redirect_uris = '{}', post_logout_redirect_uris = '{}',
				backchannel_logout_uri = '', origins = '{}', grants = '{}', scopes = '{}', audiences = '{}', refresh_grace = NULL,
				disabled_at = COALESCE(disabled_at, $12::timestamptz), updated_at = $12::timestamptz, deleted_at = $12::timestamptz
			WHERE id = $11 AND deleted_at IS NULL RETURNING id
		), consents AS (DELETE FROM consents t USING deleted d WHERE t.client_id = d.id
		), streams AS (DELETE FROM signal_streams t USING deleted d WHERE t.client_id = d.id
		), logouts AS (DELETE FROM outbox t USING deleted d
			WHERE t.kind = '` + oauth.KindLogout + `' AND t.dead_at IS NULL AND t.destination = d.id
		), blocked AS (` + insertEntries + ` SELECT $13::bytea, $14::bigint, $15::bigint FROM deleted ` + largerEntry + `
		), noted AS (` + insertEvent + ` FROM deleted)
		SELECT true, ` + notify + ` FROM deleted`
	var found bool
	err := db.run(ctx, "delete client", one(sql, to(&found, nil),
		withEvent(e, id, when(at), entry.Key[:], entry.NotBefore.Unix(), seconds(entry.DropAfter))...))
	if err == nil && !found {
		return oauth.ErrClientNotFound
	}
	return err
}
