-- +goose Up

-- xid is the transaction that last wrote the row, as in the blocklist: a reader that remembers which transactions were still running when it
-- read finds what they committed since, in whatever order they did.
--
-- A deleted client leaves its row, with its ID and nothing else: IDs are not used again, so that what an old client was given can never
-- be taken for a new one's. That is also why sessions need no foreign key.
ALTER TABLE clients ADD COLUMN xid xid8 NOT NULL DEFAULT pg_current_xact_id();
ALTER TABLE clients ADD COLUMN deleted_at timestamptz;

CREATE INDEX clients_xid ON clients (xid);

-- A program of the version before does not know the column.
-- +goose StatementBegin
CREATE FUNCTION note_client_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.xid = pg_current_xact_id();
    RETURN NEW;
END
$$;
-- +goose StatementEnd

CREATE TRIGGER clients_changed BEFORE INSERT OR UPDATE ON clients FOR EACH ROW EXECUTE FUNCTION note_client_change();

CREATE INDEX consents_client_id ON consents (client_id);

-- +goose Down

DROP INDEX consents_client_id;
DROP TRIGGER clients_changed ON clients;
DROP FUNCTION note_client_change();
DROP INDEX clients_xid;
ALTER TABLE clients DROP COLUMN deleted_at;
ALTER TABLE clients DROP COLUMN xid;
