-- +goose Up

-- Who hears of ended sessions as security events (OpenID Shared Signals Framework 1.0): one stream for each client.
CREATE TABLE signal_streams (
    id               text        COLLATE "C" NOT NULL PRIMARY KEY,
    client_id        text        COLLATE "C" NOT NULL UNIQUE,
    method           text        NOT NULL CHECK (method IN ('push', 'poll')),
    endpoint_url     text        NOT NULL,
    sealed           bytea, -- what the receiver wants in the Authorization header of a push
    description      text        NOT NULL,
    events_requested text[]      NOT NULL,
    delivers         boolean     NOT NULL, -- whether the end of a session is among them
    status           text        NOT NULL CHECK (status IN ('enabled', 'paused', 'disabled')),
    status_reason    text        NOT NULL,
    verified_at      timestamptz, -- when a verification was asked for last
    attempts         bigint      NOT NULL, -- that failed since one succeeded
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL,
    leased_until     timestamptz NOT NULL  -- due from then on
);

-- Subjects that a receiver does not want to hear of: a user, or a session.
CREATE TABLE signal_exclusions (
    stream_id  text COLLATE "C" NOT NULL REFERENCES signal_streams (id) ON DELETE CASCADE,
    user_id    text COLLATE "C" NOT NULL, -- empty for a session
    session_id uuid NOT NULL,             -- zero for a user
    PRIMARY KEY (stream_id, user_id, session_id)
);

-- Events that a receiver has not acknowledged. They outlive the user and the session that they are about. There is no foreign key to the
-- stream: one that is deleted just now must not make the end of a session fail.
CREATE TABLE signal_events (
    id         bigint      NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream_id  text        COLLATE "C" NOT NULL,
    jti        text        COLLATE "C" NOT NULL DEFAULT translate(gen_random_uuid()::text, '-', ''),
    kind       text        NOT NULL CHECK (kind IN ('session-revoked', 'verification', 'stream-updated')),
    user_id    text        COLLATE "C" NOT NULL DEFAULT '',
    session_id uuid,
    reason     text        NOT NULL DEFAULT '',
    state      text        NOT NULL DEFAULT '', -- of a verification; of a stream that was updated, its status
    refusals   bigint      NOT NULL DEFAULT 0,
    at         timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05);

CREATE UNIQUE INDEX signal_events_jti ON signal_events (stream_id, jti);
CREATE INDEX signal_events_stream ON signal_events (stream_id, id);
CREATE INDEX signal_events_at ON signal_events (at);

-- Whatever ends a session leaves an event for each stream, in the same transaction.
-- +goose StatementBegin
CREATE FUNCTION add_signal_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO signal_events (stream_id, kind, user_id, session_id, reason, at)
    SELECT t.id, 'session-revoked', NEW.user_id, NEW.id, NEW.revoke_reason, NEW.revoked_at
    FROM signal_streams t
    WHERE t.delivers AND t.status <> 'disabled' AND NOT EXISTS (
        SELECT FROM signal_exclusions x WHERE x.stream_id = t.id
            AND (x.user_id, x.session_id) IN ((NEW.user_id, '00000000-0000-0000-0000-000000000000'::uuid), ('', NEW.id)));
    RETURN NULL;
END
$$;
-- +goose StatementEnd

CREATE TRIGGER sessions_signal AFTER UPDATE OF revoked_at ON sessions
    FOR EACH ROW WHEN (OLD.revoked_at IS NULL AND NEW.revoked_at IS NOT NULL) EXECUTE FUNCTION add_signal_events();

-- +goose Down

DROP TRIGGER sessions_signal ON sessions;
DROP FUNCTION add_signal_events();
DROP TABLE signal_events;
DROP TABLE signal_exclusions;
DROP TABLE signal_streams;
