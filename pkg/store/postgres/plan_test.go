package postgres

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/handstamp/handstamp/pkg/store/postgres/pgtest"
)

func TestPlan(t *testing.T) {
	url := pgtest.URL(t)
	db := openURL(t, url, true)
	seed(t, url, 100000)
	ctx := context.Background()
	c, err := db.pool.Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Release()
	if _, err := c.Exec(ctx, "VACUUM ANALYZE sessions"); err != nil { t.Fatal(err) }
	if _, err := c.Exec(ctx, "PREPARE x AS "+rotateMany); err != nil {
		t.Fatal(err)
	}
	var args string
	err = c.QueryRow(ctx, `SELECT format('%L,%L,%L,%L,%L,%L,%L,%L,%L', array_agg(lpad(to_hex(i*100), 32, '0')::uuid), array_agg(decode(lpad(to_hex(i*100), 32, '0'),'hex')), array_agg('default'::text),
		array_agg(1), array_agg(2), array_agg(timestamptz '2026-03-02'), array_agg(timestamptz '2026-03-08'), array_agg(2), array_agg(NULL::bytea)) FROM generate_series(1,64) i`).Scan(&args)
	if err != nil { t.Fatal(err) }
	for range 3 {
	rows, err := c.Query(ctx, "EXPLAIN (ANALYZE, BUFFERS, VERBOSE, WAL) EXECUTE x("+args+")", pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	t.Log(err, "\n"+strings.Join(lines, "\n"))
if _, err := c.Exec(ctx, "UPDATE sessions SET generation=1 WHERE generation=2"); err != nil { t.Fatal(err) }
	}
}
