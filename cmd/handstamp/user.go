package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/password"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/user"
)

func usageErrorf(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

func (p *program) userCommand() *cobra.Command {
	return group("user", "Create, list, show, change, disable, enable and delete users, set their roles and passwords",
		p.userCreateCommand(), p.userListCommand(),
		p.oneUserCommand("user show", "Show a user", func(_ context.Context, _ Config, _ store.Store, u user.User) error {
			return p.printUser(u)
		}),
		p.oneUserCommand("user disable", "Keep a user out: every session ends, every access token is refused within a second",
			func(ctx context.Context, c Config, s store.Store, u user.User) error {
				if err := service.SessionEnder(c.Config, s).DisableUser(ctx, u.ID, audit.CLI()); err != nil {
					return err
				}
				return p.say(map[string]string{"id": u.ID, "state": "disabled"}, "User %s is disabled.", u.ID)
			}),
		p.oneUserCommand("user enable", "Let a disabled user in again",
			func(ctx context.Context, c Config, s store.Store, u user.User) error {
				if err := s.EnableUser(ctx, u.ID, audit.UserEnabled(c.Clock.Now(), u.ID, audit.CLI())); err != nil {
					return err
				}
				return p.say(map[string]string{"id": u.ID, "state": "enabled"}, "User %s is enabled.", u.ID)
			}),
		p.userUpdateCommand(),
		p.userSetPasswordCommand(),
		p.oneUserCommand("user delete", "Delete a user permanently, with sessions, identities and consents; access tokens are refused "+
			"within a second",
			func(ctx context.Context, c Config, s store.Store, u user.User) error {
				if err := service.SessionEnder(c.Config, s).DeleteUser(ctx, u.ID, audit.CLI()); err != nil {
					return err
				}
				return p.say(map[string]string{"id": u.ID, "state": "deleted"}, "User %s is deleted.", u.ID)
			}),
		group("roles", "Set a user's roles", p.userRolesSetCommand()),
	)
}

// attributes are those of a user that a flag sets.
func attributes() []string {
	return []string{"given_name", "family_name", "preferred_username", "picture", "website", "locale", "zoneinfo"}
}

func (p *program) userUpdateCommand() *cobra.Command {
	var change user.Change
	cmd := p.oneUserCommand("user update", "Change a user's name and attributes; what is not named stays as it is",
		func(ctx context.Context, c Config, s store.Store, u user.User) error {
			u, err := s.UpdateUser(ctx, u.ID, change, c.Clock.Now())
			if err != nil {
				return err
			}
			return p.printUser(u)
		})
	flags := cmd.Flags()
	name := flags.String("name", "", "display name")
	texts := map[string]*string{}
	for _, attribute := range attributes() {
		texts[attribute] = flags.String(strings.ReplaceAll(attribute, "_", "-"), "",
			attribute+" of OpenID Connect, which scope profile gives to clients; empty removes it")
	}
	cmd.Example = `  handstamp user update --email ann@example.com --name "Ann Example"
  handstamp user update ann@example.com --locale de --picture ""`
	find := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if flags.Changed("name") {
			parsed, err := user.ParseName(*name)
			if err != nil {
				return usageErrorf("--name: %w", err)
			}
			change.Name = &parsed
		}
		for _, attribute := range attributes() {
			if !flags.Changed(strings.ReplaceAll(attribute, "_", "-")) {
				continue
			}
			if err := change.Set(attribute, *texts[attribute]); err != nil {
				return usageError{err}
			}
		}
		if change.Name == nil && change.Profile == nil {
			return usageErrorf("name what to change: --name, --given-name, ...")
		}
		return find(cmd, args)
	}
	return cmd
}

