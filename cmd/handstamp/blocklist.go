package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/keyring"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/verifier"
)

func (p *program) blocklistCommand() *cobra.Command {
	return group("blocklist", "Block access tokens", p.blocklistAddCommand())
}

func (p *program) blocklistAddCommand() *cobra.Command {
	var issuedBefore string
	cmd := &cobra.Command{
		Use:   "add",
		Short: "Block all access tokens that were minted before a time; every replica and verifier refuses them within a second",
		Long: `Block all access tokens that were minted before a time, of every user and client. Every replica, and every verifier that
follows the feed, refuses them within a second. Sessions stay alive: the next refresh gives a token that is accepted.

Times in tokens are whole seconds: one that is minted in the rest of the second of the time is refused, too.

Use it after an older copy of the database was restored: what was revoked since the copy was made is unknown in it.
See docs/backup.md.`,
		Example: "  handstamp blocklist add --all-issued-before now",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if issuedBefore == "" {
				return usageErrorf("--all-issued-before is missing")
			}
			at, err := parseTime("all-issued-before", issuedBefore)
			if err != nil {
				return err
			}
			return p.withStore(cmd, func(c Config, s store.Store) error {
				now := c.Clock.Now()
				before := at(now)
				records, err := s.SigningKeys(cmd.Context())
				if err != nil {
					return err
				}
				until := service.SessionEnder(c.Config, s).BlockUntil()
				blocked := 0
				for _, r := range records {
					if r.State == keyring.StateRevoked { // its tokens are blocked for good
						continue
					}
					entry := blocklist.Entry{
						Key: verifier.KeyOf(verifier.BlockKID, r.ID), NotBefore: lastSecondBefore(before), DropAfter: until,
					}
					if err := s.Block(cmd.Context(), entry, audit.TokensBlocked(now, "issued_before", audit.CLI())); err != nil {
						return err
					}
					blocked++
				}
				return p.say(map[string]any{"issued_before": before.UTC(), "signing_keys": blocked},
					"Access tokens that were minted before %s are blocked.", when(before))
			})
		},
	}
	cmd.Flags().StringVar(&issuedBefore, "all-issued-before", "", "a time such as 2026-11-28T12:00:00Z, or now")
	return cmd
}

// lastSecondBefore is the latest iat before a time.
func lastSecondBefore(t time.Time) time.Time { return t.Add(-time.Nanosecond).Truncate(time.Second) }
