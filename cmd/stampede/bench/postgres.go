package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// database is one database of this run on the PostgreSQL server that the environment names, and pgbench beside it.
type database struct {
	conn       *pgx.Conn
	name       string
	version    string
	bin        string // directory of pgbench, empty: PATH
	postmaster int    // process ID of the server, 0 if it is not on this machine
}

// openDatabase makes the database. It refuses a server that does not write commits to disk: every figure would be worthless.
func openDatabase(ctx context.Context, url, bin string) (*database, error) {
	if url == "" {
		return nil, errors.New("HANDSTAMP_TEST_DATABASE_URL is not set: run scripts/bench, which provides a PostgreSQL server")
	}
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("parse HANDSTAMP_TEST_DATABASE_URL: %w", err)
	}
	admin, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	d := &database{name: "handstamp_bench_" + strings.ToLower(rand.Text()[:8]), bin: bin}
	if _, err = admin.Exec(ctx, "CREATE DATABASE "+d.name); err != nil {
		return nil, errors.Join(err, admin.Close(ctx))
	}
	if err := admin.Close(ctx); err != nil {
		return nil, err
	}
	config.Database = d.name
	if d.conn, err = pgx.ConnectConfig(ctx, config); err != nil {
		return nil, err
	}
	for _, setting := range []string{"fsync", "synchronous_commit", "full_page_writes"} {
		var value string
		if err := d.conn.QueryRow(ctx, "SELECT current_setting($1)", setting).Scan(&value); err != nil {
			return nil, errors.Join(err, d.drop(ctx))
		}
		if value != "on" {
			return nil, errors.Join(fmt.Errorf("%s is %s on this server: measure with the default durability", setting, value),
				d.drop(ctx))
		}
	}
	if err := d.conn.QueryRow(ctx, "SELECT current_setting('server_version')").Scan(&d.version); err != nil {
		return nil, errors.Join(err, d.drop(ctx))
	}
	if ip := net.ParseIP(config.Host); config.Host == "localhost" || strings.HasPrefix(config.Host, "/") ||
		ip != nil && ip.IsLoopback() {
		_, d.postmaster = cpuOf(int(d.conn.PgConn().PID()))
	}
	return d, nil
}

// drop removes the database and closes the connection.
func (d *database) drop(ctx context.Context) error {
	config := d.conn.Config().Copy()
	_ = d.conn.Close(ctx)
	config.Database = "postgres"
	admin, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	_, err = admin.Exec(ctx, "DROP DATABASE "+d.name+" WITH (FORCE)")
	return errors.Join(err, admin.Close(ctx))
}

// address is the host:port of the server.
func (d *database) address() string {
	c := d.conn.Config()
	return net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port)))
}

// url names this database at address, which is the server's or that of a proxy before it.
func (d *database) url(address string) string {
	c := d.conn.Config()
	user := c.User
	if c.Password != "" {
		user += ":" + c.Password
	}
	return fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", user, address, d.name)
}

// tableRows is how many sessions stand in each table; only some of them are active during the run.
const tableRows = 100_000

// prepareReference makes the table that pgbench works on: the columns that a rotation changes, the same fill factor, as
// many rows.
func (d *database) prepareReference(ctx context.Context) error {
	_, err := d.conn.Exec(ctx, `
		CREATE SCHEMA reference;
		CREATE TABLE reference.sessions (
			id bigint PRIMARY KEY, generation bigint NOT NULL, rotated_at timestamptz NOT NULL, idle_expires_at timestamptz NOT NULL,
			last_request_hash bytea, user_id text NOT NULL, nonce bytea NOT NULL, expires_at timestamptz NOT NULL, revoked_at timestamptz,
			scope text NOT NULL, created_at timestamptz NOT NULL
		) WITH (fillfactor = 80);
		INSERT INTO reference.sessions
		SELECT i, 0, now(), now() + '7 days', sha256(int8send(i)), 'usr_' || md5(i::text), substring(sha256(int8send(i)) for 16),
			now() + '30 days', NULL, '', now()
		FROM generate_series(1, `+strconv.Itoa(tableRows)+`) AS i;`)
	if err != nil {
		return fmt.Errorf("make the reference table: %w", err)
	}
	return nil
}