func (p *program) userSetPasswordCommand() *cobra.Command {
	var fromStdin bool
	cmd := p.oneUserCommand("user set-password", "Set a user's password, which is read from standard input; every session ends",
		func(ctx context.Context, c Config, s store.Store, u user.User) error {
			hash, err := p.readPassword(ctx, c, u.Email, u.Name)
			if err != nil {
				return err
			}
			if err := service.SessionEnder(c.Config, s).SetPassword(ctx, u.ID, u.PasswordHash, hash, audit.CLI()); err != nil {
				return err
			}
			return p.say(map[string]string{"id": u.ID, "state": "password set"}, "The password of user %s is set.", u.ID)
		})
	cmd.Example = "  handstamp user set-password --email ann@example.com --password-stdin < password.txt"
	cmd.Flags().BoolVar(&fromStdin, "password-stdin", false, "read the password from the first line of standard input")
	find := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !fromStdin {
			return errNoStdin()
		}
		return find(cmd, args)
	}
	return cmd
}

func errNoStdin() error {
	return usageErrorf("--password-stdin is missing: the password comes from standard input, to keep it out of process lists " +
		"and shell histories")
}

func (p *program) userCreateCommand() *cobra.Command {
	var email, name string
	var roles []string
	var fromStdin, verified bool
	cmd := &cobra.Command{
		Use:     "create [EMAIL]",
		Short:   "Create a user",
		Example: `  handstamp user create --email ann@example.com --password-stdin --role admin --verified < password.txt`,
		Args:    optionalArg("EMAIL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			email, err := theOne("EMAIL", "email", email, args)
			if err != nil {
				return err
			}
			address, err := user.ParseEmail(email)
			if err != nil {
				return usageErrorf("--email: %w", err)
			}
			if name, err = user.ParseName(name); err != nil {
				return usageErrorf("--name: %w", err)
			}
			if roles, err = user.ParseRoles(roles); err != nil {
				return usageErrorf("--role: %w", err)
			}
			if !fromStdin {
				return errNoStdin()
			}
			return p.withStore(cmd, func(c Config, s store.Store) error {
				hash, err := p.readPassword(cmd.Context(), c, address, name)
				if err != nil {
					return err
				}
				now := c.Clock.Now()
				u := user.User{
					ID:           user.NewID(now),
					Email:        address,
					Name:         name,
					PasswordHash: hash,
					Roles:        roles,
					CreatedAt:    now,
					UpdatedAt:    now,
				}
				if verified {
					u.EmailVerifiedAt = now
				}
				err = s.CreateUser(cmd.Context(), u, audit.UserCreated(now, u.ID, audit.CLI()))
				if err != nil {
					return err
				}
				return p.printUser(u)
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&email, "email", "", "e-mail address")
	flags.StringVar(&name, "name", "", "display name")
	flags.BoolVar(&fromStdin, "password-stdin", false, "read the password from the first line of standard input")
	flags.StringArrayVar(&roles, "role", nil, "a role; may be repeated")
	flags.BoolVar(&verified, "verified", false, "mark the e-mail address as verified")
	return cmd
}

// readPassword reads a password from standard input, checks it, and hashes it.
func (p *program) readPassword(ctx context.Context, c Config, about ...string) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(p.stdin, 64<<10)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read password: %w", err)
	}
	plain := strings.TrimRight(line, "\r\n")
	if err := (password.Policy{MinLength: c.PasswordMinLength}).Check(plain, about...); err != nil {
		return "", err
	}
	hasher, err := service.NewHasher(c.Config)
	if err != nil {
		return "", err
	}
	return hasher.Hash(ctx, plain)
}

func (p *program) userListCommand() *cobra.Command {
	var after string
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: "List users by ID", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 || limit > 10_000 {
				return usageErrorf("--limit: must be between 1 and 10000")
			}
			return p.withStore(cmd, func(_ Config, s store.Store) error {
				users, err := s.Users(cmd.Context(), after, limit)
				if err != nil {
					return err
				}
				body := []userBody{}
				rows := [][]string{{"ID", "EMAIL", "NAME", "ROLES", "CREATED", "DISABLED"}}
				for _, u := range users {
					body = append(body, userBodyOf(u))
					rows = append(rows, []string{u.ID, u.Email, u.Name, strings.Join(u.Roles, ","), when(u.CreatedAt), when(u.DisabledAt)})
				}
				return p.print(body, rows...)
			})
		},
	}
	cmd.Flags().StringVar(&after, "after", "", "begin after this user ID")
	cmd.Flags().IntVar(&limit, "limit", 100, "maximum number of users to list")
	return cmd
}

