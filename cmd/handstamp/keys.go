package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/keyring"
	"github.com/handstamp/handstamp/pkg/store"
)

func (p *program) keysCommand() *cobra.Command {
	var algorithm string
	var now bool
	rotate := &cobra.Command{
		Use:   "rotate",
		Short: "Make a new signing key, which signs as soon as every cache has it",
		Long: `Make a new signing key. It is published at once and signs 20 minutes later, since some verifiers fetch keys no more often
than every 15 minutes. With --now it signs after the max-age of the JWKS and a leeway, so that every verifier that honours
Cache-Control has it by then; a key that has been published for so long signs at once. The old key stays published until its
last token has expired. The service need not be restarted.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withKeyring(cmd, func(ctx context.Context, k *keyring.Keyring) error {
				begin := k.Rotate
				if now {
					begin = k.RotateNow
				}
				r, err := begin(ctx, algorithm, audit.CLI())
				if err != nil {
					return err
				}
				return p.say(keyBodyOf(r), "Key %s (%s) is published and signs from %s.", r.ID, r.Algorithm, when(r.ActivatesAt))
			})
		},
	}
	rotate.Flags().BoolVar(&now, "now", false, "sign as soon as the verifiers have the key that honour Cache-Control")
	rotate.Flags().StringVar(&algorithm, "algorithm", "", "ES256, EdDSA or RS256; default the service's")
	return group("keys", "List, rotate, revoke and export signing keys",
		&cobra.Command{
			Use: "list", Short: "List signing keys", Args: noArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return p.withKeyring(cmd, func(ctx context.Context, k *keyring.Keyring) error {
					body := []keyBody{}
					rows := [][]string{{"KID", "ALGORITHM", "STATE", "CREATED", "SIGNS FROM", "RETIRED", "REVOKED"}}
					for _, r := range k.List(ctx) {
						body = append(body, keyBodyOf(r))
						rows = append(rows, []string{r.ID, r.Algorithm, string(r.State), when(r.CreatedAt), when(r.ActivatesAt),
							when(r.RetiredAt), when(r.RevokedAt)})
					}
					return p.print(body, rows...)
				})
			},
		},
		rotate,
		p.keysRevokeCommand(),
		&cobra.Command{
			Use:   "export",
			Short: "Print the public keys in PEM, for proxies that read key files",
			Args:  noArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return p.withKeyring(cmd, func(ctx context.Context, k *keyring.Keyring) error {
					for _, r := range k.List(ctx) {
						if r.State == keyring.StateRevoked {
							continue
						}
						if _, err := p.stdout.Write(r.PEM()); err != nil {
							return err
						}
					}
					return nil
				})
			},
		},
	)
}

func (p *program) keysRevokeCommand() *cobra.Command {
	var flag string
	cmd := &cobra.Command{
		Use:   "revoke [KID]",
		Short: "Revoke a signing key now, because it has leaked",
		Long: `Revoke a signing key: it leaves the JWKS at once, and every verifier that follows the feed refuses its tokens within a
second. An active key is replaced first. Verifiers that only cache the JWKS accept its tokens until their copy expires.`,
		Args: optionalArg("KID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			kid, err := theOne("KID", "kid", flag, args)
			if err != nil {
				return err
			}
			if kid == "" {
				return usageErrorf("%s needs the KID, which handstamp keys list shows", cmd.CommandPath())
			}
			return p.withKeyring(cmd, func(ctx context.Context, k *keyring.Keyring) error {
				if err := k.Revoke(ctx, kid, audit.CLI()); err != nil {
					return err
				}
				return p.say(map[string]string{"kid": kid, "state": "revoked"}, "Key %s is revoked.", kid)
			})
		},
	}
	cmd.Flags().StringVar(&flag, "kid", "", "the key's ID")
	return cmd
}

// keyBody is a signing key as printed.
type keyBody struct {
	ID          string     `json:"kid"`
	Algorithm   string     `json:"algorithm"`
	State       string     `json:"state"`
	CreatedAt   time.Time  `json:"created_at"`
	ActivatesAt *time.Time `json:"activates_at,omitempty"`
	RetiredAt   *time.Time `json:"retired_at,omitempty"`
	RevokedAt   *time.Time `json:"revoked_at,omitempty"`
}

func keyBodyOf(r keyring.Record) keyBody {
	return keyBody{
		ID: r.ID, Algorithm: r.Algorithm, State: string(r.State), CreatedAt: r.CreatedAt.UTC(),
		ActivatesAt: optional(r.ActivatesAt), RetiredAt: optional(r.RetiredAt), RevokedAt: optional(r.RevokedAt),
	}
}

// withKeyring runs a command with the signing keys of the service.
func (p *program) withKeyring(cmd *cobra.Command, do func(context.Context, *keyring.Keyring) error) error {
	return p.withStore(cmd, func(c Config, s store.Store) error {
		master, err := service.MasterKey(cmd.Context(), c.Config, s)
		if err != nil {
			return err
		}
		k, err := keyring.Open(cmd.Context(), s, master, service.KeyringOptions(c.Config, p.commandLog(c)))
		if err != nil {
			return err
		}
		defer k.Close()
		return do(cmd.Context(), k)
	})
}
