package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/session"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/user"
)

func (p *program) sessionCommand() *cobra.Command {
	return group("session", "List and revoke sessions",
		p.oneUserCommand("session list", "List a user's live sessions",
			func(ctx context.Context, c Config, s store.Store, u user.User) error {
				sessions, err := s.Sessions(ctx, u.ID, c.Clock.Now())
				if err != nil {
					return err
				}
				body := []sessionBody{}
				rows := [][]string{{"SID", "CLIENT", "CREATED", "LAST REFRESH", "REFRESHES", "EXPIRES", "IP", "USER AGENT"}}
				for _, one := range sessions {
					body = append(body, sessionBodyOf(one))
					rows = append(rows, []string{
						one.ID.String(), one.ClientID, when(one.CreatedAt), when(one.RotatedAt), strconv.FormatUint(uint64(one.Generation-1), 10),
						when(one.ExpiresAt), one.IP, one.UserAgent,
					})
				}
				return p.print(body, rows...)
			}),
		p.sessionRevokeCommand(),
	)
}

func (p *program) sessionRevokeCommand() *cobra.Command {
	var id, begunBefore string
	cmd := &cobra.Command{
		Use:   "revoke [SID]",
		Short: "End a session, or all that were begun before a time; their access tokens are refused within a second",
		Long: `End a session, or all sessions that were begun before a time, of every user. Their access tokens are refused within a
second, and they can no longer be refreshed. With --begun-before, logins of browsers that are older end, too.

After an older copy of the database was restored, sessions that had ended since are alive again in it. End all that were begun
before the restored service was started, and block the access tokens: see docs/backup.md.`,
		Example: `  handstamp session revoke ses_ae3kq5mfgmbz7cbvhxqkxmc4qa
  handstamp session revoke --begun-before 2026-11-28T12:00:00Z
  handstamp session revoke --begun-before now`,
		Args: optionalArg("SID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			named, err := theOne("SID", "id", id, args)
			if err != nil {
				return err
			}
			if (named == "") == (begunBefore == "") {
				return usageErrorf("%s needs the SID, which handstamp session list shows, or --begun-before", cmd.CommandPath())
			}
			if named != "" {
				return p.withStore(cmd, func(c Config, s store.Store) error { return p.revokeSession(cmd.Context(), c, s, named) })
			}
			at, err := parseTime("begun-before", begunBefore)
			if err != nil {
				return err
			}
			return p.withStore(cmd, func(c Config, s store.Store) error {
				before := at(c.Clock.Now())
				n, err := service.SessionEnder(c.Config, s).EndBefore(cmd.Context(), before, session.ReasonRevoked, audit.CLI())
				if err != nil {
					return fmt.Errorf("%w; %d sessions have ended, call it again for the rest", err, n)
				}
				return p.say(map[string]any{"begun_before": before.UTC(), "revoked": n},
					"Revoked sessions that were begun before %[2]s: %[1]d.",
					n, when(before))
			})
		},
	}
	cmd.Flags().StringVar(&id, "id", "", "the session's SID")
	cmd.Flags().StringVar(&begunBefore, "begun-before", "", "a time such as 2026-11-28T12:00:00Z, or now")
	return cmd
}

func (p *program) revokeSession(ctx context.Context, c Config, s store.Store, sid string) error {
	id, err := session.ParseID(sid)
	if err != nil {
		return err
	}
	found, err := s.Session(ctx, id)
	if err != nil {
		return err
	}
	if err := service.SessionEnder(c.Config, s).End(ctx, found, session.ReasonRevoked, audit.CLI()); err != nil {
		return err
	}
	return p.say(map[string]string{"id": sid, "state": "revoked"}, "Session %s is revoked.", sid)
}

// parseTime reads a time that is not in the future. The result tells it by the database's clock.
func parseTime(flag, text string) (func(now time.Time) time.Time, error) {
	if text == "now" {
		return func(now time.Time) time.Time { return now }, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return nil, usageErrorf("--%s: %q is neither a time such as %s nor now", flag, text, time.Now().UTC().Format(time.RFC3339))
	}
	if time.Until(t) > 0 {
		return nil, usageErrorf("--%s: %s is in the future", flag, text)
	}
	return func(time.Time) time.Time { return t }, nil
}

// sessionBody is a session as printed.
type sessionBody struct {
	ID            string    `json:"id"`
	UserID        string    `json:"user_id"`
	ClientID      string    `json:"client_id"`
	CreatedAt     time.Time `json:"created_at"`
	LastRefreshAt time.Time `json:"last_refresh_at"`
	Generation    uint32    `json:"generation"`
	ExpiresAt     time.Time `json:"expires_at"`
	IdleExpiresAt time.Time `json:"idle_expires_at"`
	Scope         string    `json:"scope"`
	IP            string    `json:"ip"`
	UserAgent     string    `json:"user_agent"`
}

func sessionBodyOf(s session.Session) sessionBody {
	return sessionBody{
		ID: s.ID.String(), UserID: s.UserID, ClientID: s.ClientID, CreatedAt: s.CreatedAt.UTC(), LastRefreshAt: s.RotatedAt.UTC(),
		Generation:    s.Generation,
		ExpiresAt:     s.ExpiresAt.UTC(),
		IdleExpiresAt: s.IdleExpiresAt.UTC(),
		Scope:         s.Scope,
		IP:            s.IP,
		UserAgent:     s.UserAgent,
	}
}
