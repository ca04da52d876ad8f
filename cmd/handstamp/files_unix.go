//go:build unix

package main

import "golang.org/x/sys/unix"

// openFiles is how many files the process may have open. The Go runtime has raised that as far as it may.
func openFiles() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 1024
	}
	return int(min(limit.Cur, 1<<20))
}
