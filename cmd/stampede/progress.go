package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// progress writes one line to a terminal, over and over. The nil progress writes nothing.
type progress struct{ out io.Writer }

// newProgress returns nil unless out is a terminal.
func newProgress(out io.Writer) *progress {
	f, ok := out.(*os.File)
	if !ok {
		return nil
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return nil
	}
	return &progress{out: out}
}

// watch redraws the line once a second until done is closed, and then wipes it.
func (p *progress) watch(done <-chan struct{}, s *schedule, w *workload) {
	if p == nil {
		return
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	previous := time.Now()
	for {
		select {
		case <-done:
			_, _ = io.WriteString(p.out, "\r\x1b[K") // a terminal that went away is no reason to stop
			return
		case now := <-tick.C:
			_, _ = io.WriteString(p.out, "\r\x1b[K"+line(now, previous, s, w))
			previous = now
		}
	}
}

// line says how far the run is and what happened since the previous line.
func line(now, previous time.Time, s *schedule, w *workload) string {
	var b strings.Builder
	if now.Before(s.begin) {
		fmt.Fprintf(&b, "warming up, %.0f s left", s.begin.Sub(now).Seconds())
	} else {
		fmt.Fprintf(&b, "%.0f s", now.Sub(s.begin).Seconds())
		if !s.end.IsZero() {
			fmt.Fprintf(&b, " of %.0f", s.end.Sub(s.begin).Seconds())
		}
	}
	for _, name := range operationNames() {
		rec, ok := w.recorders[name]
		if !ok {
			continue
		}
		count, p99, troubles := rec.lap()
		fmt.Fprintf(&b, "  %s %.0f/s p99 %.2f ms", name, float64(count)/now.Sub(previous).Seconds(), float64(p99.Microseconds())/1e3)
		if troubles > 0 {
			fmt.Fprintf(&b, " (%d shed or failed)", troubles)
		}
	}
	return b.String()
}
