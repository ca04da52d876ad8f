// Stampede loads a Handstamp service as many honest and a few dishonest clients would, checks every answer, and says how
// fast the answers came. Operators use it to size a machine; the benchmarks of Handstamp use it for their figures.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Exit statuses.
const (
	exitOK     = 0
	exitError  = 1 // could not run
	exitFailed = 2 // ran, and the server gave answers that it should not have given
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// errFailures ends a run whose report lists failures.
var errFailures = errors.New("some answers were not as they should be")

// run is the program as a function of its inputs.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cmd := newRootCommand(stdout, stderr)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errFailures):
		return exitFailed
	}
	_, _ = fmt.Fprintln(stderr, "stampede:", err)
	return exitError
}
