-- +goose Up

-- A user's live sessions, which logins, lists and ends look for. Those that have ended stay for a while, and may be many.
CREATE INDEX sessions_live ON sessions (user_id, created_at) WHERE revoked_at IS NULL;

-- Where the person was who logged in: a session is theirs, not the back end's that redeems the code.
ALTER TABLE authorization_codes ADD COLUMN ip TEXT NOT NULL DEFAULT '';
ALTER TABLE authorization_codes ADD COLUMN user_agent TEXT NOT NULL DEFAULT '';

-- +goose Down

ALTER TABLE authorization_codes DROP COLUMN user_agent;
ALTER TABLE authorization_codes DROP COLUMN ip;
DROP INDEX sessions_live;
