package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/handstamp/handstamp/pkg/store"
)

// SQLSTATE codes (PostgreSQL documentation, appendix A).
const (
	codeWarning          = "01000"
	codeUniqueViolation  = "23505"
	codeReadOnly         = "25006"
	codeSerialization    = "40001"
	codeDeadlock         = "40P01"
	codeLockNotAvailable = "55P03"
	codeUndefinedTable   = "42P01"
	codeUndefinedColumn  = "42703"
	codeNoRight          = "42501"
	codeDuplicateTable   = "42P07"
	classDataException   = "22"
	classIntervention    = "57" // by an operator: the connection was ended, or the server starts or stops
	classConnection      = "08"
	classResources       = "53" // no more connections, memory or disk
)

// errUncertain says that a commit has not reached the standby servers that it should have waited for.
var errUncertain = errors.New("committed here, but perhaps not on the standby")

// step is one statement of a transaction. scan, if not nil, is called for each row. That of the last step may collect rows:
// the transaction is not repeated once it was called. That of an earlier step must be able to begin again.
type step struct {
	sql  string
	args []any
	scan func(rows pgx.Rows) error
}

// one is a statement that returns at most one row.
func one(sql string, scan func(rows pgx.Rows) error, args ...any) step {
	return step{sql: sql, args: args, scan: scan}
}

// do is a statement whose rows nobody needs.
func do(sql string, args ...any) step { return step{sql: sql, args: args} }

// to scans a row into variables.
func to(targets ...any) func(rows pgx.Rows) error {
	return func(rows pgx.Rows) error { return rows.Scan(targets...) }
}

// run carries out the steps in one transaction, and does so again if the server has certainly undone it.
func (db *DB) run(ctx context.Context, doing string, steps ...step) error {
	return db.repeat(ctx, undone, doing, steps)
}

// report carries out one statement that reads many rows, on a connection whose planner chooses for itself. A read that
// has told nothing yet can always be repeated: it is, when its connection turns out to be dead.
func (db *DB) report(ctx context.Context, doing string, s step) error {
	again := func(err error) bool {
		e, refused := errors.AsType[*pgconn.PgError](err)
		return !refused || undone(err) || strings.HasPrefix(e.Code, classIntervention)
	}
	return db.counted(repeat(ctx, db.reports, again, doing, []step{s}))
}

// refresh is run for what refreshes need.
func (db *DB) refresh(ctx context.Context, doing string, steps ...step) error {
	return db.counted(repeat(ctx, db.refreshes, undone, doing, steps))
}

// repeat carries out the steps in one transaction, several times if need be, as long as again says so of the failure.
func (db *DB) repeat(ctx context.Context, again func(err error) bool, doing string, steps []step) error {
	return db.counted(repeat(ctx, db.pool, again, doing, steps))
}

// counted counts failures, but those of callers who have left.
func (db *DB) counted(err error) error {
	if err != nil && !errors.Is(err, context.Canceled) {
		db.failures.Add(1)
	}
	return err
}

func repeat(ctx context.Context, pool *pgxpool.Pool, again func(err error) bool, doing string, steps []step) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	told := false
	steps = slices.Clone(steps)
	if last := &steps[len(steps)-1]; last.scan != nil {
		scan := last.scan
		last.scan = func(rows pgx.Rows) error {
			told = true
			return scan(rows)
		}
	}
	for tries := 1; ; tries++ {
		err := attempt(ctx, pool, steps)
		if err == nil {
			return nil
		}
		if told || tries == maxAttempts || ctx.Err() != nil || !again(err) {
			return failed(doing, err)
		}
	}
}

