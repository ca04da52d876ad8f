// Package postgres keeps everything in PostgreSQL, version 14 or later.
//
// Every method is one transaction, and most are one statement, which makes the method's decision on rows that
// it locks itself. Where a change of a user must reach sessions that a parallel login is just creating, the user's row
// is written first and the sessions by a later statement of the same transaction, which sees what the login has
// committed while the first one waited for its lock. Several statements travel in one message and commit at
// its end, so that no lock waits for the network.
//
// Statements lock sessions in the order of their IDs. The isolation level is READ COMMITTED.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/handstamp/handstamp/pkg/store"
)

const (
	// statementTimeout ends a statement on the server, lockTimeout one that waits for a row.
	statementTimeout = 10 * time.Second
	lockTimeout      = 2 * time.Second
	// idleTimeout ends a transaction whose client has gone silent, and with it its locks.
	idleTimeout = 5 * time.Second
	// patience bounds what the server cannot: waiting for a free connection, and for a server that does not answer.
	patience = statementTimeout + 2*time.Second
	// connectTimeout bounds the making of a connection.
	connectTimeout = 5 * time.Second
	// lastWord is how long a statement may go on after its caller has given up. It nearly always ends within, and the connection
	// is kept; otherwise every impatient client would cost one.
	lastWord = time.Second
	// maxAttempts is how often a transaction is run that the server undid to resolve a conflict.
	maxAttempts = 4
)

var _ store.Store = (*DB)(nil)

// DB is an open database.
type DB struct {
	pool      *pgxpool.Pool
	refreshes *pgxpool.Pool   // of the same connections' share: a crowd of anything else leaves refreshes theirs
	reports   *pgxpool.Pool   // for what reads many rows: few connections, with the planner's own choice of plans
	config    *pgx.ConnConfig // of the listener, and of migrations
	wake      wake
	failures  atomic.Int64
}

// Options are for what the URL does not say. The zero value is usable.
type Options struct {
	// Log hears about settings of the server that weaken the service. Nil for nobody.
	Log *slog.Logger
}

// Open prepares a pool for the database that a URL names, "postgres://USER:PASSWORD@HOST:PORT/DATABASE?PARAMETER=VALUE"
// (several hosts separated by commas for a replicated server: the one that takes writes is used). It does not
// connect and does not migrate. No error of this package holds the URL or any part of its password.
//
// Besides the parameters of libpq the URL takes those of pgxpool, such as pool_max_conns (default: 2 for each core, and
// 2). Of these, two are for refreshes alone if there are four or more. Beside them there are at most two connections for
// lists and reports, and one that listens.
//
// Behind a pooler that hands out connections by transaction, such as PgBouncer, use
// default_query_exec_mode=cache_describe (exec is taken for it). Then nothing is set on the connections, because a
// pooler would refuse it or hand it to others: set statement_timeout, lock_timeout and
// idle_in_transaction_session_timeout for the role. Notifications do not pass such a pooler, so replicas learn of
// changes by polling.
func Open(ctx context.Context, databaseURL string, o Options) (*DB, error) {
	config, err := parse(databaseURL)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if o.Log != nil {
		var once sync.Once
		config.AfterConnect = func(ctx context.Context, c *pgx.Conn) error {
			var err error
			once.Do(func() { err = warn(ctx, c, o.Log) })
			return err
		}
	}
	ofRefreshes := config.Copy()
	ofRefreshes.MaxConns = maxRefreshes
	ofRefreshes.MinConns, ofRefreshes.MinIdleConns = min(config.MinConns, 1), 0
	shared := config.MaxConns < 2*maxRefreshes
	if !shared {
		config.MaxConns -= maxRefreshes
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, failed("open database", err)
	}
	refreshes := pool
	if !shared {
		if refreshes, err = pgxpool.NewWithConfig(ctx, ofRefreshes); err != nil {
			pool.Close()
			return nil, failed("open database", err)
		}
	}
	reports, err := pgxpool.NewWithConfig(ctx, forReports(config))
	if err != nil {
		refreshes.Close()
		pool.Close()
		return nil, failed("open database", err)
	}
	return &DB{
		pool:      pool,
		refreshes: refreshes,
		reports:   reports,
		config:    config.ConnConfig,
		wake:      newWake(),
	}, nil
}

// pointPlans are the settings of the connections that look rows up by an index. A plan made while a table was still
// empty, or by statistics that know nothing about the length of an array, must not say otherwise: so there is one plan
// for each statement, and it is this one.
func pointPlans() map[string]string {
	return map[string]string{
		"plan_cache_mode":  "force_generic_plan",
		"enable_seqscan":   "off",
		"enable_hashjoin":  "off",
		"enable_mergejoin": "off",
		"jit":              "off", // these plans look expensive enough for it where no index can help
	}
}

// withoutPointPlans gives the choice of plans back to the planner.
func withoutPointPlans(c *pgx.ConnConfig) {
	for name, value := range pointPlans() {
		if c.RuntimeParams[name] == value {
			delete(c.RuntimeParams, name)
		}
	}
}

// maxRefreshes is the number of connections that are for refreshes alone. Refreshes of one replica that come together share a
// statement, so there is one at a time, and now and then one that repeats an answer.
const maxRefreshes = 2

// maxReports is the number of connections for lists and reports. A long one never takes a connection away from a refresh.
const maxReports = 2

// forReports is the configuration of the pool for what reads many rows. A connection is made at the first list, and
// given back when idle.
func forReports(config *pgxpool.Config) *pgxpool.Config {
	config = config.Copy()
	config.AfterConnect = nil
	config.MaxConns = min(config.MaxConns, maxReports)
	config.MinConns, config.MinIdleConns = 0, 0
	withoutPointPlans(config.ConnConfig)
	return config
}

