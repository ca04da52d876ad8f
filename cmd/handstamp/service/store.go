package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/store/postgres"
	"github.com/handstamp/handstamp/pkg/store/sqlite"
)

// OpenStore opens the database that a URL names. One that has to exist is not made: the error is then sqlite.ErrNoFile.
func OpenStore(ctx context.Context, databaseURL string, log *slog.Logger, exists bool) (store.Store, error) {
	if strings.HasPrefix(databaseURL, sqlite.Prefix) {
		if exists {
			return sqlite.OpenExisting(ctx, databaseURL)
		}
		return sqlite.Open(ctx, databaseURL)
	}
	return postgres.Open(ctx, databaseURL, postgres.Options{Log: log})
}

// OpenCurrentStore opens the database, makes sure that its schema fits this program, and sets the clock by it.
func OpenCurrentStore(ctx context.Context, c Config, log *slog.Logger) (store.Store, error) {
	s, err := OpenStore(ctx, string(c.DatabaseURL), log, false)
	if err != nil {
		return nil, err
	}
	return current(ctx, c, s, log)
}

// OpenExistingStore is OpenCurrentStore for commands: in the wrong folder there is no database, and they make none.
func OpenExistingStore(ctx context.Context, c Config, log *slog.Logger) (store.Store, error) {
	s, err := OpenStore(ctx, string(c.DatabaseURL), log, true)
	if err != nil {
		return nil, err
	}
	return current(ctx, c, s, log)
}

func current(ctx context.Context, c Config, s store.Store, log *slog.Logger) (_ store.Store, err error) {
	if strings.HasPrefix(string(c.DatabaseURL), sqlite.Prefix) || c.Migrate {
		err = s.Migrate(ctx)
	}
	if err == nil {
		err = CheckSchema(ctx, s)
	}
	if err == nil {
		err = measure(ctx, c.Clock, s)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if current, newest, err := s.Schema(ctx); err == nil && current > newest {
		log.WarnContext(ctx, "the database was migrated by a newer release: the release before that one can use it, an older one "+
			"may not; run the newer release, or restore the backup that was made before the upgrade",
			"database_version", current, "program_version", newest)
	}
	return s, nil
}

// Down reports whether a failure of the database may be over later, so that waiting makes sense.
func Down(err error) bool { return postgres.Down(err) }

// CheckSchema fails with store.ErrSchema if migrations are missing.
func CheckSchema(ctx context.Context, s store.Store) error {
	current, newest, err := s.Schema(ctx)
	if err != nil {
		return err
	}
	if current < newest {
		return fmt.Errorf("%w: the database is at version %d, this program needs %d; run handstamp migrate up", store.ErrSchema,
			current, newest)
	}
	return nil // a newer schema is one that this program was promised to run on: changes first expand, then contract
}
