-- +goose Up

-- Where the access tokens of a session stand in the status lists. Numbers are never given twice. The first 2^20 are not given to sessions: they
-- are for the tokens that clients get for themselves. A rotation does not write the number. A session that was begun before has none
-- until its user's roles change.
ALTER TABLE sessions ADD COLUMN status_number INTEGER;

CREATE UNIQUE INDEX sessions_status_number ON sessions (status_number) WHERE status_number IS NOT NULL;

CREATE TABLE status_numbers (
    one  INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    last INTEGER NOT NULL -- the number that was given last
) STRICT;

INSERT INTO status_numbers (one, last) VALUES (1, 1048575);

-- The numbers of tokens that are revoked, as long as one that carries the number may not have expired.
CREATE TABLE revoked_statuses (
    number    INTEGER NOT NULL PRIMARY KEY,
    newest_at INTEGER NOT NULL -- iat of the newest token with the number, Unix seconds
) STRICT;

CREATE INDEX revoked_statuses_newest_at ON revoked_statuses (newest_at);

-- Whatever ends a session or gives it another number revokes the number that its tokens carry, in the same transaction. iat_floor is the iat
-- of the newest of them. This is a trigger because there are many ways, and none may forget it.
-- +goose StatementBegin
CREATE TRIGGER sessions_status AFTER UPDATE OF revoked_at, status_number ON sessions
WHEN OLD.status_number IS NOT NULL
    AND (OLD.status_number IS NOT NEW.status_number OR OLD.revoked_at IS NULL AND NEW.revoked_at IS NOT NULL)
BEGIN
    INSERT INTO revoked_statuses (number, newest_at) VALUES (OLD.status_number, OLD.iat_floor)
    ON CONFLICT (number) DO UPDATE SET newest_at = max(newest_at, excluded.newest_at);
END;
-- +goose StatementEnd

-- +goose Down

DROP TRIGGER sessions_status;
DROP TABLE revoked_statuses;
DROP TABLE status_numbers;
DROP INDEX sessions_status_number;
ALTER TABLE sessions DROP COLUMN status_number;