// fillSessions brings the service's table to the same size, with copies of its own rows under other IDs. What the
// database numbers by itself gets numbers of its own.
func (d *database) fillSessions(ctx context.Context) error {
	var columns string
	err := d.conn.QueryRow(ctx, `SELECT string_agg(quote_ident(column_name), ', ' ORDER BY ordinal_position)
		FROM information_schema.columns
		WHERE table_schema = 'public' AND table_name = 'sessions' AND column_name <> 'id' AND column_default IS NULL`).Scan(&columns)
	if err != nil {
		return fmt.Errorf("read the columns of sessions: %w", err)
	}
	_, err = d.conn.Exec(ctx, fmt.Sprintf(`INSERT INTO sessions (id, %s) SELECT gen_random_uuid(), %s FROM sessions,
		generate_series(1, greatest(1, %d / (SELECT count(*) FROM sessions)))`, columns, columns, tableRows))
	if err != nil {
		return fmt.Errorf("fill sessions: %w", err)
	}
	return nil
}

// settle vacuums and checkpoints, so that no repetition pays for what came before.
func (d *database) settle(ctx context.Context) error {
	for _, sql := range []string{"VACUUM ANALYZE", "CHECKPOINT"} {
		if _, err := d.conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}

// walPosition is how many bytes of write-ahead log the server has written since it exists.
func (d *database) walPosition(ctx context.Context) (n float64, err error) {
	err = d.conn.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").Scan(&n)
	return n, err
}

// tableCounters are the statistics of sessions.
type tableCounters struct{ inserted, updated, hot, bytes float64 }

// counters reads the statistics once they stop moving: backends report them when they come to rest, up to ten seconds late.
func (d *database) counters(ctx context.Context) (c tableCounters, err error) {
	for quiet := 0; quiet < 4; {
		var now tableCounters
		err := d.conn.QueryRow(ctx, `SELECT n_tup_ins, n_tup_upd, n_tup_hot_upd, pg_total_relation_size(relid)
			FROM pg_stat_user_tables WHERE schemaname = 'public' AND relname = 'sessions'`).Scan(&now.inserted, &now.updated, &now.hot,
			&now.bytes)
		if err != nil {
			return c, fmt.Errorf("read statistics: %w", err)
		}
		if quiet++; now != c {
			c, quiet = now, 0
		}
		time.Sleep(3 * time.Second)
	}
	return c, nil
}

// pgbench runs the reference statement, prepared, for two seconds or more with so many connections and returns
// transactions per second. Each connection has rows of its own among those that active sessions would occupy, as the
// service's clients have: nobody waits for another's row lock.
func (d *database) pgbench(ctx context.Context, dir string, connections, active int, duration time.Duration) (float64, error) {
	script := filepath.Join(dir, "advance.sql")
	err := os.WriteFile(script, []byte(`\set id :client_id + 1 + :connections * random(0, :active / :connections - 1)
UPDATE reference.sessions SET generation = generation + 1, rotated_at = now(), idle_expires_at = now() + interval '7 days'
WHERE id = :id AND generation >= 0 AND revoked_at IS NULL AND expires_at > now();
`), 0o600)
	if err != nil {
		return 0, err
	}
	program := "pgbench"
	if d.bin != "" {
		program = filepath.Join(d.bin, program)
	}
	if program, err = exec.LookPath(program); err != nil {
		return 0, fmt.Errorf("find pgbench: %w (set HANDSTAMP_TEST_PG_BIN)", err)
	}
	n := strconv.Itoa(connections)
	out, err := output(ctx, dir, program, "-n", "-M", "prepared", "-f", script, "-c", n, "-j", strconv.Itoa(min(connections, 2)),
		"-T", strconv.Itoa(max(2, int(duration.Seconds()))), "-D", "connections="+n, "-D", "active="+strconv.Itoa(active),
		d.url(d.address()))
	if err != nil {
		return 0, err
	}
	return parsePgbench(out)
}

// parsePgbench finds the rate without the time to connect.
func parsePgbench(out []byte) (float64, error) {
	m := regexp.MustCompile(`(?m)^tps = ([0-9.]+)`).FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("pgbench printed no rate: %.300s", out)
	}
	return strconv.ParseFloat(string(m[1]), 64)
}
