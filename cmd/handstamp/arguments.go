package main

import (
	"github.com/spf13/cobra"
)

// What a command is about is named by an argument or by a flag, as one likes.

// optionalArg allows one argument.
func optionalArg(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return usageErrorf("%s takes one %s, got %q too", cmd.CommandPath(), what, args[1])
		}
		return nil
	}
}

// theOne is the value of a flag or the one argument; both is a mistake. It is empty if there is neither.
func theOne(what, flag, value string, args []string) (string, error) {
	switch {
	case len(args) == 0:
		return value, nil
	case value != "" && value != args[0]:
		return "", usageErrorf("%s is named twice: %s and --%s %s", what, args[0], flag, value)
	}
	return args[0], nil
}

// fileArg demands exactly one argument.
func fileArg(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usageErrorf("%s needs one %s", cmd.CommandPath(), what)
		}
		return nil
	}
}
