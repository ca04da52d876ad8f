package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"
)

const (
	// gcPercent trades memory for time: the live heap is a few megabytes, so that four times as much is still little, and
	// the collector runs a third as often.
	gcPercent = 300
	// gcSlack is how much more than the live heap may be in use in a crowd, when four times as much would be a lot.
	gcSlack = 256 << 20
	// gcLook is how often the collector is set by the live heap.
	gcLook = 500 * time.Millisecond
)

// percentOf is the percentage for a live heap.
func percentOf(live uint64) int {
	if live == 0 {
		return gcPercent
	}
	return int(max(30, min(gcPercent, 100*gcSlack/live)))
}

// minimizeMemory sets the collector by the live heap until ctx ends.
func minimizeMemory(ctx context.Context) {
	ticker := time.NewTicker(gcLook)
	defer ticker.Stop()
	heap := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	for set := gcPercent; ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		metrics.Read(heap)
		if percent := percentOf(heap[0].Value.Uint64()); percent*10 < set*9 || percent*9 > set*10 {
			debug.SetGCPercent(percent)
			set = percent
		}
	}
}

// containerLimits are where a container is told how much memory it has (cgroup v2, v1).
func containerLimits() []string {
	return []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}
}

// softLimit is how much of a container's memory the program uses before the collector works harder; zero if there is no
// limit. The rest is for what the collector does not count.
func softLimit(files []string) int64 {
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		// "max", or in version 1 a number beyond every machine, stands for none.
		if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && n > 0 && n < 1<<50 {
			return n / 10 * 8
		}
	}
	return 0
}
