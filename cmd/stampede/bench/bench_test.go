package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
)

func TestFigure(t *testing.T) {
	t.Run("ok/ratio is the median of the pairs", func(t *testing.T) {
		f := newFigure("x", "/s", samples{10, 40, 30}, "ref", samples{10, 20, 10}, ratioOver(1))
		if *f.Ratio != 2 || !*f.Met || f.Median != 30 || f.Spread != 100 {
			t.Errorf("%+v ratio %v", f, *f.Ratio)
		}
	})
	t.Run("ok/missed", func(t *testing.T) {
		if f := newFigure("x", "ms", samples{2, 4}, "", nil, below(3)); *f.Met || f.Median != 3 || f.Ratio != nil {
			t.Errorf("%+v", f)
		}
	})
	t.Run("ok/nothing measured is neither met nor missed", func(t *testing.T) {
		f := newFigure("x", "ms", nil, "", nil, below(3))
		if f.Met != nil {
			t.Errorf("%+v", f)
		}
		if _, err := json.Marshal(f); err != nil {
			t.Error(err)
		}
	})
	for _, tc := range []struct {
		goal  *goal
		in    float64
		holds bool
	}{
		{below(1), 1, false}, {atMost(1), 1, true}, {atLeast(1), 1, true}, {exactly(0), 0, true}, {exactly(0), 0.1, false},
		{ratioUnder(2), 1.9, true},
	} {
		if tc.goal.holds(tc.in) != tc.holds {
			t.Errorf("%v %v", tc.goal, tc.in)
		}
	}
}

func TestWriteTable(t *testing.T) {
	var b bytes.Buffer
	err := writeTable(&b, []figure{
		newFigure("refreshes", "/s", samples{20_500, 21_000, 22_000}, "pgbench", samples{20_000, 20_000, 20_000}, ratioOver(1)),
		newFigure("idle", "MiB", samples{41}, "", nil, below(40)),
		missing("followers", errors.New("no stream")),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"21,000 /s", "pgbench 20,000", "1.05", "ratio > 1  met", "41 MiB", "< 40  MISSED",
		"not measured: no stream"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("lacks %q:\n%s", want, &b)
		}
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{
		0:         "0",
		0.123456:  "0.123",
		999.4:     "999",
		1000:      "1,000",
		1234567.8: "1,234,568",
		-4321:     "-4,321",
	} {
		if got := number(v); got != want {
			t.Errorf("%v: %q, want %q", v, got, want)
		}
	}
}

func TestParse(t *testing.T) {
	tps, err := parsePgbench([]byte("latency average = 0.2 ms\ninitial connection time = 3.1 ms\ntps = 4828.126 (without initial " +
		"connection time)\n"))
	if err != nil || tps != 4828.126 {
		t.Errorf("%v %v", tps, err)
	}
	if _, err := parsePgbench([]byte("nothing")); err == nil {
		t.Error("no error")
	}
	out := []byte("goos: linux\nBenchmarkBareVerify/ES256-2   \t   21214\t     47123.5 ns/op\t  0 " +
		"B/op\nBenchmarkBareVerify/ES256K-2 \t 1\t 1 ns/op\n")
	if ns, ok := parseGoBench(out, "BenchmarkBareVerify/ES256"); !ok || ns != 47123.5 {
		t.Errorf("%v %v", ns, ok)
	}
	if _, ok := parseGoBench(out, "BenchmarkBare"); ok {
		t.Error("matched a prefix")
	}
	if p := exactPattern("BenchmarkA/B"); p != "^BenchmarkA$/^B$" {
		t.Error(p)
	}
}

func TestStatementCounter(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	received := make(chan []byte, 1)
	go func() {
		nc, err := server.Accept()
		if err != nil {
			return
		}
		_, _ = nc.Write([]byte("welcome"))
		b, _ := io.ReadAll(nc)
		received <- b
		_ = nc.Close()
	}()
	c, err := newStatementCounter(server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	client, err := net.Dial("tcp", c.address())
	if err != nil {
		t.Fatal(err)
	}
	greeting := make([]byte, 7)
	if _, err := io.ReadFull(client, greeting); err != nil || string(greeting) != "welcome" {
		t.Fatalf("%q %v", greeting, err)
	}
	said := "\x00\x00\x00\x08\x00\x03\x00\x00" + // startup
		"Q\x00\x00\x00\x07x\x00\x00" + // query
		// one prepared statement
		"P\x00\x00\x00\x05\x00" + "B\x00\x00\x00\x05\x00" + "E\x00\x00\x00\x09\x00\x00\x00\x00\x00" + "S\x00\x00\x00\x04" +
		"E\x00\x00\x00\x09\x00\x00\x00\x00\x00" + "X\x00\x00\x00\x04"
	if _, err := client.Write([]byte(said)); err != nil {
		t.Fatal(err)
	}
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	if got := <-received; string(got) != said {
		t.Errorf("the server got %q", got)
	}
	if n := c.count.Load(); n != 3 {
		t.Errorf("%d statements, want 3", n)
	}
}

func TestFlags(t *testing.T) {
	env := func(string) string { return "" }
	for name, args := range map[string][]string{
		"fail/unknown step":   {"-only", "coffee"},
		"fail/too short":      {"-duration", "10ms"},
		"fail/no repetitions": {"-repetitions", "0"},
		"fail/argument":       {"x"},
		"fail/unknown flag":   {"-x"},
	} {
		t.Run(name, func(t *testing.T) {
			var stderr bytes.Buffer
			if code := run(t.Context(), args, env, io.Discard, &stderr); code != 2 || !strings.Contains(stderr.String(), "usage") {
				t.Errorf("%d %s", code, &stderr)
			}
		})
	}
}
