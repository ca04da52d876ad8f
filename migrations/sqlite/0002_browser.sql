-- +goose Up

-- The browser session in which the code that gave the session was issued. A rotation does not write it.
ALTER TABLE sessions ADD COLUMN browser_session BLOB;

-- Secrets that a browser or a client holds are kept as their SHA-256.

-- A code stays for a while after it was used or has expired, so that one that is shown again is recognized.
CREATE TABLE authorization_codes (
    hash            BLOB    NOT NULL PRIMARY KEY,
    client_id       TEXT    NOT NULL,
    user_id         TEXT    NOT NULL,
    redirect_uri    TEXT    NOT NULL,
    challenge       TEXT    NOT NULL,
    scope           TEXT    NOT NULL,
    audience        TEXT    NOT NULL,
    nonce           TEXT    NOT NULL,
    amr             TEXT    NOT NULL,
    acr             TEXT    NOT NULL,
    auth_time       INTEGER NOT NULL,
    browser_session BLOB,
    created_at      INTEGER NOT NULL,
    expires_at      INTEGER NOT NULL,
    used_at         INTEGER,
    session_id      BLOB
) STRICT;

CREATE INDEX authorization_codes_user_id ON authorization_codes (user_id);
CREATE INDEX authorization_codes_expires_at ON authorization_codes (expires_at);

CREATE TABLE browser_sessions (
    hash       BLOB    NOT NULL PRIMARY KEY,
    user_id    TEXT    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    amr        TEXT    NOT NULL,
    acr        TEXT    NOT NULL,
    auth_time  INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX browser_sessions_user_id ON browser_sessions (user_id);
CREATE INDEX browser_sessions_expires_at ON browser_sessions (expires_at);

CREATE TABLE pushed_requests (
    hash       BLOB    NOT NULL PRIMARY KEY,
    client_id  TEXT    NOT NULL,
    parameters TEXT    NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;

CREATE INDEX pushed_requests_expires_at ON pushed_requests (expires_at);

CREATE TABLE consents (
    user_id    TEXT    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    client_id  TEXT    NOT NULL,
    scope      TEXT    NOT NULL,
    granted_at INTEGER NOT NULL,
    PRIMARY KEY (user_id, client_id)
) STRICT, WITHOUT ROWID;

-- Rows outlive the user and the session that they are about. An ID is never given twice: a replica may finish late.
CREATE TABLE logout_deliveries (
    id           INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    client_id    TEXT    NOT NULL,
    uri          TEXT    NOT NULL,
    user_id      TEXT    NOT NULL,
    session_id   BLOB    NOT NULL,
    attempts     INTEGER NOT NULL,
    created_at   INTEGER NOT NULL,
    leased_until INTEGER NOT NULL -- due from then on
) STRICT;

CREATE INDEX logout_deliveries_leased_until ON logout_deliveries (leased_until);

-- Whatever ends a session of a client with a back-channel logout URI leaves a delivery, in the same transaction. This is a trigger
-- because there are many ways for a session to end, and none may forget it. A rotation does not write revoked_at.
-- +goose StatementBegin
CREATE TRIGGER sessions_ended AFTER UPDATE OF revoked_at ON sessions
WHEN OLD.revoked_at IS NULL AND NEW.revoked_at IS NOT NULL
BEGIN
    INSERT INTO logout_deliveries (client_id, uri, user_id, session_id, attempts, created_at, leased_until)
    SELECT id, backchannel_logout_uri, NEW.user_id, NEW.id, 0, NEW.revoked_at, NEW.revoked_at
    FROM clients WHERE id = NEW.client_id AND backchannel_logout_uri <> '';
END;
-- +goose StatementEnd

CREATE TABLE identities (
    provider     TEXT    NOT NULL,
    subject      TEXT    NOT NULL,
    user_id      TEXT    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    email        TEXT    NOT NULL, -- as the provider gave it
    linked_at    INTEGER NOT NULL,
    sealed       BLOB,             -- provider tokens; NULL if none are kept
    needs_reauth INTEGER NOT NULL,
    leased_until INTEGER,
    version      INTEGER NOT NULL, -- of the tokens; begins at the time of the link, so that an identity linked anew does not repeat one
    PRIMARY KEY (provider, subject),
    UNIQUE (user_id, provider)
) STRICT;

CREATE TABLE upstream_attempts (
    state_hash   BLOB    NOT NULL PRIMARY KEY,
    browser_hash BLOB    NOT NULL,
    provider     TEXT    NOT NULL,
    redirect_uri TEXT    NOT NULL,
    user_id      TEXT    NOT NULL, -- empty for a login
    continue     TEXT    NOT NULL,
    expires_at   INTEGER NOT NULL
) STRICT;

CREATE INDEX upstream_attempts_expires_at ON upstream_attempts (expires_at);

CREATE TABLE used_id_tokens (
    token_hash BLOB    NOT NULL PRIMARY KEY,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX used_id_tokens_expires_at ON used_id_tokens (expires_at);

-- +goose Down

DROP TABLE used_id_tokens;
DROP TABLE upstream_attempts;
DROP TABLE identities;
DROP TRIGGER sessions_ended;
DROP TABLE logout_deliveries;
DROP TABLE consents;
DROP TABLE pushed_requests;
DROP TABLE browser_sessions;
DROP TABLE authorization_codes;
ALTER TABLE sessions DROP COLUMN browser_session;
