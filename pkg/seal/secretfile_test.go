package seal_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/handstamp/handstamp/pkg/seal"
)

// TestReadFile holds the one rule for secret files. Root owns what it makes, so that the rule for files of others is tested
// where the test may give a file away.
func TestReadFile(t *testing.T) {
	for name, c := range map[string]struct {
		content string
		mode    os.FileMode
		foreign bool
		fault   string
	}{
		"ok/owner":                          {content: "secret\n", mode: 0o600},
		"ok/owner, read only":               {content: "secret", mode: 0o400},
		"ok/group, as fsGroup sets it":      {content: "secret", mode: 0o660},
		"ok/group reads":                    {content: "secret", mode: 0o440},
		"fail/everybody reads":              {content: "secret", mode: 0o644, fault: "chmod 600"},
		"fail/everybody writes":             {content: "secret", mode: 0o602, fault: "chmod 600"},
		"fail/empty":                        {content: "\n", mode: 0o600, fault: "is empty"},
		"ok/mounted, everybody reads":       {content: "secret", mode: 0o444, foreign: true},
		"fail/mounted, everybody writes it": {content: "secret", mode: 0o666, foreign: true, fault: "mount it with mode 0600"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "secret")
			if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			if c.foreign {
				if os.Geteuid() != 0 {
					t.Log("only root can give a file away: the rule for files of others is left to the system's own")
					path = "/etc/passwd"
					if c.fault != "" {
						return
					}
				} else if err := os.Chown(path, 65532, 65532); err != nil {
					t.Fatal(err)
				}
			}
			if path != "/etc/passwd" {
				if err := os.Chmod(path, c.mode); err != nil {
					t.Fatal(err)
				}
			}
			secret, err := seal.ReadFile(path)
			if (err == nil) != (c.fault == "") || err != nil && !strings.Contains(err.Error(), c.fault) {
				t.Fatalf("%v, want %q", err, c.fault)
			}
			if err == nil && path != "/etc/passwd" && string(secret) != "secret" {
				t.Error("another text was read")
			}
		})
	}
	if _, err := seal.ReadFile(t.TempDir()); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a directory: %v", err)
	}
}
