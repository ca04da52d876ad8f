package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestPercentOf(t *testing.T) {
	for live, want := range map[uint64]int{0: 300, 10 << 20: 300, 85 << 20: 300, 128 << 20: 200, 256 << 20: 100, 1 << 30: 30} {
		if got := percentOf(live); got != want {
			t.Errorf("%d MiB live: %d, want %d", live>>20, got, want)
		}
	}
}

func TestSoftLimit(t *testing.T) {
	for text, want := range map[string]int64{
		"536870912\n": 429496728, "max\n": 0, "": 0, "-1": 0, "9223372036854771712\n": 0, "nonsense": 0,
	} {
		file := filepath.Join(t.TempDir(), "memory.max")
		must(t, os.WriteFile(file, []byte(text), 0o600))
		if got := softLimit([]string{file + ".none", file}); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
	if softLimit(nil) != 0 || len(containerLimits()) != 2 {
		t.Error("a limit where there is none")
	}
}
