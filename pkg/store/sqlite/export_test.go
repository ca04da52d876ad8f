package sqlite

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// Pragma returns a setting of the connection that writes.
func (db *DB) Pragma(t *testing.T, name string) (value string) {
	t.Helper()
	err := db.writer.use(t.Context(), func(c *conn) error {
		_, err := c.one("PRAGMA "+name, func(r *row) { value = fmt.Sprint(r.values[0]) })
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// ReaderCannotWrite checks that the connections for reading refuse to write.
func (db *DB) ReaderCannotWrite(t *testing.T) {
	t.Helper()
	for name, p := range map[string]*pool{"readers": db.readers, "watcher": db.watcher} {
		err := p.use(t.Context(), func(c *conn) error {
			_, err := c.exec("UPDATE feed SET head = head + 1")
			return err
		})
		if err == nil {
			t.Errorf("%s can write", name)
		}
	}
}

// CheckPlans fails for each statement kept by a connection that reads a table from end to end, unless the table is
// small or all of it is wanted.
func (db *DB) CheckPlans(t *testing.T) {
	t.Helper()
	allowed := []string{
		"SCAN feed", "SCAN destinations", "SCAN wanted VIRTUAL TABLE", "SCAN signing_keys", "SCAN goose_db_version",
		"SCAN sqlite_schema",
	}
	checked := 0
	for _, p := range []*pool{db.writer, db.readers, db.watcher} {
		for range cap(p.slots) {
			err := p.use(context.WithoutCancel(t.Context()), func(c *conn) error {
				queries := make([]string, 0, len(c.kept))
				for q := range c.kept {
					queries = append(queries, q)
				}
				for _, q := range queries {
					if strings.HasPrefix(q, "EXPLAIN") {
						continue
					}
					checked++
					err := c.query("EXPLAIN QUERY PLAN "+q, func(r *row) error {
						step, _ := r.values[3].(string)
						// Those that have ended may be many. Only the user's end takes them along.
						if strings.Contains(step, "INDEX sessions_user_id ") && !strings.HasPrefix(q, "DELETE FROM users") {
							t.Errorf("reads the ended sessions of a user: %s\n%s", step, q)
						}
						if !strings.HasPrefix(step, "SCAN ") {
							return nil
						}
						for _, a := range allowed {
							if strings.HasPrefix(step, a) {
								return nil
							}
						}
						t.Errorf("%s\n%s", step, q)
						return nil
					}, make([]any, 32)...)
					if err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if checked < 40 {
		t.Errorf("only %d statements were seen", checked)
	}
}

// HoldWriter takes the connection that writes, as a slow transaction does, until release is called.
func (db *DB) HoldWriter(t *testing.T) (release func()) {
	t.Helper()
	held, done := make(chan struct{}), make(chan struct{})
	go func() {
		err := db.writer.useInTurn(context.WithoutCancel(t.Context()), func(*conn) error {
			close(held)
			<-done
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}()
	<-held
	return func() { close(done) }
}
