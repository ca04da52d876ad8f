package main

import (
	"os"
	"testing"
	"time"
)

func TestProc(t *testing.T) {
	var used time.Duration
	var parent int
	for used == 0 { // the kernel counts in hundredths of a second
		used, parent = cpuOf(os.Getpid())
	}
	if parent != os.Getppid() {
		t.Errorf("parent %d", parent)
	}
	if cpuOfFamily(os.Getppid()) < used {
		t.Error("the family used less than its child")
	}
	if now, peak, err := memoryOf(os.Getpid()); err != nil || now < mib || peak < now {
		t.Errorf("memory %v, peak %v, %v", now, peak, err)
	}
}
