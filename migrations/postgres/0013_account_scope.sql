-- +goose Up

-- Clients of the operator's own may ask for the scope of the account API, unless they are registered without it.
ALTER TABLE clients ADD COLUMN no_account boolean NOT NULL DEFAULT false;

-- Who logged in without a scope had the account; such sessions keep it.
UPDATE sessions SET scope = 'account' WHERE scope = '' AND revoked_at IS NULL
    AND client_id IN (SELECT id FROM clients WHERE third_party = false);

-- +goose Down

ALTER TABLE clients DROP COLUMN no_account;
