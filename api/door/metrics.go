package door

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the figures of the routes. No label holds a caller's text: the route is its template.
type Metrics struct {
	InFlight prometheus.Gauge

	requests *prometheus.HistogramVec
}

// NewMetrics registers the figures.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		InFlight: prometheus.NewGauge(prometheus.GaugeOpts{Name: "handstamp_requests_in_flight", Help: "Requests being served."}),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "handstamp_request_duration_seconds",
			Help:    "Time to answer, by route template and status.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"method", "route", "status"}),
	}
	r.MustRegister(m.InFlight, m.requests)
	return m
}

func (m *Metrics) observe(method, route string, status int, took time.Duration) {
	switch method {
	case "GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS":
	default:
		method = "other"
	}
	m.requests.WithLabelValues(method, route, strconv.Itoa(status)).Observe(took.Seconds())
}
