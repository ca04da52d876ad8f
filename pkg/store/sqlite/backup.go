package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Backup writes a copy of a database, which may be in use, to a new file with mode 0600: the state at one moment, in one file
// without a log beside it. ErrNoFile if there is no database. A file that exists is not overwritten.
func Backup(ctx context.Context, databaseURL, target string) (err error) {
	db, err := OpenExisting(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return write(target, func() error {
		// SQLite fills a file that is empty, and so one with our mode. It reads in one transaction, beside writers.
		return db.writer.use(ctx, func(c *conn) error {
			_, err := c.exec(`VACUUM INTO ?`, target)
			return err
		})
	})
}

// Restore copies a backup to where a database has to be, with mode 0600 and in directories with 0700, after a check that it is
// whole and ours. Nothing may be there: neither a database, nor a log of one, which would be applied to the copy.
func Restore(ctx context.Context, source, databaseURL string) (err error) {
	path, err := parse(databaseURL)
	if err != nil {
		return err
	}
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s exists: stop the service, and move this file away", name)
		}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := write(path, func() error { return copyInto(source, path) }); err != nil {
		return err
	}
	if err := checkWhole(ctx, databaseURL); err != nil {
		return errors.Join(fmt.Errorf("%s: %w", source, err), os.Remove(path))
	}
	return nil
}

// write makes a file that does not exist, has it filled, and makes it durable. After an error it is gone.
func write(target string, fill func() error) (err error) {
	file, err := os.OpenFile(target, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists: choose another name, or move it away", target)
	}
	if err != nil {
		return err
	}
	err = errors.Join(fill(), file.Sync(), file.Close())
	if err == nil {
		err = syncDirectory(filepath.Dir(target))
	}
	if err != nil {
		return errors.Join(err, os.Remove(target))
	}
	return nil
}

func syncDirectory(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func copyInto(source, target string) (err error) {
	from, err := os.Open(source)
	if err != nil {
		return err
	}
	defer from.Close()
	info, err := from.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", source)
	}
	to, err := os.OpenFile(target, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Close())
}

// checkWhole reads a database from end to end.
func checkWhole(ctx context.Context, databaseURL string) (err error) {
	db, err := OpenExisting(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var result string
	if err := db.read(ctx, "check database", func(c *conn) error {
		_, err := c.one(`PRAGMA integrity_check(1)`, func(r *row) { r.scan(&result) })
		return err
	}); err != nil {
		return err
	}
	if result != "ok" {
		return fmt.Errorf("the database is damaged: %s", result)
	}
	current, _, err := db.Schema(ctx)
	if err == nil && current == 0 {
		err = errors.New("it is no database of Handstamp")
	}
	return err
}

// Checkpoint implements store.Store. It moves what stands in the log to the main file, as far as no reader still needs it, so
// that a copy of that file alone is not far behind. Nobody waits for it.
func (db *DB) Checkpoint(ctx context.Context) error {
	return wrap("checkpoint", db.writer.use(ctx, func(c *conn) error {
		_, err := c.one(`PRAGMA wal_checkpoint(PASSIVE)`, func(*row) {})
		return err
	}))
}
