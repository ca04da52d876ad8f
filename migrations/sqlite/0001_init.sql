-- +goose Up

-- Times are Unix microseconds, lists are JSON arrays, NULL stands for "not yet".

CREATE TABLE users (
    id                TEXT    NOT NULL PRIMARY KEY,
    email             TEXT    NOT NULL,
    email_key         TEXT    UNIQUE, -- the form in which addresses are compared; NULL for a user without one
    email_verified_at INTEGER,
    name              TEXT    NOT NULL,
    password_hash     TEXT    NOT NULL,
    roles             TEXT    NOT NULL,
    created_at        INTEGER NOT NULL,
    updated_at        INTEGER NOT NULL,
    disabled_at       INTEGER
) STRICT;

CREATE TABLE clients (
    id                        TEXT    NOT NULL PRIMARY KEY,
    name                      TEXT    NOT NULL,
    type                      TEXT    NOT NULL,
    secret_hash               TEXT    NOT NULL,
    redirect_uris             TEXT    NOT NULL,
    post_logout_redirect_uris TEXT    NOT NULL,
    backchannel_logout_uri    TEXT    NOT NULL,
    origins                   TEXT    NOT NULL,
    grants                    TEXT    NOT NULL,
    scopes                    TEXT    NOT NULL,
    audiences                 TEXT    NOT NULL,
    third_party               INTEGER NOT NULL,
    algorithm                 TEXT    NOT NULL,
    refresh_grace             INTEGER, -- microseconds; NULL: the service's
    created_at                INTEGER NOT NULL,
    updated_at                INTEGER NOT NULL,
    disabled_at               INTEGER
) STRICT;

CREATE INDEX clients_updated_at ON clients (updated_at);

-- The built-in public first-party client, as old as time.
INSERT INTO clients (id, name, type, secret_hash, redirect_uris, post_logout_redirect_uris, backchannel_logout_uri, origins,
                     grants, scopes, audiences, third_party, algorithm, created_at, updated_at)
VALUES ('default', '', 'public', '', '[]', '[]', '', '[]', '["refresh_token"]', '[]', '[]', 0, '', 0, 0);

-- A rotation writes generation, rotated_at, last_request_hash, idle_expires_at and iat_floor: none of them is indexed,
-- so it writes one page. The rows are too wide for WITHOUT ROWID to help.
CREATE TABLE sessions (
    id                BLOB    NOT NULL PRIMARY KEY,
    user_id           TEXT    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    client_id         TEXT    NOT NULL REFERENCES clients (id),
    generation        INTEGER NOT NULL,
    nonce             BLOB    NOT NULL,
    rotated_at        INTEGER NOT NULL,
    last_request_hash BLOB    NOT NULL,
    idle_expires_at   INTEGER NOT NULL,
    expires_at        INTEGER NOT NULL,
    revoked_at        INTEGER,
    revoke_reason     TEXT    NOT NULL,
    scope             TEXT    NOT NULL,
    audience          TEXT    NOT NULL,
    roles             TEXT    NOT NULL, -- the user's, kept current by role changes
    iat_floor         INTEGER NOT NULL, -- Unix seconds
    amr               TEXT    NOT NULL,
    acr               TEXT    NOT NULL,
    auth_time         INTEGER NOT NULL,
    user_agent        TEXT    NOT NULL,
    ip                TEXT    NOT NULL,
    created_at        INTEGER NOT NULL
) STRICT;

CREATE INDEX sessions_user_id ON sessions (user_id);
CREATE INDEX sessions_expires_at ON sessions (expires_at);

CREATE TABLE blocklist (
    key        BLOB    NOT NULL PRIMARY KEY,
    not_before INTEGER NOT NULL, -- Unix seconds
    drop_after INTEGER NOT NULL, -- Unix seconds
    sequence   INTEGER NOT NULL  -- feed.head when the entry was last written
) STRICT, WITHOUT ROWID;

CREATE INDEX blocklist_sequence ON blocklist (sequence);
CREATE INDEX blocklist_drop_after ON blocklist (drop_after);

-- head advances with every change of blocklist, signing keys and clients. It is max(head + 1, time of the change), so
-- that a database that was restored from a backup does not give out numbers again that a reader has seen before.
CREATE TABLE feed (
    one  INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    id   BLOB    NOT NULL, -- tells this history from any other database's
    head INTEGER NOT NULL
) STRICT;

INSERT INTO feed (one, id, head) VALUES (1, randomblob(16), 0);

CREATE TABLE signing_keys (
    id           TEXT    NOT NULL PRIMARY KEY,
    algorithm    TEXT    NOT NULL,
    state        TEXT    NOT NULL CHECK (state IN ('upcoming', 'active', 'retired', 'revoked')),
    sealed       BLOB,
    public       BLOB    NOT NULL,
    created_at   INTEGER NOT NULL,
    activates_at INTEGER,
    activated_at INTEGER,
    retired_at   INTEGER,
    remove_at    INTEGER,
    revoked_at   INTEGER
) STRICT;

CREATE UNIQUE INDEX signing_keys_active ON signing_keys (algorithm) WHERE state = 'active';
CREATE UNIQUE INDEX signing_keys_upcoming ON signing_keys (algorithm) WHERE state = 'upcoming';

CREATE TABLE audit_events (
    id         INTEGER NOT NULL PRIMARY KEY,
    at         INTEGER NOT NULL,
    kind       TEXT    NOT NULL,
    actor      TEXT    NOT NULL,
    user_id    TEXT    NOT NULL,
    session_id TEXT    NOT NULL,
    client_id  TEXT    NOT NULL,
    reason     TEXT    NOT NULL,
    ip         TEXT    NOT NULL,
    user_agent TEXT    NOT NULL,
    request_id TEXT    NOT NULL
) STRICT;

CREATE INDEX audit_events_at ON audit_events (at);
CREATE INDEX audit_events_user_id ON audit_events (user_id, at) WHERE user_id <> '';

-- One row for each address that has login attempts counted against it; it can go once free_at has passed.
CREATE TABLE login_attempts (
    key     BLOB    NOT NULL PRIMARY KEY, -- SHA-256
    free_at INTEGER NOT NULL              -- when all attempts so far are paid for
) STRICT, WITHOUT ROWID;

CREATE INDEX login_attempts_free_at ON login_attempts (free_at);

-- +goose Down

DROP TABLE login_attempts;
DROP TABLE audit_events;
DROP TABLE signing_keys;
DROP TABLE feed;
DROP TABLE blocklist;
DROP TABLE sessions;
DROP TABLE clients;
DROP TABLE users;
