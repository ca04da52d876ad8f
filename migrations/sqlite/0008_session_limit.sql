-- +goose Up

-- Nothing to change here; the number is that of the other dialect.
SELECT 1;

-- +goose Down

SELECT 1;
