-- +goose Up

-- What was sent by mail so that its reader can show to have got it: a link, a code or both. Neither can be read from the row.
CREATE TABLE account_proofs (
    hash       bytea       NOT NULL PRIMARY KEY, -- SHA-256 of the token in the link
    flow       bytea       NOT NULL,             -- SHA-256 of the secret of whoever has asked, which the code is bound to
    code_hash  bytea       NOT NULL,             -- of the code, keyed with that secret
    purpose    text        NOT NULL,
    user_id    text        REFERENCES users (id) ON DELETE CASCADE, -- NULL if the address has no user
    email      text        NOT NULL,             -- that the mail went to, or that is proven by it
    credential bytea       NOT NULL,             -- which password the user had
    data       text        NOT NULL,             -- what else the purpose needs
    tries      integer     NOT NULL DEFAULT 0,   -- of the code
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);

CREATE UNIQUE INDEX account_proofs_flow ON account_proofs (flow);

CREATE INDEX account_proofs_user ON account_proofs (user_id, purpose) WHERE user_id IS NOT NULL;

CREATE INDEX account_proofs_expiry ON account_proofs (expires_at);

-- +goose Down

DROP TABLE account_proofs;
