-- +goose Up

-- How a client's refresh token travels: in the body, which empty means, or in a cookie.
ALTER TABLE clients ADD COLUMN refresh_transport text NOT NULL DEFAULT '';

-- +goose Down

ALTER TABLE clients DROP COLUMN refresh_transport;