func attempt(ctx context.Context, pool *pgxpool.Pool, steps []step) error {
	c, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer c.Release()
	forgetUncertainty(c.Conn())

	if len(steps) == 1 {
		rows, err := c.Query(ctx, steps[0].sql, steps[0].args...)
		if err != nil {
			return err
		}
		if err := drain(rows, steps[0].scan); err != nil {
			return err
		}
		return uncertainty(c.Conn())
	}

	// The steps go out together and the transaction ends with the last of them.
	var batch pgx.Batch
	for _, s := range steps {
		batch.Queue(s.sql, s.args...)
	}
	results := c.SendBatch(ctx, &batch)
	for _, s := range steps {
		rows, err := results.Query()
		if err == nil {
			err = drain(rows, s.scan)
		}
		if err != nil {
			return errors.Join(err, ignore(results.Close()))
		}
	}
	if err := results.Close(); err != nil {
		return err
	}
	return uncertainty(c.Conn())
}

// ignore is for the error of an end that a first error already explains.
func ignore(error) error { return nil }

// drain reads all rows. A change is complete when it returns nil, not before.
func drain(rows pgx.Rows, scan func(rows pgx.Rows) error) error {
	defer rows.Close()
	for rows.Next() {
		if scan == nil {
			continue
		}
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// undone reports whether nothing of the transaction has happened or ever will, and another attempt may succeed.
func undone(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (e.Code == codeSerialization || e.Code == codeDeadlock) || pgconn.SafeToRetry(err)
}

// uncertainKey marks a connection in its custom data.
const uncertainKey = "handstamp_uncertain"

// noteUncertainty hears the warning of a commit that stopped waiting for a standby. The server then reports success.
func noteUncertainty(c *pgconn.PgConn, n *pgconn.Notice) {
	if n.Code == codeWarning && (n.Routine == "SyncRepWaitForLSN" || n.Routine == "") {
		c.CustomData()[uncertainKey] = true
	}
}

func forgetUncertainty(c *pgx.Conn) { delete(c.PgConn().CustomData(), uncertainKey) }

func uncertainty(c *pgx.Conn) error {
	if c.PgConn().CustomData()[uncertainKey] != nil {
		return errUncertain
	}
	return nil
}

// failure is a storage failure: what was being done, and why it did not work. It shows neither SQL nor values.
type failure struct {
	doing string
	err   error
}

func failed(doing string, err error) error {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && (e.Code == codeUndefinedTable || e.Code == codeUndefinedColumn) {
		err = fmt.Errorf("%w: %w", store.ErrSchema, err)
	} else if ok {
		err = withRemedy(e, err)
	}
	return &failure{doing: doing, err: err}
}

// withRemedy says what an operator can do about a failure that only an operator can mend.
func withRemedy(e *pgconn.PgError, err error) error {
	switch {
	case e.Code == codeNoRight && strings.Contains(e.Message, " schema "):
		return fmt.Errorf("%w: the role may not make tables: migrate with the address of the owner of the schema, or let the owner "+
			"run GRANT USAGE, CREATE ON SCHEMA public TO the role", err)
	case e.Code == codeNoRight:
		return fmt.Errorf("%w: the role lacks a right: let the owner of the tables run GRANT SELECT, INSERT, UPDATE, DELETE ON ALL "+
			"TABLES IN SCHEMA public TO the role, and GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO the role", err)
	case e.Code == codeDuplicateTable:
		return fmt.Errorf("%w: another program's tables are in the way: give Handstamp a database or schema of its own", err)
	}
	return err
}

// Down reports whether a call has failed because the server cannot be reached or takes no work just now, so that it may
// succeed later: the server is stopped, starts, recovers, is a standby, or has no room.
func Down(err error) bool {
	if err == nil {
		return false
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code == codeReadOnly || len(e.Code) == 5 &&
			slices.Contains([]string{classIntervention, classConnection, classResources}, e.Code[:2])
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	_, ok := errors.AsType[net.Error](err)
	return ok || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
}

// Error implements error. Messages about values that do not fit their type quote them, so only their code is told.
func (f *failure) Error() string {
	if e, ok := errors.AsType[*pgconn.PgError](f.err); ok && len(e.Code) == 5 && e.Code[:2] == classDataException {
		return f.doing + ": the database refused a value (SQLSTATE " + e.Code + ")"
	}
	return f.doing + ": " + f.err.Error()
}

// Unwrap returns the cause.
func (f *failure) Unwrap() error { return f.err }
