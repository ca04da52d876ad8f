package main

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/handstamp/handstamp/pkg/store/sqlite"
)

func (p *program) backupCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "backup FILE",
		Short: "Copy the SQLite database into a file, also while the service runs",
		Long: `Copy the SQLite database into a new file with mode 0600, also while the service runs. The copy is the state at one
moment. A copy of data/handstamp.db by other means may lack what still stands in the -wal file beside it.

The master key is not in it. Keep keys/master.key too, at another place: neither is of use without the other.
For PostgreSQL use pg_dump. See docs/backup.md.`,
		Example: "  handstamp backup /backups/handstamp-$(date +%F).db",
		Args:    fileArg("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := p.config(cmd)
			if err != nil {
				return err
			}
			if !onSQLite(c) {
				return errors.New(`this is for SQLite; for PostgreSQL run pg_dump --format=custom --file=` + args[0] +
					` "$HANDSTAMP_DATABASE_URL" (docs/backup.md)`)
			}
			if err := sqlite.Backup(cmd.Context(), string(c.DatabaseURL), args[0]); err != nil {
				return err
			}
			return p.say(map[string]string{"file": args[0]}, "The database is copied to %s. Keep the master key too, apart from it.",
				args[0])
		},
	}
}

func (p *program) restoreCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "restore FILE",
		Short: "Put a backup of the SQLite database into its place, with the right modes",
		Long: `Put a backup of the SQLite database into its place, with mode 0600 whatever the mode of the backup is, after a check that
it is whole. Stop the service first, and move away the database and its -wal and -shm files: nothing is overwritten.

The backup does not know what was revoked after it was made. After the restored service has started, run
  handstamp session revoke --begun-before now
  handstamp blocklist add --all-issued-before now
See docs/backup.md. For PostgreSQL use pg_restore.`,
		Example: "  handstamp restore /backups/handstamp-2026-11-28.db",
		Args:    fileArg("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := p.config(cmd)
			if err != nil {
				return err
			}
			if !onSQLite(c) {
				return errors.New(`this is for SQLite; for PostgreSQL run pg_restore (docs/backup.md)`)
			}
			if err := sqlite.Restore(cmd.Context(), args[0], string(c.DatabaseURL)); err != nil {
				return err
			}
			return p.say(map[string]string{"file": args[0]}, "The database is restored from %s. It does not know what was revoked since: "+
				"start the service,\nand run handstamp session revoke --begun-before now, and handstamp blocklist add "+
				"--all-issued-before now.", args[0])
		},
	}
}

func onSQLite(c Config) bool { return strings.HasPrefix(string(c.DatabaseURL), sqlite.Prefix) }
