-- +goose Up

-- What the service has to tell others. A row is written in the transaction of its cause. Rows of one destination are delivered in the order of their IDs.
CREATE TABLE outbox (
    id           INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    kind         TEXT    NOT NULL,
    destination  TEXT    NOT NULL,
    payload      TEXT    NOT NULL,
    attempts     INTEGER NOT NULL DEFAULT 0, -- begun
    created_at   INTEGER NOT NULL,
    leased_until INTEGER NOT NULL,           -- due from then on
    dead_at      INTEGER,                    -- given up
    reason       TEXT    NOT NULL DEFAULT '' -- why the last attempt failed
) STRICT;

CREATE INDEX outbox_waiting ON outbox (kind, destination, id) WHERE dead_at IS NULL;
CREATE INDEX outbox_dead ON outbox (dead_at) WHERE dead_at IS NOT NULL;

-- Logout tokens are rows of the outbox from now on. The table before it stays for a release, for the program of before.
DROP TRIGGER sessions_ended;

-- +goose StatementBegin
CREATE TRIGGER sessions_ended AFTER UPDATE OF revoked_at ON sessions
WHEN OLD.revoked_at IS NULL AND NEW.revoked_at IS NOT NULL
BEGIN
    INSERT INTO outbox (kind, destination, payload, created_at, leased_until)
    SELECT 'logout', id, json_object('uri', backchannel_logout_uri, 'user_id', NEW.user_id, 'session_id', lower(hex(NEW.id))), NEW.revoked_at, NEW.revoked_at
    FROM clients WHERE id = NEW.client_id AND backchannel_logout_uri <> '';
END;
-- +goose StatementEnd

INSERT INTO outbox (kind, destination, payload, attempts, created_at, leased_until)
SELECT 'logout', client_id, json_object('uri', uri, 'user_id', user_id, 'session_id', lower(hex(session_id))), attempts, created_at, leased_until
FROM logout_deliveries ORDER BY id;

DELETE FROM logout_deliveries;

-- +goose Down

DROP TRIGGER sessions_ended;

-- +goose StatementBegin
CREATE TRIGGER sessions_ended AFTER UPDATE OF revoked_at ON sessions
WHEN OLD.revoked_at IS NULL AND NEW.revoked_at IS NOT NULL
BEGIN
    INSERT INTO logout_deliveries (client_id, uri, user_id, session_id, attempts, created_at, leased_until)
    SELECT id, backchannel_logout_uri, NEW.user_id, NEW.id, 0, NEW.revoked_at, NEW.revoked_at
    FROM clients WHERE id = NEW.client_id AND backchannel_logout_uri <> '';
END;
-- +goose StatementEnd

INSERT INTO logout_deliveries (client_id, uri, user_id, session_id, attempts, created_at, leased_until)
SELECT destination, payload ->> '$.uri', payload ->> '$.user_id', unhex(payload ->> '$.session_id'), attempts, created_at, leased_until
FROM outbox WHERE kind = 'logout' AND dead_at IS NULL ORDER BY id;

DROP TABLE outbox;
