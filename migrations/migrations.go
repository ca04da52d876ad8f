// Package migrations holds the database schemas, one directory for each dialect. A number and name means
// the same step in both.
package migrations

import (
	"embed"
	"io/fs"

	"github.com/pressly/goose/v3"
)

//go:embed */*.sql
var files embed.FS

// Postgres returns the migrations for PostgreSQL.
func Postgres() fs.FS { return sub("postgres") }

// SQLite returns the migrations for SQLite.
func SQLite() fs.FS { return sub("sqlite") }

func sub(dir string) fs.FS {
	f, err := fs.Sub(files, dir)
	if err != nil {
		panic(err) // only for a malformed dir, and dir is constant
	}
	return f
}

// Newest returns the number of the last step of a dialect, whose files are given. The steps in Go are among the numbers of
// both dialects.
func Newest(files fs.FS) (int64, error) {
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		return 0, err
	}
	newest := int64(emailSpellings)
	for _, name := range names {
		version, err := goose.NumericComponent(name)
		if err != nil {
			return 0, err
		}
		newest = max(newest, version)
	}
	return newest, nil
}
