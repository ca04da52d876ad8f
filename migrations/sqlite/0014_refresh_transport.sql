-- +goose Up

-- How a client's refresh token travels: in the body, which empty means, or in a cookie.
ALTER TABLE clients ADD COLUMN refresh_transport TEXT NOT NULL DEFAULT '';

-- The session that a session was forked from. It has the parent's ends, and ends with it. There is no foreign key: both are swept at the
-- same end, in any order.
ALTER TABLE sessions ADD COLUMN parent_id BLOB;
CREATE INDEX sessions_parent_id ON sessions (parent_id) WHERE parent_id IS NOT NULL;

-- +goose Down

DROP INDEX sessions_parent_id;
ALTER TABLE sessions DROP COLUMN parent_id;
ALTER TABLE clients DROP COLUMN refresh_transport;
