-- +goose Up

-- What a user shows besides a password. One that is not confirmed yet counts for nothing.
CREATE TABLE factors (
    id           text        COLLATE "C" NOT NULL PRIMARY KEY,
    user_id      text        COLLATE "C" NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    kind         text        NOT NULL,
    name         text        NOT NULL,
    secret       bytea       NOT NULL, -- sealed
    last_step    bigint      NOT NULL, -- the newest step whose code was used
    created_at   timestamptz NOT NULL,
    confirmed_at timestamptz,
    last_used_at timestamptz
) WITH (fillfactor = 80);

CREATE INDEX factors_user_id ON factors (user_id);
CREATE INDEX factors_unconfirmed ON factors (created_at) WHERE confirmed_at IS NULL;

-- A recovery code is kept as its SHA-256, and its row goes when it is used.
CREATE TABLE recovery_codes (
    hash    bytea NOT NULL PRIMARY KEY,
    user_id text  COLLATE "C" NOT NULL REFERENCES users (id) ON DELETE CASCADE
);

CREATE INDEX recovery_codes_user_id ON recovery_codes (user_id);

-- The codes that were tried for a user. One that was right takes its row away.
CREATE TABLE factor_tries (
    id      bigint      NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id text        COLLATE "C" NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    at      timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05);

CREATE INDEX factor_tries_user_id ON factor_tries (user_id, at);
CREATE INDEX factor_tries_at ON factor_tries (at);

-- The pending logins that a factor has completed, so that none is completed twice.
CREATE TABLE completed_logins (
    hash       bytea       NOT NULL PRIMARY KEY,
    expires_at timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05);

CREATE INDEX completed_logins_expires_at ON completed_logins (expires_at);

-- +goose Down

DROP TABLE completed_logins;
DROP TABLE factor_tries;
DROP TABLE recovery_codes;
DROP TABLE factors;
