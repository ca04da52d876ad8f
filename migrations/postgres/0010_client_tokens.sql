-- +goose Up

-- What tokens of a client look like. Clients that are registered already keep the algorithm that they have for ID tokens, which was that of
-- their access tokens; an empty one is RS256.
ALTER TABLE clients ADD COLUMN pkce_optional boolean NOT NULL DEFAULT false;
ALTER TABLE clients ADD COLUMN id_token_algorithm text NOT NULL DEFAULT '';
ALTER TABLE clients ADD COLUMN id_token_claims boolean; -- NULL: if the client is not a third party
ALTER TABLE clients ADD COLUMN access_token_type text NOT NULL DEFAULT '';
ALTER TABLE clients ADD COLUMN groups_claim text NOT NULL DEFAULT '';

UPDATE clients SET id_token_algorithm = 'access_token';

-- +goose Down

ALTER TABLE clients DROP COLUMN groups_claim;
ALTER TABLE clients DROP COLUMN access_token_type;
ALTER TABLE clients DROP COLUMN id_token_claims;
ALTER TABLE clients DROP COLUMN id_token_algorithm;
ALTER TABLE clients DROP COLUMN pkce_optional;
