package main

import (
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/blocklist"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/verifier"
)

func (p *program) clientCommand() *cobra.Command {
	return group("client", "Create, list, disable and delete clients",
		p.clientCreateCommand(), p.clientListCommand(), p.clientDisableCommand(), p.clientDeleteCommand())
}

func (p *program) clientCreateCommand() *cobra.Command {
	var c oauth.Client
	var kind, scope string
	var pkce, idTokenClaims, account string
	var grace time.Duration
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Register an application",
		Long: "Register an application. The secret of a confidential client is printed once and cannot be shown again: the service " +
			"keeps only its hash.",
		Example: `  handstamp client create --id shop --type public --redirect-uri https://shop.example/callback \
      --origin https://shop.example --grant authorization_code --grant refresh_token --scope "openid profile orders:read"
  handstamp client create --id billing --type confidential --grant client_credentials --scope orders:read --output json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c.Type, c.Scopes = oauth.ClientType(kind), strings.Fields(scope)
			if cmd.Flags().Changed("refresh-grace") {
				c.RefreshGrace = &grace
			}
			if err := setTokenFlags(&c, pkce, idTokenClaims, account); err != nil {
				return err
			}
			var plain string
			if c.Type == oauth.Confidential {
				plain = "hsc_" + randomText(32)
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
				rows := append([][]string{{"Client ID", c.ID}}, tokenRows(c)...)
				if plain != "" {
					rows = append(rows, []string{"Client secret", plain}, []string{"", "Keep it now: it cannot be shown again."})
				}
				return p.print(struct {
					clientBody
					Secret string `json:"client_secret,omitempty"`
				}{clientBodyOf(c), plain}, rows...)
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&c.ID, "id", "", "client ID")
	flags.StringVar(&c.Name, "name", "", "name shown to users")
	flags.StringVar(&kind, "type", "public", "public (runs on the user's device) or confidential (keeps a secret)")
	flags.StringArrayVar(&c.RedirectURIs, "redirect-uri", nil, "exact redirect URI; may be repeated")
	flags.StringArrayVar(&c.PostLogoutRedirectURIs, "post-logout-redirect-uri", nil, "exact URI after logout; may be repeated")
	flags.StringVar(&c.BackchannelLogoutURI, "backchannel-logout-uri", "", "address that receives logout tokens")
	flags.StringArrayVar(&c.Origins, "origin", nil, "origin of pages that may call the service (CORS); may be repeated")
	flags.StringArrayVar(&c.Grants, "grant", []string{oauth.GrantRefreshToken},
		"authorization_code, refresh_token or client_credentials; may be repeated")
	flags.StringVar(&scope, "scope", "", "scope values that the client may ask for, space-separated")
	flags.StringArrayVar(&c.Audiences, "audience", nil, "aud of the client's tokens; may be repeated")
	flags.BoolVar(&c.ThirdParty, "third-party", false, "the client is not the operator's own, and users are asked for consent")
	flags.StringVar(&c.Algorithm, "algorithm", "",
		"signature algorithm of the client's access tokens: ES256, EdDSA or RS256; default the service's")
	flags.StringVar(&c.IDTokenAlgorithm, "id-token-signed-response-alg", verifier.RS256,
		"signature algorithm of ID tokens, logout tokens and security events: RS256, ES256 or EdDSA")
	flags.StringVar(&idTokenClaims, "id-token-claims", "",
		"on or off: ID tokens hold the claims of the granted scopes, such as name and email; default on, off with --third-party")
	flags.StringVar(&c.GroupsClaim, "groups-claim", "", "name of a claim of ID tokens that holds the user's roles, such as groups")
	flags.StringVar(&c.AccessTokenType, "access-token-typ", verifier.TypeAccessToken,
		"typ of access tokens: at+jwt (RFC 9068), or JWT for resource servers that refuse at+jwt")
	flags.StringVar(&account, "account", "", "on or off: logins may have the scope account, which opens the account API; "+
		"default on, off with --third-party")
	flags.StringVar(&pkce, "pkce", pkceRequired, "required, or optional for a confidential client that cannot send a code_challenge")
	flags.DurationVar(&grace, "refresh-grace", 0, "grace period of the client's refresh tokens, 0s to 5m; default the service's")
	return cmd
}

const (
	pkceRequired = "required"
	pkceOptional = "optional"
)

// setTokenFlags reads the flags that have words for values.
func setTokenFlags(c *oauth.Client, pkce, idTokenClaims, account string) error {
	switch pkce {
	case pkceRequired, pkceOptional:
		c.PKCEOptional = pkce == pkceOptional
	default:
		return usageErrorf("--pkce: %q is not one of %s, %s", pkce, pkceRequired, pkceOptional)
	}
	switch {
	case account != "" && account != "on" && account != "off":
		return usageErrorf("--account: %q is not one of on, off", account)
	case account == "on" && c.ThirdParty:
		return usageErrorf("--account: a third-party client cannot have the user's account")
	}
	c.NoAccount = account == "off"
	switch idTokenClaims {
	case "":
		c.IDTokenClaims = nil
	case "on", "off":
		c.IDTokenClaims = new(idTokenClaims == "on")
	default:
		return usageErrorf("--id-token-claims: %q is not one of on, off", idTokenClaims)
	}
	return nil
}

func randomText(bytes int) string {
	b := make([]byte, bytes)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
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

func (p *program) clientDisableCommand() *cobra.Command {
	var id string
	cmd := &cobra.Command{
		Use:   "disable",
		Short: "Disable a client: it gets no token, and its access tokens are refused within a second",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if id == "" {
				return usageErrorf("--id is missing")
			}
			return p.withStore(cmd, func(c Config, s store.Store) error {
				now := c.Clock.Now()
				entry := blocklist.NewEntry(verifier.BlockClient, id, service.SessionEnder(c.Config, s).BlockUntil())
				err := s.DisableClient(cmd.Context(), id, now, entry, audit.ClientDisabled(now, id, audit.CLI()))
				if err != nil {
					return err
				}
				return p.say(map[string]string{"client_id": id, "state": "disabled"}, "Client %s is disabled.", id)
			})
		},
	}
	cmd.Flags().StringVar(&id, "id", "", "client ID")
	return cmd
}

func (p *program) clientDeleteCommand() *cobra.Command {
	var id string
	cmd := &cobra.Command{
		Use:   "delete",
		Short: "Delete a client permanently: its tokens are refused within a second, and its ID is never used again",
		Long: `Delete a client permanently. It gets no token, its access tokens are refused within a second, its sessions can no
longer be refreshed, and the consent of users is forgotten. Its ID cannot be registered again, so that no other client can
inherit its tokens. The audit log keeps its events.`,
		Example: "  handstamp client delete --id shop",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch id {
			case "":
				return usageErrorf("--id is missing")
			case oauth.DefaultClientID:
				return usageErrorf("the built-in client %s cannot be deleted; use handstamp client disable --id %s", id, id)
			}
			return p.withStore(cmd, func(c Config, s store.Store) error {
				now := c.Clock.Now()
				entry := blocklist.NewEntry(verifier.BlockClient, id, service.SessionEnder(c.Config, s).BlockUntil())
				if err := s.DeleteClient(cmd.Context(), id, now, entry, audit.ClientDeleted(now, id, audit.CLI())); err != nil {
					return err
				}
				return p.say(map[string]string{"client_id": id, "state": "deleted"}, "Client %s is deleted.", id)
			})
		},
	}
	cmd.Flags().StringVar(&id, "id", "", "client ID")
	return cmd
}

// tokenRows say what tokens of a client look like, for people.
func tokenRows(c oauth.Client) [][]string {
	b := clientBodyOf(c)
	if !c.Allows(oauth.GrantAuthorizationCode) { // there are no codes and no ID tokens
		return [][]string{{"Access token typ", b.AccessTokenType}}
	}
	claims := "off"
	if b.IDTokenClaims {
		claims = "on"
	}
	rows := [][]string{
		{"PKCE", b.PKCE},
		{"ID token signed with", cmp.Or(b.IDTokenAlgorithm, "the service's algorithm")},
		{"ID token claims", claims},
		{"Access token typ", b.AccessTokenType},
	}
	if c.GroupsClaim != "" {
		rows = append(rows, []string{"Groups claim", c.GroupsClaim})
	}
	return rows
}

// clientBody is a client as printed.
type clientBody struct {
	ID                     string     `json:"client_id"`
	Name                   string     `json:"name,omitempty"`
	Type                   string     `json:"type"`
	RedirectURIs           []string   `json:"redirect_uris,omitempty"`
	PostLogoutRedirectURIs []string   `json:"post_logout_redirect_uris,omitempty"`
	BackchannelLogoutURI   string     `json:"backchannel_logout_uri,omitempty"`
	Origins                []string   `json:"origins,omitempty"`
	Grants                 []string   `json:"grants"`
	Scope                  string     `json:"scope"`
	Audiences              []string   `json:"audiences,omitempty"`
	ThirdParty             bool       `json:"third_party"`
	Algorithm              string     `json:"algorithm,omitempty"`
	IDTokenAlgorithm       string     `json:"id_token_signed_response_alg,omitempty"`
	IDTokenClaims          bool       `json:"id_token_claims"`
	GroupsClaim            string     `json:"groups_claim,omitempty"`
	AccessTokenType        string     `json:"access_token_typ"`
	PKCE                   string     `json:"pkce"`
	Account                bool       `json:"account"`
	RefreshGrace           string     `json:"refresh_grace,omitempty"`
	CreatedAt              time.Time  `json:"created_at"`
	DisabledAt             *time.Time `json:"disabled_at,omitempty"`
}

func clientBodyOf(c oauth.Client) clientBody {
	b := clientBody{
		ID:                     c.ID,
		Name:                   c.Name,
		Type:                   string(c.Type),
		RedirectURIs:           c.RedirectURIs,
		PostLogoutRedirectURIs: c.PostLogoutRedirectURIs,
		BackchannelLogoutURI:   c.BackchannelLogoutURI,
		Origins:                c.Origins,
		Grants:                 c.Grants,
		Scope:                  strings.Join(c.Scopes, " "),
		Audiences:              c.Audiences,
		ThirdParty:             c.ThirdParty,
		Algorithm:              c.Algorithm,
		IDTokenAlgorithm:       c.OwnAlgorithm(),
		IDTokenClaims:          c.ClaimsInIDToken(),
		GroupsClaim:            c.GroupsClaim,
		AccessTokenType:        cmp.Or(c.AccessTokenType, verifier.TypeAccessToken),
		PKCE:                   pkceRequired,
		Account:                c.MayAccount(),
		CreatedAt:              c.CreatedAt.UTC(),
		DisabledAt:             optional(c.DisabledAt),
	}
	if c.PKCEOptional {
		b.PKCE = pkceOptional
	}
	if c.RefreshGrace != nil {
		b.RefreshGrace = c.RefreshGrace.String()
	}
	return b
}
