-- +goose Up

-- How much mail each recipient has got: a bucket for each, as that of login attempts. Mails themselves are rows of the outbox.
CREATE TABLE mail_budgets (
    key     BLOB    NOT NULL PRIMARY KEY, -- SHA-256 of the budget and the address: whom we write to cannot be read from it
    free_at INTEGER NOT NULL              -- when all mails so far are paid for
) STRICT, WITHOUT ROWID;

CREATE INDEX mail_budgets_free ON mail_budgets (free_at);

-- Operators list the rows of a kind, those that were given up too.
CREATE INDEX outbox_kind ON outbox (kind, id);

-- +goose Down

DELETE FROM outbox WHERE kind = 'mail';

DROP INDEX outbox_kind;

DROP TABLE mail_budgets;
