package service_test

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/clock"
	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/store"
)

// versioned is a database with a schema of some version.
type versioned struct {
	store.Store
	current, newest int64
	err             error
}

func (s versioned) Schema(context.Context) (current, newest int64, err error) {
	return s.current, s.newest, s.err
}

func TestCheckSchema(t *testing.T) {
	away := errors.New("database is away")
	for name, test := range map[string]struct {
		store versioned
		want  error
	}{
		"ok/the program's own":         {versioned{current: 7, newest: 7}, nil},
		"ok/of a newer program":        {versioned{current: 9, newest: 7}, nil},
		"fail/of an older program":     {versioned{current: 6, newest: 7}, store.ErrSchema},
		"fail/never migrated":          {versioned{newest: 7}, store.ErrSchema},
		"fail/the database is away":    {versioned{err: away}, away},
		"fail/away, and what it holds": {versioned{current: 7, newest: 7, err: away}, away},
	} {
		t.Run(name, func(t *testing.T) {
			err := service.CheckSchema(t.Context(), test.store)
			if !errors.Is(err, test.want) || (err == nil) != (test.want == nil) {
				t.Errorf("%v, want %v", err, test.want)
			}
			if errors.Is(err, store.ErrSchema) && !strings.Contains(err.Error(), "handstamp migrate up") {
				t.Errorf("%q does not say what to do", err)
			}
		})
	}
}

func TestOpenCurrentStore(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	sqlite := func(t *testing.T) string { return servicetest.SQLite(t).URL }
	postgres := func(t *testing.T) string { return servicetest.Postgres(t).URL }
	for name, test := range map[string]struct {
		url     func(t *testing.T) string
		migrate bool
		want    error
	}{
		"ok/SQLite migrates by itself":   {sqlite, false, nil},
		"ok/PostgreSQL, told to migrate": {postgres, true, nil},
		"fail/PostgreSQL, not told to":   {postgres, false, store.ErrSchema},
	} {
		t.Run(name, func(t *testing.T) {
			c := service.Config{Clock: clock.New(time.Now), DatabaseURL: seal.Secret(test.url(t)), Migrate: test.migrate}
			s, err := service.OpenCurrentStore(t.Context(), c, log)
			if !errors.Is(err, test.want) || (err == nil) != (test.want == nil) || (s == nil) != (err != nil) {
				t.Fatalf("%v, want %v", err, test.want)
			}
			if s != nil {
				must(t, s.Ping(t.Context()))
				must(t, s.Close())
			}
		})
	}

	const secret = "s3cret-of-the-database"
	for name, url := range map[string]string{
		"fail/not a URL":                 "::" + secret,
		"fail/another database":          "mysql://handstamp:" + secret + "@127.0.0.1/handstamp",
		"fail/nobody listens":            "postgres://handstamp:" + secret + "@127.0.0.1:1/handstamp?sslmode=disable",
		"fail/a port that is none":       "postgres://handstamp:" + secret + "@127.0.0.1:port/handstamp",
		"fail/a directory that is none":  "sqlite:" + filepath.Join("missing", "\x00", "handstamp.db"),
		"fail/SQLite where no file goes": "sqlite:/dev/null/handstamp.db",
	} {
		t.Run(name, func(t *testing.T) {
			s, err := service.OpenCurrentStore(t.Context(), service.Config{Clock: clock.New(time.Now), DatabaseURL: seal.Secret(url)}, log)
			if err == nil || s != nil {
				t.Fatal("it was opened")
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%q holds the password of the database", err)
			}
			if errors.Is(err, store.ErrSchema) {
				t.Errorf("%q blames the schema", err)
			}
		})
	}
}

// TestNewerSchema opens a database that a newer release has migrated: it is served, since changes first expand, and the
// operator is told.
func TestNewerSchema(t *testing.T) {
	db := servicetest.SQLite(t)
	c := service.Config{Clock: clock.New(time.Now), DatabaseURL: seal.Secret(db.URL)}
	open := func() string {
		t.Helper()
		logged := &servicetest.Log{}
		s, err := service.OpenCurrentStore(t.Context(), c, slog.New(slog.NewTextHandler(logged, nil)))
		must(t, err)
		must(t, s.Close())
		return logged.String()
	}
	if logged := open(); logged != "" {
		t.Errorf("the program's own: %s", logged)
	}
	raw, err := sql.Open("sqlite", strings.TrimPrefix(db.URL, "sqlite:"))
	must(t, err)
	_, err = raw.ExecContext(t.Context(), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)")
	must(t, errors.Join(err, raw.Close()))
	if logged := open(); !strings.Contains(logged, "migrated by a newer release") ||
		!strings.Contains(logged, "database_version=9999") {
		t.Errorf("a newer one: %s", logged)
	}
}
