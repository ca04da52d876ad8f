// Package sqlite keeps everything in one SQLite file.
//
// One connection writes, a few read. The package uses the driver's own interface and keeps statements prepared:
// database/sql would start a goroutine for each statement of a request that can be cancelled, and interrupt the statement. Here a
// cancelled request stops waiting for its turn, but a statement that has begun finishes, so its outcome is never in doubt.
//
// Each commit syncs the write-ahead log, so every acknowledged write survives a power cut. Other processes, such as
// commands on the same file, may read and write at the same time.
package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/store"
)

// Prefix starts the URL of an SQLite database; the rest is the path of its file.
const Prefix = "sqlite:"

const (
	// busyTimeout is how long a statement waits for another process that writes.
	busyTimeout = 3 * time.Second
	// readers is how many statements read at once.
	readers = 4
)

var _ store.Store = (*DB)(nil)

// DB is an open database.
type DB struct {
	writer  *pool
	readers *pool
	watcher *pool // one connection, whose view of data_version is compared over time

	wake wake

	// wrote is when the last change was committed, in Unix nanoseconds; zero after one that failed.
	wrote    atomic.Int64
	failures atomic.Int64
}

// Open opens the file that a URL names, "sqlite:PATH", and makes it and its directory if need be. It does not migrate.
//
// The file holds password hashes: it is made with mode 0600, its directory with 0700, and a file that [seal.CheckFile] refuses is
// refused, as is a symbolic link in its place.
func Open(ctx context.Context, databaseURL string) (*DB, error) {
	path, err := parse(databaseURL)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if err := create(path); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	return open(ctx, path)
}

// ErrNoFile says that there is no database where one has to be.
var ErrNoFile = errors.New("there is no database")

// OpenExisting is Open for a database that has to be there. ErrNoFile.
func OpenExisting(ctx context.Context, databaseURL string) (*DB, error) {
	path, err := parse(databaseURL)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w at %s: go to the folder of the service, or name the database with --database-url or "+
			"HANDSTAMP_DATABASE_URL; to make a new one, run handstamp migrate up", ErrNoFile, path)
	}
	return open(ctx, path)
}

// Check reports what is wrong with a URL, and with the modes of the files if they exist.
func Check(databaseURL string) error {
	path, err := parse(databaseURL)
	if err != nil {
		return err
	}
	return checkModes(path)
}

func open(ctx context.Context, path string) (*DB, error) {
	if err := checkModes(path); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	db := &DB{
		writer:  newPool(1, source(path, false)),
		readers: newPool(readers, source(path, true)),
		watcher: newPool(1, source(path, true)),
		wake:    wake{changed: make(chan struct{})},
	}
	if err := db.writer.use(ctx, useWAL(ctx)); err != nil {
		return nil, errors.Join(fmt.Errorf("open database: %w", err), db.Close())
	}
	return db, nil
}

// parse returns the absolute path of the file.
func parse(databaseURL string) (string, error) {
	path, ok := strings.CutPrefix(databaseURL, Prefix)
	switch {
	case !ok:
		return "", fmt.Errorf("the URL must be %sPATH", Prefix)
	case path == "" || strings.HasPrefix(path, ":") || strings.HasSuffix(path, "/"):
		return "", fmt.Errorf("%sPATH must name a file", Prefix)
	case strings.HasPrefix(path, "//") && !strings.HasPrefix(path, "///"):
		return "", fmt.Errorf("%s takes a path and no host: write %sPATH", Prefix, Prefix)
	case strings.ContainsAny(path, "?\x00"):
		return "", fmt.Errorf("%sPATH takes no options", Prefix)
	}
	return filepath.Abs(path)
}

// create makes the file if it does not exist.
func create(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		err = file.Close()
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// checkModes checks that nobody else may read the files. SQLite gives the log and the shared memory beside the database the same
// mode.
func checkModes(path string) error {
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		info, err := os.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := seal.CheckFile(name, info); err != nil {
			return err
		}
	}
	return nil
}

