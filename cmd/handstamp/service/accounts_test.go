package service_test

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/pkg/password"
)

func TestNewHasher(t *testing.T) {
	cost := func(memory, time, threads int) service.Config {
		return service.Config{Argon2Memory: memory, Argon2Time: time, Argon2Threads: threads}
	}
	for name, test := range map[string]struct {
		config service.Config
		want   string // the start of a hash
	}{
		// The OWASP Password Storage Cheat Sheet asks for as much at least.
		"ok/by default":   {service.DefaultConfig(), "$argon2id$v=19$m=19456,t=2,p=1$"},
		"ok/each setting": {cost(48, 3, 2), "$argon2id$v=19$m=48,t=3,p=2$"},
		"ok/8 KiB a lane": {cost(128, 1, 16), "$argon2id$v=19$m=128,t=1,p=16$"},
		"ok/other bounds": {service.Config{Argon2Memory: 8, PasswordQueue: 5}, "$argon2id$v=19$m=8,t=2,p=1$"},
	} {
		t.Run(name, func(t *testing.T) {
			h, err := service.NewHasher(test.config)
			must(t, err)
			hash, err := h.Hash(t.Context(), "correct horse")
			must(t, err)
			if !strings.HasPrefix(hash, test.want) {
				t.Errorf("%s, want %s...", hash, test.want)
			}
		})
	}
	for name, test := range map[string]struct {
		config service.Config
		want   string // the setting at fault
	}{
		"fail/less than 8 KiB":        {cost(7, 1, 1), "argon2 memory is 7 KiB"},
		"fail/less than 8 KiB a lane": {cost(127, 1, 16), "argon2 memory is 127 KiB"},
		"fail/more than 256 MiB":      {cost(256<<10+1, 1, 1), "argon2 memory"},
		"fail/more than 16 lanes":     {cost(1<<10, 1, 17), "argon2 threads is 17"},
		"fail/more work than 1 GiB":   {cost(256<<10, 5, 1), "argon2 memory times passes"},
		"fail/concurrency":            {service.Config{PasswordConcurrency: -1}, "concurrency of password hashing is -1"},
	} {
		t.Run(name, func(t *testing.T) {
			if h, err := service.NewHasher(test.config); err == nil || h != nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}

	// Eight callers at once.
	const callers = 8
	for name, test := range map[string]struct {
		concurrency, queue int
		refused            bool
	}{
		"ok/all wait that may":          {1, callers, false},
		"ok/all are served at once":     {callers, -1, false},
		"fail/nobody may wait":          {1, -1, true},
		"fail/fewer may wait than come": {1, 2, true},
	} {
		t.Run(name, func(t *testing.T) {
			c := service.Config{Argon2Memory: 8 << 10, Argon2Time: 1, PasswordConcurrency: test.concurrency, PasswordQueue: test.queue}
			if test.refused {
				c.Argon2Memory = 64 << 10 // for so long that all come meanwhile, on one processor too
			}
			h, err := service.NewHasher(c)
			must(t, err)
			var (
				group   sync.WaitGroup
				refused atomic.Int64
			)
			for range callers {
				group.Go(func() {
					_, err := h.Verify(t.Context(), "", "correct horse")
					if _, busy := errors.AsType[*password.BusyError](err); busy {
						refused.Add(1)
					} else if err != nil {
						t.Error(err)
					}
				})
			}
			group.Wait()
			if n := refused.Load(); (n > 0) != test.refused {
				t.Errorf("%d were refused", n)
			}
		})
	}
}
