-- +goose Up

-- What was sent by mail so that its reader can show to have got it: a link, a code or both. Neither can be read from the row.
CREATE TABLE account_proofs (
    hash       BLOB    NOT NULL PRIMARY KEY, -- SHA-256 of the token in the link
    flow       BLOB    NOT NULL,             -- SHA-256 of the secret of whoever has asked, which the code is bound to
    code_hash  BLOB    NOT NULL,             -- of the code, keyed with that secret
    purpose    TEXT    NOT NULL,
    user_id    TEXT    REFERENCES users (id) ON DELETE CASCADE, -- NULL if the address has no user
    email      TEXT    NOT NULL,             -- that the mail went to, or that is proven by it
    credential BLOB    NOT NULL,             -- which password the user had
    data       TEXT    NOT NULL,             -- what else the purpose needs
    tries      INTEGER NOT NULL DEFAULT 0,   -- of the code
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX account_proofs_flow ON account_proofs (flow);

CREATE INDEX account_proofs_user ON account_proofs (user_id, purpose) WHERE user_id IS NOT NULL;

CREATE INDEX account_proofs_expiry ON account_proofs (expires_at);

-- +goose Down

DROP TABLE account_proofs;
