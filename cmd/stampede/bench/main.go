// Bench measures Handstamp next to references on the same machine in the same run, and prints each figure with its
// ratio and target. It needs a PostgreSQL server; scripts/bench provides one.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// bench is one run.
type bench struct {
	repetitions int
	duration    time.Duration // of one measurement
	quick       bool
	only        []string // names of steps; empty: all
	service     string   // another build of the service to measure; empty: this one
	settings    []string // of every service

	top      string // of the module
	dir      string // temporary
	database *database
	postgres *subject
	sqlite   *subject
	// subjectsErr is why the two are missing.
	subjectsErr error
	note        func(format string, args ...any)
}

const usage = `usage: bench [flags]

Builds the service and its load client, runs them against PostgreSQL and SQLite next to their references, at least three
times each in turn, and prints a table. HANDSTAMP_TEST_DATABASE_URL names a PostgreSQL server whose user may create
databases.

`

// run is the program as a function of its inputs. It returns 1 if something could not be measured; a target that is
// missed shows in the table and is no error.
func run(ctx context.Context, args []string, env func(string) string, stdout, stderr io.Writer) int {
	began := time.Now()
	b := &bench{note: func(format string, args ...any) {
		_, _ = fmt.Fprintf(stderr, "%4.0f s  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		_, _ = io.WriteString(stderr, usage)
		flags.PrintDefaults()
	}
	flags.BoolVar(&b.quick, "quick", false, "short measurements: a look, not a proof")
	flags.IntVar(&b.repetitions, "repetitions", 3, "how often each measurement is made")
	flags.DurationVar(&b.duration, "duration", 5*time.Second, "length of one measurement")
	jsonFile := flags.String("json", "", "also write every sample to this file")
	flags.StringVar(&b.service, "service", "", "measure this build of the service, such as one of before, not the source as it is")
	only := flags.String("only", "", "comma-separated steps to run: "+strings.Join(stepNames(), ", "))
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if b.quick {
		b.duration = time.Second
	}
	if *only != "" {
		b.only = strings.Split(*only, ",")
	}
	if flags.NArg() > 0 || b.repetitions < 1 || b.duration < time.Second || !knownSteps(b.only) {
		flags.Usage()
		return 2
	}
	result, err := b.measure(ctx, env("HANDSTAMP_TEST_DATABASE_URL"), env("HANDSTAMP_TEST_PG_BIN"))
	if err == nil {
		err = result.write(stdout, *jsonFile)
	}
	if err != nil {
		b.note("bench: %v", err)
		return 1
	}
	if result.Incomplete {
		return 1
	}
	return 0
}

// results is the JSON file.
type results struct {
	At          time.Time `json:"at"`
	Revision    string    `json:"revision,omitempty"`
	Machine     string    `json:"machine"`
	Postgres    string    `json:"postgres"`
	LoadBefore  float64   `json:"load_before"` // one-minute load average when the run began; 0: unknown
	Repetitions int       `json:"repetitions"`
	Duration    string    `json:"duration"`
	Figures     []figure  `json:"figures"`
	Incomplete  bool      `json:"incomplete"` // a step failed
}

func (r *results) write(out io.Writer, file string) error {
	_, _ = fmt.Fprintf(out, "%s, PostgreSQL %s, %d repetitions of %s\n", r.Machine, r.Postgres, r.Repetitions, r.Duration)
	if r.LoadBefore > busy*float64(runtime.NumCPU()) {
		_, _ = fmt.Fprintf(out, "OTHERS ARE USING THIS MACHINE: its load was %.1f before the run. Take no figure from here.\n",
			r.LoadBefore)
	}
	_, _ = fmt.Fprintln(out)
	if err := writeTable(out, r.Figures); err != nil || file == "" {
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	enc := json.NewEncoder(f)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return errors.Join(enc.Encode(r), f.Close())
}

// busy is the load for each CPU from which on figures are worth nothing.
const busy = 0.5

// step is one group of figures.
type step struct {
	name string
	run  func(*bench, context.Context) ([]figure, error)
}

func steps() []step {
	return []step{
		{"size", (*bench).size},
		{"start", (*bench).startUp},
		{"chains", (*bench).chains},
		{"cookie", (*bench).cookie},
		{"statements", (*bench).statements},
		{"storm", (*bench).storm},
		{"flood", (*bench).flood},
		{"forged", (*bench).forged},
		{"followers", (*bench).followers},
		{"signatures", (*bench).goBenchmarks},
	}
}

func stepNames() (names []string) {
	for _, s := range steps() {
		names = append(names, s.name)
	}
	return names
}

func knownSteps(names []string) bool {
	all := "," + strings.Join(stepNames(), ",") + ","
	for _, n := range names {
		if !strings.Contains(all, ","+n+",") {
			return false
		}
	}
	return true
}

func (b *bench) wanted(name string) bool {
	if len(b.only) == 0 {
		return true
	}
	return slices.Contains(b.only, name)
}

// measure builds, starts what must run, and goes through the steps. A step that fails leaves a line in the table and
// the others go on.
func (b *bench) measure(ctx context.Context, databaseURL, pgBin string) (_ *results, err error) {
	if b.top, err = moduleTop(ctx); err != nil {
		return nil, err
	}
	if b.dir, err = os.MkdirTemp("", "handstamp-bench-"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	load := loadAverage()
	b.note("building; the load of this machine was %.1f", load)
	if err := b.build(ctx); err != nil {
		return nil, err
	}
	if b.database, err = openDatabase(ctx, databaseURL, pgBin); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.database.drop(context.WithoutCancel(ctx))) }()
	r := &results{
		At:          time.Now().UTC(),
		Machine:     machine(),
		Postgres:    b.database.version,
		LoadBefore:  load,
		Repetitions: b.repetitions,
		Duration:    b.duration.String(),
	}
	if revision, err := output(ctx, b.top, "git", "describe", "--always", "--dirty"); err == nil {
		r.Revision = strings.TrimSpace(string(revision))
	}
	defer b.stopSubjects()
	for _, s := range steps() {
		if !b.wanted(s.name) {
			continue
		}
		b.note("measuring: %s", s.name)
		figures, err := s.run(b, ctx)
		r.Figures = append(r.Figures, figures...)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			b.note("%s: %v", s.name, err)
			first, _, _ := strings.Cut(err.Error(), "\n")
			r.Figures = append(r.Figures, missing(s.name, errors.New(first)))
			r.Incomplete = true
		}
	}
	return r, nil
}

func machine() string {
	return fmt.Sprintf("%d CPUs, %s/%s, %s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version())
}

func moduleTop(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	mod := strings.TrimSpace(string(out))
	if filepath.Base(mod) != "go.mod" {
		return "", errors.New("run me inside the module")
	}
	return filepath.Dir(mod), nil
}

// build makes the programs in b.dir. The service is built as it is shipped: static and stripped.
func (b *bench) build(ctx context.Context) (err error) {
	defer func() {
		if err == nil {
			b.settings, err = b.floodSettings(ctx)
		}
	}()
	for name, args := range map[string][]string{
		"handstamp": {"-trimpath", "-ldflags", "-s -w", "./cmd/handstamp"},
		"stampede":  {"./cmd/stampede"},
		"hello":     {"./cmd/stampede/bench/testdata/hello"},
	} {
		if name == "handstamp" && b.service != "" {
			if err := os.Symlink(b.service, b.program(name)); err != nil {
				return err
			}
			continue
		}
		if _, err := output(ctx, b.top, "env",
			append([]string{"CGO_ENABLED=0", "go", "build", "-o", b.program(name)}, args...)...); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) program(name string) string { return filepath.Join(b.dir, name+".bin") }
