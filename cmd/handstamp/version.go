package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is the module version that the Go command recorded, "devel" for a build from a checkout.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "devel"
	}
	return info.Main.Version
}

func (p *program) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			return p.say(map[string]string{"version": version(), "go": runtime.Version()}, "handstamp %s (%s, %s/%s)", version(),
				runtime.Version(), runtime.GOOS, runtime.GOARCH)
		},
	}
}
