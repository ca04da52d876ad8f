package service_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/keyring"
	"github.com/handstamp/handstamp/pkg/seal"
)

// sealed is a table of signing keys.
type sealed struct {
	keyring.Store
	keys []keyring.Record
	err  error
}

func (s sealed) SigningKeys(context.Context) ([]keyring.Record, error) { return s.keys, s.err }

func TestMasterKey(t *testing.T) {
	nothing, something := sealed{}, sealed{keys: []keyring.Record{{ID: "k1"}}}
	unreadable := errors.New("database is away")
	// isKey reports whether two keys are one.
	isKey := func(a, b seal.MasterKey) bool {
		return !a.IsZero() && !b.IsZero() && bytes.Equal(a.Derive(seal.StatusIndex, 32), b.Derive(seal.StatusIndex, 32))
	}
	configured, err := seal.ParseMasterKey(servicetest.Master)
	if err != nil {
		t.Fatal(err)
	}
	// find looks for the master key in a directory, and requires a key.
	find := func(t *testing.T, c service.Config, keys keyring.Store) seal.MasterKey {
		t.Helper()
		m, err := service.MasterKey(t.Context(), c, keys)
		if err != nil || m.IsZero() {
			t.Fatalf("no master key: %v", err)
		}
		return m
	}
	// missing requires that no file was made.
	missing := func(t *testing.T, c service.Config) {
		t.Helper()
		if _, err := os.Stat(filepath.Join(c.KeysDir, seal.MasterKeyFile)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a master key was made: %v", err)
		}
	}

	t.Run("ok/made at the first start, for its owner only, and found again", func(t *testing.T) {
		c := service.Config{KeysDir: filepath.Join(t.TempDir(), "keys")}
		m := find(t, c, nothing)
		for path, mode := range map[string]fs.FileMode{
			c.KeysDir: 0o700 | fs.ModeDir,
			filepath.Join(c.KeysDir, seal.MasterKeyFile): 0o600,
		} {
			if info, err := os.Stat(path); err != nil || info.Mode() != mode {
				t.Errorf("%s: %v, %v; want %v", path, info.Mode(), err, mode)
			}
		}
		if !isKey(find(t, c, nothing), m) || !isKey(find(t, c, something), m) {
			t.Error("another start finds another key")
		}
	})
	t.Run("ok/the configured one, and none is made", func(t *testing.T) {
		c := service.Config{KeysDir: t.TempDir(), MasterKey: seal.Secret(servicetest.Master)}
		if !isKey(find(t, c, something), configured) {
			t.Error("it is another key")
		}
		missing(t, c)
	})
	t.Run("ok/the configured one goes before the file", func(t *testing.T) {
		c := service.Config{KeysDir: t.TempDir()}
		made := find(t, c, nothing)
		c.MasterKey = seal.Secret(servicetest.Master)
		if m := find(t, c, nothing); !isKey(m, configured) || isKey(m, made) {
			t.Error("it is not the configured key")
		}
	})
	t.Run("fail/the configured one is damaged, and there is a file", func(t *testing.T) {
		c := service.Config{KeysDir: t.TempDir()}
		find(t, c, nothing)
		c.MasterKey = seal.Secret(servicetest.Master[1:])
		m, err := service.MasterKey(t.Context(), c, nothing)
		if err == nil || !m.IsZero() || strings.Contains(err.Error(), servicetest.Master[1:9]) {
			t.Errorf("%v, %v", m, err)
		}
	})
	t.Run("fail/lost, and the database holds what it has sealed", func(t *testing.T) {
		c := service.Config{KeysDir: t.TempDir()}
		m, err := service.MasterKey(t.Context(), c, something)
		if !errors.Is(err, seal.ErrNoMasterKey) || !m.IsZero() {
			t.Fatalf("%v, want ErrNoMasterKey", err)
		}
		for _, remedy := range []string{"put that file back", c.KeysDir, "HANDSTAMP_MASTER_KEY"} {
			if !strings.Contains(err.Error(), remedy) {
				t.Errorf("%q does not say %q", err, remedy)
			}
		}
		missing(t, c)
	})
	t.Run("fail/none, and nobody knows what the database holds", func(t *testing.T) {
		c := service.Config{KeysDir: t.TempDir()}
		if m, err := service.MasterKey(t.Context(), c, sealed{err: unreadable}); !errors.Is(err, unreadable) || !m.IsZero() {
			t.Errorf("%v, want the failure of the database", err)
		}
		missing(t, c)
	})
	t.Run("fail/a file that others may read", func(t *testing.T) {
		c := service.Config{KeysDir: t.TempDir()}
		find(t, c, nothing)
		path := filepath.Join(c.KeysDir, seal.MasterKeyFile)
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o604); err != nil { //nolint:gosec // the fault under test
			t.Fatal(err)
		}
		if m, err := service.MasterKey(t.Context(), c, nothing); err == nil || errors.Is(err, seal.ErrNoMasterKey) || !m.IsZero() {
			t.Errorf("%v, want a refusal", err)
		}
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
			t.Error("the file was replaced")
		}
	})
}

// A service never makes new signing keys in silence because it cannot open the old ones.
func TestAnotherMasterKey(t *testing.T) {
	over(t, "fail/than the one that sealed the signing keys", func(b *bench) {
		must(b.T, b.start(b.store).Close())
		another := b.open()
		defer func() { must(b.T, another.Close()) }()
		before, err := another.SigningKeys(b.Context())
		must(b.T, err)
		b.config.MasterKey = seal.Secret(servicetest.Master)
		v, err := service.New(b.Context(), b.config, another, b.log, prometheus.NewRegistry())
		if err == nil || v != nil {
			b.Fatal("the service has started")
		}
		if strings.Contains(err.Error(), servicetest.Master) {
			b.Error("the error holds the master key")
		}
		after, err := another.SigningKeys(b.Context())
		must(b.T, err)
		if len(before) == 0 || len(after) != len(before) {
			b.Errorf("%d signing keys became %d", len(before), len(after))
		}
	})
}
