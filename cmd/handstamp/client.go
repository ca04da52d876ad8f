package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/verifier"
)

func (p *program) clientCommand() *cobra.Command {
	return group("client", "Create, list, show, change, disable, enable and delete clients",
		p.clientCreateCommand(), p.clientListCommand(),
		p.oneClientCommand("show", "Show a client, and the addresses that it needs",
			func(_ context.Context, c Config, _ store.Store, client oauth.Client) error {
				return p.printClient(c, client, "")
			}),
		p.clientUpdateCommand(), p.clientSecretCommand(), p.clientDisableCommand(),
		p.oneClientCommand("enable", "Let a disabled client get tokens again; its sessions go on",
			func(ctx context.Context, c Config, s store.Store, client oauth.Client) error {
				since, now := client.UpdatedAt, c.Clock.Now()
				if client.Disabled() {
					client.DisabledAt, client.UpdatedAt = time.Time{}, now
					if err := s.UpdateClient(ctx, client, since, audit.ClientEnabled(now, client.ID, audit.CLI())); err != nil {
						return err
					}
				}
				return p.say(map[string]string{"client_id": client.ID, "state": "enabled"}, "Client %s is enabled.", client.ID)
			}),
		p.clientDeleteCommand())
}

func (p *program) clientCreateCommand() *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use:   "create [ID]",
		Short: "Register an application",
		Long: "Register an application. The secret of a confidential client is printed once and cannot be shown again: the service " +
			"keeps only its hash.",
		Example: `  handstamp client create --id shop --type public --redirect-uri https://shop.example/callback \
      --origin https://shop.example --grant authorization_code --grant refresh_token --scope "openid profile orders:read"
  handstamp client create --id billing --type confidential --grant client_credentials --scope orders:read --output json`,
		Args: optionalArg("ID"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			c := oauth.Client{Type: oauth.ClientType(f.kind)}
			if c.ID, err = theOne("ID", "id", f.id, args); err != nil {
				return err
			}
			if err := f.apply(&c, func(string) bool { return true }, cmd.Flags().Changed("refresh-grace")); err != nil {
				return err
			}
			var plain string
			if c.Type == oauth.Confidential {
				plain = newClientSecret()
				c.SecretHash = oauth.HashSecret(plain)
			}
			if err := c.Validate(); err != nil {
				return usageErrorf("the client cannot be created:\n%w", err)
			}
			return p.withStore(cmd, func(config Config, s store.Store) error {
				now := config.Clock.Now()
				c.CreatedAt, c.UpdatedAt = now, now
				if err := s.CreateClient(cmd.Context(), c, audit.ClientCreated(now, c.ID, audit.CLI())); err != nil {
					return err
				}
				return p.printClient(config, c, plain)
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.id, "id", "", "client ID")
	flags.StringVar(&f.kind, "type", "public", "public (runs on the user's device) or confidential (keeps a secret)")
	f.add(flags)
	return cmd
}

func (p *program) clientUpdateCommand() *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use:   "update [ID]",
		Short: "Change properties of a client; what is not named stays as it is",
		Long: `Change properties of a client. What is not named stays as it is; a list that is named is replaced as a whole, and
--origin "" empties it. Every replica hears of it within a second. Tokens and sessions that exist stay as they are.`,
		Example: `  handstamp client update --id shop --redirect-uri https://shop.example/a --redirect-uri https://shop.example/b
  handstamp client update shop --pkce optional`,
		Args: optionalArg("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := clientID(f.id, args)
			if err != nil {
				return err
			}
			changed, named := cmd.Flags().Changed, false
			cmd.LocalNonPersistentFlags().VisitAll(func(flag *pflag.Flag) {
				named = named || flag.Changed && flag.Name != "id" && flag.Name != "help"
			})
			if !named {
				return usageErrorf("name what to change: --redirect-uri, --scope, --pkce, ...")
			}
			return p.withStore(cmd, func(config Config, s store.Store) error {
				c, err := s.Client(cmd.Context(), id)
				if err != nil {
					return err
				}
				since := c.UpdatedAt
				if err := f.apply(&c, changed, changed("refresh-grace")); err != nil {
					return err
				}
				if err := c.Validate(); err != nil {
					return usageErrorf("the client cannot be changed:\n%w", err)
				}
				c.UpdatedAt = config.Clock.Now()
				if err := s.UpdateClient(cmd.Context(), c, since, audit.ClientUpdated(c.UpdatedAt, c.ID, audit.CLI())); err != nil {
					return err
				}
				return p.printClient(config, c, "")
			})
		},
	}
	cmd.Flags().StringVar(&f.id, "id", "", "client ID")
	f.add(cmd.Flags())
	return cmd
}

