package service_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/store/storetest"
)

// bench is a migrated database, and the configuration of a service over it.
type bench struct {
	*testing.T
	config service.Config
	log    *slog.Logger
	logged *servicetest.Log
	store  store.Store
}

// over runs a test in a bubble, which fails if anything still runs at its end. The test closes the store.
func over(t *testing.T, name string, test func(b *bench)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			b := &bench{T: t, config: service.DefaultConfig(), logged: &servicetest.Log{}}
			b.log = slog.New(slog.NewTextHandler(b.logged, nil))
			b.config.Issuer, b.config.Audience = "http://localhost", []string{"http://localhost"}
			b.config.DatabaseURL = seal.Secret("sqlite:" + filepath.Join(dir, "handstamp.db"))
			b.config.KeysDir = filepath.Join(dir, "keys")
			b.store = b.open()
			test(b)
		})
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// open opens the database.
func (b *bench) open() store.Store {
	b.Helper()
	s, err := service.OpenCurrentStore(b.Context(), b.config, b.log)
	must(b.T, err)
	return s
}

// start starts a service over a store.
func (b *bench) start(s store.Store) *service.Service {
	b.Helper()
	v, err := service.New(b.Context(), b.config, s, b.log, prometheus.NewRegistry())
	must(b.T, err)
	return v
}

// TestBackground counts the calls that a service makes by itself: each method is called again and again, and no more once the
// service is closed.
func TestBackground(t *testing.T) {
	methods := []string{
		"SweepSessions", "SweepBrowser", "SweepPushedRequests", "SweepUpstream", "SweepSignals", "SweepRows", "SweepStatuses",
		"SweepEvents", "Checkpoint", "Deliveries", // sweep
		"DropBlocklist", "BlocklistChanges", "ClientChanges", // blocklist and clients
		"LeaseRows",   // deliveries
		"SigningKeys", // keyring
	}
	over(t, "ok/until it is closed", func(b *bench) {
		calls, s := make(map[string]*storetest.Failing), b.store
		for _, method := range methods {
			calls[method] = storetest.Fail(s, 0, storetest.Before, method)
			s = calls[method]
		}
		ctx, cancel := context.WithCancel(b.Context())
		v, err := service.New(ctx, b.config, s, b.log, prometheus.NewRegistry())
		must(b.T, err)
		cancel() // the service ends when it is closed, not with what has started it
		count := func() map[string]int {
			counts := make(map[string]int)
			for method, c := range calls {
				counts[method] = c.Calls()
			}
			return counts
		}
		const while = 10 * time.Minute
		time.Sleep(while) // of the bubble's clock
		once := count()
		time.Sleep(while)
		for method, n := range count() {
			if once[method] == 0 || n == once[method] {
				b.Errorf("%s was called %d times, and then %d more", method, once[method], n-once[method])
			}
		}
		must(b.T, v.Close())
		closed := count()
		time.Sleep(while)
		for method, n := range count() {
			if n != closed[method] {
				b.Errorf("%s was called %d times after the end", method, n-closed[method])
			}
		}
		if err := b.store.Ping(b.Context()); err == nil {
			b.Error("the store is open after the end")
		}
	})
}

// TestNewFails lets each step of the start fail. The bubble ends with the test only if nothing was left running.
func TestNewFails(t *testing.T) {
	over(t, "fail/each call of the store", func(b *bench) {
		for n := 1; ; n++ {
			failing := storetest.Fail(b.store, n, storetest.Before)
			v, err := service.New(b.Context(), b.config, failing, b.log, prometheus.NewRegistry())
			if err == nil {
				if n < 4 {
					b.Errorf("the start makes %d calls, want those of keyring, blocklist and clients", n-1)
				}
				must(b.T, v.Close())
				return
			}
			if !errors.Is(err, storetest.ErrInjected) || v != nil {
				b.Fatalf("%s failed: %v", failing.Failed(), err)
			}
			if err := b.store.Ping(b.Context()); err != nil {
				b.Fatalf("%s failed, and the caller's store was closed: %v", failing.Failed(), err)
			}
		}
	})
	for name, test := range map[string]struct {
		change func(c *service.Config)
		want   string
	}{
		"fail/hasher":           {func(c *service.Config) { c.Argon2Memory = 1 }, "argon2 memory"},
		"fail/trusted proxy":    {func(c *service.Config) { c.TrustedProxies = []string{"everybody"} }, "everybody"},
		"fail/logo is missing":  {func(c *service.Config) { c.BrandLogo = "missing.svg" }, "brand logo: open missing.svg"},
		"fail/logo is no image": {func(c *service.Config) { c.BrandLogoDark = text(t) }, "dark logo: want an SVG"},
		"fail/colour":           {func(c *service.Config) { c.BrandAccent = "blueish" }, `colour "blueish"`},
	} {
		over(t, name, func(b *bench) {
			test.change(&b.config)
			v, err := service.New(b.Context(), b.config, b.store, b.log, prometheus.NewRegistry())
			if err == nil || v != nil || !strings.Contains(err.Error(), test.want) {
				b.Errorf("%v, want %q", err, test.want)
			}
			must(b.T, b.store.Close())
		})
	}
}

// text is a file that is no image.
func text(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "logo.svg")
	must(t, os.WriteFile(path, []byte("hello"), 0o600))
	return path
}
