package main

import (
	"errors"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/pkg/store"
)

func (p *program) migrateCommand() *cobra.Command {
	return group("migrate", "Bring the database schema up to date",
		&cobra.Command{
			Use:     "up",
			Short:   "Apply the missing migrations; several replicas may do so at once",
			Example: "  handstamp migrate up --database-url postgres://handstamp@db/handstamp",
			Args:    noArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return p.withAnyStore(cmd, false, func(s store.Store) error {
					before, _, err := s.Schema(cmd.Context())
					if err != nil {
						return err
					}
					if err := s.Migrate(cmd.Context()); err != nil {
						return err
					}
					after, _, err := s.Schema(cmd.Context())
					if err != nil {
						return err
					}
					body := map[string]int64{"from": before, "to": after}
					if before == after {
						return p.say(body, "The schema is up to date at version %d.", after)
					}
					return p.say(body, "The schema is now at version %d (was %d).", after, before)
				})
			},
		},
		&cobra.Command{
			Use:   "status",
			Short: "Show the schema versions of the database and of this program; exits with 1 if migrations are missing",
			Args:  noArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return p.withAnyStore(cmd, true, func(s store.Store) error {
					current, newest, err := s.Schema(cmd.Context())
					if err != nil {
						return err
					}
					err = p.say(map[string]any{"current": current, "newest": newest, "up_to_date": current >= newest},
						"The database is at version %d, this program knows %d.", current, newest)
					return errors.Join(err, service.CheckSchema(cmd.Context(), s))
				})
			},
		},
	)
}

// withAnyStore runs a command against the database whatever its schema is. One that has to exist is not made.
func (p *program) withAnyStore(cmd *cobra.Command, exists bool, do func(store.Store) error) error {
	c, err := p.config(cmd)
	if err != nil {
		return err
	}
	s, err := service.OpenStore(cmd.Context(), string(c.DatabaseURL), p.commandLog(c), exists)
	if err != nil {
		return err
	}
	return errors.Join(do(s), s.Close())
}

// withStore runs a command against the database of a service, which may be running.
func (p *program) withStore(cmd *cobra.Command, do func(Config, store.Store) error) error {
	c, err := p.config(cmd)
	if err != nil {
		return err
	}
	s, err := service.OpenExistingStore(cmd.Context(), c.Config, p.commandLog(c))
	if err != nil {
		return err
	}
	return errors.Join(do(c, s), s.Close())
}

// commandLog tells a person what goes wrong, and nothing else.
func (p *program) commandLog(c Config) *slog.Logger {
	c.LogLevel, c.LogFormat = "warn", "text"
	return newLogger(c, p.stderr)
}
