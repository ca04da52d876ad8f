package main

import (
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestMetricsPage compares docs/metrics.md with what the running program serves: names, types and labels, both ways.
func TestMetricsPage(t *testing.T) {
	dir, metrics := t.TempDir(), freePort(t)
	writeCertificate(t, dir, 1, time.Now())
	r := serveForTest(t, "--metrics-listen", metrics, "--password-memory", "64", "--tls-cert", dir+"/cert.pem",
		"--tls-key", dir+"/key.pem")
	waitFor(t, metrics, r.out)
	var served string
	until(t, "the service answers", func() bool {
		_, _ = post(t.Context(), insecure(), "https://"+r.addr+"/v1/signup", `{"email":"ann@example.com","password":"violet-otter-93"}`)
		status, body := fetch(t.Context(), t, "http://"+metrics+"/metrics")
		served = body
		return status == http.StatusOK && strings.Contains(body, `route="/v1/signup"`)
	})
	got := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (handstamp_\S+) (\S+)$`).FindAllStringSubmatch(served, -1) {
		labels := map[string]bool{}
		samples := regexp.MustCompile(`(?m)^` + m[1] + `(?:_bucket|_sum|_count)?\{([^}]*)\}`)
		for _, sample := range samples.FindAllStringSubmatch(served, -1) {
			for _, l := range regexp.MustCompile(`(\w+)="`).FindAllStringSubmatch(sample[1], -1) {
				labels[l[1]] = l[1] != "le"
			}
		}
		maps.DeleteFunc(labels, func(_ string, keep bool) bool { return !keep })
		got[m[1]] = m[2] + " " + strings.Join(slices.Sorted(maps.Keys(labels)), " ")
	}
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "## All of them")
	documented := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(handstamp_\\w+)` \\| (\\w+) \\| ([^|]*)\\|").FindAllStringSubmatch(table, -1) {
		var labels []string
		for part := range strings.SplitSeq(m[3], ";") {
			names, _, _ := strings.Cut(part, ":")
			for _, l := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(names, -1) {
				labels = append(labels, l[1])
			}
		}
		slices.Sort(labels)
		documented[m[1]] = m[2] + " " + strings.Join(labels, " ")
	}
	for name, kind := range got {
		if documented[name] != kind {
			t.Errorf("%s is served as %q, documented as %q", name, kind, documented[name])
		}
	}
	for name := range documented {
		if got[name] == "" {
			t.Errorf("%s is documented and not served", name)
		}
	}
	for _, name := range regexp.MustCompile(`handstamp_\w+`).FindAllString(string(text), -1) {
		if got[name] == "" {
			t.Errorf("%s is mentioned and not served", name)
		}
	}
	value := func(sample string) string {
		m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(sample) + ` (\S+)$`).FindStringSubmatch(served)
		if m == nil {
			t.Errorf("no %s", sample)
			return ""
		}
		return m[1]
	}
	if v := value("handstamp_sessions_started_total"); v != "1" {
		t.Errorf("sessions started: %s", v)
	}
	if v := value("handstamp_certificate_end_timestamp_seconds"); v == "0" {
		t.Errorf("end of the certificate: %s", v)
	}
	if v := value("handstamp_signing_key_next_rotation_timestamp_seconds"); v == "0" {
		t.Errorf("next rotation: %s", v)
	}
}