// oneUserCommand is a command about one user, named by e-mail address or ID. Its path ends with use.
func (p *program) oneUserCommand(path, short string,
	do func(context.Context, Config, store.Store, user.User) error) *cobra.Command {
	var which userFlags
	use := path[strings.LastIndex(path, " ")+1:]
	cmd := &cobra.Command{
		Use: use + " [USER]", Short: short, Args: optionalArg("USER"),
		Example: "  handstamp " + path + " --email ann@example.com\n  handstamp " + path + " ann@example.com",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := which.take(args); err != nil {
				return err
			}
			return p.withStore(cmd, func(c Config, s store.Store) error {
				u, err := which.find(cmd.Context(), s)
				if err != nil {
					return err
				}
				return do(cmd.Context(), c, s, u)
			})
		},
	}
	which.add(cmd)
	return cmd
}

// userFlags name one user.
type userFlags struct{ email, id string }

func (f *userFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.email, "email", "", "the user's e-mail address")
	cmd.Flags().StringVar(&f.id, "id", "", "the user's ID")
}

// take adds the argument, if there is one, and checks that one user is named.
func (f *userFlags) take(args []string) error {
	named := slices.DeleteFunc(append([]string{f.email, f.id}, args...), func(s string) bool { return s == "" })
	if len(named) != 1 {
		return usageErrorf("name the user by --email or by --id, or by one of them as an argument")
	}
	if len(args) == 1 && strings.Contains(args[0], "@") {
		f.email = args[0]
	} else if len(args) == 1 {
		f.id = args[0]
	}
	return nil
}

func (f *userFlags) find(ctx context.Context, s user.Store) (user.User, error) {
	if f.id != "" {
		return s.UserByID(ctx, f.id)
	}
	return s.UserByEmail(ctx, f.email)
}

func (p *program) userRolesSetCommand() *cobra.Command {
	var which userFlags
	cmd := &cobra.Command{
		Use:   "set ROLE...",
		Short: "Replace a user's roles; without a role, remove all",
		Long: "Replace a user's roles. Access tokens with the old roles are refused within a second. The next refresh carries " +
			"the new roles, and the user stays logged in.",
		Example: "  handstamp user roles set --email ann@example.com admin support",
		RunE: func(cmd *cobra.Command, args []string) error {
			roles, err := user.ParseRoles(args)
			if err != nil {
				return usageError{err}
			}
			if err := which.take(nil); err != nil {
				return err
			}
			return p.withStore(cmd, func(c Config, s store.Store) error {
				u, err := which.find(cmd.Context(), s)
				if err != nil {
					return err
				}
				if err := service.SessionEnder(c.Config, s).SetRoles(cmd.Context(), u.ID, roles, audit.CLI()); err != nil {
					return err
				}
				u.Roles = roles
				return p.printUser(u)
			})
		},
	}
	which.add(cmd)
	return cmd
}

// userBody is a user as printed.
type userBody struct {
	ID            string `json:"id"`
	Email         string `json:"email"`
	EmailVerified bool   `json:"email_verified"`
	Name          string `json:"name"`
	user.Profile
	Roles      []string   `json:"roles"`
	CreatedAt  time.Time  `json:"created_at"`
	DisabledAt *time.Time `json:"disabled_at,omitempty"`
}

func userBodyOf(u user.User) userBody {
	if u.Roles == nil {
		u.Roles = []string{}
	}
	return userBody{
		ID: u.ID, Email: u.Email, EmailVerified: !u.EmailVerifiedAt.IsZero(), Name: u.Name, Profile: u.Profile, Roles: u.Roles,
		CreatedAt: u.CreatedAt.UTC(), DisabledAt: optional(u.DisabledAt),
	}
}

func (p *program) printUser(u user.User) error {
	return p.print(userBodyOf(u),
		[]string{"ID", u.ID}, []string{"E-mail", u.Email}, []string{"Verified", when(u.EmailVerifiedAt)}, []string{"Name", u.Name},
		[]string{"Roles", strings.Join(u.Roles, ", ")}, []string{"Created", when(u.CreatedAt)},
		[]string{"Disabled", when(u.DisabledAt)})
}
