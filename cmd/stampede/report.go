package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// report is what a load run found. Its JSON form is for programs and only grows.
type report struct {
	Target     string            `json:"target"`
	StartedAt  time.Time         `json:"started_at"`
	Seconds    float64           `json:"seconds"` // measured, without the warm-up
	Clients    int               `json:"clients"`
	Rate       float64           `json:"rate,omitempty"` // asked for; left out in a closed loop
	Pipeline   int               `json:"pipeline"`
	PerSecond  float64           `json:"per_second"` // over all operations
	Operations map[string]result `json:"operations"`
	Sessions   int               `json:"sessions,omitempty"`
	Lost       int               `json:"sessions_lost"`
	// ClientCPU is this program's own CPU time per request in microseconds: on a shared machine it is part of the cost.
	ClientCPU float64 `json:"client_cpu_us_per_request,omitempty"`
}

func (w *workload) report(s *schedule, cpu time.Duration) *report {
	rep := &report{
		Target:     w.target.url,
		StartedAt:  s.begin.UTC(),
		Clients:    w.settings.clients,
		Rate:       w.settings.rate,
		Pipeline:   w.settings.pipeline,
		Operations: map[string]result{}, Sessions: len(w.chains),
	}
	last := s.begin
	for _, rec := range w.recorders {
		if rec.last.After(last) {
			last = rec.last
		}
	}
	elapsed := last.Sub(s.begin)
	if !s.end.IsZero() && s.rate > 0 {
		elapsed = max(elapsed, s.end.Sub(s.begin)) // the last arrival may come well before the end
	}
	rep.Seconds = elapsed.Seconds()
	var requests int64
	for name, rec := range w.recorders {
		res := rec.result(elapsed)
		rep.Operations[name] = res
		rep.PerSecond += res.PerSecond
		requests += res.Answered + sum(res.Shed)
	}
	for _, c := range w.chains {
		if c.dead {
			rep.Lost++
		}
	}
	if requests > 0 {
		rep.ClientCPU = float64(cpu.Microseconds()) / float64(requests)
	}
	return rep
}

// failed counts the requests that the server did not answer as it should.
func (r *report) failed() (n int64) {
	for _, res := range r.Operations {
		n += res.failed()
	}
	return n
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// writeText prints the report for people. Latencies are milliseconds.
func (r *report) writeText(out io.Writer) error {
	loop := "closed loop"
	if r.Rate > 0 {
		loop = fmt.Sprintf("open loop at %g/s, latencies from the intended start", r.Rate)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %.1f s, %d clients, %s\n\n", r.Target, r.Seconds, r.Clients, loop)
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "operation\tanswered\tper second\tp50 ms\tp90\tp99\tp99.9\tmax\tshed\tfailed\t")
	for _, name := range operationNames() {
		res, ok := r.Operations[name]
		if !ok {
			continue
		}
		l := res.Latency
		fmt.Fprintf(tw, "%s\t%d\t%.1f\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%d\t%d\t\n",
			name, res.Answered, res.PerSecond, l.P50, l.P90, l.P99, l.P999, l.Max, sum(res.Shed), res.failed())
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, name := range operationNames() {
		res := r.Operations[name]
		for _, kind := range slices.Sorted(maps.Keys(res.Shed)) {
			fmt.Fprintf(&b, "\nshed: %s: %s: %d", name, kind, res.Shed[kind])
		}
		for _, kind := range slices.Sorted(maps.Keys(res.Failures)) {
			fmt.Fprintf(&b, "\nfailed: %s: %s: %d", name, kind, res.Failures[kind])
		}
	}
	fmt.Fprintln(&b)
	if r.Sessions > 0 {
		fmt.Fprintf(&b, "sessions: %d, lost: %d\n", r.Sessions, r.Lost)
	}
	if r.ClientCPU > 0 {
		fmt.Fprintf(&b, "this client used %.1f µs of CPU per request\n", r.ClientCPU)
	}
	_, err := io.WriteString(out, b.String())
	return err
}