// source is the driver's name for the file. The path is escaped, so that nothing in it is taken for an option.
func source(path string, readOnly bool) string {
	p := filepath.ToSlash(path)
	if !strings.HasPrefix(p, "/") {
		p = "/" + p // a Windows drive
	}
	q := url.Values{
		"_busy_timeout": {fmt.Sprint(busyTimeout.Milliseconds())},
		"_foreign_keys": {"on"},
		"_synchronous":  {"FULL"},
		"_defensive":    {"1"}, // no statement can damage the file on purpose
		"_dqs":          {"0"},
		"_error_rc":     {"1"},
		"_pragma": {
			"trusted_schema(0)",
			"temp_store(MEMORY)", // nothing in the directory for temporary files
			"secure_delete(FAST)",
			"journal_size_limit(67108864)",
		},
	}
	if readOnly {
		q.Set("_query_only", "on")
	} else {
		q.Add("_pragma", "cache_size(-16384)") // KiB: the sessions that are refreshed just now
	}
	return "file://" + (&url.URL{Path: p}).EscapedPath() + "?" + q.Encode()
}

// useWAL changes a new database to the write-ahead log, once: the mode is kept in the file. SQLite does not wait for
// another process that does the same, so we do.
func useWAL(ctx context.Context) func(c *conn) error {
	return func(c *conn) error {
		var mode string
		for wait := time.Millisecond; ; wait *= 2 {
			_, err := c.one("PRAGMA journal_mode = WAL", func(r *row) { r.scan(&mode) })
			if err == nil && mode == "wal" {
				return nil
			}
			if err == nil {
				return fmt.Errorf("the file system cannot keep a write-ahead log (journal mode %s)", mode)
			}
			if !isCode(err, sqlite3.SQLITE_BUSY) || wait > busyTimeout/2 {
				return err
			}
			if err := sleep(ctx, wait); err != nil {
				return err
			}
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// wroteLately is for how long a committed change shows that the database takes writes.
const wroteLately = time.Second

// Ping writes to the file, unless something was just written: a disk that is full shows only then. What is written is the
// number for applications in the head of the file, which nobody reads: SQLite writes it even if it is the same.
func (db *DB) Ping(ctx context.Context) error {
	now := time.Now() //nolint:forbidigo // how long ago the file was written has nothing to do with the times in it
	since := now.Sub(time.Unix(0, db.wrote.Load()))
	return db.write(ctx, "ping database", func(c *conn) error {
		if since >= 0 && since < wroteLately {
			return errRollback
		}
		_, err := c.exec("PRAGMA user_version = 0")
		return err
	})
}

// Now implements store.Store: a file has no clock but that of the machine, which every process that opens it shares.
func (db *DB) Now(context.Context) (time.Time, error) {
	return time.Now(), nil //nolint:forbidigo // see above
}

// Close waits for running statements and closes the file.
func (db *DB) Close() error {
	db.wake.close()
	return errors.Join(db.readers.close(), db.watcher.close(), db.writer.close())
}

// errRollback ends a transaction without a change and without an error.
var errRollback = errors.New("roll back")

// write runs do in a transaction that is committed if do returns nil. It holds the one write lock from the start, so nothing
// that do reads can change before it writes.
func (db *DB) write(ctx context.Context, doing string, do func(c *conn) error) error {
	return db.writeBy(ctx, db.writer.useInTurn, doing, do)
}

// refresh is write for what refreshes need: of all that wait to write, they go first.
func (db *DB) refresh(ctx context.Context, doing string, do func(c *conn) error) error {
	return db.writeBy(ctx, db.writer.use, doing, do)
}

func (db *DB) writeBy(ctx context.Context, use func(context.Context, func(c *conn) error) error, doing string,
	do func(c *conn) error) error {
	err := use(ctx, func(c *conn) error { return c.transaction(do) })
	if errors.Is(err, errRollback) {
		return nil
	}
	switch _, failed := errors.AsType[*sqlite.Error](err); {
	case err == nil:
		db.wrote.Store(time.Now().UnixNano()) //nolint:forbidigo // see Ping
	case failed:
		db.wrote.Store(0)
	}
	return db.failed(doing, err)
}

// read runs do on a connection that cannot write.
func (db *DB) read(ctx context.Context, doing string, do func(c *conn) error) error {
	return db.failed(doing, db.readers.use(ctx, do))
}

// failed is wrap, and counts failures of storage.
func (db *DB) failed(doing string, err error) error {
	if _, ok := errors.AsType[*sqlite.Error](err); ok {
		db.failures.Add(1)
	}
	return wrap(doing, err)
}

// Stats implements store.Store.
func (db *DB) Stats() store.Stats {
	s := store.Stats{Failures: db.failures.Load()}
	for _, p := range []*pool{db.writer, db.readers, db.watcher} {
		s.Connections += cap(p.slots)
		s.InUse += cap(p.slots) - len(p.slots)
		s.Waits += p.waits.Load()
		s.Waited += time.Duration(p.waited.Load())
	}
	return s
}

func wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// errClosed is returned after Close.
var errClosed = errors.New("database is closed")

// pool lends connections to one goroutine each.
type pool struct {
	source string
	slots  chan *conn    // a nil connection is one that has yet to be opened
	turn   chan struct{} // holds an element while somebody has it who came in turn
	done   chan struct{}
	once   sync.Once

	waits, waited atomic.Int64 // calls that waited, and how long, in nanoseconds
}

func newPool(size int, source string) *pool {
	p := &pool{source: source, slots: make(chan *conn, size), turn: make(chan struct{}, 1), done: make(chan struct{})}
	for range size {
		p.slots <- nil
	}
	return p
}

// use waits for a connection, or until ctx ends, and lends it to do.
func (p *pool) use(ctx context.Context, do func(c *conn) error) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	c, err := p.take(ctx)
	if err != nil {
		return err
	}
	sound := false // stays so if do panics
	defer func() {
		if c != nil && !sound {
			err = errors.Join(err, c.close())
			c = nil
		}
		p.slots <- c
	}()
	if c == nil {
		if c, err = connect(p.source); err != nil {
			return err
		}
	}
	err = do(c)
	sound = !c.failed
	return err
}

// useInTurn is use for those who let others go first: they wait for each other, and only one of them at a time waits for the
// connection.
func (p *pool) useInTurn(ctx context.Context, do func(c *conn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-p.done:
		return errClosed
	}
	defer func() { <-p.turn }()
	return p.use(ctx, do)
}

// take waits for a connection, or until ctx ends.
func (p *pool) take(ctx context.Context) (*conn, error) {
	select {
	case <-p.done:
		return nil, errClosed
	default:
	}
	select {
	case c := <-p.slots:
		return c, nil
	default:
	}
	began := time.Now() //nolint:forbidigo // measures how long
	p.waits.Add(1)
	defer func() { p.waited.Add(int64(time.Since(began))) }() //nolint:forbidigo // see above
	select {
	case c := <-p.slots:
		return c, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-p.done:
		return nil, errClosed
	}
}

// close waits for every connection to come back, and closes it.
func (p *pool) close() (err error) {
	p.once.Do(func() {
		close(p.done)
		for range cap(p.slots) {
			if c := <-p.slots; c != nil {
				err = errors.Join(err, c.close())
			}
		}
	})
	return err
}

// connect opens a connection. It takes no context: the driver would interrupt the connection when it ends.
func connect(source string) (*conn, error) {
	connector, err := sqlite.NewConnector(source)
	if err != nil {
		return nil, err
	}
	raw, err := connector.Connect(context.Background())
	if err != nil {
		return nil, err
	}
	return &conn{raw: raw, kept: make(map[string]statement)}, nil
}

// isCode reports whether an error is SQLite's with this primary result code.
func isCode(err error, code int) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && e.Code()&0xff == code
}
