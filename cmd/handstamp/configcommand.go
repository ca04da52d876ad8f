package main

import (
	"github.com/spf13/cobra"
)

func (p *program) configCommand() *cobra.Command {
	return group("config", "Check and print the settings",
		&cobra.Command{
			Use: "check", Short: "Report every fault of the settings", Args: noArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				c, err := p.config(cmd)
				if err != nil {
					return err
				}
				return p.say(map[string]any{"ok": true, "issuer": c.Issuer}, "The settings are in order. The issuer is %s.", c.Issuer)
			},
		},
		&cobra.Command{
			Use: "print", Short: "Print the settings in force, as a handstamp.yaml without the secrets", Args: noArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				c, err := p.config(cmd)
				if err != nil {
					return err
				}
				if p.output == "json" {
					body := map[string]string{}
					for _, s := range settings(&c) {
						body[s.name] = s.value.show()
					}
					return p.print(body)
				}
				return c.write(p.stdout)
			},
		},
	)
}
