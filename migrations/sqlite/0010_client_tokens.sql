-- +goose Up

-- What tokens of a client look like. Clients that are registered already keep the algorithm that they have for ID tokens, which was that of
-- their access tokens; an empty one is RS256.
ALTER TABLE clients ADD COLUMN pkce_optional INTEGER NOT NULL DEFAULT 0;
ALTER TABLE clients ADD COLUMN id_token_algorithm TEXT NOT NULL DEFAULT '';
ALTER TABLE clients ADD COLUMN id_token_claims INTEGER; -- NULL: if the client is not a third party
ALTER TABLE clients ADD COLUMN access_token_type TEXT NOT NULL DEFAULT '';
ALTER TABLE clients ADD COLUMN groups_claim TEXT NOT NULL DEFAULT '';

UPDATE clients SET id_token_algorithm = 'access_token';

-- +goose Down

ALTER TABLE clients DROP COLUMN groups_claim;
ALTER TABLE clients DROP COLUMN access_token_type;
ALTER TABLE clients DROP COLUMN id_token_claims;
ALTER TABLE clients DROP COLUMN id_token_algorithm;
ALTER TABLE clients DROP COLUMN pkce_optional;
