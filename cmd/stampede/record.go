package main

import (
	"maps"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// recorder gathers what happened to the requests of one kind. The clients share it: one lock held for tens of
// nanoseconds is cheaper than a histogram for each of a thousand clients, which would throw each other out of the
// cache.
type recorder struct {
	mu       sync.Mutex
	total    *hdrhistogram.Histogram // nanoseconds
	tick     *hdrhistogram.Histogram // the same since the last progress line; nil without one
	shed     map[string]int64
	failures map[string]int64
	last     time.Time // when the latest request ended
}

// The resolution of latencies: three digits from a microsecond to ten minutes.
const (
	shortestLatency = int64(time.Microsecond)
	longestLatency  = int64(10 * time.Minute)
	latencyDigits   = 3
)

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(shortestLatency, longestLatency, latencyDigits)
}

func newRecorder(progress bool) *recorder {
	r := &recorder{total: newHistogram(), failures: map[string]int64{}, shed: map[string]int64{}}
	if progress {
		r.tick = newHistogram()
	}
	return r
}

// answered counts a request that was answered as it should be. Latencies past ten minutes count as ten minutes.
func (r *recorder) answered(latency time.Duration, at time.Time) {
	ns := min(int64(latency), longestLatency)
	r.mu.Lock()
	_ = r.total.RecordValue(ns) // in range by construction
	if r.tick != nil {
		_ = r.tick.RecordValue(ns)
	}
	r.ended(at)
	r.mu.Unlock()
}

// refused counts a request that the server turned away with Retry-After.
func (r *recorder) refused(kind string, at time.Time) {
	r.mu.Lock()
	r.shed[kind]++
	r.ended(at)
	r.mu.Unlock()
}

// failed counts a request that ended in no other way.
func (r *recorder) failed(kind string, at time.Time) {
	r.mu.Lock()
	r.failures[kind]++
	r.ended(at)
	r.mu.Unlock()
}

func (r *recorder) ended(at time.Time) {
	if at.After(r.last) {
		r.last = at
	}
}

// lap returns what was recorded since the last lap, and starts a new one.
func (r *recorder) lap() (count int64, p99 time.Duration, troubles int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	count, p99 = r.tick.TotalCount(), time.Duration(r.tick.ValueAtQuantile(99))
	r.tick.Reset()
	return count, p99, sum(r.shed) + sum(r.failures)
}

// latencies are milliseconds.
type latencies struct {
	Mean float64 `json:"mean"`
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99_9"`
	Max  float64 `json:"max"`
}

func summarize(h *hdrhistogram.Histogram) latencies {
	ms := func(ns float64) float64 { return float64(int64(ns/1e3+0.5)) / 1e3 }
	at := func(q float64) float64 { return ms(float64(h.ValueAtQuantile(q))) }
	return latencies{Mean: ms(h.Mean()), P50: at(50), P90: at(90), P99: at(99), P999: at(99.9), Max: ms(float64(h.Max()))}
}

// result is one kind of operation in the report.
type result struct {
	Answered  int64            `json:"answered"`
	PerSecond float64          `json:"per_second"` // answered as they should be
	Latency   latencies        `json:"latency_ms"`
	Shed      map[string]int64 `json:"shed"` // 429 or 503 with Retry-After, by kind
	Failures  map[string]int64 `json:"failures"`
}

func (r *recorder) result(elapsed time.Duration) result {
	r.mu.Lock()
	defer r.mu.Unlock()
	res := result{
		Answered: r.total.TotalCount(),
		Latency:  summarize(r.total),
		Shed:     maps.Clone(r.shed),
		Failures: maps.Clone(r.failures),
	}
	if elapsed > 0 {
		res.PerSecond = float64(res.Answered) / elapsed.Seconds()
	}
	return res
}

func (r result) failed() int64 { return sum(r.Failures) }

func sum(counts map[string]int64) (n int64) {
	for _, c := range counts {
		n += c
	}
	return n
}
