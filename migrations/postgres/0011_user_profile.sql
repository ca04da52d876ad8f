-- +goose Up

-- Optional attributes of a user, by the names of OpenID Connect Core, section 5.1.
ALTER TABLE users ADD COLUMN profile jsonb NOT NULL DEFAULT '{}';

-- +goose Down

ALTER TABLE users DROP COLUMN profile;
