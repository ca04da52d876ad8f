package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// goBenchmark names a benchmark of this module.
type goBenchmark struct{ pkg, name string }

// comparison is one Go benchmark next to another.
type comparison struct {
	figure    string
	measured  goBenchmark
	reference goBenchmark // zero: none
	without   goBenchmark // is subtracted; zero: none
	target    *goal
}

const (
	verifierPackage = "pkg/verifier"
	bffPackage      = "pkg/bff"
	benchPackage    = "cmd/stampede/bench"
)

// comparisons are the Go benchmarks that belong in the table. A benchmark that does not exist is reported as missing.
func comparisons() []comparison {
	var out []comparison
	for _, alg := range []string{"ES256", "EdDSA", "RS256"} {
		out = append(out, comparison{
			figure:    "verify an unseen token, " + alg,
			measured:  goBenchmark{verifierPackage, "BenchmarkVerify/" + alg},
			reference: goBenchmark{verifierPackage, "BenchmarkBare/" + alg},
			target:    ratioUnder(1.15),
		})
	}
	lookUp := goBenchmark{bffPackage, "BenchmarkMiddleware/look-up"}
	return append(out,
		comparison{
			figure:   "verify a seen token, 1,000,000 entries blocked",
			measured: goBenchmark{verifierPackage, "BenchmarkVerifySeen"},
			target:   below(1),
		},
		comparison{figure: "bare signature, ES256", measured: goBenchmark{benchPackage, "BenchmarkBareSign/ES256"}},
		comparison{figure: "look-up of a web session's token", measured: lookUp},
		comparison{
			figure:   "web session in a store, beyond that look-up",
			measured: goBenchmark{bffPackage, "BenchmarkMiddleware/stored"},
			without:  lookUp,
			target:   below(2),
		},
		comparison{
			figure:   "web session in a sealed cookie",
			measured: goBenchmark{bffPackage, "BenchmarkMiddleware/sealed"},
			target:   below(20),
		},
	)
}

// rounds is how often each comparison is made in one repetition: many short ones next to each other, since the clock of
// a machine that is shared drifts by more than what is compared.
const rounds = 5

// goBenchmarks measures the comparisons, each next to its reference in every round.
func (b *bench) goBenchmarks(ctx context.Context) ([]figure, error) {
	programs := map[string]string{}
	times := map[goBenchmark]samples{}
	for range rounds * b.repetitions {
		measured := map[goBenchmark]bool{} // in this round
		for _, c := range comparisons() {
			for _, gb := range []goBenchmark{c.reference, c.without, c.measured} {
				if gb.name == "" || measured[gb] {
					continue
				}
				measured[gb] = true
				if programs[gb.pkg] == "" {
					program := filepath.Join(b.dir, strings.ReplaceAll(gb.pkg, "/", "-")+".test")
					if _, err := output(ctx, b.top, "go", "test", "-c", "-o", program, "./"+gb.pkg); err != nil {
						return nil, err
					}
					programs[gb.pkg] = program
				}
				out, err := output(ctx, filepath.Join(b.top, gb.pkg), programs[gb.pkg], "-test.run", "^$", "-test.bench",
					exactPattern(gb.name), "-test.benchtime", b.benchTime())
				if err != nil {
					return nil, err
				}
				if ns, ok := parseGoBench(out, gb.name); ok {
					times[gb] = append(times[gb], ns/1e3)
				}
			}
		}
	}
	var figures []figure
	for _, c := range comparisons() {
		f := newFigure(c.figure, "µs", times[c.measured].minus(times[c.without]), "", nil, c.target)
		if c.reference.name != "" {
			f = newFigure(c.figure, "µs", times[c.measured], "bare signature, µs", times[c.reference], c.target)
		}
		if len(f.Samples) == 0 {
			f = missing(c.figure, errors.New("there is no "+c.measured.name+" in "+c.measured.pkg))
		}
		figures = append(figures, f)
	}
	return figures, nil
}

func (b *bench) benchTime() string {
	if b.quick {
		return "50ms"
	}
	return "250ms"
}

// exactPattern is the pattern for -bench that selects one benchmark and its sub-benchmark.
func exactPattern(name string) string {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	return strings.Join(parts, "/")
}

// parseGoBench returns the nanoseconds per operation of one benchmark.
func parseGoBench(out []byte, name string) (float64, bool) {
	m := regexp.MustCompile(fmt.Sprintf(`(?m)^%s(?:-\d+)?\s+\d+\s+([0-9.]+) ns/op`, regexp.QuoteMeta(name))).FindSubmatch(out)
	if m == nil {
		return 0, false
	}
	ns, err := strconv.ParseFloat(string(m[1]), 64)
	return ns, err == nil
}
