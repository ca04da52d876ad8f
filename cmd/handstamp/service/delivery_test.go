package service

import (
	"maps"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/handstamp/handstamp/pkg/outbox"
)

// TestDeliveryFigures reads the registry as a scrape does.
func TestDeliveryFigures(t *testing.T) {
	registry := prometheus.NewRegistry()
	observe := deliveryFigures(registry)
	for _, o := range []struct {
		kind   string
		result outbox.Result
		age    time.Duration
	}{
		{"logout", outbox.PutOff, time.Second},
		{"logout", outbox.PutOff, 3 * time.Second},
		{"logout", outbox.Delivered, 7 * time.Second},
		{"event", outbox.Delivered, 20 * time.Millisecond},
		{"event", outbox.Dead, time.Hour},
	} {
		observe(o.kind, o.result, o.age)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := family.GetName()
			for _, label := range m.GetLabel() {
				name += " " + label.GetName() + "=" + label.GetValue()
			}
			if h := m.GetHistogram(); h != nil {
				got[name+" count"], got[name+" sum"] = float64(h.GetSampleCount()), h.GetSampleSum()
			} else {
				got[name] = m.GetCounter().GetValue()
			}
		}
	}
	// The service's own kinds are there from the start, so that a rise from nothing is one.
	if _, ok := got["handstamp_delivery_attempts_total kind=signal result=dead"]; !ok {
		t.Error("there is no figure of what has not happened yet")
	}
	maps.DeleteFunc(got, func(_ string, n float64) bool { return n == 0 })
	want := map[string]float64{
		"handstamp_delivery_attempts_total kind=logout result=put_off":   2,
		"handstamp_delivery_attempts_total kind=logout result=delivered": 1,
		"handstamp_delivery_attempts_total kind=event result=delivered":  1,
		"handstamp_delivery_attempts_total kind=event result=dead":       1,
		// What was not delivered has no age yet, or never will.
		"handstamp_delivery_age_seconds kind=logout count": 1,
		"handstamp_delivery_age_seconds kind=logout sum":   7,
		"handstamp_delivery_age_seconds kind=event count":  1,
		"handstamp_delivery_age_seconds kind=event sum":    .02,
	}
	if !maps.Equal(got, want) {
		t.Errorf("figures %v, want %v", got, want)
	}
}
