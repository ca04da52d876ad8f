-- +goose Up

-- IDs and keys compare by bytes (COLLATE "C"), so that their order does not depend on the server's locale.
-- NULL stands for "not yet".

CREATE TABLE users (
    id                text        COLLATE "C" NOT NULL PRIMARY KEY,
    email             text        NOT NULL,
    email_key         text        COLLATE "C" UNIQUE, -- the form in which addresses are compared; NULL for a user without one
    email_verified_at timestamptz,
    name              text        NOT NULL,
    password_hash     text        NOT NULL,
    roles             text[]      NOT NULL,
    created_at        timestamptz NOT NULL,
    updated_at        timestamptz NOT NULL,
    disabled_at       timestamptz
);

CREATE TABLE clients (
    id                        text        COLLATE "C" NOT NULL PRIMARY KEY,
    name                      text        NOT NULL,
    type                      text        NOT NULL,
    secret_hash               text        NOT NULL,
    redirect_uris             text[]      NOT NULL,
    post_logout_redirect_uris text[]      NOT NULL,
    backchannel_logout_uri    text        NOT NULL,
    origins                   text[]      NOT NULL,
    grants                    text[]      NOT NULL,
    scopes                    text[]      NOT NULL,
    audiences                 text[]      NOT NULL,
    third_party               boolean     NOT NULL,
    algorithm                 text        NOT NULL,
    refresh_grace             bigint, -- microseconds; NULL: the service's
    created_at                timestamptz NOT NULL,
    updated_at                timestamptz NOT NULL,
    disabled_at               timestamptz
);

CREATE INDEX clients_updated_at ON clients (updated_at);

-- The built-in public first-party client, as old as time.
INSERT INTO clients (id, name, type, secret_hash, redirect_uris, post_logout_redirect_uris, backchannel_logout_uri, origins,
                     grants, scopes, audiences, third_party, algorithm, created_at, updated_at)
VALUES ('default', '', 'public', '', '{}', '{}', '', '{}', '{refresh_token}', '{}', '{}', false, '', to_timestamp(0), to_timestamp(0));

-- A rotation writes the five columns from generation to last_request_hash and no other. None of them is indexed and each page
-- keeps room, so that the new version of the row stays on its page and no index is touched (a heap-only
-- update); they stand next to each other because the write-ahead log records the bytes from the first change to the last.
--
-- There is no foreign key to clients: clients are never deleted, and every login would have to lock the same row.
CREATE TABLE sessions (
    id                uuid        NOT NULL PRIMARY KEY,
    generation        bigint      NOT NULL,
    rotated_at        timestamptz NOT NULL,
    idle_expires_at   timestamptz NOT NULL,
    iat_floor         bigint      NOT NULL, -- Unix seconds
    last_request_hash bytea,
    user_id           text        COLLATE "C" NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    client_id         text        COLLATE "C" NOT NULL,
    nonce             bytea       NOT NULL,
    expires_at        timestamptz NOT NULL,
    revoked_at        timestamptz,
    revoke_reason     text        NOT NULL,
    scope             text        NOT NULL,
    audience          text[]      NOT NULL,
    roles             text[]      NOT NULL, -- the user's, kept current by role changes
    amr               text[]      NOT NULL,
    acr               text        NOT NULL,
    auth_time         timestamptz NOT NULL,
    user_agent        text        NOT NULL,
    ip                text        NOT NULL,
    created_at        timestamptz NOT NULL
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);

CREATE INDEX sessions_user_id ON sessions (user_id);
CREATE INDEX sessions_expires_at ON sessions (expires_at);

-- Ends the user's oldest live sessions until a new one and the given number of others are left. This is a function because its
-- statement sees what is committed when it begins: the caller holds the lock on the user's row, so that is every login before.
-- A statement that has itself waited for the lock still sees the sessions as they were before it waited.
-- +goose StatementBegin
CREATE FUNCTION end_surplus_sessions(of_user text, new_session uuid, now timestamptz, others bigint, reason text)
    RETURNS TABLE (ended uuid, begun timestamptz) LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN QUERY
        UPDATE sessions s SET revoked_at = now, revoke_reason = reason
        WHERE s.id IN (
            SELECT o.id FROM sessions o
            WHERE o.user_id = of_user AND o.id <> new_session AND o.revoked_at IS NULL AND o.idle_expires_at > now AND o.expires_at > now
            ORDER BY o.created_at DESC, o.id DESC OFFSET others
        ) AND s.revoked_at IS NULL
        RETURNING s.id, s.created_at;
END
$$;
-- +goose StatementEnd

-- xid is the transaction that last wrote the entry: a reader that remembers which transactions were still running when it read
-- finds what they committed since, in whatever order they did.
CREATE TABLE blocklist (
    key        bytea  NOT NULL PRIMARY KEY,
    not_before bigint NOT NULL, -- Unix seconds
    drop_after bigint NOT NULL, -- Unix seconds
    xid        xid8   NOT NULL DEFAULT pg_current_xact_id()
) WITH (autovacuum_vacuum_scale_factor = 0.05);

CREATE INDEX blocklist_xid ON blocklist (xid);
CREATE INDEX blocklist_drop_after ON blocklist (drop_after);

CREATE TABLE signing_keys (
    id           text        COLLATE "C" NOT NULL PRIMARY KEY,
    algorithm    text        NOT NULL,
    state        text        NOT NULL CHECK (state IN ('upcoming', 'active', 'retired', 'revoked')),
    sealed       bytea,
    public       bytea       NOT NULL,
    created_at   timestamptz NOT NULL,
    activates_at timestamptz,
    activated_at timestamptz,
    retired_at   timestamptz,
    remove_at    timestamptz,
    revoked_at   timestamptz
);

CREATE UNIQUE INDEX signing_keys_active ON signing_keys (algorithm) WHERE state = 'active';
CREATE UNIQUE INDEX signing_keys_upcoming ON signing_keys (algorithm) WHERE state = 'upcoming';

CREATE TABLE audit_events (
    id         bigint      NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL,
    kind       text        NOT NULL,
    actor      text        NOT NULL,
    user_id    text        COLLATE "C" NOT NULL,
    session_id text        NOT NULL,
    client_id  text        NOT NULL,
    reason     text        NOT NULL,
    ip         text        NOT NULL,
    user_agent text        NOT NULL,
    request_id text        NOT NULL
);

CREATE INDEX audit_events_at ON audit_events (at);
CREATE INDEX audit_events_user_id ON audit_events (user_id, at) WHERE user_id <> '';

-- One row for each address that has login attempts counted against it; it can go once free_at has passed.
CREATE TABLE login_attempts (
    key     bytea       NOT NULL PRIMARY KEY, -- SHA-256
    free_at timestamptz NOT NULL              -- when all attempts so far are paid for
) WITH (autovacuum_vacuum_scale_factor = 0.05);

CREATE INDEX login_attempts_free_at ON login_attempts (free_at);

-- +goose Down

DROP TABLE login_attempts;
DROP TABLE audit_events;
DROP TABLE signing_keys;
DROP TABLE blocklist;
DROP FUNCTION end_surplus_sessions(text, uuid, timestamptz, bigint, text);
DROP TABLE sessions;
DROP TABLE clients;
DROP TABLE users;
