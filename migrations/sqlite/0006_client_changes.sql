-- +goose Up

-- sequence is the head of the feed when the row was last written, as in the blocklist: there is one writer at a time, so numbers become visible
-- in order.
--
-- A deleted client leaves its row, with its ID and nothing else: IDs are not used again, so that what an old client was given can never
-- be taken for a new one's.
ALTER TABLE clients ADD COLUMN sequence INTEGER NOT NULL DEFAULT 0;
ALTER TABLE clients ADD COLUMN deleted_at INTEGER;

CREATE INDEX clients_sequence ON clients (sequence);

CREATE INDEX consents_client_id ON consents (client_id);

-- +goose Down

DROP INDEX consents_client_id;
DROP INDEX clients_sequence;
ALTER TABLE clients DROP COLUMN deleted_at;
ALTER TABLE clients DROP COLUMN sequence;
