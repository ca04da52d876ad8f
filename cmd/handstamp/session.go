package main

import (
	"context"
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
		p.oneUserCommand("list", "List a user's live sessions", func(ctx context.Context, c Config, s store.Store, u user.User) error {
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
		&cobra.Command{
			Use:   "revoke SID",
			Short: "End a session; its access tokens are refused within a second",
			Args:  oneArg("the SID, which handstamp session list shows"),
			RunE: func(cmd *cobra.Command, args []string) error {
				return p.withStore(cmd, func(c Config, s store.Store) error {
					ctx := cmd.Context()
					id, err := session.ParseID(args[0])
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
					return p.say(map[string]string{"id": args[0], "state": "revoked"}, "Session %s is revoked.", args[0])
				})
			},
		},
	)
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
