package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/pkg/seal"
)

func (p *program) configCommand() *cobra.Command {
	return group("config", "Check and print the settings",
		p.configCheckCommand(),
		&cobra.Command{
			Use: "print", Short: "Print the settings in force, as a handstamp.yaml without the secrets", Args: noArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				c, err := p.config(cmd)
				if err != nil {
					return err
				}
				if p.output == "json" {
					return p.printSettings(c)
				}
				return c.write(p.stdout)
			},
		},
	)
}

func (p *program) configCheckCommand() *cobra.Command {
	var connect bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Report every fault of the settings, and of the files that they name",
		Long: `Report every fault for which "handstamp serve" would not start: of the settings, of the master key, the certificate, the
logos, the languages and the providers. With --connect the command also asks the database whether it answers, has the schema
of this program, and fits the master key. It changes nothing.`,
		Example: "  handstamp config check --connect",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := p.serveConfig(cmd)
			if connect && err == nil {
				if faults := service.CheckDatabase(cmd.Context(), c.Config, p.commandLog(c)); len(faults) > 0 {
					err = &configError{faults}
				}
			}
			if err != nil {
				return err
			}
			for _, warning := range c.exposed() {
				if _, err := fmt.Fprintf(p.stderr, "warning: %v\n", warning); err != nil {
					return err
				}
			}
			if warning := c.mailWarning(); warning != "" {
				if _, err := fmt.Fprintf(p.stderr, "warning: %s\n", warning); err != nil {
					return err
				}
			}
			return p.say(map[string]any{"ok": true, "issuer": c.Issuer}, "The settings are in order. The issuer is %s.", c.Issuer)
		},
	}
	cmd.Flags().BoolVar(&connect, "connect", false, "also ask the database")
	return cmd
}

// serveConfig is config for a service that is about to start: what the settings name is looked at, too.
func (p *program) serveConfig(cmd *cobra.Command) (Config, error) {
	c, faults := p.readConfig(cmd)
	faults = append(faults, c.fileFaults()...)
	if len(faults) > 0 {
		return Config{}, &configError{faults}
	}
	return c, nil
}

// fileFaults are the faults of what the settings name.
func (c Config) fileFaults() []error {
	faults := service.Check(c.Config)
	if c.TLSCert != "" && c.TLSKey != "" {
		if _, err := readCertificate(c); err != nil {
			faults = append(faults, fmt.Errorf("tls_cert, tls_key: %w", err))
		}
	}
	return flat(faults)
}

// exposed are the files with secrets that everybody may read, but that other programs may have reason to read or to write: the
// settings, and the key of the certificate, which is renewed from outside. They are no reason not to serve.
func (c Config) exposed() (warnings []error) {
	for _, file := range []struct {
		name    string
		secrets bool
	}{{c.file, c.secretsInFile}, {c.TLSKey, c.TLSKey != ""}} {
		if !file.secrets {
			continue
		}
		if info, err := os.Stat(file.name); err == nil {
			if err := seal.CheckFile(file.name, info); err != nil {
				warnings = append(warnings, fmt.Errorf("it holds secrets: %w", err))
			}
		}
	}
	return warnings
}

// mailWarning says what is off because nothing can send mail; empty if something can.
func (c Config) mailWarning() string {
	if c.MailOn() {
		return ""
	}
	return "smtp_url is not set, so no mail is sent: users are not told of a changed password, a login on a new device or a " +
		"deleted account"
}

// printSettings prints the settings as JSON, each as a text; the providers are a list.
func (p *program) printSettings(c Config) error {
	body := map[string]any{}
	for _, s := range settings(&c) {
		body[s.name] = s.value.show()
	}
	if len(c.Providers) > 0 {
		node, err := printedProviders(c)
		if err != nil {
			return err
		}
		var list []map[string]any
		if err := node.Decode(&list); err != nil {
			return err
		}
		body["providers"] = list
	}
	return p.print(body)
}

// write writes the settings as a handstamp.yaml, with secrets left out.
func (c Config) write(w io.Writer) error {
	for _, s := range settings(&c) {
		v := s.value.show()
		if s.value.kind == "text" || s.value.kind == "list" || s.value.kind == "duration" {
			v = strconv.Quote(v)
		}
		if _, err := fmt.Fprintf(w, "# %s\n%s: %s\n", s.help, s.name, v); err != nil {
			return err
		}
	}
	if len(c.Providers) == 0 {
		return nil
	}
	node, err := printedProviders(c)
	if err != nil {
		return err
	}
	e := yaml.NewEncoder(w)
	e.SetIndent(2)
	return errors.Join(e.Encode(map[string]*yaml.Node{"providers": node}), e.Close())
}
