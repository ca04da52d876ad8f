-- +goose Up

-- Where the access tokens of a session stand in the status lists. Numbers are never given twice. The first 2^20 are not given to sessions: they
-- are for the tokens that clients get for themselves. A rotation does not write the number. A session that was begun before has none
-- until its user's roles change; giving all of them one here would rewrite the table.
CREATE SEQUENCE status_numbers AS bigint START 1048576 MINVALUE 1048576;

ALTER TABLE sessions ADD COLUMN status_number bigint;
ALTER TABLE sessions ALTER COLUMN status_number SET DEFAULT nextval('status_numbers');

-- Rows are longer now. Pages written from now on keep room for as many new versions as before, also when a batch meets several of their rows.
-- And an analysis is rare, for what it finds hardly changes: while it lasts its snapshot keeps the old versions of rows, so that new ones do not find
-- room in their page. A scale factor of 0.05 had a busy table analyzed every minute.
ALTER TABLE sessions SET (fillfactor = 75, autovacuum_analyze_scale_factor = 10);

CREATE UNIQUE INDEX sessions_status_number ON sessions (status_number) WHERE status_number IS NOT NULL;

-- The numbers of tokens that are revoked, as long as one that carries the number may not have expired.
CREATE TABLE revoked_statuses (
    number    bigint NOT NULL PRIMARY KEY,
    newest_at bigint NOT NULL -- iat of the newest token with the number, Unix seconds
) WITH (autovacuum_vacuum_scale_factor = 0.05);

CREATE INDEX revoked_statuses_newest_at ON revoked_statuses (newest_at);

-- Whatever ends a session or gives it another number revokes the number that its tokens carry, in the same transaction. iat_floor is the iat
-- of the newest of them. This is a trigger because there are many ways, and none may forget it; and one that runs after the
-- change, because one that ran before would make each rotation lock its row a second time.
-- +goose StatementBegin
CREATE FUNCTION revoke_status() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO revoked_statuses AS r (number, newest_at) VALUES (OLD.status_number, OLD.iat_floor)
    ON CONFLICT (number) DO UPDATE SET newest_at = GREATEST(r.newest_at, excluded.newest_at);
    RETURN NULL;
END
$$;
-- +goose StatementEnd

CREATE TRIGGER sessions_status AFTER UPDATE OF revoked_at, status_number ON sessions
    FOR EACH ROW WHEN (OLD.status_number IS NOT NULL
        AND (OLD.status_number IS DISTINCT FROM NEW.status_number OR OLD.revoked_at IS NULL AND NEW.revoked_at IS NOT NULL))
    EXECUTE FUNCTION revoke_status();

-- +goose Down

DROP TRIGGER sessions_status ON sessions;
DROP FUNCTION revoke_status();
DROP TABLE revoked_statuses;
ALTER TABLE sessions SET (fillfactor = 80, autovacuum_analyze_scale_factor = 0.05);
ALTER TABLE sessions DROP COLUMN status_number;
DROP SEQUENCE status_numbers;