func (p *program) clientSecretCommand() *cobra.Command {
	cmd := p.oneClientCommand("secret", "Give a confidential client a new secret; the old one is refused within a second",
		func(ctx context.Context, config Config, s store.Store, c oauth.Client) error {
			if c.Type != oauth.Confidential {
				return usageErrorf("client %s is public: it has no secret", c.ID)
			}
			since, plain := c.UpdatedAt, newClientSecret()
			c.SecretHash, c.UpdatedAt = oauth.HashSecret(plain), config.Clock.Now()
			if err := s.UpdateClient(ctx, c, since, audit.ClientUpdated(c.UpdatedAt, c.ID, audit.CLI())); err != nil {
				return err
			}
			return p.printClient(config, c, plain)
		})
	cmd.Long = "Give a confidential client a new secret. It is printed once and cannot be shown again. The old one is refused " +
		"within a second; sessions and tokens stay as they are."
	return cmd
}

func newClientSecret() string { return "hsc_" + randomText(32) }

func randomText(bytes int) string {
	b := make([]byte, bytes)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// clientID is the client that a command is about.
func clientID(flag string, args []string) (string, error) {
	id, err := theOne("ID", "id", flag, args)
	if err == nil && id == "" {
		return "", usageErrorf("--id is missing: name the client by it, or by an argument")
	}
	return id, err
}

// oneClientCommand is a command about one client that exists.
func (p *program) oneClientCommand(use, short string,
	do func(context.Context, Config, store.Store, oauth.Client) error) *cobra.Command {
	var flag string
	cmd := &cobra.Command{
		Use: use + " [ID]", Short: short, Args: optionalArg("ID"),
		Example: "  handstamp client " + use + " --id shop\n  handstamp client " + use + " shop",
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := clientID(flag, args)
			if err != nil {
				return err
			}
			return p.withStore(cmd, func(config Config, s store.Store) error {
				c, err := s.Client(cmd.Context(), id)
				if err != nil {
					return err
				}
				return do(cmd.Context(), config, s, c)
			})
		},
	}
	cmd.Flags().StringVar(&flag, "id", "", "client ID")
	return cmd
}

func (p *program) clientListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List clients", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withStore(cmd, func(_ Config, s store.Store) error {
				const page = 1000
				body := []clientBody{}
				rows := [][]string{{"ID", "TYPE", "GRANTS", "SCOPES", "REDIRECT URIS", "DISABLED"}}
				for after := ""; ; {
					clients, err := s.Clients(cmd.Context(), after, page)
					if err != nil {
						return err
					}
					for _, c := range clients {
						body = append(body, clientBodyOf(c))
						rows = append(rows, []string{
							c.ID, string(c.Type), strings.Join(c.Grants, ","), strings.Join(c.Scopes, " "), strings.Join(c.RedirectURIs, " "),
							when(c.DisabledAt),
						})
						after = c.ID
					}
					if len(clients) < page {
						return p.print(body, rows...)
					}
				}
			})
		},
	}
}

// disabledFor is how long after it was disabled a client's tokens are refused that were minted meanwhile: longer than it takes
// until the last replica has heard of it, and no longer, so that a client that is enabled again gets tokens that are accepted.
const disabledFor = time.Minute

func (p *program) clientDisableCommand() *cobra.Command {
	cmd := p.oneClientCommand("disable", "Disable a client: it gets no token, and its access tokens are refused within a second",
		func(ctx context.Context, c Config, s store.Store, client oauth.Client) error {
			now := c.Clock.Now()
			entry := blocklist.NewEntry(verifier.BlockClient, client.ID, service.SessionEnder(c.Config, s).BlockUntil())
			entry.NotBefore = now.Add(disabledFor).Truncate(time.Second)
			if err := s.DisableClient(ctx, client.ID, now, entry, audit.ClientDisabled(now, client.ID, audit.CLI())); err != nil {
				return err
			}
			return p.say(map[string]string{"client_id": client.ID, "state": "disabled"}, "Client %s is disabled.", client.ID)
		})
	cmd.Long = `Disable a client. It gets no token, and its access tokens are refused within a second. "handstamp client enable"
undoes it: access tokens that are minted a minute after the client was disabled, or later, are accepted.`
	return cmd
}

func (p *program) clientDeleteCommand() *cobra.Command {
	cmd := p.oneClientCommand("delete",
		"Delete a client permanently: its tokens are refused within a second, and its ID is never used again",
		func(ctx context.Context, c Config, s store.Store, client oauth.Client) error {
			id := client.ID
			if id == oauth.DefaultClientID {
				return usageErrorf("the built-in client %s cannot be deleted; use handstamp client disable --id %s", id, id)
			}
			now := c.Clock.Now()
			entry := blocklist.NewEntry(verifier.BlockClient, id, service.SessionEnder(c.Config, s).BlockUntil())
			if err := s.DeleteClient(ctx, id, now, entry, audit.ClientDeleted(now, id, audit.CLI())); err != nil {
				return err
			}
			return p.say(map[string]string{"client_id": id, "state": "deleted"}, "Client %s is deleted.", id)
		})
	cmd.Long = `Delete a client permanently. It gets no token, its access tokens are refused within a second, its sessions can no
longer be refreshed, and the consent of users is forgotten. Its ID cannot be registered again, so that no other client can
inherit its tokens. The audit log keeps its events.`
	return cmd
}
