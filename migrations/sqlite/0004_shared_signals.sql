-- +goose Up

-- Who hears of ended sessions as security events (OpenID Shared Signals Framework 1.0): one stream for each client.
CREATE TABLE signal_streams (
    id               TEXT    NOT NULL PRIMARY KEY,
    client_id        TEXT    NOT NULL UNIQUE,
    method           TEXT    NOT NULL CHECK (method IN ('push', 'poll')),
    endpoint_url     TEXT    NOT NULL,
    sealed           BLOB, -- what the receiver wants in the Authorization header of a push
    description      TEXT    NOT NULL,
    events_requested TEXT    NOT NULL,
    delivers         INTEGER NOT NULL, -- whether the end of a session is among them
    status           TEXT    NOT NULL CHECK (status IN ('enabled', 'paused', 'disabled')),
    status_reason    TEXT    NOT NULL,
    verified_at      INTEGER, -- when a verification was asked for last
    attempts         INTEGER NOT NULL, -- that failed since one succeeded
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL,
    leased_until     INTEGER NOT NULL  -- due from then on
) STRICT;

CREATE INDEX signal_streams_leased_until ON signal_streams (leased_until);

-- Subjects that a receiver does not want to hear of: a user, or a session.
CREATE TABLE signal_exclusions (
    stream_id  TEXT NOT NULL REFERENCES signal_streams (id) ON DELETE CASCADE,
    user_id    TEXT NOT NULL, -- empty for a session
    session_id BLOB NOT NULL, -- zero for a user
    PRIMARY KEY (stream_id, user_id, session_id)
) STRICT, WITHOUT ROWID;

-- Events that a receiver has not acknowledged. They outlive the user and the session that they are about. An ID is never given twice.
CREATE TABLE signal_events (
    id         INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    stream_id  TEXT    NOT NULL,
    jti        TEXT    NOT NULL DEFAULT (lower(hex(randomblob(16)))),
    kind       TEXT    NOT NULL CHECK (kind IN ('session-revoked', 'verification', 'stream-updated')),
    user_id    TEXT    NOT NULL DEFAULT '',
    session_id BLOB    NOT NULL DEFAULT (zeroblob(16)),
    reason     TEXT    NOT NULL DEFAULT '',
    state      TEXT    NOT NULL DEFAULT '', -- of a verification; of a stream that was updated, its status
    refusals   INTEGER NOT NULL DEFAULT 0,
    at         INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX signal_events_jti ON signal_events (stream_id, jti);
CREATE INDEX signal_events_stream ON signal_events (stream_id, id);
CREATE INDEX signal_events_at ON signal_events (at);

-- Whatever ends a session leaves an event for each stream, in the same transaction.
-- +goose StatementBegin
CREATE TRIGGER sessions_signal AFTER UPDATE OF revoked_at ON sessions
WHEN OLD.revoked_at IS NULL AND NEW.revoked_at IS NOT NULL
BEGIN
    INSERT INTO signal_events (stream_id, kind, user_id, session_id, reason, at)
    SELECT t.id, 'session-revoked', NEW.user_id, NEW.id, NEW.revoke_reason, NEW.revoked_at
    FROM signal_streams t
    WHERE t.delivers AND t.status <> 'disabled'
        AND NOT EXISTS (SELECT 1 FROM signal_exclusions x WHERE x.stream_id = t.id AND x.user_id = NEW.user_id AND x.session_id = zeroblob(16))
        AND NOT EXISTS (SELECT 1 FROM signal_exclusions x WHERE x.stream_id = t.id AND x.user_id = '' AND x.session_id = NEW.id);
END;
-- +goose StatementEnd

-- +goose Down

DROP TRIGGER sessions_signal;
DROP TABLE signal_events;
DROP TABLE signal_exclusions;
DROP TABLE signal_streams;
