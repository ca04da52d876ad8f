package main

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// timerSleeper waits on a kernel timer through the runtime's poller. time.Sleep in an idle process wakes up to a
// millisecond late, which in an open loop would be added to latencies of a fraction of one.
type timerSleeper struct {
	fd   int
	file *os.File
}

func newSleeper() (sleeper, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create timer: %w", err)
	}
	return &timerSleeper{fd: fd, file: os.NewFile(uintptr(fd), "timer")}, nil
}

func (s *timerSleeper) sleepUntil(t time.Time) {
	wait := time.Until(t)
	if wait <= 0 {
		return
	}
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(wait.Nanoseconds())}
	if unix.TimerfdSettime(s.fd, 0, &spec, nil) != nil {
		time.Sleep(wait)
		return
	}
	var expirations [8]byte
	if _, err := s.file.Read(expirations[:]); err != nil {
		time.Sleep(time.Until(t))
	}
}

func (s *timerSleeper) close() error { return s.file.Close() }
