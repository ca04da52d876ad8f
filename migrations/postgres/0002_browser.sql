-- +goose Up

-- The browser session in which the code that gave the session was issued. A rotation does not write it.
ALTER TABLE sessions ADD COLUMN browser_session bytea;

-- Secrets that a browser or a client holds are kept as their SHA-256.

-- A code stays for a while after it was used or has expired, so that one that is shown again is recognized.
CREATE TABLE authorization_codes (
    hash            bytea       NOT NULL PRIMARY KEY,
    client_id       text        COLLATE "C" NOT NULL,
    user_id         text        COLLATE "C" NOT NULL,
    redirect_uri    text        NOT NULL,
    challenge       text        NOT NULL,
    scope           text        NOT NULL,
    audience        text[]      NOT NULL,
    nonce           text        NOT NULL,
    amr             text[]      NOT NULL,
    acr             text        NOT NULL,
    auth_time       timestamptz NOT NULL,
    browser_session bytea,
    created_at      timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL,
    used_at         timestamptz,
    session_id      uuid
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);

CREATE INDEX authorization_codes_user_id ON authorization_codes (user_id);
CREATE INDEX authorization_codes_expires_at ON authorization_codes (expires_at);

CREATE TABLE browser_sessions (
    hash       bytea       NOT NULL PRIMARY KEY,
    user_id    text        COLLATE "C" NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    amr        text[]      NOT NULL,
    acr        text        NOT NULL,
    auth_time  timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05);

CREATE INDEX browser_sessions_user_id ON browser_sessions (user_id);
CREATE INDEX browser_sessions_expires_at ON browser_sessions (expires_at);

CREATE TABLE pushed_requests (
    hash       bytea       NOT NULL PRIMARY KEY,
    client_id  text        COLLATE "C" NOT NULL,
    parameters text        NOT NULL,
    expires_at timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05);

CREATE INDEX pushed_requests_expires_at ON pushed_requests (expires_at);

CREATE TABLE consents (
    user_id    text        COLLATE "C" NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    client_id  text        COLLATE "C" NOT NULL,
    scope      text        NOT NULL,
    granted_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, client_id)
);

-- Rows outlive the user and the session that they are about.
CREATE TABLE logout_deliveries (
    id           bigint      NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    client_id    text        COLLATE "C" NOT NULL,
    uri          text        NOT NULL,
    user_id      text        COLLATE "C" NOT NULL,
    session_id   uuid        NOT NULL,
    attempts     bigint      NOT NULL,
    created_at   timestamptz NOT NULL,
    leased_until timestamptz NOT NULL -- due from then on
) WITH (autovacuum_vacuum_scale_factor = 0.05);

CREATE INDEX logout_deliveries_leased_until ON logout_deliveries (leased_until);

-- Whatever ends a session of a client with a back-channel logout URI leaves a delivery, in the same transaction. This is a trigger
-- because there are many ways for a session to end, and none may forget it.
-- +goose StatementBegin
CREATE FUNCTION add_logout_delivery() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO logout_deliveries (client_id, uri, user_id, session_id, attempts, created_at, leased_until)
    SELECT c.id, c.backchannel_logout_uri, NEW.user_id, NEW.id, 0, NEW.revoked_at, NEW.revoked_at
    FROM clients c WHERE c.id = NEW.client_id AND c.backchannel_logout_uri <> '';
    RETURN NULL;
END
$$;
-- +goose StatementEnd

-- A rotation does not write revoked_at.
CREATE TRIGGER sessions_ended AFTER UPDATE OF revoked_at ON sessions
    FOR EACH ROW WHEN (OLD.revoked_at IS NULL AND NEW.revoked_at IS NOT NULL) EXECUTE FUNCTION add_logout_delivery();

CREATE TABLE identities (
    provider     text        COLLATE "C" NOT NULL,
    subject      text        COLLATE "C" NOT NULL,
    user_id      text        COLLATE "C" NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    email        text        NOT NULL, -- as the provider gave it
    linked_at    timestamptz NOT NULL,
    sealed       bytea,                -- provider tokens; NULL if none are kept
    needs_reauth boolean     NOT NULL,
    leased_until timestamptz,
    version      bigint      NOT NULL, -- of the tokens; begins at the time of the link, so that an identity linked anew does not repeat one
    PRIMARY KEY (provider, subject),
    UNIQUE (user_id, provider)
);

CREATE TABLE upstream_attempts (
    state_hash   bytea       NOT NULL PRIMARY KEY,
    browser_hash bytea       NOT NULL,
    provider     text        COLLATE "C" NOT NULL,
    redirect_uri text        NOT NULL,
    user_id      text        COLLATE "C" NOT NULL, -- empty for a login
    continue     text        NOT NULL,
    expires_at   timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05);

CREATE INDEX upstream_attempts_expires_at ON upstream_attempts (expires_at);

CREATE TABLE used_id_tokens (
    token_hash bytea       NOT NULL PRIMARY KEY,
    expires_at timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05);

CREATE INDEX used_id_tokens_expires_at ON used_id_tokens (expires_at);

-- +goose Down

DROP TABLE used_id_tokens;
DROP TABLE upstream_attempts;
DROP TABLE identities;
DROP TRIGGER sessions_ended ON sessions;
DROP FUNCTION add_logout_delivery();
DROP TABLE logout_deliveries;
DROP TABLE consents;
DROP TABLE pushed_requests;
DROP TABLE browser_sessions;
DROP TABLE authorization_codes;
ALTER TABLE sessions DROP COLUMN browser_session;
