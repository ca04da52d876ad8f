// Command handstamp is a self-hosted token service: it logs users in, issues signed access tokens that any service can verify
// offline, rotates refresh tokens, and tells every service which tokens are revoked.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// program is what a command needs of its surroundings.
type program struct {
	env            map[string]string
	stdin          io.Reader
	stdout, stderr io.Writer
	output         string // text or json
}

// run is the program as a function of its inputs. It returns the exit code: 0, 1 for a failure, 2 for a command that
// was not understood.
func run(ctx context.Context, args, environ []string, stdin io.Reader, stdout, stderr io.Writer) int {
	p := &program{env: map[string]string{}, stdin: stdin, stdout: stdout, stderr: stderr}
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		p.env[name] = value
	}
	root := p.rootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintf(stderr, "handstamp: %v\n", err)
	if _, ok := errors.AsType[usageError](err); ok || strings.HasPrefix(err.Error(), "unknown command") {
		fmt.Fprintln(stderr, "Run handstamp --help for the commands and their settings.")
		return 2
	}
	return 1
}

// usageError is a command that was not understood.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func (p *program) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "handstamp",
		Short: "A self-hosted token service",
		Long: `Handstamp logs users in, issues short-lived signed access tokens that any service verifies offline,
rotates refresh tokens in a database, and tells every service which tokens are revoked.

Without any setting, "handstamp serve" listens on 127.0.0.1:8080 with SQLite in data/ and its secrets in keys/.`,
		Example: `  handstamp serve
  handstamp user create --email ann@example.com --password-stdin --role admin
  handstamp client create --id shop --type public --redirect-uri https://shop.example/callback \
      --grant authorization_code --grant refresh_token
  handstamp config print
  handstamp help settings`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetUsageTemplate(usageTemplate())
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.CompletionOptions.HiddenDefaultCmd = true
	root.PersistentFlags().StringVar(&p.output, "output", "text", "format of the output: text or json")
	addSettingFlags(root)
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		if p.output != "text" && p.output != "json" {
			return usageError{fmt.Errorf("--output %q: must be text or json", p.output)}
		}
		return nil
	}
	root.AddCommand(
		p.serveCommand(), p.migrateCommand(), p.keysCommand(), p.userCommand(), p.clientCommand(), p.sessionCommand(), p.mailCommand(),
		p.blocklistCommand(), p.backupCommand(), p.restoreCommand(),
		p.tokenCommand(), p.configCommand(), p.routesCommand(), p.healthcheckCommand(), p.versionCommand(),
		settingsTopic(),
	)
	return root
}

// group is a command that only has subcommands.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath())}
			}
			return cmd.Help()
		},
	}
	c.AddCommand(commands...)
	return c
}
