package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// samples are the values of one quantity, one for each repetition.
type samples []float64

// median returns NaN if there are no samples.
func (s samples) median() float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(s))
	mid := len(sorted) / 2
	if len(sorted)%2 == 0 {
		return (sorted[mid-1] + sorted[mid]) / 2
	}
	return sorted[mid]
}

// spread is (max - min) / median in per cent.
func (s samples) spread() float64 {
	if m := s.median(); m > 0 {
		return (slices.Max(s) - slices.Min(s)) / m * 100
	}
	return 0
}

// over divides sample by sample: the two were measured next to each other, so what the machine did to one it did to the other.
func (s samples) over(reference samples) samples {
	var out samples
	for i := range min(len(s), len(reference)) {
		if reference[i] > 0 {
			out = append(out, s[i]/reference[i])
		}
	}
	return out
}

// minus subtracts sample by sample, as over divides; nothing is left as it is.
func (s samples) minus(other samples) samples {
	if len(other) == 0 {
		return s
	}
	var out samples
	for i := range min(len(s), len(other)) {
		out = append(out, s[i]-other[i])
	}
	return out
}

// goal is a bound on a figure or on its ratio to the reference.
type goal struct {
	relation string // "<", "<=", ">", ">=", "="
	bound    float64
	of       string // "figure" or "ratio"
}

func atMost(v float64) *goal    { return &goal{"<=", v, "figure"} }
func below(v float64) *goal     { return &goal{"<", v, "figure"} }
func atLeast(v float64) *goal   { return &goal{">=", v, "figure"} }
func exactly(v float64) *goal   { return &goal{"=", v, "figure"} }
func ratioOver(v float64) *goal { return &goal{">", v, "ratio"} }
func ratioUnder(v float64) *goal {
	return &goal{"<", v, "ratio"}
}

func (g goal) holds(v float64) bool {
	c := cmp.Compare(v, g.bound)
	switch g.relation {
	case "<":
		return c < 0
	case "<=":
		return c <= 0
	case ">":
		return c > 0
	case ">=":
		return c >= 0
	default:
		return c == 0
	}
}

func (g goal) String() string {
	s := g.relation + " " + number(g.bound)
	if g.of == "ratio" {
		s = "ratio " + s
	}
	return s
}

// figure is one line of the table.
type figure struct {
	Name      string   `json:"figure"`
	Unit      string   `json:"unit"`
	Samples   samples  `json:"samples"`
	Median    float64  `json:"median"`
	Spread    float64  `json:"spread_percent"`
	Reference string   `json:"reference,omitempty"` // what it is compared with
	Against   samples  `json:"reference_samples,omitempty"`
	Ratio     *float64 `json:"ratio,omitempty"` // median of the ratios
	Target    string   `json:"target,omitempty"`
	Met       *bool    `json:"met,omitempty"`
	Note      string   `json:"note,omitempty"` // why it is missing, or how to read it
}

// newFigure computes what the table shows. reference and against may be empty, target may be nil.
func newFigure(name, unit string, s samples, reference string, against samples, target *goal) figure {
	f := figure{Name: name, Unit: unit, Samples: s, Reference: reference, Against: against}
	if len(s) > 0 {
		f.Median, f.Spread = s.median(), s.spread()
	}
	if ratios := s.over(against); len(ratios) > 0 {
		f.Ratio = new(ratios.median())
	}
	if target == nil {
		return f
	}
	f.Target = target.String()
	switch {
	case len(s) == 0:
	case target.of == "figure":
		f.Met = new(target.holds(f.Median))
	case f.Ratio != nil:
		f.Met = new(target.holds(*f.Ratio))
	}
	return f
}

// missing is a figure that could not be measured.
func missing(name string, err error) figure {
	return figure{Name: name, Note: "not measured: " + err.Error()}
}

// writeTable prints the figures for people.
func writeTable(out io.Writer, figures []figure) error {
	var b strings.Builder
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "figure\tmedian\t±\treference (same run)\tratio\ttarget\t")
	for _, f := range figures {
		if len(f.Samples) == 0 {
			fmt.Fprintf(tw, "%s\t-\t\t%s\t\t%s\t\n", f.Name, f.Note, f.Target)
			continue
		}
		spread, reference, ratio, verdict := "", "", "", f.Target
		if len(f.Samples) > 1 {
			spread = fmt.Sprintf("%.0f%%", f.Spread)
		}
		if f.Reference != "" {
			reference = f.Reference
			if len(f.Against) > 0 {
				reference += " " + number(f.Against.median())
			}
		}
		if f.Ratio != nil {
			ratio = strconv.FormatFloat(*f.Ratio, 'f', 2, 64)
		}
		if f.Met != nil {
			verdict += map[bool]string{true: "  met", false: "  MISSED"}[*f.Met]
		}
		fmt.Fprintf(tw, "%s\t%s %s\t%s\t%s\t%s\t%s\t\n", f.Name, number(f.Median), f.Unit, spread, reference, ratio, verdict)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, f := range figures {
		if f.Note != "" && len(f.Samples) > 0 {
			fmt.Fprintf(&b, "\n%s: %s", f.Name, f.Note)
		}
	}
	_, err := io.WriteString(out, b.String()+"\n")
	return err
}

// number prints with three digits or as a whole number with separators.
func number(v float64) string {
	if math.Abs(v) < 1000 {
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
	digits := strconv.FormatInt(int64(math.Round(v)), 10)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
