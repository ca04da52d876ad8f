-- +goose Up

-- What the service has to tell others. A row is written in the transaction of its cause. Rows of one destination are delivered in the order of their IDs.
CREATE TABLE outbox (
    id           bigint      NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind         text        COLLATE "C" NOT NULL,
    destination  text        COLLATE "C" NOT NULL,
    payload      text        NOT NULL,
    attempts     bigint      NOT NULL DEFAULT 0, -- begun
    created_at   timestamptz NOT NULL,
    leased_until timestamptz NOT NULL,           -- due from then on
    dead_at      timestamptz,                    -- given up
    reason       text        NOT NULL DEFAULT '' -- why the last attempt failed
) WITH (autovacuum_vacuum_scale_factor = 0.05);

CREATE INDEX outbox_waiting ON outbox (kind, destination, id) WHERE dead_at IS NULL;
CREATE INDEX outbox_dead ON outbox (dead_at) WHERE dead_at IS NOT NULL;

-- Logout tokens are rows of the outbox from now on. The table before it stays for a release: a transaction that is under way may still write to
-- it, and the service moves such rows.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION add_logout_delivery() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO outbox (kind, destination, payload, created_at, leased_until)
    SELECT 'logout', c.id, json_build_object('uri', c.backchannel_logout_uri, 'user_id', NEW.user_id, 'session_id', translate(NEW.id::text, '-', '')),
        NEW.revoked_at, NEW.revoked_at
    FROM clients c WHERE c.id = NEW.client_id AND c.backchannel_logout_uri <> '';
    RETURN NULL;
END
$$;
-- +goose StatementEnd

WITH moved AS (
    DELETE FROM logout_deliveries RETURNING *
) INSERT INTO outbox (kind, destination, payload, attempts, created_at, leased_until)
SELECT 'logout', client_id, json_build_object('uri', uri, 'user_id', user_id, 'session_id', translate(session_id::text, '-', '')), attempts, created_at, leased_until
FROM moved ORDER BY id;

-- +goose Down

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION add_logout_delivery() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO logout_deliveries (client_id, uri, user_id, session_id, attempts, created_at, leased_until)
    SELECT c.id, c.backchannel_logout_uri, NEW.user_id, NEW.id, 0, NEW.revoked_at, NEW.revoked_at
    FROM clients c WHERE c.id = NEW.client_id AND c.backchannel_logout_uri <> '';
    RETURN NULL;
END
$$;
-- +goose StatementEnd

INSERT INTO logout_deliveries (client_id, uri, user_id, session_id, attempts, created_at, leased_until)
SELECT destination, payload::json ->> 'uri', payload::json ->> 'user_id', (payload::json ->> 'session_id')::uuid, attempts, created_at, leased_until
FROM outbox WHERE kind = 'logout' AND dead_at IS NULL ORDER BY id;

DROP TABLE outbox;
