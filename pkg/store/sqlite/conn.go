package sqlite

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	sqlite3 "modernc.org/sqlite/lib"

	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/user"
)

// statement is what the driver's prepared statements can do.
type statement interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

// conn is a connection with its statements, used by one goroutine at a time.
type conn struct {
	raw    driver.Conn
	kept   map[string]statement
	args   []driver.NamedValue
	row    row
	failed bool // its state is not known: it must be closed
}

// transaction runs do between BEGIN IMMEDIATE and COMMIT.
func (c *conn) transaction(do func(c *conn) error) error {
	if _, err := c.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if err := do(c); err != nil {
		if _, undo := c.exec("ROLLBACK"); undo != nil {
			c.failed = true // closing rolls back
		}
		return err
	}
	if _, err := c.exec("COMMIT"); err != nil {
		// Whether the transaction is still open depends on the failure. Closing ends it either way.
		c.failed = true
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// exec runs a statement and says how many rows it changed.
func (c *conn) exec(query string, args ...any) (int64, error) {
	s, values, err := c.prepare(query, args)
	if err != nil {
		return 0, err
	}
	result, err := s.ExecContext(context.Background(), values)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// query runs a statement to its end and hands each row to each. A change is complete when query returns nil, not before.
func (c *conn) query(query string, each func(r *row) error, args ...any) (err error) {
	s, values, err := c.prepare(query, args)
	if err != nil {
		return err
	}
	rows, err := s.QueryContext(context.Background(), values)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()

	width := len(rows.Columns())
	if cap(c.row.values) < width {
		c.row.values = make([]driver.Value, width)
	}
	c.row.values = c.row.values[:width]
	for {
		if err := rows.Next(c.row.values); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		c.row.err = nil
		if err := each(&c.row); err != nil {
			return err
		}
		if c.row.err != nil {
			return c.row.err
		}
	}
}

// one runs a statement that returns at most one row, and reports whether it did.
func (c *conn) one(query string, scan func(r *row), args ...any) (found bool, err error) {
	err = c.query(query, func(r *row) error {
		found = true
		scan(r)
		return nil
	}, args...)
	return found, err
}

// prepare finds or makes the statement. The values are good until the next call.
func (c *conn) prepare(query string, args []any) (statement, []driver.NamedValue, error) {
	s, ok := c.kept[query]
	if !ok {
		prepared, err := c.raw.Prepare(query)
		if isCode(err, sqlite3.SQLITE_ERROR) {
			return nil, nil, fmt.Errorf("%w: %w", store.ErrSchema, err) // a table or column is missing
		}
		if err != nil {
			return nil, nil, err
		}
		s = prepared.(statement) //nolint:forcetypeassert // pinned driver version
		c.kept[query] = s
	}
	c.args = c.args[:0]
	for i, a := range args {
		c.args = append(c.args, driver.NamedValue{Ordinal: i + 1, Value: value(a)})
	}
	return s, c.args, nil
}

// close finalizes the statements first: a connection with open statements would keep its locks.
func (c *conn) close() error {
	var errs []error
	for _, s := range c.kept {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, c.raw.Close())...)
}

// value is how a Go value is stored: a time as microseconds (the zero time as NULL), a list as JSON.
func value(v any) driver.Value {
	switch v := v.(type) {
	case time.Time:
		if v.IsZero() {
			return nil
		}
		return v.UnixMicro()
	case *time.Duration:
		if v == nil {
			return nil
		}
		return v.Microseconds()
	case []string:
		if len(v) == 0 {
			return "[]"
		}
		text, err := json.Marshal(v)
		if err != nil {
			panic(err) // strings always have a JSON form
		}
		return string(text)
	case []byte:
		if v == nil {
			return nil
		}
		return v
	case bool:
		if v {
			return int64(1)
		}
		return int64(0)
	case *bool:
		if v == nil {
			return nil
		}
		return value(*v)
	case *string:
		if v == nil {
			return nil
		}
		return *v
	case user.Profile:
		return object(v)
	case map[string]*string:
		if v == nil {
			return "{}"
		}
		return object(v)
	case int:
		return int64(v)
	case uint32:
		return int64(v)
	default:
		return v
	}
}

// object is a value as a JSON object.
func object(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // texts only
	}
	return string(text)
}

// row is one row of an answer.
type row struct {
	values []driver.Value
	err    error
}

// scan copies the columns in order. It is the inverse of value; a []byte is filled, a *[]byte replaced.
func (r *row) scan(targets ...any) {
	for i, target := range targets {
		ok := true
		switch to := target.(type) {
		case *string:
			*to, ok = r.values[i].(string)
		case *int64:
			*to, ok = r.values[i].(int64)
		case *uint32:
			var n int64
			n, ok = r.values[i].(int64)
			*to = uint32(n) //nolint:gosec // written from one
		case *bool:
			var n int64
			n, ok = r.values[i].(int64)
			*to = n != 0
		case []byte:
			var b []byte
			b, ok = r.values[i].([]byte)
			ok = ok && copy(to, b) == len(to)
		case *[]byte:
			*to, _ = r.values[i].([]byte)
		case *time.Time:
			var n int64
			n, ok = r.values[i].(int64)
			*to = time.UnixMicro(n).UTC()
			if r.values[i] == nil {
				*to, ok = time.Time{}, true
			}
		case **bool:
			*to, ok = nil, r.values[i] == nil
			if n, some := r.values[i].(int64); some {
				*to, ok = new(n != 0), true
			}
		case **time.Duration:
			*to, ok = nil, r.values[i] == nil
			if n, some := r.values[i].(int64); some {
				*to, ok = new(time.Duration(n)*time.Microsecond), true
			}
		case *[]string:
			*to, ok = list(r.values[i])
		case *user.Profile:
			var text string
			text, ok = r.values[i].(string)
			ok = ok && json.Unmarshal([]byte(text), to) == nil
		default:
			ok = false
		}
		if !ok && r.err == nil {
			r.err = fmt.Errorf("column %d holds %T, want %T", i+1, r.values[i], target)
		}
	}
}

func list(v driver.Value) (out []string, ok bool) {
	text, ok := v.(string)
	if text == "[]" {
		return nil, true
	}
	if len(text) > 4 && !strings.Contains(text, `\`) { // then every quote is a delimiter
		return strings.Split(text[2:len(text)-2], `","`), true
	}
	return out, ok && json.Unmarshal([]byte(text), &out) == nil
}
