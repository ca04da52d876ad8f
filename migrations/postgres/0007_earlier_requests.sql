-- +goose Up

-- The hashes of the Idempotency-Keys that made the generations before, newest first, 16 bytes each: what an older generation
-- presents with its own key is a late copy of an honest request. NULL while no key was seen.
ALTER TABLE sessions ADD COLUMN earlier_requests bytea;

-- +goose Down

ALTER TABLE sessions DROP COLUMN earlier_requests;
