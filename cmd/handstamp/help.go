package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// usageTemplate is Cobra's, without the flags that every command has: the settings have a page of their own.
func usageTemplate() string {
	return `Usage:{{if .Runnable}}
  {{.UseLine}}{{end}}{{if .HasAvailableSubCommands}}
  {{.CommandPath}} [command]{{end}}{{if .HasExample}}

Examples:
{{.Example}}{{end}}{{if .HasAvailableSubCommands}}

Commands:{{range .Commands}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding }} {{.Short}}{{end}}{{end}}{{end}}{{if .LocalNonPersistentFlags.HasAvailableFlags}}

Flags:
{{.LocalNonPersistentFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}

Every command takes --output json, and the settings of the service (--config, --database-url, ...) as flags, as environment
variables and from handstamp.yaml: see "handstamp help settings".{{if .HasAvailableSubCommands}}
Use "{{.CommandPath}} [command] --help" for more about a command.{{end}}
`
}

// settingsTopic is the page of the settings, a topic of "handstamp help".
func settingsTopic() *cobra.Command {
	c := defaultConfig()
	var b strings.Builder
	b.WriteString(`
Every setting is a flag, an environment variable and a key of handstamp.yaml; the flag wins over the environment, and that
over the file. --config or HANDSTAMP_CONFIG names another file. Settings that are secret can also be read from the file that
HANDSTAMP_..._FILE names. Providers stand in the file only. "handstamp config print" shows what is in force, and "handstamp
config check" what is wrong.
`)
	for _, s := range settings(&c) {
		fmt.Fprintf(&b, "\n  --%s %s\n      %s\n      %s", s.flag(), s.value.kind, s.help, s.env())
		if s.secret {
			fmt.Fprintf(&b, ", %s_FILE", s.env())
		}
		if d := s.value.show(); d != "" {
			fmt.Fprintf(&b, " [default %s]", d)
		}
	}
	topic := &cobra.Command{Use: "settings", Short: "The settings of the service", Long: strings.TrimSpace(b.String())}
	topic.SetHelpFunc(func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), cmd.Long) })
	return topic
}
