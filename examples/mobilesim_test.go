//go:build unix

package examples

import (
	"strings"
	"testing"
)

// A phone on a bad network loses no session.
func TestMobileSim(t *testing.T) {
	t.Parallel()
	s := startService(t)
	sim := command(t, t.TempDir(), build(t, "./mobile-sim"), "-issuer", s.url, "-refreshes", "500", "-kills", "20")
	out, err := sim.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderrOf(err))
	}
	if !strings.Contains(string(out), "The session lives") {
		t.Errorf("it says:\n%s", out)
	}
}