// Check reports what is wrong with a URL, without a connection.
func Check(databaseURL string) error {
	_, err := parse(databaseURL)
	return err
}

// parse makes the pool's configuration. What pgx and net/url say about a URL they cannot read may quote any part of it, so
// it is not repeated.
func parse(databaseURL string) (*pgxpool.Config, error) {
	u, err := url.Parse(databaseURL)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		return nil, errors.New("the URL must be postgres://USER:PASSWORD@HOST:PORT/DATABASE, with %-escapes for special characters " +
			"in user and password")
	}
	// An @ after the host is the one behind a password with a character that ended it early. What stands before the @
	// would be sent to a server, and stand in errors, as a port, a database or a parameter.
	if strings.Contains(u.EscapedPath()+u.RawQuery+u.EscapedFragment(), "@") || strings.Contains(databaseURL, "#") {
		return nil, errors.New("an @ or # stands behind the host: in user and password write / as %2F, # as %23, ? as %3F and @ as " +
			"%40, and elsewhere, too, @ as %40 and # as %23")
	}
	config, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		return nil, errors.New("a host, port or parameter of the URL is not valid, or a file that it names cannot be read")
	}
	c := config.ConnConfig
	switch c.DefaultQueryExecMode {
	case pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe:
	case pgx.QueryExecModeSimpleProtocol:
		return nil, errors.New("default_query_exec_mode=simple_protocol puts values into the text of statements: use cache_describe")
	default:
		// The others work where this one does. It knows the types of a result beforehand and gets it in binary.
		c.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}

	set := func(name, value string) {
		if _, given := c.RuntimeParams[name]; !given {
			c.RuntimeParams[name] = value
		}
	}
	set("application_name", "handstamp")
	// Literals in statements have backslashes. Poolers keep this one setting apart for each client, so it may always be set.
	c.RuntimeParams["standard_conforming_strings"] = "on"
	if c.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement {
		set("statement_timeout", milliseconds(statementTimeout))
		set("lock_timeout", milliseconds(lockTimeout))
		set("idle_in_transaction_session_timeout", milliseconds(idleTimeout))
		set("default_transaction_isolation", "read committed")
		for name, value := range pointPlans() {
			set(name, value)
		}
	}

	if !u.Query().Has("pool_max_conns") {
		// A connection is busy on a core or waits for the disk; more of them only make the server switch between them.
		config.MaxConns = int32(max(4, 2*runtime.GOMAXPROCS(0)+2)) //nolint:gosec // a number of cores
	}
	if !u.Query().Has("pool_max_conn_lifetime_jitter") {
		config.MaxConnLifetimeJitter = config.MaxConnLifetime / 10
	}
	config.PingTimeout = lockTimeout
	if c.ConnectTimeout == 0 || !u.Query().Has("connect_timeout") {
		c.ConnectTimeout = connectTimeout
	}
	if !u.Query().Has("target_session_attrs") {
		c.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite // after a failover, the old primary will not do
	}
	c.DialFunc = (&net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3,
	}}).DialContext
	c.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.DeadlineContextWatcherHandler{Conn: c.Conn(), DeadlineDelay: lastWord}
	}
	c.OnNotice = noteUncertainty
	closeOnFatal := c.OnPgError
	c.OnPgError = func(c *pgconn.PgConn, err *pgconn.PgError) bool {
		return err.Code != codeReadOnly && closeOnFatal(c, err)
	}
	return config, nil
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// warn tells of what the service can live with, but should not have to.
func warn(ctx context.Context, c *pgx.Conn, logger *slog.Logger) error {
	var user, commit string
	err := c.QueryRow(ctx, "SELECT current_user::text, current_setting('synchronous_commit')").Scan(&user, &commit)
	if err != nil {
		return err
	}
	if c.PgConn().ParameterStatus("is_superuser") == "on" {
		logger.LogAttrs(ctx, slog.LevelWarn, "the database role is a superuser: give the service a role of its own that only reads "+
			"and writes its tables",
			slog.String("role", user))
	}
	if commit == "off" {
		logger.LogAttrs(ctx, slog.LevelWarn, "synchronous_commit is off: a crash of the database can undo an acknowledged revocation")
	}
	return nil
}

// Ping implements store.Store.
func (db *DB) Ping(ctx context.Context) error {
	var readOnly bool
	err := db.run(ctx, "ping database", one("SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean",
		to(&readOnly)))
	if err == nil && readOnly {
		return errors.New("ping database: it is read-only")
	}
	return err
}

// Now implements store.Store.
func (db *DB) Now(ctx context.Context) (at time.Time, err error) {
	err = db.run(ctx, "read clock", one("SELECT clock_timestamp()", to(&at)))
	return at, err
}

// Checkpoint implements store.Store. The server does by itself what it needs.
func (db *DB) Checkpoint(context.Context) error { return nil }

// Stats implements store.Store.
func (db *DB) Stats() store.Stats {
	s := store.Stats{Failures: db.failures.Load()}
	pools := []*pgxpool.Pool{db.pool, db.reports}
	if db.refreshes != db.pool {
		pools = append(pools, db.refreshes)
	}
	for _, p := range pools {
		stat := p.Stat()
		s.Connections += int(stat.MaxConns())
		s.InUse += int(stat.AcquiredConns())
		s.Waits += stat.EmptyAcquireCount()
		s.Waited += stat.EmptyAcquireWaitTime()
	}
	return s
}

// Close implements store.Store.
func (db *DB) Close() error {
	db.wake.stop()
	db.reports.Close()
	db.refreshes.Close()
	db.pool.Close()
	return nil
}
