package service_test

import (
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/seal"
)

// TestSweep lets a service run for two sweeps over a log with events of several ages.
func TestSweep(t *testing.T) {
	const day = 24 * time.Hour
	ages := []time.Duration{0, day, 89 * day, 91 * day, 1000 * day}
	for name, test := range map[string]struct {
		retention time.Duration
		left      int
	}{
		"ok/by default":    {service.DefaultConfig().AuditRetention, 3},
		"ok/for a day":     {day, 1},
		"ok/all are kept":  {0, 5},
		"ok/for two years": {730 * day, 4},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				c := service.DefaultConfig()
				c.Issuer, c.Audience = "http://localhost", []string{"http://localhost"}
				c.DatabaseURL = seal.Secret("sqlite:" + filepath.Join(dir, "handstamp.db"))
				c.KeysDir = filepath.Join(dir, "keys")
				c.AuditRetention = test.retention
				ctx, log := t.Context(), slog.New(slog.DiscardHandler)
				s, err := service.OpenCurrentStore(ctx, c, log)
				if err != nil {
					t.Fatal(err)
				}
				v, err := service.New(ctx, c, s, log, prometheus.NewRegistry())
				if err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				for _, age := range ages {
					if err := s.Record(ctx, audit.LoginFailed(start.Add(-age), "usr_1", "wrong_password", audit.Origin{})); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(2*time.Minute + time.Second) // of the bubble's clock
				synctest.Wait()
				events, err := s.Events(ctx, "usr_1", audit.Cursor{}, 10)
				if err != nil {
					t.Fatal(err)
				}
				var left []time.Duration
				for _, e := range events {
					left = append(left, start.Sub(e.At))
				}
				if !slices.Equal(left, ages[:test.left]) {
					t.Errorf("ages %v are left, want %v", left, ages[:test.left])
				}
				if err := v.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
